//! A broker with one listener or more, and a stream of bytes to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_broker::Broker;
use forebay_broker::auth::ListenerRules;
use forebay_broker::classify::{Classify, NoRoutes};
use forebay_broker::config::{Bind, Config, Limits, ListenerConfig, TransportConfig, WebSocketConfig};

pub const DEADLINE: Duration = Duration::from_secs(10);

/// Success, no session.
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn websocket() -> TransportConfig {
    TransportConfig::WebSocket(WebSocketConfig::default())
}

pub struct Node {
    broker: Option<Broker>,
    pub addresses: Vec<Bind>,
}

impl Node {
    /// With one listener.
    pub fn start(change: impl FnOnce(&mut ListenerConfig)) -> Self {
        Self::start_all(|listeners| change(&mut listeners[0]), |_| {})
    }

    pub fn start_all(
        listeners: impl FnOnce(&mut Vec<ListenerConfig>),
        limits: impl FnOnce(&mut Limits),
    ) -> Self {
        Self::try_start(listeners, limits).unwrap()
    }

    pub fn try_start(
        change: impl FnOnce(&mut Vec<ListenerConfig>),
        limit: impl FnOnce(&mut Limits),
    ) -> Result<Self, forebay_broker::StartError> {
        Self::try_start_by(Arc::new(NoRoutes), change, limit)
    }

    /// Where `classify` says what becomes of a publish.
    pub fn try_start_by(
        classify: Arc<dyn Classify>,
        change: impl FnOnce(&mut Vec<ListenerConfig>),
        limit: impl FnOnce(&mut Limits),
    ) -> Result<Self, forebay_broker::StartError> {
        let mut config = Config {
            workers: 2,
            listeners: vec![ListenerConfig::default()],
            ..Config::default()
        };
        change(&mut config.listeners);
        limit(&mut config.limits);
        let mut broker = Broker::start(config, classify, Arc::new(ListenerRules))?;
        broker.open().unwrap();
        let addresses = broker.addresses().iter().map(|(_, bind)| bind.clone()).collect();
        Ok(Self {
            broker: Some(broker),
            addresses,
        })
    }

    /// A new stream to the first listener.
    pub fn stream(&self) -> Stream {
        Stream::tcp(self.addresses[0].tcp().unwrap())
    }

    pub fn try_join(&self, id: &str) -> Option<Stream> {
        let mut stream = self.stream();
        stream.write(&connect(id));
        (stream.packet()? == CONNACK).then_some(stream)
    }

    pub fn joined(&self, id: &str) -> Stream {
        self.try_join(id).expect("let in")
    }
}

impl Node {
    /// The broker itself.
    pub fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop(Duration::from_secs(5));
        }
    }
}

/// CONNECT of 3.1.1, clean.
pub fn connect(id: &str) -> Vec<u8> {
    connect_as(4, id)
}

/// CONNECT of the protocol level, clean.
pub fn connect_as(level: u8, id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(if level == 3 { "MQIsdp" } else { "MQTT" }, &mut body);
    body.extend_from_slice(&[level, 2, 0, 60]);
    if level == 5 {
        body.push(0);
    }
    text(id, &mut body);
    packet(0x10, &body)
}

/// SUBSCRIBE of 3.1.1 at QoS 1 with packet id 1.
pub fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(filter, &mut body);
    body.push(1);
    packet(0x82, &body)
}

pub const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 1];

/// PUBLISH of 3.1.1 at QoS 1.
pub fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(topic, &mut body);
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut len = body.len();
    loop {
        let low = (len % 128) as u8;
        len /= 128;
        out.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// Takes the first whole packet off `read`.
pub fn take_packet(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut len = 0;
    for (index, byte) in read.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = 2 + index + len;
            return (read.len() >= whole).then(|| read.drain(..whole).collect());
        }
    }
    None
}

/// The same with TLS.
pub type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Unix(UnixStream),
}

/// A client's end.
pub struct Stream {
    socket: Socket,
    read: Vec<u8>,
}

impl Stream {
    pub fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket: Socket::Tcp(stream),
            read: Vec::new(),
        }
    }

    /// This stream with TLS over it; the handshake comes with what is written first.
    pub fn over_tls(self, connection: rustls::ClientConnection) -> Self {
        let stream = TlsStream::new(connection, self.into_tcp());
        Self {
            socket: Socket::Tls(Box::new(stream)),
            read: Vec::new(),
        }
    }

    /// The socket alone: what the client holds for TLS is given back, and nothing is said of it.
    pub fn without_tls(self) -> Self {
        let socket = match self.socket {
            Socket::Tls(stream) => Socket::Tcp(stream.into_parts().1),
            socket => socket,
        };
        Self { socket, ..self }
    }

    /// The TLS of it.
    pub fn tls(&mut self) -> &mut TlsStream {
        match &mut self.socket {
            Socket::Tls(stream) => stream,
            _ => panic!("no TLS"),
        }
    }

    pub fn unix(path: &Path) -> Self {
        Self {
            socket: Socket::Unix(UnixStream::connect(path).unwrap()),
            read: Vec::new(),
        }
    }

    /// The TCP socket itself.
    pub fn into_tcp(self) -> TcpStream {
        match self.socket {
            Socket::Tcp(stream) => stream,
            _ => panic!("no plain TCP"),
        }
    }

    /// Says that nothing more comes, in each layer.
    pub fn end(&mut self) {
        let socket = match &mut self.socket {
            Socket::Tcp(stream) => stream,
            Socket::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                &mut stream.sock
            }
            Socket::Unix(_) => panic!("no TCP"),
        };
        socket.shutdown(Shutdown::Write).unwrap();
    }

    /// What fails is seen when it is read.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        };
    }

    /// Reads once: `Some(0)` is the end, `None` that nothing came in time.
    fn read_within(&mut self, within: Duration) -> Option<usize> {
        let mut buffer = [0; 4096];
        let read = match &mut self.socket {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(Some(within)).unwrap();
                stream.read(&mut buffer)
            }
            Socket::Tls(stream) => {
                stream.sock.set_read_timeout(Some(within)).unwrap();
                stream.read(&mut buffer)
            }
            Socket::Unix(stream) => {
                stream.set_read_timeout(Some(within)).unwrap();
                stream.read(&mut buffer)
            }
        };
        match read {
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                Some(count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => Some(0),
        }
    }

    /// The next packet; `None` at the end.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(packet) = take_packet(&mut self.read) {
                return Some(packet);
            }
            if self.read_within(DEADLINE).expect("something comes, or the end") == 0 {
                return None;
            }
        }
    }

    /// All that comes up to the end, as text.
    pub fn text_to_end(&mut self) -> String {
        while self.read_within(DEADLINE).expect("the end comes") > 0 {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// What comes up to `end`, as text.
    pub fn text_until(&mut self, end: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if text.contains(end) {
                return text;
            }
            let count = self.read_within(DEADLINE).expect("something comes");
            assert!(count > 0, "closed after {text:?}");
        }
    }

    pub fn is_closed(&mut self) -> bool {
        self.is_closed_within(DEADLINE)
    }

    /// Whether the other end closes within this time, without a word.
    pub fn is_closed_within(&mut self, within: Duration) -> bool {
        let before = self.read.len();
        let closed = self.read_within(within) == Some(0);
        assert_eq!(before, self.read.len(), "bytes came: {:?}", self.read);
        closed
    }
}
