//! `srvr`, `stat`, `cons`, `hash`: the server's and its connections' statistics.

use std::fmt::Write;

use zk_proto::OpCode;

use super::VERSION;
use crate::node::core::{Core, Shared, wall_ms};
use crate::node::halt::Halted;
use crate::pipeline::ConnectionInfo;

pub(super) fn srvr(shared: &Shared) -> Result<String, Halted> {
    let core = shared.core()?;
    let mut text = format!("Zookeeper version: {VERSION}\n");
    totals(&core, &mut text);
    Ok(text)
}

pub(super) fn stat(shared: &Shared) -> Result<String, Halted> {
    let core = shared.core()?;
    let mut text = format!("Zookeeper version: {VERSION}\nClients:\n");
    for info in core.engine.connections() {
        head(&core, &info, &mut text);
        text.push_str(")\n");
    }
    text.push('\n');
    totals(&core, &mut text);
    Ok(text)
}

fn totals(core: &Core, text: &mut String) {
    let counters = core.engine.counters();
    let latency = &counters.latency;
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\n\
         Mode: standalone\nNode count: {}\n",
        latency.shortest(),
        mean(latency.mean()),
        latency.max,
        counters.received,
        counters.sent,
        core.connection_count(),
        core.engine.outstanding(),
        core.engine.tree().last_zxid().0,
        core.engine.tree().node_count(),
    );
}

/// As Java prints a double of at most four decimals: `0.0`, `1.25`.
pub(super) fn mean(value: f64) -> String {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    format!("{rounded:?}")
}

/// The part of a connection's line that `stat` and `cons` share, without the closing parenthesis.
fn head(core: &Core, info: &ConnectionInfo, text: &mut String) {
    let link = core.link(info.conn);
    let peer = link.map_or_else(String::new, |link| link.peer().to_string());
    // Interest bits of a selection key: 1 = read, 4 = write.
    let ops = link.map_or(0, |link| {
        u8::from(link.may_read()) + if link.is_blocked() { 4 } else { 0 }
    });
    let _ = write!(
        text,
        " /{peer}[{ops:x}](queued={},recved={},sent={}",
        info.queued, info.received, info.sent
    );
}

pub(super) fn cons(shared: &Shared) -> Result<String, Halted> {
    let core = shared.core()?;
    let (now, wall) = (shared.clock.now(), wall_ms());
    let wall_of =
        |time: crate::time::Time| wall - i64::try_from(now.since(time).as_millis()).unwrap_or(0);
    let mut text = String::new();
    for info in core.engine.connections() {
        head(&core, &info, &mut text);
        if let Some(session) = info.session {
            let _ = write!(
                text,
                ",sid=0x{:x},lop={},est={},to={}",
                session.0,
                op_name(info.last_op),
                wall_of(info.since),
                info.timeout_ms
            );
            if info.last_cxid.0 >= 0 {
                let _ = write!(text, ",lcxid=0x{:x}", info.last_cxid.0);
            }
            let _ = write!(
                text,
                ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
                info.last_zxid.0,
                wall_of(info.last_response),
                info.last_latency,
                info.latency.shortest(),
                info.latency.mean() as u64,
                info.latency.max,
            );
        }
        text.push_str(")\n");
    }
    text.push('\n');
    Ok(text)
}

/// ZooKeeper keeps a history of digests; this server knows that of now.
pub(super) fn hash(shared: &Shared) -> Result<String, Halted> {
    let core = shared.core()?;
    let tree = core.engine.tree();
    Ok(format!(
        "ZooKeeper zxid: 0x{:x}, digest: {}, digestVersion: 2\n",
        tree.last_zxid().0,
        tree.digest()
    ))
}

/// The names of `cons`.
fn op_name(op: OpCode) -> &'static str {
    match op {
        OpCode::CREATE_SESSION => "SESS",
        OpCode::PING => "PING",
        OpCode::CREATE | OpCode::CREATE2 | OpCode::CREATE_CONTAINER | OpCode::CREATE_TTL => "CREA",
        OpCode::DELETE | OpCode::DELETE_CONTAINER => "DELE",
        OpCode::EXISTS => "EXIS",
        OpCode::GET_DATA => "GETD",
        OpCode::SET_DATA => "SETD",
        OpCode::GET_ACL => "GETA",
        OpCode::SET_ACL => "SETA",
        OpCode::GET_CHILDREN | OpCode::GET_CHILDREN2 => "GETC",
        OpCode::GET_ALL_CHILDREN_NUMBER => "GETACN",
        OpCode::GET_EPHEMERALS => "GETE",
        OpCode::SYNC => "SYNC",
        OpCode::MULTI => "MULT",
        OpCode::MULTI_READ => "MLTR",
        OpCode::CHECK => "CHEC",
        OpCode::SET_WATCHES => "SETW",
        OpCode::SET_WATCHES2 => "STW2",
        OpCode::ADD_WATCH => "ADDW",
        OpCode::CHECK_WATCHES => "CHKW",
        OpCode::REMOVE_WATCHES => "REMW",
        OpCode::RECONFIG => "RECO",
        OpCode::CLOSE_SESSION => "CLOS",
        OpCode::WHO_AM_I => "HOMI",
        _ => "NA",
    }
}
