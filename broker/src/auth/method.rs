//! Enhanced authentication (5.0 section 4.12): methods that take more than a password, as conversations without a socket.

use super::{Answer, Principal};
use crate::codec::Reason;

/// Who authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The client's id.
    pub client_id: &'a str,
    /// The user name of its CONNECT. It proves nothing.
    pub username: Option<&'a str>,
}

/// One method, as clients name it in Authentication Method.
pub trait Method: Send + Sync + 'static {
    /// A conversation with one client begins: at its CONNECT, or when it authenticates again.
    fn begin(&self, subject: Subject<'_>) -> Box<dyn Exchange>;
}

/// The server's side of one conversation.
pub trait Exchange: Send {
    /// The client sent `data`. What may take long is answered later, as by [`super::Authenticator`].
    fn step(&mut self, data: Option<&[u8]>) -> Answer<Stepped>;
}

/// What a step leads to, or the reason to refuse with.
pub type Stepped = Result<Step, Reason>;

/// What a step leads to.
#[derive(Debug)]
pub enum Step {
    /// The client is asked to go on: AUTH 0x18 with this data.
    Continue(Option<Vec<u8>>),
    /// It is who it says it is. [`Principal::data`] goes along in CONNACK, or in AUTH 0x00.
    Done(Principal),
}
