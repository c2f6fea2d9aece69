//! Watches as values: what fires them, what a lost connection and a lost session do, and that dropping unregisters.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::{Fake, Fault, connect, retrying};
use zk_client::{AddWatchMode, CreateMode, EventType, OpCode, WatchedEvent, WatcherType, zpath};

/// The event, within ten seconds.
async fn soon(event: impl Future<Output = WatchedEvent>) -> WatchedEvent {
    tokio::time::timeout(Duration::from_secs(10), event)
        .await
        .expect("the watch fires")
}

fn plain(event: &WatchedEvent) -> (EventType, &str) {
    (event.kind, event.path.as_str())
}

fn create(tree: &mut support::Tree, path: &str) {
    tree.create(path, "", CreateMode::Persistent, 0).unwrap();
}

#[tokio::test]
async fn each_read_watches_what_it_read() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let (stat, created) = client.exists("/a").watch().await.unwrap();
    assert_eq!((stat, created.path()), (None, zpath!("/a")));
    let (_, child) = client.get_children("/").watch().await.unwrap();
    fake.change(|tree| create(tree, "/a"));
    assert_eq!(plain(&soon(created).await), (EventType::NODE_CREATED, "/a"));
    assert_eq!(
        plain(&soon(child).await),
        (EventType::NODE_CHILDREN_CHANGED, "/")
    );

    let (_, changed) = client.get_data("/a").watch().await.unwrap();
    let (stat, deleted) = client.exists("/a").watch().await.unwrap();
    assert!(stat.is_some());
    fake.change(|tree| tree.set("/a", "x", -1)).unwrap();
    assert_eq!(
        plain(&soon(changed).await),
        (EventType::NODE_DATA_CHANGED, "/a")
    );
    assert_eq!(
        plain(&soon(deleted).await),
        (EventType::NODE_DATA_CHANGED, "/a")
    );

    let (_, gone) = client.get_children("/a").watch().await.unwrap();
    fake.change(|tree| tree.delete("/a", -1)).unwrap();
    assert_eq!(plain(&soon(gone).await), (EventType::NODE_DELETED, "/a"));
}

#[tokio::test]
async fn fs_c10_an_event_is_there_before_the_reply_that_shows_the_change() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "0").await.unwrap();
    for round in 1..100 {
        let (_, mut changed) = client.get_data("/a").watch().await.unwrap();
        client.set_data("/a", round.to_string()).await.unwrap();
        // Not awaited: it must be ready now.
        let event = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut changed).poll(cx) {
                std::task::Poll::Ready(event) => Some(event),
                std::task::Poll::Pending => None,
            })
        });
        assert_eq!(
            event.await.map(|event| event.kind),
            Some(EventType::NODE_DATA_CHANGED),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn an_absent_node_gets_no_data_watch() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    assert!(client.get_data("/a").watch().await.is_err());
    assert!(client.get_children("/a").watch().await.is_err());
    assert!(!client.check_watches("/a", WatcherType::ANY).await.unwrap());
}

#[tokio::test]
async fn fs_c8_a_change_during_a_lost_connection_fires_once() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "").await.unwrap();
    let (_, changed) = client.get_data("/a").watch().await.unwrap();
    let (_, created) = client.exists("/b").watch().await.unwrap();
    let (_, child) = client.get_children("/").watch().await.unwrap();
    fake.accept(false);
    fake.cut();
    fake.change(|tree| {
        tree.set("/a", "x", -1).unwrap();
        create(tree, "/b");
    });
    fake.accept(true);
    assert_eq!(
        plain(&soon(changed).await),
        (EventType::NODE_DATA_CHANGED, "/a")
    );
    assert_eq!(plain(&soon(created).await), (EventType::NODE_CREATED, "/b"));
    assert_eq!(
        plain(&soon(child).await),
        (EventType::NODE_CHILDREN_CHANGED, "/")
    );
    assert!(!client.check_watches("/a", WatcherType::ANY).await.unwrap());
}

#[tokio::test]
async fn a_watch_without_a_change_survives_a_lost_connection() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "").await.unwrap();
    let (_, changed) = client.get_data("/a").watch().await.unwrap();
    fake.cut();
    // Answered on the new connection, so the watches are back.
    client.sync("/").await.unwrap();
    fake.change(|tree| tree.set("/a", "x", -1)).unwrap();
    assert_eq!(
        plain(&soon(changed).await),
        (EventType::NODE_DATA_CHANGED, "/a")
    );
}

#[tokio::test]
async fn fs_c9_a_watch_whose_reply_was_lost_is_set_by_the_repeat() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "").await.unwrap();
    fake.fault(OpCode::GET_DATA, Fault::CutAfter);
    let (_, changed) = client.get_data("/a").watch().await.unwrap();
    fake.change(|tree| tree.set("/a", "x", -1)).unwrap();
    assert_eq!(
        plain(&soon(changed).await),
        (EventType::NODE_DATA_CHANGED, "/a")
    );
}

