//! `pub` and `sub` as programs: what they print, what they end with, against the broker itself and against scripted
//! brokers that refuse.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::{Dir, Output, Running, finish};

const OPEN: &str = "[auth]\nallow_anonymous = true\n";

struct Broker {
    running: Running,
    dir: Dir,
}

impl Broker {
    fn start() -> Self {
        let dir = Dir::new();
        let running = Running::start(&dir, OPEN);
        Self { running, dir }
    }

    fn port(&self) -> &str {
        self.running.mqtt.rsplit(':').next().unwrap()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.dir
            .run(&[&[command, "-h", "127.0.0.1", "-p", self.port()], arguments].concat())
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        std::fs::write(self.dir.0.path().join("input"), input).unwrap();
        let input = std::fs::File::open(self.dir.0.path().join("input")).unwrap();
        let all = [&["pub", "-h", "127.0.0.1", "-p", self.port()], arguments].concat();
        finish(self.dir.command(&all).stdin(input))
    }

    /// Starts `sub` and waits until its subscriptions are acknowledged.
    fn subscribe(&self, arguments: &[&str]) -> Subscriber {
        let all = [
            &["sub", "-h", "127.0.0.1", "-p", self.port(), "-d", "-W", "30"],
            arguments,
        ]
        .concat();
        let mut child = self.dir.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("received SUBACK") {
            line.clear();
            assert!(
                out.read_line(&mut line).unwrap() > 0,
                "it ended before its SUBACK"
            );
        }
        Subscriber { child, out }
    }
}

struct Subscriber {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Subscriber {
    /// Its exit code and what it printed of messages.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        let messages = text.lines().filter(|line| !line.starts_with("Client "));
        (
            self.child.wait().unwrap().code(),
            messages.map(str::to_owned).collect(),
        )
    }
}

#[test]
fn messages_go_from_pub_to_sub_at_every_qos_and_version() {
    let broker = Broker::start();
    for version in ["mqttv31", "311", "5"] {
        let subscriber = broker.subscribe(&[
            "-V",
            version,
            "-t",
            "a/+",
            "-t",
            "b/#",
            "-q",
            "2",
            "-C",
            "6",
            "-F",
            "%t %q %r %l %x",
        ]);
        for qos in ["0", "1", "2"] {
            for topic in ["a/x", "b/y/z"] {
                let done = broker.run("pub", &["-V", version, "-t", topic, "-q", qos, "-m", "hi"]);
                assert_eq!((done.code, done.err.as_str()), (0, ""));
            }
        }
        let (code, messages) = subscriber.end();
        assert_eq!(code, Some(0));
        let expected: Vec<String> = (0..3)
            .flat_map(|qos| ["a/x", "b/y/z"].map(|topic| format!("{topic} {qos} 0 2 6869")))
            .collect();
        assert_eq!(messages, expected, "{version}");
    }
}

#[test]
fn payloads_come_from_text_file_lines_and_whole_input() {
    let broker = Broker::start();
    let subscriber = broker.subscribe(&["-t", "#", "-v", "-q", "1", "-C", "507"]);
    std::fs::write(broker.dir.0.path().join("payload"), "from a file").unwrap();
    let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
    for done in [
        broker.run("pub", &["-t", "text", "-q", "1", "-m", "-5"]),
        broker.run("pub", &["-t", "file", "-q", "1", "-f", "payload"]),
        broker.run("pub", &["-t", "null", "-q", "1", "-n"]),
        broker.run_with(&["-t", "whole", "-q", "1", "-s"], "a b"),
        broker.run(
            "pub",
            &[
                "-t",
                "again",
                "-q",
                "1",
                "-m",
                "x",
                "--repeat",
                "3",
                "--repeat-delay",
                "0.05",
            ],
        ),
        broker.run_with(&["-t", "lines", "-q", "2", "-l", "-M", "7"], lines.trim_end()),
    ] {
        assert_eq!((done.code, done.err.as_str()), (0, ""));
    }
    let (code, messages) = subscriber.end();
    assert_eq!(code, Some(0));
    assert_eq!(
        messages[..7],
        [
            "text -5",
            "file from a file",
            "null ",
            "whole a b",
            "again x",
            "again x",
            "again x"
        ]
    );
    let rest: Vec<String> = (0..500).map(|number| format!("lines {number}")).collect();
    assert_eq!(messages[7..], rest);
}

