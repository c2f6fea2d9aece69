//! Every future of `InterProcessMutex`, dropped at every poll: afterwards no node, no watch and no task is left, and what was
//! held before is held still. Replies come late and one by one, so that there are polls between any two of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::mutex::{DropFlag, LONG, World, drop_after, soon};
use tests::proxy::{Direction, Proxy};
use tests::wait::{PATIENCE, eventually};
use zk_client::Client;
use zk_recipes::{InterProcessMutex, LockError, Owner, Revoker};

/// A path, a client behind a slow network whose futures are dropped, and one that looks.
struct Scene {
    world: World,
    watcher: Client,
    client: Client,
    proxy: Proxy,
    /// Tasks of this test while nothing goes on.
    tasks: usize,
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

impl Scene {
    async fn new(name: &str) -> Self {
        let world = World::new(&format!("cancel-{name}")).await;
        let watcher = world.client().await;
        let (client, proxy) = world.proxied(LONG).await;
        // The parents are there, so that later sweeps are alike.
        let warm = soon(world.mutex(&client).acquire()).await.expect("a lock");
        let held = tasks();
        warm.release().await.expect("let go");
        let tasks = eventually("the keeper ends with its node", PATIENCE, async || {
            let now = tasks();
            (now < held).then_some(now)
        })
        .await;
        proxy.delay(Direction::ToClient, Duration::from_millis(1));
        Self {
            world,
            watcher,
            client,
            proxy,
            tasks,
        }
    }

    fn mutex(&self) -> InterProcessMutex {
        self.world.mutex(&self.client)
    }

    async fn nothing_is_left(&self) {
        self.world.until_clean(&self.watcher).await;
        eventually("no more tasks than before", PATIENCE, async || {
            (tasks() == self.tasks).then_some(())
        })
        .await;
    }

