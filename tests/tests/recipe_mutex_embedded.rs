//! `InterProcessMutex` against the embedded server's own fault hooks: seeded histories under faults, and a process that was
//! stopped. Always on the embedded server, whatever the environment chooses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::mutex::{LONG, SHORT, connect, drop_after, soon, until_state};
use tests::wait::{PATIENCE, eventually};
use zk_client::{Client, SessionState};
use zk_proto::{ErrorCode, OpCode, SessionId};
use zk_recipes::{InterProcessMutex, Loss, TenureState};
use zk_server_lite::{AfterSwallow, ZkServer};

const PATH: &str = "/locks/a";

async fn server() -> ZkServer {
    ZkServer::builder()
        .tick_time(Duration::from_millis(100))
        .session_timeouts(Duration::from_millis(200), Duration::from_secs(60))
        .start()
        .await
        .unwrap()
}

async fn client(server: &ZkServer, timeout: Duration) -> Client {
    connect(server.addr().unwrap(), timeout).await
}

fn mutex(client: &Client) -> InterProcessMutex {
    InterProcessMutex::new(client, PATH).unwrap()
}

async fn children(client: &Client) -> usize {
    match client.get_children(PATH).await {
        Ok(children) => children.names.len(),
        Err(error) if error.code() == Some(ErrorCode::NO_NODE) => 0,
        Err(error) => panic!("{error}"),
    }
}

async fn until_clean(client: &Client) {
    eventually("no children", PATIENCE, async || {
        (children(client).await == 0).then_some(())
    })
    .await;
}

/// C2, R3: the create was done, its reply was swallowed and the connection stays silent.
#[tokio::test]
async fn fs_c2_a_swallowed_reply_makes_no_second_node() {
    let server = server().await;
    let watcher = client(&server, LONG).await;
    let client = client(&server, SHORT).await;
    soon(mutex(&client).acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    for after in [AfterSwallow::Cut, AfterSwallow::Silence] {
        server.swallow_next_reply(OpCode::CREATE2, after);
        let guard = soon(mutex(&client).acquire()).await.unwrap();
        assert_eq!(children(&watcher).await, 1);
        assert!(guard.is_held());
        guard.release().await.unwrap();
        server.swallow_next_reply(OpCode::DELETE, after);
        let guard = soon(mutex(&client).acquire()).await.unwrap();
        soon(guard.release()).await.unwrap();
        assert_eq!(children(&watcher).await, 0);
    }
}

/// K3, R1, T6: the process is stopped for longer than its session while it holds. On waking, before anything else can run,
/// the guard knows, and work is not begun.
#[tokio::test(flavor = "current_thread")]
async fn fs_k3_after_a_pause_of_the_process_the_first_news_is_the_loss() {
    let server = server().await;
    let holder = client(&server, SHORT).await;
    let guard = soon(mutex(&holder).acquire()).await.unwrap();
    assert!(guard.is_held());
    stop_this_thread(SHORT * 2);
    // The session's task shares this thread: it has not run since, and its state is what it was.
    assert!(holder.state().borrow().is_connected());
    assert_eq!(guard.state(), TenureState::Lost(Loss::SessionEnded));
    let began = AtomicBool::new(false);
    let work = guard.run(async { began.store(true, Ordering::SeqCst) });
    assert!(work.await.unwrap_err().is_lost());
    assert!(!began.load(Ordering::SeqCst), "one more step was taken");
    assert!(guard.release().await.unwrap_err().is_lost());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause is what is tested: as if the process had been stopped"
)]
fn stop_this_thread(pause: Duration) {
    std::thread::sleep(pause);
}

/// The server falls silent: doubt first, then loss by the client's own clock; the server ends nothing while it is frozen.
#[tokio::test]
async fn a_frozen_server_is_doubt_and_then_a_loss() {
    let server = server().await;
    let holder = client(&server, SHORT).await;
    let guard = soon(mutex(&holder).acquire()).await.unwrap();
    let mut states = guard.states();
    server.freeze();
    soon(states.wait_for(|state| *state == TenureState::Suspended))
        .await
        .unwrap();
    assert!(!guard.is_held());
    assert_eq!(soon(guard.lost()).await, Loss::SessionEnded);
    server.thaw();
    until_state(&holder, SessionState::is_connected).await;
    let next = soon(mutex(&holder).acquire()).await.unwrap();
    assert_ne!(next.session_id(), guard.session_id());
    next.release().await.unwrap();
}

/// What a free lock costs: one write and two reads, of which one travels with the write; and one write to let go.
#[tokio::test]
async fn an_uncontended_pair_costs_four_requests() {
    let server = server().await;
    let proxy = tests::proxy::Proxy::start(server.addr().unwrap())
        .await
        .unwrap();
    let client = connect(proxy.addr(), LONG).await;
    let mutex = mutex(&client);
    soon(mutex.acquire())
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    let before = proxy.requests().len();
    for _ in 0..20 {
        soon(mutex.acquire())
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
    }
    let made = proxy.requests().split_off(before);
    let made: Vec<_> = made.into_iter().filter(|op| *op != OpCode::PING).collect();
    let pair = [
        OpCode::CREATE2,
        OpCode::GET_CHILDREN2,
        OpCode::GET_DATA,
        OpCode::DELETE,
    ];
    assert_eq!(made, pair.repeat(20));
}

