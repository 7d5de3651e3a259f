//! One connection of a client: bytes out and in, packets shown when that was asked for. Every wait has a deadline but
//! the one for the broker's next packet, which is the caller's.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use forebay_broker::codec::{
    self, Connect, Disconnect, Packet, PropertiesBuf, Property, Publish, Reason, Version, Will,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at};

use super::failure::Failure;
use super::options::{Address, Target};
use super::tls;

/// Longest wait for a connection, for its CONNACK, and for a broker that does not read.
const ANSWER: Duration = Duration::from_secs(30);

/// The greatest packet that MQTT has, header included: it is read as it comes, nothing is taken ahead.
const MAX_PACKET_BYTES: usize = 268_435_455 + 5;

/// Bytes read so far are moved to the front of the buffer when so many of it are done with.
const COMPACT_AT: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// What the broker said when it let the client in.
#[derive(Debug, Clone)]
pub struct Granted {
    /// It goes on with an earlier session.
    pub session_present: bool,
    /// QoS 1 and 2 publishes that it takes unacknowledged.
    pub receive_maximum: u16,
    /// Greatest quality of service that it takes.
    pub max_qos: u8,
}

/// A connected client.
pub struct Link {
    stream: Box<dyn Stream>,
    version: Version,
    inbox: Vec<u8>,
    /// Bytes at the front of `inbox` that are done with.
    done: usize,
    outbox: Vec<u8>,
    /// Bytes at the front of `outbox` that are sent.
    sent: usize,
    /// Greatest packet that the broker takes.
    max_packet_bytes: usize,
    /// Seconds; 0: off.
    keep_alive_s: u16,
    debug: bool,
    name: String,
    wrote_at: Instant,
    ping_at: Option<Instant>,
}

impl Link {
    /// Connects and waits until the client is let in.
    pub async fn connect(target: &Target) -> Result<(Self, Granted), Failure> {
        let stream = timeout(ANSWER, open_secured(target))
            .await
            .map_err(|_| Failure::Timeout(Some(ANSWER)))??;
        let name = if target.client_id.is_empty() {
            "null"
        } else {
            &target.client_id
        };
        let mut link = Self {
            stream,
            version: target.version,
            inbox: Vec::new(),
            done: 0,
            outbox: Vec::new(),
            sent: 0,
            max_packet_bytes: MAX_PACKET_BYTES,
            keep_alive_s: target.keep_alive_s,
            debug: target.debug,
            name: name.to_owned(),
            wrote_at: Instant::now(),
            ping_at: None,
        };
        link.push(&Packet::Connect(Connect {
            version: target.version,
            bridge: false,
            clean_start: target.clean,
            keep_alive_s: target.keep_alive_s,
            client_id: &target.client_id,
            will: target.will.as_ref().map(|will| Will {
                topic: &will.topic,
                payload: will.payload.as_bytes(),
                qos: will.qos,
                retain: will.retain,
                properties: target.properties.will.as_properties(),
            }),
            username: target.username.as_deref(),
            password: target.password.as_deref().map(str::as_bytes),
            properties: target.properties.connect.as_properties(),
        }))?;
        link.flush().await?;
        let granted = timeout(ANSWER, link.connack())
            .await
            .map_err(|_| Failure::Timeout(Some(ANSWER)))??;
        Ok((link, granted))
    }

    async fn connack(&mut self) -> Result<Granted, Failure> {
        let frame = self.frame().await?;
        let Packet::Connack(connack) = self.decode(&frame)? else {
            return Err(Failure::Protocol(
                "the answer to CONNECT was no CONNACK".to_owned(),
            ));
        };
        if connack.reason != Reason::Success {
            let detail = connack.properties.reason_string().unwrap_or_default();
            return Err(Failure::Refused(self.version, connack.reason, detail.to_owned()));
        }
        let mut granted = Granted {
            session_present: connack.session_present,
            receive_maximum: connack.properties.receive_maximum().unwrap_or(u16::MAX),
            max_qos: 2,
        };
        if let Some(seconds) = connack.properties.server_keep_alive_s() {
            self.keep_alive_s = seconds;
        }
        if let Some(bytes) = connack.properties.maximum_packet_size() {
            self.max_packet_bytes = usize::try_from(bytes).unwrap_or(MAX_PACKET_BYTES);
        }
        for property in connack.properties.iter() {
            if let Property::MaximumQoS(qos) = property {
                granted.max_qos = qos;
            }
        }
        Ok(granted)
    }

