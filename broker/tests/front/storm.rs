//! Many connects of one client id at once.

use std::sync::Barrier;

use forebay_broker::classify::Level;
use forebay_broker::codec::{Connect, Properties, QoS, Reason, Version};

use super::support::{Client, Received, TestBroker, plain_connect};

/// Reads until the connection is closed, or has answered a ping.
fn is_live(client: &mut Client) -> bool {
    if !client.try_ping() {
        return false;
    }
    loop {
        match client.receive() {
            Received::Pingresp => return true,
            Received::Closed => return false,
            Received::Disconnect(reason) => assert_eq!(reason, Reason::SessionTakenOver),
            other => panic!("{other:?}"),
        }
    }
}

fn kept(version: Version) -> Connect<'static> {
    Connect {
        clean_start: false,
        properties: match version {
            Version::V5 => Properties::from_checked(&[0x11, 0, 0, 0, 60]), // Session Expiry Interval
            _ => Properties::EMPTY,
        },
        ..plain_connect("same", version)
    }
}

#[test]
fn two_hundred_at_once_leave_one_connection_and_a_session_that_works() {
    const COUNT: usize = 200;
    let broker = TestBroker::start(|config| config.workers = 4, Level::Received);
    let address = broker.address;
    for version in [Version::V5, Version::V311] {
        let barrier = Barrier::new(COUNT);
        let mut clients: Vec<Client> = std::thread::scope(|scope| {
            let storm = || {
                barrier.wait();
                Client::connect_as(address, &kept(version)).0
            };
            let threads: Vec<_> = (0..COUNT).map(|_| scope.spawn(storm)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // All but the first of the first round come to a session that is there.
        let fresh = clients.iter().filter(|client| !client.session_present).count();
        assert_eq!(fresh, usize::from(version == Version::V5));
        clients.retain_mut(is_live);
        assert_eq!(clients.len(), 1, "connections that are left");
        let mut last = clients.pop().unwrap();
        last.subscribe("t", QoS::AtLeastOnce, 1);
        assert_eq!(last.receive(), Received::Suback(1, vec![Reason::GrantedQoS1]));
        last.publish("t", b"x", QoS::AtMostOnce, 0);
        assert_eq!(last.receive(), Received::Publish(b"x".to_vec(), 0));
        drop(last);
        let back = Client::connect_kept(&broker, "same", version);
        assert!(back.session_present);
    }
    broker.stop();
}
