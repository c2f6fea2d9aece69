//! The listening socket.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

/// Java's default backlog.
const BACKLOG: i32 = 1024;

/// Binds with `SO_REUSEADDR`, so that a restart on the same port need not wait for old connections.
pub(crate) fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // As Java: an IPv6 wildcard also takes IPv4.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(
        backlog
            .and_then(|backlog| i32::try_from(backlog).ok())
            .unwrap_or(BACKLOG),
    )?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Whether only the one connection failed.
pub(super) fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
