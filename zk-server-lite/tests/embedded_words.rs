//! Four-letter words, as scripts see them.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod raw;

use std::io::Read;

use raw::{Raw, word};
use zk_proto::ErrorCode;
use zk_server_lite::ZkServer;
use zk_server_lite::config::Whitelist;

fn start(change: impl FnOnce(&mut zk_server_lite::config::ServerConfig)) -> ZkServer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(ZkServer::builder().configure(change).start())
        .unwrap()
}

#[test]
fn each_word_has_its_text() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let (mut client, session) = Raw::session(address, 5000);
    assert_eq!(client.create("/e", b"abc", 1), ErrorCode::OK);
    assert_eq!(client.exists("/e", true), ErrorCode::OK);
    let sid = format!("0x{:x}", session.id.0);

    assert_eq!(word(address, "ruok"), "imok");
    assert_eq!(word(address, "isro"), "rw");
    let srvr = word(address, "srvr");
    let keys: Vec<_> = srvr
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "Zookeeper version",
            "Latency min/avg/max",
            "Received",
            "Sent",
            "Connections",
            "Outstanding",
            "Zxid",
            "Mode",
            "Node count"
        ]
    );
    // Four of the start, and ours; two transactions: the session and the node.
    assert!(
        srvr.contains("Zxid: 0x2\nMode: standalone\nNode count: 5\n"),
        "{srvr}"
    );
    let stat = word(address, "stat");
    assert!(
        stat.contains("\nClients:\n /127.0.0.1:") && stat.contains("](queued=0,recved=3,sent=3)\n"),
        "{stat}"
    );
    let cons = word(address, "cons");
    assert!(
        cons.contains(&format!(",sid={sid},lop=EXIS,est="))
            && cons.contains(",to=5000,lcxid=0x2,lzxid=0x2,"),
        "{cons}"
    );
    assert!(cons.ends_with(")\n\n"));
    assert_eq!(
        word(address, "wchs"),
        "1 connections watching 1 paths\nTotal watches:1\n"
    );
    assert_eq!(word(address, "wchc"), format!("{sid}\n\t/e\n\n"));
    assert_eq!(word(address, "wchp"), format!("/e\n\t{sid}\n\n"));
    let dump = word(address, "dump");
    assert!(
        dump.starts_with("SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at "),
        "{dump}"
    );
    assert!(
        dump.contains(&format!(
            "ephemeral nodes dump:\nSessions with Ephemerals (1):\n{sid}:\n\t/e\n"
        )),
        "{dump}"
    );
    assert!(
        dump.contains("Connections dump:\nConnections Sets (1)/(1):\n")
            && dump.contains(&format!(" sessionId: {sid}\n"))
    );
    let conf = word(address, "conf");
    assert!(
        conf.starts_with(&format!(
            "clientPort={}\nsecureClientPort=-1\ndataDir=\n",
            address.port()
        )),
        "{conf}"
    );
    assert!(conf.contains(
        "tickTime=500\nmaxClientCnxns=0\nminSessionTimeout=1000\nmaxSessionTimeout=10000\n"
    ));
    assert!(word(address, "envi").starts_with("Environment:\nzookeeper.version=3.9"));
    assert_eq!(word(address, "dirs"), "datadir_size: 0\nlogdir_size: 0\n");
    assert_eq!(word(address, "gtmk"), "306");
    assert_eq!(word(address, "stmk\0\0\0\0\0\0\0\x07"), "7");
    assert_eq!(word(address, "gtmk"), "7");
    assert!(word(address, "hash").contains("zxid: 0x2, digest: "));
    let mntr = word(address, "mntr");
    for line in [
        "zk_server_state\tstandalone",
        "zk_znode_count\t5",
        "zk_ephemerals_count\t1",
        "zk_watch_count\t1",
        "zk_global_sessions\t1",
        "zk_packets_received\t3",
        "zk_outstanding_requests\t0",
        "zk_cnt_fsynctime\t0",
    ] {
        assert!(
            mntr.lines().any(|found| found == line),
            "{line} is not in\n{mntr}"
        );
    }
    let size = |which: &str| -> i64 {
        let start = format!("zk_{which}_client_response_size\t");
        let line = mntr.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().parse().unwrap()
    };
    // A reply's header alone is 16 bytes.
    assert!(size("min") >= 16 && size("last") >= size("min") && size("max") >= size("last"));
    assert_eq!(word(address, "crst"), "Connection stats reset.\n");
    assert_eq!(word(address, "srst"), "Server stats reset.\n");
    assert!(word(address, "srvr").contains("Latency min/avg/max: 0/0.0/0\nReceived: 0\nSent: 0\n"));
    assert!(word(address, "mntr").contains("\nzk_max_client_response_size\t-1\n"));
    client.ping();
}

#[test]
fn only_listed_words_are_answered() {
    let server =
        start(|config| config.four_letter_words = Whitelist::Only(vec!["srvr".to_owned()]));
    let address = server.addr().unwrap();
    assert_eq!(
        word(address, "ruok"),
        "ruok is not executed because it is not in the whitelist.\n"
    );
    assert!(word(address, "srvr").starts_with("Zookeeper version: "));
    // Not a word: a length of 2 GB.
    assert_eq!(word(address, "abcd"), "");
}

#[test]
fn a_word_may_come_in_pieces_and_with_rubbish_behind_it() {
    let server = start(|_| ());
    let address = server.addr().unwrap();
    let mut raw = Raw::connect(address);
    for byte in b"ruok" {
        raw.send_bytes(&[*byte]);
    }
    let mut text = String::new();
    raw.stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "imok");
    assert_eq!(word(address, "ruok\n"), "imok");
}
