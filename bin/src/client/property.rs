//! `-D PACKET NAME VALUE...`: MQTT 5 properties by the names that the Mosquitto clients give them.

use forebay_broker::codec::{PropertiesBuf, Property};

/// Packets that take properties from the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect,
    /// PUBLISH.
    Publish,
    /// The will within CONNECT.
    Will,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
}

const PACKETS: [(&str, Packet); 6] = [
    ("connect", Packet::Connect),
    ("publish", Packet::Publish),
    ("will", Packet::Will),
    ("subscribe", Packet::Subscribe),
    ("unsubscribe", Packet::Unsubscribe),
    ("disconnect", Packet::Disconnect),
];

/// The properties that were given, by packet.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Of CONNECT.
    pub connect: PropertiesBuf,
    /// Of each PUBLISH.
    pub publish: PropertiesBuf,
    /// Of the will.
    pub will: PropertiesBuf,
    /// Of SUBSCRIBE.
    pub subscribe: PropertiesBuf,
    /// Of UNSUBSCRIBE.
    pub unsubscribe: PropertiesBuf,
    /// Of DISCONNECT.
    pub disconnect: PropertiesBuf,
}

impl Given {
    /// Reads the words behind all `-D`, one after another. The error says what is wrong with them.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let mut given = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(packet) = words.next() {
            given.add(packet, &mut words)?;
        }
        Ok(given)
    }

    fn add<'a>(&mut self, packet: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), String> {
        let known = PACKETS.iter().find(|(word, _)| word.eq_ignore_ascii_case(packet));
        let Some((_, packet)) = known else {
            let all: Vec<&str> = PACKETS.iter().map(|(word, _)| *word).collect();
            return Err(format!(
                "-D: no packet \"{packet}\"; there are {}",
                all.join(", ")
            ));
        };
        let (Some(name), Some(value)) = (words.next(), words.next()) else {
            return Err("-D takes PACKET NAME VALUE, or PACKET user-property NAME VALUE".to_owned());
        };
        let property = if name == "user-property" {
            let second = words.next().ok_or("-D: a user-property has a name and a value")?;
            Property::UserProperty(value, second)
        } else {
            property(*packet, name, value)?
        };
        let list = match packet {
            Packet::Connect => &mut self.connect,
            Packet::Publish => &mut self.publish,
            Packet::Will => &mut self.will,
            Packet::Subscribe => &mut self.subscribe,
            Packet::Unsubscribe => &mut self.unsubscribe,
            Packet::Disconnect => &mut self.disconnect,
        };
        if list.push(property) {
            Ok(())
        } else {
            Err(format!("-D: the value of {name} is too long"))
        }
    }
}

/// A property that may stand in `packet`.
fn property<'a>(packet: Packet, name: &str, value: &'a str) -> Result<Property<'a>, String> {
    let message = matches!(packet, Packet::Publish | Packet::Will);
    Ok(match (name, packet) {
        ("payload-format-indicator", _) if message => Property::PayloadFormatIndicator(flag(name, value)?),
        ("message-expiry-interval", _) if message => Property::MessageExpiryInterval(number(name, value)?),
        ("content-type", _) if message => Property::ContentType(value),
        ("response-topic", _) if message => Property::ResponseTopic(value),
        ("correlation-data", _) if message => Property::CorrelationData(value.as_bytes()),
        ("will-delay-interval", Packet::Will) => Property::WillDelayInterval(number(name, value)?),
        ("topic-alias", Packet::Publish) => Property::TopicAlias(number(name, value)?),
        ("subscription-identifier", Packet::Subscribe) => {
            Property::SubscriptionIdentifier(number(name, value)?)
        }
        ("session-expiry-interval", Packet::Connect | Packet::Disconnect) => {
            Property::SessionExpiryInterval(number(name, value)?)
        }
        ("authentication-method", Packet::Connect) => Property::AuthenticationMethod(value),
        ("authentication-data", Packet::Connect) => Property::AuthenticationData(value.as_bytes()),
        ("maximum-packet-size", Packet::Connect) => Property::MaximumPacketSize(number(name, value)?),
        ("receive-maximum", Packet::Connect) => Property::ReceiveMaximum(number(name, value)?),
        ("topic-alias-maximum", Packet::Connect) => Property::TopicAliasMaximum(number(name, value)?),
        ("request-problem-information", Packet::Connect) => {
            Property::RequestProblemInformation(flag(name, value)?)
        }
        ("request-response-information", Packet::Connect) => {
            Property::RequestResponseInformation(flag(name, value)?)
        }
        _ => return Err(format!("-D: no property \"{name}\" in this packet")),
    })
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("-D: the value of {name} is a number within its bounds, not \"{value}\""))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("-D: the value of {name} is 0 or 1, not \"{value}\"")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(words: &str) -> Result<Given, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Given::read(&words)
    }

    #[test]
    fn properties_go_to_their_packets() {
        let given = read(
            "PUBLISH content-type text/plain publish user-property a b will will-delay-interval 7 connect receive-maximum 3",
        )
        .unwrap();
        let publish = given.publish.as_properties();
        assert_eq!(publish.content_type(), Some("text/plain"));
        assert_eq!(publish.user_properties().collect::<Vec<_>>(), [("a", "b")]);
        assert_eq!(given.will.as_properties().will_delay_s(), Some(7));
        assert_eq!(given.connect.as_properties().receive_maximum(), Some(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (words, part) in [
            ("puback user-property a b", "no packet"),
            ("publish receive-maximum 3", "no property"),
            ("publish user-property a", "a name and a value"),
            ("publish content-type a b", "no packet"),
            ("publish topic-alias 70000", "number"),
            ("will payload-format-indicator 2", "0 or 1"),
            ("publish content-type", "PACKET NAME VALUE"),
        ] {
            let refused = read(words).unwrap_err();
            assert!(refused.contains(part), "{words}: {refused}");
        }
    }
}
