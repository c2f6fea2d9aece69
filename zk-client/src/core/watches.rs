//! The registry of watches: who is told what, what the server must be asked to remember again after a reconnect, and what
//! it can forget.
//!
//! The server keeps one entry for each path, table and connection however many watchers there are here; so watchers are
//! counted by path, and the server's entry is removed with the last of them, unless a request on the wire may just be
//! setting it anew. One-shot watchers leave with their first event. Paths are the server's. It must not know requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use zk_proto::Zxid;
use zk_proto::jute::Ustring;
use zk_proto::session::{EventType, KeeperState, SetWatches2, WatcherType};

use super::event::{SessionEvent, WatchKind, Watcher, WatcherId};

/// Paths of one setWatches request may sum up to this; the last one may overshoot (section 15.4).
pub(crate) const BATCH_BYTES: usize = 128 * 1024;

/// What the server calls the kinds, for removal.
const TABLES: [WatcherType; 4] = [
    WatcherType::DATA,
    WatcherType::CHILDREN,
    WatcherType::PERSISTENT,
    WatcherType::PERSISTENT_RECURSIVE,
];

fn table(kind: WatchKind) -> usize {
    match kind {
        WatchKind::Data | WatchKind::Exists => 0,
        WatchKind::Child => 1,
        WatchKind::Persistent => 2,
        WatchKind::Recursive => 3,
    }
}

#[derive(Debug, Default)]
struct Node {
    watchers: Vec<(WatcherId, WatchKind)>,
    /// Requests on the wire that may set a watch here.
    on_the_wire: usize,
    /// By table: the server may hold a watch that nobody here wants.
    stale: [bool; 4],
}

impl Node {
    fn wants(&self, table_wanted: usize) -> bool {
        self.watchers
            .iter()
            .any(|(_, kind)| table(*kind) == table_wanted)
    }

    fn is_idle(&self) -> bool {
        self.watchers.is_empty() && self.on_the_wire == 0 && self.stale == [false; 4]
    }
}

/// One event for one watcher.
pub(crate) type Delivery = (WatcherId, SessionEvent, bool);

#[derive(Debug, Default)]
pub(crate) struct Watches {
    nodes: BTreeMap<Arc<str>, Node>,
    next_id: u64,
    /// How many recursive watchers there are: without any, ancestors need no look.
    recursive: usize,
}

impl Watches {
    /// A request that may set a watch at `path` is on the wire.
    pub(crate) fn sent(&mut self, path: &str) {
        match self.nodes.get_mut(path) {
            Some(node) => node.on_the_wire += 1,
            None => {
                let node = Node {
                    on_the_wire: 1,
                    ..Node::default()
                };
                self.nodes.insert(path.into(), node);
            }
        }
    }

    /// Such a request was answered; `kind` is what the server has now registered, if anything.
    pub(crate) fn answered(&mut self, path: &str, kind: Option<WatchKind>) -> Option<Watcher> {
        let (shared, _) = self.nodes.get_key_value(path)?;
        let shared = Arc::clone(shared);
        let node = self.nodes.get_mut(path)?;
        node.on_the_wire = node.on_the_wire.saturating_sub(1);
        let watcher = kind.map(|kind| {
            let id = WatcherId(self.next_id);
            self.next_id += 1;
            node.watchers.push((id, kind));
            node.stale[table(kind)] = false;
            self.recursive += usize::from(kind == WatchKind::Recursive);
            Watcher {
                id,
                kind,
                path: shared,
            }
        });
        if node.is_idle() {
            self.nodes.remove(path);
        }
        watcher
    }

    /// A watcher gives up. Its event may have been faster.
    pub(crate) fn drop_watcher(&mut self, watcher: &Watcher) {
        let Some(node) = self.nodes.get_mut(&watcher.path) else {
            return;
        };
        let Some(at) = node.watchers.iter().position(|(id, _)| *id == watcher.id) else {
            return;
        };
        let (_, kind) = node.watchers.swap_remove(at);
        self.recursive -= usize::from(kind == WatchKind::Recursive);
        if !node.wants(table(kind)) {
            node.stale[table(kind)] = true;
        }
    }

    /// What the server can forget at `path` now; each is said once. Nothing while a request on the wire may set it anew:
    /// the removal would come after it.
    pub(crate) fn removable(&mut self, path: &str) -> Vec<WatcherType> {
        let Some(node) = self.nodes.get_mut(path) else {
            return Vec::new();
        };
        if node.on_the_wire > 0 {
            return Vec::new();
        }
        let stale = std::mem::take(&mut node.stale);
        let left = !node.watchers.is_empty();
        if !left {
            self.nodes.remove(path);
        }
        let persistent = stale[2] || stale[3];
        if persistent && !left {
            // The types of persistent watches are known to servers since 3.9 only; this one to all.
            return vec![WatcherType::ANY];
        }
        (0..TABLES.len())
            .filter(|table| stale[*table])
            .map(|table| TABLES[table])
            .collect()
    }

