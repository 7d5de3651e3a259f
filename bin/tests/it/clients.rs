//! Our own clients beside those of Mosquitto: what one sends the other gets, and both end with the same code.

use std::time::Duration;

use crate::args;
use crate::support::forebay::{Forebay, PLAIN, run};
use crate::support::process::{self, Finished};
use crate::support::tools::{Subscriber, mosquitto_pub, mosquitto_sub};

fn client(command: &str, port: u16, further: &[&str], input: &str) -> Finished {
    let mut arguments = args![command, "-h", "127.0.0.1", "-p", port].to_vec();
    arguments.extend(further.iter().map(ToString::to_string));
    process::run(
        env!("CARGO_BIN_EXE_forebay"),
        &arguments,
        input,
        Duration::from_secs(60),
    )
}

#[test]
fn what_pub_sends_mosquitto_sub_gets() {
    let forebay = Forebay::start(PLAIN);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        let subscriber = Subscriber::start(forebay.mqtt, &["-V", version, "-t", "from/#", "-q", "2"]);
        let lines: String = (0..200).map(|number| format!("{number}\n")).collect();
        for qos in ["0", "1", "2"] {
            let topic = format!("from/{qos}");
            let done = client(
                "pub",
                forebay.mqtt,
                &["-V", version, "-t", &topic, "-q", qos, "-l"],
                &lines,
            );
            assert_eq!(done.status, Some(0), "{}", done.stderr);
        }
        let messages = subscriber.wait_messages(600);
        for qos in 0..=2 {
            let prefix = format!("from/{qos} {qos} 0 ");
            let got: Vec<&str> = messages
                .iter()
                .filter_map(|message| message.strip_prefix(&prefix))
                .collect();
            let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
            assert_eq!(got, expected, "{version} QoS {qos}");
        }
    }
}

#[test]
fn what_mosquitto_pub_sends_sub_prints_as_mosquitto_sub_does() {
    let forebay = Forebay::start(PLAIN);
    let send = |further: &[&str]| assert_eq!(mosquitto_pub(forebay.mqtt, further).status, Some(0));
    send(&["-t", "kept/a", "-r", "-q", "1", "-m", "one"]);
    send(&[
        "-V",
        "5",
        "-t",
        "kept/b",
        "-r",
        "-q",
        "2",
        "-m",
        "two words",
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "user-property",
        "k",
        "v",
    ]);
    for further in [
        &["-t", "kept/+", "-C", "2"][..],
        &["-t", "kept/+", "-C", "2", "-v", "-q", "2"],
        &["-t", "kept/#", "-C", "2", "-N"],
        &[
            "-t",
            "kept/#",
            "-C",
            "1",
            "-T",
            "kept/a",
            "-F",
            "%t|%p|%q|%r|%l|%x|%X|%%|\\t|@@",
        ],
        &[
            "-V",
            "mqttv5",
            "-t",
            "kept/b",
            "-C",
            "1",
            "-q",
            "2",
            "-F",
            "%C %P [%12t] [%-12t] [%.3t] [%05l]",
        ],
        &["-t", "kept/+", "-W", "1", "-R"],
        &["-t", "nothing", "-W", "1"],
        &["-t", "kept/+", "-E"],
    ] {
        let theirs = mosquitto_sub(forebay.mqtt, further);
        let ours = client("sub", forebay.mqtt, further, "");
        // Retained messages of several topics come in any order.
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        if further.contains(&"-N") {
            assert_eq!(ours.stdout.len(), theirs.stdout.len(), "{further:?}");
        } else {
            assert_eq!(lines(&ours.stdout), lines(&theirs.stdout), "{further:?}");
        }
        assert_eq!(ours.status, theirs.status, "{further:?}: {}", ours.stderr);
    }
}

#[test]
fn a_broker_that_lets_nobody_in_ends_both_with_the_same_code() {
    // Nobody listens on a port that was free a moment ago.
    let port = crate::support::free_port();
    let theirs = mosquitto_pub(port, &["-t", "a", "-m", "b"]);
    let ours = client("pub", port, &["-t", "a", "-m", "b"], "");
    assert_eq!(ours.status, theirs.status);
    assert_eq!(ours.stderr, theirs.stderr);
    assert_eq!(run(&args!["pub", "--help"]).status, Some(0));
}
