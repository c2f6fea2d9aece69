//! The tool as its users run it: every workload on a real server, and a server that deviates.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use zk_server_lite::ZkServer;

fn zk_bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zk-bench"))
        .args(args)
        .output()
        .unwrap()
}

/// By the server's own word.
fn node_count(addr: &str) -> u64 {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"srvr").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Node count: "));
    line.unwrap().trim().parse().unwrap()
}

struct Null(Child, String);

impl Null {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zk-bench"))
            .arg("null")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut addr = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut addr)
            .unwrap();
        Self(child, addr.trim().to_owned())
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn every_workload_finds_the_embedded_server_faultless_and_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures.json");
    let server = runtime.block_on(ZkServer::builder().start()).unwrap();
    let addr = server.addr().unwrap().to_string();
    let before = node_count(&addr);
    // All but the fan-out to 1000, which needs more open files than some machines allow.
    let names = "get-1x1,get-4x64,get-1x256,mixed-4x64,set-1x1,set-4x64,create-1x1,create-4x64,multi-4x16,sessions-8,\
                 ephemerals-200x10,lock-2,lock-8,lock-32";
    let output = zk_bench(&[
        "run",
        "--connect",
        &addr,
        "--workload",
        names,
        "--seconds",
        "0.2",
        "--warm",
        "0.05",
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let results = figures["results"].as_array().unwrap();
    assert_eq!(results.len(), names.split(',').count());
    for result in results {
        assert!(
            result["figures"]["rate"].as_f64().unwrap() > 0.0,
            "{result}"
        );
        assert!(
            result["figures"]["p50_us"].as_f64().unwrap() > 0.0,
            "{result}"
        );
    }
    assert_eq!(node_count(&addr), before, "a run deletes its nodes");
    runtime.block_on(server.stop());
}

#[test]
fn a_server_whose_versions_do_not_rise_gets_no_figures() {
    let null = Null::start();
    let output = zk_bench(&[
        "run",
        "--connect",
        &null.1,
        "--workload",
        "set-4x64",
        "--seconds",
        "0.1",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("deviates") && said.contains("version"),
        "{said}"
    );
    assert!(output.stdout.is_empty(), "no table for a wrong server");
}

#[test]
fn an_unknown_workload_is_refused_by_name() {
    let output = zk_bench(&["run", "--connect", "127.0.0.1:1", "--workload", "get-9x9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("get-9x9"));
}

#[test]
fn our_client_is_found_and_measured_in_a_program_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let output = zk_bench(&[
        "client",
        "--without-peers",
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--dir",
        dir.path().to_str().unwrap(),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = text.lines().filter(|line| line.starts_with("| zk-client"));
    assert_eq!(rows.count(), 3, "{text}");
}
