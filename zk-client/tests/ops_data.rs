//! Reads and writes of one node, deletes, multis, views: answers, errors, what is repeated and what is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::{Fake, Fault, connect, retrying};
use zk_client::{
    Acl, CreateMode, CreateOptions, ErrorCode, OpCode, Outcome, Stat, WatcherType, zpath,
};

#[tokio::test]
async fn what_is_written_is_read() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "one").await.unwrap();
    client
        .create("/a/b", "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    assert_eq!(client.exists("/nope").await.unwrap(), None);
    let stat = client.set_data("/a", "two").version(0).await.unwrap();
    let node = client.get_data(zpath!("/a")).await.unwrap();
    assert_eq!((&node.data[..], node.stat), (&b"two"[..], stat));
    assert_eq!(client.exists(String::from("/a")).await.unwrap(), Some(stat));
    let children = client.get_children("/a").await.unwrap();
    assert_eq!(
        (children.names, children.stat),
        (vec!["b".to_owned()], stat)
    );

    let acl = vec![Acl::creator_all()];
    let stat = client.set_acl("/a", acl.clone()).version(0).await.unwrap();
    let list = client.get_acl("/a").await.unwrap();
    assert_eq!((list.acl, list.stat.aversion), (acl, stat.aversion));

    client.sync("/a").await.unwrap();
    assert_eq!(client.get_all_children_number("/").await.unwrap(), 2);
    assert_eq!(
        client.get_ephemerals("/a").await.unwrap(),
        [zpath!("/a/b").to_owned()]
    );
    assert_eq!(client.who_am_i().await.unwrap(), []);
    assert!(!client.check_watches("/a", WatcherType::ANY).await.unwrap());
}

#[tokio::test]
async fn errors_carry_operation_path_and_code() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    for (error, op, path, code) in [
        (
            client.get_data("/x").await.unwrap_err(),
            "getData",
            "/x",
            ErrorCode::NO_NODE,
        ),
        (
            client.set_data("/a", "").version(9).await.unwrap_err(),
            "setData",
            "/a",
            ErrorCode::BAD_VERSION,
        ),
        (
            client.delete("/a").version(9).await.unwrap_err(),
            "delete",
            "/a",
            ErrorCode::BAD_VERSION,
        ),
        (
            client.get_children("/x").await.unwrap_err(),
            "getChildren",
            "/x",
            ErrorCode::NO_NODE,
        ),
        (
            client.get_acl("/x").await.unwrap_err(),
            "getACL",
            "/x",
            ErrorCode::NO_NODE,
        ),
    ] {
        let text = error.to_string();
        assert_eq!(
            (error.code(), error.outcome()),
            (Some(code), Outcome::NotDone),
            "{text}"
        );
        assert!(text.contains(op) && text.contains(path), "{text}");
    }
}

#[tokio::test]
async fn reads_are_repeated_and_writes_of_unknown_outcome_are_not() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "0").await.unwrap();
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        fake.fault(OpCode::GET_DATA, fault);
    }
    assert_eq!(&client.get_data("/a").await.unwrap().data[..], b"0");
    assert_eq!(fake.count(OpCode::GET_DATA), 3);

    for version in [-1, 0] {
        let before = fake.count(OpCode::SET_DATA);
        fake.fault(OpCode::SET_DATA, Fault::CutBefore);
        let error = client
            .set_data("/a", "1")
            .version(version)
            .await
            .unwrap_err();
        assert_eq!(
            (error.outcome(), fake.count(OpCode::SET_DATA) - before),
            (Outcome::Unknown, 1)
        );
    }
    fake.fault(OpCode::DELETE, Fault::CutBefore);
    assert_eq!(
        client.delete("/a").await.unwrap_err().outcome(),
        Outcome::Unknown
    );
    assert_eq!(fake.count(OpCode::DELETE), 1);
}

#[tokio::test]
async fn fs_r18_an_idempotent_write_is_applied_once() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.create("/a", "0").await.unwrap();
    fake.fault(OpCode::SET_DATA, Fault::CutAfter);
    let stat = client
        .set_data("/a", "mine")
        .version(0)
        .idempotent()
        .await
        .unwrap();
    assert_eq!((stat.version, fake.count(OpCode::SET_DATA)), (1, 2));

    // Applied, then overwritten by another before the repeat: nobody can tell, and the error says so.
    fake.fault(OpCode::SET_DATA, Fault::CutAfter);
    fake.fault(
        OpCode::SET_DATA,
        Fault::First(Box::new(|tree| {
            let _ = tree.set("/a", "theirs", -1);
        })),
    );
    let error = client
        .set_data("/a", "again")
        .version(1)
        .idempotent()
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        (Some(ErrorCode::BAD_VERSION), Outcome::Unknown)
    );

    // A plain conflict stays one.
    let error = client
        .set_data("/a", "late")
        .version(0)
        .idempotent()
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        (Some(ErrorCode::BAD_VERSION), Outcome::NotDone)
    );
}

