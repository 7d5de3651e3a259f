//! Whatever Kafka does, whatever grows, is barred or crashes: nothing is lost and the order holds.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(u8, u8),
    Turn(u8),
    Grow,
    Bar(bool),
    /// The quarantine's folder is there or not.
    Folder(bool),
    Save,
    Crash,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6, 1u8..20).prop_map(|(device, count)| Step::Publish(device, count)),
        6 => (1u8..6).prop_map(Step::Turn),
        1 => Just(Step::Grow),
        1 => any::<bool>().prop_map(Step::Bar),
        1 => any::<bool>().prop_map(Step::Folder),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
    ]
}

/// What Kafka does with the next batch; then it takes all.
fn verdict() -> impl Strategy<Value = u8> {
    prop_oneof![12 => Just(0u8), 1 => 1u8..8]
}

fn scripted(verdicts: Vec<u8>, barred: Arc<AtomicBool>) -> impl FnMut(&[Landed]) -> Verdict + Send + 'static {
    let mut verdicts = verdicts.into_iter();
    move |batch| {
        if batch[0].topic == "b" && barred.load(Ordering::Relaxed) {
            return Verdict::Refused(Code::TopicAuthorizationFailed);
        }
        if batch.iter().any(|r| r.topic != "dead" && r.value.ends_with("13")) {
            return Verdict::Refused(Code::InvalidRecord);
        }
        match verdicts.next().unwrap_or_default() {
            1 => Verdict::Refused(Code::MessageTimedOut),
            2 => Verdict::Lost(Code::RequestTimedOut),
            3 => Verdict::Refused(Code::UnknownTopicOrPartition),
            4 => Verdict::Lost(Code::Fatal),
            5 => Verdict::Silence,
            6 => Verdict::Refused(Code::OutOfOrderSequenceNumber),
            // Refused again it would be poison, and then Kafka must not take it in the next run.
            7 if batch.iter().any(|r| r.timed) => Verdict::Refused(Code::InvalidTimestamp),
            _ => Verdict::Taken,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn nothing_is_lost_and_the_order_holds(
        steps in proptest::collection::vec(step(), 1..60),
        verdicts in proptest::collection::vec(verdict(), 0..120),
        queue in 1usize..40,
    ) {
        let barred = Arc::new(AtomicBool::new(false));
        let routes = vec![samples::route("{device_id}/a", "a"), samples::route("{device_id}/b", "b")];
        let dir = tempfile::tempdir().unwrap();
        let (there, away) = (dir.path().join("there"), dir.path().join("away"));
        let change = |config: &mut SinkConfig| {
            config.quarantine_dir = Some(there.clone());
            config.dead_letter_topic = Some("dead".to_owned());
        };
        let mut bench = Bench::with(routes, change, scripted(verdicts, Arc::clone(&barred)));
        bench.kafka.lock().unwrap().queue = queue;
        let (mut next, mut partitions) = (0usize, 2);
        for step in steps {
            match step {
                Step::Publish(device, count) => {
                    let topic = format!("d{device}/{}", if device % 2 == 0 { "a" } else { "b" });
                    bench.publish(&numbers(&topic, next..next + usize::from(count)));
                    next += usize::from(count);
                }
                Step::Turn(count) => (0..count).for_each(|_| bench.turn()),
                Step::Grow => {
                    partitions += 1;
                    for topic in ["a", "b"] {
                        bench.topics.set(topic, Finding::Ready { partitions });
                    }
                }
                Step::Bar(on) => barred.store(on, Ordering::Relaxed),
                Step::Folder(true) => drop(std::fs::rename(&away, &there)),
                Step::Folder(false) => drop(std::fs::rename(&there, &away)),
                Step::Save => bench.pump.save(true),
                Step::Crash => {
                    bench.crash();
                    drop(std::fs::rename(&away, &there));
                    bench.restart();
                }
                Step::Stop => {
                    bench.stop();
                    drop(std::fs::rename(&away, &there));
                    bench.restart();
                }
            }
        }
        barred.store(false, Ordering::Relaxed);
        drop(std::fs::rename(&away, &there));
        (bench.pump.refusal.try_at, bench.pump.refusal.read_at) = (None, None);
        bench.turn_to_end();
        let kafka = bench.kafka.lock().unwrap();
        assert_order(&kafka.landed);
        let positions: HashSet<&str> = kafka.landed.iter().map(|r| r.position.as_str()).collect();
        prop_assert_eq!(positions.len(), next);
        let poison = |r: &&Landed| r.value.ends_with("13");
        prop_assert!(kafka.landed.iter().filter(poison).all(|r| r.topic == "dead"));
    }
}
