//! Exhaustion in numbers (scenarios M9 to M11, M15): what many connections, watches, words and children cost, in memory and
//! descriptors of this process, server and clients together. One test at a time, since they measure the process.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod raw;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raw::{Raw, create, eventually, word};
use socket2::{Domain, Socket, Type};
use zk_proto::jute::Reader;
use zk_proto::session::{MultiOp, MultiRequest, PathRequest, PathWatchRequest};
use zk_proto::{ErrorCode, OpCode};
use zk_server_lite::ZkServer;
use zk_server_lite::config::{ServerConfig, Whitelist};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

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
fn is_served(witness: &mut Raw) {
    let made = witness.create("/witness", b"fine", 1);
    assert!([ErrorCode::OK, ErrorCode::NODE_EXISTS].contains(&made));
    assert_eq!(witness.set("/witness", b"fine"), ErrorCode::OK);
    assert_eq!(witness.get("/witness").as_deref(), Some(&b"fine"[..]));
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mntr(address: SocketAddr, key: &str) -> u64 {
    let text = word(address, "mntr");
    let start = format!("zk_{key}\t");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.expect(key).parse().unwrap()
}

/// A connection from one of the loopback's many addresses.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn fs_m9_500_silent_slow_and_half_open_connections_cost_their_limits_only() {
    let _turn = one_at_a_time();
    let server = start(|config| {
        config.sessionless_timeout = Duration::from_secs(4);
        config.max_client_cnxns = 100;
        config.max_cnxns = 300;
    });
    let address = server.addr().unwrap();
    let (mut witness, _) = Raw::session(address, 10_000);
    is_served(&mut witness);
    let (memory, open) = (resident_bytes(), descriptors());
    let begun = Instant::now();
    // 50 too many of one address, then 151 too many in all.
    let counts = [(2, 150), (3, 100), (4, 100), (5, 100), (6, 50)];
    let mut flood: Vec<_> = counts
        .iter()
        .flat_map(|(last, count)| (0..*count).map(|_| connect_from(*last, address)))
        .collect();
    assert_eq!(flood.len(), 500);
    eventually("those above the limits are turned away", || {
        is_served(&mut witness);
        closed_of(&mut flood) == 201
    });
    assert_eq!(descriptors(), open + 500 + 299);
    for (number, stream) in flood.iter_mut().enumerate() {
        stream.set_read_timeout(Some(raw::PATIENCE)).unwrap();
        match number % 3 {
            // Silent.
            0 => {}
            // The beginning of a handshake.
            1 => drop(stream.write_all(&[0, 0, 0, 45, 0])),
            // Half open: it will never send anything, but still listens.
            _ => drop(stream.shutdown(std::net::Shutdown::Write)),
        }
    }
    let grown = resident_bytes().saturating_sub(memory);
    println!(
        "299 connections without a session: {} bytes each",
        grown / 299
    );
    assert!(grown < 299 * 32 * 1024, "{grown} bytes for 299 connections");
    // Slow: a byte now and then moves no deadline, and does not make the 45 of a handshake.
    let mut sent = 0;
    while sent < 15 {
        is_served(&mut witness);
        if begun.elapsed() > Duration::from_millis(200) * sent {
            sent += 1;
            for stream in flood.iter_mut().skip(1).step_by(3) {
                let _ = stream.write_all(&[0]);
            }
        }
    }
    assert!(flood.iter_mut().all(is_closed));
    assert!(begun.elapsed() < Duration::from_secs(15));
    drop(flood);
    eventually("every descriptor is given back", || descriptors() <= open);
    assert_eq!(mntr(address, "connection_rejected"), 201);
    // Those that closed their sending side were seen off at once.
    let in_time = (0..100).chain(150..349).filter(|number| number % 3 != 2);
    let expired = mntr(address, "sessionless_connections_expired");
    assert_eq!(expired, in_time.count() as u64);
    is_served(&mut witness);
}

/// How many of these the server has closed.
fn closed_of(flood: &mut [TcpStream]) -> usize {
    let mut closed = 0;
    for stream in flood {
        stream.set_nonblocking(true).unwrap();
        closed += usize::from(is_closed(stream));
        stream.set_nonblocking(false).unwrap();
    }
    closed
}

/// Registers watches of nodes that are not there, a thousand requests at a time.
fn watch_all(client: &mut Raw, count: usize) {
    for from in (0..count).step_by(1000) {
        let mut frames = bytes::BytesMut::new();
        for number in from..from + 1000 {
            let path = format!("/app/config/item-{number:06}");
            let watch = PathWatchRequest {
                path: path.as_str().into(),
                watch: true,
            };
            frames.unsplit(raw::request(number as i32 + 1, OpCode::EXISTS, &watch));
        }
        client.send_bytes(&frames);
        for _ in 0..1000 {
            assert_eq!(client.reply().unwrap().header.err, ErrorCode::NO_NODE);
        }
    }
}

