//! `forebay-bench floor`: the least that a broker can cost. One epoll loop that answers CONNECT, SUBSCRIBE, PUBLISH and
//! PINGREQ and does nothing else: no session, no topic, no subscriber. What a message costs here is the price of its
//! sockets; no broker can be below it with one read and one write a message.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

use crate::client::net;

const LISTENER: u64 = u64::MAX;
const READ_BYTES: usize = 64 * 1024;
/// Larger packets end their connection.
const MAX_PACKET_BYTES: usize = 1 << 20;

/// Arguments of `floor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port of 127.0.0.1 to listen on
    #[arg(long, default_value_t = 1883)]
    port: u16,
}

/// One connection: what came of a packet that is not whole.
struct Peer {
    stream: TcpStream,
    rest: Vec<u8>,
}

/// Serves until it is killed.
pub fn run(args: &Args) -> Result<ExitCode> {
    net::make_room(20_000).or_else(|_| net::make_room(1000))?;
    // std listens with a backlog of 128: too little for a storm.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], args.port)).into())
        .context("bind")?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    let listener: TcpListener = socket.into();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wanted = epoll::EventFlags::IN;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), wanted)?;
    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let (mut next, mut buffer, mut out) = (0, vec![0; READ_BYTES], Vec::new());
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    loop {
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in events.drain(..) {
            let id = event.data.u64();
            if id != LISTENER {
                let peer = peers.get_mut(&id);
                let goes_on = peer.is_some_and(|peer| serve(peer, &mut buffer, &mut out).is_some());
                if !goes_on {
                    peers.remove(&id);
                }
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                epoll::add(&epoll, &stream, epoll::EventData::new_u64(next), wanted)?;
                let rest = Vec::new();
                peers.insert(next, Peer { stream, rest });
                next += 1;
            }
        }
    }
}

/// One read, and one write of all answers; none when the connection is done with.
fn serve(peer: &mut Peer, buffer: &mut [u8], out: &mut Vec<u8>) -> Option<()> {
    let read = match peer.stream.read(buffer) {
        Ok(0) => return None,
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
        Err(_) => return None,
    };
    out.clear();
    let mut bytes = buffer.get(..read)?;
    let held;
    if !peer.rest.is_empty() {
        peer.rest.extend_from_slice(bytes);
        held = std::mem::take(&mut peer.rest);
        bytes = &held;
    }
    while let Some(len) = frame(bytes)? {
        let (packet, after) = bytes.split_at_checked(len)?;
        answer(packet, out)?;
        bytes = after;
    }
    peer.rest.extend_from_slice(bytes);
    if out.is_empty() {
        return Some(());
    }
    // A client that reads nothing is none of ours.
    peer.stream.write_all(out).ok()
}

/// Length of the packet at the start of `bytes`; none while it is not whole, `None` outside for what is none.
fn frame(bytes: &[u8]) -> Option<Option<usize>> {
    let (mut len, mut at) = (0usize, 1);
    loop {
        let Some(byte) = bytes.get(at) else {
            return Some(None);
        };
        len |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return None;
        }
    }
    let whole = at + len;
    (whole <= MAX_PACKET_BYTES).then_some((bytes.len() >= whole).then_some(whole))
}

/// Appends the answer to a packet; none when the client leaves.
fn answer(packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (&first, rest) = packet.split_first()?;
    let skip = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let body = rest.get(skip..)?;
    match first >> 4 {
        1 => {
            // Level 5 has properties after the reason.
            let five = body.get(6) == Some(&5);
            out.extend_from_slice(if five {
                &[0x20, 3, 0, 0, 0]
            } else {
                &[0x20, 2, 0, 0]
            });
        }
        3 if first & 0x06 != 0 => {
            let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
            let id = body.get(2 + topic..4 + topic)?;
            out.extend_from_slice(&[0x40, 2, *id.first()?, *id.get(1)?]);
        }
        8 => out.extend_from_slice(&[0x90, 3, *body.first()?, *body.get(1)?, 0]),
        12 => out.extend_from_slice(&[0xd0, 0]),
        14 => return None,
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_gets_its_answer() {
        let mut out = Vec::new();
        let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a'];
        let publish = [0x32, 6, 0, 1, b't', 0, 9, b'x'];
        let quiet = [0x30, 4, 0, 1, b't', b'x'];
        for packet in [&connect[..], &publish, &quiet, &[0xc0, 0]] {
            assert_eq!(frame(packet), Some(Some(packet.len())));
            assert_eq!(frame(&packet[..packet.len() - 1]), Some(None));
            answer(packet, &mut out).unwrap();
        }
        assert_eq!(out, [0x20, 2, 0, 0, 0x40, 2, 0, 9, 0xd0, 0]);
        assert_eq!(answer(&[0xe0, 0], &mut out), None);
        assert_eq!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]), None);
    }
}
