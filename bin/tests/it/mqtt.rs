//! What the broker is between its clients, with no Kafka at all: it replaces the one they had.

use std::time::Duration;

use crate::support::forebay::{Forebay, PLAIN};
use crate::support::tools::{Subscriber, mosquitto_pub, mosquitto_sub, publish};
use crate::support::wait_for;

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// Publishes and fails the test when the broker does not take it.
fn send(port: u16, further: &[&str]) {
    let done = mosquitto_pub(port, further);
    assert_eq!(done.status, Some(0), "{further:?}: {}", done.stderr);
}

#[test]
fn every_qos_goes_through_once_in_order_between_all_versions() {
    let forebay = Forebay::start(PLAIN);
    let subscribers = VERSIONS.map(|version| {
        let id = format!("sub-{version}");
        Subscriber::start(
            forebay.mqtt,
            &["-V", version, "-i", &id, "-t", "q/+/#", "-q", "2"],
        )
    });
    for version in VERSIONS {
        for qos in 0..=2 {
            let lines: String = (0..100).map(|number| format!("{number}\n")).collect();
            let topic = format!("q/{version}/{qos}");
            let done = publish(
                forebay.mqtt,
                version,
                qos,
                &format!("pub-{version}-{qos}"),
                &topic,
                &lines,
            );
            assert_eq!(done.status, Some(0), "{}", done.stderr);
        }
    }
    for subscriber in &subscribers {
        let messages = subscriber.wait_messages(900);
        for version in VERSIONS {
            for qos in 0..=2 {
                let prefix = format!("q/{version}/{qos} {qos} 0 ");
                let got: Vec<String> = messages
                    .iter()
                    .filter_map(|message| message.strip_prefix(&prefix))
                    .map(str::to_owned)
                    .collect();
                let sent: Vec<String> = (0..100).map(|number| number.to_string()).collect();
                assert_eq!(got, sent, "{prefix}");
            }
        }
        assert_eq!(messages.len(), 900);
    }
}

#[test]
fn a_subscription_lowers_the_qos() {
    let forebay = Forebay::start(PLAIN);
    let subscriber = Subscriber::start(forebay.mqtt, &["-t", "low", "-q", "1"]);
    for qos in ["0", "1", "2"] {
        send(forebay.mqtt, &["-t", "low", "-m", qos, "-q", qos]);
    }
    let mut messages = subscriber.wait_messages(3);
    messages.sort();
    assert_eq!(messages, ["low 0 0 0", "low 1 0 1", "low 1 0 2"]);
}

#[test]
fn retained_messages_are_kept_replaced_and_cleared() {
    let forebay = Forebay::start(PLAIN);
    for (topic, text) in [("r/a", "old"), ("r/a", "new"), ("r/b", "b"), ("r/c", "c")] {
        send(forebay.mqtt, &["-t", topic, "-m", text, "-r", "-q", "1"]);
    }
    send(forebay.mqtt, &["-t", "r/c", "-n", "-r", "-q", "1"]);
    for version in VERSIONS {
        let subscriber = Subscriber::start(forebay.mqtt, &["-V", version, "-t", "r/#", "-q", "1"]);
        let mut messages = subscriber.wait_messages(2);
        messages.sort();
        assert_eq!(messages, ["r/a 1 1 new", "r/b 1 1 b"], "{version}");
        // To a subscription that stands, it comes as any other: not marked as retained.
        send(forebay.mqtt, &["-t", "r/b", "-m", "b", "-r", "-q", "1"]);
        assert_eq!(subscriber.wait_messages(3)[2], "r/b 1 0 b", "{version}");
    }
}

#[test]
fn a_will_is_sent_for_a_lost_holder_and_not_for_one_that_left() {
    let forebay = Forebay::start(PLAIN);
    let watcher = Subscriber::start(forebay.mqtt, &["-t", "wills/#", "-q", "1"]);
    for version in VERSIONS {
        let topic = format!("wills/{version}");
        let will = [
            "--will-topic",
            &topic,
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
        ];
        let mut args = vec!["-V", version, "-i", version, "-t", "none"];
        args.extend(will);
        let mut holder = Subscriber::start(forebay.mqtt, &args);
        holder.kill();
        let messages =
            watcher.wait_messages(1 + VERSIONS.iter().position(|other| other == &version).unwrap());
        assert_eq!(messages.last(), Some(&format!("{topic} 1 0 gone")));
    }
    // -E leaves with DISCONNECT as soon as it is subscribed.
    let left = mosquitto_sub(
        forebay.mqtt,
        &[
            "-E",
            "-t",
            "none",
            "--will-topic",
            "wills/left",
            "--will-payload",
            "no",
            "-i",
            "left",
        ],
    );
    assert_eq!(left.status, Some(0), "{}", left.stderr);
    send(forebay.mqtt, &["-t", "wills/last", "-m", "end", "-q", "1"]);
    assert_eq!(watcher.wait_messages(4)[3], "wills/last 1 0 end");
}