#[test]
fn retained_messages_and_kept_sessions_can_be_looked_after() {
    let broker = Broker::start();
    let send = |arguments: &[&str]| assert_eq!(broker.run("pub", arguments).code, 0);
    send(&[
        "-t",
        "r/1",
        "-r",
        "-q",
        "1",
        "-m",
        "old",
        "-D",
        "publish",
        "user-property",
        "k",
        "v",
    ]);
    let shown = broker.run(
        "sub",
        &["-V", "5", "-t", "r/#", "-C", "1", "-W", "20", "-F", "%t|%p|%r|%P"],
    );
    assert_eq!((shown.code, shown.out.as_str()), (0, "r/1|old|1|k:v\n"));
    assert_eq!(broker.run("sub", &["-t", "r/#", "-R", "-W", "1"]).out, "");
    assert_eq!(broker.run("sub", &["-t", "r/#", "-T", "r/1", "-W", "1"]).out, "");
    let removed = broker.run(
        "sub",
        &[
            "-t",
            "r/#",
            "--remove-retained",
            "--retained-only",
            "-W",
            "1",
            "-N",
        ],
    );
    assert_eq!(removed.out, "old");
    let gone = broker.run("sub", &["-t", "r/#", "-W", "1"]);
    assert_eq!(
        (gone.code, gone.out.as_str(), gone.err.as_str()),
        (27, "", "Timed out\n")
    );

    let kept = ["-t", "k", "-q", "2", "-c", "-i", "keeper"];
    assert_eq!(broker.run("sub", &[&kept[..], &["-E"]].concat()).code, 0);
    send(&["-t", "k", "-q", "2", "-m", "one"]);
    send(&["-t", "k", "-q", "1", "-m", "two"]);
    let held = broker.run("sub", &[&kept[..], &["-C", "1", "-W", "20"]].concat());
    assert_eq!((held.code, held.out.as_str()), (0, "one\n"));
    // What was not printed was not acknowledged.
    let held = broker.run("sub", &[&kept[..], &["-C", "1", "-W", "20"]].concat());
    assert_eq!((held.code, held.out.as_str()), (0, "two\n"));
}

#[test]
fn a_will_is_published_when_the_client_is_killed_and_not_when_it_is_told_to_end() {
    let broker = Broker::start();
    let watcher = broker.subscribe(&["-t", "will", "-C", "1"]);
    let will = |payload| {
        [
            "-t",
            "x",
            "--will-topic",
            "will",
            "--will-qos",
            "1",
            "--will-payload",
            payload,
        ]
    };
    let told = broker.subscribe(&will("no"));
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&told.child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert_eq!(told.end().0, Some(0));
    let mut killed = broker.subscribe(&will("yes"));
    killed.child.kill().unwrap();
    killed.end();
    assert_eq!(watcher.end(), (Some(0), vec!["yes".to_owned()]));
}

/// A broker that answers the first packet and the second as told, and then waits for the end. Gives its port.
fn scripted(answers: [&'static [u8]; 2]) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut packet = [0; 1024];
        for answer in answers {
            if stream.read(&mut packet).unwrap_or(0) > 0 && !answer.is_empty() {
                let _ = stream.write_all(answer);
            }
        }
        let _ = stream.read(&mut packet);
    });
    port.to_string()
}

