//! `compare`: the same workloads on our server and on Apache ZooKeeper, alternating, beside the limits of the moment.
//!
//! One round starts each server afresh (forcing on, then off), warms it up, and runs every workload once; who goes first
//! changes from round to round. The null server and the limits are measured in each round too. The report has medians
//! with their range, and judges the goals.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::goals::{GOALS, Goal, Measure, Verdict};
use crate::limits::Limits;
use crate::procfs;
use crate::sample::{Sample, Spread};
use crate::server::{Forcing, Kind, Programs, Server};
use crate::table::{self, Table};
use crate::workload::{self, Span, Workload};

/// What to compare.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) span: Span,
}

/// Figures by workload, forcing and server, one per round.
#[derive(Default)]
pub(crate) struct Figures {
    samples: BTreeMap<(usize, Forcing, Kind), Vec<Sample>>,
    starts: BTreeMap<Kind, Vec<f64>>,
    limits: Vec<Limits>,
}

/// The servers and forcing modes in which a workload runs.
fn runs(kind: Kind, forcing: Forcing, workload: Workload) -> bool {
    match (kind, forcing) {
        (Kind::Null, Forcing::On) => false,
        (Kind::Null, Forcing::Off) => workload.suits_null(),
        (_, Forcing::On) => true,
        // Without forcing the disk is out of the game: only the workloads with a goal of their own.
        (_, Forcing::Off) => {
            GOALS
                .iter()
                .any(|goal| goal.forcing == Forcing::Off && goal.workload == workload.name())
                || matches!(workload, Workload::Create { window, .. } if workload.writes() && window > 1)
        }
    }
}

/// The servers of one round, in the order of that round.
fn order(plan: &Plan, round: usize) -> Vec<(Kind, Forcing)> {
    let mut kinds = plan.kinds.clone();
    if round % 2 == 1 {
        kinds.reverse();
    }
    let all = kinds
        .into_iter()
        .flat_map(|kind| [(kind, Forcing::On), (kind, Forcing::Off)]);
    all.filter(|(kind, forcing)| {
        plan.workloads
            .iter()
            .any(|workload| runs(*kind, *forcing, *workload))
    })
    .collect()
}

/// Runs the plan; scratch data goes below `dir`.
pub(crate) fn run(
    plan: &Plan,
    programs: &Programs,
    dir: &Path,
    bar: &ProgressBar,
) -> Outcome<Figures> {
    programs.require(&plan.kinds)?;
    let mut steps = 0;
    for (kind, forcing) in order(plan, 0) {
        steps += 1 + plan
            .workloads
            .iter()
            .filter(|workload| runs(kind, forcing, **workload))
            .count();
    }
    bar.set_length((steps * plan.rounds) as u64);
    let mut figures = Figures::default();
    for round in 0..plan.rounds {
        bar.set_message("limits");
        figures.limits.push(Limits::measure(
            &dir.join("limits"),
            Duration::from_millis(500),
        )?);
        for (kind, forcing) in order(plan, round) {
            let scratch = tempfile::Builder::new()
                .prefix("server-")
                .tempdir_in(dir)
                .map_err(|error| {
                    crate::failure::Failure::Io(
                        format!("could not create a directory in {}", dir.display()),
                        error,
                    )
                })?;
            bar.set_message(format!(
                "round {}: {kind}, {forcing}: warming up",
                round + 1
            ));
            let (server, start) = Server::start(kind, programs, scratch.path(), forcing)?;
            if forcing == Forcing::On {
                figures
                    .starts
                    .entry(kind)
                    .or_default()
                    .push(start.as_secs_f64() * 1e3);
            }
            warm_up(&server)?;
            bar.inc(1);
            for (at, workload) in plan
                .workloads
                .iter()
                .enumerate()
                .filter(|(_, w)| runs(kind, forcing, **w))
            {
                bar.set_message(format!(
                    "round {}: {kind}, {forcing}: {}",
                    round + 1,
                    workload.name()
                ));
                let run = workload.run(server.target(), plan.span)?;
                figures
                    .samples
                    .entry((at, forcing, kind))
                    .or_default()
                    .push(run.sample);
                bar.inc(1);
            }
            server.kill()?;
        }
    }
    Ok(figures)
}

