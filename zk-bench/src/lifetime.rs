//! `start`, `memory` and `recovery`: what a server costs before, beside and after its work.
//!
//! Like `compare`, they alternate between the servers and report medians with their range, with the goals of each figure.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::conn::{Buffer, Hub, Plain};
use crate::failure::{Failure, Outcome, Tried, demand};
use crate::goals::Verdict;
use crate::procfs;
use crate::sample::Spread;
use crate::server::{Forcing, Kind, Programs, Server};
use crate::table::{self, Table};
use crate::wire;
use crate::workload;

/// A figure of several rounds, with its bounds for our server.
pub(crate) struct Figure {
    what: &'static str,
    kind: Kind,
    values: Vec<f64>,
    bounds: Bounds,
}

/// What our server must and should reach.
#[derive(Clone, Copy)]
enum Bounds {
    /// At most.
    AtMost(f64, f64),
    /// Apache ZooKeeper's figure divided by ours is at least; and ours at most.
    TimesLess(f64, f64),
    None,
}

/// Figures in the order in which they were first seen.
#[derive(Default)]
pub(crate) struct Figures {
    all: Vec<Figure>,
}

impl Figures {
    fn add(&mut self, what: &'static str, kind: Kind, value: f64, bounds: Bounds) {
        match self
            .all
            .iter_mut()
            .find(|figure| figure.what == what && figure.kind == kind)
        {
            Some(figure) => figure.values.push(value),
            None => self.all.push(Figure {
                what,
                kind,
                values: vec![value],
                bounds,
            }),
        }
    }

    fn median(&self, what: &str, kind: Kind) -> Option<f64> {
        let figure = self
            .all
            .iter()
            .find(|figure| figure.what == what && figure.kind == kind)?;
        Spread::of(figure.values.iter().copied()).map(|spread| spread.median)
    }

    fn verdict(&self, figure: &Figure) -> String {
        let Some(ours) = self
            .median(figure.what, Kind::Ours)
            .filter(|_| figure.kind == Kind::Ours)
        else {
            return String::new();
        };
        match figure.bounds {
            Bounds::None => String::new(),
            Bounds::AtMost(must, aim) => {
                let verdict = Verdict::of(ours, false, Some(must), Some(aim)).text(true);
                format!(
                    "{verdict} (must {}, aim {})",
                    table::number(must),
                    table::number(aim)
                )
            }
            Bounds::TimesLess(must, aim) => match self.median(figure.what, Kind::Apache) {
                None => "no peer".to_owned(),
                Some(theirs) => {
                    let ratio = theirs / ours;
                    let verdict = if ours <= aim {
                        Verdict::Aim
                    } else {
                        Verdict::of(ratio, true, Some(must), None)
                    };
                    format!(
                        "{}x: {} (must {must}x, aim {})",
                        table::number(ratio),
                        verdict.text(true),
                        table::number(aim)
                    )
                }
            },
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut rows = Table::new(&["what", "server", "median [min-max]", "verdict"]);
        let mut sorted: Vec<&Figure> = self.all.iter().collect();
        sorted.sort_by_key(|figure| {
            (
                self.all.iter().position(|other| other.what == figure.what),
                figure.kind,
            )
        });
        for figure in sorted {
            let spread = Spread::of(figure.values.iter().copied());
            rows.row(vec![
                figure.what.to_owned(),
                figure.kind.to_string(),
                table::spread(spread),
                self.verdict(figure),
            ]);
        }
        format!(
            "{}, load {}\n\n{}",
            procfs::machine(),
            procfs::load_average(),
            rows.text()
        )
    }

    pub(crate) fn json(&self) -> Value {
        let figures = self.all.iter().map(|figure| {
            json!({ "what": figure.what, "server": figure.kind.to_string(), "values": figure.values, "verdict": self.verdict(figure) })
        });
        json!({ "machine": procfs::machine(), "load": procfs::load_average(), "figures": figures.collect::<Vec<_>>() })
    }
}

/// What the three commands share.
pub(crate) struct Stage<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) dir: &'a Path,
    pub(crate) kinds: &'a [Kind],
    pub(crate) rounds: usize,
    pub(crate) bar: &'a ProgressBar,
}

