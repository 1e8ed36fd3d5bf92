//! LedgerMQ: an MQTT broker whose only truth is a replicated log.

mod bench;
mod cli;
mod config;
mod logging;
mod node;
mod process;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
