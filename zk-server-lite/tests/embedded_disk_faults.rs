//! A whole server on a disk that fails, is full, or is slow (scenarios D7 to D9): what was not forced is not acknowledged,
//! what was acknowledged is there again, and nothing is there by half.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod failing_disk;
mod raw;

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use failing_disk::{Call, FailingDisk, Role};
use raw::{Raw, create, eventually, word};
use tokio::runtime::Runtime;
use zk_proto::session::{MultiOp, MultiRequest, PathWatchRequest};
use zk_proto::{ErrorCode, OpCode};
use zk_server_lite::config::ServerConfig;
use zk_server_lite::storage::Disk;
use zk_server_lite::storage::memory::Crash;
use zk_server_lite::{Failure, StartError, ZkServer};

/// A server's directory on a disk that fails. Its lock is a real file.
struct Place {
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { runtime, dir }
    }

    fn try_start(
        &self,
        disk: &FailingDisk,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Result<ZkServer, StartError> {
        let builder = ZkServer::builder()
            .data_dir(self.dir.path())
            // Zero-filling ahead would fail or be held in the log's stead.
            .configure(|config| config.pre_alloc_kb = 0)
            .configure(change)
            .on_disk(Arc::new(disk.clone()));
        self.runtime.block_on(builder.start())
    }

    fn start(&self, disk: &FailingDisk) -> ZkServer {
        self.try_start(disk, |_| ()).unwrap()
    }

    /// Waits until the server ends by itself; says why, and that it is really gone.
    fn wait_for_failure(&self, server: ZkServer) -> Failure {
        let address = server.addr().unwrap();
        let failure = self.runtime.block_on(async {
            let failed = tokio::time::timeout(raw::PATIENCE, server.failed()).await;
            failed.expect("it ends by itself")
        });
        let stopped = self.runtime.block_on(server.stop());
        assert_eq!(stopped.failure(), failure.as_ref());
        assert!(std::net::TcpStream::connect(address).is_err());
        failure.expect("a reason")
    }

    fn names(&self, disk: &FailingDisk, start: &str) -> Vec<String> {
        let mut names = disk.list(&self.dir.path().join("version-2")).unwrap();
        names.retain(|name| name.starts_with(start));
        names
    }

    /// Starts on what each crash left, and asks.
    fn after(&self, crashes: Vec<(Crash, FailingDisk)>, ask: impl Fn(Crash, &mut Raw)) {
        for (crash, disk) in crashes {
            let server = self.start(&disk);
            let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
            ask(crash, &mut client);
        }
    }
}

/// What every crash of this moment leaves.
fn every_crash(disk: &FailingDisk) -> Vec<(Crash, FailingDisk)> {
    let crashes = [Crash::LoseAll, Crash::KeepAll].into_iter();
    let crashes = crashes.chain((0..12).map(Crash::Tear));
    crashes.map(|crash| (crash, disk.crash(crash))).collect()
}

fn get(path: &str) -> PathWatchRequest<'_> {
    PathWatchRequest {
        path: path.into(),
        watch: false,
    }
}

/// Two nodes or none.
fn pair() -> MultiRequest<'static> {
    MultiRequest {
        ops: vec![
            MultiOp::Create(create("/pair-one", b"1", 0)),
            MultiOp::Create(create("/pair-two", b"2", 0)),
        ],
    }
}

/// Sends writes that cannot become durable; nothing but the end of the connection may come back.
fn write_in_vain(client: &mut Raw) {
    // At once: the server may be gone before a second piece arrives.
    let mut frames = raw::request(101, OpCode::CREATE, &create("/lost", b"x", 0));
    frames.unsplit(raw::request(102, OpCode::MULTI, &pair()));
    // Waits behind them, as it must see them.
    frames.unsplit(raw::request(103, OpCode::GET_DATA, &get("/kept")));
    client.send_bytes(&frames);
    assert!(client.reply().is_none(), "an unforced write was answered");
}

