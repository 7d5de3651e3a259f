//! Packets and connections that no client library would make.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::wire::{connect, length, text};

/// For one answer, and for the end of a connection that is to end.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A CONNECT of 3.1.1 (`version` 4) or 5.0, keep-alive in seconds.
pub fn connect_with(version: u8, client_id: &str, keep_alive_s: u16) -> Vec<u8> {
    let mut body = Vec::new();
    text("MQTT", &mut body);
    body.extend_from_slice(&[version, 2]);
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    if version == 5 {
        body.push(0);
    }
    text(client_id, &mut body);
    packet(0x10, &body)
}

/// A packet with a length that fits.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    length(body.len(), &mut packet);
    packet.extend_from_slice(body);
    packet
}

/// A PUBLISH of 3.1.1.
pub fn publish(first: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(topic, &mut body);
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend_from_slice(payload);
    packet(first, &body)
}

pub fn open(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connected with 3.1.1, its CONNACK read.
pub fn joined(port: u16, client_id: &str) -> TcpStream {
    let mut stream = open(port);
    stream.write_all(&connect(client_id, true)).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0], "{client_id}");
    stream
}

/// The same with a session that is kept, and may have been before.
pub fn kept(port: u16, client_id: &str) -> TcpStream {
    let mut stream = open(port);
    stream.write_all(&connect(client_id, false)).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{client_id}");
    stream
}

/// Reads to the end of the connection, which must come.
pub fn ends(stream: &mut TcpStream, name: &str) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{name}: the connection stays open ({error})"),
    }
    rest
}

/// Sends `bytes` over and over and never reads, until the broker takes no more for a second, ends the connection, or has
/// taken `most` bytes. Returns how many it took.
pub fn flood(stream: &mut TcpStream, bytes: &[u8], most: usize) -> usize {
    // Whole packets in large pieces: the flooder is not to be the slow one.
    let many = bytes.repeat(1 + 65_536 / bytes.len());
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut moved) = (0, Instant::now());
    while sent < most && moved.elapsed() < Duration::from_secs(1) {
        match stream.write(&many[sent % many.len()..]) {
            Ok(count) => {
                sent += count;
                moved = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break,
        }
    }
    sent
}
