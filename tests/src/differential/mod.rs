//! One history of operations on two servers, compared step by step.
//!
//! * [`step`]: the vocabulary. A [`Step`] is concrete: it names slots and paths, never what an earlier reply said, so any
//!   subset of a history is a history.
//! * [`generate`]: a history from a seed, with the [`Rules`] that keep it off the named differences.
//! * [`execute`]: one server plays a history and yields what its clients saw, in a form that can be compared.
//! * [`shrink`]: the smallest part of a history that still shows a difference.
//!
//! Both servers play the history alone and in order: a step is over when every connection has been asked whether
//! something more was on its way (a ping behind it). So one server's record does not depend on the other's pace.
//!
//! Nothing here knows how a server is started.

pub mod execute;
pub mod generate;
pub mod shrink;
pub mod step;

use execute::Record;
use step::Step;

/// Which version the judged server is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Apache ZooKeeper 3.8.0: [`DEVIATIONS_38`] are stepped around or made equal.
    V38,
    /// Apache ZooKeeper 3.9: nothing is.
    V39,
}

/// How a history is made and compared.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The version that judges.
    pub peer: Peer,
}

/// Where a server that behaves like 3.9 differs from 3.8.0, and how the comparison stays clear of it.
pub const DEVIATIONS_38: &[(&str, &str)] = &[
    (
        "create2-in-multi",
        "3.8.0 answers type 1 without a Stat; both are reduced to the path",
    ),
    (
        "exists-unreadable",
        "3.8.0 shows the Stat, 3.9 says NOAUTH; no exists where READ may be denied (below /l)",
    ),
    (
        "undecodable-write",
        "3.8.0 spends a zxid on a write whose body it cannot read; only reads are cut short",
    ),
    ("notification-zxid", "3.8.0 sends -1; not compared"),
    (
        "watch-modes",
        "3.8.0 keeps one mode a path and connection; each path is used for one kind of watch only",
    ),
    ("watcher-types-4-5", "3.8.0 does not know them; not sent"),
    (
        "check-finds-strangers",
        "3.8.0 finds the watch of any connection; checkWatches is not sent",
    ),
    (
        "remove-half-of-persistent",
        "3.8.0 removes one table of a persistent watch; types 1 and 2 are not sent for such paths",
    ),
    ("check-alone", "3.8.0 never answers; not sent"),
    (
        "addWatch-null-path",
        "3.8.0 says MARSHALLINGERROR, 3.9 and Debian's 3.8.0 store null; not sent",
    ),
    (
        "container-flags-in-multi",
        "3.8.0 makes a plain node of a createContainer with other flags than 4; it always has them there",
    ),
    (
        "null-path-in-multi",
        "3.8.0 answers with an end header and spends no zxid, 3.9 the reverse; not sent",
    ),
    (
        "null-acl-in-multi",
        "3.8.0 fails the operation, 3.9 the request; not sent",
    ),
    (
        "bad-flags-in-multi",
        "3.8.0 fails the operation, 3.9 the request; either will do; not sent",
    ),
];

/// What is not compared with any version.
pub const DIFFERENCES: &[(&str, &str)] = &[
    (
        "surrogates",
        "Java writes a character beyond U+FFFF as six bytes that are not UTF-8; no such path is echoed",
    ),
    (
        "setACL-in-flight",
        "Java checks a request against the former ACL while a setACL before it is on its way, ours against the new one; \
         no setACL in a pipeline",
    ),
    (
        "auth-order",
        "Java keeps a connection's identities in a hash set; entries that one `auth` entry became are compared in any order",
    ),
    (
        "takeover",
        "Java forgets which connection a session has when a former one ends late; whether an attach closes it is not compared",
    ),
    (
        "ephemeral-container-in-flight",
        "Java takes a container with the flags of an ephemeral node for one until it is applied; not sent in a pipeline or multi",
    ),
    (
        "quota-after-restart",
        "Java counts usage anew from its last snapshot and goes on from there, ours from all it has recovered; no quota in \
         histories with restarts",
    ),
    (
        "quota-in-flight",
        "Java checks quotas against what is applied, which depends on its threads; nothing below /q in a pipeline",
    ),
];

/// What is never sent to any server, because Apache ZooKeeper's answer is a hazard that is not to be copied.
pub const HAZARDS: &[(&str, &str)] = &[
    (
        "poison-transaction",
        "createTTL with a flag that is no TTL mode and a negative ttl ends the Java server for good",
    ),
    (
        "deleteContainer",
        "3.9 executes it for any client; ours refuses",
    ),
    (
        "createSession",
        "3.8.0 answers with a frame that is no reply; ours refuses",
    ),
    (
        "attach-with-wrong-password",
        "Java closes the rightful connection first; sent only when there is none",
    ),
];

/// The first step after which the two records differ.
#[must_use]
pub fn first_difference(left: &Record, right: &Record) -> Option<usize> {
    let both = left.steps.iter().zip(&right.steps);
    let differing = both
        .enumerate()
        .find(|(_, (left, right))| left != right)
        .map(|(at, _)| at);
    // A record that ends early ends with the step that says why.
    differing.or_else(|| {
        (left.steps.len() != right.steps.len()).then(|| left.steps.len().min(right.steps.len()))
    })
}

/// Prints a history and, at its last step, what each server showed.
#[must_use]
pub fn explain(steps: &[Step], left: (&str, &Record), right: (&str, &Record)) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let at = first_difference(left.1, right.1);
    for (number, step) in steps.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  step {number}: {step}");
        if at == Some(number) {
            for (name, record) in [left, right] {
                let _ = writeln!(text, "    {name}:");
                for seen in record.steps.get(number).into_iter().flatten() {
                    let _ = writeln!(text, "      {seen}");
                }
            }
            break;
        }
    }
    text
}
