//! Enhanced authentication (5.0 section 4.12): the conversation before CONNACK, and again on a connection that stands.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::End;
use crate::auth::{Answer, Exchange, Later, Method, Principal, Step, Stepped, Subject};
use crate::codec::{
    Auth, Connect, Packet, PropertiesBuf, Property, Reason, Version, decode, encode, frame_len,
};
use crate::listener::transport::Transport;
use crate::worker::{SessionRef, Worker};

/// What a conversation before CONNACK came to.
pub(super) enum Outcome {
    /// Let in.
    Done(Principal),
    /// CONNACK with this reason.
    Refused(Reason),
    /// The client said DISCONNECT, or is gone.
    Gone,
}

/// Talks with a client until it is let in or refused. `read`: what came behind CONNECT; what comes behind the last AUTH
/// is left in it.
pub(super) async fn converse(
    worker: &Worker,
    (stream, read): (&mut Transport, &mut Vec<u8>),
    connect: &Connect<'_>,
    mut exchange: Box<dyn Exchange>,
    max_packet_bytes: usize,
) -> Outcome {
    let Some(method) = connect.properties.authentication_method() else {
        return Outcome::Refused(Reason::ProtocolError);
    };
    let most_bytes = connect.properties.maximum_packet_size().unwrap_or(u32::MAX) as usize;
    let mut answer = exchange.step(connect.properties.authentication_data());
    loop {
        let data = match worker.hear(answer).await {
            Ok(Step::Done(principal)) => return Outcome::Done(principal),
            Ok(Step::Continue(data)) => data,
            Err(reason) => return Outcome::Refused(reason),
        };
        let mut out = Vec::new();
        put_auth(method, Reason::ContinueAuthentication, data.as_deref(), &mut out);
        if out.len() > most_bytes {
            return Outcome::Refused(Reason::PacketTooLarge); // [MQTT-3.1.2-24]
        }
        if stream.write_all(&out).await.is_err() {
            return Outcome::Gone;
        }
        let len = match next_frame(stream, read, max_packet_bytes).await {
            Ok(Ok(len)) => len,
            Ok(Err(reason)) => return Outcome::Refused(reason),
            Err(_) => return Outcome::Gone,
        };
        let frame: Vec<u8> = read.drain(..len).collect();
        answer = match decode(Version::V5, &frame) {
            Ok(Packet::Auth(auth)) if is_continuation(&auth, method) => {
                exchange.step(auth.properties.authentication_data())
            }
            Ok(Packet::Disconnect(_)) => return Outcome::Gone,
            // Anything else must wait for CONNACK [MQTT-3.1.2-30], and the method stays what it was [MQTT-4.12.0-5].
            Ok(_) => return Outcome::Refused(Reason::ProtocolError),
            Err(error) => return Outcome::Refused(error.reason),
        };
    }
}

fn is_continuation(auth: &Auth<'_>, method: &str) -> bool {
    auth.reason == Reason::ContinueAuthentication && auth.properties.authentication_method() == Some(method)
}

