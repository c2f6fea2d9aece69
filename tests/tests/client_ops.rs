//! Typed operations against a server that is not ours: what the client's own tests assume of ZooKeeper must hold there.
//!
//! Needs Apache ZooKeeper; says loudly when it did not run. Each test starts below a root of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use tests::apache::{Distribution, Server};
use tests::gate;
use tests::target::Options;
use zk_client::{
    Acl, AddWatchMode, Client, CreateMode, CreateOptions, ErrorCode, EventType, WatcherType,
};

/// A server and the scratch directory it lives in.
struct Running {
    server: Server,
    _directory: tempfile::TempDir,
}

fn start(test: &str) -> Option<Running> {
    let distribution = gate::need(test, Distribution::debian())?;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&distribution, &Options::default(), directory.path()).unwrap();
    Some(Running {
        server,
        _directory: directory,
    })
}

async fn connect(running: &Running) -> Client {
    Client::connect(running.server.addr().to_string())
        .await
        .unwrap()
}

async fn kinds(client: &Client) {
    for (mode, ephemeral) in [
        (CreateMode::Persistent, false),
        (CreateMode::Ephemeral, true),
        (CreateMode::PersistentSequential, false),
        (CreateMode::EphemeralSequential, true),
        (CreateMode::Container, false),
        (CreateMode::PersistentWithTtl, false),
        (CreateMode::PersistentSequentialWithTtl, false),
    ] {
        let path = format!("/kinds/{mode:?}-");
        let mut create = client
            .create(&path, "x")
            .mode(mode)
            .with_container_parents();
        if mode.is_ttl() {
            create = create.ttl(Duration::from_secs(60));
        }
        let created = create.await.unwrap();
        let node = client.get_data(&created.path).await.unwrap();
        assert_eq!(
            (node.stat, &node.data[..]),
            (created.stat, &b"x"[..]),
            "{mode:?}"
        );
        assert_eq!(created.zxid, created.stat.czxid, "{mode:?}");
        let owner = if ephemeral { client.session_id().0 } else { 0 };
        assert_eq!(created.stat.ephemeral_owner, owner, "{mode:?}");
        assert_eq!(
            created.path.as_str().len() > path.len(),
            mode.is_sequential()
        );
    }
    let mine = client.get_ephemerals("/kinds").await.unwrap();
    assert_eq!(mine.len(), 2);
    assert_eq!(client.get_all_children_number("/kinds").await.unwrap(), 7);
}

async fn protection(client: &Client) {
    let create = client
        .create("/locks/lock-", "")
        .mode(CreateMode::EphemeralSequential);
    let created = create.with_container_parents().protected().await.unwrap();
    let name = created.path.name().unwrap();
    assert_eq!(zk_client::protected::normalize(name), "lock-0000000000");
    client.delete(&created.path).guaranteed().await.unwrap();
}

async fn writes(client: &Client) {
    client.create("/w", "0").await.unwrap();
    let stat = client.set_data("/w", "1").version(0).await.unwrap();
    assert_eq!(stat.version, 1);
    let stale = client.set_data("/w", "2").version(0).await.unwrap_err();
    assert_eq!(stale.code(), Some(ErrorCode::BAD_VERSION));
    let acl = vec![Acl::open_unsafe()];
    let stat = client.set_acl("/w", acl.clone()).version(0).await.unwrap();
    let list = client.get_acl("/w").await.unwrap();
    assert_eq!((list.acl, list.stat.aversion), (acl, stat.aversion));
    client.sync("/w").await.unwrap();
    let identities = client.who_am_i().await.unwrap();
    assert!(
        identities.iter().any(|identity| identity.scheme == "ip"),
        "{identities:?}"
    );
    client.get_config().await.unwrap();
    let error = client.reconfig().leaving("9").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::RECONFIG_DISABLED));
}

