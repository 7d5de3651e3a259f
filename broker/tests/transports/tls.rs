//! TLS, as clients see it: versions, certificates on both ends, files that change, and peers that do not keep to it.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::config::{ClientCert, ListenerConfig, TlsConfig};
use forebay_broker::tls::check;
use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};

use crate::certificates::{Authority, Files, Leaf, PAST, soon};
use crate::limits::join_by_hand;
use crate::support::{
    CONNACK, DEADLINE, Node, SUBACK, Stream, connect, connect_as, publish, subscribe, websocket,
};

fn with(files: &Files) -> Node {
    Node::start(|listener| listener.tls = Some(files.tls()))
}

fn connection(config: Arc<rustls::ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap()
}

/// Without a certificate of its own.
fn stream(node: &Node, files: &Files) -> Stream {
    node.stream()
        .over_tls(connection(files.client(&[&TLS13, &TLS12], None)))
}

fn join(mut stream: Stream, id: &str) -> Option<Stream> {
    stream.write(&connect(id));
    (stream.packet()? == CONNACK).then_some(stream)
}

fn joined(node: &Node, files: &Files, id: &str) -> Stream {
    join(stream(node, files), id).expect("let in")
}

/// Asks for a large message of its own, back again.
fn converse(stream: &mut Stream) {
    stream.write(&subscribe("large"));
    assert_eq!(stream.packet().unwrap(), SUBACK);
    let payload: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    stream.write(&publish("large", 7, &payload));
    let mut packets = [stream.packet().unwrap(), stream.packet().unwrap()];
    packets.sort_by_key(Vec::len);
    assert_eq!(packets[0], [0x40, 2, 0, 7]);
    assert!(packets[1].ends_with(&payload));
    // The end is said in both layers.
    stream.write(&[0xC0, 0, 0xE0, 0]);
    assert_eq!(stream.packet().unwrap(), [0xD0, 0]);
    assert!(stream.packet().is_none());
}

#[test]
fn clients_of_both_versions_hold_a_conversation() {
    let files = Files::new();
    let node = with(&files);
    for version in [&TLS12, &TLS13] {
        // Several: some live on the other worker and are handed over.
        for number in 0..6 {
            let stream = node.stream().over_tls(connection(files.client(&[version], None)));
            let mut stream = join(stream, &format!("c{number}")).expect("let in");
            assert_eq!(stream.tls().conn.protocol_version(), Some(version.version));
            converse(&mut stream);
        }
    }
}

#[test]
fn only_tls_1_3_is_only_that() {
    let files = Files::new();
    let node = Node::start(|listener| {
        listener.tls = Some(TlsConfig {
            only_tls13: true,
            ..files.tls()
        });
    });
    let old = node.stream().over_tls(connection(files.client(&[&TLS12], None)));
    assert!(join(old, "old").is_none());
    joined(&node, &files, "new");
}

#[test]
fn who_comes_back_with_a_ticket_saves_the_certificate_and_who_must_show_one_gets_none() {
    let files = Files::new();
    for (client_cert, resumes) in [(ClientCert::None, true), (ClientCert::Optional, false)] {
        let node = Node::start(|listener| {
            listener.tls = Some(TlsConfig {
                client_cert,
                ..files.tls()
            });
        });
        for version in [&TLS12, &TLS13] {
            let config = files.client(&[version], None);
            let mut kinds = (0..2).map(|_| {
                let mut stream = join(node.stream().over_tls(connection(config.clone())), "c").unwrap();
                stream.write(&[0xC0, 0]);
                stream.packet().unwrap(); // the ticket came before it
                stream.tls().conn.handshake_kind().unwrap()
            });
            assert_eq!(kinds.next(), Some(rustls::HandshakeKind::Full));
            let expected = match resumes {
                true => rustls::HandshakeKind::Resumed,
                false => rustls::HandshakeKind::Full,
            };
            assert_eq!(kinds.next(), Some(expected), "{client_cert:?} {version:?}");
        }
    }
}

#[test]
fn websocket_lies_over_tls() {
    let files = Files::new();
    let node = Node::start(|listener| {
        listener.transport = websocket();
        listener.tls = Some(files.tls());
    });
    for number in 0..6 {
        let mut client = join_by_hand(stream(&node, &files), &format!("c{number}"));
        // Ping of MQTT, then a close of WebSocket, both masked with zeros.
        client.write(&[0x82, 0x82, 0, 0, 0, 0, 0xC0, 0]);
        client.text_until("\u{2}\u{FFFD}\0");
        client.write(&[0x88, 0x80, 0, 0, 0, 0]);
        client.text_to_end();
    }
}