/// R6 at a finer grain: replies come late and one by one, so that a future can be dropped between any two of them.
#[tokio::test]
async fn curator_79_dropped_between_any_two_late_replies() {
    let server = server().await;
    let watcher = client(&server, LONG).await;
    let client = client(&server, LONG).await;
    for polls in 1.. {
        let holder = soon(mutex(&watcher).acquire()).await.unwrap();
        server.delay_replies(Duration::from_millis(3));
        let mutex = mutex(&client);
        let acquire = async {
            let let_go = async {
                eventually("two in the queue", PATIENCE, async || {
                    (children(&watcher).await == 2).then_some(())
                })
                .await;
                holder.release().await.unwrap();
            };
            tokio::join!(mutex.acquire(), let_go).0
        };
        let done = soon(drop_after(acquire, polls)).await;
        let finished = done.is_some();
        drop(done);
        server.delay_replies(Duration::ZERO);
        until_clean(&watcher).await;
        if finished {
            assert!(polls > 2, "nothing was swept");
            break;
        }
    }
}

/// What a history of holds under faults must show.
#[derive(Default)]
struct Register {
    /// Holders whose session lives, as the server says: by token.
    inside: BTreeMap<u64, SessionId>,
    highest: u64,
    grants: usize,
    losses: usize,
}

/// T10: holds of several clients while sessions expire, connections are cut, replies get lost. A grant while an earlier holder
/// believes that it holds is right only if the server has ended that one's session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_never_let_two_live_sessions_in() {
    let seed = std::env::var("ZK_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("ZK_TEST_SEED={seed}");
    let server = Arc::new(server().await);
    let register = Arc::new(Mutex::new(Register::default()));
    let running = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for number in 0..6u64 {
        // Short enough that a client which goes while disconnected leaves its node for less than this test waits.
        let client = client(&server, Duration::from_secs(5)).await;
        let (server, register, running) = (
            Arc::clone(&server),
            Arc::clone(&register),
            Arc::clone(&running),
        );
        running.fetch_add(1, Ordering::SeqCst);
        tasks.push(tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
            let mutex = mutex(&client);
            for _ in 0..15 {
                let guard = match random.u8(..4) {
                    0 => drop_after(mutex.acquire(), random.usize(1..10))
                        .await
                        .transpose()
                        .unwrap(),
                    // An attempt may end with the session; that is no grant.
                    1 => mutex.try_acquire().await.ok().flatten(),
                    _ => Some(mutex.acquire().await.unwrap()),
                };
                let Some(guard) = guard else { continue };
                let token = guard.fencing_token().get();
                enter(&server, &register, token, guard.session_id(), seed);
                // The work; long enough to lose the lock in it now and then.
                tokio::time::sleep(Duration::from_millis(random.u64(..25))).await;
                let lost = leave(&register, token, guard.state());
                if random.bool() || lost {
                    drop(guard);
                } else {
                    // A loss between the look and the release is no failure.
                    let released = guard.release().await;
                    assert!(released.is_ok() || released.unwrap_err().is_lost());
                }
            }
            running.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    let mut random = fastrand::Rng::with_seed(seed ^ 0xfa17);
    let started = Instant::now();
    while running.load(Ordering::SeqCst) > 0 {
        assert!(started.elapsed() < PATIENCE * 2, "no progress; seed {seed}");
        // Safety under faults first, then they stop, and everybody must come to an end.
        if started.elapsed() < Duration::from_secs(3) {
            let sessions = server.sessions();
            let victim = random.choice(sessions);
            match (random.u8(..6), victim) {
                (0 | 1, Some(victim)) => drop(server.expire_session(victim)),
                (2, Some(victim)) => drop(server.cut_connection(victim)),
                (3, _) => server.swallow_next_reply(OpCode::CREATE2, AfterSwallow::Cut),
                (4, _) => server.swallow_next_reply(OpCode::DELETE, AfterSwallow::Cut),
                _ => server.swallow_next_reply(OpCode::GET_DATA, AfterSwallow::Cut),
            }
        } else {
            // Also those that have not met their request: a client to which each costs a connection waits longer each time.
            server.swallow_no_more();
        }
        tokio::time::sleep(Duration::from_millis(random.u64(1..30))).await;
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
    let (grants, losses) = {
        let register = register.lock().unwrap();
        (register.grants, register.losses)
    };
    println!("{grants} grants, {losses} losses");
    assert!(grants > 10, "seed {seed}");
    let watcher = client(&server, LONG).await;
    until_clean(&watcher).await;
}

fn enter(server: &ZkServer, register: &Mutex<Register>, token: u64, session: SessionId, seed: u64) {
    let mut register = register.lock().unwrap();
    // The server's own list: a session that is not on it holds nothing.
    let live = server.sessions();
    for (other, owner) in &register.inside {
        assert!(
            !live.contains(owner),
            "{token:#x} was let in while {other:#x} holds with session {owner}; seed {seed}"
        );
    }
    assert!(token > register.highest, "tokens; seed {seed}");
    register.highest = token;
    register.grants += 1;
    register.inside.insert(token, session);
}

fn leave(register: &Mutex<Register>, token: u64, state: TenureState) -> bool {
    let mut register = register.lock().unwrap();
    register.inside.remove(&token);
    let lost = matches!(state, TenureState::Lost(_));
    register.losses += usize::from(lost);
    lost
}