    /// Drops `op` after one poll, after two, and so on until one run comes to its end; `after` is told the number of polls.
    async fn sweep<T>(&self, mut op: impl AsyncFnMut() -> T, mut after: impl AsyncFnMut(usize)) {
        for polls in 1.. {
            let done = soon(drop_after(op(), polls)).await;
            let finished = done.is_some();
            drop(done);
            after(polls).await;
            if finished {
                assert!(polls > 1, "nothing was swept");
                return;
            }
        }
    }
}

#[tokio::test]
async fn acquire() {
    let scene = Scene::new("acquire").await;
    let mutex = scene.mutex();
    let acquire = async || mutex.acquire().await.unwrap();
    scene
        .sweep(acquire, async |_| scene.nothing_is_left().await)
        .await;
}

#[tokio::test]
async fn acquire_where_the_parents_are_missing() {
    let scene = Scene::new("parents").await;
    for polls in 1.. {
        let path = format!("{}-{polls}/a/b", scene.world.path);
        let mutex = InterProcessMutex::new(&scene.client, &path).unwrap();
        let done = soon(drop_after(mutex.acquire(), polls)).await;
        let finished = done.is_some();
        drop(done);
        scene.nothing_is_left().await;
        let left = scene.watcher.get_children(&path).await;
        assert!(left.is_err() || left.unwrap().names.is_empty());
        if finished {
            assert!(polls > 6, "the making of the parents was not swept");
            break;
        }
    }
}

#[tokio::test]
async fn acquire_with_a_wait_and_a_hand_over() {
    let scene = Scene::new("hand-over").await;
    let mutex = scene.mutex();
    for polls in 1.. {
        let holder = soon(scene.world.mutex(&scene.watcher).acquire())
            .await
            .unwrap();
        let (world, watcher) = (&scene.world, &scene.watcher);
        let acquire = drop_after(mutex.acquire(), polls);
        let let_go = async {
            // It may have been dropped before it had a place: then there is nobody to hand over to.
            let queued = async {
                while world.children(watcher).await.len() < 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(100), queued).await;
            holder.release().await.unwrap();
        };
        let (done, ()) = soon(async { tokio::join!(acquire, let_go) }).await;
        let finished = done.is_some();
        drop(done);
        scene.nothing_is_left().await;
        if finished {
            assert!(polls > 3, "neither the wait nor the hand-over was swept");
            break;
        }
    }
}

#[tokio::test]
async fn acquire_for_a_while() {
    let scene = Scene::new("limited").await;
    let mutex = scene.mutex();
    let acquire = async || mutex.acquire_timeout(PATIENCE).await.unwrap().unwrap();
    scene
        .sweep(acquire, async |_| scene.nothing_is_left().await)
        .await;
    // The limit itself ends it anywhere.
    for micros in (0..6_000).step_by(100) {
        drop(
            mutex
                .acquire_timeout(Duration::from_micros(micros))
                .await
                .unwrap(),
        );
        scene.nothing_is_left().await;
    }
}

#[tokio::test]
async fn acquire_for_an_owner_leaves_the_owner_free() {
    let scene = Scene::new("owner").await;
    let mutex = scene.mutex();
    let owner = Owner::new();
    let acquire = async || mutex.acquire_as(&owner).await.unwrap();
    let after = async |_| {
        assert!(!mutex.is_held_by(&owner));
        scene.nothing_is_left().await;
    };
    scene.sweep(acquire, after).await;
    // A task that waits for what another one of the same owner acquires goes on when that one gives up.
    for polls in 1..6 {
        let first = drop_after(mutex.acquire_as(&owner), polls);
        let (first, second) =
            soon(async { tokio::join!(biased; first, mutex.acquire_as(&owner)) }).await;
        assert!(second.unwrap().is_held());
        drop(first);
        scene.nothing_is_left().await;
    }
}

#[tokio::test]
async fn try_acquire() {
    let scene = Scene::new("try").await;
    let mutex = scene.mutex();
    let attempt = async || mutex.try_acquire().await.unwrap();
    scene
        .sweep(attempt, async |_| scene.nothing_is_left().await)
        .await;
    // With the node of a dropped guard on its way out, which is waited for.
    let again = async || {
        drop(mutex.try_acquire().await.unwrap());
        mutex.try_acquire().await.unwrap()
    };
    scene
        .sweep(again, async |_| scene.nothing_is_left().await)
        .await;
}

/// Two immediate attempts at once: the one that comes second takes its node back, and may be dropped while it does.
#[tokio::test]
async fn try_acquire_that_comes_second() {
    let scene = Scene::new("try-second").await;
    let mutex = scene.mutex();
    let rival = scene.world.mutex(&scene.client);
    let both = async || tokio::join!(biased; rival.try_acquire(), mutex.try_acquire());
    scene
        .sweep(both, async |_| scene.nothing_is_left().await)
        .await;
    let (first, second) = soon(both()).await;
    assert!(first.unwrap().is_some() && second.unwrap().is_none());
    scene.nothing_is_left().await;
}

#[tokio::test]
async fn release() {
    let scene = Scene::new("release").await;
    let mutex = scene.mutex();
    for polls in 1.. {
        let guard = soon(mutex.acquire()).await.unwrap();
        let done = soon(drop_after(guard.release(), polls)).await;
        scene.nothing_is_left().await;
        if done.is_some() {
            break;
        }
    }
}

/// What only looks at a hold may be dropped anywhere, and the hold stays.
#[tokio::test]
async fn whatever_looks_at_a_hold() {
    let scene = Scene::new("looks").await;
    let mutex = scene.mutex();
    let guard = soon(mutex.acquire()).await.unwrap();
    let held = tasks();
    let node = guard.path().to_owned();
    let after = async |_| {
        assert!(guard.is_held());
        assert_eq!(scene.world.children(&scene.watcher).await.len(), 1);
        eventually(
            "no more tasks and watches than before",
            PATIENCE,
            async || (tasks() == held && scene.world.watches().await == 1).then_some(()),
        )
        .await;
    };
    scene
        .sweep(async || guard.verify().await.unwrap(), after)
        .await;
    scene
        .sweep(async || mutex.participants().await.unwrap(), after)
        .await;
    scene
        .sweep(async || mutex.holder().await.unwrap(), after)
        .await;
    scene
        .sweep(async || mutex.try_acquire().await.unwrap(), after)
        .await;
    let work = async || {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = DropFlag(Arc::clone(&dropped));
        let steps = guard.run(async move {
            let _flag = flag;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
        steps.await.unwrap();
        assert!(dropped.load(Ordering::SeqCst));
    };
    scene.sweep(work, after).await;
    assert!(drop_after(guard.lost(), 1).await.is_none());
    after(1).await;
    // A request to let go is not lost with the future that waited for it.
    let mut requests = guard.revocations();
    assert!(drop_after(requests.next(), 1).await.is_none());
    Revoker::attempt_revoke(&scene.watcher, &node)
        .await
        .unwrap();
    assert_eq!(soon(requests.next()).await, Some(()));
    scene
        .sweep(
            async || {
                Revoker::attempt_revoke(&scene.client, &node).await.unwrap();
            },
            after,
        )
        .await;
    drop(requests);
    guard.release().await.unwrap();
    scene.nothing_is_left().await;
}

/// In doubt: `settled`, `verify` and `release` wait for a connection, and may be dropped meanwhile.
#[tokio::test]
async fn whatever_waits_for_a_connection() {
    let scene = Scene::new("doubt").await;
    let mutex = scene.mutex();
    let guard = soon(mutex.acquire()).await.unwrap();
    let again = guard.reenter();
    scene.proxy.refuse(true);
    scene.proxy.cut();
    let mut state = scene.client.state();
    soon(state.wait_for(|state| !state.is_connected()))
        .await
        .unwrap();
    assert!(matches!(guard.ensure(), Err(LockError::Suspended { .. })));
    for _ in 0..3 {
        assert!(drop_after(guard.settled(), 1).await.is_none());
        assert!(drop_after(guard.verify(), 1).await.is_none());
        assert!(drop_after(mutex.acquire(), 1).await.is_none());
        assert!(drop_after(mutex.try_acquire(), 1).await.is_none());
    }
    drop(again);
    assert!(drop_after(guard.release(), 1).await.is_none());
    scene.proxy.refuse(false);
    scene.nothing_is_left().await;
}
