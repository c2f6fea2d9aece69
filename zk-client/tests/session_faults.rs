//! Connections that break: at every byte of a request and of a reply, without an answer, at the start, for too long.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::time::Duration;

use support::cutting::Cutter;
use support::{Fake, Fault, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zk_client::{Client, Error, ErrorKind, ExpiryPolicy, OpCode, Outcome, SessionId, SessionState};

/// Longer than any create's frame below.
const LONGEST_FRAME: usize = 100;

async fn cutting(fake: &Fake) -> (Client, Cutter) {
    let cutter = Cutter::default();
    let (address, streams) = (fake.address, cutter.clone());
    let client = Client::builder("fake")
        .unwrap()
        .reconnect_jitter(Duration::ZERO)
        .connector(move |_| {
            let streams = streams.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(streams.wrap(stream))
            }
        })
        .connect()
        .await
        .unwrap();
    (client, cutter)
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionLost) && error.outcome() == Outcome::Unknown
}

async fn until(client: &Client, wanted: impl FnMut(&SessionState) -> bool) -> SessionState {
    let mut state = client.state();
    let reached = tokio::time::timeout(Duration::from_secs(10), state.wait_for(wanted)).await;
    *reached.expect("the state is reached").unwrap()
}

/// A create with a plan for its connection; true if it was answered.
async fn create_and_check(fake: &Fake, client: &Client, cutter: &Cutter, path: &str) -> bool {
    let session = client.session_id();
    let result = client.create(path, "data").send().await;
    cutter.plan(|plan| (plan.write, plan.read) = (None, None));
    if let Err(error) = &result {
        assert!(is_lost(error), "{error}");
    }
    // The next request works, in the same session, and answers what was asked.
    let there = client.exists(path).await.unwrap().is_some();
    assert_eq!(client.session_id(), session);
    let asked = (OpCode::CREATE2, path.to_owned());
    let arrived = fake.log().iter().filter(|entry| **entry == asked).count();
    assert!(arrived <= 1, "sent {arrived} times");
    assert_eq!(there, arrived == 1);
    assert!(there || result.is_err(), "a success that did not happen");
    result.is_ok()
}

#[tokio::test]
async fn fs_c1_cut_at_every_byte_of_a_request() {
    let fake = Fake::start().await;
    let (client, cutter) = cutting(&fake).await;
    let mut answered = Vec::new();
    for bytes in 0..LONGEST_FRAME {
        cutter.plan(|plan| plan.write = Some(bytes));
        answered.push(create_and_check(&fake, &client, &cutter, &format!("/n{bytes:03}")).await);
    }
    // Never answered up to the last byte, always from there on.
    let whole = answered.iter().position(|ok| *ok).unwrap();
    assert!(
        whole > 40 && answered[whole..].iter().all(|ok| *ok),
        "{answered:?}"
    );
    assert!(cutter.plan(|plan| plan.cuts) >= whole);
}

#[tokio::test]
async fn fs_c1_cut_at_every_byte_of_a_reply() {
    let fake = Fake::start().await;
    let (client, cutter) = cutting(&fake).await;
    let mut answered = Vec::new();
    for bytes in 0..2 * LONGEST_FRAME {
        cutter.plan(|plan| plan.read = Some(bytes));
        answered.push(create_and_check(&fake, &client, &cutter, &format!("/n{bytes:03}")).await);
    }
    let whole = answered.iter().position(|ok| *ok).unwrap();
    assert!(
        whole > 60 && answered[whole..].iter().all(|ok| *ok),
        "{answered:?}"
    );
}

#[tokio::test]
async fn fs_c1_cut_at_every_byte_of_the_handshake() {
    let fake = Fake::start().await;
    let (client, cutter) = cutting(&fake).await;
    client.create("/a", "").await.unwrap();
    let session = client.session_id();
    for bytes in 0..49 {
        cutter.plan(|plan| plan.write = Some(bytes));
        fake.cut();
        // Without an outcome: a read that is repeated by hand.
        while client.exists("/a").await.is_err() {}
        cutter.plan(|plan| (plan.write, plan.read) = (None, Some(bytes)));
        fake.cut();
        while client.exists("/a").await.is_err() {}
        cutter.plan(|plan| plan.read = None);
        assert_eq!(client.session_id(), session, "after {bytes} bytes");
    }
}

