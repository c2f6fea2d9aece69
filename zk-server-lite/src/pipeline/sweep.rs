//! The sweep: containers whose last child went, and nodes whose time to live is over, are deleted at a measured pace.
//!
//! Each deletion is a transaction that is checked again when it is prepared, so a child created meanwhile is safe.

use std::collections::VecDeque;
use std::time::Duration;

use zk_proto::EphemeralOwner;

use super::{Engine, EngineConfig};
use crate::time::Time;

/// Where the sweep stands.
#[derive(Debug)]
pub(super) struct Sweep {
    interval: Duration,
    pace: Duration,
    /// When to look for candidates again.
    next_look: Time,
    candidates: VecDeque<Box<str>>,
    /// When to delete the next candidate.
    next_delete: Time,
}

impl Sweep {
    pub(super) fn new(config: &EngineConfig, now: Time) -> Self {
        let interval = config
            .container_check_interval
            .max(Duration::from_millis(1));
        let per_minute = config.container_max_per_minute.max(1);
        Self {
            interval,
            pace: Duration::from_secs(60) / per_minute,
            next_look: now + interval,
            candidates: VecDeque::new(),
            next_delete: now,
        }
    }

    pub(super) fn next(&self) -> Time {
        if self.candidates.is_empty() {
            self.next_look
        } else {
            self.next_delete.min(self.next_look)
        }
    }
}

impl Engine {
    pub(super) fn run_sweep(&mut self, now: Time, wall_ms: i64) {
        if now >= self.sweep.next_look {
            self.sweep.next_look = now + self.sweep.interval;
            if self.sweep.candidates.is_empty() {
                let due = self
                    .tree
                    .sweepable()
                    .filter(|path| self.is_due(path, wall_ms));
                self.sweep.candidates = due.map(Into::into).collect();
                self.sweep.next_delete = now;
            }
        }
        while now >= self.sweep.next_delete
            && let Some(path) = self.sweep.candidates.pop_front()
        {
            self.sweep.next_delete = self.sweep.next_delete + self.sweep.pace;
            if self.is_due(&path, wall_ms) {
                self.counters.swept += 1;
                self.prepare_delete_container(&path, now, wall_ms);
            }
        }
    }

    /// Whether a node has nothing to keep it (client-protocol, 13).
    fn is_due(&self, path: &str, wall_ms: i64) -> bool {
        let Some(id) = self.tree.find(path) else {
            return false;
        };
        let node = self.tree.node(id);
        let owner = self.tree.owner(id);
        if node.child_count() > 0 || !is_sweepable(owner) {
            return false;
        }
        let unchanged_ms = wall_ms.saturating_sub(node.stat.mtime);
        match owner {
            EphemeralOwner::Ttl(ttl) => unchanged_ms > ttl,
            // One that never had a child stays, unless told otherwise.
            _ if node.stat.cversion > 0 => true,
            _ => {
                let max = i64::try_from(self.config.container_max_never_used.as_millis())
                    .unwrap_or(i64::MAX);
                max > 0 && unchanged_ms > max
            }
        }
    }
}

/// What a stored owner makes of a node, for the sweep.
fn is_sweepable(owner: EphemeralOwner) -> bool {
    matches!(owner, EphemeralOwner::Container | EphemeralOwner::Ttl(_))
}
