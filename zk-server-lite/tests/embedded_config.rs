//! What each key of `zoo.cfg` changes, from the file's text to what a client, a directory or the system sees.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod failing_disk;
mod raw;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use failing_disk::{Call, FailingDisk, Role};
use raw::{Raw, create, eventually, word};
use zk_proto::session::{AuthPacket, CreateTtlRequest, PathWatchRequest};
use zk_proto::{Acl, ErrorCode, Id, OpCode, Perms};
use zk_server_lite::config::zoo_cfg;
use zk_server_lite::storage::Disk;
use zk_server_lite::{StartError, ZkServer, ZkServerBuilder};

/// A server of these lines, with its directory, which may be on a disk of the test's.
struct Served {
    server: Option<ZkServer>,
    dir: tempfile::TempDir,
    disk: Option<FailingDisk>,
}

impl Served {
    fn new(lines: &str) -> Self {
        let mut served = Self {
            server: None,
            dir: tempfile::tempdir().unwrap(),
            disk: None,
        };
        served.start(lines).unwrap();
        served
    }

    fn on(disk: FailingDisk, lines: &str) -> Self {
        let mut served = Self {
            server: None,
            dir: tempfile::tempdir().unwrap(),
            disk: Some(disk),
        };
        served.start(lines).unwrap();
        served
    }