/// Reads until a whole frame stands in `read`; its length.
async fn next_frame(
    stream: &mut Transport,
    read: &mut Vec<u8>,
    max_packet_bytes: usize,
) -> io::Result<Result<usize, Reason>> {
    loop {
        match frame_len(read, max_packet_bytes) {
            Ok(Some(len)) if read.len() >= len => return Ok(Ok(len)),
            Ok(_) => {}
            Err(error) => return Ok(Err(error.reason)),
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// AUTH, with the method of the CONNECT [MQTT-4.12.0-5].
fn put_auth(method: &str, reason: Reason, data: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut properties = PropertiesBuf::default();
    properties.push(Property::AuthenticationMethod(method));
    if let Some(data) = data {
        properties.push(Property::AuthenticationData(data));
    }
    let auth = Packet::Auth(Auth {
        reason,
        properties: properties.as_properties(),
    });
    let _ = encode(Version::V5, &auth, out); // a method that came in a packet fits into one; data over 64 KiB does not
}

/// An AUTH that came on a connection that stands.
#[derive(Debug)]
pub(super) struct Asked {
    pub reason: Reason,
    pub data: Option<Vec<u8>>,
}

/// What a connection that was let in by a method needs to authenticate again.
pub(super) struct Again {
    name: Box<str>,
    method: Arc<dyn Method>,
    exchange: Option<Box<dyn Exchange>>,
    later: Option<Later<Stepped>>,
}

impl Again {
    pub fn new(name: &str, method: Arc<dyn Method>) -> Self {
        Self {
            name: name.into(),
            method,
            exchange: None,
            later: None,
        }
    }

    /// Whether `auth` may come on this connection at all.
    pub fn admit(&self, auth: &Auth<'_>) -> Result<Asked, End> {
        let wrong = |text| Err(End::Closed(Reason::ProtocolError, text));
        if auth.properties.authentication_method() != Some(&*self.name) {
            return wrong("AUTH names another method than CONNECT [MQTT-4.12.1-1]");
        }
        if auth.reason == Reason::Success {
            return wrong("AUTH 0x00 from a client (section 3.15.2.1)");
        }
        Ok(Asked {
            reason: auth.reason,
            data: auth.properties.authentication_data().map(<[u8]>::to_vec),
        })
    }

    /// Goes on with the conversation as far as it goes. `asked` is what the client sent, if it did.
    pub fn poll(
        &mut self,
        worker: &Worker,
        at: SessionRef,
        asked: &mut Option<Asked>,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        loop {
            let stepped = match (&mut self.later, asked.take()) {
                (Some(later), waiting) => {
                    *asked = waiting;
                    match Pin::new(later).poll(&mut Context::from_waker(&worker.ear(cx))) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(stepped) => {
                            self.later = None;
                            stepped
                        }
                    }
                }
                (None, None) => return Ok(()),
                (None, Some(asked)) => match self.step(worker, at, asked)? {
                    Answer::Now(stepped) => stepped,
                    Answer::Later(later) => {
                        let most = Duration::from_secs(worker.shared.config.limits.connect_timeout_s.into());
                        self.later = Some(Box::pin(async move {
                            timeout(most, later).await.unwrap_or(Err(Reason::NotAuthorized))
                        }));
                        continue;
                    }
                },
            };
            self.stepped(worker, at, stepped)?;
        }
    }

    fn step(&mut self, worker: &Worker, at: SessionRef, asked: Asked) -> Result<Answer<Stepped>, End> {
        match (asked.reason, &self.exchange) {
            (Reason::ReAuthenticate, None) => {
                self.exchange = worker.with(|state| {
                    let (client_id, username) = state.subject(at)?;
                    Some(self.method.begin(Subject {
                        client_id: &client_id,
                        username: username.as_deref(),
                    }))
                });
            }
            (Reason::ContinueAuthentication, Some(_)) => {}
            _ => {
                let text = "AUTH out of turn (section 4.12.1)";
                return Err(End::Closed(Reason::ProtocolError, text));
            }
        }
        Ok(match &mut self.exchange {
            Some(exchange) => exchange.step(asked.data.as_deref()),
            None => Answer::Now(Err(Reason::NotAuthorized)),
        })
    }

    /// A client that fails to authenticate again is turned out [MQTT-4.12.1-2].
    fn stepped(&mut self, worker: &Worker, at: SessionRef, stepped: Stepped) -> Result<(), End> {
        let (reason, data) = match stepped {
            Ok(Step::Continue(data)) => (Reason::ContinueAuthentication, data),
            Ok(Step::Done(mut principal)) => {
                self.exchange = None;
                let data = principal.data.take();
                if !worker.with(|state| state.is_now(at, principal)) {
                    let text = "authenticated again as another user: what the session has is the other's";
                    return Err(End::Closed(Reason::NotAuthorized, text));
                }
                (Reason::Success, data)
            }
            Err(reason) => return Err(End::Closed(reason, "authentication on the connection failed")),
        };
        worker.with(|state| state.send_auth(at, &self.name, reason, data.as_deref()));
        Ok(())
    }
}
