//! Our client library under load: `zk-client-probe HOST:PORT WINDOW SECONDS` prints one line of JSON.
//!
//! A program of its own, as the peers' is: what is resident is then the client and its load, not all of `zk-bench`.

mod client_load;

use std::error::Error;
use std::time::Duration;

use tokio::task::LocalSet;

use client_load::load;

const PATH: &str = "/zk-bench";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [addr, window, seconds] = args.as_slice() else {
        return Err("usage: zk-client-probe HOST:PORT WINDOW SECONDS".into());
    };
    let window = window.parse()?;
    let seconds = Duration::try_from_secs_f64(seconds.parse()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = LocalSet::new().block_on(&runtime, async {
        let client = zk_client::Client::connect(addr).await?;
        load(window, seconds, async move || {
            Ok(client.get_data(PATH).await?.data.len())
        })
        .await
    })?;
    println!("{figures}");
    Ok(())
}
