//! `InterProcessMutex` among others: views and roots, owners and runtimes that end, panics, storms of requests, parents that
//! vanish, children that do not belong there, nodes that others may not read. On the server that the environment chooses.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tests::mutex::{LONG, SHORT, World, is_pending, soon};
use tests::target::{Options, Target};
use tests::wait::{PATIENCE, eventually};
use zk_client::Client;
use zk_proto::{Acl, ErrorCode, OpCode};
use zk_recipes::{
    InterProcessMutex, LockError, Loss, MutexGuard, Owner, REVOKE_MESSAGE, Revoker, TenureState,
};

/// Starts an acquire on a task and waits until the lock has `queue` nodes, its own among them.
async fn waiting(
    world: &World,
    watcher: &Client,
    mutex: &InterProcessMutex,
    queue: usize,
) -> tokio::task::JoinHandle<Result<MutexGuard, LockError>> {
    let mutex = mutex.clone();
    let acquiring = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(watcher, queue).await;
    // Its own node and the one in front are watched, and the holder's own.
    eventually("the wait has begun", PATIENCE, async || {
        (world.watches().await > queue).then_some(())
    })
    .await;
    acquiring
}

fn code(error: &LockError) -> Option<(ErrorCode, OpCode)> {
    match error {
        LockError::Failed { source, .. } => Some((source.code()?, source.op())),
        _ => None,
    }
}

// --- Views and roots

#[tokio::test]
async fn in_a_namespace_paths_are_the_namespaces_and_nodes_are_below_it() {
    let world = World::new("namespace").await;
    let client = world.client().await;
    let view = client.namespace(&world.path).unwrap();
    for path in ["/", "/a/b"] {
        let mutex = InterProcessMutex::new(&view, path).unwrap();
        assert_eq!(mutex.path().as_str(), path);
        let guard = soon(mutex.acquire()).await.unwrap();
        guard.verify().await.unwrap();
        assert_eq!(
            mutex.participants().await.unwrap(),
            [guard.path().to_owned()]
        );
        assert_eq!(
            mutex.holder().await.unwrap().unwrap().path.as_path(),
            guard.path()
        );
        let full = format!("{}{}", world.path, guard.path());
        assert!(client.exists(&full).await.unwrap().is_some(), "{full}");
        // Who contends there without the namespace contends for the same.
        let outside = format!("{}{}", world.path, path.trim_end_matches('/'));
        let outside = InterProcessMutex::new(&client, outside).unwrap();
        assert!(outside.try_acquire().await.unwrap().is_none());
        drop(guard);
        soon(outside.acquire())
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        let guard = soon(mutex.acquire()).await.unwrap();
        guard.fenced_multi().commit().await.unwrap();
        guard.release().await.unwrap();
        let gone = mutex.participants().await.unwrap();
        assert_eq!(gone, []);
    }
}

