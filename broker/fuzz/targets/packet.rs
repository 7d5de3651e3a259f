//! Fuzz target: any bytes as a packet of each version. Nothing may panic, and what is taken for a packet must, written
//! anew, be the same packet. The first byte of the input picks the version.
#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../src/codec/mod.rs"]
mod codec;

use codec::{Packet, Properties, Version, decode, encode, frame_len, peek_version, topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, frame)) = input.split_first() else {
        return;
    };
    let version = match first % 3 {
        0 => Version::V31,
        1 => Version::V311,
        _ => Version::V5,
    };
    if let Ok(Some(len)) = frame_len(frame, 1 << 20) {
        assert!((2..=1 << 20).contains(&len));
    }
    let _ = peek_version(frame);
    let walked = Properties::from_checked(frame);
    let _ = (walked.user_properties().count(), walked.iter().count());
    let Ok(packet) = decode(version, frame) else {
        return;
    };
    assert_eq!(frame_len(frame, frame.len()), Ok(Some(frame.len())));
    if let Packet::Subscribe(subscribe) = &packet {
        for subscription in &subscribe.filters {
            let plain =
                topic::split_share(subscription.filter).map_or(subscription.filter, |(_, plain)| plain);
            if topic::check_name(plain).is_ok() {
                assert!(topic::matches(plain, plain));
            }
        }
    }
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut written = Vec::new();
    encode(version, &packet, &mut written).expect("what was read can be written");
    assert!(written.len() <= frame.len());
    assert_eq!(decode(version, &written), Ok(packet));
});
