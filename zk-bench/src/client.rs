//! `client`: client libraries on the null server, each in a process of its own, alternating.
//!
//! Ours runs in `zk-client-probe`, the peers in the separate package `zk-bench/peers` (so that their dependencies stay out
//! of the workspace), all under the load that `client_load.rs` of the former describes; the raw generator shows what the same server and socket allow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, Tried};
use crate::goals::Verdict;
use crate::procfs;
use crate::sample::Spread;
use crate::server::{Forcing, Kind, Programs, Server};
use crate::table::{self, Table};
use crate::workload::{Span, Workload};

const OURS: &str = "zk-client";
const RAW: &str = "raw protocol";
const PEERS: [&str; 3] = ["zookeeper-client", "tokio-zookeeper", "zookeeper-async"];
/// Requests in flight: a closed loop, and the two of the goals.
const WINDOWS: [usize; 3] = [1, 64, 512];

/// What to measure.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    /// The peers' program; `None` leaves them out.
    pub(crate) peers: Option<PathBuf>,
}

/// One client at one window, one figure per round.
pub(crate) struct Row {
    client: &'static str,
    window: usize,
    rounds: Vec<Value>,
}

impl Row {
    fn spread(&self, field: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round[field].as_f64()))
    }
}

/// Our client's program, which is built with this one.
fn find_ours() -> Outcome<PathBuf> {
    let beside = std::env::current_exe()
        .tried(|| "find this program".into())?
        .with_file_name("zk-client-probe");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Failure::Missing(format!(
        "{} is missing: build it with `cargo build --release -p zk-bench`",
        beside.display()
    )))
}

/// Where `cargo build --release --manifest-path zk-bench/peers/Cargo.toml` leaves the peers' program, seen from here.
pub(crate) fn find_peers() -> Outcome<PathBuf> {
    let beside = std::env::current_exe()
        .tried(|| "find this program".into())?
        .with_file_name("zk-bench-peers");
    let built = Path::new("zk-bench/peers/target/release/zk-bench-peers");
    [beside.as_path(), built].into_iter().find(|path| path.is_file()).map(Path::to_path_buf).ok_or_else(|| {
        Failure::Missing(
            "the peers' program is missing: run `cargo build --release --manifest-path zk-bench/peers/Cargo.toml`, name it with \
             --peers, or leave the peers out with --without-peers"
                .into(),
        )
    })
}

/// Runs the plan against a null server of its own.
pub(crate) fn run(
    plan: &Plan,
    programs: &Programs,
    dir: &Path,
    bar: &ProgressBar,
) -> Outcome<Vec<Row>> {
    let ours = find_ours()?;
    let scratch = tempfile::Builder::new()
        .prefix("null-")
        .tempdir_in(dir)
        .tried(|| format!("create a directory in {}", dir.display()))?;
    let (server, _) = Server::start(Kind::Null, programs, scratch.path(), Forcing::Off)?;
    let addr = server.target().addr.to_string();
    let mut clients = vec![RAW, OURS];
    if plan.peers.is_some() {
        clients.extend(PEERS);
    }
    let mut rows: Vec<Row> = Vec::new();
    for window in WINDOWS {
        rows.extend(clients.iter().map(|client| Row {
            client,
            window,
            rounds: Vec::new(),
        }));
    }
    bar.set_length((rows.len() * plan.rounds) as u64);
    for round in 0..plan.rounds {
        for row in &mut rows {
            bar.set_message(format!(
                "round {}: {}, {} in flight",
                round + 1,
                row.client,
                row.window
            ));
            let figures = match row.client {
                RAW => raw(&server, row.window, plan.measured)?,
                OURS => child(&ours, None, &addr, row.window, plan.measured)?,
                peer => {
                    let program = plan
                        .peers
                        .as_deref()
                        .expect("peers are in the list only with their program");
                    child(program, Some(peer), &addr, row.window, plan.measured)?
                }
            };
            row.rounds.push(figures);
            bar.inc(1);
        }
    }
    server.kill()?;
    Ok(rows)
}

