//! The codec's table of wire cases through a session in each of its states: nothing panics, and whatever is refused has
//! a reason that a client can be told.

use crate::codec::cases::{self, Case};
use crate::codec::*;
use crate::session::{Detach, Request};
use crate::testing::pair::*;

/// Sessions in which a packet can arrive: fresh, with publishes under way both ways, resumed.
fn sessions(version: Version) -> Vec<Pair> {
    let busy = || {
        let mut pair = Pair::connected(version);
        for number in 1..4 {
            let ticket = pair.publish(QoS::ExactlyOnce, number);
            if number > 1 {
                pair.session.settle(ticket, Ok(()));
            }
            pair.deliver("a", QoS::AtLeastOnce);
            pair.deliver("b", QoS::ExactlyOnce);
        }
        pair.read();
        pair
    };
    let mut resumed = busy();
    resumed.resume();
    vec![
        Pair::new(version, |_| {}),
        Pair::connected(version),
        busy(),
        resumed,
    ]
}

fn run(pair: &mut Pair, case: &Case) {
    let reason = match decode(case.version, &case.bytes) {
        Err(error) => Some(error.reason),
        Ok(packet) => match pair.session.handle_packet(pair.now_ms, packet) {
            Err(violation) => Some(violation.reason),
            Ok(Request::Publish { ticket, publish }) => {
                topic::check_name(publish.topic).expect("only whole topics are handed on");
                if let Some(ticket) = ticket {
                    pair.session.settle(ticket, Ok(()));
                }
                None
            }
            Ok(_) => None,
        },
    };
    if let Some(reason) = reason {
        assert!(reason as u8 >= 0x80, "{}: {reason:?}", case.name);
        // A second CONNECT is refused before anybody looks what is wrong inside it.
        let reason = match case.bytes.first() {
            Some(first) if first >> 4 == 1 => Reason::ProtocolError,
            _ => reason,
        };
        pair.session.close(reason);
    }
    pair.read(); // all of it can be read
    pair.lose(Detach::Lost);
}

#[test]
fn every_wire_case_in_every_state() {
    let cases = cases::all();
    assert!(cases.len() > 100);
    for case in &cases {
        for mut pair in sessions(case.version) {
            run(&mut pair, case);
        }
    }
}
