//! The fault scenarios of a client's session that need a real server: what it may believe after each of them.
//!
//! The server is the one that the environment chooses; says loudly when there is none. The truth is read past the proxy.

use std::time::Duration;

use tests::gate;
use tests::proxy::{Direction, Reach};
use tests::target::{Options, Target};
use tests::wait::{PATIENCE, eventually};
use tests::world::{World, connected, until};
use zk_client::retry::{Retry, RetryForever};
use zk_client::{
    AddWatchMode, Client, CreateMode, ErrorKind, EventType, OneshotWatch, OpCode, Outcome,
    SessionState, WatchedEvent,
};

async fn world(test: &str, timeout: Duration) -> Option<World> {
    gate::need(test, World::start(Options::default(), timeout).await)
}

/// Repeats what may be repeated, without a pause that a test would feel.
fn patient(client: &Client) -> Client {
    client.retrying(Retry::new(RetryForever::new(Duration::from_millis(5))).deadline(PATIENCE))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

/// The event, if it is there now.
async fn now(watch: &mut OneshotWatch) -> Option<WatchedEvent> {
    tokio::time::timeout(Duration::ZERO, watch).await.ok()
}

#[tokio::test]
async fn fs_c2_a_protected_create_whose_reply_is_lost_is_one_node_of_this_session() {
    let Some(world) = world("fs_c2", Duration::from_secs(10)).await else {
        return;
    };
    let client = patient(&world.client);
    for then_cut in [true, false] {
        let before = world.witness.get_children("/a").await.unwrap().names.len();
        world.proxy.swallow_reply(OpCode::CREATE2, then_cut);
        let create = client
            .create("/a/n-", "")
            .mode(CreateMode::EphemeralSequential);
        let other = world.client.clone();
        let behind = async move {
            // A reply that is missing on a connection that stays is noticed by the one behind it.
            let _ = other.exists("/").await;
        };
        let (created, ()) = tokio::join!(soon(create.protected().send()), behind);
        let created = created.unwrap();
        let names = world.witness.get_children("/a").await.unwrap().names;
        assert_eq!(names.len(), before + 1, "{names:?}");
        let stat = world.witness.exists(&created.path).await.unwrap().unwrap();
        assert_eq!(stat.ephemeral_owner, world.client.session_id().0);
    }
    // Without protection the caller is told that nobody knows.
    world.proxy.swallow_reply(OpCode::CREATE2, true);
    let error = client
        .create("/a/n-", "")
        .mode(CreateMode::EphemeralSequential)
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

#[tokio::test]
async fn fs_c4_a_server_that_lags_is_passed_over_without_losing_the_session() {
    let Some(world) = world("fs_c4", Duration::from_secs(20)).await else {
        return;
    };
    let Some(behind) = gate::need("fs_c4", Target::launch(Options::default()).await) else {
        return;
    };
    // A server of another history, of which it has seen almost nothing, is what a follower that lags looks like.
    for number in 0..50 {
        world
            .client
            .set_data("/a", number.to_string())
            .await
            .unwrap();
    }
    let session = world.client.session_id();
    let mut events = world.client.session_events();
    world.proxy.set_upstream(behind.addr());
    let before = world.proxy.accepted();
    world.proxy.cut();
    // It is asked, more than once, and refuses each time by closing.
    eventually("refused", PATIENCE, || async {
        (world.proxy.accepted() >= before + 3).then_some(())
    })
    .await;
    assert_eq!(
        world.client.current_state(),
        SessionState::Suspended { session }
    );
    world.proxy.set_upstream(world.target.addr());
    connected(&world.client).await;
    assert_eq!(world.client.session_id(), session);
    assert_eq!(
        events.next().await,
        Some(SessionState::Suspended { session }),
        "and nothing else in between"
    );
    assert!(events.next().await.unwrap().is_connected());
    world.client.get_data("/a").await.unwrap();
}

#[tokio::test]
async fn fs_c7_what_the_server_grants_counts() {
    let options = Options::default().set("maxSessionTimeout", "2000");
    let started = World::start(options, Duration::from_secs(60)).await;
    let Some(world) = gate::need("fs_c7", started) else {
        return;
    };
    let trusted = world.client.trusted_for();
    assert!(trusted <= Duration::from_secs(2) * 2 / 3, "{trusted:?}");
    // Silence is noticed in that time, not after two thirds of a minute.
    let mut events = world.client.session_events();
    let start = tokio::time::Instant::now();
    world.proxy.hold(Direction::ToClient, true);
    until(&mut events, |state| {
        matches!(state, SessionState::Suspended { .. })
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn fs_c9_a_watch_in_flight_is_set_once_or_not_at_all() {
    let Some(world) = world("fs_c9", Duration::from_secs(10)).await else {
        return;
    };
    // Set at the server, the reply lost with the connection: the server's watch is gone too.
    world.proxy.swallow_reply(OpCode::GET_DATA, true);
    let error = world.client.get_data("/a").watch().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    connected(&world.client).await;
    let no_watch = zk_client::WatcherType::ANY;
    assert!(!world.client.check_watches("/a", no_watch).await.unwrap());
    // Repeated, it is one watch with one event.
    world.proxy.swallow_reply(OpCode::GET_DATA, true);
    let (_, watch) = patient(&world.client).get_data("/a").watch().await.unwrap();
    world.witness.set_data("/a", "1").await.unwrap();
    assert_eq!(soon(watch).await.kind, EventType::NODE_DATA_CHANGED);
    // The next one is another: nothing of the first two is left to fire it.
    let (_, mut next) = world.client.get_data("/a").watch().await.unwrap();
    world.client.sync("/a").await.unwrap();
    assert_eq!(now(&mut next).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fs_c10_an_event_is_there_before_anything_that_shows_its_change() {
    let Some(world) = world("fs_c10", Duration::from_secs(10)).await else {
        return;
    };
    let mut below = world
        .client
        .watch("/b", AddWatchMode::PERSISTENT_RECURSIVE)
        .await
        .unwrap();
    world.client.create("/b", "").await.unwrap();
    assert_eq!(
        soon(below.next()).await.unwrap().kind,
        EventType::NODE_CREATED
    );
    for round in 1..=200 {
        let (_, mut changed) = world.client.get_data("/a").watch().await.unwrap();
        // Another's change: whatever read shows it, the event is there before.
        let (witness, value) = (world.witness.clone(), round.to_string());
        let writing = tokio::spawn(async move { witness.set_data("/a", value).await.unwrap() });
        while world.client.get_data("/a").await.unwrap().data != round.to_string() {}
        let event = now(&mut changed).await.map(|event| event.kind);
        assert_eq!(event, Some(EventType::NODE_DATA_CHANGED), "round {round}");
        writing.await.unwrap();
        // One's own change.
        world
            .client
            .set_data("/b", round.to_string())
            .await
            .unwrap();
        let event = tokio::time::timeout(Duration::ZERO, below.next()).await;
        assert!(event.is_ok_and(|event| event.is_some()), "round {round}");
    }
}

#[tokio::test]
async fn fs_c11_dropped_requests_shift_no_answer() {
    let Some(world) = world("fs_c11", Duration::from_secs(10)).await else {
        return;
    };
    for number in 0..10 {
        let path = format!("/a/{number}");
        world
            .witness
            .create(path, number.to_string())
            .await
            .unwrap();
    }
    for round in 0..50 {
        let read = |number: usize| world.client.get_data(format!("/a/{}", number % 10)).send();
        // Polled once, so on its way or about to be, and dropped.
        for number in 0..5 {
            drop(tokio::time::timeout(Duration::ZERO, read(round + number)).await);
        }
        let node = soon(read(round)).await.unwrap();
        assert_eq!(node.data, (round % 10).to_string());
    }
}

#[tokio::test]
async fn fs_c18_what_was_applied_of_a_pipeline_is_its_beginning() {
    let Some(world) = world("fs_c18", Duration::from_secs(10)).await else {
        return;
    };
    const LONG: usize = 8;
    let mut lengths = Vec::new();
    for round in 0..2 * LONG {
        let parent = format!("/p{round}");
        world.witness.create(&parent, "").await.unwrap();
        let reach = if round % 2 == 0 {
            Reach::Withheld
        } else {
            Reach::Delivered
        };
        world
            .proxy
            .cut_at_request(OpCode::CREATE2, 1 + round / 2, reach);
        let creates: Vec<_> = (0..LONG)
            .map(|number| {
                let (client, path) = (world.client.clone(), format!("{parent}/{number}"));
                // In the order of the first poll, which on one thread is the order of the spawns.
                tokio::spawn(async move { client.create(path, "").send().await })
            })
            .collect();
        let mut results = Vec::new();
        for create in creates {
            results.push(soon(create).await.unwrap());
        }
        world.proxy.heal();
        connected(&world.client).await;
        // What the server still had of the old connection is done by now; an answer ends the waits between attempts.
        world.client.sync("/").await.unwrap();
        world.witness.sync("/").await.unwrap();
        let mut names = world.witness.get_children(&parent).await.unwrap().names;
        names.sort();
        let beginning: Vec<_> = (0..names.len()).map(|number| number.to_string()).collect();
        assert_eq!(names, beginning, "round {round}");
        for (number, result) in results.iter().enumerate() {
            let done = number < names.len();
            match result {
                Ok(_) => assert!(done, "round {round}: {number} is claimed"),
                Err(error) if error.outcome() == Outcome::NotDone => {
                    assert!(!done, "round {round}: {number}: {error}");
                }
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::ConnectionLost),
                    "round {round}: {number}: {error}"
                ),
            }
        }
        lengths.push(names.len());
    }
    assert!(
        lengths.iter().any(|length| (1..LONG).contains(length)),
        "{lengths:?}"
    );
}

#[tokio::test]
async fn fs_k3_an_answer_that_was_long_on_its_way_is_trusted_for_less() {
    let timeout = Duration::from_secs(8);
    let Some(world) = world("fs_k3", timeout).await else {
        return;
    };
    let slow = Duration::from_secs(3);
    world.client.exists("/").await.unwrap();
    world.proxy.delay(Direction::ToClient, slow);
    let asked = tokio::time::Instant::now();
    world.client.get_data("/a").await.unwrap();
    let (took, trusted) = (asked.elapsed(), world.client.trusted_for());
    assert!(took >= slow);
    // From the request on, not from its answer on; a ping in between may count from its own time.
    assert!(trusted <= timeout - slow, "{trusted:?} after {took:?}");
}