/// A virtual machine compiles what it has run: everybody gets the same head start.
fn warm_up(server: &Server) -> Outcome<()> {
    if server.kind == Kind::Null {
        return Ok(());
    }
    for (name, millis) in [
        ("mixed-4x64", 1_500),
        ("create-4x64", 700),
        ("sessions-8", 500),
        ("lock-8", 300),
    ] {
        let workload = workload::named(name).expect("the warm-up uses known workloads");
        let span = Span {
            warm: Duration::ZERO,
            measure: Duration::from_millis(millis),
        };
        workload.run(server.target(), span)?;
    }
    Ok(())
}

impl Figures {
    fn of(&self, at: usize, forcing: Forcing, kind: Kind) -> &[Sample] {
        self.samples
            .get(&(at, forcing, kind))
            .map_or(&[], Vec::as_slice)
    }

    fn rate(&self, at: usize, forcing: Forcing, kind: Kind) -> Option<Spread> {
        Spread::of(self.of(at, forcing, kind).iter().map(|sample| sample.rate))
    }

    fn p50(&self, at: usize, forcing: Forcing, kind: Kind) -> Option<Spread> {
        Spread::of(
            self.of(at, forcing, kind)
                .iter()
                .filter_map(|sample| sample.latency)
                .map(|latency| latency.p50),
        )
    }

    fn cpu(&self, at: usize, forcing: Forcing, kind: Kind) -> Option<Spread> {
        Spread::of(
            self.of(at, forcing, kind)
                .iter()
                .filter_map(|sample| sample.cpu_us),
        )
    }

    /// The value that a goal is about, from medians; `None` when something it needs was not measured.
    fn value(&self, plan: &Plan, goal: &Goal) -> Option<f64> {
        let at = plan
            .workloads
            .iter()
            .position(|workload| workload.name() == goal.workload)?;
        let rate = |kind, forcing| self.rate(at, forcing, kind).map(|rate| rate.median);
        let p50 = |kind, forcing| self.p50(at, forcing, kind).map(|p50| p50.median);
        match goal.measure {
            Measure::RateToApache => {
                Some(rate(Kind::Ours, goal.forcing)? / rate(Kind::Apache, goal.forcing)?)
            }
            Measure::LatencyOfApache => {
                Some(p50(Kind::Apache, goal.forcing)? / p50(Kind::Ours, goal.forcing)?)
            }
            Measure::RateToNull => {
                Some(rate(Kind::Ours, goal.forcing)? / rate(Kind::Null, Forcing::Off)?)
            }
            Measure::LatencyToNull => {
                Some(p50(Kind::Ours, goal.forcing)? / p50(Kind::Null, Forcing::Off)?)
            }
            Measure::AboveFloorUs => {
                let sync = Spread::of(self.limits.iter().map(|limits| limits.sync_zeroed_us))?;
                Some(p50(Kind::Ours, goal.forcing)? - p50(Kind::Null, Forcing::Off)? - sync.median)
            }
            Measure::CpuUs => self.cpu(at, goal.forcing, Kind::Ours).map(|cpu| cpu.median),
            Measure::Tail => {
                let samples = self
                    .of(at, goal.forcing, Kind::Ours)
                    .iter()
                    .filter_map(|sample| sample.latency);
                Spread::of(samples.map(|latency| latency.p999 / latency.p50))
                    .map(|tail| tail.median)
            }
        }
    }