/// The chroot of the connect string is the administrator's: it is not made, and its absence is told.
#[tokio::test]
async fn a_chroot_that_is_missing_is_told() {
    let world = World::new("chroot").await;
    let admin = world.client().await;
    let client = Client::connect(format!("{}{}", world.addr(), world.path))
        .await
        .unwrap();
    let mutex = InterProcessMutex::new(&client, "/a").unwrap();
    let error = soon(mutex.acquire()).await.unwrap_err();
    assert_eq!(
        code(&error).map(|(code, _)| code),
        Some(ErrorCode::NO_NODE),
        "{error:?}"
    );
    admin.create(&world.path, "").await.unwrap();
    let guard = soon(mutex.acquire()).await.unwrap();
    assert!(
        guard.path().as_str().starts_with("/a/_c_"),
        "{}",
        guard.path()
    );
    guard.verify().await.unwrap();
    drop(guard);
    soon(mutex.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

// --- Owners, tasks, runtimes

/// CURATOR-376: one instance and few owners, hammered from many tasks: what was acquired can be released, and nobody is shut
/// out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curator_376_owners_hammered_from_many_tasks_let_go() {
    let world = World::new("hammer").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    let owners = [Owner::new(), Owner::new()];
    let inside = Arc::new(std::sync::Mutex::new(None::<(usize, usize)>));
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let which = number % owners.len();
            let (mutex, owner, inside) =
                (mutex.clone(), owners[which].clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                for round in 0..20 {
                    let guard = mutex.acquire_as(&owner).await.unwrap();
                    {
                        let mut inside = inside.lock().unwrap();
                        let (owner, count) = inside.unwrap_or((which, 0));
                        assert_eq!(owner, which, "two owners hold");
                        *inside = Some((which, count + 1));
                    }
                    tokio::task::yield_now().await;
                    {
                        let mut inside = inside.lock().unwrap();
                        let (_, count) = inside.unwrap();
                        *inside = (count > 1).then_some((which, count - 1));
                    }
                    if round % 2 == 0 {
                        drop(guard);
                    } else {
                        guard.release().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(PATIENCE * 2, task)
            .await
            .unwrap()
            .unwrap();
    }
    assert!(owners.iter().all(|owner| !mutex.is_held_by(owner)));
    world.until_clean(&client).await;
}

#[tokio::test]
async fn work_that_panics_leaves_the_guard_to_its_owner() {
    let world = World::new("panic").await;
    let client = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    {
        let mut work = std::pin::pin!(guard.run(async { panic!("the work") }));
        let caught = std::future::poll_fn(|cx| {
            let poll = || -> Poll<Result<(), LockError>> { work.as_mut().poll(cx) };
            Poll::Ready(std::panic::catch_unwind(AssertUnwindSafe(poll)))
        });
        assert!(caught.await.is_err());
    }
    assert!(guard.is_held());
    guard.verify().await.unwrap();
    // In a task that owns the guard, the lock is let go with it.
    let task = tokio::spawn(async move {
        guard
            .run(async { panic!("the work") })
            .await
            .map(|()| guard)
    });
    assert!(soon(task).await.unwrap_err().is_panic());
    world.until_clean(&client).await;
}

/// T15, a runtime that is shut down under guards and waiters: nobody panics, the guards are lost, nothing stays.
#[tokio::test]
async fn a_runtime_shut_down_under_guards_and_waiters() {
    let world = World::new("shutdown").await;
    let watcher = world.client().await;
    let outside = world.client().await;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    // All of it on the other runtime: the client, a guard kept in a task, a waiter; and a guard that is taken out.
    let addr = world.addr();
    let path = world.path.clone();
    let inner = runtime.spawn(async move {
        let client = tests::mutex::connect(addr, SHORT).await;
        let mutex = InterProcessMutex::new(&client, &path).unwrap();
        let guard = mutex.acquire().await.unwrap();
        let again = guard.reenter();
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(again);
        });
        tokio::spawn(async move { drop(mutex.acquire().await) });
        (client, guard)
    });
    let (inner_client, taken_out) = soon(inner).await.unwrap();
    // And a hold of a client of ours whose keeper runs there.
    let mutex = InterProcessMutex::new(&outside, format!("{}-outside", world.path)).unwrap();
    let unattended = {
        let mutex = mutex.clone();
        soon(runtime.spawn(async move { mutex.acquire().await.unwrap() }))
            .await
            .unwrap()
    };
    world.until_children(&watcher, 2).await;
    let ended = tokio::spawn({
        let again = unattended.reenter();
        async move { again.lost().await }
    });
    tokio::task::spawn_blocking(move || drop(runtime))
        .await
        .unwrap();

    for guard in [&taken_out, &unattended] {
        assert!(
            matches!(guard.state(), TenureState::Lost(_)),
            "{:?}",
            guard.state()
        );
        assert!(guard.verify().await.unwrap_err().is_lost());
        assert!(soon(guard.settled()).await.unwrap_err().is_lost());
        assert!(guard.run(async {}).await.unwrap_err().is_lost());
    }
    assert_eq!(soon(ended).await.unwrap(), Loss::Unattended);
    assert!(taken_out.release().await.unwrap_err().is_lost());
    let late = world.mutex(&inner_client);
    assert!(matches!(
        soon(late.acquire()).await.unwrap_err(),
        LockError::Closed { .. }
    ));
    // Our client lives: its node goes with the guard.
    drop(unattended);
    soon(mutex.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    // Nobody closed the other one's session: the server ends it.
    world.until_clean(&watcher).await;
}

// --- Storms

/// Requests to let go that come faster than they are read, at the holder and at a waiter: no place is lost, no watch and no
/// queue grows, and the last one is heard of.
#[tokio::test]
async fn a_storm_of_requests_to_let_go() {
    let world = World::new("storm").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let waiter = waiting(&world, &client, &world.mutex(&other), 2).await;
    let queue = world.mutex(&client).participants().await.unwrap();
    let mut requests = guard.revocations();
    let storm = async {
        for _ in 0..20 {
            let burst: Vec<_> = (0..40)
                .map(|number| {
                    let (client, path) = (other.clone(), queue[number % 2].clone());
                    tokio::spawn(
                        async move { Revoker::attempt_revoke(&client, &path).await.unwrap() },
                    )
                })
                .collect();
            for asked in burst {
                asked.await.unwrap();
            }
        }
    };
    soon(storm).await;
    assert_eq!(soon(requests.next()).await, Some(()));
    eventually(
        "each node has its watches, and one each",
        PATIENCE,
        async || (world.watches().await == 3).then_some(()),
    )
    .await;
    assert!(guard.is_held() && !waiter.is_finished());
    assert_eq!(world.mutex(&client).participants().await.unwrap(), queue);
    // What was asked for before is one request, however often; the next one is another.
    while !is_pending(std::pin::pin!(requests.next())).await {}
    Revoker::attempt_revoke(&other, &queue[0]).await.unwrap();
    assert_eq!(soon(requests.next()).await, Some(()));
    guard.release().await.unwrap();
    let guard = soon(waiter).await.unwrap().unwrap();
    assert_eq!(guard.path(), queue[1].as_path());
    assert_eq!(soon(guard.revocations().next()).await, Some(()));
    assert_eq!(
        client.get_data(guard.path()).await.unwrap().data,
        REVOKE_MESSAGE
    );
    guard.release().await.unwrap();
    world.until_clean(&client).await;
}

// --- Parents

/// Somebody deletes the lock's path with everything below: the holder has lost, the waiters queue again, and the path is
/// made again.
#[tokio::test]
async fn a_path_deleted_under_its_lock_is_made_again() {
    let world = World::new("swept-away").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let token = guard.fencing_token();
    let waiter = waiting(&world, &client, &world.mutex(&other), 2).await;
    // All at once: whoever deletes one by one meets those who queue again.
    let queue = world.mutex(&client).participants().await.unwrap();
    let mut multi = client.multi();
    for path in [queue[0].as_str(), queue[1].as_str(), &world.path] {
        multi.delete(path, None);
    }
    multi.commit().await.unwrap();
    assert_eq!(soon(guard.lost()).await, Loss::NodeDeleted);
    let next = soon(waiter).await.unwrap().unwrap();
    assert!(
        next.fencing_token() > token,
        "numbers start anew, tokens do not"
    );
    assert!(next.is_held());
    drop(guard);
    next.verify().await.unwrap();
    // Nobody there, not even the path.
    next.release().await.unwrap();
    client.delete(&world.path).await.unwrap();
    let mutex = world.mutex(&client);
    assert_eq!(mutex.holder().await.unwrap(), None);
    assert_eq!(mutex.participants().await.unwrap(), []);
    soon(mutex.try_acquire())
        .await
        .unwrap()
        .expect("free")
        .release()
        .await
        .unwrap();
}

/// R20, CURATOR-724: the server collects the lock's path between two uses of it, at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_r20_a_container_collected_between_two_acquires() {
    let options = Options::default()
        .set("znode.container.checkIntervalMs", 10)
        .set("znode.container.maxPerMinute", 60_000_000);
    let server = Target::launch(options).await.unwrap();
    let client = tests::mutex::connect(server.addr(), LONG).await;
    let mutex = InterProcessMutex::new(&client, "/locks/deep/below").unwrap();
    let mut collected = 0;
    for round in 0..150 {
        let guard = soon(mutex.acquire()).await.unwrap();
        assert!(guard.is_held());
        guard.verify().await.unwrap();
        guard.release().await.unwrap();
        if round % 15 == 0 {
            eventually("the path is collected", PATIENCE, async || {
                client
                    .exists(mutex.path())
                    .await
                    .unwrap()
                    .is_none()
                    .then_some(())
            })
            .await;
            collected += 1;
        } else {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
        }
    }
    assert!(collected > 0);
}

// --- Children that do not belong there

#[tokio::test]
async fn names_that_no_server_made_neither_block_nor_let_in() {
    let world = World::new("garbage").await;
    let client = world.client().await;
    for name in [
        "lock",
        "lock-",
        "lock-5",
        "lock-000000000",
        "lock-00000000001",
        "lock-2147483648",
        "lock-4294967296",
        "lock-99999999999",
        "lock--2147483649",
        "lock--0000000001",
        "lock-0000000000-lock-",
        "lock-00000 0001",
        "lock-٠٠٠٠٠٠٠٠٠١",
        "_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lease-0000000000",
        "__READ__0000000000",
        // Numbers that the counter will have after 2^31 creates: behind us.
        "lock-2147483647",
        "lock--2147483648",
    ] {
        let path = format!("{}/{name}", world.path);
        client.create(path, "").with_parents().await.unwrap();
    }
    let mutex = world.mutex(&client);
    let guard = soon(mutex.acquire()).await.unwrap();
    assert!(world.mutex(&client).try_acquire().await.unwrap().is_none());
    let queue = mutex.participants().await.unwrap();
    assert_eq!(queue.len(), 3, "{queue:?}");
    assert!(queue.contains(&guard.path().to_owned()));
    let second = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await }
    });
    world.until_children(&client, 19).await;
    guard.release().await.unwrap();
    soon(second)
        .await
        .unwrap()
        .unwrap()
        .release()
        .await
        .unwrap();
    world.until_children(&client, 17).await;
}

