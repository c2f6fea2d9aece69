//! `InterProcessMutex` when things go wrong: replies that get lost, connections that end or fall silent, sessions that end.
//! Runs on the server that the environment chooses; the faults are in the network between.

use std::time::{Duration, Instant};

use tests::mutex::{LONG, SHORT, World, drop_after, soon, until_state};
use tests::proxy::{Direction, Reach};
use tests::wait::{PATIENCE, eventually};
use zk_client::{Client, ExpiryPolicy, SessionState};
use zk_proto::OpCode;
use zk_recipes::{InterProcessMutex, LockError, Loss, TenureState};

/// The create of a lock's node on the wire.
const CREATE: OpCode = OpCode::CREATE2;

/// CURATOR-45, CURATOR-62, C2, R3: the node is there, its reply is not; it is found again.
#[tokio::test]
async fn curator_45_a_create_whose_reply_is_lost_is_found_again() {
    let world = World::new("lost-reply").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    // The parents are there, so that the create is the first request.
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    for _ in 0..5 {
        proxy.swallow_reply(CREATE, true);
        let guard = soon(world.mutex(&client).acquire()).await.unwrap();
        assert_eq!(
            world.children(&watcher).await,
            [guard.path().name().unwrap()]
        );
        assert!(guard.is_held());
        guard.verify().await.unwrap();
        guard.release().await.unwrap();
    }
    world.until_clean(&watcher).await;
}

/// CURATOR-190: however often it is tried, a name has one prefix.
#[tokio::test]
async fn curator_190_repeated_creates_have_one_prefix() {
    let world = World::new("one-prefix").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let before = proxy.requests().len();
    for _ in 0..3 {
        proxy.cut_at_request(CREATE, 1, Reach::Withheld);
    }
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let name = guard.path().name().unwrap();
    assert_eq!(name.matches("_c_").count(), 1, "{name}");
    // Nobody cleans up after the attempts that failed: the same name is the last one's.
    client.sync(&world.path).await.unwrap();
    let made = proxy.requests().split_off(before);
    let count = |op| made.iter().filter(|seen| **seen == op).count();
    assert_eq!((count(CREATE), count(OpCode::DELETE)), (4, 0), "{made:?}");
    assert!(guard.is_held());
    assert_eq!(world.children(&watcher).await, [name]);
    guard.release().await.unwrap();
}

/// CURATOR-45: the one who gave up while the reply was lost leaves no node of his live session behind.
#[tokio::test]
async fn curator_45_an_abandoned_create_whose_reply_is_lost_does_not_block_others() {
    let world = World::new("abandoned").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mutex = world.mutex(&client);
    // Nothing comes back: the acquire is dropped while its create was done and not answered.
    proxy.hold(Direction::ToClient, true);
    let waited = mutex.acquire_timeout(Duration::from_millis(200));
    assert!(soon(waited).await.unwrap().is_none());
    world.until_children(&watcher, 1).await;
    let started = Instant::now();
    proxy.cut();
    proxy.heal();
    let guard = soon(world.mutex(&watcher).acquire()).await.unwrap();
    assert!(
        started.elapsed() < LONG / 2,
        "not by the end of the session"
    );
    guard.release().await.unwrap();
    world.until_clean(&watcher).await;
}

