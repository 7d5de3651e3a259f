//! What a client sees of a message beside its payload, and wills that are refused.

use forebay_broker::codec::{Packet, Version, decode};

use super::support::{Client, TestBroker};

impl Client {
    /// The PUBLISH that comes, of a version before 5.0: topic, text, RETAIN.
    pub fn message(&mut self) -> (String, String, bool) {
        let frame = self.frame().expect("a message");
        let Ok(Packet::Publish(publish)) = decode(Version::V311, &frame) else {
            panic!("not a PUBLISH: {frame:?}");
        };
        let text = String::from_utf8_lossy(publish.payload).into_owned();
        (publish.topic.to_owned(), text, publish.retain)
    }

    /// Connects a 3.1.1 client with a will on `topic`; `None` when it is refused.
    pub fn try_connect_with_will(broker: &TestBroker, id: &str, topic: &str) -> Option<Self> {
        let mut body = b"\0\x04MQTT\x04\x06\0\x3C".to_vec();
        for text in [id, topic, "gone"] {
            body.extend_from_slice(&(text.len() as u16).to_be_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let mut client = Self::open(broker);
        let length = [
            body.len() as u8 | 0x80,
            (body.len() >> 7) as u8 | 0x80,
            (body.len() >> 14) as u8,
        ];
        client.send_raw(&[&[0x10], &length[..], &body].concat());
        (client.frame()? == [0x20, 2, 0, 0]).then_some(client)
    }
}
