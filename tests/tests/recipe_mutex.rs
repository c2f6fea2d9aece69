//! `InterProcessMutex` on the server that the environment chooses: what it promises when nothing goes wrong, and what it
//! leaves behind. Faults are in `recipe_mutex_faults`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::mutex::{World, drop_after, is_pending, soon};
use tests::wait::{PATIENCE, eventually};
use zk_client::{Client, CreateMode};
use zk_proto::{ErrorCode, OpCode};
use zk_recipes::kit::contend::Contenders;
use zk_recipes::{
    InterProcessMutex, LockError, Loss, MutexGuard, Owner, REVOKE_MESSAGE, Revoker, TenureState,
};

/// Starts an acquire on a task and waits until its node is in the queue.
async fn queued(
    world: &World,
    watcher: &Client,
    mutex: &InterProcessMutex,
) -> tokio::task::JoinHandle<Result<MutexGuard, LockError>> {
    let before = world.children(watcher).await.len();
    let mutex = mutex.clone();
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    world.until_children(watcher, before + 1).await;
    waiting
}

#[tokio::test]
async fn nodes_are_those_of_curator() {
    let world = World::new("wire").await;
    let client = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let name = guard.path().name().unwrap().to_owned();
    let (prefix, number) = name.split_at(name.len() - 10);
    assert_eq!(number, "0000000000");
    assert!(prefix.starts_with("_c_") && prefix.ends_with("-lock-") && prefix.len() == 45);
    assert_eq!(zk_client::protected::normalize(&name), "lock-0000000000");
    let node = client.get_data(guard.path()).await.unwrap();
    let text = std::str::from_utf8(&node.data).unwrap();
    assert!(text.parse::<std::net::IpAddr>().is_ok(), "{text}");
    assert_eq!(node.stat.ephemeral_owner, client.session_id().0);
    assert_eq!(guard.session_id(), client.session_id());
    assert_eq!(
        guard.fencing_token().get(),
        node.stat.czxid.0.cast_unsigned()
    );
    guard.release().await.unwrap();
    world.until_clean(&client).await;
}

/// Netflix 29, 307: parents stay for ever unless they are containers.
#[tokio::test]
async fn netflix_29_parents_are_containers() {
    let world = World::new("containers").await;
    let (client, proxy) = world.proxied(tests::mutex::LONG).await;
    let mutex = InterProcessMutex::new(&client, format!("{}/a/b", world.path)).unwrap();
    let guard = soon(mutex.acquire()).await.unwrap();
    let requests = proxy.requests();
    let count = |op| requests.iter().filter(|seen| **seen == op).count();
    assert!(count(OpCode::CREATE_CONTAINER) >= 3, "{requests:?}");
    // The lock's own node, refused and then made; nothing else was.
    assert_eq!(
        (count(OpCode::CREATE2), count(OpCode::CREATE)),
        (2, 0),
        "{requests:?}"
    );
    guard.release().await.unwrap();
}

#[tokio::test]
async fn first_come_first_served() {
    let world = World::new("fifo").await;
    let watcher = world.client().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(world.client().await);
    }
    let mut held = soon(world.mutex(&clients[0]).acquire()).await.unwrap();
    let mut waiting = Vec::new();
    for client in &clients[1..] {
        waiting.push(queued(&world, &watcher, &world.mutex(client)).await);
    }
    // Two contenders on one session are two contenders.
    waiting.push(queued(&world, &watcher, &world.mutex(&clients[0])).await);
    let queue = world.mutex(&watcher).participants().await.unwrap();
    assert_eq!(queue.len(), 5);
    for (place, waiter) in waiting.into_iter().enumerate() {
        assert!(!waiter.is_finished());
        let token = held.fencing_token();
        assert_eq!(queue[place].as_path(), held.path());
        let holder = world.mutex(&watcher).holder().await.unwrap().unwrap();
        assert_eq!(
            (holder.path.as_path(), holder.fencing_token),
            (held.path(), token)
        );
        held.release().await.unwrap();
        held = soon(waiter).await.unwrap().unwrap();
        assert!(held.fencing_token() > token && held.is_held());
    }
    held.release().await.unwrap();
    assert_eq!(world.mutex(&watcher).holder().await.unwrap(), None);
    world.until_clean(&watcher).await;
}

