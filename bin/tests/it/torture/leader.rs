//! Leaders that move, in a cluster of three: by a node that ends in order, and by one that is killed.

use std::sync::Arc;
use std::time::Duration;

use super::{beside, drained, short_or_long};
use crate::support::audit::Audit;
use crate::support::cluster::Cluster;
use crate::support::device::{Load, Steer};
use crate::support::forebay::{Forebay, config};

const TOPIC: &str = "moved";

#[test]
fn leaders_move_and_nothing_is_lost_or_out_of_order() {
    let mut cluster = Cluster::start();
    cluster.create_topic(TOPIC, 6);
    let routes = ["spooled", "kafka"].map(|ack| {
        format!("[[route]]\nfilter = \"devices/{{device_id}}/{ack}\"\ntopic = \"{TOPIC}\"\nack = \"{ack}\"\n")
    });
    let forebay = Forebay::start(&config(&cluster.bootstrap(), &routes.concat()));
    forebay.wait_ready(Duration::from_secs(60));
    let steer = Arc::new(Steer::default());
    let fleet = |prefix: &str, leaf: &'static str| Load {
        prefix: prefix.to_owned(),
        devices: 25,
        every: Duration::from_millis(100),
        leaf,
        steer: steer.clone(),
        ..Load::default()
    };
    let fleets = [fleet("s", "spooled"), fleet("k", "kafka")];
    let moves = short_or_long(1, 5);
    let (outcomes, ()) = beside(
        &fleets,
        forebay.mqtt,
        Duration::from_secs(90) * (moves + 1),
        || {
            for _ in 0..moves {
                for ends in [Cluster::stop, Cluster::kill] {
                    std::thread::sleep(Duration::from_secs(2));
                    let leader = cluster.leader(TOPIC);
                    ends(&mut cluster, leader);
                    std::thread::sleep(Duration::from_secs(4));
                    cluster.up(leader);
                }
            }
            std::thread::sleep(Duration::from_secs(2));
            steer.stop();
        },
    );
    let reader = cluster.reader();
    drained(&forebay, &reader, TOPIC, Duration::from_secs(120));
    let audit = Audit::new(&reader.read(TOPIC), &outcomes);
    let longest = outcomes.iter().map(|outcome| outcome.longest_wait).max();
    eprintln!(
        "leaders moved {} times, longest wait {longest:?}: {audit:?}",
        2 * moves
    );
    audit.assert_clean(&outcomes);
}