#[tokio::test]
async fn fs_r5_a_guaranteed_delete_outlives_its_connection() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    for fault in [Fault::CutBefore, Fault::CutBefore] {
        fake.fault(OpCode::DELETE, fault);
    }
    let error = client.delete("/a").guaranteed().await.unwrap_err();
    assert_eq!(
        error.outcome(),
        Outcome::Unknown,
        "the caller is told all the same"
    );
    fake.until("the worker deletes it", |fake| fake.names("/").is_empty())
        .await;
    assert_eq!(fake.count(OpCode::DELETE), 3);
}

#[tokio::test]
async fn answers_do_not_enter_the_worker() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    client.create("/a/b", "").await.unwrap();
    assert_eq!(
        client.delete("/x").guaranteed().await.unwrap_err().code(),
        Some(ErrorCode::NO_NODE)
    );
    assert_eq!(
        client.delete("/a").guaranteed().await.unwrap_err().code(),
        Some(ErrorCode::NOT_EMPTY)
    );
    assert_eq!(
        client
            .delete("/a")
            .version(7)
            .guaranteed()
            .await
            .unwrap_err()
            .code(),
        Some(ErrorCode::BAD_VERSION)
    );
    // Anything in the worker's queue would come before the answer to this.
    client.delete_in_background(zpath!("/a/b"));
    fake.until("the background delete", |fake| fake.names("/a").is_empty())
        .await;
    assert_eq!(fake.count(OpCode::DELETE), 4);
}

/// A server that takes no writes is no refusal: the client looks for one that does, and may be at it already.
#[tokio::test]
async fn the_worker_waits_for_a_server_that_takes_writes() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    client.create("/b", "").await.unwrap();
    fake.refuse(Some((OpCode::DELETE, ErrorCode::NOT_READ_ONLY)));
    assert_eq!(
        client.delete("/a").guaranteed().await.unwrap_err().code(),
        Some(ErrorCode::NOT_READ_ONLY)
    );
    client.delete_in_background(zpath!("/b"));
    fake.until("both were tried again", |fake| {
        fake.count(OpCode::DELETE) >= 5
    })
    .await;
    fake.refuse(None);
    fake.until("the background deletes", |fake| fake.names("/").is_empty())
        .await;
}

#[tokio::test]
async fn quiet_and_idempotent_deletes_take_absence_for_success() {
    let fake = Fake::start().await;
    let client = retrying(&fake).await;
    client.delete("/x").quietly().await.unwrap();
    client.create("/a", "").await.unwrap();
    fake.fault(OpCode::DELETE, Fault::CutAfter);
    client.delete("/a").idempotent().await.unwrap();
    assert_eq!(fake.names("/"), [""; 0]);
}

#[tokio::test]
async fn a_subtree_goes_whole_even_while_others_fill_it() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    fake.tree(|tree| {
        for path in ["/t", "/t/a", "/t/b", "/t/a/1", "/t/a/2", "/t/a/2/x"] {
            tree.create(path, "", CreateMode::Persistent, 0).unwrap();
        }
    });
    let fill =
        |tree: &mut support::Tree| drop(tree.create("/t/late", "", CreateMode::Persistent, 0));
    fake.fault(OpCode::DELETE, Fault::First(Box::new(fill)));
    client.delete("/t").recursive().await.unwrap();
    assert_eq!(fake.names("/"), [""; 0]);
    assert_eq!(
        client.delete("/t").recursive().await.unwrap_err().code(),
        Some(ErrorCode::NO_NODE)
    );
    let root = client.delete("/").recursive().await.unwrap_err();
    assert_eq!(
        (root.outcome(), fake.count(OpCode::DELETE)),
        (Outcome::NotDone, 2)
    );
}