/// CURATOR-45: the same, and whoever gave up lets go of the client as well, while there is no connection. Nobody is left to
/// look for the node; the client takes the moment to end its session, and the node does not stay for the session's timeout.
#[tokio::test]
async fn curator_45_an_abandoned_create_of_a_client_that_goes_does_not_block_others() {
    let world = World::new("abandoned-gone").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    soon(mutex.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    proxy.hold(Direction::ToClient, true);
    let waited = mutex.acquire_timeout(Duration::from_millis(200));
    assert!(soon(waited).await.unwrap().is_none());
    world.until_children(&watcher, 1).await;
    proxy.cut();
    until_state(&client, |state| !state.is_connected()).await;
    let started = Instant::now();
    drop((mutex, client));
    proxy.heal();
    let guard = soon(world.mutex(&watcher).acquire()).await.unwrap();
    assert!(
        started.elapsed() < LONG / 2,
        "not by the end of the session"
    );
    guard.release().await.unwrap();
    world.until_clean(&watcher).await;
}

/// CURATOR-79 over a faulty network: dropped at any await point while replies get lost.
#[tokio::test]
async fn curator_79_cancelled_over_lost_replies_leaves_nothing() {
    let world = World::new("cancel-faults").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    for op in [CREATE, OpCode::GET_CHILDREN2, OpCode::GET_DATA] {
        for polls in 1.. {
            proxy.swallow_reply(op, true);
            let mutex = world.mutex(&client);
            let done = soon(drop_after(mutex.acquire(), polls)).await;
            let finished = done.is_some();
            drop(done);
            proxy.heal();
            world.until_clean(&watcher).await;
            if finished {
                break;
            }
        }
    }
}

/// Every request of an acquire and of a release loses its connection once, before and after it reached the server.
#[tokio::test]
async fn each_request_may_lose_its_connection() {
    let world = World::new("each-request").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    for op in [
        OpCode::CREATE_CONTAINER,
        CREATE,
        OpCode::GET_CHILDREN2,
        OpCode::GET_DATA,
        OpCode::DELETE,
    ] {
        for reach in [Reach::Withheld, Reach::Delivered] {
            let path = format!("{}/{op}-{reach:?}", world.path).replace(' ', "");
            let mutex = InterProcessMutex::new(&client, &path).unwrap();
            proxy.cut_at_request(op, 1, reach);
            let guard = soon(mutex.acquire()).await.unwrap();
            soon(guard.settled()).await.unwrap();
            assert_eq!(
                mutex.participants().await.unwrap(),
                [guard.path().to_owned()]
            );
            soon(guard.release()).await.unwrap();
            assert_eq!(
                watcher.get_children(&path).await.unwrap().names,
                Vec::<String>::new()
            );
            proxy.heal();
        }
    }
}

/// R2: in doubt at once when the connection goes, held again only after a look.
#[tokio::test]
async fn fs_r2_a_lost_connection_is_doubt_and_the_same_session_is_verified() {
    let world = World::new("suspended").await;
    let (client, proxy) = world.proxied(LONG).await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let token = guard.fencing_token();
    proxy.refuse(true);
    proxy.cut();
    until_state(&client, |state| {
        matches!(state, SessionState::Suspended { .. })
    })
    .await;
    assert_eq!(guard.state(), TenureState::Suspended);
    assert!(!guard.is_held());
    assert!(matches!(guard.ensure(), Err(LockError::Suspended { .. })));
    let looks = |proxy: &tests::proxy::Proxy| {
        let requests = proxy.requests();
        requests
            .iter()
            .filter(|op| **op == OpCode::GET_DATA)
            .count()
    };
    let before = looks(&proxy);
    // Doubt is no loss: the work goes on.
    let work = guard.run(async {
        proxy.refuse(false);
        soon(guard.settled()).await
    });
    work.await.unwrap().unwrap();
    assert!(guard.is_held() && guard.fencing_token() == token);
    assert!(looks(&proxy) > before, "trusted again without a look");
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_node_that_went_while_disconnected_is_a_loss_after_the_reconnection() {
    let world = World::new("gone-meanwhile").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    until_state(&client, |state| !state.is_connected()).await;
    watcher.delete(guard.path()).await.unwrap();
    assert_eq!(guard.state(), TenureState::Suspended);
    proxy.refuse(false);
    assert_eq!(soon(guard.lost()).await, Loss::NodeDeleted);
    assert!(soon(guard.settled()).await.unwrap_err().is_lost());
}

/// A node of the same name, made by somebody else while nobody could look, is not ours: neither for its holder, nor for one
/// who waits.
#[tokio::test]
async fn a_node_made_again_under_the_own_name_is_not_the_own_one() {
    let world = World::new("impostor").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    let guard = soon(mutex.acquire()).await.unwrap();
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&watcher, 2).await;
    eventually("the wait has begun", PATIENCE, async || {
        (world.watches().await == 2).then_some(())
    })
    .await;
    let queue = world.mutex(&watcher).participants().await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    until_state(&client, |state| !state.is_connected()).await;
    for path in &queue {
        watcher.delete(path).await.unwrap();
        watcher.create(path, "").await.unwrap();
    }
    proxy.refuse(false);
    assert_eq!(soon(guard.lost()).await, Loss::NodeDeleted);
    assert!(guard.verify().await.unwrap_err().is_lost());
    // The waiter queues again, behind what looks like other contenders.
    let queue = eventually("queued again", PATIENCE, async || {
        let now = world.mutex(&watcher).participants().await.unwrap();
        (now.len() == 3).then_some(now)
    })
    .await;
    drop(guard);
    for path in &queue[..2] {
        watcher
            .delete(path)
            .await
            .expect("nobody deleted what is not his");
    }
    let next = soon(waiting).await.unwrap().unwrap();
    assert_eq!(next.path(), queue[2].as_path());
    next.release().await.unwrap();
    world.until_clean(&watcher).await;
}

/// An owner that acquires again while it is in doubt gets the hold that is in doubt: queueing behind the own node would last as
/// long as the doubt, and the session.
#[tokio::test]
async fn an_owner_re_enters_what_is_in_doubt_and_not_what_is_lost() {
    let world = World::new("owner-doubt").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    let owner = zk_recipes::Owner::new();
    let guard = soon(mutex.acquire_as(&owner)).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    until_state(&client, |state| !state.is_connected()).await;
    assert!(!mutex.is_held_by(&owner));
    let again = soon(mutex.acquire_as(&owner)).await.unwrap();
    assert_eq!(again.path(), guard.path());
    assert_eq!(again.state(), TenureState::Suspended);
    proxy.refuse(false);
    soon(again.settled()).await.unwrap();
    assert!(mutex.is_held_by(&owner));
    // Lost: another one, though guards of the lost one are left.
    watcher.delete(guard.path()).await.unwrap();
    soon(guard.lost()).await;
    let next = soon(mutex.acquire_as(&owner)).await.unwrap();
    assert_ne!(next.path(), guard.path());
    drop((guard, again));
    assert!(mutex.is_held_by(&owner));
    next.release().await.unwrap();
    world.until_clean(&watcher).await;
}

/// R4: the session ends while its lock is let go: that is no error, and nobody waits for ever.
#[tokio::test]
async fn fs_r4_the_session_ends_in_the_release() {
    let world = World::new("expired-release").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    for reach in [Reach::Withheld, Reach::Delivered] {
        let guard = soon(mutex.acquire()).await.unwrap();
        proxy.cut_at_request(OpCode::DELETE, 1, reach);
        proxy.refuse(true);
        let release = tokio::spawn(guard.release());
        until_state(&client, |state| !state.is_connected()).await;
        world.kill_session(&client).await;
        proxy.refuse(false);
        soon(release).await.unwrap().unwrap();
        world.until_clean(&watcher).await;
    }
}

/// A server that takes no writes is cut off from the others: what it shows of the own node may be long over.
#[tokio::test]
async fn a_server_that_takes_no_writes_does_not_end_the_doubt() {
    let world = World::new("read-only").await;
    let proxy = tests::proxy::Proxy::start(world.addr()).await.unwrap();
    let client = Client::builder(proxy.addr().to_string())
        .unwrap()
        .session_timeout(LONG)
        .allow_read_only(true)
        .connect()
        .await
        .unwrap();
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    proxy.pretend_read_only(true);
    proxy.cut();
    until_state(&client, |state| {
        matches!(
            state,
            SessionState::Connected {
                read_only: true,
                ..
            }
        )
    })
    .await;
    assert_eq!(guard.state(), TenureState::Suspended);
    // The node is there, as this server says.
    let looked = tokio::time::timeout(Duration::from_millis(300), guard.settled());
    assert!(looked.await.is_err());
    assert_eq!(guard.state(), TenureState::Suspended);
    assert_eq!(*guard.states().borrow(), TenureState::Suspended);
    proxy.pretend_read_only(false);
    proxy.cut();
    soon(guard.settled()).await.unwrap();
    assert!(guard.is_held());
    guard.release().await.unwrap();
}

/// CURATOR-206, K3, T5: silence longer than the session. The holder learns it from its own clock, before the other holds.
#[tokio::test]
async fn curator_206_a_partition_longer_than_the_session_is_a_loss() {
    let world = World::new("partition").await;
    let other = world.client().await;
    let (client, proxy) = world.proxied(SHORT).await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let token = guard.fencing_token();
    let (lost, next) = soon(async {
        proxy.hold(Direction::ToServer, true);
        proxy.hold(Direction::ToClient, true);
        let mutex = world.mutex(&other);
        let next = async {
            let next = mutex.acquire().await.unwrap();
            // Whoever asks the guard now must not hear that it is held.
            (next, guard.is_held())
        };
        tokio::join!(guard.lost(), next)
    })
    .await;
    let (next, held_meanwhile) = next;
    assert_eq!(lost, Loss::SessionEnded);
    assert!(!held_meanwhile, "two at once");
    assert!(next.fencing_token() > token);
    let error = guard.release().await.unwrap_err();
    assert!(
        matches!(
            error,
            LockError::Lost {
                loss: Loss::SessionEnded,
                ..
            }
        ),
        "{error:?}"
    );
    next.release().await.unwrap();
    proxy.cut();
    proxy.heal();
    world.until_clean(&other).await;
}

/// R4, T4: the server ends the session of the holder.
#[tokio::test]
async fn fs_r4_an_expired_session_is_a_loss_and_the_next_one_is_another() {
    let world = World::new("expired-holder").await;
    let client = world.client().await;
    let other = world.client().await;
    let mutex = world.mutex(&client);
    let guard = soon(mutex.acquire()).await.unwrap();
    let session = guard.session_id();
    let (work, ()) = soon(async {
        tokio::join!(
            guard.run(std::future::pending::<()>()),
            world.kill_session(&client)
        )
    })
    .await;
    // The end of the session, or what the server does first about it: the end of the node.
    assert!(work.as_ref().unwrap_err().is_lost(), "{work:?}");
    let next = soon(mutex.acquire()).await.unwrap();
    assert_ne!(next.session_id(), session);
    assert!(!guard.is_held() && next.is_held());
    assert!(guard.verify().await.unwrap_err().is_lost());
    drop(guard);
    next.verify().await.unwrap();
    next.release().await.unwrap();
    world.until_clean(&other).await;
}

/// CURATOR-604, CURATOR-498, C3, R4: a waiter whose session ends queues again at the back, and holds only a node of its new
/// session.
#[tokio::test]
async fn curator_604_a_waiter_whose_session_ends_queues_again_at_the_back() {
    let world = World::new("expired-waiter").await;
    let client = world.client().await;
    let other = world.client().await;
    let holder = world.client().await;
    let guard = soon(world.mutex(&holder).acquire()).await.unwrap();
    let first = tokio::spawn({
        let mutex = world.mutex(&client);
        async move { mutex.acquire().await }
    });
    world.until_children(&holder, 2).await;
    let second = tokio::spawn({
        let mutex = world.mutex(&other);
        async move { mutex.acquire().await }
    });
    world.until_children(&holder, 3).await;
    let queue = world.mutex(&holder).participants().await.unwrap();
    world.kill_session(&client).await;
    let again = eventually("queued again", PATIENCE, async || {
        let now = world.mutex(&holder).participants().await.unwrap();
        (now.len() == 3 && now[1] == queue[2]).then(|| now[2].clone())
    })
    .await;
    assert!(!queue.contains(&again));
    guard.release().await.unwrap();
    let second = soon(second).await.unwrap().unwrap();
    assert!(!first.is_finished());
    second.release().await.unwrap();
    let first = soon(first).await.unwrap().unwrap();
    assert_eq!(
        (first.path(), first.session_id()),
        (again.as_path(), client.session_id())
    );
    first.verify().await.unwrap();
    first.release().await.unwrap();
    world.until_clean(&holder).await;
}

/// CURATOR-604: first in the queue of a session that is over is not first.
#[tokio::test]
async fn curator_604_the_end_of_the_session_while_in_front_is_never_a_grant() {
    let world = World::new("expired-in-front").await;
    let (client, proxy) = world.proxied(LONG).await;
    let watcher = world.client().await;
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mutex = world.mutex(&client);
    // The node is made and in front; what would confirm it does not come back before the session is ended.
    proxy.hold(Direction::ToClient, true);
    let acquiring = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&watcher, 1).await;
    let old = world.children(&watcher).await;
    world.kill_session(&client).await;
    world.until_children(&watcher, 0).await;
    proxy.cut();
    proxy.heal();
    let guard = soon(acquiring).await.unwrap().unwrap();
    assert_ne!(guard.path().name(), Some(old[0].as_str()));
    assert_eq!(guard.session_id(), client.session_id());
    let node = watcher.get_data(guard.path()).await.unwrap();
    assert_eq!(node.stat.ephemeral_owner, guard.session_id().0);
    guard.release().await.unwrap();
}

