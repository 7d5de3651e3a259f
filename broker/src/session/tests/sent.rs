//! What was sent once is seen through, whatever time passes.

use std::sync::Arc;

use crate::codec::QoS::{AtLeastOnce, ExactlyOnce};
use crate::codec::Version::V5;
use crate::codec::*;
use crate::session::{Detach, Message};
use crate::testing::pair::*;

#[test]
fn what_was_sent_does_not_expire() {
    // [MQTT-4.3.3-7]: expiry holds for what delivery has not begun of.
    for qos in [AtLeastOnce, ExactlyOnce] {
        let mut pair = Pair::connected(V5);
        let Packet::Publish(mut publish) = publish("t", qos, 1, false) else {
            unreachable!()
        };
        publish.properties = properties(&[Property::MessageExpiryInterval(5)]);
        let message = Arc::new(Message::from_publish(&publish, None, None, pair.now_ms));
        pair.session
            .deliver(pair.now_ms, &message, &to(ExactlyOnce, &[]), false);
        assert_eq!(pair.read(), [format!("PUBLISH {} x #1 expiry=5", qos as u8)]);
        pair.now_ms += 60_000;
        assert_eq!(pair.read(), [""; 0]);
        pair.lose(Detach::Lost);
        let again = pair.resume();
        assert_eq!(again.len(), 2, "{again:?}");
        assert!(
            again[1].starts_with(&format!("PUBLISH {} x #1", qos as u8)),
            "{again:?}"
        );
        assert!(again[1].contains("dup"), "{again:?}");
        if qos == ExactlyOnce {
            pair.send(Packet::Pubrec(ack(1, Reason::Success))).unwrap();
            assert_eq!(pair.read(), ["PUBREL 1"]);
            pair.now_ms += 60_000;
            pair.lose(Detach::Lost);
            assert_eq!(pair.resume()[1..], ["PUBREL 1"]);
        }
    }
}
