//! How a client ends: closed, let go, cancelled; and that nothing of it stays behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::cancel::{dropped, every_way};
use support::{Fake, Fault, connect};
use tokio::runtime::Handle;
use zk_client::{AddWatchMode, Client, CreateMode, ErrorKind, OpCode, Outcome, SessionState};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until as many tasks live as before: the client's own, and the server's for its connections.
async fn back_to(before: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while tasks() != before {
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "{} tasks, {before} before", tasks());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fs_c16_a_closed_client_leaves_nothing() {
    let fake = Fake::start().await;
    let before = tasks();
    let client = connect(&fake).await;
    client
        .create("/e", "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    let (_, watch) = client.exists("/other").watch().await.unwrap();
    client.close().await.unwrap();
    assert_eq!(fake.names("/"), Vec::<String>::new());
    assert!(watch.await.is_end());
    let error = client.exists("/").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error}");
    assert_eq!(error.outcome(), Outcome::NotDone);
    assert_eq!(client.current_state(), SessionState::Closed);
    // Again is no error; the handles may stay.
    client.close().await.unwrap();
    back_to(before).await;
}

#[tokio::test]
async fn fs_c16_a_client_let_go_leaves_nothing() {
    let fake = Fake::start().await;
    let before = tasks();
    let client = connect(&fake).await;
    let view = client.namespace("/x").unwrap();
    let mut watch = client.watch("/e", AddWatchMode::PERSISTENT).await.unwrap();
    client
        .create("/e", "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    drop(client);
    assert_eq!(
        fake.count(OpCode::CLOSE_SESSION),
        0,
        "a view holds the session"
    );
    drop(view);
    back_to(before).await;
    assert_eq!(fake.count(OpCode::CLOSE_SESSION), 1);
    assert_eq!(fake.names("/"), Vec::<String>::new());
    let mut last = None;
    while let Some(event) = watch.next().await {
        last = Some(event);
    }
    assert!(last.unwrap().is_end());
}

#[tokio::test]
async fn fs_c16_let_go_without_a_connection() {
    let fake = Fake::start().await;
    let before = tasks();
    let client = connect(&fake).await;
    fake.accept(false);
    fake.cut();
    let mut state = client.state();
    state.wait_for(|state| !state.is_connected()).await.unwrap();
    // A request that waits for a connection is dropped with its future.
    assert!(
        tokio::time::timeout(Duration::from_millis(20), client.exists("/").send())
            .await
            .is_err()
    );
    drop(client);
    back_to(before).await;
    // Once more, with a server that is back soon: the session does not outlive its client by its timeout.
    fake.accept(true);
    let client = connect(&fake).await;
    let closed = fake.count(OpCode::CLOSE_SESSION);
    fake.accept(false);
    fake.cut();
    let mut state = client.state();
    state.wait_for(|state| !state.is_connected()).await.unwrap();
    drop(client);
    fake.accept(true);
    back_to(before).await;
    assert_eq!(fake.count(OpCode::CLOSE_SESSION), closed + 1);
    // Never connected at all.
    fake.accept(false);
    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .start()
        .unwrap();
    drop(client);
    back_to(before).await;
}

#[tokio::test]
async fn fs_c16_close_in_the_middle_of_things() {
    let fake = Fake::start().await;
    let before = tasks();
    // Requests in flight are answered before the close.
    let client = connect(&fake).await;
    let create = client.create("/a", "").send();
    let (created, closed) = tokio::join!(create, client.close());
    created.unwrap();
    closed.unwrap();
    // The answer never comes.
    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .session_timeout(Duration::from_millis(900));
    let client = client.connect().await.unwrap();
    fake.fault(OpCode::CLOSE_SESSION, Fault::Silence);
    let error = client.close().await.unwrap_err();
    assert_eq!(
        (error.op(), error.outcome()),
        (OpCode::CLOSE_SESSION, Outcome::Unknown)
    );
    // While reconnecting: on the next connection.
    let client = connect(&fake).await;
    let closes = fake.count(OpCode::CLOSE_SESSION);
    fake.cut();
    client.close().await.unwrap();
    assert_eq!(fake.count(OpCode::CLOSE_SESSION), closes + 1);
    drop(client);
    back_to(before).await;
}

#[tokio::test]
async fn dropped_at_every_await_point() {
    let fake = Fake::start().await;
    let before = tasks();
    let mut finished = 0;
    for when in every_way(8) {
        let hosts = fake.address.to_string();
        if let Some(client) = dropped(Client::connect(&hosts), when).await {
            let client = client.unwrap();
            let _ = dropped(client.add_auth("digest", "a:b"), when).await;
            client.exists("/").await.unwrap();
            finished += usize::from(dropped(client.close(), when).await.is_some());
        }
        back_to(before).await;
    }
    assert!(finished > 0);
}

#[tokio::test]
async fn many_sessions_leave_nothing() {
    let fake = Fake::start().await;
    let before = tasks();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(connect(&fake).await);
    }
    fake.cut();
    for client in &clients {
        while client.exists("/").await.is_err() {}
    }
    drop(clients);
    back_to(before).await;
    assert_eq!(fake.count(OpCode::CLOSE_SESSION), 50);
}
