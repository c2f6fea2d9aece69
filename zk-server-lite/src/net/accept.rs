//! The listening socket: who gets in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use crate::node::core::Shared;
use crate::node::link::Sender;

/// Java's default backlog.
const BACKLOG: i32 = 1024;

/// Binds with `SO_REUSEADDR`, so that a restart on the same port need not wait for old connections.
pub(crate) fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<std::net::TcpListener> {
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
    Ok(socket.into())
}

/// Accepts until the server stops. Running out of descriptors is waited out: those who are connected are not to suffer.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let _guard = shared.halt.guard("accept");
    loop {
        let accepted = tokio::select! {
            () = shared.halt.token().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        shared.faults.wait_thawed(&shared.halt).await;
        match accepted {
            Ok((stream, peer)) => {
                if shared.faults.refuses() {
                    tracing::debug!(%peer, "refusing a connection: a fault hook says so");
                    continue;
                }
                if admit(&shared, stream, peer).is_err() {
                    return;
                }
            }
            Err(error) if is_peers_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn admit(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<(), crate::node::halt::Halted> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection died young");
        return Ok(());
    }
    if shared.config.tcp_keep_alive
        && let Err(error) = socket2::SockRef::from(&stream).set_keepalive(true)
    {
        tracing::debug!(%peer, %error, "no keep-alive for a connection");
    }
    let (reader, writer) = stream.into_split();
    match shared.admit(peer, Sender::Tcp(writer))? {
        Ok(link) => {
            tokio::spawn(connection::run(Arc::clone(shared), link, reader));
        }
        // Closed without a word, as Java does.
        Err(limit) => {
            shared.metrics.rejected();
            tracing::warn!(%peer, limit, "too many connections");
        }
    }
    Ok(())
}
