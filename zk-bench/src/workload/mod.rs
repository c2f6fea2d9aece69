//! The workloads by name: what each needs prepared, how it is run. Knows a server's address, not who serves there.
//!
//! Each run works below a root of its own, so that runs on one server do not meet; [`Workload::run`] leaves it behind and
//! says how deep it is, [`Run::remove`] cleans up.

mod ephemerals;
mod fanout;
mod lanes;
mod lock;
mod pipelined;
mod slots;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use self::lanes::{DATA_LEN, MULTI_LEN};
pub(crate) use self::pipelined::Span;

use self::lanes::{CreateLane, DataLane};
use crate::conn::{Buffer, Found, Hub, Plain};
use crate::failure::{Failure, Outcome, demand};
use crate::sample::Sample;
use crate::wire;

/// Nodes that gets and sets go to.
const NODES: usize = 1000;

/// A workload; `CxW` is C connections with W requests in flight on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// Reads of 1 KiB; of ten requests `sets_of_ten` are writes of 1 KiB.
    Data {
        sets_of_ten: usize,
        conns: usize,
        window: usize,
    },
    /// Creates of 100 bytes, `per_request` in a multi when more than one.
    Create {
        per_request: usize,
        conns: usize,
        window: usize,
    },
    Sessions {
        slots: usize,
    },
    Fanout {
        watchers: usize,
    },
    Ephemerals {
        sessions: usize,
        each: usize,
    },
    Lock {
        contenders: usize,
    },
}

const fn data(sets_of_ten: usize, conns: usize, window: usize) -> Workload {
    Workload::Data {
        sets_of_ten,
        conns,
        window,
    }
}

const fn create(per_request: usize, conns: usize, window: usize) -> Workload {
    Workload::Create {
        per_request,
        conns,
        window,
    }
}

/// Every workload with its name and what it is.
pub(crate) const ALL: [(&str, Workload, &str); 15] = [
    (
        "get-1x1",
        data(0, 1, 1),
        "getData 1 KiB over 1000 nodes, closed loop",
    ),
    ("get-4x64", data(0, 4, 64), "getData 1 KiB over 1000 nodes"),
    (
        "get-1x256",
        data(0, 1, 256),
        "getData 1 KiB over 1000 nodes",
    ),
    (
        "mixed-4x64",
        data(1, 4, 64),
        "90 % getData, 10 % setData, 1 KiB over 1000 nodes",
    ),
    (
        "set-1x1",
        data(10, 1, 1),
        "setData 1 KiB over 1000 nodes, closed loop",
    ),
    ("set-4x64", data(10, 4, 64), "setData 1 KiB over 1000 nodes"),
    ("create-1x1", create(1, 1, 1), "create 100 B, closed loop"),
    ("create-4x64", create(1, 4, 64), "create 100 B"),
    (
        "multi-4x16",
        create(MULTI_LEN, 4, 16),
        "multi of 10 creates of 100 B (the rate counts multis)",
    ),
    (
        "sessions-8",
        Workload::Sessions { slots: 8 },
        "session opened and closed, 8 slots (the latency is the open)",
    ),
    (
        "fanout-1000",
        Workload::Fanout { watchers: 1000 },
        "watch fan-out (rate: notifications; latency: the last one)",
    ),
    (
        "ephemerals-200x10",
        Workload::Ephemerals {
            sessions: 200,
            each: 10,
        },
        "200 sessions with 10 ephemerals each closed at once (rate: sessions; latency: all gone)",
    ),
    (
        "lock-2",
        Workload::Lock { contenders: 2 },
        "lock by raw operations, 2 contenders (latency: hand-over)",
    ),
    (
        "lock-8",
        Workload::Lock { contenders: 8 },
        "lock by raw operations, 8 contenders (latency: hand-over)",
    ),
    (
        "lock-32",
        Workload::Lock { contenders: 32 },
        "lock by raw operations, 32 contenders (latency: hand-over)",
    ),
];

/// The workload of this name.
pub(crate) fn named(name: &str) -> Option<Workload> {
    ALL.iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, workload, _)| *workload)
}

/// The server under load, as far as a workload may know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    /// Whose CPU time counts, when it is a local process.
    pub(crate) pid: Option<u32>,
    /// A server with a data tree; false for the null server, whose versions and contents are made up.
    pub(crate) exact: bool,
}

/// A finished run and what it left on the server.
pub(crate) struct Run {
    pub(crate) sample: Sample,
    root: String,
    target: Target,
}

