//! How long a server in memory takes from nothing to its first answered request, inside a process.
//!
//! `cargo run --release -p zk-server-lite --example start_time`

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use zk_server_lite::ZkServer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        let server = runtime.block_on(ZkServer::start())?;
        let address = server.addr().ok_or("no port")?;
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"ruok")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        times.push(begun.elapsed());
        assert_eq!(answer, "imok");
        runtime.block_on(server.stop());
    }
    times.sort_unstable();
    println!(
        "start to first answer, {} starts: median {:?}, least {:?}, most {:?}",
        times.len(),
        times[25],
        times[0],
        times[49]
    );
    Ok(())
}
