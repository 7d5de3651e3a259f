//! Clients that send more than they may have under way: what is too much waits, and each acknowledgement makes room.

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};

use super::support::{Client, Received, TestBroker};

/// Publishes that may be under way, and a hundred times as many that are sent before one acknowledgement is read.
const WINDOW: u16 = 10;
const SENT: u16 = 1_000;

#[test]
fn more_than_receive_maximum_at_once_is_all_acknowledged_in_order() {
    for level in [Level::Received, Level::Spooled] {
        let broker = TestBroker::start(|config| config.limits.receive_maximum = WINDOW, level);
        for (version, qos) in [
            (Version::V31, QoS::AtLeastOnce),
            (Version::V311, QoS::AtLeastOnce),
            (Version::V311, QoS::ExactlyOnce),
        ] {
            let mut client = Client::connect(&broker, "eager", version);
            for id in 1..=SENT {
                client.publish("t", b"x", qos, id);
            }
            // It waits for the answers and sends nothing that would wake its connection.
            for id in 1..=SENT {
                match qos {
                    QoS::ExactlyOnce => assert_eq!(client.receive(), Received::Pubrec(id, Reason::Success)),
                    _ => assert_eq!(client.receive(), Received::Puback(id, Reason::Success)),
                }
            }
            client.disconnect(None);
        }
        broker.stop();
    }
}
