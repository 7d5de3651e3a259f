//! A healthy publisher and subscriber at QoS 1 that must go on while others misbehave, and the memory that these cost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::forebay::Forebay;
use crate::support::wire::Plain;

/// How long one answer may take on a busy machine that is also under attack.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages that must have gone through while the attack ran, for the case to have shown anything.
const AT_LEAST: u64 = 20;

/// What the broker's memory may grow by, in KiB, unless a case knows better: the log's tail in memory (32 MiB), the
/// queue of one client (16 MiB), and what an allocator keeps of all that came and went.
pub const GROWTH_KIB: u64 = 96 * 1024;

/// Runs `attack` while a pair exchanges messages. The pair must lose nothing, get everything once and in order, and keep
/// its connections; no connection's task may panic; and memory stays within `growth_kib` of what it was, looked at after
/// each message. `attack` may start and end as it likes: the pair runs on until it has shown enough.
pub fn undisturbed(forebay: &Forebay, growth_kib: u64, attack: impl FnOnce()) {
    let mut publisher = Plain::connect(forebay.mqtt, "healthy-publisher", true, PATIENCE);
    let mut subscriber = Plain::connect(forebay.mqtt, "healthy-subscriber", true, PATIENCE);
    subscriber.subscribe("healthy/#", 1);
    let before = forebay.resident_kib();
    let over = AtomicBool::new(false);
    let (count, most) = std::thread::scope(|scope| {
        let pair = scope.spawn(|| {
            let (mut number, mut most) = (0u64, before);
            while number < AT_LEAST || !over.load(Ordering::Relaxed) {
                let id = (number % 65_535) as u16 + 1;
                let text = number.to_string();
                assert!(
                    publisher.try_publish("healthy/way", id, text.as_bytes()),
                    "{text}"
                );
                assert!(publisher.acknowledged(id), "PUBACK of {text}");
                assert_eq!(subscriber.receive(), Some(text.into_bytes()));
                most = most.max(forebay.resident_kib());
                number += 1;
            }
            (number, most)
        });
        // Also when the attack itself fails.
        let end = End(&over);
        attack();
        drop(end);
        pair.join().unwrap()
    });
    publisher.end();
    subscriber.end();
    let grown = most.saturating_sub(before);
    println!("{count} messages of the pair; memory {before} KiB, at most {grown} KiB more");
    assert!(
        grown <= growth_kib,
        "memory grew by {grown} KiB, from {before} KiB"
    );
    let log = forebay.log();
    assert!(!log.contains("panicked"), "{log}");
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
