//! `zk-server <zoo.cfg>`: a standalone server in the foreground.
//!
//! Exit status: 0 after a stop that was asked for, 1 when the server could not start or had to end, 2 for a wrong command
//! line or configuration.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zk_server_lite::config::{ServerConfig, zoo_cfg};
use zk_server_lite::{ZkServer, ZkServerBuilder};

/// A standalone server that speaks Apache ZooKeeper's client protocol and disk formats.
///
/// Takes ZooKeeper's own configuration file and stays in the foreground, as `zkServer.sh start-foreground` does. What Apache
/// ZooKeeper takes only as a JVM property `zookeeper.X` is taken as the key `X` of the file. Keys of features that this
/// server does not have (TLS, SASL, the admin server) are warned about; server.N lines are refused: it runs alone.
///
/// SIGTERM and SIGINT end it cleanly. Nothing that was acknowledged is lost by SIGKILL, unless forceSync=no.
/// RUST_LOG sets the log level (default: info), as in RUST_LOG=zk_server_lite=debug. The log goes to standard error; the
/// line `ready on <address>` goes to standard output when clients can connect.
#[derive(Debug, Parser)]
#[command(name = "zk-server", version)]
struct Arguments {
    /// The configuration file.
    #[arg(value_name = "zoo.cfg")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let config = match read(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{}: {error}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot make a runtime");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(config))
}

fn read(path: &std::path::Path) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    let (config, warnings) = zoo_cfg::parse(&text)?;
    for warning in warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Ok(config)
}

async fn serve(config: ServerConfig) -> ExitCode {
    // Before the start, so that a signal during recovery is not the default one.
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("cannot listen for signals");
        return ExitCode::FAILURE;
    };
    let server = match start(config).await {
        Ok(server) => server,
        Err(error) => {
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text = format!("{text}: {cause}");
            }
            tracing::error!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let address = server.connect_string();
    tracing::info!(%address, "ready");
    // Nobody may be listening.
    let _ =
        writeln!(std::io::stdout(), "ready on {address}").and_then(|()| std::io::stdout().flush());
    tokio::select! {
        failure = server.failed() => {
            if let Some(failure) = failure {
                tracing::error!(%failure, "ended");
            }
            server.stop().await;
            return ExitCode::FAILURE;
        }
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    let stopped = server.stop().await;
    if stopped.failure().is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn start(config: ServerConfig) -> Result<ZkServer, zk_server_lite::StartError> {
    ZkServerBuilder::from_config(config).start().await
}
