//! A session through a faulty network, on a real server: what is lost is said to be lost, and nothing else is.
//!
//! The server is the one that the environment chooses; says loudly when there is none. The truth is read past the proxy.

use std::time::Duration;

use tests::gate;
use tests::proxy::Direction;
use tests::target::Options;
use tests::wait::{PATIENCE, eventually};
use tests::world::{World, connected, until};
use zk_client::{Client, EventType, Outcome, SessionState};

async fn world(test: &str, timeout: Duration) -> Option<World> {
    gate::need(test, World::start(Options::default(), timeout).await)
}

#[tokio::test]
async fn fs_c1_a_cut_at_every_byte_gives_the_truth_or_says_that_it_is_not_known() {
    let Some(world) = world("fs_c1", Duration::from_secs(10)).await else {
        return;
    };
    let (mut sure, mut unknown) = (0, 0);
    // A setData frame of this size has 37 bytes, its reply 88: cuts before, within and after both.
    let cuts = (0..40)
        .step_by(3)
        .map(|at| (Direction::ToServer, at))
        .chain((0..92).step_by(7).map(|at| (Direction::ToClient, at)));
    for (direction, at) in cuts {
        connected(&world.client).await;
        let before = world.witness.get_data("/a").await.unwrap().stat.version;
        world.proxy.cut_after(direction, at);
        let result = world.client.set_data("/a", "1").send().await;
        world.proxy.heal();
        if result.is_err() {
            // What the server still had of the old connection is done before it attaches the session again. Something
            // must be answered, too: a server that answers nothing is asked ever less often.
            connected(&world.client).await;
            world.client.exists("/").await.unwrap();
        }
        world.witness.sync("/a").await.unwrap();
        let after = world.witness.get_data("/a").await.unwrap().stat.version;
        let done = after - before;
        match result {
            Ok(stat) => assert_eq!((done, stat.version), (1, after), "{direction:?} {at}"),
            Err(error) if error.outcome() == Outcome::NotDone => {
                assert_eq!(done, 0, "{direction:?} {at}: {error}");
            }
            Err(error) => {
                assert!(error.is_retryable(), "{direction:?} {at}: {error}");
                assert!((0..=1).contains(&done), "sent twice: {direction:?} {at}");
                unknown += 1;
                continue;
            }
        }
        sure += 1;
    }
    assert!(sure > 0 && unknown > 10, "{sure} sure, {unknown} unknown");
}

#[tokio::test]
async fn fs_c5_silence_is_noticed_and_survived() {
    let Some(world) = world("fs_c5", Duration::from_secs(3)).await else {
        return;
    };
    let session = world.client.session_id();
    let mut events = world.client.session_events();
    world.proxy.hold(Direction::ToServer, true);
    world.proxy.hold(Direction::ToClient, true);
    let state = until(&mut events, |_| true).await;
    assert_eq!(state, SessionState::Suspended { session });
    world.proxy.cut();
    world.proxy.heal();
    let state = until(&mut events, |_| true).await;
    assert_eq!(state.session(), Some(session), "{state:?}");
    world.client.get_data("/a").await.unwrap();
}

#[tokio::test]
async fn fs_c6_an_expired_session_ends_its_watches_once_and_a_new_one_follows() {
    let Some(world) = world("fs_c6", Duration::from_millis(800)).await else {
        return;
    };
    let session = world.client.session_id();
    let mut events = world.client.session_events();
    let (_, watch) = world.client.get_data("/a").watch().await.unwrap();
    world
        .client
        .create("/mine", "")
        .mode(zk_client::CreateMode::Ephemeral)
        .await
        .unwrap();
    world.proxy.refuse(true);
    world.proxy.cut();
    let lost = until(&mut events, |state| {
        !matches!(state, SessionState::Suspended { .. })
    })
    .await;
    assert_eq!(lost, SessionState::Lost { session });
    assert!(watch.await.is_end());
    eventually("the ephemeral goes", PATIENCE, || async {
        world
            .witness
            .exists("/mine")
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    world.proxy.heal();
    let new = until(&mut events, SessionState::is_connected).await;
    assert_ne!(new.session(), Some(session), "an epoch of its own");
    world.client.get_data("/a").await.unwrap();
}

#[tokio::test]
async fn fs_c8_a_change_while_away_fires_a_watch_once() {
    let Some(world) = world("fs_c8", Duration::from_secs(20)).await else {
        return;
    };
    let (_, fired) = world.client.get_data("/a").watch().await.unwrap();
    let (_, kept) = world.client.get_children("/a").watch().await.unwrap();
    world.proxy.refuse(true);
    world.proxy.cut();
    world.witness.set_data("/a", "1").await.unwrap();
    world.proxy.heal();
    let event = tokio::time::timeout(PATIENCE, fired).await.unwrap();
    assert_eq!(event.kind, EventType::NODE_DATA_CHANGED);
    // The other watch is there again too, and hears only what concerns it.
    world.witness.set_data("/a", "2").await.unwrap();
    world.witness.create("/a/child", "").await.unwrap();
    let event = tokio::time::timeout(PATIENCE, kept).await.unwrap();
    assert_eq!(event.kind, EventType::NODE_CHILDREN_CHANGED);
}

#[tokio::test]
async fn fs_c16_closing_and_dropping_leave_no_connection() {
    let Some(world) = world("fs_c16", Duration::from_secs(10)).await else {
        return;
    };
    let gone = |what: &'static str| {
        eventually(what, PATIENCE, || async {
            (world.proxy.open() == 0).then_some(())
        })
    };
    world
        .client
        .create("/mine", "")
        .mode(zk_client::CreateMode::Ephemeral)
        .await
        .unwrap();
    world.client.close().await.unwrap();
    gone("a closed client's connection ends").await;
    assert!(world.witness.exists("/mine").await.unwrap().is_none());
    assert!(world.client.get_data("/a").await.is_err());
    let another = Client::connect(world.proxy.addr().to_string())
        .await
        .unwrap();
    let clone = another.clone();
    drop(another);
    clone.get_data("/a").await.unwrap();
    drop(clone);
    gone("a dropped client's connection ends").await;
    drop(world.target);
}