#[tokio::test]
async fn fs_c5_a_swallowed_reply_is_noticed_by_the_clock() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .session_timeout(Duration::from_millis(600))
        .connect()
        .await
        .unwrap();
    let session = client.session_id();
    // Neither the request nor the pings behind it are answered.
    fake.fault(OpCode::CREATE2, Fault::Silence);
    for _ in 0..4 {
        fake.fault(OpCode::PING, Fault::Silence);
    }
    let error = client.create("/a", "").send().await.unwrap_err();
    assert!(is_lost(&error), "{error}");
    assert_eq!((error.op(), error.path()), (OpCode::CREATE2, Some("/a")));
    fake.forget_faults();
    client.create("/a", "").await.unwrap();
    assert_eq!(client.session_id(), session);
}

#[tokio::test]
async fn a_session_ends_by_the_clock_and_the_next_one_begins() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .session_timeout(Duration::from_millis(600))
        .connect()
        .await
        .unwrap();
    let mut events = client.session_events();
    let session = client.session_id();
    fake.accept(false);
    fake.cut();
    until(&client, |state| {
        *state == SessionState::Suspended { session }
    })
    .await;
    let error = client.exists("/").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SessionExpired), "{error}");
    assert_eq!(error.outcome(), Outcome::NotDone);
    assert_eq!(client.current_state(), SessionState::Lost { session });
    fake.accept(true);
    let state = until(&client, SessionState::is_connected).await;
    assert_ne!(state.session(), Some(session));
    client.exists("/").await.unwrap();
    assert_eq!(
        events.next().await,
        Some(SessionState::Suspended { session })
    );
    assert_eq!(events.next().await, Some(SessionState::Lost { session }));
    assert_eq!(events.next().await, Some(state));
    client.close().await.unwrap();
    assert_eq!(events.next().await, Some(SessionState::Closed));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn fs_c6_an_expired_session_is_replaced_or_not_as_told() {
    let fake = Fake::start().await;
    let client = connect(&fake).await;
    let session = client.session_id();
    fake.expire_all();
    let state = until(&client, |state| {
        state.is_connected() && state.session() != Some(session)
    })
    .await;
    assert!(state.session() > Some(session));

    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .on_expiry(ExpiryPolicy::End)
        .connect()
        .await
        .unwrap();
    let session = client.session_id();
    fake.expire_all();
    until(&client, |state| *state == SessionState::Lost { session }).await;
    let error = client.exists("/").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::SessionExpired), "{error}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn fs_c13_dead_hosts_are_passed_over() {
    let fake = Fake::start().await;
    // Ports that nobody listens on, and a name that does not exist.
    let mut hosts = vec!["name.invalid:1".to_owned(), fake.address.to_string()];
    for _ in 0..2 {
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        hosts.push(unused.local_addr().unwrap().to_string());
    }
    for seed in 0..8 {
        let builder = Client::builder(hosts.join(",")).unwrap().seed(seed);
        let client = builder.connect().await.unwrap();
        assert_ne!(client.session_id(), SessionId(0));
    }
}

#[tokio::test]
async fn fs_c13_every_address_of_a_name_is_tried() {
    let fake = Fake::start().await;
    // Where the name stands for more than one address, the others refuse.
    let host = format!("localhost:{}", fake.address.port());
    for _ in 0..4 {
        let client = Client::connect(&host).await.unwrap();
        client.exists("/").await.unwrap();
    }
}