/// A node in front that somebody made by hand is waited for, as Curator does; it is no session's, so it must be deleted by
/// hand. It is a node like another in the meantime.
#[tokio::test]
async fn a_node_made_by_hand_in_front_is_waited_for() {
    let world = World::new("by-hand").await;
    let client = world.client().await;
    let stale = format!("{}/stale-lock-0000000000", world.path);
    client
        .create(&stale, Bytes::new())
        .with_parents()
        .await
        .unwrap();
    let mutex = world.mutex(&client);
    assert!(mutex.try_acquire().await.unwrap().is_none());
    assert_eq!(mutex.holder().await.unwrap().unwrap().session.0, 0);
    let acquiring = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(&client, 2).await;
    client.delete(&stale).await.unwrap();
    soon(acquiring)
        .await
        .unwrap()
        .unwrap()
        .release()
        .await
        .unwrap();
}

// --- Access lists

async fn identified(world: &World, who: &str) -> Client {
    let client = world.client().await;
    client
        .add_auth("digest", format!("{who}:secret"))
        .await
        .expect("credentials are taken");
    client
}

/// Nodes that only their creator may read: those of one identity contend, others are told that they may not.
#[tokio::test]
async fn nodes_that_only_their_creator_may_read() {
    let world = World::new("creator-only").await;
    let watcher = world.client().await;
    let mut locks = Vec::new();
    for who in ["ann", "ann", "bob"] {
        let client = identified(&world, who).await;
        let mutex = InterProcessMutex::builder(&client, &world.path)
            .acl(vec![Acl::creator_all()])
            .build()
            .unwrap();
        locks.push(mutex);
    }
    let guard = soon(locks[0].acquire()).await.unwrap();
    guard.verify().await.unwrap();
    let same = tokio::spawn({
        let mutex = locks[1].clone();
        async move { mutex.acquire().await }
    });
    world.until_children(&watcher, 2).await;
    // The node in front cannot be watched: an error, and no node of ours for others to wait behind.
    let error = soon(locks[2].acquire()).await.unwrap_err();
    assert_eq!(
        code(&error),
        Some((ErrorCode::NO_AUTH, OpCode::GET_DATA)),
        "{error:?}"
    );
    assert!(locks[2].try_acquire().await.unwrap().is_none());
    assert_eq!(locks[2].participants().await.unwrap().len(), 2);
    let error = soon(locks[2].holder()).await.unwrap_err();
    assert_eq!(code(&error), Some((ErrorCode::NO_AUTH, OpCode::GET_DATA)));
    guard.release().await.unwrap();
    soon(same).await.unwrap().unwrap().release().await.unwrap();
    // Alone it is as good as any.
    let guard = soon(locks[2].acquire()).await.unwrap();
    guard.verify().await.unwrap();
    guard.release().await.unwrap();
    world.until_clean(&watcher).await;
}

