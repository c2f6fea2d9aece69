//! A process that was stopped for longer than its session may live (fs K3).
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::Fake;
use tokio::runtime::{Builder, Runtime};
use zk_client::{Client, CreateMode, ErrorKind, OpCode, SessionState};

const TIMEOUT: Duration = Duration::from_millis(600);

/// A server that goes on while the client's runtime, the second, stands still. The third keeps the server alive.
fn scene() -> (Fake, Runtime, Runtime) {
    let servers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = servers.block_on(Fake::start());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    (fake, runtime, servers)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "stands for SIGSTOP: the whole client stands still, its server does not"
)]
fn fs_k3_after_a_long_pause_user_code_learns_of_the_loss_first() {
    let (fake, runtime, _servers) = scene();
    runtime.block_on(async {
        let client = Client::builder(fake.address.to_string())
            .unwrap()
            .session_timeout(TIMEOUT)
            .connect()
            .await
            .unwrap();
        client
            .create("/lock", "")
            .mode(CreateMode::Ephemeral)
            .await
            .unwrap();
        let session = client.session_id();
        let mut events = client.session_events();
        let reader = client.clone();
        let read = tokio::spawn(async move { reader.get_data("/lock").send().await });
        while fake.count(OpCode::GET_DATA) == 0 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(TIMEOUT * 2);
        // Before the session's task has had a chance to run.
        assert_eq!(client.current_state(), SessionState::Lost { session });
        // What was answered before the pause may come out; what came in meanwhile may not.
        if let Err(error) = read.await.unwrap() {
            assert!(matches!(error.kind(), ErrorKind::SessionExpired), "{error}");
        }
        // A success after the pause belongs to another session, and the loss was told before.
        client.exists("/").await.unwrap();
        assert_ne!(client.session_id(), session);
        assert_eq!(events.next().await, Some(SessionState::Lost { session }));
        assert!(events.next().await.unwrap().is_connected());
    });
}

/// A pause that a session may survive or not: nothing is lost by the client's clock, and nothing can be relied on.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "stands for SIGSTOP: the whole client stands still, its server does not"
)]
fn fs_k3_after_a_shorter_pause_the_session_is_in_doubt_until_a_server_is_heard() {
    let (fake, runtime, _servers) = scene();
    // Long enough that a slow machine does not turn it into the longer pause.
    let timeout = Duration::from_secs(3);
    runtime.block_on(async {
        let client = Client::builder(fake.address.to_string())
            .unwrap()
            .session_timeout(timeout)
            .connect()
            .await
            .unwrap();
        client.exists("/").await.unwrap();
        let session = client.session_id();
        let left = client.trusted_for();
        assert!(!left.is_zero() && left <= timeout * 2 / 3, "{left:?}");
        std::thread::sleep(timeout * 3 / 4);
        // Before the session's task has had a chance to run.
        assert_eq!(client.trusted_for(), Duration::ZERO);
        assert!(
            client.current_state().is_connected(),
            "not over by any clock"
        );
        client.exists("/").await.unwrap();
        assert_eq!(client.session_id(), session, "the server had not given up");
        assert!(!client.trusted_for().is_zero());
    });
}