#[test]
fn the_header_of_a_load_balancer_comes_before_it_in_the_clear() {
    let files = Files::new();
    let node = Node::start(|listener| {
        listener.tls = Some(files.tls());
        listener.proxy_protocol = true;
    });
    for (header, expected) in [
        ("PROXY TCP4 127.0.0.9 10.0.0.1 12345 8883\r\n", CONNACK),
        ("PROXY TCP4 203.0.113.7 10.0.0.1 12345 8883\r\n", [0x20, 2, 0, 5]), // not on this machine
    ] {
        let mut plain = node.stream();
        plain.write(header.as_bytes());
        let mut stream = plain.over_tls(connection(files.client(&[&TLS13], None)));
        stream.write(&connect("id"));
        assert_eq!(stream.packet().unwrap(), expected);
    }
    // In one write with what follows: nothing of it is lost.
    let mut client = connection(files.client(&[&TLS13], None));
    let mut bytes = b"PROXY UNKNOWN\r\n".to_vec();
    client.write_tls(&mut bytes).unwrap();
    let mut plain = node.stream();
    plain.write(&bytes);
    assert!(join(plain.over_tls(client), "id").is_some());
}

/// Whether a client that shows `own` is let in; also when its own handshake was done before the refusal came.
fn is_let_in(
    node: &Node,
    files: &Files,
    own: Option<&Leaf>,
    version: &'static rustls::SupportedProtocolVersion,
) -> bool {
    join(
        node.stream().over_tls(connection(files.client(&[version], own))),
        "id",
    )
    .is_some()
}

#[test]
fn client_certificates_are_as_the_listener_wants_them() {
    let files = Files::new();
    files.write("crl.pem", &files.authority.list(&[66], files.far()));
    let good = files.authority.leaf("device-1", 65, files.far());
    let revoked = files.authority.leaf("device-2", 66, files.far());
    let expired = files.authority.leaf("device-3", 67, PAST);
    let foreign = Authority::new("Another authority").leaf("device-1", 65, files.far());
    for (client_cert, crl, expected) in [
        (ClientCert::None, false, [true, true, true, true, true]),
        (ClientCert::Optional, false, [true, true, true, false, false]),
        (ClientCert::Required, false, [false, true, true, false, false]),
        (ClientCert::Optional, true, [true, true, false, false, false]),
        (ClientCert::Required, true, [false, true, false, false, false]),
    ] {
        let node = Node::start(|listener| {
            listener.tls = Some(TlsConfig {
                client_cert,
                crl: crl.then(|| files.path("crl.pem")),
                ..files.tls()
            });
        });
        let shown = [None, Some(&good), Some(&revoked), Some(&expired), Some(&foreign)];
        for version in [&TLS12, &TLS13] {
            let taken = shown.map(|own| is_let_in(&node, &files, own, version));
            assert_eq!(taken, expected, "{client_cert:?} with a list: {crl}, {version:?}");
        }
    }
}

#[test]
fn what_is_not_tls_is_closed_at_once_and_others_go_on() {
    let files = Files::new();
    let node = with(&files);
    let mut healthy = joined(&node, &files, "healthy");
    let start = Instant::now();
    let record = |kind: u8, len: u16, bytes: usize| {
        let mut record = vec![kind, 3, 3];
        record.extend_from_slice(&len.to_be_bytes());
        record.resize(5 + bytes, 1);
        record
    };
    let plain: [Vec<u8>; 4] = [
        connect("plain"),
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 3],
        vec![0x80; 100_000],
    ];
    for bytes in plain {
        let mut stream = node.stream();
        stream.write(&bytes);
        assert!(stream.is_closed(), "{:?}", &bytes[..3]);
    }
    let broken = [
        record(0x16, 16, 16),                                     // no message of a handshake
        record(0x16, 0xFFFF, 100),                                // too long
        record(0x17, 100, 100),                                   // data before a handshake
        record(0x15, 2, 2),                                       // an alert that is none
        [record(0x16, 4, 0), vec![1, 0xFF, 0xFF, 0xFF]].concat(), // a ClientHello of 16 MiB
    ];
    for bytes in broken {
        let mut stream = node.stream();
        stream.write(&bytes);
        let said = stream.text_to_end();
        assert!(said.is_empty() || said.starts_with('\u{15}'), "{said:?}"); // an alert
    }
    // A message that is begun, and then what is no record: told, not a panic.
    let begun = [0x16, 3, 1, 0, 9, 1, 0, 1, 0, 3, 3, 1, 1, 1];
    for bad in [record(0x16, 0xFFFF, 10), record(0x99, 4, 4)] {
        let mut stream = node.stream();
        stream.write(&begun);
        stream.write(&bad);
        let said = stream.text_to_end();
        assert!(said.starts_with('\u{15}'), "{bad:?}: {said:?}");
    }
    assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    healthy.write(&[0xC0, 0]);
    assert_eq!(healthy.packet().unwrap(), [0xD0, 0]);
}

