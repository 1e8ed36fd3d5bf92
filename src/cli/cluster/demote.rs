//! `ledgermq cluster demote`: take a node's vote.

use std::num::NonZeroU64;

use clap::Args;

use super::{Common, change};
use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Number of the node.
    #[arg(value_name = "N")]
    id: NonZeroU64,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let id = arguments.id;
    let path = format!("/cluster/nodes/{id}/demote");
    change::run(&arguments.common, "POST", &path, None, &format!("node {id} has no vote"))
}
