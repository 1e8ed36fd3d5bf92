//! `ledgermq serve`: run a node.

use super::{Exit, Failure, Settings, chain};
use crate::logging;
use crate::node::{self, NodeError};

pub(super) fn run(settings: Settings) -> Result<(), Failure> {
    let effective = settings.load()?;
    logging::start();
    node::run(&effective.config).map_err(|error| {
        let exit = match &error {
            NodeError::InUse { .. } => Exit::Conflict,
            NodeError::Log(ledgermq_log::OpenError::InUse { .. }) => Exit::Conflict,
            _ => Exit::Failure,
        };
        Failure::new(exit, chain(&error))
    })
}