    /// The report for a terminal.
    pub(crate) fn text(&self, plan: &Plan) -> String {
        let mut out = format!(
            "{}, load {}, {} rounds\n\n",
            procfs::machine(),
            procfs::load_average(),
            plan.rounds
        );
        out.push_str(&limits_table(&self.limits).text());
        out.push('\n');
        let mut rows = Table::new(&[
            "workload",
            "server",
            "rate/s",
            "p50 us",
            "p99 us",
            "CPU us/op",
            "rate / Apache's",
            "generator cores",
        ]);
        for (at, workload) in plan.workloads.iter().enumerate() {
            for forcing in [Forcing::On, Forcing::Off] {
                for kind in [Kind::Ours, Kind::Apache, Kind::Null] {
                    let samples = self.of(at, forcing, kind);
                    if samples.is_empty() {
                        continue;
                    }
                    let rate = self.rate(at, forcing, kind);
                    let ratio = match kind {
                        Kind::Apache => None,
                        _ => rate
                            .zip(self.rate(at, forcing, Kind::Apache))
                            .map(|(ours, theirs)| ours.median / theirs.median),
                    };
                    let p99 = Spread::of(
                        samples
                            .iter()
                            .filter_map(|sample| sample.latency)
                            .map(|latency| latency.p99),
                    );
                    let generator = Spread::of(samples.iter().map(|sample| sample.generator_cores));
                    let mode = if kind == Kind::Null {
                        String::new()
                    } else {
                        format!(", {forcing}")
                    };
                    rows.row(vec![
                        format!("{}{mode}", workload.name()),
                        kind.to_string(),
                        table::spread(rate),
                        table::spread(self.p50(at, forcing, kind)),
                        table::optional(p99.map(|p99| p99.median)),
                        table::spread(self.cpu(at, forcing, kind)),
                        table::optional(ratio),
                        table::optional(generator.map(|cores| cores.median)),
                    ]);
                }
            }
        }
        out.push_str(&rows.text());
        out.push('\n');
        let mut starts = Table::new(&["start to first answered read, ms", ""]);
        for (kind, millis) in &self.starts {
            starts.row(vec![
                kind.to_string(),
                table::spread(Spread::of(millis.iter().copied())),
            ]);
        }
        out.push_str(&starts.text());
        out.push('\n');
        out.push_str(&self.goals_table(plan).text());
        out
    }

    fn goals_table(&self, plan: &Plan) -> Table {
        let mut rows = Table::new(&["goal", "measure", "value", "must", "aim", "verdict"]);
        for goal in GOALS {
            let Some(value) = self.value(plan, &goal) else {
                continue;
            };
            let verdict = Verdict::of(value, goal.measure.rises(), goal.must, goal.aim);
            rows.row(vec![
                format!("{}, {}", goal.workload, goal.forcing),
                goal.measure.text().to_owned(),
                table::number(value),
                table::optional(goal.must),
                table::optional(goal.aim),
                verdict.text(goal.aim.is_some()).to_owned(),
            ]);
        }
        rows
    }

    /// Everything, each round by itself.
    pub(crate) fn json(&self, plan: &Plan) -> Value {
        let results = self.samples.iter().map(|((at, forcing, kind), samples)| {
            json!({
                "workload": plan.workloads[*at].name(),
                "forcing": *forcing == Forcing::On,
                "server": kind.to_string(),
                "rate": self.rate(*at, *forcing, *kind).map(Spread::json),
                "p50_us": self.p50(*at, *forcing, *kind).map(Spread::json),
                "server_cpu_us": self.cpu(*at, *forcing, *kind).map(Spread::json),
                "rounds": samples.iter().map(Sample::json).collect::<Vec<_>>(),
            })
        });
        let goals = GOALS.iter().filter_map(|goal| {
            let value = self.value(plan, goal)?;
            let verdict = Verdict::of(value, goal.measure.rises(), goal.must, goal.aim);
            Some(json!({
                "workload": goal.workload,
                "forcing": goal.forcing == Forcing::On,
                "measure": goal.measure.text(),
                "value": value,
                "must": goal.must,
                "aim": goal.aim,
                "verdict": verdict.text(goal.aim.is_some()),
            }))
        });
        let starts = self
            .starts
            .iter()
            .map(|(kind, millis)| json!({ "server": kind.to_string(), "ms": millis }));
        json!({
            "machine": procfs::machine(),
            "load": procfs::load_average(),
            "limits": self.limits.iter().map(Limits::json).collect::<Vec<_>>(),
            "results": results.collect::<Vec<_>>(),
            "starts": starts.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
        })
    }
}

/// The limits of all rounds as a table.
pub(crate) fn limits_table(limits: &[Limits]) -> Table {
    let of = |field: fn(&Limits) -> f64| table::spread(Spread::of(limits.iter().map(field)));
    let mut rows = Table::new(&["limit of the moment", ""]);
    rows.row(vec![
        "loopback round trip of 100 B, p50 us".into(),
        of(|limits| limits.round_trip_us),
    ]);
    rows.row(vec![
        "4 KiB + fdatasync, zero-filled region, p50 us".into(),
        of(|limits| limits.sync_zeroed_us),
    ]);
    rows.row(vec![
        "4 KiB + fdatasync, growing file, p50 us".into(),
        of(|limits| limits.sync_growing_us),
    ]);
    rows.row(vec![
        "memcpy of 64 MiB blocks, GiB/s".into(),
        of(|limits| limits.memcpy_gib),
    ]);
    rows
}