#[tokio::test]
async fn a_multi_answers_each_handle_with_its_type() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "").await.unwrap();
    let mut multi = client.multi();
    multi.check("/a", 0);
    let set = multi.set_data("/a", "x", 0);
    let plain = multi.create("/a/n-", "1", CreateMode::PersistentSequential);
    let container = multi.create(
        "/a/c",
        "",
        CreateOptions::from(CreateMode::Container).acl(vec![Acl::read_unsafe()]),
    );
    let gone = multi.delete("/a/c", None);
    let results = multi.commit().await.unwrap();
    assert_eq!(
        (
            results.len(),
            results[set].version,
            results[plain].path.as_str()
        ),
        (5, 1, "/a/n-0000000000")
    );
    assert_eq!(results[plain].stat, None, "servers before 3.9 send none");
    assert_eq!(
        results[container].stat.map(|stat: Stat| stat.czxid),
        Some(results.zxid())
    );
    assert!(results.get(gone).is_some());
    let foreign = client.multi().delete("/a", None);
    assert!(results.get(foreign).is_none());

    assert!(client.multi().commit().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_multi_names_the_operation_and_changes_nothing() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let mut multi = client.multi();
    multi.create("/a", "", CreateMode::Persistent);
    let missing = multi.set_data("/missing", "", None);
    multi.create("/b", "", CreateMode::Persistent);
    let error = multi.commit().await.unwrap_err();
    assert!(error.is_at(missing));
    assert_eq!(
        (error.failed(), error.code()),
        (Some(1), Some(ErrorCode::NO_NODE))
    );
    assert_eq!(
        error.codes(),
        [
            ErrorCode::OK,
            ErrorCode::NO_NODE,
            ErrorCode::RUNTIME_INCONSISTENCY
        ]
    );
    let error = zk_client::Error::from(error);
    assert!(error.to_string().contains("/missing"), "{error}");
    assert_eq!(fake.names("/"), [""; 0]);

    let mut multi = client.multi();
    multi.delete("/x", None);
    let bad = multi.create("no-slash", "", CreateMode::Persistent);
    let error = multi.commit().await.unwrap_err();
    assert!(error.is_at(bad) && error.code().is_none());
    assert_eq!(fake.count(OpCode::MULTI), 1, "nothing was sent");
}

#[tokio::test]
async fn a_batch_of_reads_answers_each_on_its_own() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    client.create("/a", "x").await.unwrap();
    client.create("/a/b", "").await.unwrap();
    let mut reads = client.multi_read();
    let (missing, data, names) = (
        reads.get_data("/nope"),
        reads.get_data("/a"),
        reads.get_children("/a"),
    );
    let results = reads.commit().await.unwrap();
    assert_eq!(&results.get(data).unwrap().data[..], b"x");
    assert_eq!(results.get(names).unwrap(), &["b"]);
    let error = results.get(missing).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NO_NODE));
    assert!(error.to_string().contains("/nope"), "{error}");
}

#[tokio::test]
async fn a_view_hides_its_root_everywhere() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let app = client.namespace("/app/x").unwrap();
    assert_eq!(app.root().as_str(), "/app/x");
    app.ensure_namespace().await.unwrap();
    app.ensure_namespace().await.unwrap();
    assert_eq!(
        fake.tree(|tree| tree.nodes["/app/x"].mode),
        CreateMode::Container
    );

    let created = app
        .create("/l/n-", "")
        .mode(CreateMode::EphemeralSequential)
        .with_parents()
        .await
        .unwrap();
    assert_eq!(created.path.as_str(), "/l/n-0000000000");
    assert_eq!(fake.names("/app/x/l"), ["n-0000000000"]);
    assert_eq!(
        app.get_ephemerals("/").await.unwrap(),
        std::slice::from_ref(&created.path)
    );
    client
        .create("/app/xy", "")
        .mode(CreateMode::Ephemeral)
        .await
        .unwrap();
    assert_eq!(
        app.get_ephemerals("/").await.unwrap().len(),
        1,
        "whole components only"
    );
    let mut multi = app.multi();
    let made = multi.create("/m", "", CreateMode::Persistent);
    assert_eq!(multi.commit().await.unwrap()[made].path.as_str(), "/m");
    assert!(
        app.get_data("/gone")
            .await
            .unwrap_err()
            .to_string()
            .contains("/gone")
    );
    assert_eq!(app.get_children("/").await.unwrap().names, ["l", "m"]);

    // A namespace's ancestors are made like any other's.
    let deep = client.namespace("/other/y").unwrap();
    deep.create("/a/b", "")
        .with_container_parents()
        .await
        .unwrap();
    assert_eq!(fake.names("/other/y/a"), ["b"]);
    assert!(client.namespace("nope").is_err());
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_is_not_answered() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    fake.fault(OpCode::GET_DATA, Fault::Silence);
    let retry = zk_client::retry::Retry::new(zk_client::retry::RetryForever::new(
        Duration::from_millis(1),
    ));
    let error = client
        .retrying(retry.deadline(Duration::from_millis(50)))
        .get_data("/")
        .await
        .unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
}
