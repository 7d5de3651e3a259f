//! kill -9 while kept sessions with queued messages exist, connected and not: each has all that was acknowledged for it.

use std::time::{Duration, Instant};

use super::short_or_long;
use crate::support::chance::Chance;
use crate::support::forebay::{Forebay, PLAIN};
use crate::support::wire::Plain;

const PATIENCE: Duration = Duration::from_secs(20);
const THREADS: usize = 8;

/// Calls `work` for each of `0..count`, on several threads.
fn each(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || (thread..count).step_by(THREADS).for_each(work));
        }
    });
}

/// Publishes numbers `from..to` to each of `count` topics until the broker is gone: how many of them were acknowledged,
/// in the order of number and topic.
fn publish(mut client: Plain, count: usize, from: usize, to: usize) -> usize {
    let all = (to - from) * count;
    let mut acknowledged = 0;
    for sent in 0..all {
        let (number, topic) = (from + sent / count, sent % count);
        if !client.try_publish(
            &format!("kept/{topic}"),
            (sent % 60_000) as u16 + 1,
            format!("{number}").as_bytes(),
        ) {
            return acknowledged;
        }
        // A hundred on their way at once.
        while acknowledged + 100 <= sent || sent + 1 == all && acknowledged < all {
            if !client.acknowledged((acknowledged % 60_000) as u16 + 1) {
                return acknowledged;
            }
            acknowledged += 1;
        }
    }
    acknowledged
}

#[test]
fn kept_sessions_have_what_was_acknowledged_for_them_after_kill_nine() {
    let count = short_or_long(1000, 10_000);
    let mut forebay = Forebay::start(PLAIN);
    let port = forebay.mqtt;
    let connected = std::sync::Mutex::new(Vec::new());
    each(count, |at| {
        let mut client = Plain::connect(port, &format!("kept-{at}"), false, PATIENCE);
        client.subscribe(&format!("kept/{at}"), 1);
        // Each tenth stays, and never answers what it gets.
        if at % 10 == 0 {
            connected.lock().unwrap().push(client);
        } else {
            client.end();
        }
    });
    // The first kill comes right behind the last acknowledgement, the second one in the middle.
    let publisher = || Plain::connect(port, "publisher", true, PATIENCE);
    let whole = publish(publisher(), count, 0, 3);
    assert_eq!(whole, 3 * count);
    let mut starts = Vec::new();
    let mut restart = |forebay: &mut Forebay| {
        let begun = Instant::now();
        forebay.kill_and_start();
        let client = publisher();
        starts.push(begun.elapsed());
        client
    };
    let client = restart(&mut forebay);
    let partly = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(client, count, 3, 6));
        std::thread::sleep(
            Duration::from_millis(20) + Chance::new(7).up_to(Duration::from_millis(short_or_long(300, 3000))),
        );
        restart(&mut forebay).end();
        publisher.join().unwrap()
    });
    drop(connected);
    let again = Instant::now();
    each(count, |at| {
        // Numbers of the second lot that were acknowledged for this topic.
        let more = partly / count + usize::from(at < partly % count);
        let mut client = Plain::connect(port, &format!("kept-{at}"), false, PATIENCE);
        assert!(client.session_present, "session {at} is there");
        let mut seen = Vec::new();
        while seen.len() < 3 + more {
            let payload = client.receive();
            let payload =
                payload.unwrap_or_else(|| panic!("session {at} has {seen:?}, {} are due", 3 + more));
            let number: usize = String::from_utf8(payload).unwrap().parse().unwrap();
            assert_eq!(number, seen.len(), "session {at}: in order, once each");
            seen.push(number);
        }
        client.end();
    });
    eprintln!(
        "{count} kept sessions, {whole} and {partly} messages acknowledged for them, kill -9 twice: accepting again after \
         {starts:?}; all had theirs {:.1?} later",
        again.elapsed()
    );
}
