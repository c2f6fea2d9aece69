//! What the tests of recipes share: one server for all tests of a binary, clients on it, with or without a faulty network
//! between, and ways to look at what is left behind. Knows no recipe but the mutex; holds no test.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use crate::apache::four_letter;
use crate::proxy::Proxy;
use crate::raw::{RawConnection, Received};
use crate::target::{Options, Target};
use crate::wait::{PATIENCE, eventually};
use zk_client::{Client, SessionState};
use zk_proto::session::ConnectRequest;
use zk_proto::{OpCode, Xid, Zxid};
use zk_recipes::InterProcessMutex;

/// A session timeout that no test waits for.
pub const LONG: Duration = Duration::from_secs(30);
/// A session timeout that tests do wait for: the shortest that the server of these tests grants, with room for a busy machine.
pub const SHORT: Duration = Duration::from_millis(1500);

/// The server of this binary, and a path on it for one test.
pub struct World {
    server: Arc<Target>,
    /// A path that no other test uses.
    pub path: String,
}

impl World {
    /// The server, started by the first test that needs it and ended by the last; `name` is the test's own path.
    pub async fn new(name: &str) -> Self {
        static SHARED: Mutex<Weak<Target>> = Mutex::new(Weak::new());
        let server = tokio::task::spawn_blocking(|| {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let server = Arc::new(Target::start(Options::default()).expect("a server"));
                *shared = Arc::downgrade(&server);
                server
            })
        });
        Self {
            server: server.await.expect("a server"),
            path: format!("/mutex-{name}"),
        }
    }

    /// Where the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// A client, connected directly.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn client(&self) -> Client {
        connect(self.addr(), LONG).await
    }

    /// A client behind a network of its own.
    pub async fn proxied(&self, timeout: Duration) -> (Client, Proxy) {
        let proxy = Proxy::start(self.addr()).await.expect("a port");
        (connect(proxy.addr(), timeout).await, proxy)
    }

    /// The mutex on the path, an instance of its own.
    ///
    /// # Panics
    /// Never: the path is well-formed.
    #[must_use]
    pub fn mutex(&self, client: &Client) -> InterProcessMutex {
        InterProcessMutex::new(client, &self.path).expect("a path")
    }

    /// Ends a client's session at the server, behind its back: re-attaches from a second connection and closes.
    pub async fn kill_session(&self, client: &Client) {
        let (session_id, passwd) = client.session_credentials().expect("a session");
        let addr = self.addr();
        // The client may take its session back before the close arrives: then once more.
        let kill = move || {
            loop {
                let mut connection = RawConnection::open(addr).expect("a connection");
                let request = ConnectRequest {
                    timeout: 10_000,
                    session_id,
                    last_zxid_seen: Zxid(0),
                    passwd: passwd.clone(),
                    read_only: Some(false),
                    ..ConnectRequest::default()
                };
                match connection.connect(&request).expect("an answer") {
                    Some(answer) if answer.session_id == session_id => {}
                    _ => return,
                }
                if connection
                    .request(Xid(1), OpCode::CLOSE_SESSION, &Empty)
                    .is_ok()
                    && matches!(connection.receive(PATIENCE), Received::Frame(_))
                {
                    return;
                }
            }
        };
        tokio::task::spawn_blocking(kill)
            .await
            .expect("the session ended");
    }

    /// How many watches the server keeps below this test's path.
    pub async fn watches(&self) -> usize {
        let (addr, path) = (self.addr(), self.path.clone());
        tokio::task::spawn_blocking(move || {
            let text = four_letter(addr, "wchp").expect("an answer");
            let mut ours = false;
            let mut count = 0;
            for line in text.lines() {
                if line.starts_with('/') {
                    ours = line.starts_with(&path);
                } else if ours && !line.trim().is_empty() {
                    count += 1;
                }
            }
            count
        })
        .await
        .expect("a count")
    }

    /// The children of this test's path.
    pub async fn children(&self, client: &Client) -> Vec<String> {
        match client.get_children(&self.path).await {
            Ok(children) => children.names,
            Err(error) if error.code() == Some(zk_proto::ErrorCode::NO_NODE) => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until there are so many.
    pub async fn until_children(&self, client: &Client, count: usize) {
        eventually(&format!("{count} children"), PATIENCE, async || {
            (self.children(client).await.len() == count).then_some(())
        })
        .await;
    }

    /// Nothing is left: no node, no watch.
    pub async fn until_clean(&self, client: &Client) {
        self.until_children(client, 0).await;
        eventually("no watches", PATIENCE, async || {
            (self.watches().await == 0).then_some(())
        })
        .await;
    }
}

struct Empty;

impl zk_proto::jute::Encode for Empty {
    fn encode(&self, _: &mut bytes::BytesMut) {}
}

/// A client of `addr`.
///
/// # Panics
/// When it does not come up.
pub async fn connect(addr: SocketAddr, timeout: Duration) -> Client {
    Client::builder(addr.to_string())
        .expect("an address")
        .session_timeout(timeout)
        .connect()
        .await
        .expect("a session")
}

/// Waits until the client's state is as wanted.
pub async fn until_state(client: &Client, wanted: impl FnMut(&SessionState) -> bool) {
    let mut states = client.state();
    tokio::time::timeout(PATIENCE, states.wait_for(wanted))
        .await
        .expect("the state in time")
        .expect("a client");
}

/// Fails the test if `future` takes longer than any test should.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

/// Whether `future` is still pending after everything that is ready has been polled once.
pub async fn is_pending<F: Future>(future: Pin<&mut F>) -> bool {
    let mut future = future;
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Polls `future` until it was pending `polls` times, then drops it where it stands. `Some` if it was done before.
pub async fn drop_after<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Tells whether it was dropped.
pub struct DropFlag(pub Arc<AtomicBool>);

impl Drop for DropFlag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
