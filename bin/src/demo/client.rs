//! A small MQTT client on the broker's own codec: connects, publishes with QoS 1, one message at a time.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, bail};
use forebay_broker::codec::{self, Connect, Disconnect, Packet, Properties, Publish, QoS, Reason, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer: what an acknowledgement may take while Kafka is slow.
const ANSWER: Duration = Duration::from_secs(30);

/// Greatest packet taken; answers are small.
const MAX_PACKET_BYTES: usize = 64 * 1024;

const KEEP_ALIVE_S: u16 = 120;

/// A connected client.
pub struct Client {
    stream: TcpStream,
    version: Version,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    last_id: u16,
}

/// What the broker answers, as far as this client looks at it.
enum Answer {
    Connack(Reason),
    Puback(NonZeroU16, Reason),
    Other,
}

impl Client {
    /// Connects as `client_id` and waits until it is let in.
    pub async fn connect(address: SocketAddr, version: Version, client_id: &str) -> anyhow::Result<Self> {
        let stream = timeout(ANSWER, TcpStream::connect(address))
            .await
            .context("no connection in time")??;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            version,
            inbox: Vec::new(),
            outbox: Vec::new(),
            last_id: 0,
        };
        let connect = Packet::Connect(Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: KEEP_ALIVE_S,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        });
        client.send(&connect).await?;
        match timeout(ANSWER, client.answer())
            .await
            .context("no CONNACK in time")??
        {
            Answer::Connack(Reason::Success) => Ok(client),
            Answer::Connack(reason) => bail!("refused: {reason:?}"),
            _ => bail!("the answer to CONNECT was no CONNACK"),
        }
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = NonZeroU16::new(self.last_id).unwrap_or(NonZeroU16::MIN);
        let publish = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(id),
            payload,
            properties: Properties::default(),
        });
        self.send(&publish).await?;
        let acknowledged = async {
            loop {
                match self.answer().await? {
                    // 0x80 and above refuse; below, the publish was taken (5.0 section 3.4.2.1).
                    Answer::Puback(which, reason) if which == id && (reason as u8) < 0x80 => return Ok(()),
                    Answer::Puback(which, reason) if which == id => bail!("refused: {reason:?}"),
                    _ => {}
                }
            }
        };
        timeout(ANSWER, acknowledged).await.context("no PUBACK in time")?
    }

    /// Says good-bye.
    pub async fn disconnect(mut self) -> anyhow::Result<()> {
        let disconnect = Packet::Disconnect(Disconnect {
            reason: Reason::Success,
            properties: Properties::default(),
        });
        self.send(&disconnect).await?;
        self.stream
            .shutdown()
            .await
            .context("the connection did not close in order")
    }

    async fn send(&mut self, packet: &Packet<'_>) -> anyhow::Result<()> {
        self.outbox.clear();
        codec::encode(self.version, packet, &mut self.outbox)?;
        timeout(ANSWER, self.stream.write_all(&self.outbox))
            .await
            .context("the broker does not read")??;
        Ok(())
    }

    async fn answer(&mut self) -> anyhow::Result<Answer> {
        loop {
            let whole =
                codec::frame_len(&self.inbox, MAX_PACKET_BYTES)?.filter(|len| *len <= self.inbox.len());
            if let Some(len) = whole {
                let frame: Vec<u8> = self.inbox.drain(..len).collect();
                return Ok(match codec::decode(self.version, &frame)? {
                    Packet::Connack(connack) => Answer::Connack(connack.reason),
                    Packet::Puback(ack) => Answer::Puback(ack.packet_id, ack.reason),
                    Packet::Disconnect(end) => bail!("the broker ended the connection: {:?}", end.reason),
                    _ => Answer::Other,
                });
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }
}
