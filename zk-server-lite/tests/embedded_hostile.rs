//! Hostile input and exhaustion (scenarios M1 to M11): whatever comes in, the server lives, what it holds is bounded, and
//! other sessions are served.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod raw;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use raw::{Body, Raw, create, eventually, word};
use zk_proto::jute::Encode;
use zk_proto::session::PathWatchRequest;
use zk_proto::{ErrorCode, OpCode};
use zk_server_lite::ZkServer;
use zk_server_lite::config::ServerConfig;

fn start(change: impl FnOnce(&mut ServerConfig)) -> ZkServer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(ZkServer::builder().configure(change).start())
        .unwrap()
}

/// A session that must notice nothing.
struct Witness {
    client: Raw,
    count: u32,
}

impl Witness {
    fn new(address: SocketAddr) -> Self {
        let (client, _) = Raw::session(address, 10_000);
        Self { client, count: 0 }
    }

    fn is_served(&mut self) {
        self.count += 1;
        let path = format!("/witness{}", self.count);
        assert_eq!(self.client.create(&path, b"fine", 1), ErrorCode::OK);
        assert_eq!(self.client.get(&path).as_deref(), Some(&b"fine"[..]));
    }
}

#[test]
fn fs_m1_lengths_that_no_frame_has_end_the_connection() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    for length in [-1, i32::MIN, i32::MAX, 0x10_0000, 0] {
        let mut first = Raw::connect(address);
        first.send_bytes(&length.to_be_bytes());
        first.expect_closed();
        if length != 0 {
            let (mut later, _) = Raw::session(address, 5000);
            later.send_bytes(&length.to_be_bytes());
            later.expect_closed();
        }
    }
    // The largest allowed is allowed.
    let (mut client, _) = Raw::session(address, 5000);
    let xid = 7_i32;
    let mut frame = BytesMut::new();
    frame.put_i32(0xf_ffff);
    frame.put_i32(xid);
    frame.put_i32(OpCode::PING.0);
    frame.resize(4 + 0xf_ffff, 0);
    client.send_bytes(&frame);
    assert!(client.reply().is_some());
    witness.is_served();
}

#[test]
fn fs_m1_rubbish_of_every_kind_ends_the_connection_or_is_answered() {
    let server = start(|config| config.sessionless_timeout = Duration::from_millis(300));
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..random.usize(1..600)).map(|_| random.u8(..)).collect();
        let mut raw = Raw::connect(address);
        // The server may close before all of it is written.
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        raw.expect_closed();
    }
    for _ in 0..100 {
        let (mut raw, _) = Raw::session(address, 5000);
        let length = random.usize(8..300);
        let mut frame = BytesMut::new();
        frame.put_i32(length as i32);
        frame.extend((0..length).map(|_| random.u8(..)));
        let _ = raw.stream.write_all(&frame);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        raw.expect_closed();
    }
    witness.is_served();
}

#[test]
fn fs_m3_every_opcode_with_every_cut_of_a_body() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    let mut body = BytesMut::new();
    create("/m3", b"data", 0).encode(&mut body);
    for op in -128..=127 {
        // Closing is an answer too: then the rest goes on a new connection.
        let mut client = None;
        for cut in 0..=body.len() {
            let raw = client.get_or_insert_with(|| Raw::session(address, 10_000).0);
            let frame = raw::request(cut as i32 + 1, OpCode(op), &Body(&body[..cut]));
            if raw.stream.write_all(&frame).is_err() || raw.frame().is_none() {
                client = None;
                // An opcode that always closes is seen often enough.
                if cut > 3 {
                    break;
                }
            }
        }
        // Whatever was made goes away.
        let delete = zk_proto::session::DeleteRequest {
            path: "/m3".into(),
            version: -1,
        };
        let _ = witness.client.ask(OpCode::DELETE, &delete);
    }
    witness.is_served();
}

