//! The log is full: who is held, who is told, who is dropped, and that one client can't fill it alone.

use std::net::Shutdown;
use std::time::Duration;

use forebay_broker::classify::Level;
use forebay_broker::codec::{QoS, Reason, Version};
use forebay_broker::config::{Config, LogConfig};

use super::support::{Client, Received, TestBroker, small_log, until};

/// A log of 16 KiB and next to nothing on the bus.
fn small(config: &mut Config) {
    small_log(config);
    config.bus.window_chunks = 2;
}

/// Publishes until no acknowledgement comes any more. Returns how many came.
fn fill(client: &mut Client) -> u16 {
    for id in 1..=60 {
        client.publish("t", &[7; 1024], QoS::AtLeastOnce, id);
    }
    client.drain_pubacks(Duration::from_millis(300))
}

#[test]
fn reject_tells_5_0_in_order_and_holds_3_x_whose_pings_are_answered() {
    let broker = TestBroker::start(
        |config| {
            small(config);
            config.full.reject = true;
        },
        Level::Received,
    );
    let mut three = Client::connect(&broker, "three", Version::V311);
    let taken = fill(&mut three);
    assert!(taken < 60);
    three.ping();
    assert_eq!(three.receive(), Received::Pingresp);
    let mut five = Client::connect(&broker, "five", Version::V5);
    five.publish("t", &[8; 1536], QoS::AtLeastOnce, 1);
    five.publish("t", &[8; 1536], QoS::ExactlyOnce, 2);
    five.publish("t", &[8; 1536], QoS::AtLeastOnce, 3);
    assert_eq!(five.receive(), Received::Puback(1, Reason::QuotaExceeded));
    assert_eq!(five.receive(), Received::Pubrec(2, Reason::QuotaExceeded));
    assert_eq!(five.receive(), Received::Puback(3, Reason::QuotaExceeded));
    let seen = broker.records(60);
    assert!(seen.iter().all(|record| record.payload == [7; 1024]));
    assert_eq!(
        three.drain_pubacks_until(60 - taken, Duration::from_secs(5)),
        60 - taken
    );
    five.publish("t", b"again", QoS::ExactlyOnce, 2); // the id is free
    assert_eq!(five.receive(), Received::Pubrec(2, Reason::Success));
    broker.stop();
}

#[test]
fn qos_0_is_dropped_where_that_is_wanted_and_held_else() {
    for drop_qos0 in [true, false] {
        let broker = TestBroker::start(
            |config| {
                small(config);
                config.full.drop_qos0 = drop_qos0;
            },
            Level::Received,
        );
        let mut filler = Client::connect(&broker, "filler", Version::V311);
        assert!(fill(&mut filler) < 60);
        let mut other = Client::connect(&broker, "other", Version::V311);
        other.publish("t", &[8; 1536], QoS::AtMostOnce, 0);
        other.publish("t", &[9; 1536], QoS::AtLeastOnce, 1);
        other.ping();
        assert_eq!(other.receive(), Received::Pingresp);
        let count = if drop_qos0 { 61 } else { 62 };
        let seen = broker.records(count);
        let dropped = !seen.iter().any(|record| record.payload[0] == 8);
        assert_eq!(dropped, drop_qos0);
        assert_eq!(other.receive(), Received::Puback(1, Reason::Success));
        broker.stop();
    }
}

#[test]
fn one_client_cannot_fill_the_log_alone() {
    for reject in [false, true] {
        let broker = TestBroker::start(
            |config| {
                config.workers = 1;
                config.bus.chunk_bytes = 4 * 1024;
                config.limits.max_packet_bytes = 2 * 1024;
                config.log = LogConfig::Memory {
                    max_bytes: 128 * 1024,
                };
                config.full.reject = reject;
                config.full.client_share_bytes = 8 * 1024;
            },
            Level::Spooled,
        );
        let mut greedy = Client::connect(&broker, "greedy", Version::V5);
        let mut taken = 0;
        for id in 1..=120 {
            greedy.publish("t", &[7; 1024], QoS::AtLeastOnce, id);
            match greedy.try_receive(Duration::from_millis(300)) {
                Some(Received::Puback(got, Reason::Success)) => assert_eq!(got, id),
                Some(Received::Puback(_, Reason::QuotaExceeded)) if reject => break,
                None if !reject => break,
                other => panic!("{other:?}"),
            }
            taken = id;
        }
        // Half of the log, one chunk more at most until that is known, and its share.
        assert!((60..76).contains(&taken), "{taken} taken");
        greedy.ping();
        assert_eq!(greedy.receive(), Received::Pingresp);
        let mut modest = Client::connect(&broker, "modest", Version::V5);
        modest.publish("t", b"x", QoS::AtLeastOnce, 1);
        assert_eq!(modest.receive(), Received::Puback(1, Reason::Success));
        let held = u16::from(!reject);
        assert_eq!(
            broker.records(usize::from(taken + held + 1)).len(),
            usize::from(taken + held + 1)
        );
        if !reject {
            assert_eq!(greedy.receive(), Received::Puback(taken + 1, Reason::Success));
        }
        greedy.publish("t", b"x", QoS::AtLeastOnce, 200);
        assert_eq!(greedy.receive(), Received::Puback(200, Reason::Success));
        broker.stop();
    }
}

#[test]
fn a_held_client_whose_peer_resets_is_let_go_at_once_and_one_that_only_stops_sending_is_heard_out() {
    let broker = TestBroker::start(
        |config| {
            small(config);
            config.limits.max_connections = 4;
        },
        Level::Received,
    );
    let mut watcher = Client::connect(&broker, "watcher", Version::V311);
    watcher.subscribe("will", QoS::AtMostOnce, 1);
    assert!(matches!(watcher.receive(), Received::Suback(..)));
    let mut filler = Client::connect(&broker, "filler", Version::V311);
    assert!(fill(&mut filler) < 60);
    let mut stops = Client::connect(&broker, "stops", Version::V311);
    let mut resets = Client::connect_with_will(&broker, "resets", "will", b"gone", b"");
    for client in [&mut stops, &mut resets] {
        client.publish("t", &[8; 1536], QoS::AtMostOnce, 0);
        client.publish("t", &[9; 1536], QoS::AtLeastOnce, 1);
        client.ping(); // answered behind them: they are with the broker, and held
        assert_eq!(client.receive(), Received::Pingresp);
    }
    stops.socket().shutdown(Shutdown::Write).unwrap(); // FIN
    assert!(
        Client::try_connect(&broker, "more", Version::V311).is_none(),
        "four are all"
    );
    resets.socket().set_linger(Some(Duration::ZERO)).unwrap();
    drop(resets); // RST
    let mut further = None;
    until("its place is free, though the log still is full", || {
        further = Client::try_connect(&broker, "further", Version::V311);
        further.is_some()
    });
    let seen = broker.records(60 + 2 + 1);
    let of = |first: u8| seen.iter().filter(|record| record.payload[0] == first).count();
    assert_eq!((of(7), of(8), of(9)), (60, 1, 1));
    assert_eq!(watcher.receive(), Received::Publish(b"gone".to_vec(), 0));
    broker.stop();
}
