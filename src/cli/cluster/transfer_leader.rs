//! `ledgermq cluster transfer-leader`: let another node lead.

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
    let body = serde_json::json!({ "node": id });
    let done = format!("node {id} leads");
    change::run(&arguments.common, "POST", "/cluster/leader", Some(&body), &done)
}
