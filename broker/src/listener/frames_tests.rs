//! Frames of clients in any pieces: what they carry comes out, however they were cut, and what breaks a rule is told.

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x6d, 0xb6, 0xb2, 0x80];
const MOST: usize = 100_000;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_head(0, payload.len(), &mut out);
    out[0] = first;
    out[1] |= MASKED;
    out.extend_from_slice(&MASK);
    let masked = payload
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    out.extend(masked);
    out
}

/// What comes out of pieces of `sizes`, over and over, and the fault.
fn unpacked(frames: &mut Frames, came: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<Fault>) {
    let mut out = Vec::new();
    let mut rest = came;
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).clamp(1, rest.len().max(1)).min(rest.len()));
        rest = behind;
        let mut piece = piece.to_vec();
        let (count, fault) = frames.unpack(&mut piece);
        out.extend_from_slice(&piece[..count]);
        if fault.is_some() || rest.is_empty() {
            return (out, fault);
        }
    }
    (out, None)
}

proptest! {
    #[test]
    fn what_is_carried_comes_out_however_it_is_cut(
        messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), 1..6),
        pings in prop::collection::vec(any::<bool>(), 1..5),
        sizes in prop::collection::vec(1..200usize, 1..6),
    ) {
        let (mut came, mut carried) = (Vec::new(), Vec::new());
        let mut ping = pings.iter().cycle();
        for message in &messages {
            for (index, payload) in message.iter().enumerate() {
                let kind = if index == 0 { BINARY } else { CONTINUE };
                let last = if index + 1 == message.len() { FINAL } else { 0 };
                came.extend(frame(kind | last, payload));
                carried.extend_from_slice(payload);
                if *ping.next().unwrap() {
                    came.extend(frame(FINAL | PING, &payload[..payload.len().min(125)]));
                }
            }
        }
        let mut frames = Frames::new(MOST);
        prop_assert_eq!(unpacked(&mut frames, &came, &sizes), (carried, None));
        let _ = frames.take_ping();
        prop_assert!(frames.words.is_none() && frames.left == 0 && frames.head_len == 0);
    }

    #[test]
    fn any_bytes_bring_at_most_themselves(came in prop::collection::vec(any::<u8>(), 0..200), sizes in prop::collection::vec(1..50usize, 1..4)) {
        let mut frames = Frames::new(MOST);
        let (out, _) = unpacked(&mut frames, &came, &sizes);
        prop_assert!(out.len() <= came.len() && frames.words.is_none_or(|words| words.control.len() <= 125));
    }
}

#[test]
fn every_length_has_its_head() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload = vec![7; len];
        let mut frames = Frames::new(MOST);
        let got = unpacked(&mut frames, &frame(FINAL | BINARY, &payload), &[3, 1_000]);
        assert_eq!(got, (payload, None), "{len}");
    }
}

#[test]
fn what_came_before_a_fault_comes_out() {
    let mut frames = Frames::new(MOST);
    let came = [
        frame(FINAL | BINARY, b"ab"),
        frame(FINAL | TEXT, b"c"),
        frame(FINAL | BINARY, b"d"),
    ]
    .concat();
    let got = unpacked(&mut frames, &came, &[1_000]);
    assert_eq!(
        got,
        (b"ab".to_vec(), Some((UNSUPPORTED, "MQTT comes in binary frames")))
    );
    assert!(frames.has_ended());
    assert_eq!(
        unpacked(&mut frames, &frame(FINAL | BINARY, b"e"), &[9]),
        (Vec::new(), None)
    );
}

#[test]
fn what_breaks_a_rule_is_told_by_its_first_two_bytes() {
    let cases: [&[u8]; 10] = [
        &[0x82, 0x02], // not masked
        &[0xC2, 0x80], // reserved bits
        &[0xA2, 0x80],
        &[0x92, 0x80],
        &[0x83, 0x80], // reserved kinds
        &[0x8B, 0x80],
        &[0x80, 0x80],                         // goes on with nothing
        &[0x09, 0x80],                         // a ping in parts
        &[0x89, 0xFE],                         // a ping that is too long
        &[0x02, 0x80, 1, 2, 3, 4, 0x82, 0x80], // a message in a message
    ];
    for case in cases {
        assert_eq!(
            Frames::new(MOST).unpack(&mut case.to_vec()),
            (0, Some(NOT_WEBSOCKET)),
            "{case:?}"
        );
    }
}

#[test]
fn a_message_has_a_bound_over_its_frames() {
    let fault = Some((TOO_BIG, "greater than limits.max_packet_bytes"));
    let mut frames = Frames::new(10);
    assert_eq!(
        unpacked(&mut frames, &frame(FINAL | BINARY, &[1; 10]), &[99]).1,
        None
    );
    assert_eq!(unpacked(&mut frames, &frame(BINARY, &[1; 6]), &[99]).1, None);
    assert_eq!(unpacked(&mut frames, &frame(FINAL, &[1; 4]), &[99]).1, None);
    assert_eq!(unpacked(&mut frames, &frame(BINARY, &[1; 6]), &[99]).1, None);
    assert_eq!(
        unpacked(&mut frames, &frame(0, &[1; 5])[..6], &[99]).1,
        fault,
        "by its head"
    );
    let endless = [
        0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4,
    ];
    assert_eq!(Frames::new(usize::MAX).unpack(&mut endless.to_vec()).1, fault);
}

#[test]
fn of_pings_the_latest_is_answered_and_a_close_is_echoed() {
    let mut frames = Frames::new(MOST);
    let came = [
        frame(FINAL | PING, b"one"),
        frame(FINAL | PONG, b"x"),
        frame(FINAL | PING, b"two"),
    ]
    .concat();
    assert_eq!(unpacked(&mut frames, &came, &[4]), (Vec::new(), None));
    assert_eq!(
        (frames.take_ping(), frames.take_ping()),
        (Some(b"two".to_vec()), None)
    );
    let wrong = PROTOCOL.to_be_bytes().to_vec();
    for (word, answer) in [
        (Vec::new(), Vec::new()),
        (b"\x03\xe9bye".to_vec(), b"\x03\xe9bye".to_vec()),
        (vec![3], wrong.clone()),
        (vec![3, 0xed], wrong.clone()),       // 1005 is never sent
        (vec![3, 0xe8, 0xff], wrong.clone()), // not UTF-8
    ] {
        let mut frames = Frames::new(MOST);
        let came = [frame(FINAL | CLOSE, &word), frame(FINAL | BINARY, b"late")].concat();
        assert_eq!(
            unpacked(&mut frames, &came, &[5]),
            (Vec::new(), None),
            "nothing behind a close is read"
        );
        assert_eq!((frames.take_close(), frames.take_close()), (Some(answer), None));
        assert!(frames.has_ended());
    }
}
