//! What is delivered while a worker delivers much is written together, and is written in the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::codec::Publish;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// A message a millisecond to each of a hundred clients, whose connections write when they are woken; how often each is, and
/// the messages that one has got.
fn fan_out(change: impl FnOnce(&mut Config)) -> (usize, usize) {
    const CLIENTS: usize = 100;
    const MESSAGES: u64 = 200;
    let mut bench = Bench::new(change);
    let clients: Vec<SessionRef> = (0..CLIENTS)
        .map(|number| bench.connect(&format!("c{number}"), true))
        .collect();
    let woken = Arc::new(Woken::default());
    let one = clients[0];
    for at in &clients {
        let who = bench.state.subscriber(*at);
        bench
            .state
            .shared
            .hub
            .subscribe("a", who, options(QoS::AtMostOnce), None);
        bench.sent(*at);
    }
    bench.state.register(one, Waker::from(woken.clone()));
    let (mut wakes, mut bytes) = (0, 0);
    for now_ms in 1_000..1_000 + MESSAGES + 20 {
        bench.tick(now_ms);
        if now_ms < 1_000 + MESSAGES {
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "a",
                packet_id: None,
                payload: b"x",
                properties: Properties::EMPTY,
            };
            assert_eq!(bench.state.publish(clients[1], &publish), Ok(Taken::Yes));
        }
        bench.state.end_linger();
        if woken.take() > 0 {
            wakes += 1;
            bytes += bench.sent(one).len();
        }
    }
    assert_eq!(bench.sent(one).len(), 0, "nothing is forgotten");
    let message = 2 + 2 + "a".len() + 1;
    assert_eq!(bytes % message, 0);
    (wakes, bytes / message)
}

#[test]
fn what_comes_fast_is_written_together_and_all_of_it() {
    let (wakes, messages) = fan_out(|_| {});
    assert_eq!(messages, 200);
    assert!((30..=70).contains(&wakes), "woken {wakes} times for 200 messages");
}

#[test]
fn nothing_waits_where_nothing_may() {
    let at_once = |config: &mut Config| config.limits.max_write_wait_ms = 0;
    assert_eq!(fan_out(at_once), (200, 200));
    // Nor where a queue is so short that it would be full.
    let short = |config: &mut Config| config.limits.max_queued_messages = 2;
    assert_eq!(fan_out(short).1, 200);
}
