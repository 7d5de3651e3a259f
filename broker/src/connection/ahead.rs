//! What the listener sees of a CONNECT that is there already: on which worker its session lives. With many connecting at
//! once it nearly always is, and the socket need not go to one worker to be handed to another.

use crate::codec::{Packet, Version, decode, frame_len};
use crate::listener::transport::Detached;
use crate::worker::Shared;

/// Bytes that are read at most: who sends more with its CONNECT is read on by a worker.
const READ_BYTES: usize = 2 * 1024;

/// Reads what is there, behind what was read before, and returns the worker where its session lives. `None`: no whole
/// CONNECT came yet, or any worker will do.
pub(crate) fn read_ahead(
    shared: &Shared,
    stream: &Detached,
    listener: usize,
    read: &mut Vec<u8>,
) -> Option<u16> {
    if read.is_empty() {
        let mut buffer = [0; READ_BYTES];
        // A socket that fails does so again, or has ended, when the worker reads.
        let count = stream.read_now(&mut buffer).unwrap_or(0);
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let most = shared.config.limits_at(listener).max_packet_bytes;
    client_id(read, most).map(|client_id| shared.home_of(client_id))
}

/// The client id of a whole CONNECT, if it brings one. Bytes that are none of MQTT are somebody else's to refuse.
fn client_id(read: &[u8], max_packet_bytes: usize) -> Option<&str> {
    let len = frame_len(read, max_packet_bytes).ok()??;
    match decode(Version::V5, read.get(..len)?) {
        Ok(Packet::Connect(connect)) => Some(connect.client_id).filter(|id| !id.is_empty()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_connect_says_whose_it_is() {
        let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01a";
        for len in 0..connect.len() {
            assert_eq!(client_id(&connect[..len], 1_000), None, "{len}");
        }
        assert_eq!(client_id(connect, 1_000), Some("a"));
        assert_eq!(client_id(&[&connect[..], &[0xC0, 0]].concat(), 1_000), Some("a"));
        assert_eq!(client_id(connect, 10), None, "greater than a packet may be");
        assert_eq!(
            client_id(b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0", 1_000),
            None,
            "no name"
        );
        for other in [
            &b"GET /mqtt HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\0\x01",
            b"\xC0\0",
            b"\x10\0",
        ] {
            assert_eq!(client_id(other, 1_000), None);
        }
    }
}
