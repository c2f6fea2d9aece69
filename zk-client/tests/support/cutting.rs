//! A stream to a server that breaks after so many bytes, once: faults at every byte without a proxy.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How many more bytes pass each way before the stream breaks; `None` for all.
#[derive(Debug, Default)]
pub struct Plan {
    pub write: Option<usize>,
    pub read: Option<usize>,
    /// How often a stream broke.
    pub cuts: usize,
}

/// Shared by all connections of a client; a cut uses the plan up.
#[derive(Clone, Debug, Default)]
pub struct Cutter(Arc<Mutex<Plan>>);

impl Cutter {
    pub fn plan<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub fn wrap(&self, stream: TcpStream) -> Cutting {
        Cutting {
            stream: Some(stream),
            cutter: self.clone(),
        }
    }
}

pub struct Cutting {
    stream: Option<TcpStream>,
    cutter: Cutter,
}

impl Cutting {
    fn cut(&mut self) -> io::Error {
        self.stream = None;
        self.cutter.plan(|plan| {
            *plan = Plan {
                cuts: plan.cuts + 1,
                ..Plan::default()
            }
        });
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let allowed = self.cutter.plan(|plan| plan.read);
        let Some(stream) = self.stream.as_mut().filter(|_| allowed != Some(0)) else {
            return Poll::Ready(Err(self.cut()));
        };
        let room = allowed.unwrap_or(usize::MAX).min(buf.remaining());
        let mut part = vec![0; room.min(4096)];
        let mut part = ReadBuf::new(&mut part);
        std::task::ready!(Pin::new(stream).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        buf.put_slice(part.filled());
        self.cutter
            .plan(|plan| plan.read = plan.read.map(|left| left - count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = self.cutter.plan(|plan| plan.write);
        let Some(stream) = self.stream.as_mut().filter(|_| allowed != Some(0)) else {
            return Poll::Ready(Err(self.cut()));
        };
        let part = &bytes[..allowed.unwrap_or(usize::MAX).min(bytes.len())];
        let count = std::task::ready!(Pin::new(stream).poll_write(cx, part))?;
        self.cutter
            .plan(|plan| plan.write = plan.write.map(|left| left - count));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