fn mntr(address: SocketAddr, key: &str) -> u64 {
    let text = word(address, "mntr");
    let start = format!("zk_{key}\t");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.expect(key).parse().unwrap()
}

/// A failing call of the log: from the client's success before it to what is found after every way to come back.
fn the_log_fails(call: Call, error: io::ErrorKind, force_sync: bool) {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place
        .try_start(&disk, |config| config.force_sync = force_sync)
        .unwrap();
    let address = server.addr().unwrap();
    let (mut client, session) = Raw::session(address, 10_000);
    assert_eq!(client.create("/kept", b"one", 0), ErrorCode::OK);
    assert_eq!(client.set("/kept", b"two"), ErrorCode::OK);
    let (mut reader, _) = Raw::session(address, 10_000);
    // Reads that were asked for before the write that fails are answered, and right.
    for _ in 0..10 {
        reader.send(OpCode::GET_DATA, &get("/kept"));
        reader.send(OpCode::EXISTS, &get("/lost"));
    }
    for _ in 0..10 {
        let reply = reader.reply().unwrap();
        assert_eq!(reply.header.err, ErrorCode::OK);
        assert_eq!(reply.body[..7], *b"\0\0\0\x03two");
        assert_eq!(reader.reply().unwrap().header.err, ErrorCode::NO_NODE);
    }
    disk.fail(Role::Log, call, error, 1);
    write_in_vain(&mut client);
    reader.expect_closed();
    let failure = place.wait_for_failure(server);
    let Failure::Disk(text) = &failure else {
        panic!("{failure}");
    };
    let reason = io::Error::from(error).to_string();
    assert!(
        text.contains("version-2/log.1") && text.contains(&reason),
        "it says what, where and why: {text}"
    );
    assert_eq!(disk.failures(), 1, "and nothing was tried again");

    // What a crash finds: all that was acknowledged, and of the rest whole transactions.
    if force_sync {
        place.after(every_crash(&disk), |cut, client| {
            assert_eq!(client.get("/kept").as_deref(), Some(&b"two"[..]), "{cut:?}");
            let whole = (client.get("/pair-one"), client.get("/pair-two"));
            assert_eq!(whole.0.is_some(), whole.1.is_some(), "{cut:?}");
            assert!(
                whole.0.is_none() || client.get("/lost").is_some(),
                "{cut:?}"
            );
        });
    }
    // The same directory, as the next process finds it.
    let server = place.start(&disk);
    let address = server.addr().unwrap();
    let mut client = Raw::connect(address);
    assert!(
        client
            .handshake(10_000, session.id, &session.password)
            .is_some(),
        "the session was acknowledged too"
    );
    assert_eq!(client.get("/kept").as_deref(), Some(&b"two"[..]));
    assert_eq!(
        client.get("/pair-one").is_some(),
        client.get("/pair-two").is_some()
    );
    let seen = client.get("/lost").is_some();
    assert_eq!(client.create("/after", b"", 0), ErrorCode::OK);
    drop(server);
    // What it has shown and acknowledged since rests on nothing that was never forced.
    place.after(every_crash(&disk), |cut, client| {
        assert_eq!(client.get("/kept").as_deref(), Some(&b"two"[..]), "{cut:?}");
        assert_eq!(client.get("/lost").is_some(), seen, "{cut:?}");
        assert!(client.get("/after").is_some(), "{cut:?}");
    });
}

#[test]
fn fs_d7_a_force_that_fails_acknowledges_nothing_and_ends_the_server() {
    the_log_fails(Call::Force, io::ErrorKind::Other, true);
}

#[test]
fn fs_d7_a_write_that_fails_acknowledges_nothing_and_ends_the_server() {
    the_log_fails(Call::Write, io::ErrorKind::Other, true);
}

#[test]
fn fs_d7_a_write_that_fails_ends_a_server_that_does_not_force_too() {
    the_log_fails(Call::Write, io::ErrorKind::Other, false);
}