#[tokio::test]
async fn a_guard_is_re_entered_and_the_last_one_lets_go() {
    let world = World::new("reenter").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let again = guard.reenter();
    let third = again.reenter();
    assert_eq!(guard.path(), third.path());
    assert_eq!(world.children(&client).await.len(), 1);
    guard.release().await.unwrap();
    drop(again);
    assert!(world.mutex(&other).try_acquire().await.unwrap().is_none());
    assert!(third.is_held());
    third.verify().await.unwrap();
    third.release().await.unwrap();
    let guard = world.mutex(&other).try_acquire().await.unwrap().unwrap();
    guard.release().await.unwrap();
}

/// R9: of guards that are released at the same moment one is the last, and says so only when the node is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_released_at_once_say_so_when_the_node_is_gone() {
    let world = World::new("reenter-race").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..300 {
        let guard = soon(mutex.acquire()).await.unwrap();
        let guards = [guard.reenter(), guard];
        let (runtime, waiting) = (runtime.clone(), AtomicUsize::new(guards.len()));
        let release = move || {
            std::thread::scope(|scope| {
                for guard in guards {
                    let (runtime, waiting) = (&runtime, &waiting);
                    scope.spawn(move || {
                        let released = std::pin::pin!(guard.release());
                        waiting.fetch_sub(1, Ordering::AcqRel);
                        while waiting.load(Ordering::Acquire) > 0 {
                            std::hint::spin_loop();
                        }
                        runtime.block_on(released).unwrap();
                    });
                }
            });
        };
        soon(tokio::task::spawn_blocking(release)).await.unwrap();
        assert!(world.children(&client).await.is_empty());
    }
}

#[tokio::test]
async fn an_owner_re_enters_one_instance_only() {
    let world = World::new("owner").await;
    let client = world.client().await;
    let (mutex, other_instance) = (world.mutex(&client), world.mutex(&client));
    let (owner, stranger) = (Owner::new(), Owner::new());
    assert!(!mutex.is_held_by(&owner));
    let guard = soon(mutex.acquire_as(&owner)).await.unwrap();
    let again = soon(mutex.clone().acquire_as(&owner.clone()))
        .await
        .unwrap();
    assert_eq!(guard.path(), again.path());
    assert!(mutex.is_held_by(&owner) && !mutex.is_held_by(&stranger));
    assert!(!other_instance.is_held_by(&owner));

    let mut strange = Box::pin(mutex.acquire_as(&stranger));
    let mut elsewhere = Box::pin(other_instance.acquire_as(&owner));
    for waiting in [&mut strange, &mut elsewhere] {
        let wait = tokio::time::timeout(Duration::from_millis(50), waiting);
        assert!(wait.await.is_err());
    }
    drop(guard);
    assert!(is_pending(strange.as_mut()).await && mutex.is_held_by(&owner));
    again.release().await.unwrap();
    assert!(!mutex.is_held_by(&owner));
    let strange = soon(strange).await.unwrap();
    strange.release().await.unwrap();
    soon(elsewhere).await.unwrap().release().await.unwrap();
    world.until_clean(&client).await;
}

#[tokio::test]
async fn two_tasks_of_one_owner_do_not_queue_behind_each_other() {
    let world = World::new("owner-tasks").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    let owner = Owner::new();
    let both = async { tokio::join!(mutex.acquire_as(&owner), mutex.acquire_as(&owner)) };
    let (one, two) = soon(both).await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.path(), two.path());
    drop(one);
    two.release().await.unwrap();
    // A hold that is over is not re-entered.
    let next = soon(mutex.acquire_as(&owner)).await.unwrap();
    assert!(next.is_held());
    next.release().await.unwrap();
}

#[tokio::test]
async fn a_limited_wait_ends_and_leaves_nothing() {
    let world = World::new("timeout").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let mutex = world.mutex(&other);
    let waited = mutex.acquire_timeout(Duration::from_millis(100));
    assert!(soon(waited).await.unwrap().is_none());
    world.until_children(&client, 1).await;
    guard.release().await.unwrap();
    let won = mutex.acquire_timeout(PATIENCE);
    soon(won).await.unwrap().unwrap().release().await.unwrap();
    world.until_clean(&client).await;
}