fn child(
    program: &Path,
    client: Option<&str>,
    addr: &str,
    window: usize,
    measured: Duration,
) -> Outcome<Value> {
    let mut command = Command::new(program);
    command.args(client).args([
        addr,
        &window.to_string(),
        &measured.as_secs_f64().to_string(),
    ]);
    let output = command
        .output()
        .tried(|| format!("run {}", program.display()))?;
    let parsed = serde_json::from_slice(&output.stdout)
        .ok()
        .filter(|_| output.status.success());
    parsed.ok_or_else(|| {
        Failure::Deviation(format!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    })
}

fn raw(server: &Server, window: usize, measured: Duration) -> Outcome<Value> {
    let span = Span {
        warm: Duration::from_millis(300),
        measure: measured,
    };
    let sample = Workload::Data {
        sets_of_ten: 0,
        conns: 1,
        window,
    }
    .run(server.target(), span)?
    .sample;
    Ok(json!({
        "rate": sample.rate,
        "cpu_us": sample.generator_cores * 1e6 / sample.rate,
        "p50_us": sample.latency.map(|latency| latency.p50),
    }))
}

/// The table and the goals.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut out = format!("{}, load {}\n\n", procfs::machine(), procfs::load_average());
    let mut lines = Table::new(&[
        "client",
        "in flight",
        "gets/s",
        "client CPU us/op",
        "p50 us",
        "resident MiB",
    ]);
    for row in rows {
        let resident = row
            .spread("resident")
            .map(|bytes| bytes.median / f64::from(1 << 20));
        lines.row(vec![
            row.client.to_owned(),
            row.window.to_string(),
            table::spread(row.spread("rate")),
            table::spread(row.spread("cpu_us")),
            table::spread(row.spread("p50_us")),
            table::optional(resident),
        ]);
    }
    out.push_str(&lines.text());
    out.push('\n');
    out.push_str(&goals(rows).text());
    out
}

fn goals(rows: &[Row]) -> Table {
    let median = |client: &str, window: usize, field: &str| {
        let row = rows
            .iter()
            .find(|row| row.client == client && row.window == window)?;
        row.spread(field).map(|spread| spread.median)
    };
    let mut lines = Table::new(&["goal", "value", "must", "aim", "verdict"]);
    let mut judge = |what: String, value: Option<f64>, rises: bool, must: f64, aim: Option<f64>| {
        let Some(value) = value else { return };
        let verdict = Verdict::of(value, rises, Some(must), aim).text(aim.is_some());
        lines.row(vec![
            what,
            table::number(value),
            table::number(must),
            table::optional(aim),
            verdict.to_owned(),
        ]);
    };
    for (window, aim) in [(64, 800_000.0), (512, 1_500_000.0)] {
        let ours = median(OURS, window, "rate");
        let best = PEERS
            .iter()
            .filter_map(|peer| median(peer, window, "rate"))
            .max_by(f64::total_cmp);
        judge(
            format!("{window} in flight: rate / best peer's"),
            ours.zip(best).map(|(ours, best)| ours / best),
            true,
            2.0,
            None,
        );
        // The aim is an absolute rate: it stands for a quiet machine of the reference's kind.
        judge(
            format!("{window} in flight: rate"),
            ours,
            true,
            0.0,
            Some(aim),
        );
        judge(
            format!("{window} in flight: CPU us/op"),
            median(OURS, window, "cpu_us"),
            false,
            2.5,
            Some(1.0),
        );
    }
    let ratio = median(OURS, 1, "p50_us")
        .zip(median(RAW, 1, "p50_us"))
        .map(|(ours, raw)| ours / raw);
    judge(
        "closed loop: p50 / raw protocol's".into(),
        ratio,
        false,
        20.0 / 15.0,
        Some(17.0 / 15.0),
    );
    let resident = median(OURS, 512, "resident").map(|bytes| bytes / f64::from(1 << 20));
    judge(
        "512 in flight: resident MiB".into(),
        resident,
        false,
        5.0,
        None,
    );
    lines
}

/// Everything, each round by itself.
pub(crate) fn json(rows: &[Row]) -> Value {
    let rows = rows
        .iter()
        .map(|row| json!({ "client": row.client, "in_flight": row.window, "rounds": row.rounds }));
    json!({ "machine": procfs::machine(), "load": procfs::load_average(), "clients": rows.collect::<Vec<_>>() })
}
