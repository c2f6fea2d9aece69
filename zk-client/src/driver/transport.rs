//! How bytes reach a server: TCP by default, or whatever stream the user's connector makes. Knows no frame.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hosts::Host;

/// How long a server may take to say whether it is read-only (section 15.7).
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// A byte stream to a server, both ways.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Opens transports.
#[derive(Clone)]
pub(crate) enum Connector {
    Tcp,
    Custom(Arc<dyn Fn(Host) -> Opening + Send + Sync>),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Custom(_) => "Custom",
        })
    }
}

impl Connector {
    pub(crate) fn custom<F, Fut, T>(connect: F) -> Self
    where
        F: Fn(Host) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
        T: Transport + 'static,
    {
        Self::Custom(Arc::new(move |host| {
            let opening = connect(host);
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Transport>) })
        }))
    }

    /// Opens a transport; the caller drops the future when it takes longer than `allowed`.
    pub(crate) fn open(&self, host: Host, allowed: Duration, first: usize) -> Opening {
        match self {
            Self::Tcp => Box::pin(tcp(host, allowed, first)),
            Self::Custom(connect) => connect(host),
        }
    }

    /// Whether the server takes writes; no answer counts as no.
    pub(crate) async fn probe(self, host: Host) -> bool {
        let asked = async {
            let mut stream = self.open(host, PROBE_PATIENCE, 0).await?;
            stream.write_all(b"isro").await?;
            let mut answer = Vec::new();
            // "rw" or "ro", maybe with a line end.
            stream.take(16).read_to_end(&mut answer).await?;
            io::Result::Ok(answer.trim_ascii() == b"rw")
        };
        matches!(
            tokio::time::timeout(PROBE_PATIENCE, asked).await,
            Ok(Ok(true))
        )
    }
}

/// Resolves the name anew, each time: servers move.
async fn tcp(host: Host, allowed: Duration, first: usize) -> io::Result<Box<dyn Transport>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host.name.as_str(), host.port))
        .await?
        .collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{host} has no address"),
        ));
    }
    Ok(Box::new(connect_any(addresses, allowed, first).await?))
}

/// Tries the addresses of a name in turn, from the `first` on (modulo their number), each with its share of the time.
async fn connect_any(
    mut addresses: Vec<SocketAddr>,
    allowed: Duration,
    first: usize,
) -> io::Result<TcpStream> {
    let count = addresses.len().max(1);
    addresses.rotate_left(first % count);
    let share = allowed / u32::try_from(count).unwrap_or(u32::MAX);
    let mut last = None;
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are written in batches; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    async fn listener(address: Ipv4Addr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn fs_c13_attempts_begin_with_one_address_of_a_name_after_the_other_and_pass_over_dead_ones()
     {
        let (_one, one) = listener(Ipv4Addr::LOCALHOST).await;
        let (_two, two) = listener(Ipv4Addr::LOCALHOST).await;
        let (closed, dead) = listener(Ipv4Addr::LOCALHOST).await;
        drop(closed);
        let allowed = Duration::from_secs(10);
        let name = vec![one, dead, two];
        for (first, reached) in [(0, one), (1, two), (2, two), (3, one), (usize::MAX, one)] {
            let stream = connect_any(name.clone(), allowed, first).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), reached, "attempt {first}");
        }
        let refused = connect_any(vec![dead], allowed, 0).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
