//! A server inside the process: starts, serves over a port and over a pipe, stops, starts again.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod raw;

use raw::{Raw, eventually, word};
use zk_proto::{ErrorCode, OpCode, SessionId};
use zk_server_lite::{AfterSwallow, ZkServer};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn serves_over_tcp() {
    let server = runtime().block_on(ZkServer::start()).unwrap();
    let (mut client, session) = Raw::session(server.addr().unwrap(), 5000);
    assert_eq!(session.timeout_ms, 5000);
    assert_eq!(client.create("/a", b"one", 0), ErrorCode::OK);
    assert_eq!(client.create("/a", b"one", 0), ErrorCode::NODE_EXISTS);
    assert_eq!(client.get("/a").as_deref(), Some(&b"one"[..]));
    assert_eq!(client.set("/a", b"two"), ErrorCode::OK);
    assert_eq!(client.get("/a").as_deref(), Some(&b"two"[..]));
    client.ping();
    assert_eq!(server.sessions(), [session.id]);
    assert_eq!(
        client.ask(OpCode::CLOSE_SESSION, &raw::Nothing).header.err,
        ErrorCode::OK
    );
    client.expect_closed();
    assert_eq!(server.sessions(), []);
}

#[test]
fn a_reattached_session_keeps_its_ephemerals_and_takes_the_old_connection() {
    let server = runtime().block_on(ZkServer::start()).unwrap();
    let address = server.addr().unwrap();
    let (mut first, session) = Raw::session(address, 5000);
    assert_eq!(first.create("/e", b"", 1), ErrorCode::OK);
    let mut second = Raw::connect(address);
    assert!(
        second
            .handshake(5000, session.id, &session.password)
            .is_some()
    );
    first.expect_closed();
    assert!(second.get("/e").is_some());
    let mut stranger = Raw::connect(address);
    assert!(stranger.handshake(5000, session.id, &[7; 16]).is_none());
    stranger.expect_closed();
    second.ping();
}

#[test]
fn stops_and_starts_again_on_the_same_port_with_the_same_data() {
    let runtime = runtime();
    let server = runtime.block_on(ZkServer::start()).unwrap();
    let address = server.addr().unwrap();
    let (mut client, session) = Raw::session(address, 5000);
    assert_eq!(client.create("/kept", b"x", 0), ErrorCode::OK);
    let stopped = runtime.block_on(server.stop());
    client.expect_closed();
    assert_eq!(stopped.failure(), None);
    let server = runtime.block_on(stopped.restart()).unwrap();
    assert_eq!(server.addr(), Some(address));
    let mut client = Raw::connect(address);
    assert!(
        client
            .handshake(5000, session.id, &session.password)
            .is_some(),
        "the session lives on"
    );
    assert_eq!(client.get("/kept").as_deref(), Some(&b"x"[..]));
    let stopped = runtime.block_on(server.crash());
    let server = runtime.block_on(stopped.restart()).unwrap();
    let (mut client, _) = Raw::session(server.addr().unwrap(), 5000);
    assert_eq!(client.get("/kept"), None, "memory does not survive a crash");
}

#[test]
fn several_in_a_process_and_drop_frees_the_port() {
    let runtime = runtime();
    let servers: Vec<_> = (0..4)
        .map(|_| runtime.block_on(ZkServer::start()).unwrap())
        .collect();
    for (number, server) in servers.iter().enumerate() {
        let (mut client, _) = Raw::session(server.addr().unwrap(), 5000);
        assert_eq!(
            client.create("/n", number.to_string().as_bytes(), 0),
            ErrorCode::OK
        );
    }
    for (number, server) in servers.iter().enumerate() {
        let (mut client, _) = Raw::session(server.addr().unwrap(), 5000);
        assert_eq!(
            client.get("/n").as_deref(),
            Some(number.to_string().as_bytes())
        );
    }
    let address = servers[0].addr().unwrap();
    drop(servers);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_pipe_inside_the_process_needs_no_port_and_no_moving_clock() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // The user's time is paused: the server's is not.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = ZkServer::builder().no_port().start().await.unwrap();
        assert_eq!(server.addr(), None);
        let mut pipe = server.connect_duplex();
        pipe.write_all(b"ruok").await.unwrap();
        let mut answer = String::new();
        pipe.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "imok");
        server.stop().await;
    });
}

#[test]
fn a_pipe_that_is_not_read_fills_and_goes_on_when_it_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    runtime().block_on(async {
        let server = ZkServer::builder().no_port().start().await.unwrap();
        let mut pipe = server.connect_duplex();
        let mut hello = vec![0, 0, 0, 45];
        hello.extend([0; 12]);
        hello.extend(5000_i32.to_be_bytes());
        hello.extend([0; 8]);
        hello.extend(16_i32.to_be_bytes());
        hello.extend([0; 17]);
        pipe.write_all(&hello).await.unwrap();
        let mut welcome = [0; 41];
        pipe.read_exact(&mut welcome).await.unwrap();
        pipe.write_all(&raw::request(
            1,
            OpCode::CREATE,
            &raw::create("/big", &[7; 50_000], 0),
        ))
        .await
        .unwrap();
        let get = zk_proto::session::PathWatchRequest {
            path: "/big".into(),
            watch: false,
        };
        for xid in 2..22 {
            pipe.write_all(&raw::request(xid, OpCode::GET_DATA, &get))
                .await
                .unwrap();
        }
        for xid in 1..22 {
            let length = pipe.read_u32().await.unwrap();
            let mut frame = vec![0; length as usize];
            pipe.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..4], i32::to_be_bytes(xid));
            assert_eq!(frame[12..16], [0; 4]);
        }
    });
}

