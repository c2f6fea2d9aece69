//! Watches and credentials of a session that moves, restarts and comes back, on a real server.
//!
//! The server is the one that the environment chooses; says loudly when there is none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use tests::gate;
use tests::proxy::Proxy;
use tests::target::{Options, Target};
use tests::wait::PATIENCE;
use zk_client::{
    Acl, AddWatchMode, Client, CreateMode, ErrorCode, EventType, OpCode, SessionState, WatchedEvent,
};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn target(test: &str) -> Option<Target> {
    gate::need(test, Target::launch(Options::default()).await)
}

async fn connect(address: impl ToString) -> Client {
    Client::connect(address.to_string()).await.unwrap()
}

async fn reconnected(client: &Client) {
    let mut state = client.state();
    soon(state.wait_for(SessionState::is_connected))
        .await
        .unwrap();
}

fn shown(event: &WatchedEvent) -> (EventType, &str) {
    (event.kind, event.path.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn fs_c8_ten_thousand_watches_come_back() {
    const WATCHES: usize = 10_000;
    let Some(target) = target("client_watches: ten thousand").await else {
        return;
    };
    let proxy = Proxy::start(target.addr()).await.unwrap();
    let (client, witness) = (connect(proxy.addr()).await, connect(target.addr()).await);
    // Long names: some megabytes of paths, far above the frame limit of the server.
    let path = |number: usize| format!("/{}-{number:05}", "n".repeat(200));
    let mut watches = Vec::new();
    for start in (0..WATCHES).step_by(500) {
        let numbers = start..start + 500;
        let mut reads = Vec::new();
        for number in numbers {
            let (client, path) = (client.clone(), path(number));
            reads.push(tokio::spawn(async move {
                client.exists(&path).watch().await.unwrap()
            }));
        }
        for read in reads {
            let (stat, watch) = read.await.unwrap();
            assert_eq!(stat, None);
            watches.push(watch);
        }
    }
    let session = client.session_id();
    proxy.refuse(true);
    proxy.cut();
    // One changes while the client is away, another one after it is back.
    witness.create(path(7), "").await.unwrap();
    proxy.refuse(false);
    reconnected(&client).await;
    client.sync("/").await.unwrap();
    assert_eq!(client.session_id(), session);
    let batches = proxy.requests();
    let batches = batches
        .iter()
        .filter(|op| **op == OpCode::SET_WATCHES)
        .count();
    assert!(batches >= WATCHES * 200 / (128 * 1024), "{batches}");
    witness.create(path(9_999), "").await.unwrap();
    for number in [7, 9_999] {
        let event = soon(&mut watches[number]).await;
        assert_eq!(
            shown(&event),
            (EventType::NODE_CREATED, path(number).as_str())
        );
    }
    // And none that did not change.
    client.sync("/").await.unwrap();
    let quiet = tokio::time::timeout(Duration::ZERO, &mut watches[8]).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_finds_session_watches_and_ephemerals_again() {
    let Some(mut target) = target("client_watches: restart").await else {
        return;
    };
    let client = connect(target.addr()).await;
    client
        .create("/mine", "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    let session = client.session_id();
    let (_, child) = client.get_children("/").watch().await.unwrap();
    // Not on one path: servers before 3.9 do not keep both there.
    let mut below = client
        .watch("/top", AddWatchMode::PERSISTENT_RECURSIVE)
        .await
        .unwrap();
    let mut events = client.session_events();
    let target = tokio::task::spawn_blocking(move || {
        target.kill().unwrap();
        target.start_again().unwrap();
        target
    })
    .await
    .unwrap();
    while !soon(events.next()).await.unwrap().is_connected() {}
    assert_eq!(client.session_id(), session);
    let stat = client.exists("/mine").await.unwrap().unwrap();
    assert_eq!(stat.ephemeral_owner, session.0);
    let gap = soon(below.next()).await.unwrap();
    assert!(gap.is_gap(), "{gap:?}");
    let witness = connect(target.addr()).await;
    witness.create("/top", "").await.unwrap();
    let event = soon(child).await;
    assert_eq!(shown(&event), (EventType::NODE_CHILDREN_CHANGED, "/"));
    let event = soon(below.next()).await.unwrap();
    assert_eq!(shown(&event), (EventType::NODE_CREATED, "/top"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_count_on_every_connection() {
    let Some(target) = target("client_watches: credentials").await else {
        return;
    };
    let proxy = Proxy::start(target.addr()).await.unwrap();
    let client = Client::builder(proxy.addr().to_string())
        .unwrap()
        .auth("digest", "bob:secret")
        .connect()
        .await
        .unwrap();
    client
        .create("/bob", "1")
        .acl(vec![Acl::creator_all()])
        .await
        .unwrap();
    let other = connect(target.addr()).await;
    let error = other.get_data("/bob").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NO_AUTH));
    // On another connection of the same session, before anything else.
    proxy.cut();
    while let Err(error) = client.get_data("/bob").await {
        assert!(error.is_retryable(), "{error}");
    }
    // Later is as good as from the start.
    other.add_auth("digest", "bob:secret").await.unwrap();
    assert_eq!(&other.get_data("/bob").await.unwrap().data[..], b"1");
    // What no server accepts ends the client.
    let refused = other.add_auth("nonsense", "x").await.unwrap_err();
    assert!(
        matches!(refused.kind(), zk_client::ErrorKind::AuthFailed),
        "{refused}"
    );
    assert_eq!(other.current_state(), SessionState::AuthFailed);
    assert!(other.get_data("/").await.is_err());
}