#[tokio::test]
async fn an_immediate_attempt_does_not_queue_and_does_not_write_in_vain() {
    let world = World::new("try").await;
    let client = world.client().await;
    let (other, proxy) = world.proxied(tests::mutex::LONG).await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let before = proxy.requests().len();
    assert!(world.mutex(&other).try_acquire().await.unwrap().is_none());
    let made = proxy.requests().split_off(before);
    assert!(
        made.iter()
            .all(|op| [OpCode::GET_CHILDREN2, OpCode::PING].contains(op)),
        "{made:?}"
    );
    guard.release().await.unwrap();
    let mine = world.mutex(&other).try_acquire().await.unwrap().unwrap();
    assert!(mine.is_held());
    drop(mine);
    world.until_clean(&client).await;
}

#[tokio::test]
async fn of_many_immediate_attempts_at_most_one_wins_and_the_others_are_gone_when_they_say_so() {
    let world = World::new("try-race").await;
    let mut mutexes = Vec::new();
    for _ in 0..6 {
        mutexes.push(world.mutex(&world.client().await));
    }
    let watcher = world.client().await;
    for _ in 0..10 {
        let tries: Vec<_> = mutexes
            .iter()
            .map(|mutex| {
                let mutex = mutex.clone();
                tokio::spawn(async move { mutex.try_acquire().await.unwrap() })
            })
            .collect();
        let mut won = Vec::new();
        for attempt in tries {
            won.extend(soon(attempt).await.unwrap());
        }
        assert!(won.len() <= 1);
        assert_eq!(world.children(&watcher).await.len(), won.len());
        for guard in won {
            guard.release().await.unwrap();
        }
    }
}

/// CURATOR-678 without a fault: the node of a dropped guard must not defeat an attempt that comes after.
#[tokio::test]
async fn curator_678_an_attempt_after_a_drop_waits_for_the_own_node_to_go() {
    let world = World::new("drop-try").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    for _ in 0..30 {
        let guard = soon(mutex.try_acquire()).await.unwrap();
        drop(guard.expect("nobody else is there"));
    }
    world.until_clean(&client).await;
}

#[tokio::test]
async fn a_guard_goes_where_its_owner_goes() {
    let world = World::new("send").await;
    let client = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let elsewhere = tokio::spawn(async move { guard.release().await });
    soon(elsewhere).await.unwrap().unwrap();
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    // Dropped on a thread that knows no runtime.
    std::thread::spawn(move || drop(guard)).join().unwrap();
    world.until_clean(&client).await;
}

/// CURATOR-43, Netflix 281.
#[tokio::test]
async fn curator_43_a_stray_child_neither_blocks_nor_lets_two_in() {
    let world = World::new("stray").await;
    let client = world.client().await;
    for stray in ["0", "README", "lock-", "zzz", "latch-0000000000"] {
        let path = format!("{}/{stray}", world.path);
        client.create(path, "").with_parents().await.unwrap();
    }
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let mut second = Box::pin(async {
        let mutex = world.mutex(&client);
        mutex.acquire().await
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut second)
            .await
            .is_err()
    );
    assert_eq!(world.mutex(&client).participants().await.unwrap().len(), 2);
    guard.release().await.unwrap();
    soon(second).await.unwrap().release().await.unwrap();
}

/// kazoo's names are waited for where that is asked for.
#[tokio::test]
async fn other_libraries_names_are_respected_on_request() {
    let world = World::new("respect").await;
    let client = world.client().await;
    let kazoo = client
        .create(
            format!("{}/0123456789abcdef0123456789abcdef__lock__", world.path),
            "",
        )
        .mode(CreateMode::EphemeralSequential)
        .with_parents()
        .await
        .unwrap();
    let mutex = InterProcessMutex::builder(&client, &world.path)
        .respect("__lock__")
        .build()
        .unwrap();
    let mut waiting = Box::pin(mutex.acquire());
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut waiting)
            .await
            .is_err()
    );
    client.delete(&kazoo.path).await.unwrap();
    soon(waiting).await.unwrap().release().await.unwrap();
}