#[test]
fn a_client_id_that_connects_again_takes_over() {
    let forebay = Forebay::start(PLAIN);
    for (first, second) in [("mqttv311", "mqttv5"), ("mqttv5", "mqttv31")] {
        // mosquitto_sub connects again by itself when it is turned out: it is stopped before it can.
        let mut old = Subscriber::start(
            forebay.mqtt,
            &["-V", first, "-i", "same", "-t", "over/#", "-q", "1"],
        );
        old.freeze();
        let new = Subscriber::start(
            forebay.mqtt,
            &["-V", second, "-i", "same", "-t", "over/#", "-q", "1"],
        );
        send(
            forebay.mqtt,
            &["-t", "over/it", "-m", "to the new one", "-q", "1"],
        );
        assert_eq!(new.wait_messages(1), ["over/it 1 0 to the new one"]);
        wait_for("one client is left", Duration::from_secs(10), || {
            (forebay.metric("forebay_connections", "") == 1.0).then_some(())
        });
        old.kill();
        assert_eq!(old.messages(), Vec::<String>::new());
    }
}

#[test]
fn wildcards_match_as_the_specification_says() {
    let forebay = Forebay::start(PLAIN);
    let cases: [(&str, &[&str]); 7] = [
        ("#", &["a", "a/b", "a/b/c", "/a", "a/"]),
        ("+", &["a"]),
        ("+/+", &["a/b", "/a", "a/"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/"]),
        ("a/+/c", &["a/b/c"]),
        ("/+", &["/a"]),
        ("$own/#", &["$own/x"]),
    ];
    let subscribers: Vec<Subscriber> = cases
        .iter()
        .map(|(filter, _)| Subscriber::start(forebay.mqtt, &["-t", filter, "-t", "end"]))
        .collect();
    for topic in ["a", "a/b", "a/b/c", "/a", "a/", "$own/x", "end"] {
        send(forebay.mqtt, &["-t", topic, "-m", "m", "-q", "1"]);
    }
    for (subscriber, (filter, expected)) in subscribers.iter().zip(cases) {
        let messages = wait_for("the last message", Duration::from_secs(20), || {
            let messages = subscriber.messages();
            messages
                .last()
                .is_some_and(|message| message.starts_with("end "))
                .then_some(messages)
        });
        let mut topics: Vec<&str> = messages
            .iter()
            .filter_map(|message| message.split(' ').next())
            .collect();
        topics.retain(|topic| *topic != "end");
        assert_eq!(topics, expected, "{filter}");
    }
}

#[test]
fn an_unsubscribed_client_gets_no_more() {
    let forebay = Forebay::start(PLAIN);
    // -U unsubscribes right after the subscriptions.
    let subscriber = Subscriber::start(forebay.mqtt, &["-t", "on", "-t", "off", "-U", "off", "-q", "1"]);
    wait_for("UNSUBACK", Duration::from_secs(20), || {
        subscriber.log().contains("received UNSUBACK").then_some(())
    });
    send(forebay.mqtt, &["-t", "off", "-m", "no", "-q", "1"]);
    send(forebay.mqtt, &["-t", "on", "-m", "yes", "-q", "1"]);
    assert_eq!(subscriber.wait_messages(1), ["on 1 0 yes"]);
}

#[test]
fn mosquittos_bridge_flag_in_the_protocol_level_is_taken() {
    use std::io::{Read, Write};
    let forebay = Forebay::start(PLAIN);
    for (name, level) in [("MQIsdp", 0x83), ("MQTT", 0x84)] {
        let mut packet = vec![0x10, (2 + name.len() + 4 + 3) as u8, 0, name.len() as u8];
        packet.extend_from_slice(name.as_bytes());
        packet.extend_from_slice(&[level, 2, 0, 30, 0, 1, b'b']);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", forebay.mqtt)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&packet).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0], "{name} {level:#x}");
    }
}
