//! What the engine costs by itself, without sockets and disk: resident bytes per node of 100 B of data, and operations per
//! second on one thread. `cargo run --release -p zk-server-lite --example engine_cost [nodes [workload [requests]]]`
//!
//! With one workload and a number of requests the work is fixed, for counting instructions:
//! `valgrind --tool=callgrind --toggle-collect='engine_cost::drive' target/release/examples/engine_cost 2000 multi 2000`

#![expect(
    clippy::unwrap_used,
    reason = "a measurement reads the clock and may stop"
)]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use zk_proto::jute::Encode;
use zk_proto::session::{
    ConnectRequest, CreateRequest, MultiOp, MultiRequest, PathWatchRequest, RequestHeader,
    SetDataRequest,
};
use zk_proto::{Acl, OpCode, Xid};
use zk_server_lite::pipeline::{ConnId, Database, Engine, EngineConfig};
use zk_server_lite::time::Time;

const CONN: ConnId = ConnId(1);
/// Requests fed before the log is asked, as a driver with a full pipeline does.
const BATCH: usize = 64;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn frame(op: OpCode, body: &impl Encode) -> Bytes {
    let mut out = BytesMut::new();
    RequestHeader { xid: Xid(1), op }.encode(&mut out);
    body.encode(&mut out);
    out.freeze()
}

fn create_request(path: &str) -> CreateRequest<'_> {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::from_static(&[7; 100])),
        acl: Some(vec![Acl::open_unsafe()]),
        flags: 0,
    }
}

fn create(path: &str) -> Bytes {
    frame(OpCode::CREATE, &create_request(path))
}

/// Ten creates of siblings.
fn multi(first: usize) -> Bytes {
    let paths: Vec<String> = (first..first + 10)
        .map(|at| format!("/group-000000/{at:010}"))
        .collect();
    let creates = paths.iter().map(|path| create_request(path));
    let request = MultiRequest {
        ops: creates.map(MultiOp::Create).collect(),
    };
    frame(OpCode::MULTI, &request)
}

fn settle(engine: &mut Engine) {
    let mut appends = Vec::new();
    engine.take_appends(&mut appends);
    if let Some(last) = appends.last() {
        engine.committed(last.zxid, Time::default());
    }
    engine.output(CONN).unwrap().clear();
    engine.take_dirty(&mut Vec::new());
}

/// What is measured: requests in, transactions taken and said to be safe, replies out.
#[inline(never)]
fn drive(engine: &mut Engine, frames: &[Bytes]) {
    for batch in frames.chunks(BATCH) {
        for frame in batch {
            engine.handle_frame(CONN, frame, Time::default(), 0);
        }
        settle(engine);
    }
}

/// Which workloads to run, and how many requests of each.
struct Plan {
    only: Option<String>,
    requests: usize,
}

impl Plan {
    fn run(&self, engine: &mut Engine, name: &str, frame: impl FnMut(usize) -> Bytes) {
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        let frames: Vec<Bytes> = (0..self.requests).map(frame).collect();
        let start = Instant::now();
        drive(engine, &frames);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{name:<28} {:>10.0} ops/s {:>8.0} ns each",
            frames.len() as f64 / seconds,
            seconds * 1e9 / frames.len() as f64
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let nodes: usize = args.next().map_or(1_000_000, |text| text.parse().unwrap());
    let plan = Plan {
        only: args.next(),
        requests: args.next().map_or(100_000, |text| text.parse().unwrap()),
    };
    let mut engine = Engine::new(
        EngineConfig::default(),
        Database::empty(false),
        Time::default(),
    );
    engine.attach(CONN, [127, 0, 0, 1].into(), Time::default());
    let mut connect = BytesMut::new();
    ConnectRequest {
        timeout: 10_000,
        ..ConnectRequest::default()
    }
    .encode(&mut connect);
    engine.handle_frame(CONN, &connect.freeze(), Time::default(), 0);
    settle(&mut engine);

    let before = resident_bytes();
    let start = Instant::now();
    for group in 0..nodes.div_ceil(1000) {
        engine.handle_frame(
            CONN,
            &create(&format!("/group-{group:06}")),
            Time::default(),
            0,
        );
        for node in 0..1000.min(nodes - group * 1000) {
            let path = format!("/group-{group:06}/node-{node:06}");
            engine.handle_frame(CONN, &create(&path), Time::default(), 0);
            if node % BATCH == BATCH - 1 {
                settle(&mut engine);
            }
        }
        settle(&mut engine);
    }
    let seconds = start.elapsed().as_secs_f64();
    let count = engine.tree().node_count();
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "{count} nodes in {seconds:.2} s: {} B resident each, {:.0} creates/s with the making of the requests",
        grown / count as u64,
        count as f64 / seconds
    );

    let pick = |at: usize| {
        let node = at.wrapping_mul(7919) % nodes;
        format!("/group-{:06}/node-{:06}", node / 1000, node % 1000)
    };
    plan.run(&mut engine, "get", |at| {
        let path = pick(at);
        let request = PathWatchRequest {
            path: path.as_str().into(),
            watch: false,
        };
        frame(OpCode::GET_DATA, &request)
    });
    plan.run(&mut engine, "set", |at| {
        let path = pick(at);
        let request = SetDataRequest {
            path: path.as_str().into(),
            data: Some(Bytes::from_static(&[1; 1024])),
            version: -1,
        };
        frame(OpCode::SET_DATA, &request)
    });
    plan.run(&mut engine, "create", |at| {
        create(&format!("/group-000001/more-{at:06}"))
    });
    plan.run(&mut engine, "taken", |_| {
        create("/group-000001/node-000001")
    });
    plan.run(&mut engine, "multi", |at| multi(at * 10));
}
