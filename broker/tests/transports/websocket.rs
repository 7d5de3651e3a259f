//! MQTT over WebSocket: a client that others wrote (tungstenite's), and handshakes and frames made by hand.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use forebay_broker::config::{Limits, TransportConfig, WebSocketConfig};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Error, Message, WebSocket};

use crate::support::{
    CONNACK, DEADLINE, Node, SUBACK, Stream, connect, publish, subscribe, take_packet, websocket,
};

/// A client's end of a WebSocket that carries MQTT.
pub struct Client {
    websocket: WebSocket<TcpStream>,
    read: Vec<u8>,
}

impl Client {
    /// Asks for `/mqtt` with `headers`; else the status of the refusal.
    pub fn upgrade(stream: Stream, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        Self::upgrade_at("/mqtt", stream, headers)
    }

    fn upgrade_at(path: &str, stream: Stream, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let stream = stream.into_tcp();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        match tungstenite::client(request, stream) {
            Ok((websocket, response)) => {
                let answered = response.headers().get("sec-websocket-protocol").unwrap();
                let offered = headers
                    .iter()
                    .any(|(_, value)| value.contains(answered.to_str().unwrap()));
                assert!(offered, "{answered:?}");
                Ok(Self {
                    websocket,
                    read: Vec::new(),
                })
            }
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn open(node: &Node) -> Self {
        Self::upgrade(node.stream(), &[("sec-websocket-protocol", "mqtt")]).unwrap()
    }

    fn joined(node: &Node, id: &str) -> Self {
        let mut client = Self::open(node);
        client.send(&connect(id));
        assert_eq!(client.packet(), CONNACK);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.websocket.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// One message in frames that end at each of `ends`.
    fn send_in_frames(&mut self, bytes: &[u8], ends: &[usize]) {
        let mut from = 0;
        for (index, end) in ends.iter().chain([&bytes.len()]).enumerate() {
            let data = if index == 0 { Data::Binary } else { Data::Continue };
            let last = index == ends.len();
            let frame = Frame::message(bytes[from..*end].to_vec(), OpCode::Data(data), last);
            self.websocket.send(Message::Frame(frame)).unwrap();
            from = *end;
        }
    }

    /// The next message of any kind.
    fn message(&mut self) -> Result<Message, Error> {
        self.websocket.read()
    }

    pub fn packet(&mut self) -> Vec<u8> {
        loop {
            if let Some(packet) = take_packet(&mut self.read) {
                return packet;
            }
            match self.message().unwrap() {
                Message::Binary(bytes) => self.read.extend_from_slice(&bytes),
                other => panic!("not of MQTT: {other}"),
            }
        }
    }

    /// The code with which the broker closes; then it closes the socket.
    fn close_code(&mut self) -> CloseCode {
        let code = loop {
            match self.message() {
                Ok(Message::Close(Some(frame))) => break frame.code,
                Ok(_) => {}
                Err(error) => panic!("no close came: {error}"),
            }
        };
        while self.message().is_ok() {}
        code
    }
}

/// A request as a browser sends it.
pub fn request(subprotocol: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
}

fn node() -> Node {
    Node::start(|listener| listener.transport = websocket())
}

#[test]
fn packets_may_be_split_over_messages_and_frames_at_every_byte() {
    let node = node();
    let all = [
        connect("split"),
        subscribe("s/#"),
        publish("s/1", 9, b"payload"),
        vec![0xC0, 0],
    ]
    .concat();
    let expected = [
        CONNACK.to_vec(),
        SUBACK.to_vec(),
        vec![0x40, 2, 0, 9],
        vec![0xD0, 0],
    ];
    let check = |mut client: Client, at: usize| {
        let mut got: Vec<Vec<u8>> = (0..5).map(|_| client.packet()).collect();
        let message = got
            .iter()
            .position(|packet| packet[0] >> 4 == 3)
            .expect("the message itself");
        assert!(got.remove(message).ends_with(b"payload"), "{at}");
        got.sort_by_key(|packet| expected.iter().position(|other| other == packet));
        assert_eq!(got, expected, "{at}");
    };
    for at in 0..=all.len() {
        let mut client = Client::open(&node);
        client.send(&all[..at]);
        client.send(&all[at..]);
        check(client, at);
        let mut client = Client::open(&node);
        client.send_in_frames(&all, &[at]);
        check(client, at);
    }
    let mut client = Client::open(&node);
    let every: Vec<usize> = (1..all.len()).collect();
    client.send_in_frames(&all, &every);
    check(client, all.len());
    let mut client = Client::open(&node);
    for byte in &all {
        client.send(&[*byte]);
    }
    check(client, all.len());
}

/// Paho for C 1.3 waits for its socket while the rest of a frame is with it already.
#[test]
fn each_packet_comes_in_a_message_of_its_own() {
    let node = node();
    let mut publisher = Client::joined(&node, "pub");
    for (id, size) in [(1, 10), (2, 3_000), (3, 40_000), (4, 10)] {
        let mut retained = publish(&format!("own/{id}"), id, &vec![b'x'; size]);
        retained[0] |= 1;
        publisher.send(&retained);
        assert_eq!(publisher.packet(), [0x40, 2, 0, id as u8]);
    }
    let mut client = Client::open(&node);
    client.send(&[connect("sub"), subscribe("own/#"), vec![0xC0, 0, 0xC0, 0]].concat());
    let mut whole = 0;
    let mut part = Vec::new();
    while whole < 8 {
        let Message::Binary(bytes) = client.message().unwrap() else {
            panic!("not of MQTT")
        };
        part.extend_from_slice(&bytes);
        if take_packet(&mut part).is_some() {
            assert!(part.is_empty(), "the next packet begins in the same message");
            whole += 1;
        }
    }
}

#[test]
fn large_messages_go_through_whole_and_in_order() {
    let node = node();
    let mut subscriber = Client::joined(&node, "sub");
    subscriber.send(&subscribe("big/#"));
    assert_eq!(subscriber.packet(), SUBACK);
    let mut publisher = Client::joined(&node, "pub");
    for (id, size) in [(1, 1), (2, 4_096), (3, 70_000), (4, 900_000), (5, 10)] {
        let payload = vec![id as u8; size];
        publisher.send(&publish("big/one", id, &payload));
        assert_eq!(publisher.packet(), [0x40, 2, 0, id as u8]);
        let message = subscriber.packet();
        assert!(message.ends_with(&payload) && message.len() < size + 32, "{size}");
    }
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let node = node();
    let mut subscriber = Client::joined(&node, "late");
    subscriber.send(&subscribe("late"));
    assert_eq!(subscriber.packet(), SUBACK);
    let mut publisher = Client::joined(&node, "pub");
    for id in 1..=15u16 {
        publisher.send(&publish("late", id, &[id as u8; 500_000]));
        assert_eq!(publisher.packet(), [0x40, 2, 0, id as u8]);
    }
    for id in 1..=15u8 {
        assert!(subscriber.packet().ends_with(&[id; 100]), "{id}");
    }
}

#[test]
fn the_subprotocol_must_be_one_of_mqtt() {
    let node = node();
    let offer = |names: &str| Client::upgrade(node.stream(), &[("sec-websocket-protocol", names)]);
    for names in ["mqtt", "mqttv3.1", "chat, mqtt", "mqttv3.1,mqtt"] {
        let mut client = offer(names).unwrap_or_else(|status| panic!("{names}: {status}"));
        client.send(&connect("id"));
        assert_eq!(client.packet(), CONNACK);
    }
    for names in ["chat", "MQTT", "mqtt5", "mqttv3"] {
        assert_eq!(offer(names).err(), Some(400), "{names}");
    }
    assert_eq!(Client::upgrade(node.stream(), &[]).err(), Some(400));
}

#[test]
fn the_better_of_two_subprotocols_is_answered() {
    let node = node();
    for (offered, answered) in [("mqttv3.1, mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1")] {
        let mut stream = node.stream();
        stream.write(request(offered).as_bytes());
        let answer = stream.text_until("\r\n\r\n").to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(
            answer.contains(&format!("sec-websocket-protocol: {answered}\r\n")),
            "{answer}"
        );
        // The key and answer of RFC 6455 section 1.3.
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    }
}

#[test]
fn other_requests_are_refused_by_their_fault() {
    let node = node();
    let good = request("mqtt");
    let cases = [
        (good.replace("/mqtt", "/other"), "404"),
        (good.replace("GET", "POST"), "400"),
        (good.replace("Version: 13", "Version: 8"), "426"),
        (good.replace("dGhl", ""), "400"),
        (good.replace("Upgrade: websocket\r\n", ""), "400"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), "400"),
        ("GET /mqtt HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        (format!("GET /mqtt HTTP/1.1\r\nX: {}", "x".repeat(20_000)), "431"),
    ];
    for (request, status) in cases {
        let mut stream = node.stream();
        stream.write(request.as_bytes());
        let answer = stream.text_to_end();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {answer}"
        );
    }
    // What is not HTTP at all: a client of plain MQTT, of TLS.
    for bytes in [connect("id"), vec![0x16, 3, 1, 2, 0]] {
        let mut stream = node.stream();
        stream.write(&bytes);
        assert!(stream.is_closed());
    }
}

#[test]
fn a_handshake_in_single_bytes_is_a_handshake_and_a_half_one_ends_by_the_deadline() {
    let node = Node::start_all(
        |listeners| listeners[0].transport = websocket(),
        |limits| limits.connect_timeout_s = 2,
    );
    let mut stream = node.stream();
    for byte in request("mqtt").bytes() {
        stream.write(&[byte]);
    }
    assert!(stream.text_until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    let start = Instant::now();
    let mut half = node.stream();
    half.write(&request("mqtt").as_bytes()[..60]);
    // An upgrade is no CONNECT: the same deadline holds for both.
    let mut silent = Client::open(&node);
    assert!(half.is_closed_within(Duration::from_secs(5)));
    while silent.message().is_ok() {}
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn origins_can_be_named() {
    let origin = "https://fleet.example.com";
    let node = Node::start(|listener| {
        listener.transport = TransportConfig::WebSocket(WebSocketConfig {
            path: "/broker".to_owned(),
            origins: vec![origin.to_owned()],
        });
    });
    let from = |path: &str, origin: Option<&str>| {
        let mut headers = vec![("sec-websocket-protocol", "mqtt")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        Client::upgrade_at(path, node.stream(), &headers).err()
    };
    assert_eq!(from("/broker", Some(origin)), None);
    assert_eq!(from("/broker?token=1", Some(origin)), None);
    assert_eq!(from("/broker", None), None, "no browser");
    assert_eq!(from("/broker", Some("https://evil.example.com")), Some(403));
    assert_eq!(from("/broker", Some("null")), Some(403));
    assert_eq!(from("/mqtt", Some(origin)), Some(404));
}

#[test]
fn every_path_can_be_taken() {
    let node = Node::start(|listener| {
        listener.transport = TransportConfig::WebSocket(WebSocketConfig {
            path: "*".to_owned(),
            origins: Vec::new(),
        });
    });
    for path in ["/", "/mqtt", "/ws?token=1"] {
        let mut client =
            Client::upgrade_at(path, node.stream(), &[("sec-websocket-protocol", "mqtt")]).unwrap();
        client.send(&connect("id"));
        assert_eq!(client.packet(), CONNACK, "{path}");
    }
}

#[test]
fn a_text_message_closes_it() {
    let node = node();
    for joined in [false, true] {
        let mut client = if joined {
            Client::joined(&node, "id")
        } else {
            Client::open(&node)
        };
        client.websocket.send(Message::text("hello")).unwrap();
        if joined {
            assert_eq!(client.close_code(), CloseCode::Unsupported);
        } else {
            while client.message().is_ok() {}
        }
    }
}

#[test]
fn a_message_greater_than_a_packet_may_be_closes_it_before_it_is_read() {
    let node = Node::start_all(
        |listeners| listeners[0].transport = websocket(),
        |limits| limits.max_packet_bytes = 10_000,
    );
    // In one frame, of which the header alone comes.
    let mut client = Client::joined(&node, "one");
    let header = [0x82, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    std::io::Write::write_all(client.websocket.get_mut(), &header).unwrap();
    assert_eq!(client.close_code(), CloseCode::Size);
    // In many, none of them great.
    let mut client = Client::joined(&node, "many");
    let ends: Vec<usize> = (1..20).map(|part| part * 1_000).collect();
    client.send_in_frames(&[0xC0, 0].repeat(10_000), &ends);
    assert_eq!(client.close_code(), CloseCode::Size);
    // As great as it may be.
    let mut client = Client::joined(&node, "fits");
    client.send(&publish("t", 1, &vec![0; 10_000 - 8]));
    assert_eq!(client.packet(), [0x40, 2, 0, 1]);
}

#[test]
fn what_is_no_websocket_frame_closes_it() {
    let node = node();
    let cases: [&[u8]; 5] = [
        &[0x82, 0x02, 0xC0, 0],    // not masked
        &[0xC2, 0x80, 1, 2, 3, 4], // a reserved bit
        &[0x83, 0x80, 1, 2, 3, 4], // a reserved kind
        &[0x80, 0x80, 1, 2, 3, 4], // goes on with nothing
        &[0x09, 0x80, 1, 2, 3, 4], // a ping in parts
    ];
    for case in cases {
        let mut client = Client::joined(&node, "id");
        std::io::Write::write_all(client.websocket.get_mut(), case).unwrap();
        assert_eq!(client.close_code(), CloseCode::Protocol, "{case:?}");
    }
}

#[test]
fn pings_are_answered_and_are_not_mqtts() {
    let node = node();
    let mut client = Client::joined(&node, "id");
    // In the middle of a message, too.
    let ping = |client: &mut Client, text: &str| {
        client
            .websocket
            .send(Message::Ping(text.as_bytes().to_vec().into()))
            .unwrap();
        assert_eq!(
            client.message().unwrap(),
            Message::Pong(text.as_bytes().to_vec().into())
        );
    };
    ping(&mut client, "");
    ping(&mut client, "hello");
    let first = Frame::message(vec![0xC0], OpCode::Data(Data::Binary), false);
    client.websocket.send(Message::Frame(first)).unwrap();
    ping(&mut client, "between");
    let second = Frame::message(vec![0], OpCode::Data(Data::Continue), true);
    client.websocket.send(Message::Frame(second)).unwrap();
    assert_eq!(client.packet(), [0xD0, 0]);
}

#[test]
fn a_flood_of_pings_and_empty_messages_leaves_the_others_served() {
    let node = node();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for flooder in 0..2 {
            let mut client = Client::joined(&node, &format!("flood-{flooder}"));
            let stop = &stop;
            scope.spawn(move || {
                let frames = [
                    [0x89, 0x80, 1, 2, 3, 4],
                    [0x82, 0x80, 1, 2, 3, 4],
                    [0x02, 0x80, 1, 2, 3, 4],
                    [0x80, 0x80, 1, 2, 3, 4],
                ]
                .concat()
                .repeat(1_000);
                let socket = client.websocket.get_mut();
                socket.set_nonblocking(true).unwrap();
                let mut at = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    match std::io::Write::write(socket, &frames[at..]) {
                        Ok(count) => at = (at + count) % frames.len(),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        Err(error) => panic!("the flood ended: {error}"),
                    }
                    let _ = std::io::Read::read(socket, &mut [0; 65_536]);
                }
            });
        }
        let mut healthy = Client::joined(&node, "healthy");
        let start = Instant::now();
        for id in 1..=50u16 {
            healthy.send(&publish("t", id, b"x"));
            assert_eq!(healthy.packet(), [0x40, 2, 0, id as u8]);
        }
        let took = start.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(took < Duration::from_secs(8), "{took:?}");
    });
}

#[test]
fn either_side_may_close() {
    let node = node();
    let mut client = Client::joined(&node, "leaves");
    let frame = CloseFrame {
        code: CloseCode::Away,
        reason: "".into(),
    };
    client.websocket.close(Some(frame)).unwrap();
    assert_eq!(client.close_code(), CloseCode::Away, "echoed");
    // DISCONNECT of MQTT: the broker closes the WebSocket, too.
    let mut client = Client::joined(&node, "says so");
    client.send(&[0xE0, 0]);
    assert_eq!(client.close_code(), CloseCode::Normal);
    // Turned out: by another of its name.
    let mut old = Client::joined(&node, "same");
    let _new = Client::joined(&node, "same");
    assert_eq!(old.close_code(), CloseCode::Normal);
    // Refused.
    let mut client = Client::open(&node);
    client.send(b"\x10\x0c\0\x04MQTT\x09\x02\0\x0a\0\0");
    assert_eq!(client.packet(), [0x20, 2, 0, 1]);
    assert_eq!(client.close_code(), CloseCode::Normal);
    // The broker stops.
    let mut client = Client::joined(&node, "last");
    drop(node);
    assert_eq!(client.close_code(), CloseCode::Normal);
}

#[test]
fn what_a_client_sent_before_its_close_frame_is_handled_though_it_hears_no_answer() {
    let node = Node::start(|listener| {
        listener.transport = websocket();
        let limits = Limits {
            max_message_rate: 2,
            ..Limits::default()
        };
        listener.limits = Some(Box::new(limits));
    });
    let mut watcher = Client::joined(&node, "watcher");
    watcher.send(&subscribe("t"));
    assert_eq!(watcher.packet(), SUBACK);
    let mut client = Client::joined(&node, "slowed");
    let all: Vec<u8> = (1..=4).flat_map(|id| publish("t", id, b"x")).collect();
    client.send(&all);
    client.websocket.close(None).unwrap();
    client.websocket.flush().unwrap();
    for id in 1..=4 {
        assert_eq!(watcher.packet(), [0x32, 6, 0, 1, b't', 0, id, b'x']);
    }
}