#[test]
fn fs_d8_a_disk_that_fills_under_the_log_acknowledges_nothing_and_ends_the_server() {
    the_log_fails(Call::Write, io::ErrorKind::StorageFull, true);
}

#[test]
fn fs_d7_nothing_is_seen_of_a_write_whose_force_is_under_way_or_failed() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place.start(&disk);
    let address = server.addr().unwrap();
    let (mut writer, _) = Raw::session(address, 10_000);
    assert_eq!(writer.create("/kept", b"one", 0), ErrorCode::OK);
    let (mut reader, _) = Raw::session(address, 10_000);
    disk.hold(Role::Log, Call::Force);
    writer.send(OpCode::CREATE, &create("/lost", b"", 0));
    disk.wait_until_held();
    for _ in 0..20 {
        assert_eq!(reader.get("/lost"), None);
        assert_eq!(reader.get("/kept").as_deref(), Some(&b"one"[..]));
    }
    disk.fail(Role::Log, Call::Force, io::ErrorKind::Other, 1);
    disk.release();
    assert!(writer.reply().is_none());
    reader.expect_closed();
    place.wait_for_failure(server);
}

#[test]
fn fs_d8_a_log_that_fills_the_disk_comes_back_with_all_that_was_acknowledged() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place.start(&disk);
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    assert_eq!(client.create("/n", b"", 0), ErrorCode::OK);
    // Room for some writes, not for all: where it ends is wherever an entry happens to be.
    let used: usize = place
        .names(&disk, "")
        .iter()
        .map(|name| {
            let path = place.dir.path().join("version-2").join(name);
            disk.memory.content(&path).unwrap().len()
        })
        .sum();
    disk.memory.set_capacity(Some(used as u64 + 5000));
    let mut acknowledged = 0;
    for number in 0..200 {
        let path = format!("/n/{number}");
        client.send(OpCode::CREATE, &create(&path, &[7; 100], 0));
        let Some(reply) = client.reply() else { break };
        assert_eq!(reply.header.err, ErrorCode::OK);
        acknowledged += 1;
    }
    assert!((10..50).contains(&acknowledged), "{acknowledged}");
    let failure = place.wait_for_failure(server);
    let full = io::Error::from(io::ErrorKind::StorageFull).to_string();
    assert!(failure.to_string().contains(&full), "{failure}");
    let has_all = |client: &mut Raw| {
        (0..acknowledged).all(|number| client.get(&format!("/n/{number}")).is_some())
    };
    place.after(every_crash(&disk), |cut, client| {
        assert!(has_all(client), "{cut:?}")
    });

    // Still full: a start that has to write (here the session of its first client) ends the same way.
    disk.memory.set_capacity(Some(0));
    let server = place.start(&disk);
    let mut client = Raw::connect(server.addr().unwrap());
    client.send_record(&zk_proto::session::ConnectRequest {
        timeout: 10_000,
        ..Default::default()
    });
    assert!(client.frame().is_none(), "no session without a log entry");
    place.wait_for_failure(server);
    // Room again.
    disk.memory.set_capacity(None);
    let server = place.start(&disk);
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    assert!(has_all(&mut client));
    assert_eq!(client.create("/n/after", b"", 0), ErrorCode::OK);
}

