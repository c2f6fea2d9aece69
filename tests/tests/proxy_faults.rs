//! The faulty network does what it says, on either server: a fault that does not happen would make every test above it pass.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use bytes::Bytes;
use tests::proxy::{Direction, Proxy, Reach};
use tests::raw::{RawConnection, Received};
use tests::target::{Options, Target};
use tests::wait::{PATIENCE, eventually};
use zk_proto::session::{CreateRequest, PathWatchRequest, Request};
use zk_proto::{Acl, ErrorCode, OpCode, Xid};

/// Long enough to see that nothing comes, short enough to be done often.
const A_WHILE: Duration = Duration::from_millis(300);

fn create(path: &'static str) -> CreateRequest<'static> {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::from_static(b"x")),
        acl: Some(vec![Acl::open_unsafe()]),
        flags: 0,
    }
}

fn exists(addr: std::net::SocketAddr, path: &'static str) -> bool {
    let (mut connection, _) = RawConnection::session(addr, 10_000).unwrap();
    let body = PathWatchRequest {
        path: path.into(),
        watch: false,
    };
    let (header, _) = connection.call(Xid(1), OpCode::EXISTS, &body).unwrap();
    connection
        .call(Xid(2), OpCode::CLOSE_SESSION, &Request::Empty)
        .unwrap();
    header.err == ErrorCode::OK
}

/// A server, a proxy before it, and a session through the proxy.
async fn world() -> (Target, Proxy, RawConnection) {
    let target = Target::start(Options::default()).unwrap();
    let proxy = Proxy::start(target.addr()).await.unwrap();
    let addr = proxy.addr();
    let connection = blocking(move || RawConnection::session(addr, 10_000).unwrap().0).await;
    (target, proxy, connection)
}

/// Raw connections block; the proxy needs the runtime meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_swallowed_reply_is_lost_and_its_operation_done() {
    let (target, proxy, mut connection) = world().await;
    proxy.swallow_reply(OpCode::CREATE, false);
    let received = blocking(move || {
        connection
            .request(Xid(1), OpCode::CREATE, &create("/a"))
            .unwrap();
        let lost = connection.receive(A_WHILE);
        // The connection is good: the next one is answered.
        let next = connection
            .call(Xid(2), OpCode::CREATE, &create("/a"))
            .unwrap();
        (lost, next.0.err)
    })
    .await;
    assert_eq!(received, (Received::Silence, ErrorCode::NODE_EXISTS));
    let addr = target.addr();
    assert!(blocking(move || exists(addr, "/a")).await);
}

#[tokio::test]
async fn a_connection_ends_before_or_after_the_request_reached_the_server() {
    for (reach, path) in [(Reach::Withheld, "/before"), (Reach::Delivered, "/after")] {
        let (target, proxy, mut connection) = world().await;
        proxy.cut_at_request(OpCode::CREATE, 2, reach);
        let received = blocking(move || {
            connection
                .call(Xid(1), OpCode::CREATE, &create("/first"))
                .unwrap();
            connection
                .request(Xid(2), OpCode::CREATE, &create(path))
                .unwrap();
            connection.receive(PATIENCE)
        })
        .await;
        assert_eq!(received, Received::Closed);
        let addr = target.addr();
        let done = blocking(move || exists(addr, path)).await;
        assert_eq!(done, reach == Reach::Delivered, "{reach:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_inside_a_reply() {
    let (_target, proxy, mut connection) = world().await;
    proxy.cut_after(Direction::ToClient, 7);
    let received = blocking(move || {
        connection
            .request(Xid(1), OpCode::CREATE, &create("/a"))
            .unwrap();
        connection.receive(PATIENCE)
    })
    .await;
    assert_eq!(received, Received::Closed);
    assert_eq!(proxy.requests(), [OpCode::CREATE]);
}

#[tokio::test]
async fn held_bytes_arrive_when_they_are_let_go() {
    let (_target, proxy, mut connection) = world().await;
    proxy.hold(Direction::ToClient, true);
    let (silent, mut connection) = blocking(move || {
        connection
            .request(Xid(1), OpCode::CREATE, &create("/a"))
            .unwrap();
        (connection.receive(A_WHILE), connection)
    })
    .await;
    assert_eq!(silent, Received::Silence);
    proxy.heal();
    let received = blocking(move || connection.receive(PATIENCE)).await;
    assert!(matches!(received, Received::Frame(_)), "{received:?}");
}

#[tokio::test]
async fn delayed_bytes_arrive_late() {
    let (_target, proxy, mut connection) = world().await;
    proxy.delay(Direction::ToServer, A_WHILE);
    let took = blocking(move || {
        let started = std::time::Instant::now();
        connection
            .call(Xid(1), OpCode::CREATE, &create("/a"))
            .unwrap();
        started.elapsed()
    })
    .await;
    assert!(took >= A_WHILE, "{took:?}");
}

#[tokio::test]
async fn cut_reset_and_refuse_end_connections() {
    let (_target, proxy, mut connection) = world().await;
    proxy.cut();
    assert_eq!(
        blocking(move || connection.receive(PATIENCE)).await,
        Received::Closed
    );

    let addr = proxy.addr();
    let mut connection = blocking(move || RawConnection::session(addr, 10_000).unwrap().0).await;
    proxy.reset();
    assert_eq!(
        blocking(move || connection.receive(PATIENCE)).await,
        Received::Closed
    );

    proxy.refuse(true);
    assert!(blocking(move || RawConnection::session(addr, 10_000).is_err()).await);
    proxy.heal();
    assert!(blocking(move || RawConnection::session(addr, 10_000).is_ok()).await);
    assert_eq!(proxy.accepted(), 4);
    eventually("all connections are gone", PATIENCE, async || {
        (proxy.open() == 0).then_some(())
    })
    .await;
}