#[test]
fn fs_m10_100_000_watches_of_one_connection_cost_what_is_documented_and_go_with_it() {
    const COUNT: usize = 100_000;
    let _turn = one_at_a_time();
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let (mut witness, _) = Raw::session(address, 10_000);
    let (mut one, _) = Raw::session(address, 10_000);
    let (mut other, _) = Raw::session(address, 10_000);
    let before = resident_bytes();
    watch_all(&mut one, COUNT);
    let first = resident_bytes();
    assert_eq!(mntr(address, "watch_count"), COUNT as u64);
    watch_all(&mut other, COUNT);
    let second = resident_bytes();
    // Twice is once.
    watch_all(&mut one, COUNT);
    assert_eq!(mntr(address, "watch_count"), 2 * COUNT as u64);
    let each = |more: u64, less: u64| more.saturating_sub(less) / COUNT as u64;
    let (alone, shared) = (each(first, before), each(second, first));
    println!("bytes a watch: {alone} alone on its path, {shared} beside another's");
    assert!(alone < 400 && shared < 300, "{alone} {shared}");
    is_served(&mut witness);
    // One event each, and then none.
    assert_eq!(witness.create("/app", b"", 0), ErrorCode::OK);
    assert_eq!(witness.create("/app/config", b"", 0), ErrorCode::OK);
    let path = "/app/config/item-000007";
    assert_eq!(witness.create(path, b"", 0), ErrorCode::OK);
    for client in [&mut one, &mut other] {
        assert_eq!(client.reply().unwrap().header.xid.0, -1);
        client.ping();
    }
    assert_eq!(mntr(address, "watch_count"), 2 * (COUNT as u64 - 1));
    drop((one, other));
    eventually("they go with their connections", || {
        mntr(address, "watch_count") == 0
    });
    is_served(&mut witness);
}

#[test]
fn fs_m11_a_flood_of_split_unlisted_and_trailed_words_is_cheap_and_closed() {
    let _turn = one_at_a_time();
    let server = start(|config| {
        config.four_letter_words = Whitelist::Only(vec!["ruok".to_owned(), "srvr".to_owned()]);
        config.sessionless_timeout = Duration::from_secs(2);
    });
    let address = server.addr().unwrap();
    let (mut witness, _) = Raw::session(address, 10_000);
    is_served(&mut witness);
    let (memory, open) = (resident_bytes(), descriptors());
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for number in 0..250 {
                    let asked = ["ruok", "srvr", "mntr", "wchc", "dump"][number % 5];
                    let mut raw = Raw::connect(address);
                    let cut = random.usize(1..4);
                    raw.send_bytes(&asked.as_bytes()[..cut]);
                    raw.send_bytes(&asked.as_bytes()[cut..]);
                    if number % 7 == 0 {
                        // Behind a word comes nothing that counts. It may cost the answer, as with Java.
                        let _ = raw.stream.write_all(&vec![b'x'; 5000]);
                        raw.expect_closed();
                        continue;
                    }
                    let mut text = String::new();
                    raw.stream.read_to_string(&mut text).unwrap();
                    match asked {
                        "ruok" => assert_eq!(text, "imok"),
                        "srvr" => assert!(text.starts_with("Zookeeper version: "), "{text}"),
                        _ => assert_eq!(
                            text,
                            format!(
                                "{asked} is not executed because it is not in the whitelist.\n"
                            )
                        ),
                    }
                }
            });
        }
        for _ in 1..100 {
            is_served(&mut witness);
        }
    });
    // Words that never end, and answers that nobody reads.
    let mut left: Vec<_> = (0..200)
        .map(|number| {
            let mut raw = Raw::connect(address);
            raw.send_bytes(if number % 2 == 0 { b"ru" } else { b"srvr" });
            raw
        })
        .collect();
    is_served(&mut witness);
    left.iter_mut().for_each(Raw::expect_closed);
    drop(left);
    eventually("every descriptor is given back", || descriptors() <= open);
    let grown = resident_bytes().saturating_sub(memory);
    println!("1200 words: {grown} bytes");
    assert!(grown < 16 << 20, "{grown} bytes");
}

/// A million takes a minute without optimisation.
const CHILDREN: usize = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};

#[test]
fn fs_m15_a_listing_of_very_many_children_is_whole_and_others_are_served() {
    let _turn = one_at_a_time();
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let (mut client, _) = Raw::session(address, 30_000);
    let (mut witness, _) = Raw::session(address, 30_000);
    assert_eq!(client.create("/many", b"", 0), ErrorCode::OK);
    let before = resident_bytes();
    let begun = Instant::now();
    let mut tenths = Vec::new();
    for from in (0..CHILDREN).step_by(1000) {
        let paths: Vec<_> = (from..from + 1000)
            .map(|number| format!("/many/child-{number:08}"))
            .collect();
        let ops = paths
            .iter()
            .map(|path| MultiOp::Create(create(path, b"", 0)));
        let multi = MultiRequest { ops: ops.collect() };
        assert_eq!(client.ask(OpCode::MULTI, &multi).header.err, ErrorCode::OK);
        if (from + 1000) % (CHILDREN / 10) == 0 {
            tenths.push(begun.elapsed());
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "{CHILDREN} children: {} bytes each, tenths made after {tenths:?}",
        grown / CHILDREN as u64
    );
    let list = PathWatchRequest {
        path: "/many".into(),
        watch: false,
    };
    let begun = Instant::now();
    client.send(OpCode::GET_CHILDREN, &list);
    is_served(&mut witness);
    let reply = client.reply().unwrap();
    println!(
        "listed in {:?}, {} bytes",
        begun.elapsed(),
        reply.body.len()
    );
    assert_eq!(reply.header.err, ErrorCode::OK);
    let mut reader = Reader::new(&reply.body, "children");
    let count = reader.int("count").unwrap();
    assert_eq!(count as usize, CHILDREN);
    let name = "child-00000000".len();
    assert_eq!(reply.body.len(), 4 + CHILDREN * (4 + name));
    // The count alone costs nothing.
    let path = PathRequest {
        path: "/many".into(),
    };
    let counted = client.ask(OpCode::GET_ALL_CHILDREN_NUMBER, &path);
    assert_eq!(counted.body[..], (CHILDREN as i32).to_be_bytes());
    is_served(&mut witness);
}
