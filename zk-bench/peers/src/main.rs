//! One peer client library under load: `zk-bench-peers CLIENT HOST:PORT WINDOW SECONDS` prints one line of JSON.
//!
//! The load is the very file that `zk-bench client` puts on our own client.

use std::error::Error;
use std::time::Duration;

use tokio::task::LocalSet;

#[path = "../../src/bin/zk-client-probe/client_load.rs"]
mod client_load;

use client_load::load;

const PATH: &str = "/zk-bench";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [client, addr, window, seconds] = args.as_slice() else {
        return Err("usage: zk-bench-peers CLIENT HOST:PORT WINDOW SECONDS".into());
    };
    let (window, seconds) = (
        window.parse()?,
        Duration::try_from_secs_f64(seconds.parse()?)?,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = LocalSet::new().block_on(&runtime, async {
        match client.as_str() {
            "zookeeper-client" => {
                let client = zookeeper_client::Client::connect(addr).await?;
                load(window, seconds, async move || {
                    Ok(client.get_data(PATH).await?.0.len())
                })
                .await
            }
            "tokio-zookeeper" => {
                let (client, _watcher) =
                    tokio_zookeeper::ZooKeeper::connect(&addr.parse()?).await?;
                let get = async move || {
                    Ok(client
                        .get_data(PATH)
                        .await?
                        .map_or(0, |(data, _)| data.len()))
                };
                load(window, seconds, get).await
            }
            "zookeeper-async" => {
                let timeout = Duration::from_secs(30);
                let client = zookeeper_async::ZooKeeper::connect(addr, timeout, |_| {}).await?;
                load(window, seconds, async move || {
                    Ok(client.get_data(PATH, false).await?.0.len())
                })
                .await
            }
            other => Err(format!(
                "no client {other}: zookeeper-client, tokio-zookeeper, zookeeper-async"
            )
            .into()),
        }
    })?;
    println!("{figures}");
    Ok(())
}
