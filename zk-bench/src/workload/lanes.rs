//! The requests of the pipelined workloads and the checks of their replies.
//!
//! Connections never share a node, and replies come in order; so each lane knows exactly which version, path and content
//! every reply must show. The null server has no versions: `exact` says whether to check them.

use std::rc::Rc;

use super::pipelined::Lane;
use crate::failure::{Outcome, demand};
use crate::wire::{self, Cursor};

/// Bytes of a node read or set.
pub(crate) const DATA_LEN: usize = 1024;
/// Bytes of a node created.
const SMALL_LEN: usize = 100;
/// Creates in one multi.
pub(crate) const MULTI_LEN: usize = 10;

/// What the prepared nodes and every set hold: the node's number, its version, filling.
pub(crate) fn content(node: u32, version: u32) -> Vec<u8> {
    let mut data = vec![b'z'; DATA_LEN];
    data[..4].copy_from_slice(&node.to_be_bytes());
    data[4..8].copy_from_slice(&version.to_be_bytes());
    data
}

/// Gets and sets of prepared nodes.
pub(super) struct DataLane {
    gets: Rc<Vec<Vec<u8>>>,
    /// Set requests of this lane's nodes; the version in the content is patched.
    sets: Vec<Vec<u8>>,
    content_at: usize,
    /// This lane's nodes are `first`, `first + step`, and so on.
    first: usize,
    step: usize,
    /// Versions as of the newest request sent, and as of the newest reply.
    sent: Vec<u32>,
    seen: Vec<u32>,
    /// How many requests of ten are sets.
    sets_of_ten: usize,
    put: usize,
    checked: usize,
    exact: bool,
}

impl DataLane {
    /// `paths` are the prepared nodes, with [`content`] of version 0; the lane uses those numbered `first` modulo `step`.
    pub(super) fn new(
        paths: &[String],
        gets: &Rc<Vec<Vec<u8>>>,
        first: usize,
        step: usize,
        sets_of_ten: usize,
        exact: bool,
    ) -> Self {
        let nodes: Vec<usize> = (first..paths.len()).step_by(step).collect();
        let sets = nodes.iter().map(|node| {
            wire::set_data(
                &paths[*node],
                &content(u32::try_from(*node).expect("few nodes"), 0),
            )
        });
        let sets: Vec<_> = sets.collect();
        // All paths have one length: length, xid, op, path, then the content's own length.
        let content_at = 4 + 8 + 4 + paths[first].len() + 4;
        Self {
            gets: Rc::clone(gets),
            sets,
            content_at,
            first,
            step,
            sent: vec![0; nodes.len()],
            seen: vec![0; nodes.len()],
            sets_of_ten,
            put: 0,
            checked: 0,
            exact,
        }
    }

    /// Which of the lane's nodes the request numbered `n` is for: scattered, so that gets meet sets.
    fn node(&self, n: usize) -> usize {
        let scattered = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(scattered).expect("32 bits are left") % self.sent.len()
    }

    fn is_set(&self, n: usize) -> bool {
        n % 10 < self.sets_of_ten
    }
}

impl Lane for DataLane {
    fn put(&mut self, xid: i32, out: &mut Vec<u8>) {
        let node = self.node(self.put);
        if self.is_set(self.put) {
            self.sent[node] += 1;
            let at = out.len();
            wire::put_request(out, &self.sets[node], xid);
            let version_at = at + self.content_at + 4;
            out[version_at..version_at + 4].copy_from_slice(&self.sent[node].to_be_bytes());
        } else {
            wire::put_request(out, &self.gets[self.first + node * self.step], xid);
        }
        self.put += 1;
    }

    fn check(&mut self, mut body: Cursor<'_>) -> Outcome<()> {
        let node = self.node(self.checked);
        let set = self.is_set(self.checked);
        self.checked += 1;
        if set {
            self.seen[node] += 1;
        } else {
            let data = body.buffer()?;
            demand!(
                data.len() == DATA_LEN,
                "a node of {DATA_LEN} bytes came with {}",
                data.len()
            );
            if self.exact {
                let number = u32::try_from(self.first + node * self.step).expect("few nodes");
                demand!(
                    data[..4] == number.to_be_bytes(),
                    "node {number} came with another's content"
                );
                demand!(
                    data[4..8] == self.seen[node].to_be_bytes(),
                    "node {number} came with stale content"
                );
            }
        }
        let stat = body.stat()?;
        body.end()?;
        demand!(
            stat.data_length == 1024 && stat.num_children == 0,
            "odd Stat {stat:?}"
        );
        if self.exact {
            let due = i32::try_from(self.seen[node]).unwrap_or(i32::MAX);
            demand!(
                stat.version == due,
                "version {} where {due} is due",
                stat.version
            );
        }
        Ok(())
    }
}

