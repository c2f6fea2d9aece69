//! `wchs`, `wchc`, `wchp`, `dump`: watches, sessions, ephemerals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use zk_proto::SessionId;

use crate::node::core::{Shared, wall_ms};
use crate::node::halt::Halted;

pub(super) fn wchs(shared: &Shared) -> Result<String, Halted> {
    let (connections, paths, total) = shared.core()?.engine.watch_summary();
    Ok(format!(
        "{connections} connections watching {paths} paths\nTotal watches:{total}\n"
    ))
}

pub(super) fn wchp(shared: &Shared) -> Result<String, Halted> {
    let mut text = String::new();
    for (path, sessions) in shared.core()?.engine.watches_by_path() {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t0x{:x}", session.0);
        }
    }
    text.push('\n');
    Ok(text)
}

pub(super) fn wchc(shared: &Shared) -> Result<String, Halted> {
    let mut by_session: BTreeMap<SessionId, BTreeSet<String>> = BTreeMap::new();
    for (path, sessions) in shared.core()?.engine.watches_by_path() {
        for session in sessions {
            by_session.entry(session).or_default().insert(path.clone());
        }
    }
    let mut text = String::new();
    for (session, paths) in by_session {
        let _ = writeln!(text, "0x{:x}", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text.push('\n');
    Ok(text)
}

pub(super) fn dump(shared: &Shared) -> Result<String, Halted> {
    let core = shared.core()?;
    let (now, wall) = (shared.clock.now(), wall_ms());
    let date = |deadline: crate::time::Time| {
        let left = deadline.since(now).as_millis() as i64 - now.since(deadline).as_millis() as i64;
        super::conf::java_date(wall + left)
    };
    let buckets = core.engine.sessions_by_deadline();
    let count: usize = buckets.values().map(Vec::len).sum();
    let mut text = format!(
        "SessionTracker dump:\nSession Sets ({})/({count}):\n",
        buckets.len()
    );
    for (deadline, sessions) in &buckets {
        let _ = writeln!(text, "{} expire at {}:", sessions.len(), date(*deadline));
        for session in sessions {
            let _ = writeln!(text, "\t0x{:x}", session.0);
        }
    }
    let ephemerals: Vec<_> = core
        .engine
        .tree()
        .all_ephemerals()
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    let _ = write!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n",
        ephemerals.len()
    );
    for (session, paths) in ephemerals {
        let _ = writeln!(text, "0x{:x}:", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    // Here a connection lives as long as its session does.
    let mut connections: BTreeMap<crate::time::Time, Vec<String>> = BTreeMap::new();
    for (deadline, sessions) in &buckets {
        for session in sessions {
            let Some(link) = core
                .engine
                .connection_of(*session)
                .and_then(|conn| core.link(conn))
            else {
                continue;
            };
            let line = format!("\tip: /{} sessionId: 0x{:x}", link.peer(), session.0);
            connections.entry(*deadline).or_default().push(line);
        }
    }
    let count: usize = connections.values().map(Vec::len).sum();
    let _ = write!(
        text,
        "Connections dump:\nConnections Sets ({})/({count}):\n",
        connections.len()
    );
    for (deadline, lines) in connections {
        let _ = writeln!(text, "{} expire at {}:", lines.len(), date(deadline));
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    Ok(text)
}
