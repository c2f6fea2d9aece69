//! Our server against Apache ZooKeeper: one seeded history of random operations, compared step by step.
//!
//! | variable | meaning |
//! |---|---|
//! | `ZK_DIFF_SEED` | the seed of one history; without it the same few are played each time, so that a run repeats |
//! | `ZK_DIFF_OPS` | how many operations, 4000 by default |
//! | `ZK_DIFF_SHRINK_SECS` | how long a failing history may be shrunk, 120 by default |
//! | `ZK_TEST_SERVER=apache-3.9` | judge by 3.9 (`ZK_39_CLASSPATH` names its jars) in place of Debian's 3.8.0 |
//! | `ZK_DIFF_SUBJECT` | `apache` or `apache-3.9` in place of our server: what differs then is the test's own fault, or a
//!   difference between the versions that is not named yet |
//!
//! The differences that are meant are named in `tests::differential::DEVIATIONS_38` and `HAZARDS`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tests::apache::Distribution;
use tests::differential::execute::{Record, play};
use tests::differential::generate::{SLOTS, history};
use tests::differential::shrink::shrink;
use tests::differential::step::Step;
use tests::differential::{Peer, Rules, explain, first_difference};
use tests::dump::SUPER_DIGEST;
use tests::gate;
use tests::many_servers::ManyServers;
use tests::target::{Kind, Options, Target};

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => otherwise,
    }
}

fn options() -> Options {
    Options::default()
        // No session may expire while a history is played.
        .set("minSessionTimeout", 120_000)
        .set("enforceQuota", true)
        .set("DigestAuthenticationProvider.superDigest", SUPER_DIGEST)
}

/// Plays a history on a fresh server.
fn on(kind: Kind, rules: Rules, steps: &[Step]) -> Record {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Target::start_in(kind, options(), directory.path()).unwrap();
    play(&mut server, SLOTS, rules, steps).unwrap()
}

fn both(
    steps: &[Step],
    judge: impl FnOnce(&[Step]) -> Record + Send,
    subject: impl FnOnce(&[Step]) -> Record,
) -> (Record, Record) {
    std::thread::scope(|scope| {
        let judged = scope.spawn(|| judge(steps));
        let ours = subject(steps);
        (judged.join().unwrap(), ours)
    })
}

#[test]
fn a_seeded_history_looks_the_same_on_both_servers() {
    let (judge, peer, found) = match Kind::from_environment() {
        Kind::Apache39 => (
            Kind::Apache39,
            Peer::V39,
            Distribution::from_environment_39(),
        ),
        _ => (Kind::Apache, Peer::V38, Distribution::debian()),
    };
    let Some(distribution) = gate::need("differential", found) else {
        return;
    };
    let seeds = match number("ZK_DIFF_SEED", 0) {
        0 => vec![1, 2, 3],
        seed => vec![seed],
    };
    let subject = match std::env::var("ZK_DIFF_SUBJECT").as_deref() {
        Ok("apache") => Kind::Apache,
        Ok("apache-3.9") => Kind::Apache39,
        Ok(other) => panic!("ZK_DIFF_SUBJECT={other}: there are apache and apache-3.9"),
        Err(_) => Kind::Embedded,
    };
    for seed in seeds {
        compare(seed, (judge, &distribution), subject, Rules { peer });
    }
}

fn compare(seed: u64, (judge, distribution): (Kind, &Distribution), subject: Kind, rules: Rules) {
    let count = usize::try_from(number("ZK_DIFF_OPS", 4000)).unwrap();
    let steps = history(seed, count, rules);
    let names = (format!("{judge:?}"), format!("{subject:?}"));
    let judge = |steps: &[Step]| on(judge, rules, steps);
    let subject = |steps: &[Step]| on(subject, rules, steps);

    let started = Instant::now();
    let (theirs, ours) = both(&steps, judge, subject);
    println!(
        "seed {seed}: {} steps in {:?}\n{}",
        steps.len(),
        started.elapsed(),
        theirs.tally()
    );
    let Some(at) = first_difference(&theirs, &ours) else {
        return;
    };
    let steps = &steps[..=at];
    eprintln!(
        "seed {seed} differs at step {at}; shrinking\n{}",
        explain(
            &steps[at..],
            (&names.0, &theirs.tail(at)),
            (&names.1, &ours.tail(at))
        )
    );
    let limit = Duration::from_secs(number("ZK_DIFF_SHRINK_SECS", 120));
    let many = ManyServers::start(distribution, &options()).map(Mutex::new);
    let judge_many = |steps: &[Step]| match &many {
        Ok(many) => {
            let mut many = many.lock().unwrap();
            many.fresh().unwrap();
            play(&mut *many, SLOTS, rules, steps).unwrap()
        }
        // No compiler: a process for each try.
        Err(_) => judge(steps),
    };
    let smallest = shrink(steps.to_vec(), limit, |steps| {
        let (theirs, ours) = both(steps, judge_many, subject);
        first_difference(&theirs, &ours).is_some()
    });
    let (theirs, ours) = both(&smallest, judge, subject);
    panic!(
        "seed {seed} (ZK_DIFF_SEED={seed} ZK_DIFF_OPS={count}): the smallest history found that differs:\n{}",
        explain(&smallest, (&names.0, &theirs), (&names.1, &ours))
    );
}
