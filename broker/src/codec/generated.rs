//! Generated packets of every type and version go there and back; bent bytes are refused or mean what they are written
//! as again.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What packets are made of; a packet borrows from it.
#[derive(Debug, Clone)]
struct Stuff {
    version: Version,
    number: u16,
    name: String,
    text: String,
    filters: Vec<(String, u8)>,
    bytes: Vec<u8>,
    qos: QoS,
    flags: [bool; 5],
    reason: usize,
    properties: Vec<(u8, u32, String, Vec<u8>)>,
}

prop_compose! {
    fn stuff()(
        version in prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5), Just(Version::V5)],
        number in 1..=u16::MAX,
        name in "[^\\p{Cc}\\p{Cn}+#]{1,40}",
        text in "[^\\p{Cc}\\p{Cn}]{0,40}",
        filters in vec(("(\\$share/g/)?([^\\p{Cc}\\p{Cn}+#/]{0,8}|\\+)(/([^\\p{Cc}\\p{Cn}+#/]{0,8}|\\+)){1,3}(/#)?", 0..0x30u8), 1..5),
        bytes in vec(any::<u8>(), 0..300),
        qos in 0..3u8,
        flags in any::<[bool; 5]>(),
        reason in any::<usize>(),
        properties in vec((0..27u8, 1..200_000u32, "[^\0]{0,9}", vec(any::<u8>(), 0..9)), 0..9),
    ) -> Stuff {
        let qos = QoS::try_from(qos).unwrap_or(QoS::AtMostOnce);
        Stuff { version, number, name, text, filters, bytes, qos, flags, reason, properties }
    }
}

fn property<'a>((kind, number, text, bytes): &'a (u8, u32, String, Vec<u8>), name: &'a str) -> Property<'a> {
    let short = (*number % 65_535 + 1) as u16;
    let flag = number % 2 == 1;
    match kind {
        0 => Property::PayloadFormatIndicator(flag),
        1 => Property::MessageExpiryInterval(*number),
        2 => Property::ContentType(text),
        3 => Property::ResponseTopic(name),
        4 => Property::CorrelationData(bytes),
        5 => Property::SubscriptionIdentifier(*number),
        6 => Property::SessionExpiryInterval(*number),
        7 => Property::AssignedClientIdentifier(text),
        8 => Property::ServerKeepAlive(short),
        9 => Property::AuthenticationMethod(text),
        10 => Property::AuthenticationData(bytes),
        11 => Property::RequestProblemInformation(flag),
        12 => Property::WillDelayInterval(*number),
        13 => Property::RequestResponseInformation(flag),
        14 => Property::ResponseInformation(text),
        15 => Property::ServerReference(text),
        16 => Property::ReasonString(text),
        17 => Property::ReceiveMaximum(short),
        18 => Property::TopicAliasMaximum(short),
        19 => Property::TopicAlias(short),
        20 => Property::MaximumQoS(u8::from(flag)),
        21 => Property::RetainAvailable(flag),
        22 => Property::MaximumPacketSize(*number),
        23 => Property::WildcardSubscriptionAvailable(flag),
        24 => Property::SubscriptionIdentifierAvailable(flag),
        25 => Property::SharedSubscriptionAvailable(flag),
        _ => Property::UserProperty(name, text),
    }
}

impl Stuff {
    /// Those of its properties that may stand together in this place.
    fn properties_of(&self, place: Place) -> PropertiesBuf {
        let mut buf = PropertiesBuf::new();
        if self.version != Version::V5 {
            return buf;
        }
        if place == Place::Auth {
            buf.push(Property::AuthenticationMethod(&self.text));
        }
        for raw in &self.properties {
            let mut longer = buf.clone();
            assert!(longer.push(property(raw, &self.name)));
            if Properties::check(longer.as_properties().as_bytes(), place).is_ok() {
                buf = longer;
            }
        }
        buf
    }

    fn reason(&self, allowed: &[Reason]) -> Reason {
        allowed[self.reason % allowed.len()]
    }

