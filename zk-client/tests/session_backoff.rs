//! Servers that take the session and are of no use: they are asked ever less often, and found again when they recover.
//!
//! On a stopped clock, over streams in memory: a minute of reconnects takes no time.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::Fake;
use tokio::time::Instant;
use zk_client::{Client, ErrorCode, OpCode};

const MINUTE: Duration = Duration::from_secs(60);
/// 200 ms doubled up to 5 s, with half of each left to chance: some 20 in a minute. Without growth it would be 1200.
const MOST_IN_A_MINUTE: usize = 30;
/// The longest wait, with the jitter of a loss.
const LONGEST_WAIT: Duration = Duration::from_millis(5_200);

async fn in_memory(fake: &Fake) -> Client {
    let server = fake.clone();
    Client::builder("in-memory")
        .unwrap()
        .connector(move |_| {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(server.clone().serve(theirs));
            std::future::ready(Ok(ours))
        })
        .connect()
        .await
        .unwrap()
}

/// Counts the handshakes of a minute, then lets the server recover, and waits for an answer.
async fn a_minute_and_after(fake: &Fake, client: &Client, recover: impl FnOnce()) {
    let (session, before) = (client.session_id(), fake.handshakes());
    fake.cut();
    tokio::time::sleep(MINUTE).await;
    let handshakes = fake.handshakes() - before;
    assert!((5..MOST_IN_A_MINUTE).contains(&handshakes), "{handshakes}");
    recover();
    let healed = Instant::now();
    while client.exists("/").await.is_err() {}
    assert!(healed.elapsed() <= LONGEST_WAIT, "{:?}", healed.elapsed());
    assert_eq!(client.session_id(), session);
    // All is well: the next loss is followed by an attempt at once.
    let before = fake.handshakes();
    fake.cut();
    let cut = Instant::now();
    while client.exists("/").await.is_err() {}
    assert!(
        cut.elapsed() <= Duration::from_millis(100),
        "{:?}",
        cut.elapsed()
    );
    assert_eq!(fake.handshakes() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn fs_c8_a_server_that_always_refuses_the_watches_is_not_stormed() {
    let fake = Fake::start().await;
    let client = in_memory(&fake).await;
    let (_, watch) = client.exists("/a").watch().await.unwrap();
    fake.refuse(Some((OpCode::SET_WATCHES, ErrorCode::MARSHALLING_ERROR)));
    a_minute_and_after(&fake, &client, || fake.refuse(None)).await;
    // The watch has come through it all.
    client.create("/a", "").await.unwrap();
    assert!(!watch.await.is_end());
}

#[tokio::test(start_paused = true)]
async fn fs_c13_a_server_that_shakes_hands_and_hangs_up_is_not_stormed() {
    let fake = Fake::start().await;
    let client = in_memory(&fake).await;
    client.exists("/").await.unwrap();
    fake.hang_up(true);
    a_minute_and_after(&fake, &client, || fake.hang_up(false)).await;
}