/// CURATOR-604, CURATOR-498, C3: the client has given its session up by its own clock and has another one, while the server
/// still keeps the old one and its node, in front. That node is no longer ours.
#[tokio::test]
async fn curator_604_a_node_of_the_last_session_in_front_is_never_a_grant() {
    let world = World::new("last-session").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(SHORT).await;
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let mutex = world.mutex(&client);
    // The create is answered, the list is not; then the server hears every attempt to come back, and the client nothing.
    proxy.swallow_reply(OpCode::GET_CHILDREN2, false);
    let acquiring = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&watcher, 1).await;
    let old = client.session_id();
    // The client has nothing to send and pings: long before, the answer to the create has come.
    eventually("a ping", PATIENCE, async || {
        let requests = proxy.requests();
        let list = requests
            .iter()
            .rposition(|op| *op == OpCode::GET_CHILDREN2)?;
        requests[list..].contains(&OpCode::PING).then_some(())
    })
    .await;
    proxy.hold(Direction::ToClient, true);
    until_state(&client, |state| matches!(state, SessionState::Lost { .. })).await;
    let left = world.children(&watcher).await;
    assert_eq!(
        left.len(),
        1,
        "the server keeps the old session; else nothing is tested"
    );
    proxy.heal();
    let guard = soon(acquiring).await.unwrap().unwrap();
    assert_ne!(guard.session_id(), old);
    assert_eq!(guard.session_id(), client.session_id());
    let node = watcher.get_data(guard.path()).await.unwrap();
    assert_eq!(node.stat.ephemeral_owner, guard.session_id().0);
    guard.release().await.unwrap();
    world.until_clean(&watcher).await;
}

