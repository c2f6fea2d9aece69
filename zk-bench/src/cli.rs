//! The command line: what can be asked for, and where the answer goes.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::awake::{self, Awake};
use crate::compare::{self, Plan};
use crate::failure::{Failure, Outcome, Tried};
use crate::lifetime::{self, Stage};
use crate::limits::Limits;
use crate::server::{Kind, Programs};
use crate::table::{self, Table};
use crate::workload::{self, Span, Target, Workload};
use crate::{client, mutex, null, procfs};

/// Loads a ZooKeeper-protocol server and checks every reply; compares zk-server with Apache ZooKeeper 3.8.0.
#[derive(Parser)]
#[command(name = "zk-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Request,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// Write the figures to this file as JSON too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Scratch data goes below this directory; take one on a real disk. Default: beside this program.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The zk-server to measure. Default: the one beside this program.
    #[arg(long, global = true, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Keep the cores from sleeping, with idle loops that give way to everything else. Without it, closed loops on a quiet
    /// machine measure how long a core takes to wake.
    #[arg(long, global = true)]
    awake: bool,
}

#[derive(Subcommand)]
enum Request {
    /// List the workloads.
    List,
    /// Load one running server. It works below nodes of its own and deletes them afterwards.
    Run {
        /// The server, as host:port.
        #[arg(long, value_name = "HOST:PORT")]
        connect: String,
        /// Workloads by name (see list); all by default.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        workload: Vec<String>,
        /// The process id of a local server, for its CPU time.
        #[arg(long)]
        pid: Option<u32>,
        #[command(flatten)]
        span: SpanArgs,
    },
    /// Run the workloads on zk-server and Apache ZooKeeper, alternating, and judge the goals.
    Compare {
        /// Alternations.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Workloads by name (see list); all by default.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        workload: Vec<String>,
        #[command(flatten)]
        peers: PeerArgs,
        #[command(flatten)]
        span: SpanArgs,
    },
    /// What loopback, disk and memory give right now.
    Limits,
    /// Start of the process to the first answered read.
    Start {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[command(flatten)]
        peers: PeerArgs,
    },
    /// Resident memory: idle, per idle session, per node.
    Memory {
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        #[arg(long, default_value_t = 1_000_000)]
        nodes: usize,
        /// Idle sessions; the limit on open files must allow them.
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
        #[command(flatten)]
        peers: PeerArgs,
    },
    /// SIGKILL with many nodes, restart, first read.
    Recovery {
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        #[arg(long, default_value_t = 1_000_000)]
        nodes: usize,
        /// Kills after each filling.
        #[arg(long, default_value_t = 3)]
        kills: usize,
        #[command(flatten)]
        peers: PeerArgs,
    },
    /// Our client and peer clients on the null server.
    Client {
        /// Alternations.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds measured per client and window.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// The program of the package zk-bench/peers. Default: where its build leaves it.
        #[arg(long, value_name = "PATH", conflicts_with = "without_peers")]
        peers: Option<PathBuf>,
        /// Measure zk-client alone.
        #[arg(long)]
        without_peers: bool,
    },
    /// The SDK's mutex beside the same pattern by raw operations.
    Mutex {
        /// Alternations.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 8)]
        contenders: usize,
        #[command(flatten)]
        peers: PeerArgs,
        #[command(flatten)]
        span: SpanArgs,
    },
    /// An idle loop, for --awake.
    #[command(hide = true)]
    Spin,
    /// Serve canned replies, as a ceiling for servers and a partner for clients.
    Null {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[derive(Args)]
struct SpanArgs {
    /// Seconds measured per workload.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds run before that.
    #[arg(long, default_value_t = 0.3)]
    warm: f64,
}

impl SpanArgs {
    fn span(&self) -> Outcome<Span> {
        Ok(Span {
            warm: duration(self.warm)?,
            measure: duration(self.seconds)?,
        })
    }
}

#[derive(Args)]
struct PeerArgs {
    /// Measure zk-server alone, for machines without Java.
    #[arg(long, conflicts_with = "without_ours")]
    without_apache: bool,
    /// Measure Apache ZooKeeper alone.
    #[arg(long)]
    without_ours: bool,
}

impl PeerArgs {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        if !self.without_ours {
            kinds.push(Kind::Ours);
        }
        if !self.without_apache {
            kinds.push(Kind::Apache);
        }
        kinds
    }
}

/// Does what the command line says.
pub(crate) fn run() -> Outcome<()> {
    let cli = Cli::parse();
    let common = &cli.common;
    let _awake = common.awake.then(Awake::keep).transpose()?;
    match &cli.command {
        Request::Spin => {
            awake::spin();
            Ok(())
        }
        Request::Null { listen } => null::serve(*listen, |addr| println!("{addr}")),
        Request::List => {
            let mut rows = Table::new(&["workload", "what"]);
            for (name, _, what) in workload::ALL {
                rows.row(vec![name.to_owned(), what.to_owned()]);
            }
            print!("{}", rows.text());
            Ok(())
        }
        Request::Run {
            connect,
            workload,
            pid,
            span,
        } => {
            let addr = connect
                .to_socket_addrs()
                .tried(|| format!("resolve {connect}"))?
                .next();
            let addr = addr.ok_or_else(|| Failure::Missing(format!("{connect} has no address")))?;
            let target = Target {
                addr,
                pid: *pid,
                exact: true,
            };
            let (text, value) = load(target, &chosen(workload)?, span.span()?)?;
            common.report(&text, &value)
        }
        Request::Compare {
            rounds,
            workload,
            peers,
            span,
        } => {
            let mut kinds = peers.kinds();
            kinds.push(Kind::Null);
            let plan = Plan {
                rounds: *rounds,
                workloads: chosen(workload)?,
                kinds,
                span: span.span()?,
            };
            let bar = bar();
            let figures = compare::run(&plan, &common.programs()?, &common.scratch()?, &bar)?;
            bar.finish_and_clear();
            common.report(&figures.text(&plan), &figures.json(&plan))
        }
        Request::Limits => {
            let dir = common.scratch()?;
            let mut all = Vec::new();
            for _ in 0..3 {
                all.push(Limits::measure(
                    &dir.join("limits"),
                    Duration::from_secs(1),
                )?);
            }
            let values: Vec<Value> = all.iter().map(Limits::json).collect();
            common.report(
                &compare::limits_table(&all).text(),
                &json!({ "machine": procfs::machine(), "limits": values }),
            )
        }
        Request::Client {
            rounds,
            seconds,
            peers,
            without_peers,
        } => {
            let peers = match (peers, without_peers) {
                (_, true) => None,
                (Some(path), false) => Some(path.clone()),
                (None, false) => Some(client::find_peers()?),
            };
            let plan = client::Plan {
                rounds: *rounds,
                measured: duration(*seconds)?,
                peers,
            };
            let bar = bar();
            let rows = client::run(&plan, &common.programs()?, &common.scratch()?, &bar)?;
            bar.finish_and_clear();
            common.report(&client::text(&rows), &client::json(&rows))
        }
        Request::Mutex {
            rounds,
            contenders,
            peers,
            span,
        } => {
            let plan = mutex::Plan {
                rounds: *rounds,
                contenders: *contenders,
                kinds: peers.kinds(),
                span: span.span()?,
            };
            let bar = bar();
            let rows = mutex::run(&plan, &common.programs()?, &common.scratch()?, &bar)?;
            bar.finish_and_clear();
            common.report(&mutex::text(&rows), &mutex::json(&rows))
        }
        Request::Start { rounds, peers } => common.lifetime(*rounds, peers, lifetime::start),
        Request::Memory {
            rounds,
            nodes,
            sessions,
            peers,
        } => common.lifetime(*rounds, peers, |stage| {
            lifetime::memory(stage, *nodes, *sessions)
        }),
        Request::Recovery {
            rounds,
            nodes,
            kills,
            peers,
        } => common.lifetime(*rounds, peers, |stage| {
            lifetime::recovery(stage, *nodes, *kills)
        }),
    }
}

impl Common {
    fn programs(&self) -> Outcome<Programs> {
        Programs::find(self.server.clone())
    }