/// A reader that stands still for many timeouts: the session goes on, pings flow, and no event is lost.
#[tokio::test]
async fn fs_c12_a_watch_that_nobody_reads_holds_nothing_up() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(400);
    let client = zk_client::Client::builder(fake.address.to_string())
        .unwrap()
        .session_timeout(timeout)
        .connect()
        .await
        .unwrap();
    client.create("/a", "").await.unwrap();
    let session = client.session_id();
    let mut watch = client.watch("/a", AddWatchMode::PERSISTENT).await.unwrap();
    let changes = 5_000;
    for _ in 0..changes {
        fake.change(|tree| tree.set("/a", "x", -1)).unwrap();
    }
    // Then silence, but for pings: without their answers the connection would be given up, and the watch tell of a gap.
    let start = std::time::Instant::now();
    fake.until("ten timeouts", |_| start.elapsed() >= timeout * 10)
        .await;
    assert_eq!(client.exists("/a").await.unwrap().unwrap().version, changes);
    assert_eq!(client.session_id(), session);
    for _ in 0..changes {
        let event = soon(async { watch.next().await.unwrap() }).await;
        assert_eq!(plain(&event), (EventType::NODE_DATA_CHANGED, "/a"));
    }
}

#[tokio::test]
async fn persistent_watches_go_on_and_tell_of_gaps() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "").await.unwrap();
    let mut node = client.watch("/a", AddWatchMode::PERSISTENT).await.unwrap();
    let mut tree_watch = client
        .watch("/a", AddWatchMode::PERSISTENT_RECURSIVE)
        .await
        .unwrap();
    fake.change(|tree| {
        create(tree, "/a/b");
        create(tree, "/a/b/c");
        tree.set("/a", "x", -1).unwrap();
    });
    for expected in [
        (EventType::NODE_CHILDREN_CHANGED, "/a"),
        (EventType::NODE_DATA_CHANGED, "/a"),
    ] {
        assert_eq!(
            plain(&soon(async { node.next().await.unwrap() }).await),
            expected
        );
    }
    for expected in [
        (EventType::NODE_CREATED, "/a/b"),
        (EventType::NODE_CREATED, "/a/b/c"),
        (EventType::NODE_DATA_CHANGED, "/a"),
    ] {
        assert_eq!(
            plain(&soon(async { tree_watch.next().await.unwrap() }).await),
            expected
        );
    }

    fake.accept(false);
    fake.cut();
    fake.change(|tree| tree.set("/a", "unseen", -1)).unwrap();
    fake.accept(true);
    client.sync("/").await.unwrap();
    fake.change(|tree| tree.delete("/a/b/c", -1)).unwrap();
    let gap = soon(async { tree_watch.next().await.unwrap() }).await;
    assert!(gap.is_gap() && !gap.is_end(), "{gap:?}");
    let event = soon(async { tree_watch.next().await.unwrap() }).await;
    assert_eq!(plain(&event), (EventType::NODE_DELETED, "/a/b/c"));
}

#[tokio::test]
async fn fs_c6_the_end_of_the_session_ends_every_watch_once() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    let (_, changed) = client.get_data("/a").watch().await.unwrap();
    let mut going_on = client.watch("/a", AddWatchMode::PERSISTENT).await.unwrap();
    fake.expire_all();
    let event = soon(changed).await;
    assert!(event.is_end() && !event.is_gap(), "{event:?}");
    let event = soon(async { going_on.next().await.unwrap() }).await;
    assert!(event.is_end(), "{event:?}");
    assert_eq!(going_on.next().await, None);
}

#[tokio::test]
async fn dropped_watches_are_unregistered_at_the_server() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    let first = client.get_data("/a").watch().await.unwrap();
    let second = client.get_data("/a").watch().await.unwrap();
    let persistent = client.watch("/p", AddWatchMode::PERSISTENT).await.unwrap();
    drop(first);
    drop(persistent);
    fake.until("the persistent watch is removed", |fake| {
        fake.count(OpCode::REMOVE_WATCHES) == 1
    })
    .await;
    // Another watch still needs the one at the server.
    assert!(client.check_watches("/a", WatcherType::DATA).await.unwrap());
    drop(second);
    fake.until("the data watch is removed", |fake| {
        fake.count(OpCode::REMOVE_WATCHES) == 2
    })
    .await;
    assert!(!client.check_watches("/a", WatcherType::ANY).await.unwrap());
}

#[tokio::test]
async fn a_view_shows_its_own_paths_in_events() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let app = client.namespace("/app").unwrap();
    app.ensure_namespace().await.unwrap();
    let mut below = app
        .watch("/", AddWatchMode::PERSISTENT_RECURSIVE)
        .await
        .unwrap();
    let (_, child) = app.get_children("/").watch().await.unwrap();
    fake.change(|tree| create(tree, "/app/x"));
    assert_eq!(
        plain(&soon(async { below.next().await.unwrap() }).await),
        (EventType::NODE_CREATED, "/x")
    );
    assert_eq!(
        plain(&soon(child).await),
        (EventType::NODE_CHILDREN_CHANGED, "/")
    );
}

#[tokio::test]
async fn watches_of_dropped_reads_are_not_left_behind() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    for when in support::cancel::every_way(8) {
        let _ = support::cancel::dropped(client.get_data("/a").watch().send(), when).await;
        let _ = support::cancel::dropped(client.exists("/nope").watch().send(), when).await;
        let _ = support::cancel::dropped(client.watch("/a", AddWatchMode::PERSISTENT), when).await;
        for path in ["/a", "/nope"] {
            fake.until("no watch is left", |fake| fake.watches(path) == 0)
                .await;
        }
        client.sync("/").await.unwrap();
    }
}
