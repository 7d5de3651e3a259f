//! `forebay spool`: what a broker has left is seen, shown, and emptied into a Kafka.

use std::io::{Read, Write};
use std::net::TcpStream;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rustix::process::Signal;

use crate::{Dir, Running};

/// The publishes of the cases: a client `dev` with a kept session, and three messages at QoS 1, the last one no text.
fn publish(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut exchange = |packet: &[u8], answer: &[u8]| {
        stream.write_all(packet).unwrap();
        let mut got = vec![0; answer.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, answer);
    };
    exchange(
        b"\x10\x0f\x00\x04MQTT\x04\x00\x00\x00\x00\x03dev",
        &[0x20, 2, 0, 0],
    );
    exchange(b"\x82\x08\x00\x07\x00\x03a/#\x01", &[0x90, 3, 0, 7, 1]);
    exchange(b"\x32\x08\x00\x03x/1\x00\x01A", &[0x40, 2, 0, 1]);
    exchange(b"\x32\x08\x00\x03x/1\x00\x02B", &[0x40, 2, 0, 2]);
    exchange(b"\x32\x08\x00\x03x/1\x00\x03\xff", &[0x40, 2, 0, 3]);
    stream.write_all(&[0xe0, 0]).unwrap();
}

/// A route to the topic "t" of a Kafka at `servers`.
fn config(servers: &str) -> String {
    format!(
        "[kafka.properties]\n\"bootstrap.servers\" = \"{servers}\"\n[[route]]\nfilter = \"x/#\"\ntopic = \"t\"\n"
    )
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_waits_is_seen_shown_and_drained() {
    let dir = Dir::new();
    let away = config("127.0.0.1:1");
    let running = Running::start(&dir, &away);
    publish(&running.mqtt);
    // Seen also while the broker runs.
    assert_eq!(dir.run(&["spool", "inspect", "data"]).code, 0);
    assert_eq!(running.stop(Signal::TERM).code(), Some(0));

    let seen = dir.run(&["spool", "inspect", "data"]);
    assert_eq!(seen.code, 0, "{}{}", seen.out, seen.err);
    assert!(seen.out.contains("consumer    kafka at "), "{}", seen.out);
    let seen = json(&dir.run(&["spool", "inspect", "data/spool", "--json"]).out);
    assert_eq!(seen["damage"], serde_json::json!([]));
    let kafka = &seen["consumers"][0];
    assert_eq!(kafka["name"], "kafka");
    assert!(kafka["backlog_records"].as_u64().unwrap() >= 3, "{seen}");

    let dumped = dir.run(&["spool", "dump", "data"]);
    assert_eq!(dumped.code, 0, "{}", dumped.err);
    let lines: Vec<serde_json::Value> = dumped.out.lines().map(json).collect();
    let published: Vec<_> = lines.iter().filter(|line| line["kind"] == "publish").collect();
    assert_eq!(published.len(), 3, "{}", dumped.out);
    assert_eq!(
        (&published[0]["payload"], &published[1]["payload"]),
        (&"A".into(), &"B".into())
    );
    assert_eq!(published[2]["payload_base64"], "/w==");
    assert_eq!(
        (&published[0]["client"], &published[0]["level"]),
        (&"dev".into(), &"spooled".into())
    );
    assert!(
        lines
            .iter()
            .any(|line| line["change"] == "subscribe" && line["filter"] == "a/#"),
        "{}",
        dumped.out
    );
    let second = published[1]["sequence"].as_u64().unwrap();
    let one = dir.run(&[
        "spool",
        "dump",
        "data",
        "--from",
        &format!("n/1/{second:020}"),
        "--limit",
        "1",
    ]);
    assert_eq!(json(&one.out)["payload"], "B");

    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    dir.file(&(config(&servers) + "[spool]\nsegment_bytes = \"4MiB\"\n"));
    let drained = dir.run(&["spool", "drain", "data", "-c", "forebay.toml"]);
    assert_eq!(drained.code, 0, "{}{}", drained.out, drained.err);
    assert!(drained.out.contains("the spool is empty"), "{}", drained.out);
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &servers)
        .set("group.id", "x")
        .create()
        .unwrap();
    let wait = std::time::Duration::from_secs(10);
    assert_eq!(consumer.fetch_watermarks("t", 0, wait).unwrap(), (0, 3));
    let seen = json(&dir.run(&["spool", "inspect", "data", "--json"]).out);
    assert_eq!(seen["consumers"][0]["backlog_records"], 0, "{seen}");
    // Again there is nothing to do.
    assert_eq!(dir.run(&["spool", "drain", "data", "-c", "forebay.toml"]).code, 0);
    assert_eq!(consumer.fetch_watermarks("t", 0, wait).unwrap(), (0, 3));
}

#[test]
fn a_spool_in_use_is_not_drained_and_not_opened_twice() {
    let dir = Dir::new();
    let away = config("127.0.0.1:1");
    let running = Running::start(&dir, &away);
    let drained = dir.run(&["spool", "drain", "data", "-c", "forebay.toml"]);
    assert_eq!(drained.code, 74, "{}", drained.err);
    assert!(
        drained.err.contains("locked by another process"),
        "{}",
        drained.err
    );
    let second = dir.run(&["run", "-c", "forebay.toml"]);
    assert_eq!(second.code, 74, "{}", second.err);
    drop(running);
}

#[test]
fn what_can_not_be_done_is_said() {
    let dir = Dir::new();
    for arguments in [
        &["spool", "inspect", "nothing"][..],
        &["spool", "dump", "nothing"],
    ] {
        let output = dir.run(arguments);
        assert_eq!(output.code, 1, "{arguments:?}");
        assert!(
            output.err.contains("there is no spool in nothing"),
            "{}",
            output.err
        );
    }
    std::fs::create_dir_all(dir.0.path().join("data/spool")).unwrap();
    dir.file("");
    let output = dir.run(&["spool", "drain", "data", "-c", "forebay.toml"]);
    assert_eq!(output.code, 64, "{}", output.err);
    assert!(output.err.contains("[kafka]"), "{}", output.err);
}

#[test]
fn a_consumer_that_is_gone_for_good_is_forgotten_and_not_before_yes_is_said() {
    let dir = Dir::new();
    let running = Running::start(&dir, &config("127.0.0.1:1"));
    publish(&running.mqtt);
    let forget = |more: &[&str]| dir.run(&[&["spool", "forget", "data"], more].concat());
    let locked = forget(&["kafka", "--yes"]);
    assert_eq!(locked.code, 74, "{}", locked.err);
    assert!(locked.err.contains("locked by another process"), "{}", locked.err);
    assert_eq!(running.stop(Signal::TERM).code(), Some(0));
    let unknown = forget(&["nobody", "--yes"]);
    assert_eq!(unknown.code, 1, "{}", unknown.err);
    assert!(unknown.err.contains("there is kafka"), "{}", unknown.err);
    let consumers = || {
        let seen = json(&dir.run(&["spool", "inspect", "data", "--json"]).out);
        seen["consumers"].as_array().unwrap().len()
    };
    let dry = forget(&["kafka"]);
    assert_eq!((dry.code, consumers()), (0, 1), "{}{}", dry.out, dry.err);
    assert!(
        dry.out.contains("wait for it") && dry.out.contains("nothing was changed"),
        "{}",
        dry.out
    );
    let done = forget(&["kafka", "--yes"]);
    assert_eq!((done.code, consumers()), (0, 0), "{}{}", done.out, done.err);
}
