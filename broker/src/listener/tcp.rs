//! TCP sockets: how they are bound, and what is set on each.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait for accept: a fleet that comes back at once should not meet SYN drops. The system has the
/// last word (net.core.somaxconn).
pub(super) const BACKLOG: i32 = 65_535;

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
    tune(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what every connection needs. Linux gives it on to each socket that is accepted.
fn tune(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(GIVE_UP_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn what_is_set_on_the_listener_holds_for_each_connection() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = bind(address.parse().unwrap(), true).unwrap();
            let port = listener.local_addr().unwrap().port();
            listener.set_nonblocking(false).unwrap();
            let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(GIVE_UP_AFTER));
        }
    }
}
