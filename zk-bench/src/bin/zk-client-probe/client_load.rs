//! The load on a client library: as many tasks as the window, each getting one node again and again from one session.
//!
//! One thread for everything. The package of the peer clients compiles this same file, so that all are measured alike; it
//! therefore uses tokio, serde_json and nothing of this program.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the null server answers every read with.
const DATA_LEN: usize = 1024;
/// Runs, but does not count.
const WARM: Duration = Duration::from_millis(300);
/// One latency of so many is kept when many requests are in flight.
const KEPT_OF: u64 = 64;

type Failed = Box<dyn Error>;

/// What all tasks count together.
#[derive(Default)]
struct Counts {
    ops: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
}

/// Runs the tasks inside a `LocalSet`; rate, CPU of this thread, median latency and resident memory.
pub(crate) async fn load(
    window: usize,
    measured: Duration,
    get: impl AsyncFn() -> Result<usize, Failed> + 'static,
) -> Result<Value, Failed> {
    let counts = Rc::new(Counts::default());
    let get = Rc::new(get);
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..window {
        let (counts, get) = (Rc::clone(&counts), Rc::clone(&get));
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let sent = Instant::now();
                if sent - begun >= WARM + measured {
                    return Ok(());
                }
                let len = get().await.map_err(|error| error.to_string())?;
                if len != DATA_LEN {
                    return Err(format!("a node of {DATA_LEN} bytes came with {len}"));
                }
                if sent - begun >= WARM {
                    counts.ops.set(counts.ops.get() + 1);
                    if window == 1 || counts.ops.get().is_multiple_of(KEPT_OF) {
                        counts.latencies.borrow_mut().push(sent.elapsed());
                    }
                }
            }
        }));
    }
    tokio::time::sleep(WARM).await;
    let before = cpu_of_this_thread()?;
    for task in tasks {
        task.await??;
    }
    let spent = cpu_of_this_thread()?.saturating_sub(before);
    let mut latencies = counts.latencies.take();
    latencies.sort();
    let p50 = latencies
        .get(latencies.len() / 2)
        .copied()
        .unwrap_or_default();
    #[expect(
        clippy::cast_precision_loss,
        reason = "the requests of a few seconds are far below 2^52"
    )]
    let ops = counts.ops.get() as f64;
    Ok(json!({
        "rate": ops / measured.as_secs_f64(),
        "cpu_us": spent.as_secs_f64() * 1e6 / ops,
        "p50_us": p50.as_secs_f64() * 1e6,
        "resident": resident()?,
    }))
}

fn cpu_of_this_thread() -> Result<Duration, Failed> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split_whitespace()
        .next()
        .ok_or("no time in schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn resident() -> Result<u64, Failed> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS in status")?;
    let kib: u64 = line
        .split_whitespace()
        .next()
        .ok_or("no number in VmRSS")?
        .parse()?;
    Ok(kib * 1024)
}
