//! How do processes take turns? Five contenders, each with a session of its own, take one mutex in turn.
//!
//! Ada re-enters. Cleo is cancelled while it waits. Dan's session is ended while it holds: it is told, its work is stopped,
//! and the resource refuses what it still tries to write; then it queues again, with its next session. At the end stands a
//! verdict on mutual exclusion and order. The exit status is 1 if either was violated, 2 if the run could not be made.
//!
//! Without arguments it runs on a server of its own, inside this process.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard as StdGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use examples::history::{Event, History};
use examples::kill;
use tokio::task::JoinHandle;
use zk_client::Client;
use zk_recipes::{InterProcessMutex, LockError, MutexGuard};
use zk_server_lite::ZkServer;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Several contenders take one mutex in turn.
#[derive(Debug, Parser)]
#[command(name = "lock")]
struct Arguments {
    /// A real ensemble instead of the embedded server: `host:port[,host:port...][/chroot]`
    #[arg(long, value_name = "HOSTS")]
    connect: Option<String>,
    /// The path to contend for, inside the chroot
    #[arg(long, default_value = "/examples/lock")]
    path: String,
    /// How long to look for a server, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    patience: u64,
}

/// No step takes longer, unless something is wrong.
const STEP: Duration = Duration::from_secs(30);
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("lock: {}", in_words(&*failure));
            ExitCode::from(2)
        }
    }
}

/// An error with its causes, on one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some name their cause themselves.
        let text = error.to_string();
        if !words.ends_with(&text) {
            words += &format!(": {text}");
        }
        cause = error.source();
    }
    words
}

async fn run(arguments: Arguments) -> Result<bool, Failure> {
    let (server, hosts) = match arguments.connect {
        Some(hosts) => (None, hosts),
        None => {
            let server = ZkServer::start().await?;
            let hosts = server.connect_string();
            (Some(server), hosts)
        }
    };
    println!("contending for {} on {hosts}", arguments.path);
    let stage = Arc::new(Stage {
        started: Instant::now(),
        hosts,
        path: arguments.path,
        patience: Duration::from_secs(arguments.patience),
        history: Mutex::default(),
        highest_token: Mutex::default(),
    });
    play(&stage).await?;
    if let Some(server) = server {
        server.stop().await;
    }
    Ok(stage.verdict())
}

/// The play. Contenders queue in the order in which they appear.
async fn play(stage: &Arc<Stage>) -> Result<(), Failure> {
    let ada = Contender::new("ada", stage).await?;
    let held = ada.queue().await?.turn().await?;
    let ben = Contender::new("ben", stage).await?;
    let ben_waits = ben.queue().await?;
    let cleo = Contender::new("cleo", stage).await?;
    let cleo_waits = cleo.queue().await?;
    let dan = Contender::new("dan", stage).await?;
    let dan_waits = dan.queue().await?;
    let eve = Contender::new("eve", stage).await?;
    let eve_waits = eve.queue().await?;
    for participant in ada.mutex.participants().await? {
        println!("              {participant}");
    }

    // Re-entry asks nobody: the lock is let go with the last guard.
    let again = held.reenter();
    drop(held);
    stage.say("ada", "re-entered, and dropped the first of two guards");
    again.verify().await?;
    cleo_waits.cancel().await;
    ada.use_and_release(again).await?;

    let held = ben_waits.turn().await?;
    ben.use_and_release(held).await?;

    // Dan works until it is told that it must not.
    let held = dan_waits.turn().await?;
    let token = held.fencing_token().get();
    stage.write("dan", token);
    let (told, killed) = tokio::join!(held.run(std::future::pending::<()>()), dan.end_session());
    killed?;
    let Err(lost) = told else {
        return Err("work that never ends came to an end".into());
    };
    stage.record("dan", Event::Told);
    stage.say("dan", &format!("is told, and its work is stopped: {lost}"));
    if !lost.is_lost() || held.is_held() {
        return Err("dan was told something else than that the lock is lost".into());
    }

    let eve_holds = eve_waits.turn().await?;
    stage.write("eve", eve_holds.fencing_token().get());
    // As if it had not listened.
    stage.write("dan", token);
    drop(held);
    let dan_waits = dan.queue().await?;
    eve.use_and_release(eve_holds).await?;
    let held = dan_waits.turn().await?;
    dan.use_and_release(held).await?;

    for contender in [ada, ben, cleo, dan, eve] {
        contender.client.close().await?;
    }
    Ok(())
}

/// What all contenders share.
struct Stage {
    started: Instant,
    hosts: String,
    path: String,
    patience: Duration,
    history: Mutex<History>,
    /// The resource that the lock protects: it refuses tokens smaller than the greatest it has seen.
    highest_token: Mutex<u64>,
}

impl Stage {
    fn say(&self, who: &str, what: &str) {
        println!(
            "[{:7.3} s] {who:>5} {what}",
            self.started.elapsed().as_secs_f64()
        );
    }

