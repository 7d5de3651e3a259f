//! From bytes to handled packets: partial frames wait for the rest; a PUBLISH for which there is no room is parked,
//! so that the acknowledgements and pings behind it are still served.

use std::num::NonZeroU64;
use std::task::Context;

use super::End;
use super::exchange::{Again, Asked};
use super::pace::Pace;
use crate::codec::{DecodeError, Packet, Reason, Version, decode, decode_publish, frame_len};
use crate::config::Limits;
use crate::session::Violation;
use crate::worker::{SessionRef, State, Taken, Worker};

/// Bytes of parked packets at which reading stops.
const PARKED_BYTES: usize = 64 * 1024;

/// So much more of a frame says that its client is alive, as a whole one does: a large one takes its time on a slow line.
const DRIP_BYTES: usize = 1024;

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;

/// What a connection has read and not handled yet.
pub(super) struct Intake {
    /// A partial frame, or all that came after reading stopped.
    rest: Vec<u8>,
    /// `rest` may begin with whole frames: reading had stopped, or they came along with CONNECT.
    unread: bool,
    max_packet_bytes: u32,
    receive_maximum: u16,
    rare: Option<Box<Rare>>,
}

/// What few connections need.
#[derive(Default)]
struct Rare {
    parked: Option<Parked>,
    pace: Option<Box<Pace>>,
    /// When the next packet may be handled, if it came too soon.
    resume_ms: Option<NonZeroU64>,
    /// The client was let in by a method, and may authenticate again.
    again: Option<(Again, Option<Asked>)>,
}

/// Whole packets that wait for room, in order.
#[derive(Default)]
struct Parked {
    bytes: Vec<u8>,
    /// How far `bytes` has been handled.
    done: usize,
    count: usize,
    /// The last of them is DISCONNECT.
    has_left: bool,
}

impl Intake {
    /// Starts with what was read along with CONNECT.
    pub fn new(rest: Vec<u8>, limits: &Limits, now_ms: u64) -> Self {
        let pace = Pace::new(limits.max_message_rate, limits.max_bytes_rate, now_ms);
        let rare = pace.map(|pace| Rare {
            pace: Some(pace),
            ..Rare::default()
        });
        Self {
            unread: !rest.is_empty(),
            rest,
            max_packet_bytes: u32::try_from(limits.max_packet_bytes).unwrap_or(u32::MAX),
            receive_maximum: limits.receive_maximum,
            rare: rare.map(Box::new),
        }
    }

    /// The client was let in by a method.
    pub fn may_authenticate(mut self, again: Option<Again>) -> Self {
        if let Some(again) = again {
            self.rare.get_or_insert_default().again = Some((again, None));
        }
        self
    }

