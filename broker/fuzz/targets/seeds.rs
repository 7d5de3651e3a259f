//! Writes the wire cases as seeds for the fuzz targets, one file a case: as a packet, behind the number of its version; as
//! what a client sends on a session; and as the payload of WebSocket's frames.

#[allow(dead_code, unused_imports)]
#[path = "../../src/codec/mod.rs"]
mod codec;

#[allow(dead_code)]
#[path = "../../src/codec/cases/mod.rs"]
mod cases;

use std::path::PathBuf;

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

fn main() -> std::io::Result<()> {
    let corpus: PathBuf = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "corpus".into())
        .into();
    for target in ["packet", "session", "websocket"] {
        std::fs::create_dir_all(corpus.join(target))?;
    }
    let mut written = 0;
    for (number, case) in cases::all().into_iter().enumerate() {
        // The few long ones would only make each run slow.
        if case.bytes.len() > 512 {
            continue;
        }
        let file = format!("case-{number:04}");
        let packet = [&[case.version as u8][..], &case.bytes].concat();
        std::fs::write(corpus.join("packet").join(&file), packet)?;
        if let Ok(len) = u8::try_from(case.bytes.len()) {
            std::fs::write(corpus.join("session").join(&file), on_a_session(&case, len))?;
            std::fs::write(corpus.join("websocket").join(&file), over_websocket(&case, len))?;
        }
        written += 1;
    }
    println!("{written} cases in {}", corpus.display());
    Ok(())
}

/// CONNECT, a message for the client, the packet, and what follows from it: see the operations of targets/session.rs.
fn on_a_session(case: &cases::Case, len: u8) -> Vec<u8> {
    let version = match case.version {
        codec::Version::V31 => 0,
        codec::Version::V311 => 1,
        codec::Version::V5 => 2,
    };
    let mut seed = vec![0, version];
    if version == 2 {
        seed.extend([60, 255, 0]);
    }
    seed.extend([2, 2, 9, 4, 255, 9, len]);
    seed.extend_from_slice(&case.bytes);
    seed.extend([6, 0, 0, 7, 0, 4, 255, 1, 2, 4, 255]);
    seed
}

/// A request and two frames, the second a ping.
fn over_websocket(case: &cases::Case, len: u8) -> Vec<u8> {
    let mut seed = vec![1 | (len & 1) << 2, 0];
    seed.extend_from_slice(REQUEST);
    seed.push(0x82);
    match len {
        0..126 => seed.push(0x80 | len),
        _ => seed.extend([0xfe, 0, len]),
    }
    seed.extend([0; 4]);
    seed.extend_from_slice(&case.bytes);
    seed.extend([0x89, 0x82, 1, 2, 3, 4, 5, 6]);
    seed
}