/// CURATOR-211: an own node that is not in the list is no grant.
#[tokio::test]
async fn curator_211_a_waiter_whose_node_is_deleted_queues_again() {
    let world = World::new("vanish").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let waiter = queued(&world, &client, &world.mutex(&other)).await;
    let first = world
        .mutex(&client)
        .participants()
        .await
        .unwrap()
        .pop()
        .unwrap();
    eventually("the wait has begun", PATIENCE, async || {
        (world.watches().await >= 3).then_some(())
    })
    .await;
    // A change of the own data does not end the watch over the own node.
    Revoker::attempt_revoke(&client, &first).await.unwrap();
    client.delete(&first).await.unwrap();
    let again = eventually("another node", PATIENCE, async || {
        let queue = world.mutex(&client).participants().await.unwrap();
        queue.get(1).cloned()
    })
    .await;
    assert_ne!(again, first);
    assert!(!waiter.is_finished() && guard.is_held());
    guard.release().await.unwrap();
    let guard = soon(waiter).await.unwrap().unwrap();
    assert_eq!(guard.path(), again.as_path());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_node_deleted_behind_its_holder_is_a_loss() {
    let world = World::new("stolen").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    let guard = soon(mutex.acquire()).await.unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = tests::mutex::DropFlag(Arc::clone(&dropped));
    let work = guard.run(async move {
        let _flag = flag;
        std::future::pending::<()>().await
    });
    let steal = client.delete(guard.path()).into_future();
    let (stopped, stolen) = soon(async { tokio::join!(work, steal) }).await;
    stolen.unwrap();
    assert!(
        matches!(
            stopped,
            Err(LockError::Lost {
                loss: Loss::NodeDeleted,
                ..
            })
        ),
        "{stopped:?}"
    );
    assert!(dropped.load(Ordering::SeqCst), "the work goes on");
    assert_eq!(guard.state(), TenureState::Lost(Loss::NodeDeleted));
    assert!(!guard.is_held() && guard.ensure().is_err());
    assert!(guard.verify().await.unwrap_err().is_lost());
    let again = guard.reenter();
    assert!(!again.is_held());
    drop(again);
    assert!(guard.release().await.unwrap_err().is_lost());
    let next = soon(mutex.acquire()).await.unwrap();
    assert_eq!(next.run(async { 7 }).await.unwrap(), 7);
    next.release().await.unwrap();
    world.until_clean(&client).await;
}

#[tokio::test]
async fn writes_behind_a_fence_are_refused_after_the_loss() {
    let world = World::new("fence").await;
    let client = world.client().await;
    let register = format!("{}-register", world.path);
    client.create(&register, "0").await.unwrap();
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let mut multi = guard.fenced_multi();
    multi.set_data(&register, "1", None);
    multi.commit().await.unwrap();
    client.delete(guard.path()).await.unwrap();
    let mut multi = guard.fenced_multi();
    multi.set_data(&register, "2", None);
    let refused = multi.commit().await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.failed()),
        (Some(ErrorCode::NO_NODE), Some(0))
    );
    assert_eq!(client.get_data(&register).await.unwrap().data, "1");
}

#[tokio::test]
async fn holders_are_asked_to_let_go_also_before_they_hold() {
    let world = World::new("revoke").await;
    let client = world.client().await;
    let other = world.client().await;
    let revocable = |client| {
        InterProcessMutex::builder(client, &world.path)
            .revocable()
            .build()
            .unwrap()
    };
    let guard = soon(revocable(&client).acquire()).await.unwrap();
    assert!(client.get_data(guard.path()).await.unwrap().data.is_empty());
    let mut requests = guard.revocations();
    let waiter = queued(&world, &client, &revocable(&other)).await;
    let queue = revocable(&other).participants().await.unwrap();
    eventually("the wait has begun", PATIENCE, async || {
        (world.watches().await >= 3).then_some(())
    })
    .await;

    // The one who waits is asked first, twice; then the holder, twice.
    for path in [&queue[1], &queue[1], &queue[0]] {
        Revoker::attempt_revoke(&other, path).await.unwrap();
    }
    assert_eq!(soon(requests.next()).await, Some(()));
    assert_eq!(
        client.get_data(guard.path()).await.unwrap().data,
        REVOKE_MESSAGE
    );
    Revoker::attempt_revoke(&other, &queue[0]).await.unwrap();
    assert_eq!(
        soon(requests.next()).await,
        Some(()),
        "the watch is set again"
    );
    guard.release().await.unwrap();
    assert_eq!(soon(requests.next()).await, None);

    let guard = soon(waiter).await.unwrap().unwrap();
    assert_eq!(
        soon(guard.revocations().next()).await,
        Some(()),
        "a request that came while waiting"
    );
    let gone = guard.path().to_owned();
    guard.release().await.unwrap();
    Revoker::attempt_revoke(&other, &gone).await.unwrap();
    world.until_clean(&client).await;
}

