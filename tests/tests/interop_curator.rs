//! Curator 5.4.0 and our mutex contend for one lock on one path, on our server and on Apache ZooKeeper 3.8.0.
//!
//! Curator's side is `tests/java/CuratorMutex.java`, compiled here against Debian's `libcurator-recipes-java`, one process a
//! contender. Exclusion is proved by the server: a holder creates a witness node, which fails while there is one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tests::apache::Distribution;
use tests::talker::Talker;
use tests::target::{Kind, Options, Target};
use tests::wait::{PATIENCE, eventually};
use tests::{gate, java};
use zk_client::{Client, CreateMode};
use zk_recipes::{InterProcessMutex, MutexGuard, Revoker};

const LOCK: &str = "/interop/lock";
const WITNESS: &str = "/witness";

/// Curator's program, compiled.
struct Curator {
    java: PathBuf,
    class_path: String,
    _classes: TempDir,
}

impl Curator {
    fn compiled() -> Result<Self, String> {
        // The server that it contends on as well; without it half of the test could not run.
        Distribution::debian()?;
        let package = "libcurator-recipes-java";
        let mut class_path =
            java::debian_jars(&["curator-recipes.jar", "slf4j-simple.jar"], package)?;
        let classes = TempDir::new().map_err(|error| error.to_string())?;
        java::compile("CuratorMutex", &class_path, classes.path())?;
        class_path.push(classes.path().to_owned());
        Ok(Self {
            java: java::runtime()?,
            class_path: java::class_path(&class_path),
            _classes: classes,
        })
    }

    fn contender(&self, target: &Target) -> Talker {
        let mut command = Command::new(&self.java);
        command
            .args(java::QUICK_START)
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
            .args(["-cp", &self.class_path, "CuratorMutex"])
            .args([&target.addr().to_string(), LOCK, WITNESS]);
        let mut talker = Talker::start("Curator", &mut command).unwrap();
        talker.expect("ready");
        talker
    }
}

/// Runs `test` on both servers, or says why not.
fn on_both<F: Future<Output = ()>>(name: &str, test: impl Fn(Arc<Curator>, Target) -> F) {
    let Some(curator) = gate::need(name, Curator::compiled()) else {
        return;
    };
    let curator = Arc::new(curator);
    for kind in [Kind::Embedded, Kind::Apache] {
        let scratch = TempDir::new().unwrap();
        let target = Target::start_in(kind, Options::default(), scratch.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        println!("on {kind:?}");
        runtime.block_on(test(Arc::clone(&curator), target));
    }
}

async fn client(target: &Target) -> Client {
    Client::builder(target.addr().to_string())
        .unwrap()
        .session_timeout(Duration::from_secs(30))
        .connect()
        .await
        .unwrap()
}

async fn bear_witness(client: &Client) {
    let created = client
        .create(WITNESS, "")
        .mode(CreateMode::Ephemeral)
        .send()
        .await;
    created.expect("somebody else holds the lock as well");
}

/// Lets go as Curator's program does: the witness first.
async fn release(guard: MutexGuard) {
    guard.client().delete(WITNESS).await.unwrap();
    guard.release().await.unwrap();
}

/// The number at the end of a lock node's name.
fn number(path: &str) -> u64 {
    path[path.len() - 10..].parse().unwrap()
}

/// Curator's `acquired <node> <czxid>`: the node's number and the czxid.
fn acquired(answer: &str) -> (u64, u64) {
    let (path, czxid) = answer.split_once(' ').unwrap();
    (number(path), czxid.parse().unwrap())
}

async fn until_queued(client: &Client, count: usize) {
    eventually("a contender is in the queue", PATIENCE, async || {
        let children = client.get_children(LOCK).await.unwrap();
        (children.names.len() == count).then_some(())
    })
    .await;
}

/// Work that blocks on a process, away from the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn never_two_at_once_and_first_come_first_served() {
    const ROUNDS: usize = 12;
    on_both("interop_curator", async |curator, target| {
        let grants = Arc::new(Mutex::new(Vec::new()));
        let mut contenders = Vec::new();
        for name in ["curator 1", "curator 2"] {
            let mut talker = curator.contender(&target);
            let grants = Arc::clone(&grants);
            contenders.push(tokio::task::spawn_blocking(move || {
                for _ in 0..ROUNDS {
                    let answer = talker.ask("acquire 30000", "acquired");
                    grants.lock().unwrap().push((acquired(&answer), name));
                    talker.ask("release", "released");
                }
                talker.ask("quit", "bye");
            }));
        }
        for name in ["rust 1", "rust 2", "rust 3"] {
            let client = client(&target).await;
            let grants = Arc::clone(&grants);
            contenders.push(tokio::spawn(async move {
                let mutex = InterProcessMutex::new(&client, LOCK).unwrap();
                for _ in 0..ROUNDS {
                    let guard = mutex.acquire().await.unwrap();
                    bear_witness(&client).await;
                    let grant = (number(guard.path().as_str()), guard.fencing_token().get());
                    grants.lock().unwrap().push((grant, name));
                    release(guard).await;
                }
            }));
        }
        for contender in contenders {
            contender.await.unwrap();
        }
        let grants = grants.lock().unwrap();
        assert_eq!(grants.len(), 5 * ROUNDS);
        // The number of a node is its place in the queue; the token of its creation grows with it.
        let in_order = grants.windows(2).all(|pair| {
            let ((earlier, _), (later, _)) = (pair[0], pair[1]);
            earlier.0 < later.0 && earlier.1 < later.1
        });
        assert!(in_order, "{grants:?}");
    });
}

