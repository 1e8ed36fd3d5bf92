//! The composition of a node: the one file that names every room.
//!
//! The main thread runs a current-thread tokio runtime for signals, timers and HTTP; the log, the
//! projections and the workers of the gateway are threads of their own, joined by the channels
//! that are handed over here.

mod data_dir;

use std::io;
use std::path::PathBuf;

use ledgermq_api::metrics::{InstallError, Metrics};
use ledgermq_api::readiness::Check;
use ledgermq_api::server::{BindError, Server, Sources};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::Config;
use data_dir::DataDir;

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Another process works on the data directory.
    #[error("{} is in use by another ledgermq process{}", dir.display(), holder.as_ref().map_or(String::new(), |pid| format!(" (process {pid})")))]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Process number of the holder, if it can be told.
        holder: Option<u32>,
    },
    /// HTTP has no address.
    #[error(transparent)]
    Api(#[from] BindError),
    /// The metrics of the process are taken.
    #[error(transparent)]
    Metrics(#[from] InstallError),
    /// The operating system refused something that every node needs.
    #[error("cannot run")]
    Runtime(#[from] io::Error),
}

/// Runs a node until SIGTERM or SIGINT, and stops it in order.
pub(crate) fn run(config: &Config) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), NodeError> {
    let _data_dir = DataDir::open(&config.node.data_dir)?;
    let metrics = Metrics::install()?;
    let mut stop = Stop::new()?;

    // Here the log opens (and recovers), then the projections fold its tail, then the gateway binds
    // and starts its workers: each is given the handles of those before it.

    let api = Server::bind(&config.api)?;
    let sources = Sources {
        checks: Box::new(|| vec![Check::ready("node")]),
        gather: Box::new(|| ()),
        metrics,
    };
    tracing::info!(address = %api.address(), "HTTP");
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(api.run(sources, async {
        let _ = api_stopped.await;
    }));

    eprintln!("ready");
    stop.asked().await;
    tracing::info!("stopping");

    // Here the gateway drains (no new connections, DISCONNECT 0x8B, flush), then the projections
    // write their checkpoints, then the log stops: the reverse of the start.

    let _ = stop_api.send(());
    let _ = api.await;
    tracing::info!("stopped");
    Ok(())
}

/// The signals that ask the node to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns at the next SIGTERM or SIGINT.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