    /// Who is told of an event that the server sent.
    pub(crate) fn fire(
        &mut self,
        kind: EventType,
        state: KeeperState,
        path: &str,
        zxid: Option<Zxid>,
    ) -> Vec<Delivery> {
        let mut told = Vec::new();
        let event = || SessionEvent {
            kind,
            state,
            path: path.to_owned(),
            zxid,
        };
        if let Some(node) = self.nodes.get_mut(path) {
            node.watchers.retain(|(id, watch)| {
                let hit = match watch {
                    WatchKind::Data | WatchKind::Exists => kind != EventType::NODE_CHILDREN_CHANGED,
                    WatchKind::Child => {
                        matches!(
                            kind,
                            EventType::NODE_CHILDREN_CHANGED | EventType::NODE_DELETED
                        )
                    }
                    WatchKind::Persistent => true,
                    WatchKind::Recursive => kind != EventType::NODE_CHILDREN_CHANGED,
                };
                let last = hit && watch.is_oneshot();
                if hit {
                    told.push((*id, event(), last));
                }
                !last
            });
            // The server has dropped what fired.
            if kind != EventType::NODE_CHILDREN_CHANGED {
                node.stale[0] = false;
            }
            if kind == EventType::NODE_CHILDREN_CHANGED || kind == EventType::NODE_DELETED {
                node.stale[1] = false;
            }
            if node.is_idle() {
                self.nodes.remove(path);
            }
        }
        if self.recursive > 0 && kind != EventType::NODE_CHILDREN_CHANGED {
            let mut at = path;
            while let Some(above) = parent(at) {
                if let Some(node) = self.nodes.get(above) {
                    let recursive = node
                        .watchers
                        .iter()
                        .filter(|(_, kind)| *kind == WatchKind::Recursive);
                    told.extend(recursive.map(|(id, _)| (*id, event(), false)));
                }
                at = above;
            }
        }
        told
    }

    /// The connection is gone, and with it everything the server remembered.
    pub(crate) fn connection_lost(&mut self) {
        self.nodes.retain(|_, node| {
            node.on_the_wire = 0;
            node.stale = [false; 4];
            !node.watchers.is_empty()
        });
    }

    /// What must be set again, in requests of bounded size; `true` stands for a batch with persistent watches, which
    /// servers before 3.6 do not know.
    pub(crate) fn batches(&self, seen: Zxid) -> Vec<(SetWatches2<'_>, bool)> {
        let mut batches = Vec::new();
        let mut lists: [Vec<Ustring<'_>>; 5] = Default::default();
        let mut bytes = 0;
        let mut flush = |lists: &mut [Vec<_>; 5], bytes: &mut usize| {
            *bytes = 0;
            if lists.iter().all(Vec::is_empty) {
                return;
            }
            let persistent = !lists[3].is_empty() || !lists[4].is_empty();
            let all = |list: &mut Vec<_>| Some(std::mem::take(list));
            let [data, exist, child, lasting, recursive] = lists;
            batches.push((
                SetWatches2 {
                    relative_zxid: seen,
                    data_watches: all(data),
                    exist_watches: all(exist),
                    child_watches: all(child),
                    persistent_watches: all(lasting),
                    persistent_recursive_watches: all(recursive),
                },
                persistent,
            ));
        };
        for (path, node) in &self.nodes {
            let kinds = [
                WatchKind::Data,
                WatchKind::Exists,
                WatchKind::Child,
                WatchKind::Persistent,
                WatchKind::Recursive,
            ];
            for (list, kind) in lists.iter_mut().zip(kinds) {
                if node.watchers.iter().any(|(_, watched)| *watched == kind) {
                    list.push(Ustring::from(&**path));
                    bytes += path.len();
                }
            }
            if bytes >= BATCH_BYTES {
                flush(&mut lists, &mut bytes);
            }
        }
        flush(&mut lists, &mut bytes);
        batches
    }

    /// The item that tells persistent watchers that changes may have gone by.
    pub(crate) fn gaps(&self) -> Vec<Delivery> {
        let mut told = Vec::new();
        for (path, node) in &self.nodes {
            for (id, _) in node.watchers.iter().filter(|(_, kind)| !kind.is_oneshot()) {
                told.push((*id, state_event(KeeperState::SYNC_CONNECTED, path), false));
            }
        }
        told
    }

    /// The session is over: everybody is told, once, and forgotten.
    pub(crate) fn end(&mut self, state: KeeperState) -> Vec<Delivery> {
        let mut told = Vec::new();
        self.recursive = 0;
        for (path, node) in std::mem::take(&mut self.nodes) {
            for (id, _) in node.watchers {
                told.push((id, state_event(state, &path), true));
            }
        }
        told
    }
}

fn state_event(state: KeeperState, path: &str) -> SessionEvent {
    SessionEvent {
        kind: EventType::NONE,
        state,
        path: path.to_owned(),
        zxid: None,
    }
}

fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() > 1 => Some("/"),
        0 => None,
        at => Some(&path[..at]),
    }
}
