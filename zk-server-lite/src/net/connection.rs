//! One connection's task: its first bytes (a four-letter word or a handshake, within a deadline), then requests.
//!
//! The task owns no buffer while nothing has arrived in part. It reads all that is ready into a borrowed bench, cuts every
//! whole frame, and hands them over together.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use std::future::{Future, poll_fn};
use tokio::io::{AsyncRead, AsyncReadExt};
use zk_proto::frame::FrameDecoder;

use crate::four_letter;
use crate::node::core::{Bench, Shared};
use crate::node::halt::Halted;
use crate::node::link::Link;

/// How much is read at once.
const READ: usize = 128 << 10;
/// A partial frame above this is read on where it is, below it is copied in front of the next bytes.
const PARTIAL_COPIED: usize = 16 << 10;
/// Batches a busy connection may have before others get their turn.
const BATCHES: u32 = 4;
/// How long a connection that is being closed may take to receive what it has coming.
const LINGER: Duration = Duration::from_secs(5);

/// What a wait ended with.
enum News {
    /// Frames may have been cut into the bench.
    Received,
    /// The peer closed or the socket failed.
    Gone,
    /// A length that no frame may have: what came before it counts.
    BadFrame,
    /// Somebody changed the link's state.
    Woken,
    /// What was blocked is sent.
    Flushed,
}

struct Inbound<R> {
    reader: R,
    /// The beginning of a frame whose rest has not arrived.
    partial: BytesMut,
    decoder: FrameDecoder,
}

/// Serves a connection to its end.
pub(crate) async fn run<R: AsyncRead + Unpin>(shared: Arc<Shared>, link: Arc<Link>, reader: R) {
    let _guard = shared.halt.guard("connection");
    let inbound = Inbound {
        reader,
        partial: BytesMut::new(),
        decoder: FrameDecoder::new(shared.config.jute_max_buffer),
    };
    // A halted server drops its sockets with everything else.
    let Ok(()) = serve(&shared, &link, inbound).await else {
        return;
    };
    let _ = shared.dismiss(&link);
}

async fn serve<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    mut inbound: Inbound<R>,
) -> Result<(), Halted> {
    let deadline = shared.config.sessionless_timeout;
    // Boxed, like every wait that is rare: a task keeps room for its largest one as long as it lives, and most are idle.
    let begun = Box::pin(tokio::time::timeout(
        deadline,
        begin(shared, link, &mut inbound),
    ))
    .await;
    let mut batch = match begun {
        Ok(Ok(Begin::Session(batch))) => batch,
        Ok(Ok(Begin::Word(word, argument))) => {
            let answer = four_letter::answer(shared, word, argument)?;
            link.push(BytesMut::from(answer.as_bytes()));
            link.close();
            link.flush();
            Box::pin(finish(link)).await;
            return Ok(());
        }
        Ok(Ok(Begin::Nothing)) => return Ok(()),
        Ok(Err(Halted)) => return Err(Halted),
        Err(_elapsed) => {
            shared.metrics.sessionless();
            tracing::debug!(peer = %link.peer, "a connection began no session in time");
            return Ok(());
        }
    };
    thawed(shared).await;
    shared.feed(link, &mut batch)?;
    shared.deliver(&mut batch);
    shared.give_bench(batch);
    requests(shared, link, &mut inbound).await
}

/// What a connection turned out to be.
enum Begin {
    Session(Bench),
    Word(four_letter::Word, Option<i64>),
    Nothing,
}

async fn begin<R: AsyncRead + Unpin>(
    shared: &Shared,
    link: &Link,
    inbound: &mut Inbound<R>,
) -> Result<Begin, Halted> {
    // The first four bytes, however they are split over packets.
    while inbound.partial.len() < 4 {
        if !more(shared, link, inbound).await {
            return Ok(Begin::Nothing);
        }
    }
    if let Some(word) = inbound
        .partial
        .first_chunk()
        .and_then(four_letter::Word::parse)
    {
        let mut argument = None;
        if word.has_argument() {
            while inbound.partial.len() < 12 {
                if !more(shared, link, inbound).await {
                    return Ok(Begin::Nothing);
                }
            }
            argument = inbound.partial[4..]
                .first_chunk()
                .map(|bytes| i64::from_be_bytes(*bytes));
        }
        return Ok(Begin::Word(word, argument));
    }
    // Each request behind the handshake is already in the buffer or comes later.
    let mut bench = shared.take_bench();
    loop {
        match inbound.decoder.decode(&mut inbound.partial) {
            Ok(Some(frame)) => {
                bench.frames.push(frame);
                return Ok(Begin::Session(bench));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(peer = %link.peer, %error, "closing a connection");
                return Ok(Begin::Nothing);
            }
        }
        if !more(shared, link, inbound).await {
            return Ok(Begin::Nothing);
        }
    }
}