async fn transactions(client: &Client) {
    client.create("/m", "").await.unwrap();
    let mut multi = client.multi();
    multi.check("/m", 0);
    let plain = multi.create("/m/n-", "", CreateMode::PersistentSequential);
    let container = multi.create("/m/c", "", CreateMode::Container);
    let ttl = CreateOptions::from(CreateMode::PersistentWithTtl).ttl(Duration::from_secs(60));
    let timed = multi.create("/m/t", "", ttl);
    let set = multi.set_data("/m", "x", 0);
    multi.delete("/m/c", None);
    let results = multi.commit().await.unwrap();
    assert_eq!(results[plain].path.as_str(), "/m/n-0000000000");
    assert!(results[container].stat.is_some() && results[timed].stat.is_some());
    assert_eq!(
        (results[set].version, results[set].mzxid),
        (1, results.zxid())
    );

    let mut multi = client.multi();
    multi.create("/m/x", "", CreateMode::Persistent);
    let wrong = multi.check("/m", 7);
    multi.create("/m/y", "", CreateMode::Persistent);
    let error = multi.commit().await.unwrap_err();
    assert!(error.is_at(wrong));
    let codes = [
        ErrorCode::OK,
        ErrorCode::BAD_VERSION,
        ErrorCode::RUNTIME_INCONSISTENCY,
    ];
    assert_eq!(error.codes(), codes);
    assert_eq!(client.exists("/m/x").await.unwrap(), None);
    assert!(client.multi().commit().await.unwrap().is_empty());

    let mut reads = client.multi_read();
    let (data, names, missing) = (
        reads.get_data("/m"),
        reads.get_children("/m"),
        reads.get_data("/m/nope"),
    );
    let results = reads.commit().await.unwrap();
    assert_eq!(&results.get(data).unwrap().data[..], b"x");
    assert_eq!(results.get(names).unwrap().len(), 2);
    assert_eq!(
        results.get(missing).unwrap_err().code(),
        Some(ErrorCode::NO_NODE)
    );
}

async fn large_subtrees(client: &Client) {
    client.create("/big", "").await.unwrap();
    for batch in 0..3 {
        let mut multi = client.multi();
        for number in 0..200 {
            multi.create(format!("/big/{batch}-{number}"), "", CreateMode::Persistent);
        }
        multi.commit().await.unwrap();
    }
    client
        .create("/big/0-0/a/b", "")
        .with_parents()
        .await
        .unwrap();
    client.delete("/big").recursive().await.unwrap();
    assert_eq!(client.exists("/big").await.unwrap(), None);
}

async fn watches(client: &Client) {
    let (stat, created) = client.exists("/v").watch().await.unwrap();
    assert!(stat.is_none());
    let mut below = client
        .watch("/v/tree", AddWatchMode::PERSISTENT_RECURSIVE)
        .await
        .unwrap();
    client.create("/v", "").await.unwrap();
    assert_eq!(created.await.kind, EventType::NODE_CREATED);
    let (_, child) = client.get_children("/v").watch().await.unwrap();
    assert!(
        client
            .check_watches("/v", WatcherType::CHILDREN)
            .await
            .unwrap()
    );
    client.create("/v/tree", "").await.unwrap();
    assert_eq!(child.await.path.as_str(), "/v");
    // Not on the path of the persistent watch: before 3.9 the two do not go together.
    let (_, changed) = client.get_data("/v").watch().await.unwrap();
    client.set_data("/v", "x").await.unwrap();
    client.set_data("/v/tree", "x").await.unwrap();
    assert_eq!(changed.await.kind, EventType::NODE_DATA_CHANGED);
    for expected in [EventType::NODE_CREATED, EventType::NODE_DATA_CHANGED] {
        let event = below.next().await.unwrap();
        assert_eq!((event.kind, event.path.as_str()), (expected, "/v/tree"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_means_on_apache_zookeeper_what_we_think() {
    let Some(running) = start("client_ops") else {
        return;
    };
    let client = connect(&running).await;
    for part in ["bare", "view"] {
        // The same again below a namespace: no operation may see the difference.
        let client = if part == "bare" {
            client.clone()
        } else {
            client.namespace("/app/x").unwrap()
        };
        client.ensure_namespace().await.unwrap();
        kinds(&client).await;
        protection(&client).await;
        writes(&client).await;
        transactions(&client).await;
        large_subtrees(&client).await;
        watches(&client).await;
    }
}