    fn record(&self, who: &'static str, event: Event) {
        locked(&self.history).push(who, event);
    }

    /// The protected resource.
    fn write(&self, who: &'static str, token: u64) {
        let accepted = {
            let mut highest = locked(&self.highest_token);
            let accepted = token >= *highest;
            *highest = token.max(*highest);
            accepted
        };
        self.record(who, Event::Wrote { token, accepted });
        let answer = if accepted {
            "taken"
        } else {
            "refused: a greater one was seen"
        };
        self.say(who, &format!("writes with token {token}: {answer}"));
    }

    fn verdict(&self) -> bool {
        let history = locked(&self.history);
        let wrong = history.judge();
        for violation in &wrong {
            println!("VIOLATED: {violation}");
        }
        if wrong.is_empty() {
            println!(
                "verdict: {} grants, never two at once, first come first served, tokens rising, the loser told",
                history.grants()
            );
        }
        wrong.is_empty()
    }
}

/// These locks guard plain values that no panic leaves half changed.
fn locked<T>(mutex: &Mutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who wants the lock, with a session of its own.
struct Contender {
    name: &'static str,
    client: Client,
    mutex: InterProcessMutex,
    stage: Arc<Stage>,
}

impl Contender {
    async fn new(name: &'static str, stage: &Arc<Stage>) -> Result<Self, Failure> {
        let client = Client::builder(&stage.hosts)?
            .session_timeout(SESSION_TIMEOUT)
            .connect_patience(stage.patience)
            .connect()
            .await
            .map_err(|error| {
                let (hosts, patience) = (&stage.hosts, stage.patience);
                format!(
                    "no session at {hosts} within {patience:?}: {}",
                    in_words(&error)
                )
            })?;
        // Clients do not create the chroot that a connect string names.
        if client.exists("/").await?.is_none() {
            return Err(format!("the chroot of {} does not exist", stage.hosts).into());
        }
        let mutex = InterProcessMutex::builder(&client, &stage.path)
            .node_data(name)
            .build()?;
        Ok(Self {
            name,
            client,
            mutex,
            stage: Arc::clone(stage),
        })
    }

    /// Starts to wait, and comes back when the place in the queue is certain.
    async fn queue(&self) -> Result<Waiting, Failure> {
        let before = self.mutex.participants().await?.len();
        self.stage.record(self.name, Event::Queued);
        let (mutex, stage, name) = (self.mutex.clone(), Arc::clone(&self.stage), self.name);
        let task = tokio::spawn(async move {
            let guard = mutex.acquire().await?;
            let token = guard.fencing_token().get();
            stage.record(name, Event::Granted { token });
            let session = guard.session_id();
            stage.say(name, &format!("holds, token {token}, session {session}"));
            Ok(guard)
        });
        let deadline = Instant::now() + STEP;
        while self.mutex.participants().await?.len() <= before && !task.is_finished() {
            if Instant::now() > deadline {
                return Err(format!("{} never got a place in the queue", self.name).into());
            }
            tokio::task::yield_now().await;
        }
        Ok(Waiting {
            name: self.name,
            stage: Arc::clone(&self.stage),
            task,
        })
    }

    async fn use_and_release(&self, guard: MutexGuard) -> Result<(), Failure> {
        let token = guard.fencing_token().get();
        let work = async {
            tokio::time::sleep(TURN).await;
            self.stage.write(self.name, token);
        };
        guard.run(work).await?;
        self.stage.record(self.name, Event::Released);
        self.stage.say(self.name, "lets go");
        guard.release().await?;
        Ok(())
    }

    /// Ends the session at the server, behind the client's back.
    async fn end_session(&self) -> Result<(), Failure> {
        let (session, password) = self
            .client
            .session_credentials()
            .ok_or("there is no session to end")?;
        let hosts = self.stage.hosts.split('/').next().unwrap_or_default();
        self.stage.record(self.name, Event::Ended);
        self.stage.say(
            self.name,
            &format!("has its session {session} ended while it holds"),
        );
        let ended = kill::session(hosts, session, password);
        tokio::time::timeout(STEP, ended)
            .await
            .map_err(|_| "the server did not end the session")??;
        Ok(())
    }
}

/// A contender in the queue.
struct Waiting {
    name: &'static str,
    stage: Arc<Stage>,
    task: JoinHandle<Result<MutexGuard, LockError>>,
}

impl Waiting {
    async fn turn(self) -> Result<MutexGuard, Failure> {
        let turn = tokio::time::timeout(STEP, self.task).await;
        let turn = turn.map_err(|_| format!("{} waited in vain", self.name))?;
        Ok(turn??)
    }

    /// Drops the acquire where it stands.
    async fn cancel(self) {
        self.stage.record(self.name, Event::Cancelled);
        self.stage.say(self.name, "is cancelled while it waits");
        self.task.abort();
        // The error says that it was cancelled, which is what was wanted.
        drop(self.task.await);
    }
}