    /// Beside the program lies the build's own directory, which is on a disk even where the system's one for temporary
    /// files is memory.
    fn scratch(&self) -> Outcome<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_exe()
                .tried(|| "find this program".into())?
                .with_file_name("zk-bench-scratch"),
        };
        std::fs::create_dir_all(&dir).tried(|| format!("create {}", dir.display()))?;
        std::path::absolute(&dir).tried(|| format!("resolve {}", dir.display()))
    }

    fn lifetime(
        &self,
        rounds: usize,
        peers: &PeerArgs,
        run: impl FnOnce(&Stage<'_>) -> Outcome<lifetime::Figures>,
    ) -> Outcome<()> {
        let (programs, dir, kinds, bar) = (self.programs()?, self.scratch()?, peers.kinds(), bar());
        let stage = Stage {
            programs: &programs,
            dir: &dir,
            kinds: &kinds,
            rounds,
            bar: &bar,
        };
        let figures = run(&stage)?;
        bar.finish_and_clear();
        self.report(&figures.text(), &figures.json())
    }

    fn report(&self, text: &str, value: &Value) -> Outcome<()> {
        if self.awake {
            println!("cores kept awake");
        }
        print!("{text}");
        let Some(path) = &self.json else {
            return Ok(());
        };
        let mut value = value.clone();
        value["command"] = std::env::args().collect::<Vec<_>>().join(" ").into();
        std::fs::write(path, format!("{value:#}\n")).tried(|| format!("write {}", path.display()))
    }
}

fn duration(seconds: f64) -> Outcome<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| Failure::Missing(format!("{seconds} seconds: {error}")))
}

fn chosen(names: &[String]) -> Outcome<Vec<Workload>> {
    if names.is_empty() {
        return Ok(workload::ALL
            .iter()
            .map(|(_, workload, _)| *workload)
            .collect());
    }
    let find = |name: &String| {
        workload::named(name)
            .ok_or_else(|| Failure::Missing(format!("no workload {name}: see `zk-bench list`")))
    };
    names.iter().map(find).collect()
}

fn load(target: Target, workloads: &[Workload], span: Span) -> Outcome<(String, Value)> {
    let bar = bar();
    bar.set_length(workloads.len() as u64);
    let mut rows = Table::new(&[
        "workload",
        "rate/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "server CPU us/op",
        "generator cores",
    ]);
    let mut values = Vec::new();
    for workload in workloads {
        bar.set_message(workload.name());
        let run = workload.run(target, span)?;
        run.remove()?;
        let sample = &run.sample;
        let latency =
            |pick: fn(crate::sample::Latency) -> f64| table::optional(sample.latency.map(pick));
        rows.row(vec![
            workload.name().to_owned(),
            table::number(sample.rate),
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            latency(|latency| latency.p999),
            table::optional(sample.cpu_us),
            table::number(sample.generator_cores),
        ]);
        values.push(json!({ "workload": workload.name(), "figures": sample.json() }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let conditions = format!("{}, load {}\n\n", procfs::machine(), procfs::load_average());
    Ok((
        conditions + &rows.text(),
        json!({ "machine": procfs::machine(), "load": procfs::load_average(), "results": values }),
    ))
}

/// Shown on a terminal only.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .expect("the template is valid");
    ProgressBar::new(0).with_style(style)
}