    /// Reads a frame that [`Link::frame`] gave.
    pub fn decode<'a>(&self, frame: &'a [u8]) -> Result<Packet<'a>, Failure> {
        let packet = codec::decode(self.version, frame)?;
        self.show("received", &packet);
        Ok(packet)
    }

    /// Puts a packet into what [`Link::flush`] sends.
    pub fn push(&mut self, packet: &Packet<'_>) -> Result<(), Failure> {
        let before = self.outbox.len();
        codec::encode(self.version, packet, &mut self.outbox)?;
        let bytes = self.outbox.len() - before;
        if bytes > self.max_packet_bytes {
            self.outbox.truncate(before);
            return Err(Failure::TooLarge(bytes, self.max_packet_bytes));
        }
        self.show("sending", packet);
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// Sends what was pushed. May be given up and called again.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER;
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match timeout_at(deadline.into(), self.stream.write(rest)).await {
                Err(_) => return Err(Failure::Timeout(Some(ANSWER))),
                Ok(Ok(0)) => return Err(Failure::Lost),
                Ok(Err(error)) => return Err(Failure::of_stream(&error)),
                Ok(Ok(bytes)) => self.sent += bytes,
            }
            self.wrote_at = Instant::now();
        }
        // TLS may hold some of it back.
        match timeout_at(deadline.into(), self.stream.flush()).await {
            Err(_) => return Err(Failure::Timeout(Some(ANSWER))),
            Ok(flushed) => flushed.map_err(|error| Failure::of_stream(&error))?,
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(())
    }

    /// The next packet that has come whole already.
    pub fn frame_here(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let rest = self.inbox.get(self.done..).unwrap_or_default();
        let Some(frame) = codec::frame_len(rest, MAX_PACKET_BYTES)?.and_then(|len| rest.get(..len)) else {
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.done += frame.len();
        if self.done >= COMPACT_AT {
            self.inbox.drain(..self.done);
            self.done = 0;
        }
        Ok(Some(frame))
    }

    /// Waits for the next packet, and keeps the connection alive meanwhile: one on which a PINGREQ is not answered is
    /// lost. May be given up and called again: nothing is lost by it.
    pub async fn frame(&mut self) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(frame) = self.frame_here()? {
                return Ok(frame);
            }
            self.flush().await?;
            let read = self.stream.read_buf(&mut self.inbox);
            let due = (self.keep_alive_s > 0).then(|| {
                self.ping_at.unwrap_or(self.wrote_at) + Duration::from_secs(self.keep_alive_s.into())
            });
            let read = match due {
                None => Ok(read.await),
                Some(due) => timeout_at(due.into(), read).await,
            };
            match read {
                Ok(Ok(0)) => return Err(Failure::Lost),
                Ok(Err(error)) => return Err(Failure::of_stream(&error)),
                Ok(Ok(_)) => self.ping_at = None,
                Err(_) if self.ping_at.is_some() => return Err(Failure::Lost),
                Err(_) => {
                    self.ping_at = Some(Instant::now());
                    self.push(&Packet::Pingreq)?;
                }
            }
        }
    }

    /// Says good-bye. That it is not heard is no failure any more.
    pub async fn disconnect(mut self, properties: &PropertiesBuf) {
        let packet = Packet::Disconnect(Disconnect {
            reason: Reason::Success,
            properties: properties.as_properties(),
        });
        if self.push(&packet).is_ok() && self.flush().await.is_ok() {
            let _ = timeout(ANSWER, self.stream.shutdown()).await;
        }
    }

    fn show(&self, way: &str, packet: &Packet<'_>) {
        if self.debug {
            // Whoever does not read this has asked for it in vain: no reason to end.
            let _ = writeln!(
                std::io::stdout(),
                "Client {} {way} {}",
                self.name,
                describe(packet)
            );
        }
    }
}

/// A stream to the broker, with TLS over it where that was asked for.
async fn open_secured(target: &Target) -> Result<Box<dyn Stream>, Failure> {
    let stream = open(&target.address).await?;
    let Some(tls) = &target.tls else {
        return Ok(stream);
    };
    let host = match &target.address {
        Address::Tcp(host, ..) => host,
        Address::Unix(_) => "localhost",
    };
    let name = tls::name(host).map_err(Failure::Usage)?;
    match tls.connector().connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match Failure::of_stream(&error) {
            Failure::Lost => {
                Failure::Tls("the broker closed the connection; does it speak TLS on this port?".to_owned())
            }
            failure => failure,
        }),
    }
}

async fn open(address: &Address) -> Result<Box<dyn Stream>, Failure> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Unreachable)?;
            Ok(Box::new(stream))
        }
        Address::Tcp(host, port, bind) => {
            let found = tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(Failure::Lookup)?;
            let mut last = std::io::Error::other("the host has no address of the kind that -A asks for");
            for address in found {
                let fits = bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4());
                if !fits {
                    continue;
                }
                match open_tcp(address, bind.map(|bind| SocketAddr::new(bind, 0))).await {
                    Ok(stream) => return Ok(Box::new(stream)),
                    Err(error) => last = error,
                }
            }
            Err(Failure::Unreachable(last))
        }
    }
}

async fn open_tcp(address: SocketAddr, bind: Option<SocketAddr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(bind) = bind {
        socket.bind(bind)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A packet in one line, as the Mosquitto clients show it.
fn describe(packet: &Packet<'_>) -> String {
    let ack =
        |name: &str, ack: &codec::Ack<'_>| format!("{name} (m{}, rc{})", ack.packet_id, ack.reason as u8);
    match packet {
        Packet::Connect(_) => "CONNECT".to_owned(),
        Packet::Connack(connack) => format!("CONNACK ({})", connack.reason as u8),
        Packet::Publish(publish) => {
            let Publish {
                dup,
                qos,
                retain,
                topic,
                packet_id,
                payload,
                ..
            } = publish;
            let (dup, retain, id) = (u8::from(*dup), u8::from(*retain), packet_id.map_or(0, u16::from));
            let bytes = payload.len();
            format!(
                "PUBLISH (d{dup}, q{}, r{retain}, m{id}, '{topic}', ... ({bytes} bytes))",
                *qos as u8
            )
        }
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<String> = subscribe
                .filters
                .iter()
                .map(|one| format!("{} QoS {}", one.filter, one.qos as u8))
                .collect();
            format!("SUBSCRIBE (m{}, {})", subscribe.packet_id, filters.join(", "))
        }
        Packet::Suback(_) => "SUBACK".to_owned(),
        Packet::Unsubscribe(unsubscribe) => format!(
            "UNSUBSCRIBE (m{}, {})",
            unsubscribe.packet_id,
            unsubscribe.filters.join(", ")
        ),
        Packet::Unsuback(_) => "UNSUBACK".to_owned(),
        Packet::Pingreq => "PINGREQ".to_owned(),
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(end) => format!("DISCONNECT ({})", end.reason as u8),
        Packet::Auth(_) => "AUTH".to_owned(),
    }
}
