//! Nobody there: each way of not being there ends in an error that says what was tried, within the bound.
//!
//! Real sockets where the operating system has a say (refused, unknown, dropped), a stopped clock where it has none.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::Fake;
use tokio::io::DuplexStream;
use tokio::time::Instant;
use zk_client::retry::{Retry, RetryForever, RetryNTimes};
use zk_client::{Client, Error, ErrorKind, OpCode, Outcome};

/// Short, for tests that wait for it in earnest.
const PATIENCE: Duration = Duration::from_millis(400);
/// What the builder promises.
const DEFAULT: Duration = Duration::from_secs(15);

/// What the error says was tried.
fn tried(error: &Error) -> &str {
    assert_eq!(error.outcome(), Outcome::NotDone, "{error}");
    assert!(error.is_retryable(), "{error}");
    match error.kind() {
        ErrorKind::Unreachable(tried) => tried,
        _ => panic!("{error}"),
    }
}

/// `connect` and a request both give up in time, and say `what` of `host`.
async fn both_give_up(host: &str, what: &str) {
    let builder = || Client::builder(host).unwrap().connect_patience(PATIENCE);
    let start = Instant::now();
    let error = builder().connect().await.unwrap_err();
    let told = format!("no server within 400ms: {host}: ");
    assert!(
        tried(&error).starts_with(&told) && tried(&error).contains(what),
        "{error}"
    );
    assert_eq!(error.op(), OpCode::CREATE_SESSION);
    let client = builder().start().unwrap();
    let error = client.create("/a", "").send().await.unwrap_err();
    assert!(
        tried(&error).starts_with(&told) && tried(&error).contains(what),
        "{error}"
    );
    assert_eq!((error.op(), error.path()), (OpCode::CREATE2, Some("/a")));
    let took = start.elapsed();
    // Twice, and as much again for a busy machine.
    assert!((2 * PATIENCE..10 * PATIENCE).contains(&took), "{took:?}");
    // Nor does the next one wait for ever.
    let error = client.exists("/").await.unwrap_err();
    tried(&error);
}

#[tokio::test]
async fn fs_c13_a_port_that_nobody_listens_on() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    both_give_up(&address.to_string(), "refused").await;
}

#[tokio::test]
async fn fs_c13_a_name_that_does_not_exist() {
    // What the resolver says differs from machine to machine; that it is told does not.
    both_give_up("name.invalid:2181", "").await;
}

#[tokio::test]
async fn fs_c5_a_host_that_drops_packets() {
    // A full backlog: the kernel ignores who comes then, as a firewall does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connecting).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(waiting.len() < 100, "the backlog is never full");
    }
    both_give_up(&address.to_string(), "no answer yet").await;
}

#[tokio::test]
async fn fs_c5_a_server_that_says_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let builder = Client::builder(&host)
        .unwrap()
        .session_timeout(Duration::from_millis(100))
        .connect_patience(PATIENCE);
    let error = builder.connect().await.unwrap_err();
    let tried = tried(&error);
    assert!(
        tried.ends_with("connected, but no handshake in time") || tried.ends_with("no answer yet"),
        "{error}"
    );
}

/// A client on a stopped clock, with a connector that `open`s; it takes a session only if the other end is served.
fn in_memory(
    open: impl Fn(DuplexStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> zk_client::ClientBuilder {
    Client::builder("in-memory").unwrap().connector(move |_| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        std::future::ready(open(theirs).map(|()| ours))
    })
}

#[tokio::test(start_paused = true)]
async fn by_default_a_request_waits_for_fifteen_seconds() {
    // The other ends are kept: a blackhole.
    let ends = std::sync::Mutex::new(Vec::new());
    let builder = in_memory(move |end| {
        ends.lock().unwrap().push(end);
        Ok(())
    });
    let client = builder.start().unwrap();
    let start = Instant::now();
    let error = client.exists("/").await.unwrap_err();
    assert_eq!(start.elapsed(), DEFAULT);
    assert_eq!(
        tried(&error),
        "no server within 15s: in-memory:2181: no answer yet"
    );
    let start = Instant::now();
    let error = client.add_auth("digest", "a:b").await.unwrap_err();
    assert_eq!(start.elapsed(), DEFAULT);
    assert!(
        tried(&error).contains("connected, but no handshake in time")
            || tried(&error).contains("no answer yet")
    );
    // With a policy every attempt waits, and a deadline bounds them all.
    let start = Instant::now();
    let second = Duration::from_secs(1);
    let patient = client.retrying(Retry::new(RetryNTimes::new(2, second)));
    tried(&patient.exists("/").await.unwrap_err());
    assert_eq!(start.elapsed(), 3 * DEFAULT + 2 * second);
    let start = Instant::now();
    let bounded = Retry::new(RetryForever::new(second)).deadline(DEFAULT * 2);
    let error = client.retrying(bounded).exists("/").await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::DeadlineExceeded),
        "{error}"
    );
    assert_eq!(start.elapsed(), DEFAULT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_requests_waits_no_longer_than_the_first() {
    let fake = Fake::start().await;
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (server, is_up) = (fake.clone(), up.clone());
    let builder = in_memory(move |end| {
        if !is_up.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::other("pulled out"));
        }
        tokio::spawn(server.clone().serve(end));
        Ok(())
    });
    let client = builder
        .session_timeout(Duration::from_secs(3600))
        .connect()
        .await
        .unwrap();
    let session = client.session_id();
    up.store(false, std::sync::atomic::Ordering::SeqCst);
    fake.cut();
    let mut state = client.state();
    state.wait_for(|state| !state.is_connected()).await.unwrap();
    // More than the session's task and its lane hold.
    let start = Instant::now();
    let requests: Vec<_> = (0..8_000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.create(format!("/{number}"), "").send().await })
        })
        .collect();
    for request in requests {
        let error = request.await.unwrap().unwrap_err();
        assert_eq!(
            tried(&error),
            "no server within 15s: in-memory:2181: pulled out"
        );
    }
    assert_eq!(start.elapsed(), DEFAULT);
    // None of them happens later; what is asked for now does.
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    client.create("/now", "").await.unwrap();
    assert_eq!(client.session_id(), session);
    assert_eq!(fake.names("/"), ["now"]);
    assert_eq!(fake.count(OpCode::CREATE2), 1);
}

#[tokio::test(start_paused = true)]
async fn fs_c6_after_a_lost_session_requests_wait_as_long() {
    let fake = Fake::start().await;
    let served = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (server, is_served) = (fake.clone(), served.clone());
    let builder = in_memory(move |end| {
        if is_served.load(std::sync::atomic::Ordering::SeqCst) {
            tokio::spawn(server.clone().serve(end));
        }
        Ok(())
    });
    let timeout = Duration::from_secs(6);
    let client = builder.session_timeout(timeout).connect().await.unwrap();
    served.store(false, std::sync::atomic::Ordering::SeqCst);
    fake.cut();
    let mut state = client.state();
    state.wait_for(|state| !state.is_connected()).await.unwrap();
    // The end of the session comes first, then the bound.
    let error = client.exists("/").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SessionExpired), "{error}");
    let start = Instant::now();
    let error = client.exists("/").await.unwrap_err();
    assert_eq!(start.elapsed(), DEFAULT);
    assert!(
        tried(&error).contains("the server closed the connection"),
        "{error}"
    );
    served.store(true, std::sync::atomic::Ordering::SeqCst);
    client.exists("/").await.unwrap();
}
