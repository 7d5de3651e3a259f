//! TCP sockets: how they are bound and what is set on each that is accepted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that may wait for accept: a fleet that comes back at once should not meet SYN drops.
const BACKLOG: i32 = 4_096;

/// Silence after which the system asks whether the peer still stands.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);

/// Time for which a peer may take nothing of what is written to it before the connection is given up: keep-alive does
/// not run while Forebay waits to write.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);

/// Listens on `address`. The unspecified IPv6 address takes IPv4 clients as well where nothing else has the port.
pub(super) fn bind(address: SocketAddr, alone_on_port: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!(address.ip().is_unspecified() && alone_on_port))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what every connection needs.
pub(super) fn tune(stream: &tokio::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(GIVE_UP_AFTER))
}