/// R7: one release wakes one waiter, however many there are.
#[tokio::test]
async fn fs_r7_one_release_wakes_one_of_two_hundred() {
    let world = World::new("herd").await;
    let watcher = world.client().await;
    let (crowd, proxy) = world.proxied(tests::mutex::LONG).await;
    let guard = soon(world.mutex(&watcher).acquire()).await.unwrap();
    let mutex = world.mutex(&crowd);
    let holding = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let (mutex, holding) = (mutex.clone(), Arc::clone(&holding));
            tokio::spawn(async move {
                let guard = mutex.acquire().await.unwrap();
                assert_eq!(holding.fetch_add(1, Ordering::SeqCst), 0, "two hold");
                holding.fetch_sub(1, Ordering::SeqCst);
                guard.release().await.unwrap();
            })
        })
        .collect();
    world.until_children(&watcher, 201).await;
    // Each waiter reads and watches two nodes, its own and the one in front.
    let reads = || {
        proxy
            .requests()
            .iter()
            .filter(|op| **op == OpCode::GET_DATA)
            .count()
    };
    eventually("all wait", PATIENCE, async || {
        (reads() == 400).then_some(())
    })
    .await;
    // All but the holder's are of one session, which has one watch on each node.
    eventually("all are watched", PATIENCE, async || {
        (world.watches().await == 202).then_some(())
    })
    .await;
    let before = proxy.requests().len();
    guard.release().await.unwrap();
    for waiter in waiting {
        soon(waiter).await.unwrap();
    }
    let made = proxy.requests().split_off(before);
    let count = |op| made.iter().filter(|seen| **seen == op).count();
    // A list for each who was woken, one delete for each who held: a herd would need some 20 000 lists.
    assert_eq!(
        (count(OpCode::GET_CHILDREN2), count(OpCode::DELETE)),
        (200, 200)
    );
    assert_eq!(
        count(OpCode::GET_DATA),
        0,
        "the watches of the wait serve the guard"
    );
    assert_eq!(
        count(OpCode::EXISTS),
        0,
        "never exists on a node that may be gone"
    );
    world.until_clean(&watcher).await;
}

/// CURATOR-161: watches and their objects must not pile up.
#[tokio::test]
async fn curator_161_hundreds_of_uses_leave_no_watch() {
    let world = World::new("watches").await;
    let client = world.client().await;
    let mutex = world.mutex(&client);
    for round in 0..300 {
        let guard = soon(mutex.acquire()).await.unwrap();
        if round % 3 == 0 {
            drop(guard);
        } else {
            guard.release().await.unwrap();
        }
        if round % 50 == 0 {
            assert!(world.watches().await <= 2);
        }
    }
    world.until_clean(&client).await;
}