/// The own node's access list is changed under the holder: it stays held while the connection stands; after a reconnection
/// nobody can tell, and that is said; letting go works all the same.
#[tokio::test]
async fn a_node_that_cannot_be_read_any_more_is_in_doubt() {
    let world = World::new("unreadable").await;
    let watcher = world.client().await;
    let (client, proxy) = world.proxied(LONG).await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let mut unreadable = Acl::open_unsafe();
    unreadable.perms = zk_proto::Perms::ADMIN;
    watcher
        .set_acl(guard.path(), vec![unreadable])
        .await
        .unwrap();
    assert!(guard.is_held());
    let error = guard.verify().await.unwrap_err();
    assert_eq!(code(&error), Some((ErrorCode::NO_AUTH, OpCode::GET_DATA)));
    proxy.cut();
    tests::mutex::until_state(&client, |state| !state.is_connected()).await;
    tests::mutex::until_state(&client, zk_client::SessionState::is_connected).await;
    let error = soon(guard.verify()).await.unwrap_err();
    assert_eq!(code(&error), Some((ErrorCode::NO_AUTH, OpCode::GET_DATA)));
    assert_eq!(guard.state(), TenureState::Suspended);
    // Readable again: a look brings the trust back.
    watcher
        .set_acl(guard.path(), vec![Acl::open_unsafe()])
        .await
        .unwrap();
    soon(guard.verify()).await.unwrap();
    assert!(guard.is_held());
    soon(guard.release()).await.unwrap();
    world.until_clean(&watcher).await;
}

/// A node cannot be made at all.
#[tokio::test]
async fn a_path_that_takes_no_nodes_is_told() {
    let world = World::new("no-create").await;
    let client = world.client().await;
    client
        .create(&world.path, "")
        .acl(vec![Acl::read_unsafe()])
        .await
        .unwrap();
    let mutex = world.mutex(&client);
    for error in [
        soon(mutex.acquire()).await.map(drop).unwrap_err(),
        soon(mutex.try_acquire()).await.map(drop).unwrap_err(),
        soon(mutex.acquire_timeout(PATIENCE))
            .await
            .map(drop)
            .unwrap_err(),
        soon(mutex.acquire_as(&Owner::new()))
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(
            code(&error),
            Some((ErrorCode::NO_AUTH, OpCode::CREATE2)),
            "{error:?}"
        );
    }
}