#[test]
fn a_handshake_in_single_bytes_is_one_and_what_is_broken_later_ends_it() {
    let files = Files::new();
    let node = with(&files);
    let mut client = connection(files.client(&[&TLS13], None));
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut plain = node.stream();
    for byte in hello {
        plain.write(&[byte]);
    }
    let mut stream = join(plain.over_tls(client), "slow").expect("let in");
    // A record that was changed on its way, and one that is only begun.
    let tls = stream.tls();
    tls.sock.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
    tls.sock.write_all(&[9; 20]).unwrap();
    assert!(stream.packet().is_none());
    let mut stream = joined(&node, &files, "cut");
    stream.tls().sock.write_all(&[0x17, 3, 3, 0x40]).unwrap();
    drop(stream);
    joined(&node, &files, "cut");
}

#[test]
fn new_keys_on_the_way_change_nothing() {
    let files = Files::new();
    let node = with(&files);
    let mut stream = join(
        node.stream().over_tls(connection(files.client(&[&TLS13], None))),
        "id",
    )
    .unwrap();
    for id in 1..20 {
        stream.tls().conn.refresh_traffic_keys().unwrap();
        stream.write(&publish("a", id, b"x"));
        assert_eq!(stream.packet().unwrap(), [0x40, 2, 0, id as u8]);
    }
}

#[test]
fn who_is_taken_over_reads_so_over_tls() {
    let files = Files::new();
    let node = with(&files);
    for _ in 0..5 {
        let mut first = stream(&node, &files);
        first.write(&connect_as(5, "twice"));
        assert_eq!(first.packet().unwrap()[3], 0);
        let mut second = stream(&node, &files);
        second.write(&connect_as(5, "twice"));
        assert_eq!(second.packet().unwrap()[3], 0);
        let disconnect = first.packet().unwrap();
        assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x8E));
        assert!(first.packet().is_none());
    }
}

/// The serial number of the certificate that a new client is shown.
fn serial(node: &Node, files: &Files) -> u8 {
    let mut stream = joined(node, files, "serial");
    let der = stream.tls().conn.peer_certificates().unwrap()[0].to_vec();
    // [0] { version 3 }, then INTEGER of one byte.
    let at = der
        .windows(7)
        .position(|part| part[..6] == [0xA0, 3, 2, 1, 2, 2])
        .unwrap();
    assert_eq!(der[at + 6], 1);
    der[at + 7]
}

#[test]
fn files_are_read_again_and_a_faulty_one_leaves_all_as_it_was() {
    let files = Files::new();
    let own = files.authority.leaf("device", 65, files.far());
    let node = Node::start(|listener| {
        listener.tls = Some(TlsConfig {
            client_cert: ClientCert::Optional,
            crl: Some(files.path("crl.pem")),
            ..files.tls()
        });
    });
    let mut standing = joined(&node, &files, "standing");
    assert_eq!(serial(&node, &files), 1);
    files.serve(2);
    assert_eq!(serial(&node, &files), 1, "not before it is asked to");
    assert_eq!(node.broker().reload_tls(), []);
    assert_eq!(serial(&node, &files), 2);
    assert!(is_let_in(&node, &files, Some(&own), &TLS13));
    // A certificate without its key, with a new list: none of the two holds.
    let leaf = files.authority.leaf("localhost", 3, files.far());
    files.write("cert.pem", &leaf.cert);
    files.write("crl.pem", &files.authority.list(&[65], files.far()));
    let faults = node.broker().reload_tls();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].text.contains("not the key of the certificate"),
        "{faults:?}"
    );
    assert_eq!(serial(&node, &files), 2);
    assert!(is_let_in(&node, &files, Some(&own), &TLS13));
    files.write("key.pem", &leaf.key);
    assert_eq!(node.broker().reload_tls(), []);
    assert_eq!(serial(&node, &files), 3);
    assert!(!is_let_in(&node, &files, Some(&own), &TLS13));
    standing.write(&[0xC0, 0]);
    assert_eq!(standing.packet().unwrap(), [0xD0, 0], "who stands goes on");
}

