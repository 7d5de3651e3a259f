//! The wire cases: bytes and what they are, or the reason why they are nothing. One table for the codec's own tests,
//! the session's, the differential test and the seeds of the fuzz target.
//!
//! The last two take this folder in by its path and have `codec` at their crate's root, so everything here is named
//! through `crate::codec`.

mod acks;
mod connack;
mod connect;
mod disconnect;
mod header;
mod property;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

use crate::codec::{Packet, PacketId, Properties, Reason, Version};

const V31: Version = Version::V31;
const V311: Version = Version::V311;
const V5: Version = Version::V5;
const ALL: [Version; 3] = [V31, V311, V5];
const V3: [Version; 2] = [V31, V311];
const SINCE_311: [Version; 2] = [V311, V5];

/// Bytes as they come in on a connection of `version` and what becomes of them.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique.
    pub name: String,
    /// The version the connection speaks; of a CONNECT, the one it names.
    pub version: Version,
    /// One frame.
    pub bytes: Vec<u8>,
    /// What it is.
    pub expect: Expect,
}

/// What the bytes of a case are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// This packet, and it is written with the same bytes.
    Packet(Packet<'static>),
    /// This packet, written in another form than Forebay's own.
    Read(Packet<'static>),
    /// No packet, for this reason.
    Fault(Reason),
}

/// The whole table.
pub fn all() -> Vec<Case> {
    let mut table = Table::default();
    header::add(&mut table);
    connect::add(&mut table);
    connack::add(&mut table);
    publish::add(&mut table);
    acks::add(&mut table);
    subscribe::add(&mut table);
    suback::add(&mut table);
    unsubscribe::add(&mut table);
    disconnect::add(&mut table);
    property::add(&mut table);
    table.cases
}

/// The table in the making.
#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn push(&mut self, name: &str, version: Version, bytes: Vec<u8>, expect: Expect) {
        self.cases.push(Case {
            name: format!("{version:?} {name}"),
            version,
            bytes,
            expect,
        });
    }

    /// These bytes are this packet, both ways.
    fn good(&mut self, name: &str, version: Version, bytes: Vec<u8>, packet: Packet<'static>) {
        self.push(name, version, bytes, Expect::Packet(packet));
    }

    /// These bytes are read as this packet, but Forebay writes it otherwise.
    fn read(&mut self, name: &str, version: Version, bytes: Vec<u8>, packet: Packet<'static>) {
        self.push(name, version, bytes, Expect::Read(packet));
    }

    /// These bytes are no packet.
    fn bad(&mut self, name: &str, versions: &[Version], bytes: &[u8], reason: Reason) {
        for version in versions {
            self.push(name, *version, bytes.to_vec(), Expect::Fault(reason));
        }
    }

    /// These bytes are malformed (0x81).
    fn malformed(&mut self, name: &str, versions: &[Version], bytes: &[u8]) {
        self.bad(name, versions, bytes, Reason::MalformedPacket);
    }

    /// These bytes break a rule of the protocol (0x82).
    fn forbidden(&mut self, name: &str, versions: &[Version], bytes: &[u8]) {
        self.bad(name, versions, bytes, Reason::ProtocolError);
    }
}

/// A frame: first byte, the remaining length, the body in parts.
fn frame(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut frame = vec![first];
    let mut rest = body.len();
    loop {
        let byte = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            frame.push(byte);
            break;
        }
        frame.push(byte | 0x80);
    }
    frame.extend_from_slice(&body);
    frame
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap_or(PacketId::MAX)
}

fn props(raw: &'static [u8]) -> Properties<'static> {
    Properties::from_checked(raw)
}

/// A text or bytes that live as long as the tests: for cases too long to be written out.
fn leak(bytes: Vec<u8>) -> &'static [u8] {
    bytes.leak()
}
