//! `create`: kinds, parents, protection, and what lost replies and lost sessions leave behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::{Fake, Fault, connect, retrying};
use uuid::Uuid;
use zk_client::retry::RetryNTimes;
use zk_client::{Acl, CreateMode, ErrorCode, OpCode, Outcome, protected};

const CREATE: OpCode = OpCode::CREATE2;

#[tokio::test]
async fn each_kind_arrives_as_it_was_asked_for() {
    use CreateMode::*;
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    for (mode, name) in [
        (Persistent, "/a"),
        (Ephemeral, "/b"),
        (PersistentSequential, "/c-0000000002"),
        (EphemeralSequential, "/d-0000000003"),
        (Container, "/e"),
        (PersistentWithTtl, "/f"),
        (PersistentSequentialWithTtl, "/g-0000000006"),
    ] {
        let asked = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let mut create = client.create(asked, "x").mode(mode);
        if mode.is_ttl() {
            create = create.ttl(Duration::from_secs(1));
        }
        let created = create.await.unwrap();
        assert_eq!(
            (created.path.as_str(), created.zxid),
            (name, created.stat.czxid)
        );
        let node = fake.tree(|tree| tree.nodes[name].clone());
        assert_eq!((node.mode, &node.data[..]), (mode, &b"x"[..]));
        assert_eq!(node.stat.ephemeral_owner != 0, mode.is_ephemeral());
    }
}

#[tokio::test]
async fn what_makes_no_request_is_refused_before_it_is_sent() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let second = Duration::from_secs(1);
    let errors = [
        client.create("relative", "").await.unwrap_err(),
        client.create("/a/", "").await.unwrap_err(),
        client.create("/a", "").ttl(second).await.unwrap_err(),
        client
            .create("/a", "")
            .mode(CreateMode::PersistentWithTtl)
            .await
            .unwrap_err(),
        client.create("/a", "").acl(vec![]).await.unwrap_err(),
        client
            .create("/a-", "")
            .mode(CreateMode::PersistentSequential)
            .idempotent()
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.outcome(), error.is_retryable()),
            (Outcome::NotDone, false),
            "{error}"
        );
        assert!(error.to_string().contains("create"), "{error}");
    }
    assert_eq!(fake.log(), []);
    // A sequential node may be all suffix.
    let created = client
        .create("/", "")
        .mode(CreateMode::PersistentSequential)
        .await
        .unwrap();
    assert_eq!(created.path.as_str(), "/0000000000");
}

#[tokio::test]
async fn parents_are_made_from_the_bottom_with_their_mode_and_acl() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let error = client.create("/a/b/c", "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        (Some(ErrorCode::NO_NODE), Outcome::NotDone)
    );

    let acl = vec![Acl::read_unsafe()];
    client
        .create("/a/b/c", "x")
        .with_container_parents()
        .parents_acl(acl.clone())
        .await
        .unwrap();
    fake.tree(|tree| {
        assert_eq!(
            (tree.nodes["/a"].mode, tree.nodes["/a/b"].mode),
            (CreateMode::Container, CreateMode::Container)
        );
        assert_eq!(
            (&tree.nodes["/a"].acl, tree.nodes["/a/b/c"].mode),
            (&acl, CreateMode::Persistent)
        );
    });
    client.create("/a/d/e", "").with_parents().await.unwrap();
    assert_eq!(
        fake.tree(|tree| tree.nodes["/a/d"].mode),
        CreateMode::Persistent
    );
}

#[tokio::test]
async fn fs_r20_parents_that_vanish_are_made_again_but_not_for_ever() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    // The sweeper takes the container away between its creation and that of the child, three times.
    fake.fault(CREATE, Fault::First(Box::new(|_| {})));
    for _ in 0..3 {
        fake.fault(
            CREATE,
            Fault::First(Box::new(|tree| {
                let _ = tree.delete("/p", -1);
            })),
        );
    }
    client
        .create("/p/x", "")
        .with_container_parents()
        .await
        .unwrap();
    assert_eq!(fake.names("/p"), ["x"]);

    for _ in 0..100 {
        fake.fault(
            CREATE,
            Fault::First(Box::new(|tree| {
                let _ = tree.delete("/q", -1);
            })),
        );
    }
    let error = client
        .create("/q/x", "")
        .with_container_parents()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn a_protected_name_follows_curators_contract() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let id = Uuid::parse_str("870f69b4-5e3c-4dcb-94b0-278556d7761f").unwrap();
    let mode = CreateMode::EphemeralSequential;
    let created = client
        .create("/l/lock-", "")
        .mode(mode)
        .with_container_parents()
        .protected_with(id)
        .await
        .unwrap();
    assert_eq!(
        created.path.as_str(),
        "/l/_c_870f69b4-5e3c-4dcb-94b0-278556d7761f-lock-0000000000"
    );
}

