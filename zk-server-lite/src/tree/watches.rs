//! Who wants to know of what: the data table, the child table, and what a change triggers in them.
//!
//! Semantics of ZooKeeper 3.9: standard, persistent and recursive registrations of one connection on one path stand side
//! by side. Knows no access lists; whoever delivers an event filters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zk_proto::session::WatcherType;

use super::path_hash::PathHashing;
use crate::pipeline::ConnId;

/// How a connection watches a path: a set of modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// Once.
    pub const STANDARD: Self = Self(1);
    /// Until removed.
    pub const PERSISTENT: Self = Self(2);
    /// Until removed, the path and all below it.
    pub const RECURSIVE: Self = Self(4);

    const fn has(self, mode: Self) -> bool {
        self.0 & mode.0 != 0
    }
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Watches of exists, getData and persistent modes.
    Data,
    /// Watches of getChildren and of the persistent mode.
    Child,
}

/// Path to the connections that watch it, sorted.
type Paths = HashMap<Box<str>, Vec<(ConnId, Modes)>, PathHashing>;

/// All watches of a server.
#[derive(Debug, Default)]
pub struct Watches {
    /// Looked up by path; iterated only for listings, which sort.
    data: Paths,
    child: Paths,
    /// What each connection watches, to forget it when it goes.
    of: BTreeMap<ConnId, BTreeSet<(Table, Box<str>)>>,
    /// Connections' recursive registrations: as long as there is none, no ancestor is looked at.
    recursive: usize,
}

impl Watches {
    /// Registers. Idempotent.
    pub fn add(&mut self, conn: ConnId, table: Table, path: &str, mode: Modes) {
        let paths = match table {
            Table::Data => &mut self.data,
            Table::Child => &mut self.child,
        };
        if !paths.contains_key(path) {
            paths.insert(path.into(), Vec::new());
        }
        let Some(watchers) = paths.get_mut(path) else {
            return;
        };
        match watchers.binary_search_by_key(&conn, |(conn, _)| *conn) {
            Ok(at) => {
                if mode == Modes::RECURSIVE && !watchers[at].1.has(mode) {
                    self.recursive += 1;
                }
                watchers[at].1.0 |= mode.0;
            }
            Err(at) => {
                if mode == Modes::RECURSIVE {
                    self.recursive += 1;
                }
                watchers.insert(at, (conn, mode));
                self.of
                    .entry(conn)
                    .or_default()
                    .insert((table, path.into()));
            }
        }
    }

    /// Registers a persistent watch, in both tables, or a recursive one, in the data table.
    pub fn add_persistent(&mut self, conn: ConnId, path: &str, recursive: bool) {
        if recursive {
            self.add(conn, Table::Data, path, Modes::RECURSIVE);
        } else {
            self.add(conn, Table::Data, path, Modes::PERSISTENT);
            self.add(conn, Table::Child, path, Modes::PERSISTENT);
        }
    }

    /// Whether nobody watches anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Connections to tell of an event at `path`, each once, consuming one-shot watches: those of the path itself, then,
    /// in the data table, recursive ones of its ancestors upward.
    pub fn trigger(&mut self, table: Table, path: &str, into: &mut Vec<ConnId>) {
        self.take(table, path, into);
        if table == Table::Data && self.recursive > 0 {
            // Each path's watchers are sorted, so those told already are found by a search in each piece.
            let mut pieces = vec![0, into.len()];
            let mut at = path;
            while at != "/"
                && let Some((above, _)) = at.rsplit_once('/')
            {
                let key = if above.is_empty() { "/" } else { above };
                if let Some(watchers) = self.data.get(key) {
                    let recursive = watchers
                        .iter()
                        .filter(|(_, modes)| modes.has(Modes::RECURSIVE));
                    for (conn, _) in recursive {
                        let told = pieces
                            .windows(2)
                            .any(|piece| into[piece[0]..piece[1]].binary_search(conn).is_ok());
                        if !told {
                            into.push(*conn);
                        }
                    }
                    pieces.push(into.len());
                }
                at = key;
            }
        }
    }

    fn take(&mut self, table: Table, path: &str, into: &mut Vec<ConnId>) {
        let paths = match table {
            Table::Data => &mut self.data,
            Table::Child => &mut self.child,
        };
        let Some(watchers) = paths.get_mut(path) else {
            return;
        };
        let of = &mut self.of;
        watchers.retain_mut(|(conn, modes)| {
            into.push(*conn);
            modes.0 &= !Modes::STANDARD.0;
            if modes.0 == 0 {
                forget(of, *conn, table, path);
            }
            modes.0 != 0
        });
        if watchers.is_empty() {
            paths.remove(path);
        }
    }

    /// Forgets a connection.
    pub fn remove_conn(&mut self, conn: ConnId) {
        for (table, path) in self.of.remove(&conn).unwrap_or_default() {
            let paths = match table {
                Table::Data => &mut self.data,
                Table::Child => &mut self.child,
            };
            let Some(watchers) = paths.get_mut(&path) else {
                continue;
            };
            if let Ok(at) = watchers.binary_search_by_key(&conn, |(conn, _)| *conn) {
                let (_, modes) = watchers.remove(at);
                self.recursive -= usize::from(modes.has(Modes::RECURSIVE));
            }
            if watchers.is_empty() {
                paths.remove(&path);
            }
        }
    }

    /// Whether the connection has a watch of this type at exactly this path.
    #[must_use]
    pub fn contains(&self, conn: ConnId, path: &str, kind: WatcherType) -> bool {
        let has = |paths: &Paths, modes: u8| {
            paths.get(path).is_some_and(|watchers| {
                watchers
                    .binary_search_by_key(&conn, |(conn, _)| *conn)
                    .is_ok_and(|at| watchers[at].1.0 & modes != 0)
            })
        };
        removal(kind).iter().any(|(table, modes)| match table {
            Table::Data => has(&self.data, *modes),
            Table::Child => has(&self.child, *modes),
        })
    }

