//! The real binary: killed, stopped, refused.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod raw;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use raw::{Raw, Reply, create};
use zk_proto::{ErrorCode, OpCode};

/// A running binary; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(dir: &Path, more: &str) -> Command {
    let file = dir.join("zoo.cfg");
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let text = format!(
        "tickTime=500\ndataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\n{more}",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_zk-server"));
    command
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(dir: &Path, more: &str) -> Process {
    let mut child = command(dir, more).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("ready on ")
        .expect("a ready line")
        .parse()
        .unwrap();
    Process { child, address }
}

/// Creates nodes, many at a time, until told to stop; says how many were acknowledged for sure.
fn create_until_cut(address: SocketAddr, kill: impl FnOnce()) -> i32 {
    const WINDOW: i32 = 64;
    let (mut client, _) = Raw::session(address, 10_000);
    let mut kill = Some(kill);
    let (mut asked, mut answered) = (0, 0);
    loop {
        while asked < answered + WINDOW {
            let path = format!("/n{asked}");
            let frame = raw::request(asked, OpCode::CREATE, &create(&path, &[b'x'; 200], 0));
            if std::io::Write::write_all(&mut client.stream, &frame).is_err() {
                return answered;
            }
            asked += 1;
        }
        if answered == 1000
            && let Some(kill) = kill.take()
        {
            kill();
        }
        let Some(Reply { header, .. }) = client.reply() else {
            return answered;
        };
        assert_eq!((header.xid.0, header.err), (answered, ErrorCode::OK));
        answered += 1;
    }
}

#[test]
fn fs_d1_nothing_acknowledged_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..3 {
        let data = tempfile::tempdir_in(dir.path()).unwrap();
        let mut process = start(data.path(), "snapCount=400\n");
        let address = process.address;
        acknowledged += create_until_cut(address, || process.child.kill().unwrap());
        drop(process);
        let process = start(data.path(), "");
        let (mut client, _) = Raw::session(process.address, 10_000);
        let lost = (0..1000)
            .filter(|n| client.get(&format!("/n{n}")).is_none())
            .count();
        assert_eq!(lost, 0, "round {round}");
    }
    assert!(acknowledged >= 3000);
}

#[test]
fn sigterm_ends_it_cleanly_and_everything_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = start(dir.path(), "");
    let (mut client, session) = Raw::session(process.address, 10_000);
    assert_eq!(client.create("/a", b"one", 0), ErrorCode::OK);
    assert_eq!(client.create("/e", b"", 1), ErrorCode::OK);
    let kill = Command::new("kill")
        .arg("-TERM")
        .arg(process.child.id().to_string())
        .status()
        .unwrap();
    assert!(kill.success());
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    client.expect_closed();
    let process = start(dir.path(), "");
    let mut client = Raw::connect(process.address);
    assert!(
        client
            .handshake(10_000, session.id, &session.password)
            .is_some(),
        "sessions outlive a restart"
    );
    assert_eq!(client.get("/a").as_deref(), Some(&b"one"[..]));
    assert!(client.get("/e").is_some());
}

fn signal(process: &Process, name: &str) {
    let kill = Command::new("kill")
        .arg(name)
        .arg(process.child.id().to_string())
        .status()
        .unwrap();
    assert!(kill.success());
}

#[test]
fn unforced_writes_and_a_log_directory_of_its_own_survive_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let more = format!("forceSync=no\ndataLogDir={}\n", logs.display());
    let mut process = start(dir.path(), &more);
    let (mut client, _) = Raw::session(process.address, 10_000);
    for n in 0..50 {
        assert_eq!(client.create(&format!("/n{n}"), b"x", 0), ErrorCode::OK);
    }
    signal(&process, "-TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let has = |folder: &Path, start: &str| {
        let mut entries = std::fs::read_dir(folder.join("version-2")).unwrap();
        entries.any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().starts_with(start)
        })
    };
    assert!(has(&logs, "log.") && !has(&logs, "snapshot."));
    let data = dir.path().join("data");
    assert!(has(&data, "snapshot.") && !has(&data, "log."));
    let process = start(dir.path(), &more);
    let (mut client, _) = Raw::session(process.address, 10_000);
    for n in 0..50 {
        assert_eq!(client.get(&format!("/n{n}")).as_deref(), Some(&b"x"[..]));
    }
}