#[test]
fn fs_m9_silent_slow_and_half_open_connections_cost_their_limits_only() {
    let server = start(|config| {
        config.sessionless_timeout = Duration::from_millis(400);
        config.max_client_cnxns = 150;
    });
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    let mut floods: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for (number, stream) in floods.iter_mut().enumerate() {
        // Silent, or a handshake that never ends. Those above the limit may be closed by now.
        if number % 2 == 0 {
            let _ = stream.write_all(&[0, 0, 0, 45, 0]);
        }
    }
    witness.is_served();
    for mut stream in floods {
        stream.set_read_timeout(Some(raw::PATIENCE)).unwrap();
        let mut byte = [0];
        let read = stream.read(&mut byte);
        assert!(
            matches!(read, Ok(0))
                || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    witness.is_served();
    let mntr = word(address, "mntr");
    let value = |key: &str| -> u32 {
        let line = mntr
            .lines()
            .find(|line| line.starts_with(&format!("zk_{key}\t")))
            .unwrap();
        line.split('\t').nth(1).unwrap().parse().unwrap()
    };
    assert_eq!(
        value("connection_rejected"),
        51,
        "150 in all, one of them the witness"
    );
    assert_eq!(value("sessionless_connections_expired"), 149);
    assert_eq!(value("num_alive_connections"), 2);
}

#[test]
fn fs_m10_a_reader_that_never_reads_is_not_read_either_and_then_expires() {
    let server = start(|config| {
        config.tick_ms = 100;
        config.min_session_timeout = Some(500);
    });
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    let big = vec![7; 900_000];
    assert_eq!(witness.client.create("/big", &big, 0), ErrorCode::OK);
    let (mut deaf, session) = Raw::session(address, 500);
    deaf.stream.set_nonblocking(true).unwrap();
    let get = raw::request(
        1,
        OpCode::GET_DATA,
        &PathWatchRequest {
            path: "/big".into(),
            watch: false,
        },
    );
    // 40 bytes ask for 900,000: without a bound this is what fills a server.
    let mut asked = 0;
    eventually("the server stops reading it or gives it up", || {
        match deaf.stream.write(&get) {
            Ok(n) => asked += n / get.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
            Err(_) => return true,
        }
        !server.sessions().contains(&session.id) || asked > 5_000_000
    });
    eventually("its session ends", || {
        witness.client.ping();
        !server.sessions().contains(&session.id)
    });
    assert!(
        resident_kib() < 600 * 1024,
        "resident: {} KiB",
        resident_kib()
    );
    witness.is_served();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn fs_m10_timeouts_out_of_range_are_clamped() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    for (asked, given) in [
        (0, 1000),
        (-1, 1000),
        (i32::MIN, 1000),
        (i32::MAX, 10_000),
        (5000, 5000),
    ] {
        assert_eq!(Raw::session(address, asked).1.timeout_ms, given);
    }
}

#[test]
fn fs_m6_a_foreign_session_is_neither_given_nor_disturbed() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let (mut owner, session) = Raw::session(address, 10_000);
    for password in [&[][..], &[0; 16], &[1; 15], &[0xff; 1000]] {
        let mut thief = Raw::connect(address);
        assert!(thief.handshake(10_000, session.id, password).is_none());
        thief.expect_closed();
    }
    owner.ping();
    assert_eq!(owner.create("/mine", b"", 1), ErrorCode::OK);
}

#[test]
fn fs_m11_a_flood_of_words_harms_nobody() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let mut witness = Witness::new(address);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..100 {
                    let asked = ["ruok", "mntr", "cons", "dump", "wchp\r\n"][number % 5];
                    assert!(!word(address, asked).is_empty());
                }
            });
        }
        for _ in 0..50 {
            witness.is_served();
        }
    });
    // Split, then silent: it ends with the deadline, not before.
    let mut half = Raw::connect(address);
    half.send_bytes(b"ru");
    witness.is_served();
    half.send_bytes(b"ok");
    let mut text = String::new();
    half.stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "imok");
}

#[test]
fn maxcnxns_limits_all_together() {
    let server = start(|config| config.max_cnxns = 3);
    let address = server.addr().unwrap();
    let kept: Vec<_> = (0..3).map(|_| Raw::session(address, 5000)).collect();
    Raw::connect(address).expect_closed();
    drop(kept);
    eventually("room again", || word(address, "ruok") == "imok");
}