#[test]
fn a_socket_that_is_not_read_fills_and_goes_on_when_it_is() {
    const REQUESTS: i32 = 400;
    let server = runtime().block_on(ZkServer::start()).unwrap();
    let (mut client, _) = Raw::session(server.addr().unwrap(), 5000);
    assert_eq!(client.create("/big", &[7; 50_000], 0), ErrorCode::OK);
    let get = zk_proto::session::PathWatchRequest {
        path: "/big".into(),
        watch: false,
    };
    // 20 MB of replies: more than sockets hold, and than may wait before requests are no longer read.
    for xid in 100..100 + REQUESTS {
        client.send_bytes(&raw::request(xid, OpCode::GET_DATA, &get));
    }
    for xid in 100..100 + REQUESTS {
        let reply = client.reply().expect("a reply");
        assert_eq!((reply.header.xid.0, reply.header.err), (xid, ErrorCode::OK));
    }
    assert_eq!(client.create("/more", b"", 0), ErrorCode::OK);
}

#[test]
fn fault_hooks_do_what_they_say() {
    let server = runtime().block_on(ZkServer::start()).unwrap();
    let address = server.addr().unwrap();
    let (mut client, session) = Raw::session(address, 5000);
    let (mut other, _) = Raw::session(address, 5000);

    // Swallowed, and cut: the write happened, nobody was told.
    server.swallow_next_reply(OpCode::CREATE, AfterSwallow::Cut);
    client.send(OpCode::CREATE, &raw::create("/swallowed", b"", 0));
    assert!(client.reply().is_none());
    assert!(other.get("/swallowed").is_some());
    let mut client = Raw::connect(address);
    assert!(
        client
            .handshake(5000, session.id, &session.password)
            .is_some()
    );

    // Cut: the session lives on.
    assert!(server.cut_connection(session.id));
    client.expect_closed();
    eventually("the connection is forgotten", || {
        !server.cut_connection(session.id)
    });
    let mut client = Raw::connect(address);
    assert!(
        client
            .handshake(5000, session.id, &session.password)
            .is_some()
    );

    // Expired: its ephemerals go and it cannot come back.
    assert_eq!(client.create("/e", b"", 1), ErrorCode::OK);
    assert!(server.expire_session(session.id));
    assert!(!server.expire_session(SessionId(7)));
    client.expect_closed();
    assert!(other.get("/e").is_none());
    let mut client = Raw::connect(address);
    assert!(
        client
            .handshake(5000, session.id, &session.password)
            .is_none()
    );

    // Refused, and no longer.
    server.refuse_connections(true);
    Raw::connect(address).expect_closed();
    server.refuse_connections(false);
    assert_eq!(word(address, "ruok"), "imok");

    // Delayed.
    let delay = std::time::Duration::from_millis(80);
    server.delay_replies(delay);
    let asked = std::time::Instant::now();
    other.ping();
    assert!(asked.elapsed() >= delay);
    server.delay_replies(std::time::Duration::ZERO);

    // Frozen: nothing is heard, and all of it later.
    server.freeze();
    other.send(OpCode::PING, &raw::Nothing);
    other
        .stream
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    let mut byte = [0];
    assert!(
        other.stream.peek(&mut byte).is_err(),
        "a frozen server answered"
    );
    other.stream.set_read_timeout(Some(raw::PATIENCE)).unwrap();
    server.thaw();
    assert!(other.reply().is_some());

    // Silence: open, and deaf.
    server.swallow_next_reply(OpCode::GET_DATA, AfterSwallow::Silence);
    other.send(
        OpCode::GET_DATA,
        &zk_proto::session::PathWatchRequest {
            path: "/".into(),
            watch: false,
        },
    );
    other
        .stream
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    let read = other.stream.peek(&mut byte);
    assert!(
        read.is_err(),
        "the connection is neither closed nor answered: {read:?}"
    );
}

#[test]
fn sessions_expire_by_themselves_and_pings_keep_them() {
    let server = runtime()
        .block_on(
            ZkServer::builder()
                .tick_time(std::time::Duration::from_millis(50))
                .start(),
        )
        .unwrap();
    let address = server.addr().unwrap();
    let (mut silent, _) = Raw::session(address, 200);
    let (mut lively, session) = Raw::session(address, 1000);
    assert_eq!(silent.create("/e", b"", 1), ErrorCode::OK);
    eventually("the silent one's node goes", || lively.get("/e").is_none());
    silent.expect_closed();
    assert_eq!(server.sessions(), [session.id]);
}
