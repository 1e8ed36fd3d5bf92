//! `ledgermq serve`: run a node.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{Exit, Failure, Settings, chain};
use crate::logging;
use crate::node::{self, NodeError};

pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    let effective = settings.load()?;
    logging::start();
    node::run(&effective.config).map_err(|error| {
        let error = match error {
            NodeError::Again(why) => {
                tracing::warn!(why, "the node begins again");
                // The same process, with nothing left in memory.
                NodeError::Runtime(begin_again())
            }
            error => error,
        };
        let exit = match &error {
            NodeError::InUse { .. } => Exit::Conflict,
            NodeError::Log(ledgermq_log::OpenError::InUse { .. }) => Exit::Conflict,
            _ => Exit::Failure,
        };
        Failure::new(exit, chain(&error))
    })
}

/// Runs this program anew in this process, with its arguments; returns only if that cannot be.
fn begin_again() -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    match std::env::current_exe() {
        Err(error) => error,
        Ok(program) => {
            let mut command = Command::new(program);
            name.into_iter().for_each(|name| {
                command.arg0(name);
            });
            command.args(arguments).exec()
        }
    }
}
