//! Where operations happen and what they carry: paths, data, versions, ACLs. A small world, so that operations meet.

use bytes::Bytes;
use zk_proto::{Acl, Id, Perms};

use super::Maker;
use crate::differential::Peer;

/// Kinds of watches that a path is used for; against 3.8.0 each path has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    OneShot,
    Persistent,
    Recursive,
}

/// Paths that no server takes for a write.
const INVALID: [&str; 14] = [
    "",
    "zzz",
    "//x",
    "/o/",
    "/o/.",
    "/o/..",
    "/o//a",
    "/./x",
    "/o/\0",
    "/o/\u{1}",
    "/o/\u{7f}",
    "/o/\u{e000}",
    "/o/\u{fffb}",
    "/o/\u{1f600}",
];

const RESERVED: [&str; 5] = [
    "/",
    "/zookeeper",
    "/zookeeper/quota",
    "/zookeeper/config",
    "/zookeeper/quota/q",
];

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Maker {
    /// A path anywhere, often one that was used before.
    pub(super) fn path(&mut self) -> String {
        if self.chance(45) && !self.recent.is_empty() {
            let path = self.recent[self.rng.usize(..self.recent.len())].clone();
            if !(self.pipelined && path.starts_with("/q")) {
                return path;
            }
        }
        let path = self.new_path();
        if self.recent.len() < 12 {
            self.recent.push(path.clone());
        } else {
            let at = self.rng.usize(..self.recent.len());
            self.recent[at].clone_from(&path);
        }
        path
    }

    pub(super) fn new_path(&mut self) -> String {
        match self.rng.u32(..100) {
            0..=2 => self.pick(&INVALID).to_owned(),
            3..=6 => self.pick(&RESERVED).to_owned(),
            7..=9 => format!("/{}", self.pick(&NAMES)),
            10..=21 if !self.pipelined && !self.restarts => self.below("/q"),
            22..=36 => self.below("/l"),
            _ => self.below("/o"),
        }
    }

    pub(super) fn below(&mut self, top: &str) -> String {
        let mut path = top.to_owned();
        for _ in 0..self.pick(&[0, 1, 1, 1, 2, 2, 3]) {
            path.push('/');
            if self.chance(20) {
                let prefix = self.pick(&["", "s", "s"]);
                path.push_str(&format!("{prefix}{:010}", self.rng.u32(..8)));
            } else {
                path.push_str(self.pick(&NAMES));
            }
        }
        path
    }

    /// A path whose node every connection may read.
    pub(super) fn open_path(&mut self) -> String {
        loop {
            let path = self.path();
            // exists-unreadable
            if !(self.rules.peer == Peer::V38 && is_locked(&path)) {
                return path;
            }
        }
    }

    /// A path that is used for this kind of watch.
    pub(super) fn styled_path(&mut self, style: Style) -> String {
        loop {
            let path = self.echoed_path();
            if self.is_styled(&path, style) {
                return path;
            }
        }
    }

    /// A path that comes back in an answer or event as it was sent.
    pub(super) fn echoed_path(&mut self) -> String {
        loop {
            let path = self.path();
            // surrogates
            if path.chars().all(|char| char.len_utf8() < 4) {
                return path;
            }
        }
    }

    /// Whether a path may have this kind of watch.
    pub(super) fn is_styled(&self, path: &str, style: Style) -> bool {
        // watch-modes
        self.rules.peer == Peer::V39 || style_of(path) == style
    }

    pub(super) fn version(&mut self) -> i32 {
        self.pick(&[-1, -1, -1, -1, 0, 0, 1, 2, -2, 7])
    }

    pub(super) fn data(&mut self) -> Option<Bytes> {
        match self.rng.u32(..10) {
            0 => None,
            1 => Some(Bytes::new()),
            2 => Some(vec![b'x'; self.rng.usize(100..3000)].into()),
            _ => {
                let length = self.rng.usize(1..12);
                Some(
                    std::iter::repeat_with(|| self.rng.u8(..))
                        .take(length)
                        .collect::<Vec<_>>()
                        .into(),
                )
            }
        }
    }

    /// An ACL for a node at `path`. Against 3.8.0 it lets everyone read, except below `/l`.
    pub(super) fn acl(&mut self, path: &str) -> Option<Vec<Acl>> {
        if self.chance(55) {
            return Some(vec![Acl::open_unsafe()]);
        }
        match self.rng.u32(..20) {
            0 => return None,
            1 => return Some(Vec::new()),
            _ => {}
        }
        let count = self.rng.usize(1..4);
        let mut list: Vec<Acl> = (0..count).map(|_| self.acl_entry()).collect();
        if self.rules.peer == Peer::V38 && !is_locked(path) {
            let at = self.rng.usize(..=list.len());
            list.insert(at, Acl::read_unsafe());
        }
        if self.chance(10) {
            list.push(list[0].clone());
        }
        Some(list)
    }

    pub(super) fn acl_entry(&mut self) -> Acl {
        let perms = Perms(self.pick(&[1, 2, 4, 6, 8, 12, 16, 18, 27, 30, 31, 31, 31, 0, 255]));
        let valid = [
            ("world", "anyone"),
            ("world", "anyone"),
            ("auth", ""),
            ("auth", "x"),
            ("digest", DIGEST_U1),
            ("digest", DIGEST_U2),
            ("ip", "127.0.0.1"),
            ("ip", "127.0.0.1/8"),
            ("ip", "127.0.0.0/24"),
            ("ip", "10.1.2.3"),
        ];
        let invalid = [
            ("world", "someone"),
            ("digest", "abc"),
            ("digest", "a:b:c"),
            ("ip", "300.0.0.1"),
            ("ip", "127.0.0.1/33"),
            ("ip", "::1"),
            ("nonsense", "x"),
            ("super", ""),
            ("", ""),
        ];
        let (scheme, id) = if self.chance(6) {
            self.pick(&invalid)
        } else {
            self.pick(&valid)
        };
        Acl {
            perms,
            id: Id::new(scheme, id),
        }
    }
}

/// Whether READ may be denied at the path.
fn is_locked(path: &str) -> bool {
    path == "/l" || path.starts_with("/l/")
}
/// Which kind of watch a path is used for against 3.8.0.
fn style_of(path: &str) -> Style {
    match path.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % 4
    {
        0 => Style::Persistent,
        1 => Style::Recursive,
        _ => Style::OneShot,
    }
}

/// The digest ids of the users `u1:p1` and `u2:p2`.
const DIGEST_U1: &str = "u1:fpT/y03U+EjItKZOSLGvjnJlyng=";
const DIGEST_U2: &str = "u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE=";
