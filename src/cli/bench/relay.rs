//! `ledgermq bench relay`: the limit that brokers are compared with.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::bench::relay::Relay;
use crate::cli::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address to listen at.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1884")]
    listen: SocketAddr,
    /// File to which every message is appended and synced before anything of it leaves.
    #[arg(long, value_name = "FILE")]
    wal: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Failure, error);
        let mut relay = Relay::bind(self.listen, self.wal.as_deref()).map_err(failed)?;
        eprintln!("ready");
        relay.run(&mut |text| eprintln!("{text}")).map_err(failed)
    }
}