#[tokio::test]
async fn a_waiter_may_fail_with_its_session() {
    let world = World::new("fail-with-session").await;
    let client = world.client().await;
    let holder = world.client().await;
    let guard = soon(world.mutex(&holder).acquire()).await.unwrap();
    let mutex = InterProcessMutex::builder(&client, &world.path)
        .fail_on_session_loss()
        .build()
        .unwrap();
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&holder, 2).await;
    eventually("the wait has begun", PATIENCE, async || {
        (world.watches().await >= 3).then_some(())
    })
    .await;
    world.kill_session(&client).await;
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            LockError::Lost {
                loss: Loss::SessionEnded,
                ..
            }
        ),
        "{error:?}"
    );
    world.until_children(&holder, 1).await;
    guard.release().await.unwrap();
}

/// A client that is told to end with its session does not make its locks wait for another one.
#[tokio::test]
async fn a_client_that_ends_with_its_session_ends_its_waits() {
    let world = World::new("end-with-session").await;
    let holder = world.client().await;
    let client = Client::builder(world.addr().to_string())
        .unwrap()
        .session_timeout(LONG)
        .on_expiry(ExpiryPolicy::End)
        .connect()
        .await
        .unwrap();
    let guard = soon(world.mutex(&holder).acquire()).await.unwrap();
    let mutex = world.mutex(&client);
    let waiting = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await }
    });
    world.until_children(&holder, 2).await;
    world.kill_session(&client).await;
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, LockError::Closed { .. }), "{error:?}");
    let error = soon(mutex.acquire()).await.unwrap_err();
    assert!(matches!(error, LockError::Closed { .. }), "{error:?}");
    assert!(soon(mutex.try_acquire()).await.is_err());
    assert!(soon(mutex.participants()).await.is_err());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_waiter_keeps_its_place_through_lost_connections() {
    let world = World::new("place-kept").await;
    let holder = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let guard = soon(world.mutex(&holder).acquire()).await.unwrap();
    let mutex = world.mutex(&client);
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&holder, 2).await;
    let queue = world.mutex(&holder).participants().await.unwrap();
    for _ in 0..5 {
        let accepted = proxy.accepted();
        proxy.cut();
        eventually("a new connection", PATIENCE, async || {
            (proxy.accepted() > accepted).then_some(())
        })
        .await;
        until_state(&client, SessionState::is_connected).await;
    }
    // The hand-over happens while nobody listens.
    proxy.refuse(true);
    proxy.cut();
    until_state(&client, |state| !state.is_connected()).await;
    guard.release().await.unwrap();
    proxy.refuse(false);
    let guard = soon(waiting).await.unwrap().unwrap();
    assert_eq!(guard.path(), queue[1].as_path());
    guard.release().await.unwrap();
}