#[test]
fn what_a_broker_refuses_is_told_with_its_reason_and_code() {
    let welcome: &[u8] = &[0x20, 2, 0, 0];
    let welcome5: &[u8] = &[0x20, 3, 0, 0, 0];
    // A CONNACK that takes packets of 40 bytes at most.
    let small5: &[u8] = &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 40];
    let long = "x".repeat(100);
    /// What the broker answers, the arguments, the exit code, and what is said.
    type Case<'a> = ([&'static [u8]; 2], &'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 8] = [
        (
            [&[0x20, 2, 0, 5], &[]],
            &["pub", "-t", "a", "-m", "b"],
            5,
            "Connection error: Connection Refused: not authorised.\n",
        ),
        (
            [&[0x20, 3, 0, 0x87, 0], &[]],
            &["sub", "-V", "5", "-t", "a"],
            135,
            "Connection error: Not authorized\n",
        ),
        (
            [welcome5, &[0x40, 10, 0, 1, 0x97, 6, 0x1f, 0, 3, b'o', b'h', b'!']],
            &["pub", "-V", "5", "-t", "a", "-m", "b", "-q", "1"],
            1,
            "Warning: Publish 1 failed: Quota exceeded (oh!).\n",
        ),
        (
            [welcome5, &[0xe0, 2, 0x8e, 0]],
            &["pub", "-V", "5", "-t", "a", "-m", "b", "-q", "1"],
            7,
            "Error: the broker ended the connection: Session taken over\n",
        ),
        (
            [small5, &[]],
            &["pub", "-V", "5", "-t", "a", "-m", &long],
            25,
            "Error: the message makes a packet of 106 bytes; the broker takes 40\n",
        ),
        (
            [welcome, &[]],
            &["pub", "-t", "a", "-m", "b", "-q", "1", "-W", "0.5"],
            27,
            "Timed out: no answer within 0.5 s\n",
        ),
        (
            [welcome, &[0x90, 3, 0, 1, 0x80]],
            &["sub", "-t", "a"],
            1,
            "All subscription requests were denied.\n",
        ),
        (
            [welcome, &[0x77, 0]],
            &["pub", "-t", "a", "-m", "b", "-q", "1"],
            2,
            "Error: the broker broke the protocol: ",
        ),
    ];
    for (answers, arguments, code, text) in cases {
        let port = scripted(answers);
        let (command, rest) = arguments.split_first().unwrap();
        let output = Dir::new().run(&[&[*command, "-h", "127.0.0.1", "-p", &port], rest].concat());
        assert_eq!(output.code, code, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(text), "{arguments:?}: {}", output.err);
        let port = scripted(answers);
        let quiet = Dir::new().run(&[&[*command, "-h", "127.0.0.1", "-p", &port, "--quiet"], rest].concat());
        assert_eq!((quiet.code, quiet.err.as_str()), (code, ""));
    }
}

#[test]
fn arguments_that_can_not_work_are_refused_before_anything_is_sent() {
    for (arguments, text) in [
        (&["pub", "-t", "a"][..], "--message"),
        (&["pub", "-t", "a", "-m", "x", "-n"], "cannot be used with"),
        (&["pub", "-m", "x"], "--topic"),
        (&["pub", "-t", "a/#", "-m", "x"], "Invalid publish topic 'a/#'"),
        (&["sub", "-t", "a/#/b"], "Invalid subscription topic 'a/#/b'"),
        (&["sub", "-c", "-t", "a"], "needs a client id (-i)"),
        (&["sub", "-t", "a", "-P", "x"], "needs a user name"),
        (&["sub", "-t", "a", "-F", "%y"], "no %y"),
        (
            &["sub", "-t", "a", "-D", "subscribe", "topic-alias", "1"],
            "no property \"topic-alias\"",
        ),
        (&["pub", "-t", "a", "-m", "x", "--cafile", "ca.pem"], "ca.pem"),
        (&["sub", "-t", "a", "--insecure"], "TLS needs --cafile"),
        (&["sub", "-t", "a", "--cafile", "x", "--cert", "x"], "--key"),
        (&["sub", "-t", "a", "--cafile", "x", "--psk", "00"], "pre-shared"),
        (
            &["sub", "-t", "a", "--cafile", "x", "--tls-version", "tlsv1.1"],
            "tlsv1.2 or tlsv1.3",
        ),
        (&["pub", "-m", "x", "-L", "mqtt://broker/"], "name the topic"),
    ] {
        let output = Dir::new().run(arguments);
        assert_eq!(output.code, 64, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(text), "{arguments:?}: {}", output.err);
    }
}

#[test]
fn a_broker_that_is_not_there_is_told_and_one_that_comes_back_is_found_again() {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    drop(held);
    let output = Dir::new().run(&["pub", "-h", "127.0.0.1", "-p", &port, "-t", "a", "-m", "b"]);
    assert_eq!(
        (output.code, output.err.as_str()),
        (1, "Error: Connection refused\n")
    );

    // The first connection is closed after its SUBACK, the second has a message.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = std::thread::spawn(move || {
        for last in [&[][..], &[0x30, 4, 0, 1, b'a', b'x']] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut packet = [0; 1024];
            for answer in [&[0x20, 2, 0, 0][..], &[0x90, 3, 0, 1, 0]] {
                assert!(stream.read(&mut packet).unwrap() > 0);
                stream.write_all(answer).unwrap();
            }
            stream.write_all(last).unwrap();
            if !last.is_empty() {
                let _ = stream.read(&mut packet);
            }
        }
    });
    let output = Dir::new().run(&[
        "sub",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        "a",
        "-C",
        "1",
        "-W",
        "30",
    ]);
    assert_eq!((output.code, output.out.as_str()), (0, "x\n"), "{}", output.err);
    assert!(output.err.contains("The connection was lost. Connecting again."));
    peer.join().unwrap();
}
