//! `mutex`: the SDK's `InterProcessMutex` beside the same pattern by raw operations, on one server, alternating.
//!
//! As in the raw workload, every holder releases at once and queues again, each contender has a session of its own, and one
//! thread does everything. The hand-over is timed from the call of `release` to the successor's return from `acquire`.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use zk_client::Client;
use zk_recipes::InterProcessMutex;

use crate::failure::{Failure, Outcome, Tried};
use crate::goals::Verdict;
use crate::procfs;
use crate::sample::{Latency, Sample, Spread, histogram};
use crate::server::{Forcing, Kind, Programs, Server};
use crate::table::{self, Table};
use crate::workload::{Span, Workload};

const RAW: &str = "raw operations";
const SDK: &str = "InterProcessMutex";

/// What all contenders share.
struct Course {
    begun: Instant,
    span: Span,
    seen: Mutex<Seen>,
}

/// What they saw.
struct Seen {
    released: Option<Instant>,
    token: Option<u64>,
    grants: u64,
    histogram: Histogram<u64>,
}

impl Course {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Contends through the SDK; rate of grants and hand-over time.
fn sdk(addr: SocketAddr, contenders: usize, span: Span) -> Outcome<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .tried(|| "build a runtime".into())?;
    let course = Arc::new(Course {
        begun: Instant::now(),
        span,
        seen: Mutex::new(Seen {
            released: None,
            token: None,
            grants: 0,
            histogram: histogram(),
        }),
    });
    let path = format!("/zk-bench-mutex-{:016x}", fastrand::u64(..));
    let contended = runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..contenders {
            let client = Client::connect(addr.to_string()).await?;
            let mutex = InterProcessMutex::new(&client, path.clone())?;
            // Tasks of the runtime, as in a service: a local set has the runtime poll its driver once more each time.
            tasks.push(tokio::spawn(contend(client, mutex, Arc::clone(&course))));
        }
        tokio::time::sleep(span.warm).await;
        let before = procfs::cpu_of_this_thread()?;
        for task in tasks {
            task.await??;
        }
        Ok::<Duration, Box<dyn Error + Send + Sync>>(
            procfs::cpu_of_this_thread()?.saturating_sub(before),
        )
    });
    let cpu =
        contended.map_err(|error| Failure::Deviation(format!("the mutex failed: {error}")))?;
    let seconds = span.measure.as_secs_f64();
    let seen = course.seen();
    #[expect(
        clippy::cast_precision_loss,
        reason = "grants of a few seconds are far below 2^52"
    )]
    let rate = seen.grants as f64 / seconds;
    Ok(Sample {
        rate,
        latency: Latency::of(&seen.histogram),
        cpu_us: None,
        generator_cores: cpu.as_secs_f64() / seconds,
    })
}

async fn contend(
    client: Client,
    mutex: InterProcessMutex,
    course: Arc<Course>,
) -> Result<(), String> {
    loop {
        let guard = mutex.acquire().await.map_err(|error| error.to_string())?;
        let now = Instant::now();
        let elapsed = now - course.begun;
        let token = guard.fencing_token().get();
        {
            let mut seen = course.seen();
            if seen.token.replace(token).is_some_and(|last| token <= last) {
                return Err(format!("the fencing token {token} does not rise"));
            }
            let counts =
                elapsed >= course.span.warm && elapsed < course.span.warm + course.span.measure;
            if counts && let Some(released) = seen.released {
                seen.grants += 1;
                let nanos = u64::try_from((now - released).as_nanos()).unwrap_or(u64::MAX);
                seen.histogram.saturating_record(nanos);
            }
            seen.released = Some(Instant::now());
        }
        guard.release().await.map_err(|error| error.to_string())?;
        if elapsed >= course.span.warm + course.span.measure {
            return client.close().await.map_err(|error| error.to_string());
        }
    }
}

/// Figures by way and forcing, one per round.
pub(crate) struct Row {
    way: &'static str,
    kind: Kind,
    forcing: Forcing,
    samples: Vec<Sample>,
}

impl Row {
    fn of(&self, field: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(field))
    }

    fn p50(&self) -> Option<Spread> {
        self.of(|sample| sample.latency.map(|latency| latency.p50))
    }
}

/// What to measure.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) contenders: usize,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) span: Span,
}

/// Runs both ways on each server, forcing on and off.
pub(crate) fn run(
    plan: &Plan,
    programs: &Programs,
    dir: &Path,
    bar: &ProgressBar,
) -> Outcome<Vec<Row>> {
    programs.require(&plan.kinds)?;
    let mut rows = Vec::new();
    let modes = [Forcing::On, Forcing::Off];
    bar.set_length((plan.kinds.len() * modes.len() * plan.rounds) as u64);
    for kind in &plan.kinds {
        for forcing in modes {
            let scratch = tempfile::Builder::new().prefix("server-").tempdir_in(dir);
            let scratch = scratch.tried(|| format!("create a directory in {}", dir.display()))?;
            let (server, _) = Server::start(*kind, programs, scratch.path(), forcing)?;
            let mut pair = [RAW, SDK].map(|way| Row {
                way,
                kind: *kind,
                forcing,
                samples: Vec::new(),
            });
            for round in 0..plan.rounds {
                bar.set_message(format!("{kind}, {forcing}: round {}", round + 1));
                let target = server.target();
                pair[0].samples.push(
                    Workload::Lock {
                        contenders: plan.contenders,
                    }
                    .run(target, plan.span)?
                    .sample,
                );
                pair[1]
                    .samples
                    .push(sdk(target.addr, plan.contenders, plan.span)?);
                bar.inc(1);
            }
            rows.extend(pair);
            server.kill()?;
        }
    }
    Ok(rows)
}

/// The table, with the SDK's hand-over as a multiple of the raw one.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines = Table::new(&[
        "server",
        "way",
        "grants/s",
        "hand-over p50 us",
        "contenders' cores",
        "p50 / raw",
        "verdict",
    ]);
    let mut raw = None;
    for row in rows {
        let p50 = row.p50().map(|p50| p50.median);
        let (ratio, verdict) = if row.way == RAW {
            raw = p50;
            (None, String::new())
        } else {
            let ratio = p50.zip(raw).map(|(sdk, raw)| sdk / raw);
            let verdict =
                ratio.map(|ratio| Verdict::of(ratio, false, Some(1.2), Some(1.05)).text(true));
            (
                ratio,
                format!("{} (must 1.2, aim 1.05)", verdict.unwrap_or("-")),
            )
        };
        lines.row(vec![
            format!("{}, {}", row.kind, row.forcing),
            row.way.to_owned(),
            table::spread(row.of(|sample| Some(sample.rate))),
            table::spread(row.p50()),
            table::spread(row.of(|sample| Some(sample.generator_cores))),
            table::optional(ratio),
            verdict,
        ]);
    }
    format!(
        "{}, load {}\n\n{}",
        procfs::machine(),
        procfs::load_average(),
        lines.text()
    )
}

/// Everything, each round by itself.
pub(crate) fn json(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        json!({
            "way": row.way,
            "server": row.kind.to_string(),
            "forcing": row.forcing == Forcing::On,
            "rounds": row.samples.iter().map(Sample::json).collect::<Vec<_>>(),
        })
    });
    json!({ "machine": procfs::machine(), "load": procfs::load_average(), "mutex": rows.collect::<Vec<_>>() })
}