impl Run {
    /// Deletes what the run left. Only servers with a tree have anything.
    pub(crate) fn remove(&self) -> Outcome<()> {
        if !self.target.exact {
            return Ok(());
        }
        let mut plain = Plain::open(self.target.addr)?;
        plain.remove_tree(&self.root, 2)?;
        plain.close()
    }
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        ALL.iter()
            .find(|(_, workload, _)| *workload == self)
            .map_or("custom", |(name, ..)| name)
    }

    /// Whether it writes, so that forcing to disk matters.
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Self::Data { sets_of_ten: 0, .. })
    }

    /// Whether the null server can answer it.
    pub(crate) fn suits_null(self) -> bool {
        matches!(
            self,
            Self::Data { .. } | Self::Create { .. } | Self::Sessions { .. }
        )
    }

    /// Prepares, runs and checks.
    pub(crate) fn run(self, target: Target, span: Span) -> Outcome<Run> {
        let root = format!("/zk-bench-{:016x}", fastrand::u64(..));
        if target.exact {
            let mut plain = Plain::open(target.addr)?;
            plain.all([wire::create(&root, b"", wire::PERSISTENT)])?;
            plain.close()?;
        }
        let (addr, pid) = (target.addr, target.pid);
        let sample = match self {
            Self::Data {
                sets_of_ten,
                conns,
                window,
            } => {
                let paths = prepare(target, &root)?;
                let gets = Rc::new(
                    paths
                        .iter()
                        .map(|path| wire::get_data(path, false))
                        .collect(),
                );
                let lanes = (0..conns).map(|first| {
                    DataLane::new(&paths, &gets, first, conns, sets_of_ten, target.exact)
                });
                pipelined::drive(addr, pid, lanes.collect(), window, span)?
            }
            Self::Create {
                per_request,
                conns,
                window,
            } => {
                let parents: Vec<String> =
                    (0..conns).map(|conn| format!("{root}/{conn}")).collect();
                if target.exact {
                    let mut plain = Plain::open(addr)?;
                    plain.all(
                        parents
                            .iter()
                            .map(|parent| wire::create(parent, b"", wire::PERSISTENT)),
                    )?;
                    plain.close()?;
                }
                let lanes = parents
                    .iter()
                    .map(|parent| CreateLane::new(parent, per_request))
                    .collect();
                pipelined::drive(addr, pid, lanes, window, span)?
            }
            Self::Sessions { slots } => slots::run(addr, pid, slots, span)?,
            Self::Fanout { watchers } => fanout::run(addr, pid, &root, watchers, span)?,
            Self::Ephemerals { sessions, each } => {
                ephemerals::run(addr, pid, &root, sessions, each, span)?
            }
            Self::Lock { contenders } => lock::run(addr, pid, &root, contenders, span)?,
        };
        Ok(Run {
            sample,
            root,
            target,
        })
    }
}

/// Creates the nodes that gets and sets go to; their paths have one length.
fn prepare(target: Target, root: &str) -> Outcome<Vec<String>> {
    let paths: Vec<String> = (0..NODES).map(|node| format!("{root}/{node:06}")).collect();
    if target.exact {
        let mut plain = Plain::open(target.addr)?;
        plain.all(
            paths
                .iter()
                .zip(0..)
                .map(|(path, node)| wire::create(path, &lanes::content(node, 0), wire::PERSISTENT)),
        )?;
        plain.close()?;
    }
    Ok(paths)
}

/// A server filled with many small nodes below four parents.
pub(crate) struct Filled {
    /// The node created last on the first connection.
    pub(crate) last: String,
    pub(crate) root: String,
    pub(crate) nodes: usize,
    pub(crate) seconds: f64,
}

/// Creates at least `nodes` nodes of 100 bytes over 4 connections with 256 in flight.
pub(crate) fn fill(addr: SocketAddr, nodes: usize) -> Outcome<Filled> {
    let root = "/zk-bench-fill".to_owned();
    let conns = 4;
    let each = nodes.div_ceil(conns);
    let mut plain = Plain::open(addr)?;
    plain.all([wire::create(&root, b"", wire::PERSISTENT)])?;
    plain.all(
        (0..conns).map(|conn| wire::create(&format!("{root}/{conn}"), b"", wire::PERSISTENT)),
    )?;
    let mut hub = Hub::new()?;
    hub.open(addr, conns, Buffer::Large)?;
    let mut lanes: Vec<CreateLane> = (0..conns)
        .map(|conn| CreateLane::new(&format!("{root}/{conn}"), 1))
        .collect();
    let start = std::time::Instant::now();
    let mut sent = vec![0_usize; conns];
    for (slot, lane) in lanes.iter_mut().enumerate() {
        while sent[slot] < each.min(256) {
            sent[slot] += 1;
            pipelined::Lane::put(lane, xid(sent[slot])?, hub.out(slot));
        }
        hub.flush(slot)?;
    }
    let mut answered = vec![0_usize; conns];
    while answered.iter().any(|answered| *answered < each) {
        let any = hub.round(Duration::from_secs(60), |slot, found, out| {
            let Found::Frame(frame) = found else {
                return Err(Failure::Deviation(
                    "the server closed a connection under load".into(),
                ));
            };
            let mut cursor = wire::Cursor::new(frame);
            let header = cursor.header()?;
            answered[slot] += 1;
            demand!(
                header.xid == xid(answered[slot])? && header.err == 0,
                "odd reply to a create: {header:?}"
            );
            pipelined::Lane::check(&mut lanes[slot], cursor)?;
            if sent[slot] < each {
                sent[slot] += 1;
                pipelined::Lane::put(&mut lanes[slot], xid(sent[slot])?, out);
            }
            Ok(())
        })?;
        if !any {
            return Err(Failure::TimedOut(
                "no create was answered for a minute".into(),
            ));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    plain.close()?;
    Ok(Filled {
        last: format!("{root}/0/{:010}", each - 1),
        root,
        nodes: each * conns,
        seconds,
    })
}

fn xid(count: usize) -> Outcome<i32> {
    i32::try_from(count).map_err(|_| Failure::Missing("more nodes than xids".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_found_by_its_name() {
        for (name, workload, _) in ALL {
            assert_eq!(named(name), Some(workload));
            assert_eq!(workload.name(), name);
        }
    }
}