    fn reason_of_five(&self, allowed: &[Reason]) -> Reason {
        match self.version {
            Version::V5 => self.reason(allowed),
            _ => Reason::Success,
        }
    }

    fn subscriptions(&self) -> Vec<Subscription<'_>> {
        let five = self.version == Version::V5;
        self.filters
            .iter()
            .map(|(filter, options)| Subscription {
                filter,
                qos: QoS::try_from(options & 3).unwrap_or(self.qos),
                no_local: five && options & 4 != 0 && topic::split_share(filter).is_none(),
                retain_as_published: five && options & 8 != 0,
                retain_handling: match options >> 4 {
                    1 if five => RetainHandling::SendIfNew,
                    2 if five => RetainHandling::DoNotSend,
                    _ => RetainHandling::Send,
                },
            })
            .collect()
    }
}

fn connect_there_and_back(stuff: &Stuff) {
    let properties = stuff.properties_of(Place::Connect);
    let will_properties = stuff.properties_of(Place::Will);
    let [bridge, clean_start, will, user, password] = stuff.flags;
    let five = stuff.version == Version::V5;
    there_and_back(
        stuff.version,
        &Packet::Connect(Connect {
            version: stuff.version,
            bridge: bridge && !five,
            clean_start,
            keep_alive_s: stuff.number,
            client_id: &stuff.text,
            will: will.then_some(Will {
                topic: &stuff.name,
                payload: &stuff.bytes,
                qos: stuff.qos,
                retain: bridge,
                properties: will_properties.as_properties(),
            }),
            username: user.then_some(&*stuff.name),
            password: (password && (user || five)).then_some(&*stuff.bytes),
            properties: properties.as_properties(),
        }),
    );
}

fn publish_there_and_back(stuff: &Stuff) {
    let [dup, retain, ..] = stuff.flags;
    let properties = stuff.properties_of(Place::Publish);
    let counted = stuff.qos != QoS::AtMostOnce;
    there_and_back(
        stuff.version,
        &Packet::Publish(Publish {
            dup: dup && counted,
            qos: stuff.qos,
            retain,
            topic: &stuff.name,
            packet_id: PacketId::new(stuff.number).filter(|_| counted),
            payload: &stuff.bytes,
            properties: properties.as_properties(),
        }),
    );
}

fn acks_there_and_back(stuff: &Stuff) {
    use Reason as R;
    type Make = for<'a> fn(Ack<'a>) -> Packet<'a>;
    let puback: &[Reason] = &[
        R::Success,
        R::NoMatchingSubscribers,
        R::NotAuthorized,
        R::QuotaExceeded,
    ];
    let pubrel: &[Reason] = &[R::Success, R::PacketIdentifierNotFound];
    let kinds: [(Place, Make, &[Reason]); 4] = [
        (Place::Puback, |ack| Packet::Puback(ack), puback),
        (Place::Pubrec, |ack| Packet::Pubrec(ack), puback),
        (Place::Pubrel, |ack| Packet::Pubrel(ack), pubrel),
        (Place::Pubcomp, |ack| Packet::Pubcomp(ack), pubrel),
    ];
    for (place, make, allowed) in kinds {
        let properties = stuff.properties_of(place);
        let packet = make(Ack {
            packet_id: PacketId::new(stuff.number).unwrap(),
            reason: stuff.reason_of_five(allowed),
            properties: properties.as_properties(),
        });
        there_and_back(stuff.version, &packet);
    }
}