#[tokio::test]
async fn fs_c17_from_a_read_only_server_to_one_that_takes_writes() {
    let (cut_off, full) = (Fake::start().await, Fake::start().await);
    cut_off.read_only(true);
    full.accept(false);
    let hosts = format!("{},{}", cut_off.address, full.address);
    // Nobody is given a read-only server who did not ask for it.
    let patience = Duration::from_millis(300);
    let strict = Client::builder(&hosts).unwrap().connect_patience(patience);
    assert!(strict.connect().await.is_err());
    let client = Client::builder(&hosts)
        .unwrap()
        .allow_read_only(true)
        .connect()
        .await
        .unwrap();
    let reading = until(&client, SessionState::is_connected).await;
    let session = reading.session().unwrap();
    assert_eq!(
        reading,
        SessionState::Connected {
            session,
            read_only: true
        }
    );
    client.exists("/").await.unwrap();
    let unseen = client.trusted_for();
    assert!(
        unseen.is_zero(),
        "the others may end the session: {unseen:?}"
    );
    let (_, watch) = client.exists("/a").watch().await.unwrap();
    // What took place on the other side of the cut: its first session has another number.
    full.accept(true);
    Client::connect(full.address.to_string()).await.unwrap();
    let writing = until(
        &client,
        |state| matches!(state, SessionState::Connected { read_only, .. } if !read_only),
    )
    .await;
    assert_ne!(
        writing.session(),
        Some(session),
        "what it gave out is unknown here"
    );
    assert!(!client.trusted_for().is_zero());
    // The watch has come along.
    client.create("/a", "").await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch)
        .await
        .unwrap();
    assert!(!event.is_end());
    assert_eq!(full.names("/"), ["a"]);
}

#[tokio::test]
async fn what_is_no_option_is_refused() {
    assert!(Client::connect("").await.is_err());
    let builder = Client::builder("a")
        .unwrap()
        .session_timeout(Duration::ZERO);
    assert!(builder.connect().await.is_err());
}

#[tokio::test]
async fn a_stream_of_the_users_own_carries_a_session() {
    let fake = Fake::start().await;
    let server = fake.clone();
    let client = Client::builder("in-process:7/app")
        .unwrap()
        .connector(move |host| {
            assert_eq!(host.to_string(), "in-process:7");
            let (ours, theirs) = tokio::io::duplex(64);
            tokio::spawn(server.clone().serve(theirs));
            std::future::ready(Ok(ours))
        })
        .connect()
        .await
        .unwrap();
    fake.change(|tree| tree.create("/app", "", zk_client::CreateMode::Persistent, 0))
        .unwrap();
    // Longer than the stream's own buffer, both ways.
    let data = "x".repeat(10_000);
    client.create("/a", data.clone()).await.unwrap();
    fake.cut();
    let node = loop {
        if let Ok(node) = client.get_data("/a").send().await {
            break node;
        }
    };
    assert_eq!(node.data, data);
    assert_eq!(fake.names("/app"), ["a"]);
}

#[tokio::test]
async fn fs_c14_a_hostile_server_costs_a_connection() {
    let fake = Fake::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hostile: [&'static [u8]; 5] = [
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff garbage",
        b"\0\0\0\x25 this is no connect response at all",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ];
    let bad = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in hostile.iter().cycle() {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 49];
            let _ = socket.read_exact(&mut request).await;
            let _ = socket.write_all(answer).await;
        }
    });
    let client = Client::builder(format!("{bad},{}", fake.address)).unwrap();
    let client = client.seed(1).connect().await.unwrap();
    for _ in 0..8 {
        fake.cut();
        while client.exists("/").await.is_err() {}
    }
}

#[tokio::test]
async fn credentials_go_out_on_every_connection_and_are_not_shown() {
    let fake = Fake::start().await;
    let builder = Client::builder(fake.address.to_string())
        .unwrap()
        .auth("digest", "bob:hunter2");
    assert!(!format!("{builder:?}").contains("hunter2"));
    let client = builder.connect().await.unwrap();
    client.add_auth("digest", "eve:hunter3").await.unwrap();
    assert_eq!(fake.count(OpCode::AUTH), 2);
    fake.cut();
    while client.exists("/").await.is_err() {}
    assert_eq!(fake.count(OpCode::AUTH), 4);
    let shown = format!("{client:?}");
    assert!(!shown.contains("hunter"), "{shown}");
}