/// CURATOR-678, R5, R9: a release that loses its connection says nothing before the node is gone.
#[tokio::test]
async fn curator_678_a_release_goes_on_through_lost_connections() {
    let world = World::new("release-cut").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    for reach in [Reach::Withheld, Reach::Delivered] {
        let guard = soon(mutex.acquire()).await.unwrap();
        proxy.cut_at_request(OpCode::DELETE, 1, reach);
        soon(guard.release()).await.unwrap();
        assert!(
            world.children(&watcher).await.is_empty(),
            "success before the node was gone"
        );
        let again = soon(mutex.acquire()).await.unwrap();
        again.release().await.unwrap();
    }
}

/// CURATOR-678: a guard dropped while disconnected; the next acquire of the same instance is not stuck behind it.
#[tokio::test]
async fn curator_678_a_drop_while_disconnected_is_made_good() {
    let world = World::new("drop-cut").await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    for immediate in [false, true] {
        let guard = soon(mutex.acquire()).await.unwrap();
        proxy.refuse(true);
        proxy.cut();
        until_state(&client, |state| !state.is_connected()).await;
        drop(guard);
        let started = Instant::now();
        proxy.refuse(false);
        let again = if immediate {
            soon(mutex.try_acquire())
                .await
                .unwrap()
                .expect("only our own node was there")
        } else {
            soon(mutex.acquire()).await.unwrap()
        };
        assert!(
            started.elapsed() < LONG / 2,
            "not by the end of the session"
        );
        again.release().await.unwrap();
    }
}

