//! Sockets for many connections: source addresses, and room for file descriptors.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections from one source address to one broker: below the kernel's 28,232 ports.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;

/// Descriptors a run needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// The first address of `host:port`.
pub fn resolve(address: &str) -> Result<SocketAddr> {
    let mut found = address
        .to_socket_addrs()
        .with_context(|| format!("{address} is not HOST:PORT"))?;
    found.next().with_context(|| format!("{address} has no address"))
}

/// Raises the limit of open files as far as it goes and says when that is too little.
pub fn make_room(connections: u32) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let needed = u64::from(connections) + SPARE_DESCRIPTORS;
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        needed <= most,
        "{connections} connections need {needed} open files, the limit is {most} (ulimit -Hn)"
    );
    Ok(())
}

/// The address a connection comes from: of those given in turn; else, on loopback, a new one each 20,000.
pub fn source(given: &[IpAddr], broker: SocketAddr, index: u32) -> Option<IpAddr> {
    if !given.is_empty() {
        return given.get(index as usize % given.len()).copied();
    }
    let block = index / CONNECTIONS_PER_SOURCE;
    if block == 0 || !broker.ip().is_loopback() || !broker.is_ipv4() {
        return None;
    }
    let [high, low] = (u16::try_from(block).ok()?.checked_add(1)?).to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, high, low)))
}

/// Begins a connection; it is made when the socket becomes writable.
pub fn connect(broker: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(broker), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    match socket.connect(&SockAddr::from(broker)) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket),
    }
}
