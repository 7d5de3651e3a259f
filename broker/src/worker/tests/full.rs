//! A log that is full, or closed: wills go in, and who waits is held or told.

use super::*;

#[test]
fn a_will_goes_into_the_log_though_its_route_is_closed() {
    let mut bench = Bench::with_routes(|_| {}, Arc::new(Closed));
    let mut session = kept("k");
    session.will = Some(will("gone", 0));
    bench.state.restore(vec![session]);
    bench.tick(60_000);
    let at = bench.connect("k", false);
    assert_eq!(
        bench.written(),
        ["k left", "k publishes gone", "k closed", "k open"]
    );
    assert!(!bench.state.waits_behind_backlog(at));
}

#[test]
fn who_waits_behind_its_own_record_while_the_log_is_full_is_refused_like_others() {
    let mut bench = Bench::new(|config| {
        config.bus.chunk_bytes = 4 * 1024;
        config.bus.window_chunks = 2;
        config.log = LogConfig::Memory { max_bytes: 16 * 1024 };
        config.full.reject = true;
        config.full.drop_qos0 = true;
    });
    let five = bench.connect_expiring("five");
    bench.sent(five);
    let client_id: Arc<str> = "five".into();
    while !bench.state.backlog.holds("five") {
        bench.state.write_down(&client_id, Change::Release(1), None);
    }
    bench.state.shared.pressure.set(true, true);
    for (qos, id) in [(QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2), (QoS::AtMostOnce, 0)] {
        let Packet::Publish(publish) = publish("t", qos, id, false) else {
            unreachable!()
        };
        assert_eq!(
            bench.state.publish(five, &publish).unwrap(),
            Taken::Yes,
            "{qos:?}"
        );
    }
    assert_eq!(bench.sent(five), [0x40, 3, 0, 1, 0x97, 0x50, 3, 0, 2, 0x97]);
    assert!(bench.state.takes_kept());
    while bench.state.takes_kept() {
        bench.state.write_down(&client_id, Change::Release(1), None);
    }
}

#[test]
fn a_bus_that_is_full_for_a_moment_holds_and_a_log_that_is_full_rejects() {
    let mut bench = Bench::new(|config| {
        config.bus.chunk_bytes = 4 * 1024;
        config.bus.window_chunks = 2;
        config.log = LogConfig::Memory { max_bytes: 16 * 1024 };
        config.full.reject = true;
    });
    let five = bench.connect_as("five", true, Version::V5, Properties::EMPTY);
    bench.sent(five);
    let take = |bench: &mut Bench, id| {
        let Packet::Publish(mut publish) = publish("t", QoS::AtLeastOnce, id, false) else {
            unreachable!()
        };
        publish.payload = &[7; 1024];
        bench.state.publish(five, &publish).unwrap()
    };
    let mut id = 0;
    let give_up = Instant::now() + Duration::from_secs(20);
    let waits_for_room = |bench: &Bench| {
        let bus = bench.bus.as_ref().unwrap();
        bus.monitor().status().waits_for_room
    };
    // Until the log takes no more, and then until the chunk and the bus do not either.
    loop {
        let full = waits_for_room(&bench);
        id += 1;
        if take(&mut bench, id) == Taken::Held && full {
            break;
        }
        assert!(
            Instant::now() < give_up,
            "log, bus and chunk hold no more than 30"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(
        take(&mut bench, id),
        Taken::Held,
        "for all that is known, for a moment"
    );
    bench.sent(five);
    bench.state.shared.pressure.set(true, true);
    assert_eq!(take(&mut bench, id), Taken::Yes);
    let session = bench.session("five").unwrap();
    assert!(session.pending_acks() > 0, "it is refused, in its order");
}

#[test]
fn what_comes_up_while_a_publish_is_accepted_sends_no_chunk() {
    let mut bench = Bench::new(|config| config.bus.chunk_bytes = 4 * 1024);
    let client_id: Arc<str> = "kept".into();
    let leaves = || Change::Unsubscribe {
        filter: "$share/g/#",
        generation: 1,
    };
    bench.state.write_down(&client_id, Change::Reset, None);
    let before = bench.state.open.len();
    for _ in 0..1_000 {
        bench.state.write_later(&client_id, leaves()); // more than a chunk holds
    }
    assert_eq!(bench.state.open.len(), before);
    assert_eq!(bench.state.sender.next_number(), 0, "none was sent");
    bench.state.write_backlog();
    assert!(bench.state.sender.next_number() > 0, "and now they are");
}
