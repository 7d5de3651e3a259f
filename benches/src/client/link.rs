//! A device and its socket: bytes in, bytes out, on a socket that never blocks.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::device::{Device, Shared};
use super::net;
use super::stream::Stream;
use super::websocket::{self, WebSocket};
use super::wire;

/// See the module.
#[derive(Debug)]
pub struct Link {
    /// The device.
    pub device: Device,
    /// The first attempt to connect is over.
    pub settled: bool,
    /// When the last attempt to connect was begun.
    pub begun_ns: u64,
    /// When something was written last.
    pub wrote_ns: u64,
    socket: Option<Stream>,
    /// The socket is connected, CONNECT is out or waits for the WebSocket.
    connected: bool,
    websocket: Option<Box<WebSocket>>,
    /// Start of a packet that has not come whole.
    partial: Vec<u8>,
    /// What the socket did not take.
    pending: Vec<u8>,
}

impl Link {
    /// A device without a connection.
    pub fn new(device: Device) -> Self {
        Self {
            device,
            settled: false,
            begun_ns: 0,
            wrote_ns: 0,
            socket: None,
            connected: false,
            websocket: None,
            partial: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Whether there is a socket, connected or about to be.
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether the socket has taken all that was written.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty() && self.socket.as_ref().is_none_or(Stream::is_flushed)
    }

    /// Begins to connect. Events are edges, so that nothing is registered anew later.
    pub fn open(
        &mut self,
        now: u64,
        epoll: &OwnedFd,
        at: usize,
        broker: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<()> {
        let socket = net::connect(broker, source)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(at as u64), flags)?;
        self.socket = Some(Stream::new(socket));
        self.connected = false;
        self.begun_ns = now;
        Ok(())
    }

    /// Drops the connection, and with it the socket from the epoll.
    pub fn close(&mut self) {
        self.socket = None;
        self.websocket = None;
        self.partial = Vec::new();
        self.pending = Vec::new();
    }

    /// Writes; what the socket does not take is kept.
    pub fn send(&mut self, now: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() || self.socket.is_none() {
            return Ok(());
        }
        self.wrote_ns = now;
        let framed = self.websocket.as_ref().map(|_| websocket::wrap(bytes));
        self.send_raw(framed.as_deref().unwrap_or(bytes))
    }

    /// The same as it is, without a frame.
    fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        let taken = if self.pending.is_empty() {
            write(socket, bytes)?
        } else {
            0
        };
        self.pending
            .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Goes on with what the socket reports. Answers go to `out`, which the caller sends.
    pub fn ready(
        &mut self,
        now: u64,
        start_ns: u64,
        flags: EventFlags,
        read: &mut [u8],
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        if !self.connected {
            if let Some(error) = socket.socket().take_error()? {
                return Err(error).context("connect");
            }
            if flags.contains(EventFlags::OUT) {
                self.connected = true;
                if let Some(tls) = &shared.plan.tls {
                    socket.secure(tls)?;
                }
                if shared.plan.websocket {
                    self.websocket = Some(Box::default());
                    return self.send_raw(websocket::REQUEST);
                }
                self.device.connect(shared.plan, out)?;
            }
            return Ok(());
        }
        if flags.contains(EventFlags::OUT) {
            socket.flush()?;
        }
        if !self.pending.is_empty() && flags.contains(EventFlags::OUT) {
            let taken = write(socket, &self.pending)?;
            self.pending.drain(..taken);
            if self.pending.is_empty() {
                // Ten thousand of these would keep their memory after one hold-up.
                self.pending = Vec::new();
            }
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive(now, start_ns, read, shared, out)?;
        }
        Ok(())
    }

    /// Reads all there is.
    fn receive(
        &mut self,
        now: u64,
        start_ns: u64,
        read: &mut [u8],
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        while let Some(socket) = &mut self.socket {
            let is_plain = socket.is_plain();
            let len = match socket.read(read) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read"),
            };
            let fresh = read.get(..len).unwrap_or_default();
            match self.websocket.is_some() {
                true => self.take_frames(now, start_ns, fresh, shared, out)?,
                false => self.take(now, start_ns, fresh, shared, out)?,
            }
            // A short read has emptied the socket: the next byte is a new edge.
            if len < read.len() && is_plain {
                break;
            }
        }
        Ok(())
    }

    /// Takes what came out of its frames. CONNECT goes out when the WebSocket stands.
    fn take_frames(
        &mut self,
        now: u64,
        start_ns: u64,
        fresh: &[u8],
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(());
        };
        let before = websocket.is_upgraded();
        let mut bytes = Vec::new();
        if websocket.take(fresh, &mut bytes)? && !before {
            self.device.connect(shared.plan, out)?;
        }
        self.take(now, start_ns, &bytes, shared, out)
    }

    /// Passes each whole packet to the device and keeps the rest.
    fn take(
        &mut self,
        now: u64,
        start_ns: u64,
        fresh: &[u8],
        shared: &mut Shared<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut joined = std::mem::take(&mut self.partial);
        let mut bytes = fresh;
        if !joined.is_empty() {
            joined.extend_from_slice(fresh);
            bytes = &joined;
        }
        while let Some((len, packet)) = wire::next(shared.plan, bytes)? {
            self.device.handle(now, start_ns, &packet, shared, out)?;
            bytes = bytes.get(len..).unwrap_or_default();
        }
        self.partial = bytes.to_vec();
        Ok(())
    }

    /// Nothing is written any more. Waits until the broker has read all and closed, at most for the time that is left.
    pub fn leave(&mut self, left: Duration, read: &mut [u8]) -> Result<()> {
        let Some(stream) = &self.socket else {
            return Ok(());
        };
        let mut socket = stream.socket(); // what comes now is not looked at
        // A connection that has failed meanwhile has nothing more to lose.
        let _ = socket.shutdown(Shutdown::Write);
        if !left.is_zero() {
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(left))?;
            while matches!(socket.read(read), Ok(1..)) {}
        }
        self.close();
        Ok(())
    }
}

/// Writes until the socket is full. Returns how many bytes it took.
fn write(socket: &mut Stream, bytes: &[u8]) -> Result<usize> {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..)
        && !rest.is_empty()
    {
        match socket.write(rest) {
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("write"),
        }
    }
    Ok(taken)
}