/// Creates of nodes numbered upwards below one parent, singly or ten in a multi.
pub(super) struct CreateLane {
    template: Vec<u8>,
    /// Where the ten digits of each path stand.
    digits_at: Vec<usize>,
    /// A whole path, for comparing.
    path: Vec<u8>,
    put: u64,
    checked: u64,
}

/// Stands for the digits in a template; found again by [`wire::places`].
const DIGITS: &str = "##########";

impl CreateLane {
    /// Nodes `parent/0000000000` and on, `per_request` in each request: 1 is a plain create.
    pub(super) fn new(parent: &str, per_request: usize) -> Self {
        let path = format!("{parent}/{DIGITS}");
        let template = if per_request == 1 {
            wire::create(&path, &[b'c'; SMALL_LEN], wire::PERSISTENT)
        } else {
            wire::multi_creates(&vec![path.clone(); per_request], &[b'c'; SMALL_LEN])
        };
        let digits_at = wire::places(&template, DIGITS.as_bytes());
        Self {
            template,
            digits_at,
            path: path.into_bytes(),
            put: 0,
            checked: 0,
        }
    }
}

impl Lane for CreateLane {
    fn put(&mut self, xid: i32, out: &mut Vec<u8>) {
        let at = out.len();
        wire::put_request(out, &self.template, xid);
        for digits in &self.digits_at {
            wire::put_digits(&mut out[at + digits..at + digits + 10], self.put);
            self.put += 1;
        }
    }

    fn check(&mut self, mut body: Cursor<'_>) -> Outcome<()> {
        let digits = self.path.len() - 10;
        let multi = self.digits_at.len() > 1;
        for _ in 0..self.digits_at.len() {
            if multi {
                let (op, done, err) = (body.int()?, body.byte()?, body.int()?);
                demand!(
                    op == wire::op::CREATE && done == 0 && err == 0,
                    "odd multi result {op}, {done}, {err}"
                );
            }
            wire::put_digits(&mut self.path[digits..], self.checked);
            self.checked += 1;
            let path = body.buffer()?;
            demand!(
                path == self.path,
                "created {} instead of {}",
                path.escape_ascii(),
                self.path.escape_ascii()
            );
        }
        if multi {
            let end = (body.int()?, body.byte()?, body.int()?);
            demand!(end == (-1, 1, -1), "odd end of a multi: {end:?}");
        }
        body.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create_reply(path: &str) -> Vec<u8> {
        let mut body = Vec::new();
        wire::put_buffer(&mut body, path.as_bytes());
        body
    }

    #[test]
    fn a_create_lane_refuses_another_path() {
        let mut lane = CreateLane::new("/p", 1);
        let mut out = Vec::new();
        lane.put(1, &mut out);
        assert_eq!(wire::places(&out, b"/p/0000000000").len(), 1);
        assert!(
            lane.check(Cursor::new(&create_reply("/p/0000000000")))
                .is_ok()
        );
        assert!(
            lane.check(Cursor::new(&create_reply("/p/0000000000")))
                .is_err(),
            "the next is number 1"
        );
    }

    fn stat(version: i32) -> [u8; wire::STAT_LEN] {
        let mut stat = [0; wire::STAT_LEN];
        stat[32..36].copy_from_slice(&version.to_be_bytes());
        stat[52..56].copy_from_slice(&1024_i32.to_be_bytes());
        stat
    }

    #[test]
    fn a_data_lane_refuses_a_version_that_is_not_the_next() {
        let paths = vec!["/n/0".to_owned()];
        let gets = Rc::new(vec![wire::get_data(&paths[0], false)]);
        let mut lane = DataLane::new(&paths, &gets, 0, 1, 10, true);
        let mut out = Vec::new();
        lane.put(1, &mut out);
        lane.put(2, &mut out);
        assert!(
            !wire::places(&out, &2_u32.to_be_bytes()).is_empty(),
            "the second set carries version 2"
        );
        assert!(lane.check(Cursor::new(&stat(1))).is_ok());
        assert!(lane.check(Cursor::new(&stat(3))).is_err());
    }

    #[test]
    fn a_data_lane_refuses_stale_content() {
        let paths = vec!["/n/0".to_owned()];
        let gets = Rc::new(vec![wire::get_data(&paths[0], false)]);
        let mut lane = DataLane::new(&paths, &gets, 0, 1, 0, true);
        lane.put(1, &mut Vec::new());
        let mut body = Vec::new();
        wire::put_buffer(&mut body, &content(0, 5));
        body.extend_from_slice(&stat(0));
        assert!(lane.check(Cursor::new(&body)).is_err());
    }
}