#[test]
fn what_is_wrong_with_a_file_is_named_and_no_key_is_told() {
    let files = Files::new();
    let key = std::fs::read_to_string(files.path("key.pem")).unwrap();
    let config = TlsConfig {
        client_cert: ClientCert::Required,
        crl: Some(files.path("crl.pem")),
        ..files.tls()
    };
    assert!(check(&config).unwrap().notices.is_empty());
    let middle = key.len() / 2;
    let other = files.authority.leaf("localhost", 2, files.far());
    let cut = format!("{}*{}", &key[..middle], &key[middle + 1..]);
    for (name, text, expected) in [
        ("cert.pem", "", "has no certificate"),
        ("cert.pem", "\u{1}\u{2}\u{3}", "has no certificate"),
        ("cert.pem", &key, "has no certificate"),
        ("cert.pem", &other.cert, "is not the key of the certificate"),
        ("key.pem", &other.cert, "has no private key"),
        ("key.pem", &cut, "has no private key"),
        (
            "key.pem",
            &key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE")
                .replace("END PRIVATE", "END ENCRYPTED PRIVATE"),
            "is encrypted",
        ),
        ("ca.pem", &key, "has no certificate"),
        ("crl.pem", &other.cert, "has no list of revoked certificates"),
    ] {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        files.write(name, text);
        let faults = check(&config).unwrap_err();
        assert_eq!(faults.len(), 1, "{name} {text}: {faults:?}");
        let told = format!("{faults:?} {}", faults[0]);
        assert!(faults[0].text.contains(expected), "{told}");
        let secret = key.lines().filter(|line| !line.starts_with('-'));
        assert!(
            secret.into_iter().all(|line| !told.contains(&line[..16])),
            "{told}"
        );
        files.write(name, &before);
    }
    for name in ["cert.pem", "key.pem", "ca.pem", "crl.pem"] {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        std::fs::remove_file(files.path(name)).unwrap();
        let faults = check(&config).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].text.contains("No such file"),
            "{faults:?}"
        );
        assert_eq!(faults[0].file, files.path(name));
        files.write(name, &before);
    }
}

#[test]
fn what_has_expired_or_will_soon_is_worth_a_word() {
    let files = Files::new();
    let config = TlsConfig {
        client_cert: ClientCert::Required,
        crl: Some(files.path("crl.pem")),
        ..files.tls()
    };
    for (day, expected) in [(PAST, "expired on 2021-01-01"), (soon(), "expires on ")] {
        let leaf = files.authority.leaf("localhost", 1, day);
        files.write("cert.pem", &leaf.cert);
        files.write("key.pem", &leaf.key);
        files.write("crl.pem", &files.authority.list(&[], day));
        let notices = check(&config).unwrap().notices;
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(
            notices.iter().all(|notice| notice.contains(expected)),
            "{notices:?}"
        );
    }
    // A list that is over says nothing of anybody: nobody is let in by it.
    files.serve(1);
    files.write("crl.pem", &files.authority.list(&[], PAST));
    let node = Node::start(|listener: &mut ListenerConfig| listener.tls = Some(config.clone()));
    let own = files.authority.leaf("device", 65, files.far());
    assert!(!is_let_in(&node, &files, Some(&own), &TLS13));
}

#[test]
fn a_client_that_never_ends_its_handshake_is_closed_by_the_deadline() {
    let files = Files::new();
    let node = Node::start_all(
        |listeners| listeners[0].tls = Some(files.tls()),
        |limits| limits.connect_timeout_s = 1,
    );
    let mut hello = Vec::new();
    connection(files.client(&[&TLS13], None))
        .write_tls(&mut hello)
        .unwrap();
    let start = Instant::now();
    let mut half: Vec<Stream> = [0, 1, hello.len() / 2, hello.len()]
        .map(|len| {
            let mut stream = node.stream();
            stream.write(&hello[..len]);
            stream
        })
        .into();
    // Its handshake is done, and then nothing comes.
    let mut silent = stream(&node, &files);
    let tls = silent.tls();
    tls.conn.complete_io(&mut tls.sock).unwrap();
    for stream in &mut half {
        stream.text_to_end();
    }
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(900) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}

/// `cargo test --profile quick -p forebay-broker --test transports cost_of_a_handshake -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost_of_a_handshake() {
    const COUNT: u32 = 300;
    let files = Files::new();
    let own = files.authority.leaf("device", 65, files.far());
    for (name, client_cert, resumed) in [
        ("warm", ClientCert::None, false),
        ("TLS 1.3, P-256", ClientCert::None, false),
        ("the same with a ticket", ClientCert::None, true),
        ("the same with client certificates", ClientCert::Required, false),
    ] {
        let node = Node::start(|listener| {
            listener.tls = Some(TlsConfig {
                client_cert,
                ..files.tls()
            });
        });
        let kept = files.client(&[&TLS13], Some(&own));
        let before = cpu_of_workers();
        for _ in 0..COUNT {
            let config = match resumed {
                true => kept.clone(),
                false => files.client(&[&TLS13], Some(&own)),
            };
            let mut stream = join(node.stream().over_tls(connection(config)), "id").unwrap();
            stream.write(&[0xC0, 0]);
            stream.packet().unwrap();
        }
        let cost = (cpu_of_workers() - before) / COUNT;
        println!("{name}: {cost:?} of the broker's CPU from accept to PINGRESP");
    }
}

/// The time that this process's threads of workers have run.
fn cpu_of_workers() -> Duration {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("worker-") {
            let stat = std::fs::read_to_string(path.join("schedstat")).unwrap();
            all += Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap());
        }
    }
    all
}