    /// Whether it may be that it authenticates again.
    pub fn has_method(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.again.is_some())
    }

    /// Goes on with an authentication on this connection, if there is one.
    pub fn poll_auth(&mut self, worker: &Worker, at: SessionRef, cx: &mut Context<'_>) -> Result<(), End> {
        match self.rare.as_mut().and_then(|rare| rare.again.as_mut()) {
            Some((again, asked)) => again.poll(worker, at, asked, cx),
            None => Ok(()),
        }
    }

    /// When to go on, if a packet waits that came too soon: nothing is read until then.
    pub fn resumes_at(&self) -> Option<u64> {
        self.rare.as_ref()?.resume_ms.map(NonZeroU64::get)
    }

    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, End> {
        frame_len(bytes, self.max_packet_bytes as usize).map_err(refused)
    }

    fn parked(&self) -> Option<&Parked> {
        self.rare.as_ref()?.parked.as_ref()
    }

    fn take_parked(&mut self) -> Option<Parked> {
        let rare = self.rare.as_mut()?;
        let parked = rare.parked.take();
        if rare.pace.is_none() && rare.again.is_none() {
            self.rare = None;
        }
        parked
    }

    /// Whether nothing waits for room.
    pub fn is_clear(&self) -> bool {
        self.parked().is_none()
    }

    /// Whether the client has sent DISCONNECT, which waits for what came before it.
    pub fn has_left(&self) -> bool {
        self.parked().is_some_and(|parked| parked.has_left) || self.unread && self.leaves_unread()
    }

    /// Whether DISCONNECT stands among what came after reading stopped.
    fn leaves_unread(&self) -> bool {
        let mut rest = &*self.rest;
        while let Ok(Some(len)) = self.frame_len(rest)
            && let Some((frame, behind)) = rest.split_at_checked(len)
        {
            if kind(frame) == DISCONNECT {
                return true;
            }
            rest = behind;
        }
        false
    }

    /// Bytes that came and are not handled yet.
    pub fn waiting_bytes(&self) -> usize {
        let parked = self.parked();
        self.rest.len() + parked.map_or(0, |parked| parked.bytes.len() - parked.done)
    }

    /// Whether so much waits that reading must stop.
    pub fn is_full(&self) -> bool {
        let most = usize::from(self.receive_maximum);
        self.parked()
            .is_some_and(|parked| parked.bytes.len() - parked.done >= PARKED_BYTES || parked.count >= most)
    }

    /// Bytes of a frame that is not whole yet.
    pub fn partial_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Whether the `count` bytes behind the `before` ones that were there made no frame whole, nor much more of one.
    pub fn drips(&self, before: usize, count: usize) -> bool {
        let now = self.rest.len();
        !self.unread && now == before + count && now / DRIP_BYTES == before / DRIP_BYTES
    }

    /// Moves a short partial frame to the front of `scratch` and returns its length; what is read goes behind it.
    pub fn prefix_into(&mut self, scratch: &mut [u8], most: usize) -> usize {
        if self.rest.is_empty() || self.rest.len() > most {
            return 0;
        }
        let rest = std::mem::take(&mut self.rest);
        match scratch.get_mut(..rest.len()) {
            Some(front) => {
                front.copy_from_slice(&rest);
                rest.len()
            }
            None => {
                self.rest = rest;
                0
            }
        }
    }

    /// Takes a prefix back: nothing was read.
    pub fn keep(&mut self, prefix: &[u8]) {
        if !prefix.is_empty() {
            self.rest = prefix.to_vec();
        }
    }

    /// Handles all whole frames in `bytes`; the rest waits.
    pub fn feed(
        &mut self,
        worker: &Worker,
        at: SessionRef,
        version: Version,
        bytes: &[u8],
    ) -> Result<(), End> {
        if self.rest.is_empty() {
            let used = self.frames(worker, at, version, bytes)?;
            self.keep(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(bytes);
        let used = self.frames(worker, at, version, &rest)?;
        rest.drain(..used);
        if !rest.is_empty() {
            self.rest = rest;
        }
        Ok(())
    }

    /// Tries what was parked again, then what was read behind it.
    pub fn retry(&mut self, worker: &Worker, at: SessionRef, version: Version) -> Result<(), End> {
        if let Some(mut parked) = self.take_parked() {
            while let Some(bytes) = parked.bytes.get(parked.done..).filter(|bytes| !bytes.is_empty()) {
                let len = self.frame_len(bytes)?.unwrap_or(bytes.len());
                let frame = bytes.get(..len).unwrap_or(bytes);
                if worker.with(|state| self.frame(state, at, (version, ""), frame))? == Taken::Held {
                    self.rare.get_or_insert_default().parked = Some(parked);
                    return Ok(());
                }
                parked.done += len;
                parked.count -= 1;
            }
        }
        if std::mem::take(&mut self.unread) {
            self.feed(worker, at, version, &[])?;
        }
        Ok(())
    }

    /// Handles whole frames from the start of `bytes` and returns how many bytes that were.
    fn frames(
        &mut self,
        worker: &Worker,
        at: SessionRef,
        version: Version,
        bytes: &[u8],
    ) -> Result<usize, End> {
        worker.with(|state| {
            let mut publishes = 0;
            let stem = state.stem(at);
            let usual = stem.as_ref().map_or("", |stem| stem.topic());
            let used = self.frames_of(state, at, (version, usual), bytes, &mut publishes);
            state.count_publishes(publishes);
            used
        })
    }

    /// The version comes with the topic that the client is used to publish on. `publishes`: how many of them were PUBLISH.
    fn frames_of(
        &mut self,
        state: &mut State,
        at: SessionRef,
        (version, usual): (Version, &str),
        bytes: &[u8],
        publishes: &mut u32,
    ) -> Result<usize, End> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            if self.is_full() {
                self.unread = true;
                break;
            }
            let Some(len) = self.frame_len(rest)? else {
                break;
            };
            let Some(frame) = rest.get(..len) else { break };
            if !self.is_in_time(state, frame) {
                self.unread = true;
                break;
            }
            let kind = kind(frame);
            match kind {
                PUBLISH => *publishes += 1,
                _ => state.count_packet(frame.first().copied().unwrap_or(0)),
            }
            let must_wait = matches!(kind, PUBLISH | DISCONNECT) && !self.is_clear();
            if must_wait || self.frame(state, at, (version, usual), frame)? == Taken::Held {
                self.park(frame);
            }
            used += len;
        }
        Ok(used)
    }

    /// Whether this client may send this packet now.
    #[inline]
    fn is_in_time(&mut self, state: &State, frame: &[u8]) -> bool {
        let Some(rare) = &mut self.rare else { return true };
        let Some(pace) = &mut rare.pace else { return true };
        let taken = pace.take(kind(frame) == PUBLISH, frame.len(), state.now_ms());
        rare.resume_ms = taken.err().and_then(NonZeroU64::new);
        rare.resume_ms.is_none()
    }

    #[inline]
    fn frame(
        &mut self,
        state: &mut State,
        at: SessionRef,
        (version, usual): (Version, &str),
        frame: &[u8],
    ) -> Result<Taken, End> {
        if kind(frame) == PUBLISH {
            let publish = decode_publish(version, frame, usual).map_err(refused)?;
            return state.publish(at, &publish).map_err(violated);
        }
        self.other_frame(state, at, version, frame)
    }

    fn other_frame(
        &mut self,
        state: &mut State,
        at: SessionRef,
        version: Version,
        frame: &[u8],
    ) -> Result<Taken, End> {
        if kind(frame) == CONNECT {
            // Whatever it says: not what is wrong inside it, for which DISCONNECT may have no reason code.
            return Err(End::Closed(
                Reason::ProtocolError,
                "a second CONNECT [MQTT-3.1.0-2]",
            ));
        }
        match (
            decode(version, frame).map_err(refused)?,
            self.rare.as_mut().and_then(|rare| rare.again.as_mut()),
        ) {
            (Packet::Auth(auth), Some((again, asked))) => {
                if asked.replace(again.admit(&auth)?).is_some() {
                    let text = "AUTH before the last one was answered (section 4.12)";
                    return Err(End::Closed(Reason::ProtocolError, text));
                }
                Ok(Taken::Yes)
            }
            (packet, _) => state
                .control_packet(at, packet)
                .map_err(violated)?
                .map_or(Ok(Taken::Yes), |with_will| Err(End::Disconnected { with_will })),
        }
    }

    fn park(&mut self, frame: &[u8]) {
        let rare = self.rare.get_or_insert_default();
        let parked = rare.parked.get_or_insert_default();
        if parked.done > PARKED_BYTES {
            parked.bytes.drain(..parked.done);
            parked.done = 0;
        }
        parked.bytes.extend_from_slice(frame);
        parked.count += 1;
        parked.has_left = kind(frame) == DISCONNECT;
    }
}

fn kind(frame: &[u8]) -> u8 {
    frame.first().map_or(0, |first| first >> 4)
}

fn refused(error: DecodeError) -> End {
    End::Closed(error.reason, error.text)
}

fn violated(violation: Violation) -> End {
    End::Closed(violation.reason, violation.text)
}
