//! What the sections *Cancellation* promise, with futures dropped at every await point.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use support::cancel::{dropped, every_way};
use support::{Fake, Fault, connect, retrying};
use zk_client::{Client, CreateMode, OpCode};

/// More than any operation below needs; each loop checks that its longest run got to the end.
const POLLS: usize = 24;

/// The session still matches replies with requests (fs C11).
async fn still_in_step(client: &Client, fake: &Fake) {
    let expected = fake.tree(|tree| tree.nodes["/known"].data.clone());
    assert_eq!(client.get_data("/known").await.unwrap().data, expected);
}

async fn start() -> (Fake, Client) {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/known", "known").await.unwrap();
    (fake, client)
}

#[tokio::test]
async fn fs_c11_reads_are_safe() {
    let (fake, client) = start().await;
    let mut finished = 0;
    for when in every_way(POLLS) {
        finished += usize::from(
            dropped(client.get_data("/known").send(), when)
                .await
                .is_some(),
        );
        finished += usize::from(
            dropped(client.get_children("/").send(), when)
                .await
                .is_some(),
        );
        finished += usize::from(dropped(client.exists("/nope").send(), when).await.is_some());
        finished += usize::from(dropped(client.sync("/"), when).await.is_some());
        still_in_step(&client, &fake).await;
    }
    assert!(finished > 0);
    assert_eq!(fake.names("/"), ["known"]);
}

#[tokio::test]
async fn fs_r6_a_protected_create_leaves_nothing_behind() {
    let (fake, client) = start().await;
    let mut finished = 0;
    for when in every_way(POLLS) {
        let create = client
            .create("/locks/lock-", "")
            .mode(CreateMode::EphemeralSequential)
            .with_container_parents()
            .protected()
            .send();
        if let Some(created) = dropped(create, when).await {
            finished += 1;
            client.delete(&created.unwrap().path).await.unwrap();
        }
        still_in_step(&client, &fake).await;
        fake.until("no node is left", |fake| fake.names("/locks").is_empty())
            .await;
    }
    assert!(finished > 0);
}

#[tokio::test]
async fn fs_r6_nor_does_one_whose_reply_was_lost() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/known", "known").await.unwrap();
    let mut finished = 0;
    for when in every_way(POLLS) {
        fake.fault(OpCode::CREATE2, Fault::CutAfter);
        let create = client
            .create("/lock-", "")
            .mode(CreateMode::EphemeralSequential)
            .protected()
            .send();
        if let Some(created) = dropped(create, when).await {
            finished += 1;
            client
                .delete(&created.unwrap().path)
                .idempotent()
                .await
                .unwrap();
        }
        still_in_step(&client, &fake).await;
        fake.until("no node is left", |fake| fake.names("/") == ["known"])
            .await;
        fake.forget_faults();
    }
    assert!(finished > 0);
}

#[tokio::test]
async fn a_guaranteed_delete_is_finished_by_the_worker() {
    let (fake, client) = start().await;
    for when in every_way(POLLS) {
        client.create("/gone", "").await.unwrap();
        let polled = !matches!(
            when,
            support::cancel::Drop::After(0) | support::cancel::Drop::Woken(0)
        );
        let _ = dropped(client.delete("/gone").guaranteed().send(), when).await;
        if polled {
            fake.until("the node is gone", |fake| fake.names("/") == ["known"])
                .await;
        } else {
            // Never polled, never begun.
            client.delete("/gone").await.unwrap();
        }
        still_in_step(&client, &fake).await;
    }
}

#[tokio::test]
async fn writes_happen_whole_or_not_at_all() {
    let (fake, client) = start().await;
    for when in every_way(POLLS) {
        let mut multi = client.multi();
        multi.create("/m", "", CreateMode::Persistent);
        multi.create("/m/n", "", CreateMode::Persistent);
        let _ = dropped(multi.commit(), when).await;
        let _ = dropped(client.set_data("/m", format!("{when:?}")).send(), when).await;
        still_in_step(&client, &fake).await;
        let there = fake.names("/");
        assert!(
            there == ["known"] || fake.names("/m") == ["n"],
            "half a transaction after {when:?}: {there:?}"
        );
        client.delete("/m").recursive().quietly().await.unwrap();
    }
}

#[tokio::test]
async fn a_recursive_delete_can_be_taken_up_again() {
    let (fake, client) = start().await;
    for when in every_way(POLLS) {
        for path in ["/t", "/t/a", "/t/a/1", "/t/b"] {
            client.create(path, "").await.unwrap();
        }
        let _ = dropped(client.delete("/t").recursive().send(), when).await;
        client.delete("/t").recursive().quietly().await.unwrap();
        assert_eq!(fake.names("/"), ["known"]);
        still_in_step(&client, &fake).await;
    }
}