#[test]
fn fs_d8_a_new_directory_on_a_full_disk_is_refused_by_name_and_begun_when_there_is_room() {
    let place = Place::new();
    for (role, call) in [
        (Role::Secret, Call::Create),
        (Role::Secret, Call::Write),
        (Role::Secret, Call::Force),
        (Role::Snapshot, Call::Create),
        (Role::Snapshot, Call::Write),
        (Role::Snapshot, Call::Force),
        (Role::Snapshot, Call::Rename),
    ] {
        let disk = FailingDisk::default();
        disk.fail(role, call, io::ErrorKind::StorageFull, 1);
        let error = place.try_start(&disk, |_| ()).unwrap_err();
        assert_eq!(disk.failures(), 1, "{role:?} {call:?}");
        assert!(matches!(error, StartError::Storage(_)), "{error}");
        let text = error.to_string();
        let full = io::Error::from(io::ErrorKind::StorageFull).to_string();
        assert!(text.contains(&full) && text.contains("version-2"), "{text}");
        assert!(error.source().is_none(), "the text has it all");
        for disk in [disk.crash(Crash::LoseAll), disk] {
            let server = place.start(&disk);
            let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
            assert_eq!(client.create("/a", b"", 0), ErrorCode::OK);
            assert_eq!(place.names(&disk, "next-"), [""; 0], "{role:?} {call:?}");
        }
    }
}

#[test]
fn fs_d8_a_snapshot_that_fails_is_reported_tried_again_and_loses_nothing() {
    for call in [Call::Create, Call::Write, Call::Force, Call::Rename] {
        let place = Place::new();
        let disk = FailingDisk::default();
        let server = place
            .try_start(&disk, |config| config.snap_count = 10)
            .unwrap();
        let address = server.addr().unwrap();
        let (mut client, _) = Raw::session(address, 10_000);
        disk.fail(Role::Snapshot, call, io::ErrorKind::StorageFull, usize::MAX);
        let mut made = 0;
        eventually("two snapshots fail", || {
            let path = format!("/n{made}");
            assert_eq!(client.create(&path, b"x", 0), ErrorCode::OK);
            made += 1;
            mntr(address, "snapshot_error_count") >= 2
        });
        assert_eq!(place.names(&disk, "snapshot."), ["snapshot.0"]);
        assert_eq!(place.names(&disk, "next-snapshot"), [""; 0]);
        let (without, made_without) = (every_crash(&disk), made);
        disk.heal();
        eventually("the next one succeeds", || {
            let path = format!("/n{made}");
            assert_eq!(client.create(&path, b"x", 0), ErrorCode::OK);
            made += 1;
            place.names(&disk, "snapshot.").len() > 1
        });
        drop(server);
        for (crashes, made) in [(without, made_without), (every_crash(&disk), made)] {
            place.after(crashes, |cut, client| {
                for number in 0..made {
                    let there = client.get(&format!("/n{number}")).is_some();
                    assert!(there, "{call:?} {cut:?} {number}");
                }
            });
        }
    }
}

#[test]
fn fs_d9_a_slow_force_delays_its_writes_and_neither_reads_nor_pings_nor_sessions() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place
        .try_start(&disk, |config| {
            config.tick_ms = 50;
            config.min_session_timeout = Some(100);
        })
        .unwrap();
    let address = server.addr().unwrap();
    let (mut writer, wrote) = Raw::session(address, 400);
    let (mut reader, read) = Raw::session(address, 400);
    assert_eq!(reader.create("/e", b"one", 1), ErrorCode::OK);
    disk.hold(Role::Log, Call::Force);
    let xid = writer.send(OpCode::CREATE, &create("/slow", b"", 1));
    disk.wait_until_held();
    // Four times as long as both sessions may be silent; that it lasts is what is tested.
    let begun = std::time::Instant::now();
    let mut pings = 0;
    while begun.elapsed() < Duration::from_millis(1600) {
        reader.ping();
        assert_eq!(reader.get("/e").as_deref(), Some(&b"one"[..]));
        assert_eq!(reader.get("/slow"), None);
        // Its answer waits behind the write; the ping itself counts.
        if begun.elapsed() > Duration::from_millis(50) * pings {
            writer.send_bytes(&raw::request(-2, OpCode::PING, &raw::Nothing));
            pings += 1;
        }
    }
    assert_eq!(server.sessions(), [wrote.id, read.id]);
    disk.release();
    let reply = writer.reply().unwrap();
    assert_eq!((reply.header.xid.0, reply.header.err), (xid, ErrorCode::OK));
    assert_eq!(reader.get("/slow").as_deref(), Some(&b""[..]));
    assert_eq!(reader.get("/e").as_deref(), Some(&b"one"[..]));
}

