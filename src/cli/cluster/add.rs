//! `ledgermq cluster add`: a token for the node of one number.

use std::num::NonZeroU64;

use clap::Args;

use super::token::{Wanted, print_token};
use crate::cli::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Number of the node that will join.
    #[arg(value_name = "N")]
    id: NonZeroU64,
    #[command(flatten)]
    wanted: Wanted,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    print_token(&arguments.wanted, Some(arguments.id))
}