#[tokio::test]
async fn fs_c2_a_lost_reply_is_found_again_and_there_is_one_node() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    fake.fault(CREATE, Fault::CutAfter);
    let mode = CreateMode::EphemeralSequential;
    let created = client
        .create("/lock-", "me")
        .mode(mode)
        .protected()
        .await
        .unwrap();
    let names = fake.names("/");
    assert_eq!(names, [created.path.name().unwrap()]);
    // One prefix, put there once (CURATOR-190).
    assert_eq!(protected::normalize(&names[0]), "lock-0000000000");
    assert_eq!(
        created.stat,
        fake.tree(|tree| tree.stat(created.path.as_str()).unwrap())
    );
    assert_eq!(fake.count(CREATE), 1, "found, not made again");
}

#[tokio::test]
async fn a_create_that_never_arrived_is_made_after_the_search() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    fake.fault(CREATE, Fault::CutBefore);
    fake.fault(CREATE, Fault::CutBefore);
    client
        .create("/lock-", "")
        .mode(CreateMode::EphemeralSequential)
        .protected()
        .await
        .unwrap();
    assert_eq!((fake.names("/").len(), fake.count(CREATE)), (1, 3));
}

#[tokio::test]
async fn fs_c2_without_protection_the_unknown_outcome_is_reported() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    fake.fault(CREATE, Fault::CutAfter);
    let error = client
        .create("/lock-", "")
        .mode(CreateMode::EphemeralSequential)
        .await
        .unwrap_err();
    assert_eq!(
        (error.outcome(), error.is_retryable()),
        (Outcome::Unknown, true)
    );
    assert_eq!(
        (fake.names("/").len(), fake.count(CREATE)),
        (1, 1),
        "nothing was asked twice"
    );
}

#[tokio::test]
async fn fs_c3_a_node_of_the_expired_session_does_not_count() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    fake.fault(CREATE, Fault::ExpireAfter);
    let created = client
        .create("/lock-", "")
        .mode(CreateMode::EphemeralSequential)
        .protected()
        .await
        .unwrap();
    assert_eq!(created.stat.ephemeral_owner, client.session_id().0);
    // The old session's node is helped away, whenever the server gets to it.
    fake.until("only the new node is left", |fake| {
        fake.names("/") == [created.path.name().unwrap()]
    })
    .await;
}

#[tokio::test]
async fn giving_up_leaves_the_node_to_the_worker() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    fake.fault(CREATE, Fault::CutAfter);
    let error = client
        .create("/lock-", "")
        .mode(CreateMode::EphemeralSequential)
        .protected()
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    fake.until("the orphan is gone", |fake| fake.names("/").is_empty())
        .await;
}

#[tokio::test]
async fn an_idempotent_create_recognises_its_own_node_only() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    fake.fault(CREATE, Fault::CutAfter);
    let created = client.create("/a", "mine").idempotent().await.unwrap();
    assert_eq!((created.path.as_str(), fake.count(CREATE)), ("/a", 2));

    // Somebody else's node, made while we were away.
    fake.fault(CREATE, Fault::CutBefore);
    fake.fault(
        CREATE,
        Fault::First(Box::new(|tree| {
            drop(tree.create("/b", "theirs", CreateMode::Persistent, 0))
        })),
    );
    let error = client.create("/b", "mine").idempotent().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NODE_EXISTS));

    // There from the start: not ours, whatever its bytes.
    let error = client.create("/a", "mine").idempotent().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NODE_EXISTS));
}

#[tokio::test]
async fn retries_are_counted_per_call() {
    let fake = Fake::start().await;
    let client = connect(&fake)
        .await
        .retrying(RetryNTimes::new(2, Duration::from_millis(1)));
    for _ in 0..4 {
        fake.fault(CREATE, Fault::CutBefore);
    }
    let error = client
        .create("/a", "")
        .mode(CreateMode::Ephemeral)
        .protected()
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(fake.count(CREATE), 3);
}