#[test]
fn fs_d9_a_session_that_is_not_read_because_the_disk_is_slow_does_not_expire() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place
        .try_start(&disk, |config| {
            config.tick_ms = 50;
            config.min_session_timeout = Some(100);
            config.global_outstanding_limit = 10;
        })
        .unwrap();
    let address = server.addr().unwrap();
    let (mut writer, wrote) = Raw::session(address, 400);
    let (mut idle, idled) = Raw::session(address, 400);
    let (mut reader, read) = Raw::session(address, 400);
    assert_eq!(writer.create("/e", b"", 1), ErrorCode::OK);
    idle.ping();
    disk.hold(Role::Log, Call::Force);
    // More than may be in process: nothing of this connection is read any more, its pings included.
    let mut frames = bytes::BytesMut::new();
    for number in 0..20 {
        let request = create("/n-", b"", 2);
        frames.unsplit(raw::request(number + 100, OpCode::CREATE, &request));
    }
    writer.send_bytes(&frames);
    eventually("they are in process", || {
        mntr(address, "outstanding_requests") == 20
    });
    let begun = std::time::Instant::now();
    let mut pings = 0;
    while begun.elapsed() < Duration::from_millis(1600) {
        reader.ping();
        if begun.elapsed() > Duration::from_millis(50) * pings {
            writer.send_bytes(&raw::request(-2, OpCode::PING, &raw::Nothing));
            pings += 1;
        }
    }
    disk.release();
    for number in 0..20 {
        let reply = writer.reply().unwrap();
        assert_eq!(reply.header.xid.0, number + 100);
        assert_eq!(reply.header.err, ErrorCode::OK);
    }
    // One that is read and says nothing ends as ever.
    eventually("the idle one ends", || {
        reader.ping();
        writer.send_bytes(&raw::request(-2, OpCode::PING, &raw::Nothing));
        writer.reply().unwrap();
        !server.sessions().contains(&idled.id)
    });
    assert_eq!(server.sessions(), [wrote.id, read.id]);
    assert!(reader.get("/e").is_some());
}

#[test]
fn fs_d9_a_slow_snapshot_delays_nobody() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place
        .try_start(&disk, |config| config.snap_count = 10)
        .unwrap();
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    disk.hold(Role::Snapshot, Call::Force);
    for number in 0..200 {
        let path = format!("/n{number}");
        assert_eq!(client.create(&path, b"", 0), ErrorCode::OK);
    }
    disk.wait_until_held();
    assert_eq!(place.names(&disk, "snapshot."), ["snapshot.0"]);
    disk.release();
    eventually("it is written", || {
        place.names(&disk, "snapshot.").len() == 2
    });
}

#[test]
fn fs_d10_a_stop_while_a_snapshot_is_written_leaves_nothing_of_it() {
    let place = Place::new();
    let disk = FailingDisk::default();
    let server = place
        .try_start(&disk, |config| config.snap_count = 10)
        .unwrap();
    let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
    disk.hold(Role::Snapshot, Call::Write);
    for number in 0..20 {
        let path = format!("/n{number}");
        assert_eq!(client.create(&path, b"", 0), ErrorCode::OK);
    }
    disk.wait_until_held();
    let torn = disk.crash(Crash::KeepAll);
    let stopping = std::thread::spawn(move || drop(server));
    disk.release();
    stopping.join().unwrap();
    client.expect_closed();
    for disk in [disk, torn] {
        let server = place.start(&disk);
        assert_eq!(place.names(&disk, "next-"), [""; 0]);
        let (mut client, _) = Raw::session(server.addr().unwrap(), 10_000);
        for number in 0..20 {
            assert!(client.get(&format!("/n{number}")).is_some());
        }
    }
}