/// CURATOR-79, CURATOR-205, R6: an acquire that is dropped at any of its await points leaves nothing.
#[tokio::test]
async fn curator_79_an_acquire_dropped_at_any_await_point_leaves_nothing() {
    let world = World::new("cancel").await;
    let client = world.client().await;
    let other = world.client().await;
    for contended in [false, true] {
        for polls in 1.. {
            let guard = if contended {
                Some(soon(world.mutex(&other).acquire()).await.unwrap())
            } else {
                None
            };
            let mutex = world.mutex(&client);
            let acquire = async {
                // The holder lets go half-way through the sweep's reach, so that the hand-over is swept, too.
                let let_go = async {
                    if let Some(guard) = guard {
                        world.until_children(&other, 2).await;
                        guard.release().await.unwrap();
                    }
                };
                tokio::join!(mutex.acquire(), let_go).0
            };
            let done = soon(drop_after(acquire, polls)).await;
            let finished = done.is_some();
            drop(done);
            world.until_clean(&other).await;
            if finished {
                assert!(polls > 1, "nothing was swept");
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_immediate_attempt_dropped_at_any_await_point_leaves_nothing() {
    let world = World::new("cancel-try").await;
    let client = world.client().await;
    for polls in 1.. {
        let mutex = world.mutex(&client);
        let done = soon(drop_after(mutex.try_acquire(), polls)).await;
        let finished = done.is_some();
        drop(done);
        world.until_clean(&client).await;
        if finished {
            break;
        }
    }
}

#[tokio::test]
async fn a_release_dropped_at_any_await_point_is_finished_by_others() {
    let world = World::new("cancel-release").await;
    let client = world.client().await;
    for polls in 1.. {
        let guard = soon(world.mutex(&client).acquire()).await.unwrap();
        let done = soon(drop_after(guard.release(), polls)).await;
        world.until_clean(&client).await;
        if done.is_some() {
            break;
        }
    }
}

/// A waiter that gives up is passed over.
#[tokio::test]
async fn those_behind_a_cancelled_waiter_move_up() {
    let world = World::new("pass-over").await;
    let client = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let second = queued(&world, &client, &world.mutex(&client)).await;
    let third = queued(&world, &client, &world.mutex(&client)).await;
    second.abort();
    world.until_children(&client, 2).await;
    assert!(!third.is_finished() && guard.is_held());
    guard.release().await.unwrap();
    soon(third).await.unwrap().unwrap().release().await.unwrap();
    world.until_clean(&client).await;
}

#[tokio::test]
async fn a_closed_client_ends_holds_and_waits() {
    let world = World::new("closed").await;
    let client = world.client().await;
    let other = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let waiting = queued(&world, &client, &world.mutex(&other)).await;
    other.close().await.unwrap();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, LockError::Closed { .. }), "{error:?}");
    let late = soon(world.mutex(&other).acquire()).await.unwrap_err();
    assert!(matches!(late, LockError::Closed { .. }), "{late:?}");
    world.until_children(&client, 1).await;
    client.close().await.unwrap();
    // The server deletes the node before it confirms the close: either may be the first news.
    let loss = soon(guard.lost()).await;
    assert!(
        matches!(loss, Loss::ClientClosed | Loss::NodeDeleted),
        "{loss}"
    );
    assert!(guard.release().await.unwrap_err().is_lost());
    let after = world.client().await;
    world.until_clean(&after).await;
}

/// CURATOR-41: the error that the user sees is the first one, not that of the clean-up.
#[tokio::test]
async fn curator_41_refusals_are_told_as_they_are() {
    let world = World::new("refused").await;
    let client = world.client().await;
    client
        .create(&world.path, "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    let error = soon(world.mutex(&client).acquire()).await.unwrap_err();
    let LockError::Failed { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.code(), Some(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS));
    client.delete(&world.path).await.unwrap();

    // The own node cannot be read, and cannot be deleted either: the parent lets nobody delete.
    use zk_proto::{Acl, Perms};
    let mut no_delete = Acl::open_unsafe();
    no_delete.perms = Perms::READ | Perms::CREATE | Perms::ADMIN;
    client
        .create(&world.path, "")
        .acl(vec![no_delete])
        .await
        .unwrap();
    let mut unreadable = Acl::open_unsafe();
    unreadable.perms = Perms::WRITE;
    let mutex = InterProcessMutex::builder(&client, &world.path)
        .acl(vec![unreadable])
        .build()
        .unwrap();
    let error = soon(mutex.acquire()).await.unwrap_err();
    let LockError::Failed { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (source.code(), source.op()),
        (Some(ErrorCode::NO_AUTH), OpCode::GET_DATA)
    );
    client.close().await.unwrap();
}

#[tokio::test]
async fn malformed_paths_are_refused_before_anything_is_sent() {
    let world = World::new("paths").await;
    let client = world.client().await;
    for path in ["", "locks", "/locks/", "/a//b", "/a/../b"] {
        let error = InterProcessMutex::new(&client, path).unwrap_err();
        assert!(matches!(error, LockError::BadPath(_)), "{path}");
    }
    let named = |name| {
        InterProcessMutex::builder(&client, &world.path)
            .lock_name(name)
            .build()
    };
    // Nodes of these names would not be recognised among the children, and an acquire would never end.
    for name in ["", "-", "a/b/../", "a/b", "/"] {
        let error = named(name).unwrap_err();
        assert!(
            matches!(&error, LockError::BadName(bad) if bad == name),
            "{name}: {error:?}"
        );
    }
    assert!(matches!(named("\u{1}").unwrap_err(), LockError::BadPath(_)));
    // Digits are a name like another.
    for name in ["0", "10"] {
        let guard = soon(named(name).unwrap().acquire()).await.unwrap();
        guard.release().await.unwrap();
    }
}

/// T12: a server closes the connection on which a frame comes that is too long, and would close the next one, too.
#[tokio::test]
async fn more_data_than_a_server_takes_is_refused_before_anything_is_sent() {
    let world = World::new("large").await;
    let client = world.client().await;
    let holding = |bytes: usize| {
        InterProcessMutex::builder(&client, &world.path)
            .node_data(vec![7; bytes])
            .build()
    };
    let most = zk_proto::frame::DEFAULT_MAX_FRAME - (64 << 10);
    let error = holding(most + 1).unwrap_err();
    assert!(matches!(error, LockError::TooLarge { bytes } if bytes == most + 1));
    let guard = soon(holding(most).unwrap().acquire()).await.unwrap();
    assert_eq!(
        client.get_data(guard.path()).await.unwrap().data.len(),
        most
    );
    guard.release().await.unwrap();
}

/// Exclusion and order under random schedules: holds, cancellations, drops, immediate and limited attempts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_schedules_never_let_two_in() {
    let world = World::new("random").await;
    let watcher = world.client().await;
    let seed = std::env::var("ZK_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("ZK_TEST_SEED={seed}");
    let inside = Arc::new(AtomicUsize::new(0));
    let highest = Arc::new(std::sync::Mutex::new(None));
    let mut tasks = Vec::new();
    for number in 0..8u64 {
        let mutex = world.mutex(&world.client().await);
        let (inside, highest) = (Arc::clone(&inside), Arc::clone(&highest));
        tasks.push(tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
            for _ in 0..25 {
                let guard = match random.u8(..4) {
                    0 => mutex.try_acquire().await.unwrap(),
                    1 => {
                        let limit = Duration::from_micros(random.u64(..20_000));
                        mutex.acquire_timeout(limit).await.unwrap()
                    }
                    2 => {
                        let polls = random.usize(1..12);
                        drop_after(mutex.acquire(), polls)
                            .await
                            .transpose()
                            .unwrap()
                    }
                    _ => Some(mutex.acquire().await.unwrap()),
                };
                let Some(guard) = guard else { continue };
                assert_eq!(
                    inside.fetch_add(1, Ordering::SeqCst),
                    0,
                    "two hold; seed {seed}"
                );
                let token = guard.fencing_token();
                let before = highest.lock().unwrap().replace(token);
                assert!(
                    before < Some(token),
                    "token {token} after {before:?}; seed {seed}"
                );
                for _ in 0..random.u8(..4) {
                    tokio::task::yield_now().await;
                }
                assert!(guard.is_held());
                inside.fetch_sub(1, Ordering::SeqCst);
                if random.bool() {
                    drop(guard);
                } else {
                    guard.release().await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE * 4, task)
            .await
            .expect("no deadlock")
            .unwrap();
    }
    world.until_clean(&watcher).await;
}

/// The pure decision agrees with what a server's names look like.
#[tokio::test]
async fn a_servers_names_are_read() {
    let world = World::new("names").await;
    let client = world.client().await;
    let guard = soon(world.mutex(&client).acquire()).await.unwrap();
    let children = world.children(&client).await;
    assert!(Contenders::marked("lock-").includes(&children[0]));
    assert!(!Contenders::marked("__lock__").includes(&children[0]));
    guard.release().await.unwrap();
}
