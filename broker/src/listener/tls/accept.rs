//! The handshake of TLS: within its time, one step of one client at a time, and refused with a word in the log.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::server::UnbufferedServerConnection;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::failure::Failure;
use super::files::Keys;
use super::{READ_BYTES, Session, Tls};
use crate::listener::transport::Transport;

/// First byte of a record of the handshake: anything else is not TLS.
const HANDSHAKE: u8 = 0x16;

thread_local! {
    /// Who may do a step of a handshake now. A step takes long, as such things go (a signature): with a fleet coming back,
    /// those who are connected must not wait for all of them.
    static STEP: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Does the handshake with a client of which `read` came already. The error was logged and counted.
pub(crate) async fn accept(
    socket: Transport,
    read: Vec<u8>,
    keys: &Keys,
    peer: SocketAddr,
    deadline: Instant,
) -> io::Result<Transport> {
    let connection = UnbufferedServerConnection::new(keys.current()).map_err(io::Error::other)?;
    let mut tls = Tls::new(socket, Session::new(connection, read));
    let failure = match timeout_at(deadline.into(), handshake(&mut tls)).await {
        Ok(Ok(())) => {
            keys.told().succeeded();
            return Ok(Transport::Tls(Box::new(tls)));
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::TooSlow,
    };
    keys.told().failed(&failure, peer);
    let (socket, session) = tls.into_parts();
    let left = session.going.get(session.gone..).unwrap_or_default().to_vec();
    socket.linger(left).await; // why it is refused, where it can be told, and no reset
    Err(io::Error::other("no TLS handshake"))
}

async fn handshake(tls: &mut Tls) -> Result<(), Failure> {
    let mut looked_at = false;
    let mut looked_at_bytes = 0;
    loop {
        if let Some(first) = tls.session.coming.first()
            && !std::mem::replace(&mut looked_at, true)
            && *first != HANDSHAKE
        {
            return Err(Failure::Plaintext(*first));
        }
        // Who sends a byte at a time takes no turns for them: a step is for whole records.
        if tls.session.whole_bytes() > looked_at_bytes {
            step(&mut tls.session).await?;
            looked_at_bytes = tls.session.whole_bytes();
        }
        poll_fn(|cx| tls.poll_flush(cx))
            .await
            .map_err(|_| Failure::Lost)?;
        if !tls.session.connection.is_handshaking() {
            return Ok(());
        }
        if tls.session.ended {
            return Err(Failure::Lost);
        }
        receive(tls).await.map_err(|_| Failure::Lost)?;
    }
}

/// Looks at what came.
async fn step(session: &mut Session) -> Result<(), Failure> {
    let turn = STEP.with(Arc::clone);
    let _turn = turn.acquire().await;
    tokio::task::yield_now().await; // all that came for others is seen before this
    let mut coming = std::mem::take(&mut session.coming);
    let mut plain = Vec::new();
    let looked = session.digest(&mut coming, &mut |bytes| plain.extend_from_slice(bytes));
    session.plain.append(&mut plain); // CONNECT may come with the end of the handshake
    looked.map_err(|error| Failure::of(&error))
}

/// Reads what comes next, to be looked at.
async fn receive(tls: &mut Tls) -> io::Result<()> {
    let most = READ_BYTES.min(tls.session.missing().max(super::LEAST_READ_BYTES));
    let mut part = (&mut tls.socket).take(most as u64);
    if part.read_buf(&mut tls.session.coming).await? == 0 {
        tls.session.ended = true;
    }
    Ok(())
}
