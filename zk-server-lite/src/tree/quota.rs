//! Quotas: which paths have one, and the text in which limits and usage are kept.
//!
//! For a path `/a` the limits are the data of `/zookeeper/quota/a/zookeeper_limits`, the usage that of `…/zookeeper_stats`;
//! both are ordinary nodes that the administration tool makes. Only the deepest path with a quota applies.

use std::collections::BTreeSet;

/// Above all quota nodes.
pub const QUOTA_ROOT: &str = "/zookeeper/quota";
/// The last component of a node that holds limits.
pub const LIMITS: &str = "zookeeper_limits";
/// The last component of a node that holds usage.
pub const STATS: &str = "zookeeper_stats";

/// The paths that have a quota.
#[derive(Debug, Default)]
pub struct Quotas {
    armed: BTreeSet<Box<str>>,
}

impl Quotas {
    /// The deepest path at or above `path` that has a quota.
    #[must_use]
    pub fn covering<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.armed.is_empty() {
            return None;
        }
        let mut at = path;
        while !at.is_empty() {
            if self.armed.contains(at) {
                return Some(at);
            }
            at = at.rsplit_once('/')?.0;
        }
        None
    }

    /// All paths with a quota, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.armed.iter().map(|path| &**path)
    }

    pub(super) fn arm(&mut self, path: &str) {
        self.armed.insert(path.into());
    }

    pub(super) fn disarm(&mut self, path: &str) {
        self.armed.remove(path);
    }
}

/// The path a quota node speaks of and which of the two nodes it is, if `path` is one.
#[must_use]
pub fn quota_node(path: &str) -> Option<(&str, &str)> {
    let (subject, name) = path.strip_prefix(QUOTA_ROOT)?.rsplit_once('/')?;
    (!subject.is_empty() && matches!(name, LIMITS | STATS)).then_some((subject, name))
}

/// Numbers of a limits or stats node; −1 stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// Nodes.
    pub count: i64,
    /// Bytes of data.
    pub bytes: i64,
    /// Nodes, enforced.
    pub count_hard: i64,
    /// Bytes of data, enforced.
    pub bytes_hard: i64,
}

impl Track {
    /// Reads the text; what is missing or no number is −1. Separators are runs of `,` and `;`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut track = Self {
            count: -1,
            bytes: -1,
            count_hard: -1,
            bytes_hard: -1,
        };
        for pair in String::from_utf8_lossy(text).split([',', ';']) {
            let mut parts = pair.split('=');
            let (key, value) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let value = value.trim().parse().unwrap_or(-1);
            match key.trim() {
                "count" => track.count = value,
                "bytes" => track.bytes = value,
                "countHardLimit" => track.count_hard = value,
                "byteHardLimit" => track.bytes_hard = value,
                _ => {}
            }
        }
        track
    }

    /// Usage as text.
    #[must_use]
    pub fn usage(count: i64, bytes: i64) -> String {
        format!("count={count},bytes={bytes}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_in_both_forms() {
        let track = Track::parse(b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=2");
        assert_eq!(
            track,
            Track {
                count: -1,
                bytes: -1,
                count_hard: 2,
                bytes_hard: 10
            }
        );
        assert_eq!(
            Track::parse(b"count=3,,bytes="),
            Track {
                count: 3,
                bytes: -1,
                count_hard: -1,
                bytes_hard: -1
            }
        );
    }

    #[test]
    fn the_deepest_quota_covers() {
        let mut quotas = Quotas::default();
        assert_eq!(quotas.covering("/a/b"), None);
        quotas.arm("/a");
        quotas.arm("/a/b");
        assert_eq!(quotas.covering("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.covering("/a/bc"), Some("/a"));
        assert_eq!(quotas.covering("/ab"), None);
        assert_eq!(
            quota_node("/zookeeper/quota/a/zookeeper_limits"),
            Some(("/a", LIMITS))
        );
        assert_eq!(quota_node("/zookeeper/quota/zookeeper_limits"), None);
    }
}