/// Reads on into the partial frame. False when the connection is at its end.
async fn more<R: AsyncRead + Unpin>(
    shared: &Shared,
    link: &Link,
    inbound: &mut Inbound<R>,
) -> bool {
    thawed(shared).await;
    inbound.partial.reserve(256);
    tokio::select! {
        read = inbound.reader.read_buf(&mut inbound.partial) => matches!(read, Ok(1..)),
        () = cut(link) => false,
    }
}

/// Waits while a fault hook has the server frozen.
async fn thawed(shared: &Shared) {
    if shared.faults.is_frozen() {
        Box::pin(shared.faults.wait_thawed(&shared.halt)).await;
    }
}

async fn cut(link: &Link) {
    while !link.is_closing() {
        link.woken().await;
    }
}

async fn requests<R: AsyncRead + Unpin>(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    inbound: &mut Inbound<R>,
) -> Result<(), Halted> {
    let mut batches = 0;
    // What came with the handshake.
    let mut bench = shared.take_bench();
    let mut news = inbound.cut_partial(&mut bench);
    loop {
        thawed(shared).await;
        match news {
            News::Received | News::BadFrame => {
                if !bench.frames.is_empty() {
                    shared.feed(link, &mut bench)?;
                    shared.deliver(&mut bench);
                    batches += 1;
                }
                if matches!(news, News::BadFrame) {
                    tracing::debug!(peer = %link.peer, "closing a connection: a length that no frame may have");
                    link.close();
                }
            }
            News::Gone => {
                shared.give_bench(bench);
                return Ok(());
            }
            News::Woken => {}
            News::Flushed => shared.pull(link)?,
        }
        shared.give_bench(std::mem::take(&mut bench));
        if link.is_cut() {
            return Ok(());
        }
        if link.is_closing() {
            Box::pin(finish(link)).await;
            return Ok(());
        }
        if batches >= BATCHES {
            batches = 0;
            tokio::task::yield_now().await;
        }
        news = next(shared, link, inbound, &mut bench).await;
        if !matches!(news, News::Received) {
            batches = 0;
        }
    }
}

async fn next<R: AsyncRead + Unpin>(
    shared: &Shared,
    link: &Link,
    inbound: &mut Inbound<R>,
    bench: &mut Bench,
) -> News {
    let mut woken = pin!(link.woken());
    poll_fn(|cx| {
        if woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(News::Woken);
        }
        if link.is_blocked() && link.poll_flush(cx).is_ready() {
            return Poll::Ready(News::Flushed);
        }
        if !link.may_read() {
            return Poll::Pending;
        }
        *bench = shared.take_bench();
        let received = inbound.poll_receive(cx, bench);
        if received.is_pending() {
            shared.give_bench(std::mem::take(bench));
        }
        received
    })
    .await
}

/// Waits, not for ever, until a connection that ends has been sent everything.
async fn finish(link: &Link) {
    let flushed = async {
        while !link.is_cut() && !link.is_flushed() {
            if link.is_blocked() {
                let mut woken = pin!(link.woken());
                poll_fn(|cx| match link.poll_flush(cx) {
                    Poll::Ready(_) => Poll::Ready(()),
                    Poll::Pending => woken.as_mut().poll(cx),
                })
                .await;
            } else {
                link.woken().await;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, flushed).await;
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    /// Reads once and cuts what is whole.
    fn poll_receive(&mut self, cx: &mut Context<'_>, bench: &mut Bench) -> Poll<News> {
        if self.partial.len() > PARTIAL_COPIED {
            self.partial.reserve(READ);
            let news = match ready!(poll_read(&mut self.reader, cx, &mut self.partial)) {
                Ok(1..) => self.cut_partial(bench),
                Ok(0) | Err(_) => News::Gone,
            };
            return Poll::Ready(news);
        }
        bench.bytes.clear();
        bench.bytes.reserve(READ + PARTIAL_COPIED);
        bench.bytes.extend_from_slice(&self.partial);
        match ready!(poll_read(&mut self.reader, cx, &mut bench.bytes)) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Poll::Ready(News::Gone),
        }
        let news = cut_frames(self.decoder, &mut bench.bytes, &mut bench.frames);
        self.partial = BytesMut::new();
        self.partial.extend_from_slice(&bench.bytes);
        bench.bytes.clear();
        Poll::Ready(news)
    }

    /// Cuts what is whole of the partial frame and what came behind it.
    fn cut_partial(&mut self, bench: &mut Bench) -> News {
        let news = cut_frames(self.decoder, &mut self.partial, &mut bench.frames);
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
        news
    }
}

fn cut_frames(decoder: FrameDecoder, bytes: &mut BytesMut, frames: &mut Vec<bytes::Bytes>) -> News {
    loop {
        match decoder.decode(bytes) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return News::Received,
            Err(_) => return News::BadFrame,
        }
    }
}

fn poll_read<R: AsyncRead + Unpin>(
    reader: &mut R,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    // The future is cancel safe: dropping it after one poll loses nothing.
    Pin::new(&mut pin!(reader.read_buf(into))).poll(cx)
}