    fn start(&mut self, lines: &str) -> Result<(), StartError> {
        self.server = None;
        let text = format!(
            "tickTime=500\ndataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\n4lw.commands.whitelist=*\n{lines}\n",
            self.dir.path().display()
        );
        let (config, warnings) = zoo_cfg::parse(&text).unwrap();
        assert_eq!(warnings, []);
        let mut builder = ZkServerBuilder::from_config(config);
        if let Some(disk) = &self.disk {
            builder = builder.on_disk(Arc::new(disk.clone()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        self.server = Some(runtime.block_on(builder.start())?);
        Ok(())
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().addr().unwrap()
    }

    fn client(&self) -> Raw {
        Raw::session(self.address(), 10_000).0
    }

    /// Sizes of the files whose names begin so.
    fn sizes(&self, start: &str) -> Vec<(String, u64)> {
        let folder = self.dir.path().join("version-2");
        let size = |name: String| {
            // It may go away meanwhile.
            let data = std::fs::metadata(folder.join(&name)).ok()?;
            Some((name, data.len()))
        };
        let names = zk_server_lite::storage::RealDisk.list(&folder).unwrap();
        let names = names.into_iter().filter(|name| name.starts_with(start));
        names.filter_map(size).collect()
    }

    fn mntr(&self, key: &str) -> u64 {
        let text = word(self.address(), "mntr");
        let start = format!("zk_{key}\t");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.expect(key).parse().unwrap()
    }
}

/// Thirty writes of a kibibyte.
fn write_30_kib(served: &Served) {
    let mut client = served.client();
    for number in 0..30 {
        let path = format!("/n{number}");
        assert_eq!(client.create(&path, &[7; 1024], 0), ErrorCode::OK);
    }
}

fn digest(client: &mut Raw, who: &str) -> Option<ErrorCode> {
    let auth = AuthPacket {
        auth_type: 0,
        scheme: "digest".into(),
        auth: Bytes::copy_from_slice(who.as_bytes()).into(),
    };
    client.send_bytes(&raw::request(-4, OpCode::AUTH, &auth));
    client.reply().map(|reply| reply.header.err)
}

/// A node that only somebody else may read.
fn create_secret(client: &mut Raw, path: &str) {
    let mut request = create(path, b"secret", 0);
    let id = Id {
        scheme: "digest".into(),
        id: "somebody:else".into(),
    };
    let perms = Perms::READ;
    request.acl = Some(vec![Acl { perms, id }]);
    assert_eq!(
        client.ask(OpCode::CREATE, &request).header.err,
        ErrorCode::OK
    );
}

fn read(client: &mut Raw, path: &str) -> ErrorCode {
    let get = PathWatchRequest {
        path: path.into(),
        watch: false,
    };
    client.ask(OpCode::GET_DATA, &get).header.err
}

#[test]
fn tick_time_and_the_least_and_the_greatest_session_timeout() {
    let asks =
        |served: &Served| [0, 1_000_000].map(|ms| Raw::session(served.address(), ms).1.timeout_ms);
    assert_eq!(asks(&Served::new("")), [1000, 10_000], "2 and 20 ticks");
    assert_eq!(asks(&Served::new("tickTime=200")), [400, 4000]);
    let served = Served::new("minSessionTimeout=1500\nmaxSessionTimeout=7000");
    assert_eq!(asks(&served), [1500, 7000]);
    assert_eq!(asks(&Served::new("minSessionTimeout=-1")), [1000, 10_000]);
}

#[test]
fn client_port_and_its_address() {
    // A port that was free a moment ago.
    let port = Served::new("").address().port();
    let served = Served::new(&format!("clientPort={port}\nclientPortAddress=127.0.0.9"));
    assert_eq!(served.address().to_string(), format!("127.0.0.9:{port}"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(word(served.address(), "ruok"), "imok");
}

#[test]
fn client_port_listen_backlog() {
    let taken = |lines: &str| {
        let served = Served::new(lines);
        // Nobody accepts now.
        served.server.as_ref().unwrap().freeze();
        let connect = |_| {
            let patience = Duration::from_millis(100);
            TcpStream::connect_timeout(&served.address(), patience).ok()
        };
        let streams: Vec<_> = (0..12).map(connect).collect();
        streams.iter().flatten().count()
    };
    assert_eq!(taken(""), 12);
    // The kernel has room for one more, and one may have been accepted before the freeze was noticed.
    assert!((2..=5).contains(&taken("clientPortListenBacklog=2")));
}

#[test]
fn connections_of_an_address_and_in_all() {
    for key in ["maxClientCnxns", "maxCnxns"] {
        let served = Served::new(&format!("{key}=2"));
        let kept = (served.client(), served.client());
        Raw::connect(served.address()).expect_closed();
        drop(kept);
        eventually("room again", || word(served.address(), "ruok") == "imok");
    }
}

#[test]
fn time_without_a_session() {
    let served = Served::new("nio.sessionlessCnxnTimeout=100");
    Raw::connect(served.address()).expect_closed();
    assert_eq!(served.mntr("sessionless_connections_expired"), 1);
}

#[test]
fn the_largest_frame() {
    let served = Served::new("jute.maxbuffer=1000");
    let mut client = served.client();
    let around = create("/n", b"", 0);
    let empty = raw::request(1, OpCode::CREATE, &around).len() - 4;
    let fits = vec![7; 1000 - empty];
    assert_eq!(client.create("/n", &fits, 0), ErrorCode::OK);
    let mut larger = fits;
    larger.push(7);
    client.send(OpCode::CREATE, &create("/m", &larger, 0));
    client.expect_closed();
}

#[test]
fn tcp_keep_alive_of_clients() {
    let has_timer = |lines: &str| {
        let served = Served::new(lines);
        let client = served.client();
        let port = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
        let (ours, theirs) = (
            port(served.address()),
            port(client.stream.local_addr().unwrap()),
        );
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let fields = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields[1] == ours && fields[2] == theirs)
            .unwrap();
        // The kind of the timer that runs: 2 is keep-alive.
        fields[5].starts_with("02:")
    };
    assert!(has_timer("clientTcpKeepAlive=true"));
    assert!(!has_timer(""));
}

#[test]
fn which_words_are_answered() {
    let served = Served::new("4lw.commands.whitelist=ruok, isro");
    assert_eq!(word(served.address(), "isro"), "rw");
    assert!(word(served.address(), "mntr").contains("not in the whitelist"));
}

#[test]
fn snapshots_by_count_and_by_size() {
    let served = Served::new("");
    write_30_kib(&served);
    assert_eq!(served.sizes("snapshot.").len(), 1);
    for line in ["snapCount=20", "snapSizeLimitInKb=20"] {
        let served = Served::new(line);
        write_30_kib(&served);
        eventually(line, || served.sizes("snapshot.").len() > 1);
    }
}

#[test]
fn segments_filled_ahead() {
    let served = Served::new("preAllocSize=64");
    let zeros = || served.sizes("next-log.spare") == [("next-log.spare".to_owned(), 65_536)];
    eventually("a segment of 64 KiB", zeros);
    let mut client = served.client();
    eventually("a log takes it", || {
        client.set("/", b"x");
        served.sizes("log.").iter().any(|(_, size)| *size == 65_536)
    });
    let served = Served::new("preAllocSize=0");
    served.client();
    assert_eq!(served.sizes("next-log"), []);
    assert!(served.sizes("log.")[0].1 < 1000);
}

#[test]
fn a_log_files_largest_size() {
    let served = Served::new("txnLogSizeLimitInKb=10");
    write_30_kib(&served);
    let logs = served.sizes("log.");
    // Preallocated or not, none goes on behind the entry that passes the limit.
    assert!(logs.len() >= 3, "{logs:?}");
}

#[test]
fn forced_writes() {
    for (line, more) in [("forceSync=yes", true), ("forceSync=no", false)] {
        let disk = FailingDisk::default();
        let served = Served::on(disk.clone(), line);
        let before = disk.memory.syncs();
        write_30_kib(&served);
        assert_eq!(disk.memory.syncs() >= before + 30, more, "{line}");
    }
}

#[test]
fn directories_of_snapshots_and_of_logs() {
    let logs = tempfile::tempdir().unwrap();
    let served = Served::new(&format!("dataLogDir={}", logs.path().display()));
    served.client();
    assert_eq!(served.sizes("log."), []);
    assert_eq!(served.sizes("snapshot.").len(), 1);
    assert!(logs.path().join("version-2/log.1").exists());
}

#[test]
fn trust_in_a_log_without_a_snapshot() {
    let mut served = Served::new("");
    assert_eq!(served.client().create("/a", b"", 0), ErrorCode::OK);
    served.server = None;
    std::fs::remove_file(served.dir.path().join("version-2/snapshot.0")).unwrap();
    let error = served.start("").unwrap_err().to_string();
    assert!(error.contains("snapshot.trust.empty=true"), "{error}");
    served.start("snapshot.trust.empty=true").unwrap();
    assert!(served.client().get("/a").is_some());
}

#[test]
fn how_snapshots_are_packed() {
    let magic = |served: &Served, name: &str| {
        let path = served.dir.path().join("version-2").join(name);
        std::fs::read(path).unwrap()[..4].to_vec()
    };
    for (method, name, start) in [
        ("", "snapshot.0", b"ZKSN"),
        ("gz", "snapshot.0.gz", b"\x1f\x8b\x08\0"),
        ("snappy", "snapshot.0.snappy", b"\x82SNA"),
    ] {
        let served = Served::new(&format!("snapshot.compression.method={method}"));
        assert_eq!(magic(&served, name), start);
    }
}

#[test]
fn purges() {
    let mut served = Served::new("snapCount=4");
    let mut client = served.client();
    let mut made = 0;
    eventually("many snapshots", || {
        made += 1;
        let path = format!("/n{made}");
        assert_eq!(client.create(&path, b"", 0), ErrorCode::OK);
        served.sizes("snapshot.").len() >= 8
    });
    let lines = "autopurge.purgeInterval=1\nautopurge.snapRetainCount=5";
    served.start(lines).unwrap();
    eventually("a purge", || served.sizes("snapshot.").len() == 5);
    assert!(served.client().get("/n1").is_some());
}

#[test]
fn nodes_with_a_time_to_live() {
    let request = CreateTtlRequest {
        path: "/t".into(),
        data: Some(Bytes::new()),
        acl: Some(vec![Acl::open_unsafe()]),
        flags: 5,
        ttl: 100_000,
    };
    for (line, answer) in [
        ("extendedTypesEnabled=true", ErrorCode::OK),
        ("", ErrorCode::UNIMPLEMENTED),
    ] {
        let made = Served::new(line).client().ask(OpCode::CREATE_TTL, &request);
        assert_eq!(made.header.err, answer, "{line}");
    }
}

#[test]
fn quotas() {
    for (line, answer) in [
        ("enforceQuota=true", ErrorCode::QUOTA_EXCEEDED),
        ("", ErrorCode::OK),
    ] {
        let mut client = Served::new(line).into_client();
        let limits = "count=-1,bytes=-1,byteHardLimit=-1,countHardLimit=2";
        for (path, data) in [
            ("/q", ""),
            ("/zookeeper/quota/q", ""),
            ("/zookeeper/quota/q/zookeeper_limits", limits),
            ("/zookeeper/quota/q/zookeeper_stats", "count=1,bytes=0"),
            ("/q/one", ""),
        ] {
            assert_eq!(client.1.create(path, data.as_bytes(), 0), ErrorCode::OK);
        }
        assert_eq!(client.1.create("/q/two", b"", 0), answer, "{line}");
    }
}

impl Served {
    /// With a client of it.
    fn into_client(self) -> (Self, Raw) {
        let client = self.client();
        (self, client)
    }
}

#[test]
fn access_lists_super_user_and_digests() {
    // super:secret
    let super_user = "DigestAuthenticationProvider.superDigest=super:lK75jTNcA+U9vtVEw5vB51mj/w4=";
    let (_served, mut client) = Served::new(super_user).into_client();
    create_secret(&mut client, "/s");
    assert_eq!(read(&mut client, "/s"), ErrorCode::NO_AUTH);
    assert_eq!(digest(&mut client, "super:wrong"), Some(ErrorCode::OK));
    assert_eq!(read(&mut client, "/s"), ErrorCode::NO_AUTH);
    assert_eq!(digest(&mut client, "super:secret"), Some(ErrorCode::OK));
    assert_eq!(read(&mut client, "/s"), ErrorCode::OK);

    let (_served, mut client) = Served::new("skipACL=yes").into_client();
    create_secret(&mut client, "/s");
    assert_eq!(read(&mut client, "/s"), ErrorCode::OK);

    let line = "DigestAuthenticationProvider.enabled=false";
    let (_served, mut client) = Served::new(line).into_client();
    assert_eq!(digest(&mut client, "a:b"), Some(ErrorCode::AUTH_FAILED));
    client.expect_closed();
}

#[test]
fn writes_in_process() {
    for (line, held) in [("globalOutstandingLimit=10", 20), ("", 40)] {
        let disk = FailingDisk::default();
        let served = Served::on(disk.clone(), &format!("preAllocSize=0\n{line}"));
        let (mut writer, mut witness) = (served.client(), served.client());
        disk.hold(Role::Log, Call::Force);
        for round in 0..2 {
            let mut frames = bytes::BytesMut::new();
            for number in round * 20..round * 20 + 20 {
                let request = create("/n", b"", 2);
                frames.unsplit(raw::request(number, OpCode::CREATE, &request));
            }
            writer.send_bytes(&frames);
            if round == 0 {
                eventually("the first ones are in process", || {
                    served.mntr("outstanding_requests") == 20
                });
            }
        }
        // Long enough for more to be read, were it read.
        (0..100).for_each(|_| witness.ping());
        if held == 40 {
            eventually("all are", || served.mntr("outstanding_requests") == 40);
        }
        assert_eq!(served.mntr("outstanding_requests"), held, "{line}");
        disk.release();
        for number in 0..40 {
            assert_eq!(writer.reply().unwrap().header.xid.0, number);
        }
    }
}

#[test]
fn unsent_output() {
    let served = Served::new("zkServerLite.maxUnsentBytes=1000000");
    let mut deaf = served.client();
    assert_eq!(deaf.create("/big", &vec![7; 900_000], 0), ErrorCode::OK);
    let get = PathWatchRequest {
        path: "/big".into(),
        watch: false,
    };
    // Far more than the sockets between them hold.
    for number in 0..60 {
        // It may be closed before all are written.
        let frame = raw::request(number, OpCode::GET_DATA, &get);
        let _ = deaf.stream.write_all(&frame);
    }
    eventually("it is closed unread", || {
        served.mntr("num_alive_connections") == 1
    });
}

#[test]
fn containers() {
    let of = |lines: &str| {
        Served::new(&format!("znode.container.checkIntervalMs=30\n{lines}")).into_client()
    };
    let make = |client: &mut Raw, path: &str| {
        let made = client.ask(OpCode::CREATE_CONTAINER, &create(path, b"", 4));
        assert_eq!(made.header.err, ErrorCode::OK);
    };
    let use_up = |client: &mut Raw, path: &str| {
        let child = format!("{path}/child");
        assert_eq!(client.create(&child, b"", 0), ErrorCode::OK);
        let delete = zk_proto::session::DeleteRequest {
            path: child.as_str().into(),
            version: -1,
        };
        assert_eq!(
            client.ask(OpCode::DELETE, &delete).header.err,
            ErrorCode::OK
        );
    };
    // Those that were used go; the one that never was stays.
    let (_served, mut client) = of("");
    make(&mut client, "/used");
    make(&mut client, "/never");
    use_up(&mut client, "/used");
    eventually("the used one goes", || client.get("/used").is_none());
    assert!(client.get("/never").is_some());
    // Or goes too.
    let (_served, mut client) = of("znode.container.maxNeverUsedIntervalMs=50");
    make(&mut client, "/never");
    eventually("it goes", || client.get("/never").is_none());
    // Two a minute: after the first there is half a minute's pause.
    let (_served, mut client) = of("znode.container.maxPerMinute=2");
    let paths = ["/one", "/two"];
    for path in paths {
        make(&mut client, path);
        use_up(&mut client, path);
    }
    let left = |client: &mut Raw| {
        paths
            .iter()
            .filter(|path| client.get(path).is_some())
            .count()
    };
    eventually("one goes", || left(&mut client) == 1);
    (0..200).for_each(|_| client.ping());
    assert_eq!(left(&mut client), 1);
}

/// Each key that the documentation says is in effect stands in a line of a test above.
#[test]
fn every_documented_key_is_here() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        std::fs::read_to_string(path).unwrap()
    };
    let (docs, tests) = (read("../docs/server.md"), read("tests/embedded_config.rs"));
    let list = docs.split("In effect: ").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let keys: Vec<_> = list.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        let used = tests.contains(&format!("{key}=")) || tests.contains(&format!("\"{key}\""));
        assert!(used, "{key} has no test of its effect");
    }
}
