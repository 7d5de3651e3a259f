//! Kafka is away for long while devices publish at level `spooled`: they notice nothing, memory stays where it is, and
//! the backlog drains when Kafka is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{beside, drained, short_or_long};
use crate::support::audit::Audit;
use crate::support::device::{Load, Steer, quantile, waits};
use crate::support::forebay::Forebay;
use crate::support::kafka::Kafka;

const TOPIC: &str = "away";

/// What the part of the log that is kept in memory may take, and room for what malloc keeps.
const MEMORY_KIB: u64 = (32 + 48) * 1024;

/// Phases of the load.
const UP: u8 = 1;
const AWAY: u8 = 2;
const BACK: u8 = 3;

#[test]
fn kafka_is_away_and_publishers_notice_nothing() {
    let away = Duration::from_secs(short_or_long(60, 600));
    let mut kafka = Kafka::start();
    kafka.create_topic(TOPIC, 6, &[]);
    let forebay = Forebay::with_route(&kafka.bootstrap(), TOPIC);
    let steer = Arc::new(Steer::default());
    let load = Load {
        prefix: "o".to_owned(),
        devices: 200,
        every: Duration::from_millis(100),
        steer: steer.clone(),
        ..Load::default()
    };
    let mut memory = Vec::new();
    let (outcomes, (back, spool_bytes)) =
        beside(&[load], forebay.mqtt, away * 2 + Duration::from_secs(120), || {
            std::thread::sleep(Duration::from_secs(3));
            steer.enter(UP);
            std::thread::sleep(Duration::from_secs(short_or_long(10, 60)));
            memory.push(forebay.resident_kib());
            kafka.kill();
            steer.enter(AWAY);
            for _ in 0..20 {
                std::thread::sleep(away / 20);
                memory.push(forebay.resident_kib());
            }
            let spool_bytes = forebay.metric("forebay_spool_bytes", "");
            steer.enter(BACK);
            kafka.up();
            let back = Instant::now();
            std::thread::sleep(Duration::from_secs(5));
            steer.stop();
            (back, spool_bytes)
        });
    drained(&forebay, &kafka, TOPIC, Duration::from_secs(120));
    let audit = Audit::new(&kafka.read(TOPIC), &outcomes);
    let [up, away_waits] = [UP, AWAY].map(|phase| waits(&outcomes, phase));
    let [calm, cut] = [&up, &away_waits].map(|waits| quantile(waits, 0.99));
    eprintln!(
        "Kafka away for {away:?} at 2,000 messages/s: acknowledged after p50 {:?} p99 {calm:?} ({} messages) with Kafka, \
         p50 {:?} p99 {cut:?} ({} messages) without; drained {:.1?} after it was back; memory in KiB {memory:?}\n{audit:?}",
        quantile(&up, 0.5),
        up.len(),
        quantile(&away_waits, 0.5),
        away_waits.len(),
        back.elapsed(),
    );
    let each_bytes = spool_bytes / away_waits.len().max(1) as f64;
    eprintln!("spool: {spool_bytes} bytes, {each_bytes:.0} a message");
    audit.assert_clean(&outcomes);
    assert!(outcomes.iter().all(|outcome| outcome.connections == 1));
    let expected = away.as_millis() as usize * 2 * 9 / 10;
    assert!(
        away_waits.len() > expected,
        "{} while it was away",
        away_waits.len()
    );
    // Other cases share the processors in the short run.
    assert!(
        cut < calm * 3 + Duration::from_millis(100),
        "{cut:?} against {calm:?}"
    );
    let grown = memory.iter().max().unwrap().saturating_sub(memory[0]);
    assert!(grown < MEMORY_KIB, "memory grew by {grown} KiB: {memory:?}");
    let late = memory[20].saturating_sub(memory[10]);
    assert!(
        late < 24 * 1024,
        "memory still grew by {late} KiB in the second half: {memory:?}"
    );
    // A sync for each message takes a block of 4 KiB.
    assert!(
        each_bytes < 2_000.0,
        "{each_bytes} bytes of the spool for a message"
    );
}