#[test]
fn the_queue_is_one_queue() {
    on_both("interop_curator", async |curator, target| {
        let (ours, other) = (client(&target).await, client(&target).await);
        let (mut first, mut second) = (curator.contender(&target), curator.contender(&target));
        let mutex = InterProcessMutex::new(&ours, LOCK).unwrap();
        let held = mutex.acquire().await.unwrap();
        bear_witness(&ours).await;

        first.tell("acquire 30000");
        until_queued(&ours, 2).await;
        let mutex_of_other = InterProcessMutex::new(&other, LOCK).unwrap();
        let waiting = tokio::spawn(async move { mutex_of_other.acquire().await });
        until_queued(&ours, 3).await;
        second.tell("acquire 30000");
        until_queued(&ours, 4).await;

        let queue: Vec<String> = mutex
            .participants()
            .await
            .unwrap()
            .iter()
            .map(|path| path.as_path().as_str().to_owned())
            .collect();
        assert_eq!(queue[0], held.path().as_str());
        assert_eq!(queue.len(), 4);
        assert!(!waiting.is_finished() && first.poll(Duration::ZERO).is_none());

        release(held).await;
        let (mut first, answer) = blocking(move || {
            let answer = first.expect("acquired");
            (first, answer)
        })
        .await;
        assert_eq!(acquired(&answer).0, number(&queue[1]));
        assert!(!waiting.is_finished() && second.poll(Duration::ZERO).is_none());
        // Curator sees what we see.
        let seen = blocking(move || {
            let seen = first.ask("participants", "participants");
            first.ask("release", "released");
            seen
        })
        .await;
        assert_eq!(seen.split(' ').collect::<Vec<_>>(), queue[1..]);

        let guard = waiting.await.unwrap().unwrap();
        bear_witness(&other).await;
        assert_eq!(guard.path().as_str(), queue[2]);
        assert!(second.poll(Duration::ZERO).is_none());
        release(guard).await;
        let answer = blocking(move || second.expect("acquired")).await;
        assert_eq!(acquired(&answer).0, number(&queue[3]));
    });
}

#[test]
fn each_can_ask_the_other_to_let_go() {
    on_both("interop_curator", async |curator, target| {
        let ours = client(&target).await;
        let mut talker = curator.contender(&target);

        // We ask Curator.
        let (mut talker, answer) = blocking(move || {
            talker.ask("revocable", "revocable");
            let answer = talker.ask("acquire 30000", "acquired");
            (talker, answer)
        })
        .await;
        let (path, _) = answer.split_once(' ').unwrap();
        Revoker::attempt_revoke(&ours, path).await.unwrap();
        let mut talker = blocking(move || {
            talker.expect("revoke asked");
            talker.ask("release", "released");
            talker
        })
        .await;

        // Curator asks us.
        let mutex = InterProcessMutex::builder(&ours, LOCK)
            .revocable()
            .build()
            .unwrap();
        let guard = mutex.acquire().await.unwrap();
        let mut revocations = guard.revocations();
        let command = format!("revoke {}", guard.path());
        let talker = blocking(move || {
            talker.ask(&command, "revoke sent");
            talker
        })
        .await;
        let asked = tokio::time::timeout(PATIENCE, revocations.next()).await;
        assert_eq!(asked.unwrap(), Some(()));
        guard.release().await.unwrap();
        drop(talker);
    });
}

#[test]
fn curator_waits_in_vain_and_leaves_nothing() {
    on_both("interop_curator", async |curator, target| {
        let ours = client(&target).await;
        let mut talker = curator.contender(&target);
        let guard = InterProcessMutex::new(&ours, LOCK)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        let mut talker = blocking(move || {
            talker.ask("acquire 200", "timeout");
            talker
        })
        .await;
        until_queued(&ours, 1).await;
        guard.release().await.unwrap();
        blocking(move || {
            talker.ask("acquire 30000", "acquired");
            talker.ask("reenter", "reentered");
            talker.ask("release", "released");
            talker.ask("release", "released");
        })
        .await;
        until_queued(&ours, 0).await;
    });
}
