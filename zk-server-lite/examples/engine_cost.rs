//! What the engine costs without any I/O: bytes of resident memory for each node, and time for each request.
//!
//! `cargo run --release -p zk-server-lite --example engine_cost [nodes]`

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use zk_proto::jute::Encode;
use zk_proto::session::{
    ConnectRequest, CreateRequest, PathWatchRequest, RequestHeader, SetDataRequest,
};
use zk_proto::{Acl, OpCode, Xid};
use zk_server_lite::pipeline::{ConnId, Database, Engine, EngineConfig};
use zk_server_lite::time::Time;

const BATCH: usize = 64;

fn main() {
    let nodes: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let mut engine = Engine::new(
        EngineConfig::default(),
        Database::empty(false),
        Time::default(),
    );
    let conn = ConnId(1);
    engine.attach(conn, [127, 0, 0, 1].into(), Time::default());
    let mut hello = BytesMut::new();
    ConnectRequest {
        timeout: 30_000,
        ..ConnectRequest::default()
    }
    .encode(&mut hello);
    run(&mut engine, conn, &[hello.freeze()]);
    let frame = |op: OpCode, body: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        RequestHeader { xid: Xid(1), op }.encode(&mut out);
        body(&mut out);
        out.freeze()
    };
    let create = |path: String, data: Vec<u8>| {
        let create = CreateRequest {
            path: path.into(),
            data: Some(data.into()),
            acl: Some(vec![Acl::open_unsafe()]),
            flags: 0,
        };
        frame(OpCode::CREATE, &|out| create.encode(out))
    };
    let before = resident();
    let took = time(&mut engine, conn, nodes, |at| {
        create(format!("/n{at:07}"), vec![b'x'; 100])
    });
    let grown = resident().saturating_sub(before);
    println!(
        "create 100 B: {:.0} ns each, {:.0} B resident for each node",
        per(took, nodes),
        grown as f64 / nodes as f64
    );

    let took = time(&mut engine, conn, 1000, |at| {
        create(format!("/k{at:03}"), vec![b'x'; 1024])
    });
    println!("create 1 KiB: {:.0} ns each", per(took, 1000));
    let gets: Vec<Bytes> = (0..1000)
        .map(|at| {
            let get = PathWatchRequest {
                path: format!("/k{at:03}").into(),
                watch: false,
            };
            frame(OpCode::GET_DATA, &|out| get.encode(out))
        })
        .collect();
    let took = time(&mut engine, conn, 1_000_000, |at| gets[at % 1000].clone());
    println!("get 1 KiB: {:.0} ns each", per(took, 1_000_000));
    let sets: Vec<Bytes> = (0..1000)
        .map(|at| {
            let set = SetDataRequest {
                path: format!("/k{at:03}").into(),
                data: Some(vec![b'y'; 1024].into()),
                version: -1,
            };
            frame(OpCode::SET_DATA, &|out| set.encode(out))
        })
        .collect();
    let took = time(&mut engine, conn, 1_000_000, |at| sets[at % 1000].clone());
    println!("set 1 KiB: {:.0} ns each", per(took, 1_000_000));
}

/// Feeds requests in batches, committing each batch; only the engine's time counts.
fn time(
    engine: &mut Engine,
    conn: ConnId,
    count: usize,
    request: impl Fn(usize) -> Bytes,
) -> Duration {
    let mut took = Duration::ZERO;
    for start in (0..count).step_by(BATCH) {
        let frames: Vec<Bytes> = (start..count.min(start + BATCH)).map(&request).collect();
        let begin = Instant::now();
        run(engine, conn, &frames);
        took += begin.elapsed();
    }
    took
}

fn run(engine: &mut Engine, conn: ConnId, frames: &[Bytes]) {
    for frame in frames {
        engine.handle_frame(conn, frame, Time::default(), 0);
    }
    let mut appends = Vec::new();
    engine.take_appends(&mut appends);
    if let Some(last) = appends.last() {
        engine.committed(last.zxid, Time::default());
    }
    engine.take_dirty(&mut Vec::new());
    if let Some(out) = engine.output(conn) {
        out.clear();
    }
}

fn per(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}

/// Resident memory of this process in bytes, as the kernel counts it.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}
