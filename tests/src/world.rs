//! One server, a faulty network, a client behind it and one past it: the scene of the tests of a session.
//!
//! The server is the one that the environment chooses. The truth is read by the witness. It knows no scenario.

use std::time::Duration;

use zk_client::{Client, SessionEvents, SessionState};

use crate::proxy::Proxy;
use crate::target::{Options, Target};
use crate::wait::PATIENCE;

/// The scene.
#[derive(Debug)]
pub struct World {
    /// The server.
    pub target: Target,
    /// The network between it and [`client`](Self::client).
    pub proxy: Proxy,
    /// Through the proxy.
    pub client: Client,
    /// Past it.
    pub witness: Client,
}

impl World {
    /// With a session of this timeout through the proxy, and a node `/a` that holds `0`.
    ///
    /// # Errors
    /// When there is no server.
    ///
    /// # Panics
    /// When a server that is there cannot be used.
    ///
    /// # Cancellation
    /// As [`Target::launch`].
    pub async fn start(options: Options, timeout: Duration) -> Result<Self, String> {
        let target = Target::launch(options).await?;
        let proxy = Proxy::start(target.addr())
            .await
            .expect("a port for the proxy");
        let client = Client::builder(proxy.addr().to_string())
            .expect("an address is a host")
            .session_timeout(timeout)
            .connect()
            .await
            .expect("a session through the proxy");
        let witness = Client::connect(target.addr().to_string())
            .await
            .expect("a session past the proxy");
        witness.create("/a", "0").await.expect("a node to work on");
        Ok(Self {
            target,
            proxy,
            client,
            witness,
        })
    }
}

/// Waits until the client is connected.
///
/// # Panics
/// When that takes too long.
///
/// # Cancellation
/// Nothing is held.
pub async fn connected(client: &Client) {
    let mut state = client.state();
    let connected = state.wait_for(SessionState::is_connected);
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("connected in time")
        .expect("the client has not ended");
}

/// The next change that is `wanted`; the ones before it are passed over.
///
/// # Panics
/// When that takes too long, or the client ends.
///
/// # Cancellation
/// Changes that were passed over stay so.
pub async fn until(
    events: &mut SessionEvents,
    wanted: impl Fn(&SessionState) -> bool,
) -> SessionState {
    let next = async {
        loop {
            let state = events.next().await.expect("the client has not ended");
            if wanted(&state) {
                return state;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next)
        .await
        .expect("the state changed in time")
}
