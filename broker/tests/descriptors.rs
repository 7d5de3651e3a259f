//! No file descriptor is left: the listener neither ends nor spins, clients that are connected are served on, and who
//! waits is let in when one comes free. In a process of its own, because the bound is the process's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::Broker;
use forebay_broker::auth::ListenerRules;
use forebay_broker::classify::NoRoutes;
use forebay_broker::config::{Config, ListenerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DEADLINE: Duration = Duration::from_secs(10);
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn ask<const N: usize>(stream: &mut TcpStream, bytes: &[u8], answer: [u8; N]) {
    stream.write_all(bytes).unwrap();
    let mut read = [0; N];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, answer);
}

/// CONNECT of 3.1.1 with a client id of one letter.
fn connect(id: u8) -> Vec<u8> {
    [b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01".as_slice(), &[id]].concat()
}

/// Time on a CPU that this process has taken.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_a_descriptor_the_listener_waits_and_then_goes_on() {
    let config = Config {
        workers: 1,
        listeners: vec![ListenerConfig::default()],
        ..Config::default()
    };
    let mut broker = Broker::start(config, Arc::new(NoRoutes), Arc::new(ListenerRules)).unwrap();
    broker.open().unwrap();
    let address = broker.addresses()[0].1.tcp().unwrap();
    let mut first = open(address);
    ask(&mut first, &connect(b'a'), CONNACK);
    let used_before = cpu();
    let before = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(100),
            maximum: before.maximum,
        },
    )
    .unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    assert!(!taken.is_empty());
    taken.pop();
    // The last one is this end's. The system has taken the connection, but accept finds no descriptor for it.
    let mut second = open(address);
    second.write_all(&connect(b'b')).unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        ask(&mut first, &[0xC0, 0], [0xD0, 0]);
        std::thread::sleep(Duration::from_millis(50));
    }
    second.set_nonblocking(true).unwrap();
    assert!(second.read(&mut [0; 1]).is_err(), "it was not accepted");
    second.set_nonblocking(false).unwrap();
    taken.clear(); // also for what the clock of this process is read from
    let used = cpu() - used_before;
    assert!(
        used < Duration::from_millis(500),
        "{used:?} of CPU in a second of waiting"
    );
    ask(&mut second, &[], CONNACK);
    ask(&mut second, &[0xC0, 0], [0xD0, 0]);
    setrlimit(Resource::Nofile, before).unwrap();
    broker.stop(Duration::from_secs(5));
}
