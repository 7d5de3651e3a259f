//! One MQTT connection of a publisher, on the broker's own codec: packets out, and what the answers mean.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, bail};
use forebay_broker::codec::{
    self, Ack, Connect, Disconnect, Packet, Properties, PropertiesBuf, Property, Publish, QoS, Reason,
    Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a connection, for its CONNACK, and for a broker that does not read.
const ANSWER: Duration = Duration::from_secs(30);

/// Greatest packet taken; answers are small.
const MAX_PACKET_BYTES: usize = 64 * 1024;

/// Seconds for which a broker that speaks MQTT 5 keeps the session of a lost connection.
const SESSION_EXPIRY_S: u32 = 3600;

const KEEP_ALIVE_S: u16 = 120;

/// Where a client connects, and how.
#[derive(Debug, Clone)]
pub struct Access {
    /// `host:port`.
    pub broker: String,
    /// MQTT version.
    pub version: Version,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// A connected client.
pub struct Client {
    stream: TcpStream,
    version: Version,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// QoS 1 and 2 publishes that the broker wants unacknowledged at most.
    pub receive_maximum: u16,
}

/// What the broker says, as far as a publisher looks at it. A refusal is a reason of 0x80 and above; below, the
/// publish was taken (5.0 section 3.4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// PUBACK.
    Puback(NonZeroU16, Reason),
    /// PUBREC.
    Pubrec(NonZeroU16, Reason),
    /// PUBCOMP.
    Pubcomp(NonZeroU16),
    /// Anything else.
    Other,
}

impl Client {
    /// Connects as `client_id` and waits until it is let in. With `keep` the broker is to keep the session when the
    /// connection is lost; without, whatever it kept of this client is discarded.
    pub async fn connect(access: &Access, client_id: &str, keep: bool) -> anyhow::Result<Self> {
        let stream = timeout(ANSWER, TcpStream::connect(&access.broker))
            .await
            .context("no connection in time")??;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            version: access.version,
            inbox: Vec::new(),
            outbox: Vec::new(),
            receive_maximum: u16::MAX,
        };
        let mut properties = PropertiesBuf::new();
        if keep && access.version == Version::V5 {
            properties.push(Property::SessionExpiryInterval(SESSION_EXPIRY_S));
        }
        let connect = Packet::Connect(Connect {
            version: access.version,
            bridge: false,
            clean_start: !keep,
            keep_alive_s: KEEP_ALIVE_S,
            client_id,
            will: None,
            username: access.login.as_ref().map(|(name, _)| name.as_str()),
            password: access.login.as_ref().map(|(_, password)| password.as_bytes()),
            properties: properties.as_properties(),
        });
        client.push(&connect)?;
        client.flush().await?;
        timeout(ANSWER, client.connack())
            .await
            .context("no CONNACK in time")??;
        Ok(client)
    }

    async fn connack(&mut self) -> anyhow::Result<()> {
        let frame = self.frame().await?;
        match codec::decode(self.version, &frame)? {
            Packet::Connack(connack) if connack.reason == Reason::Success => {
                for property in connack.properties.iter() {
                    if let Property::ReceiveMaximum(maximum) = property {
                        self.receive_maximum = maximum;
                    }
                }
                Ok(())
            }
            Packet::Connack(connack) => bail!("the broker refuses the connection: {:?}", connack.reason),
            _ => bail!("the answer to CONNECT was no CONNACK"),
        }
    }

    /// Puts a PUBLISH into what [`Client::flush`] sends. `id` is none at QoS 0.
    pub fn publish(
        &mut self,
        dup: bool,
        qos: QoS,
        id: Option<NonZeroU16>,
        (topic, payload): (&str, &[u8]),
    ) -> anyhow::Result<()> {
        self.push(&Packet::Publish(Publish {
            dup,
            qos,
            retain: false,
            topic,
            packet_id: id,
            payload,
            properties: Properties::default(),
        }))
    }

    /// Puts a PUBREL into what [`Client::flush`] sends.
    pub fn release(&mut self, id: NonZeroU16) -> anyhow::Result<()> {
        self.push(&Packet::Pubrel(Ack {
            packet_id: id,
            reason: Reason::Success,
            properties: Properties::default(),
        }))
    }

    /// Puts a PINGREQ into what [`Client::flush`] sends.
    pub fn ping(&mut self) -> anyhow::Result<()> {
        self.push(&Packet::Pingreq)
    }

    fn push(&mut self, packet: &Packet<'_>) -> anyhow::Result<()> {
        Ok(codec::encode(self.version, packet, &mut self.outbox)?)
    }

    /// Sends what was put together.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        timeout(ANSWER, self.stream.write_all(&self.outbox))
            .await
            .context("the broker does not read")??;
        self.outbox.clear();
        Ok(())
    }

    /// Waits for the next answer. May be given up and called again: nothing is lost by it.
    pub async fn answer(&mut self) -> anyhow::Result<Answer> {
        let frame = self.frame().await?;
        Ok(match codec::decode(self.version, &frame)? {
            Packet::Puback(ack) => Answer::Puback(ack.packet_id, ack.reason),
            Packet::Pubrec(ack) => Answer::Pubrec(ack.packet_id, ack.reason),
            Packet::Pubcomp(ack) => Answer::Pubcomp(ack.packet_id),
            Packet::Disconnect(end) => bail!("the broker ended the connection: {:?}", end.reason),
            _ => Answer::Other,
        })
    }

    async fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let whole =
                codec::frame_len(&self.inbox, MAX_PACKET_BYTES)?.filter(|len| *len <= self.inbox.len());
            if let Some(len) = whole {
                return Ok(self.inbox.drain(..len).collect());
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }

    /// Says good-bye.
    pub async fn disconnect(mut self) -> anyhow::Result<()> {
        self.push(&Packet::Disconnect(Disconnect {
            reason: Reason::Success,
            properties: Properties::default(),
        }))?;
        self.flush().await?;
        self.stream
            .shutdown()
            .await
            .context("the connection did not close in order")
    }
}