/// kazoo 732, 760: an immediate attempt that is given up while suspended leaves no contender.
#[tokio::test]
async fn kazoo_732_an_immediate_attempt_during_a_suspension_leaves_nothing() {
    let world = World::new("try-suspended").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    soon(world.mutex(&watcher).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    for direction in [Direction::ToServer, Direction::ToClient] {
        let mutex = world.mutex(&client);
        proxy.hold(direction, true);
        let attempt = tokio::time::timeout(Duration::from_millis(200), mutex.try_acquire());
        assert!(attempt.await.is_err());
        proxy.cut();
        proxy.heal();
        until_state(&client, SessionState::is_connected).await;
        world.until_clean(&watcher).await;
        let guard = soon(mutex.try_acquire()).await.unwrap().expect("free");
        guard.release().await.unwrap();
    }
}

/// Nothing of a mutex keeps its client alive.
#[tokio::test]
async fn a_client_ends_with_its_last_handle() {
    let world = World::new("last-handle").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let mutex = world.mutex(&client);
    let guard = soon(mutex.acquire()).await.unwrap();
    drop((mutex, client));
    assert!(guard.is_held(), "a guard is a handle");
    drop(guard);
    world.until_clean(&watcher).await;
    eventually("the connection is closed", PATIENCE, async || {
        (proxy.open() == 0).then_some(())
    })
    .await;
}
