//! One session through a random history of network faults: whatever happens, nothing it is told may be a lie.
//!
//! Everything random comes from one seed, printed with a failure: `ZK_CHAOS_SEED=7 cargo test -p tests --test
//! client_chaos`; `ZK_CHAOS_ROUNDS` makes it longer. The server is the one that the environment chooses; says loudly when
//! there is none. The truth is read past the proxy.

use std::time::Duration;

use tests::gate;
use tests::proxy::{Direction, Proxy, Reach};
use tests::target::Options;
use tests::wait::PATIENCE;
use tests::world::{World, connected};
use zk_client::retry::{Retry, RetryForever};
use zk_client::{Client, Error, ErrorKind, EventType, OpCode, Outcome, Stat, Zxid};

const ROUNDS: u64 = 150;
const LONGEST_PIPELINE: usize = 6;

/// A number that the environment may choose.
fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text}: a number is wanted")),
        Err(_) => otherwise,
    }
}

/// Lets something go wrong, at once or soon.
fn break_something(chance: &mut fastrand::Rng, proxy: &Proxy) {
    let direction = if chance.bool() {
        Direction::ToServer
    } else {
        Direction::ToClient
    };
    let operation = [OpCode::SET_DATA, OpCode::GET_DATA, OpCode::SET_WATCHES][chance.usize(0..3)];
    match chance.u8(0..8) {
        0 => proxy.cut(),
        1 => proxy.reset(),
        2 | 3 => proxy.cut_after(direction, chance.usize(0..400)),
        4 => proxy.swallow_reply(operation, true),
        5 => {
            let reach = if chance.bool() {
                Reach::Withheld
            } else {
                Reach::Delivered
            };
            proxy.cut_at_request(operation, chance.usize(1..5), reach);
        }
        6 => proxy.delay(direction, Duration::from_millis(chance.u64(1..20))),
        _ => {}
    }
}

/// What may be claimed of a pipeline of writes to one node: what was applied is its beginning, no success is missing in it
/// and nothing that is said not to be done is in it.
fn judge(results: &[Result<Stat, Error>], applied: usize, first_version: i32) {
    for (index, result) in results.iter().enumerate() {
        let done = index < applied;
        match result {
            Ok(stat) => {
                assert!(done, "write {index} is claimed, {applied} were applied");
                let ahead = i32::try_from(index).expect("a short pipeline");
                assert_eq!(stat.version, first_version + 1 + ahead);
            }
            Err(error) if error.outcome() == Outcome::NotDone => {
                assert!(!done, "write {index} was applied: {error}");
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionLost), "{error}");
            }
        }
    }
}

/// Repeats reads until they work.
fn patient(client: &Client) -> Client {
    client.retrying(Retry::new(RetryForever::new(Duration::from_millis(5))).deadline(PATIENCE))
}

#[tokio::test]
async fn fs_c18_nothing_that_a_session_is_told_is_a_lie() -> Result<(), Error> {
    let seed = number("ZK_CHAOS_SEED", fastrand::u64(0..1_000_000));
    let rounds = number("ZK_CHAOS_ROUNDS", ROUNDS);
    println!("ZK_CHAOS_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let started = World::start(Options::default(), Duration::from_secs(60)).await;
    let Some(world) = gate::need("client_chaos", started) else {
        return Ok(());
    };
    let (client, witness) = (&world.client, &world.witness);
    let session = client.session_id();
    witness.create("/watched", "").await?;
    let mut seen = Zxid(0);
    let (mut whole, mut cut_short, mut unknown) = (0, 0, 0);
    for round in 0..rounds {
        let (_, watch) = patient(client).get_data("/watched").watch().await?;
        let before = witness.get_data("/a").await?.stat.version;
        break_something(&mut chance, &world.proxy);
        let writes: Vec<_> = (0..chance.usize(1..=LONGEST_PIPELINE))
            .map(|index| {
                let client = client.clone();
                // First polled in this order, and so sent.
                tokio::spawn(async move {
                    client
                        .set_data("/a", format!("{round}-{index}"))
                        .send()
                        .await
                })
            })
            .collect();
        let mut results = Vec::new();
        for write in writes {
            let result = tokio::time::timeout(PATIENCE, write).await;
            results.push(result.expect("answered in time").expect("no panic"));
        }
        if chance.bool() {
            break_something(&mut chance, &world.proxy);
        }
        witness.set_data("/watched", round.to_string()).await?;
        world.proxy.heal();
        let event = tokio::time::timeout(PATIENCE, watch)
            .await
            .expect("an event");
        assert_eq!(event.kind, EventType::NODE_DATA_CHANGED, "round {round}");
        // What the server still had of an older connection is done by then.
        connected(client).await;
        patient(client).sync("/a").await?;
        witness.sync("/a").await?;
        let truth = witness.get_data("/a").await?;
        let applied = usize::try_from(truth.stat.version - before).expect("versions grow");
        assert!(
            applied <= results.len(),
            "round {round}: a write was sent twice"
        );
        judge(&results, applied, before);
        *if applied == results.len() {
            &mut whole
        } else {
            &mut cut_short
        } += 1;
        let is_unknown = |result: &&Result<Stat, Error>| matches!(result, Err(error) if error.outcome() == Outcome::Unknown);
        unknown += results.iter().filter(is_unknown).count();
        if applied > 0 {
            assert_eq!(
                truth.data,
                format!("{round}-{}", applied - 1),
                "round {round}"
            );
        }
        // The session's own view is no older than what it has seen.
        let own = patient(client).get_data("/a").await?;
        assert_eq!(
            (own.stat, own.data),
            (truth.stat, truth.data),
            "round {round}"
        );
        assert!(own.stat.mzxid >= seen, "round {round}");
        seen = own.stat.mzxid;
        assert_eq!(client.session_id(), session, "round {round}");
    }
    // The faults were felt, and not everything fell to them.
    assert!(
        rounds < ROUNDS || whole > 10 && cut_short > 10 && unknown > 10,
        "{whole} whole, {cut_short} cut short, {unknown} unknown"
    );
    Ok(())
}