fn subscriptions_there_and_back(stuff: &Stuff) {
    use Reason as R;
    let packet_id = PacketId::new(stuff.number).unwrap();
    let properties = stuff.properties_of(Place::Subscribe);
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id,
        filters: stuff.subscriptions(),
        properties: properties.as_properties(),
    });
    there_and_back(stuff.version, &subscribe);
    let properties = stuff.properties_of(Place::Unsubscribe);
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        packet_id,
        filters: stuff.filters.iter().map(|(filter, _)| &**filter).collect(),
        properties: properties.as_properties(),
    });
    there_and_back(stuff.version, &unsubscribe);
    let properties = stuff.properties_of(Place::Suback);
    let reason = stuff.reason(&[R::Success, R::GrantedQoS1, R::GrantedQoS2, R::UnspecifiedError]);
    let suback = Packet::Suback(Suback {
        packet_id,
        reasons: vec![reason; stuff.filters.len()],
        properties: properties.as_properties(),
    });
    there_and_back(stuff.version, &suback);
    let properties = stuff.properties_of(Place::Unsuback);
    let reason = stuff.reason(&[R::Success, R::NoSubscriptionExisted, R::NotAuthorized]);
    let five = stuff.version == Version::V5;
    let unsuback = Packet::Unsuback(Suback {
        packet_id,
        reasons: vec![reason; if five { stuff.filters.len() } else { 0 }],
        properties: properties.as_properties(),
    });
    there_and_back(stuff.version, &unsuback);
}

fn others_there_and_back(stuff: &Stuff) {
    use Reason as R;
    let version = stuff.version;
    let properties = stuff.properties_of(Place::Connack);
    // Reasons that 3.x has as well.
    let reason = stuff.reason(&[
        R::Success,
        R::ServerUnavailable,
        R::NotAuthorized,
        R::BadUserNameOrPassword,
    ]);
    let connack = Packet::Connack(Connack {
        session_present: stuff.flags[0] && version != Version::V31 && reason == R::Success,
        reason,
        properties: properties.as_properties(),
    });
    there_and_back(version, &connack);
    let properties = stuff.properties_of(Place::Disconnect);
    let disconnect = Packet::Disconnect(Disconnect {
        reason: stuff.reason_of_five(&[R::Success, R::DisconnectWithWill, R::ServerShuttingDown]),
        properties: properties.as_properties(),
    });
    there_and_back(version, &disconnect);
    there_and_back(version, &Packet::Pingreq);
    there_and_back(version, &Packet::Pingresp);
    let properties = stuff.properties_of(Place::Auth);
    let auth = Packet::Auth(Auth {
        reason: stuff.reason(&[R::Success, R::ContinueAuthentication, R::ReAuthenticate]),
        properties: properties.as_properties(),
    });
    if version == Version::V5 {
        there_and_back(version, &auth);
    } else {
        let refused = Err(EncodeError::Contradiction("AUTH is a packet of 5.0 only"));
        assert_eq!(encode(version, &auth, &mut Vec::new()), refused);
    }
}

fn there_and_back(version: Version, packet: &Packet<'_>) {
    super::tests::check_round_trip(version, packet);
    let mut bytes = Vec::new();
    encode(version, packet, &mut bytes).unwrap();
    for place in 0..bytes.len().min(40) {
        for bit in [0x01, 0x04, 0x40, 0x80] {
            bytes[place] ^= bit;
            read_means_what_is_written(version, &bytes);
            bytes[place] ^= bit;
        }
    }
}

/// Bytes that are taken for a packet are, written anew, the same packet.
fn read_means_what_is_written(version: Version, frame: &[u8]) {
    let Ok(packet) = decode(version, frame) else {
        return;
    };
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut written = Vec::new();
    encode(version, &packet, &mut written).unwrap();
    assert!(written.len() <= frame.len());
    assert_eq!(decode(version, &written), Ok(packet));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn packets_go_there_and_back(stuff in stuff()) {
        connect_there_and_back(&stuff);
        publish_there_and_back(&stuff);
        acks_there_and_back(&stuff);
        subscriptions_there_and_back(&stuff);
        others_there_and_back(&stuff);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(first in any::<u8>(), body in vec(any::<u8>(), 0..120)) {
        let mut frame = vec![first, body.len() as u8];
        frame.extend_from_slice(&body);
        for version in [Version::V31, Version::V311, Version::V5] {
            read_means_what_is_written(version, &frame);
            read_means_what_is_written(version, &body);
            let _ = frame_len(&body, 100);
            let _ = peek_version(&body);
            let properties = Properties::from_checked(&body);
            let _ = (properties.iter().count(), properties.user_properties().count());
        }
    }
}