    /// Removes the connection's watches of this type at exactly this path; false if there was none.
    pub fn remove(&mut self, conn: ConnId, path: &str, kind: WatcherType) -> bool {
        let mut found = false;
        for (table, modes) in removal(kind) {
            let paths = match table {
                Table::Data => &mut self.data,
                Table::Child => &mut self.child,
            };
            let Some(watchers) = paths.get_mut(path) else {
                continue;
            };
            let Ok(at) = watchers.binary_search_by_key(&conn, |(conn, _)| *conn) else {
                continue;
            };
            let before = watchers[at].1.0;
            watchers[at].1.0 &= !modes;
            let gone = before & modes;
            found |= gone != 0;
            self.recursive -= usize::from(Modes(gone).has(Modes::RECURSIVE));
            if watchers[at].1.0 == 0 {
                watchers.remove(at);
                if watchers.is_empty() {
                    paths.remove(path);
                }
                forget(&mut self.of, conn, *table, path);
            }
        }
        found
    }

    /// Connections that watch something, paths watched, and registrations, in the data table, as `wchs` counts them.
    #[must_use]
    pub fn summary(&self) -> (usize, usize, usize) {
        let conns = self
            .of
            .values()
            .filter(|of| of.iter().any(|(table, _)| *table == Table::Data))
            .count();
        (
            conns,
            self.data.len(),
            self.data.values().map(Vec::len).sum(),
        )
    }

    /// Paths of the data table with their connections, in order of path.
    #[must_use]
    pub fn by_path(&self) -> BTreeMap<&str, Vec<ConnId>> {
        let conns =
            |watchers: &Vec<(ConnId, Modes)>| watchers.iter().map(|(conn, _)| *conn).collect();
        self.data
            .iter()
            .map(|(path, watchers)| (&**path, conns(watchers)))
            .collect()
    }

    /// How many registrations there are in both tables.
    #[must_use]
    pub fn count(&self) -> usize {
        self.data
            .values()
            .chain(self.child.values())
            .map(Vec::len)
            .sum()
    }
}

fn forget(
    of: &mut BTreeMap<ConnId, BTreeSet<(Table, Box<str>)>>,
    conn: ConnId,
    table: Table,
    path: &str,
) {
    if let Some(watched) = of.get_mut(&conn) {
        watched.remove(&(table, Box::from(path)));
        if watched.is_empty() {
            of.remove(&conn);
        }
    }
}

/// What a watcher type stands for: tables, and modes in them.
fn removal(kind: WatcherType) -> &'static [(Table, u8)] {
    match kind {
        WatcherType::CHILDREN => &[(Table::Child, 1)],
        WatcherType::DATA => &[(Table::Data, 1)],
        WatcherType::PERSISTENT => &[(Table::Data, 2), (Table::Child, 2)],
        WatcherType::PERSISTENT_RECURSIVE => &[(Table::Data, 4)],
        WatcherType::ANY => &[(Table::Data, 7), (Table::Child, 7)],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(watches: &mut Watches, table: Table, path: &str) -> Vec<u64> {
        let mut into = Vec::new();
        watches.trigger(table, path, &mut into);
        into.iter().map(|conn| conn.0).collect()
    }

    #[test]
    fn one_shot_watches_fire_once_and_persistent_ones_stay() {
        let mut watches = Watches::default();
        watches.add(ConnId(1), Table::Data, "/a", Modes::STANDARD);
        watches.add(ConnId(1), Table::Data, "/a", Modes::STANDARD);
        watches.add_persistent(ConnId(2), "/a", false);
        watches.add(ConnId(2), Table::Data, "/a", Modes::STANDARD);
        assert_eq!(fired(&mut watches, Table::Data, "/a"), [1, 2]);
        assert_eq!(fired(&mut watches, Table::Data, "/a"), [2]);
        assert_eq!(fired(&mut watches, Table::Child, "/a"), [2]);
        watches.remove_conn(ConnId(2));
        assert!(watches.is_empty() && watches.count() == 0);
    }

    #[test]
    fn recursive_watches_see_all_below_from_the_root_up() {
        let mut watches = Watches::default();
        watches.add_persistent(ConnId(1), "/", true);
        watches.add_persistent(ConnId(2), "/a", true);
        watches.add_persistent(ConnId(3), "/a/b", true);
        assert_eq!(fired(&mut watches, Table::Data, "/a/b"), [3, 2, 1]);
        assert_eq!(fired(&mut watches, Table::Data, "/ab"), [1]);
        assert_eq!(fired(&mut watches, Table::Data, "/"), [1]);
        assert_eq!(fired(&mut watches, Table::Child, "/a"), []);
    }

    #[test]
    fn removal_is_by_mode() {
        let mut watches = Watches::default();
        watches.add_persistent(ConnId(1), "/a", false);
        assert!(!watches.remove(ConnId(1), "/a", WatcherType::DATA));
        assert!(watches.contains(ConnId(1), "/a", WatcherType::PERSISTENT));
        assert!(watches.contains(ConnId(1), "/a", WatcherType::ANY));
        assert!(watches.remove(ConnId(1), "/a", WatcherType::PERSISTENT));
        assert!(!watches.remove(ConnId(1), "/a", WatcherType::ANY));
        watches.add_persistent(ConnId(1), "/a", true);
        assert!(watches.remove(ConnId(1), "/a", WatcherType::ANY));
        assert_eq!(watches.recursive, 0);
        assert!(watches.is_empty());
    }
}