impl Stage<'_> {
    /// Calls `one` for each server in each round, with a fresh directory; who is first alternates.
    fn alternate(
        &self,
        mut one: impl FnMut(Kind, &Path, &mut Figures) -> Outcome<()>,
    ) -> Outcome<Figures> {
        self.programs.require(self.kinds)?;
        self.bar.set_length((self.rounds * self.kinds.len()) as u64);
        let mut figures = Figures::default();
        for round in 0..self.rounds {
            let mut kinds = self.kinds.to_vec();
            if round % 2 == 1 {
                kinds.reverse();
            }
            for kind in kinds {
                self.bar.set_message(format!("round {}: {kind}", round + 1));
                let scratch = tempfile::Builder::new()
                    .prefix("server-")
                    .tempdir_in(self.dir);
                let scratch =
                    scratch.tried(|| format!("create a directory in {}", self.dir.display()))?;
                one(kind, scratch.path(), &mut figures)?;
                self.bar.inc(1);
            }
        }
        Ok(figures)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of memory are far below 2^52"
)]
fn ratio(part: u64, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Start of the process to the first answered read, on an empty directory.
pub(crate) fn start(stage: &Stage<'_>) -> Outcome<Figures> {
    stage.alternate(|kind, dir, figures| {
        let (server, time) = Server::start(kind, stage.programs, dir, Forcing::On)?;
        figures.add(
            "start to first answered read, ms",
            kind,
            time.as_secs_f64() * 1e3,
            Bounds::AtMost(50.0, 10.0),
        );
        server.kill()
    })
}

/// Resident memory idle, per idle session, and per node of 100 bytes.
pub(crate) fn memory(stage: &Stage<'_>, nodes: usize, sessions: usize) -> Outcome<Figures> {
    stage.alternate(|kind, dir, figures| {
        let (server, _) = Server::start(kind, stage.programs, dir, Forcing::On)?;
        let idle = procfs::resident(server.pid())?;
        figures.add(
            "idle RSS, MiB",
            kind,
            ratio(idle, 1 << 20),
            Bounds::AtMost(12.0, 5.0),
        );

        let mut hub = Hub::new()?;
        let begun = Instant::now();
        hub.open(server.target().addr, sessions, Buffer::Small)?;
        let seconds = begun.elapsed().as_secs_f64();
        let open = procfs::resident(server.pid())?.saturating_sub(idle);
        figures.add(
            "RSS per idle session, B",
            kind,
            ratio(open, sessions),
            Bounds::AtMost(1_536.0, 600.0),
        );
        figures.add(
            "sessions opened/s",
            kind,
            ratio(sessions as u64, 1) / seconds,
            Bounds::None,
        );
        drop(hub);
        server.kill()?;

        let dir = dir.join("filled");
        let (server, _) = Server::start(kind, stage.programs, &dir, Forcing::On)?;
        let before = procfs::resident(server.pid())?;
        let filled = workload::fill(server.target().addr, nodes)?;
        let after = procfs::resident(server.pid())?.saturating_sub(before);
        figures.add(
            "RSS per node of 100 B, B",
            kind,
            ratio(after, filled.nodes),
            Bounds::AtMost(350.0, 240.0),
        );
        figures.add(
            "creates/s while filling, 4x256",
            kind,
            ratio(filled.nodes as u64, 1) / filled.seconds,
            Bounds::None,
        );
        if kind == Kind::Apache
            && let Some(live) = live_heap(server.pid())
        {
            figures.add(
                "live heap per node of 100 B, all in, B",
                kind,
                ratio(live, filled.nodes),
                Bounds::None,
            );
        }
        server.kill()
    })
}

/// What a full collection leaves, by the Java tools; `None` where they are not installed.
fn live_heap(pid: u32) -> Option<u64> {
    let output = Command::new("jcmd")
        .args([&pid.to_string(), "GC.class_histogram"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let total = text.lines().rev().find(|line| line.starts_with("Total"))?;
    total.split_whitespace().nth(2)?.parse().ok()
}

/// SIGKILL of a server with many nodes, restart, first answered read of the last node.
pub(crate) fn recovery(stage: &Stage<'_>, nodes: usize, kills: usize) -> Outcome<Figures> {
    stage.alternate(|kind, dir, figures| {
        let (mut server, _) = Server::start(kind, stage.programs, dir, Forcing::On)?;
        let filled = workload::fill(server.target().addr, nodes)?;
        for _ in 0..kills {
            server.kill()?;
            let begun = Instant::now();
            server = Server::spawn(kind, stage.programs, dir, Forcing::On)?;
            server.serves(&filled.last)?;
            let time = begun.elapsed().as_secs_f64() * 1e3;
            figures.add(
                "SIGKILL, start, first read of the last node, ms",
                kind,
                time,
                Bounds::TimesLess(3.0, 500.0),
            );
            let found = count(&server, &filled.root)?;
            demand!(
                found == filled.nodes + 4,
                "{found} nodes after recovery where {} were acknowledged",
                filled.nodes + 4
            );
            figures.add(
                "RSS after recovery, MiB",
                kind,
                ratio(procfs::resident(server.pid())?, 1 << 20),
                Bounds::None,
            );
        }
        server.kill()
    })
}

/// Nodes below `path`, by the server's own count.
fn count(server: &Server, path: &str) -> Outcome<usize> {
    let mut plain = Plain::open(server.target().addr)?;
    let (err, body) = plain.call(wire::get_all_children_number(path))?;
    demand!(err == 0, "getAllChildrenNumber failed with {err}");
    let count = wire::Cursor::new(&body).int()?;
    plain.close()?;
    usize::try_from(count).map_err(|_| Failure::Deviation(format!("{count} children")))
}