/// A stop takes effect some time after the signal was sent: waits until every thread of the process stands still.
fn wait_until_stopped(pid: u32) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let is_stopped = |task: &Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap();
        // The state follows the name, which is in parentheses.
        let state = stat.rsplit_once(") ").unwrap().1;
        state.starts_with('T')
    };
    while !std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .all(|task| is_stopped(&task.unwrap().path()))
    {
        assert!(std::time::Instant::now() < deadline, "it does not stop");
        std::thread::yield_now();
    }
}

#[test]
fn fs_k2_a_stop_longer_than_the_session_timeout_ends_no_session_whose_pings_wait() {
    let dir = tempfile::tempdir().unwrap();
    let process = start(dir.path(), "");
    let (mut client, _) = Raw::session(process.address, 1000);
    assert_eq!(client.create("/e", b"", 1), ErrorCode::OK);
    signal(&process, "-STOP");
    wait_until_stopped(process.child.id());
    // The stop is what is tested; it has to last longer than the timeout and two ticks.
    let patience = client.stream.read_timeout().unwrap();
    let interval = std::time::Duration::from_millis(300);
    client.stream.set_read_timeout(Some(interval)).unwrap();
    // Length, xid -2, operation 11.
    let ping = [0, 0, 0, 8, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 11];
    let until = std::time::Instant::now() + std::time::Duration::from_millis(3000);
    while std::time::Instant::now() < until {
        std::io::Write::write_all(&mut client.stream, &ping).unwrap();
        let silent = client.stream.peek(&mut [0]);
        assert!(silent.is_err(), "a stopped process answers nothing");
    }
    client.stream.set_read_timeout(patience).unwrap();
    signal(&process, "-CONT");
    let reply = client.reply().expect("the waiting ping is answered");
    assert_eq!(reply.header.xid.0, -2);
    let (mut other, _) = Raw::session(process.address, 10_000);
    assert!(other.get("/e").is_some(), "its session lives");
}

#[test]
fn a_directory_written_by_java_is_served_and_continued() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for sample in ["standalone-plain", "torn-cut"] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("data/version-2");
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(samples.join(sample).join("version-2")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let mut process = start(dir.path(), "");
        let (mut client, _) = Raw::session(process.address, 10_000);
        assert!(client.get("/big").is_some_and(|data| data.len() > 1000));
        assert_eq!(client.create("/new", b"ours", 0), ErrorCode::OK);
        signal(&process, "-TERM");
        assert_eq!(process.child.wait().unwrap().code(), Some(0));
        let process = start(dir.path(), "");
        let (mut client, _) = Raw::session(process.address, 10_000);
        assert!(client.get("/big").is_some_and(|data| data.len() > 1000));
        assert_eq!(client.get("/new").as_deref(), Some(&b"ours"[..]));
    }
}

#[test]
fn fs_d12_a_second_process_on_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path(), "");
    let (mut client, _) = Raw::session(first.address, 10_000);
    let output = command(dir.path(), "").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("locked by another server process"), "{text}");
    assert_eq!(client.create("/still", b"", 0), ErrorCode::OK);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), "maxClientCnxns=lots\n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("line 5: maxClientCnxns=lots: expected a number"),
        "{text}"
    );
    let output = command(dir.path(), "server.1=a:2888:3888\n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_says_what_there_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_zk-server"))
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("zoo.cfg") && text.contains("RUST_LOG"),
        "{text}"
    );
    let mut none = Command::new(env!("CARGO_BIN_EXE_zk-server"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    none.stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(none.wait().unwrap().code(), Some(2));
    assert!(text.contains("zoo.cfg"));
}
