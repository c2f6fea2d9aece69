//! The server's thread, from its start to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::prepare::{Prepared, prepare};
use super::stopped::Remains;
use super::{StartError, ZkServer};
use crate::config::ServerConfig;
use crate::node::core::Shared;
use crate::node::{purge, ticker};
use crate::storage::Disk;

/// Starts the thread and waits until it serves.
pub(super) async fn launch(
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
) -> Result<ZkServer, StartError> {
    let theirs = Arc::clone(&disk);
    let (ready, waits) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("zk-server".to_owned())
        .spawn(move || {
            let _ending: oneshot::Sender<()> = ending;
            run(config, theirs, remains, ready)
        })
        .map_err(|source| StartError::System {
            action: "start the server's thread",
            source,
        })?;
    match waits.await {
        Ok(Ok(up)) => Ok(ZkServer {
            shared: Some(up.shared),
            address: up.address,
            disk,
            thread: Some(thread),
            ended: Some(ended),
        }),
        Ok(Err(error)) => Err(error),
        // The thread always answers, unless it panicked before it could.
        Err(_) => Err(StartError::System {
            action: "start the server's thread",
            source: io::Error::other("it panicked"),
        }),
    }
}

/// What the thread hands out once it serves. Dropped unseen, it stops the server.
#[derive(Debug)]
struct Up {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
}

/// The server's thread, from start to end.
fn run(
    config: ServerConfig,
    disk: Arc<dyn Disk>,
    remains: Option<Remains>,
    ready: oneshot::Sender<Result<Up, StartError>>,
) -> Option<Remains> {
    let prepared = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| StartError::System {
            action: "make a runtime",
            source,
        })
        .and_then(|runtime| Ok((prepare(config, disk, remains, &runtime)?, runtime)));
    let (
        Prepared {
            shared,
            address,
            poller,
            secret,
            mut store,
        },
        runtime,
    ) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return None;
        }
    };
    if let Some(address) = address {
        shared.metrics.set_port(address.port());
    }
    let up = Up {
        shared: Arc::clone(&shared),
        address,
    };
    let connections = std::thread::Builder::new()
        .name("zk-net".to_owned())
        .spawn({
            let shared = Arc::clone(&shared);
            move || poller.run(&shared)
        });
    let connections = match connections {
        Ok(connections) => connections,
        Err(source) => {
            shared.halt.stop();
            if let Some(store) = &mut store {
                store.stop(&shared);
            }
            let action = "start the thread of the connections";
            let _ = ready.send(Err(StartError::System { action, source }));
            return None;
        }
    };
    let stop = shared.halt.token().clone();
    runtime.block_on(async {
        tokio::spawn(ticker::run(Arc::clone(&shared)));
        if let Some(store) = &store
            && shared.config.purge_interval_hours > 0
        {
            let purge = store.purger(shared.config.purge_retain);
            tokio::spawn(purge::run(Arc::clone(&shared), purge));
        }
        if ready.send(Ok(up)).is_err() {
            shared.halt.stop();
        }
        stop.cancelled().await;
    });
    // Nothing is read any more. A panic has ended the server by itself.
    shared.alarm.ring();
    let _ = connections.join();
    // What was submitted is made safe and answered while the sockets are still there.
    if let Some(store) = &mut store {
        store.stop(&shared);
    }
    drop(runtime);
    shared.hang_up();
    if store.is_some() {
        return None;
    }
    let core = Arc::into_inner(shared)?.into_core()?;
    Some(Remains {
        database: core.into_engine().into_database(),
        secret,
    })
}
