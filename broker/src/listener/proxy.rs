//! The PROXY protocol of load balancers, versions 1 and 2: one header before anything else, which says from where the
//! connection comes.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

const V1_BEGIN: &[u8] = b"PROXY ";
/// Greatest header of version 1, its line's end included.
const V1_BYTES: usize = 107;

const V2_BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Header of version 2 up to its length field's end.
const V2_FIXED: usize = 16;
/// Greatest header of version 2 that is taken: room for addresses and what load balancers add of TLS.
const V2_BYTES: usize = 4 * 1024;

/// Reads the header and returns the address that it states: `None` when it states none (LOCAL, UNKNOWN, a unix
/// socket). What was read behind the header is left in `read`. Has no deadline of its own.
pub(super) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
) -> io::Result<Option<SocketAddr>> {
    loop {
        if let Some(len) = header_len(read)? {
            let stated = stated(read.get(..len).unwrap_or_default())?;
            read.drain(..len);
            return Ok(stated);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Length of the header once it is whole; an error as soon as it can't be one.
fn header_len(read: &[u8]) -> io::Result<Option<usize>> {
    let begins = |with: &[u8]| read.iter().zip(with).all(|(a, b)| a == b);
    if begins(V1_BEGIN) {
        let line = read.get(..read.len().min(V1_BYTES)).unwrap_or_default();
        return match line.windows(2).position(|end| end == b"\r\n") {
            Some(at) => Ok(Some(at + 2)),
            None if line.len() == V1_BYTES => Err(malformed("the PROXY line has no end")),
            None => Ok(None),
        };
    }
    if !begins(V2_BEGIN) {
        return Err(malformed("it does not begin with a PROXY header"));
    }
    let Some((high, low)) = read.get(14).zip(read.get(15)) else {
        return Ok(None);
    };
    let len = V2_FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if len > V2_BYTES {
        return Err(malformed("the PROXY header is too long"));
    }
    Ok(Some(len).filter(|len| read.len() >= *len))
}

/// The address in a whole header.
fn stated(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let fault = || malformed("the PROXY header can't be read");
    // "Too short" can't be cured by waiting: the header is whole, its parts do not fit into it.
    let (parsed, len) = ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| fault())?;
    match parsed.proxied_address() {
        Some(address) if address.protocol != Protocol::Stream => {
            Err(malformed("a PROXY header for datagrams"))
        }
        _ if len != header.len() => Err(fault()),
        address => Ok(address.map(|address| address.source)),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    /// Gives at most so many of its bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = self.1.min(self.0.len()).min(buffer.remaining());
            let (front, back) = self.0.split_at(count);
            buffer.put_slice(front);
            self.0 = back;
            Poll::Ready(Ok(()))
        }
    }

    /// The address, and what is left of `bytes`, in whatever pieces they come.
    fn read(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), io::ErrorKind> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut found = (1..=bytes.len().min(300)).map(|piece| {
            let mut stream = Pieces(bytes, piece);
            let mut buffer = Vec::new();
            let header = runtime.block_on(read_header(&mut stream, &mut buffer));
            buffer.extend_from_slice(stream.0);
            header
                .map(|address| (address, buffer))
                .map_err(|error| error.kind())
        });
        let first = found.next().unwrap();
        assert!(found.all(|other| other == first), "{first:?}");
        first
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_BEGIN.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    const FROM_V4: &[u8] = &[203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0x07, 0x5B];

    #[test]
    fn the_stated_address_is_found_and_what_follows_is_left() {
        let one = |text: &str| read(format!("{text}\r\n\x10rest").as_bytes()).unwrap();
        let rest = b"\x10rest".to_vec();
        let stated = |text: &str| (Some(text.parse().unwrap()), b"\x10rest".to_vec());
        assert_eq!(
            one("PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883"),
            stated("203.0.113.7:12345")
        );
        assert_eq!(
            one("PROXY TCP6 2001:db8::7 ::1 12345 1883"),
            stated("[2001:db8::7]:12345")
        );
        assert_eq!(one("PROXY UNKNOWN"), (None, rest.clone()));
        assert_eq!(one("PROXY UNKNOWN ffff::1 ::2 1 2"), (None, rest.clone()));
        let two = |header: Vec<u8>| read(&[header, b"\x10rest".to_vec()].concat()).unwrap();
        assert_eq!(two(v2(0x21, 0x11, FROM_V4)), stated("203.0.113.7:12345"));
        let with_extension = [FROM_V4, &[0x04, 0, 2, 1, 2]].concat();
        assert_eq!(two(v2(0x21, 0x11, &with_extension)), stated("203.0.113.7:12345"));
        assert_eq!(two(v2(0x20, 0x00, &[])), (None, rest.clone()));
        assert_eq!(two(v2(0x20, 0x11, FROM_V4)), (None, rest.clone()));
        assert_eq!(two(v2(0x21, 0x00, &[])), (None, rest.clone()));
        assert_eq!(two(v2(0x21, 0x31, &[0; 216])), (None, rest));
    }

    #[test]
    fn what_is_no_header_is_an_error_at_once() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(120));
        let cases: [&[u8]; 12] = [
            b"\x10\x0c\0\x04MQTT\x04\x02\0\x0a\0\0",
            b"GET /mqtt HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 203.0.113.7\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 99999 1883\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 12345 1883\r\n",
            b"PROXY SCTP 203.0.113.7 10.0.0.1 12345 1883\r\n",
            b"PROXYTCP4 203.0.113.7 10.0.0.1 12345 1883\r\n",
            long.as_bytes(),
            &v2(0x31, 0x11, FROM_V4),
            &v2(0x21, 0x12, FROM_V4),
            &v2(0x21, 0x11, &FROM_V4[..8]),
            &v2(0x21, 0x11, &[0; 5000]),
        ];
        for case in cases {
            let error = read(case).unwrap_err();
            assert_eq!(error, io::ErrorKind::InvalidData, "{case:?}");
        }
    }

    #[test]
    fn a_header_that_is_cut_is_the_end() {
        let whole = [
            b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 1883\r\n".to_vec(),
            v2(0x21, 0x11, FROM_V4),
        ];
        for header in whole {
            for len in 1..header.len() {
                let error = read(&header[..len]).unwrap_err();
                assert_eq!(error, io::ErrorKind::UnexpectedEof, "{len}");
            }
        }
    }
}
