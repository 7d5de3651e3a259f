//! Packets of MQTT 3.1.1 by hand, and a client that waits for each answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A CONNECT with keep-alive off.
pub fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    let mut packet = vec![0x10];
    length(10 + 2 + client_id.len(), &mut packet);
    text("MQTT", &mut packet);
    packet.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0]);
    text(client_id, &mut packet);
    packet
}

/// A packet identifier for a message.
pub fn packet_id(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

/// A text with its length.
pub fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A remaining length.
pub fn length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

/// A client on a socket that blocks.
pub struct Plain {
    stream: TcpStream,
    pub session_present: bool,
}

impl Plain {
    /// Connects; answers are waited for as long as `patience`.
    pub fn connect(port: u16, client_id: &str, clean: bool, patience: Duration) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(&connect(client_id, clean)).unwrap();
        let mut client = Self {
            stream,
            session_present: false,
        };
        let (first, body) = client.packet().expect("CONNACK");
        assert_eq!((first, body[1]), (0x20, 0), "let in");
        client.session_present = body[0] == 1;
        client
    }

    /// The next packet: its first byte and what follows its length; `None` when none comes in time.
    pub fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let first = byte[0];
        let (mut size, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            size |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body).ok()?;
        Some((first, body))
    }

    /// Subscribes and waits for the answer.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut packet = vec![0x82];
        length(2 + 2 + filter.len() + 1, &mut packet);
        packet.extend_from_slice(&[0, 1]);
        text(filter, &mut packet);
        packet.push(qos);
        self.stream.write_all(&packet).unwrap();
        assert_eq!(self.packet(), Some((0x90, vec![0, 1, qos])), "SUBACK");
    }

    /// Publishes with QoS 1, without a wait for the answer; false when the broker is gone.
    pub fn try_publish(&mut self, topic: &str, id: u16, payload: &[u8]) -> bool {
        let mut packet = vec![0x32];
        length(2 + topic.len() + 2 + payload.len(), &mut packet);
        text(topic, &mut packet);
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(payload);
        self.stream.write_all(&packet).is_ok()
    }

    /// Whether PUBACK of `id` is the next that comes, and comes in time.
    pub fn acknowledged(&mut self, id: u16) -> bool {
        self.packet() == Some((0x40, id.to_be_bytes().to_vec()))
    }

    /// The payload of the next PUBLISH, which is answered; `None` when none comes in time.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let (first, body) = self.packet()?;
        assert_eq!(first >> 4, 3, "a PUBLISH");
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let rest = &body[2 + topic..];
        if first & 6 == 0 {
            return Some(rest.to_vec());
        }
        self.stream.write_all(&[0x40, 2, rest[0], rest[1]]).unwrap();
        Some(rest[2..].to_vec())
    }

    /// DISCONNECT.
    pub fn end(mut self) {
        self.stream.write_all(&[0xe0, 0]).unwrap();
    }
}
