//! `ledgermq cluster token`: print a token to join with, and nothing else.

use std::num::NonZeroU64;

use clap::Args;
use ledgermq_core::quantity::Span;
use serde_json::{Value, json};

use super::Common;
use crate::cli::{Exit, Failure, Output, Role, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The only number that the node may have [default: any that was never used].
    #[arg(long, value_name = "N")]
    node: Option<NonZeroU64>,
    #[command(flatten)]
    wanted: Wanted,
}

/// What a token is for.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// What the node will be for.
    #[arg(long, value_enum, default_value_t = Role::Log)]
    role: Role,
    /// Number of the member whose place it takes when it has caught up: one that is not there any
    /// more, or is drained. That one leaves for ever.
    #[arg(long, value_name = "N")]
    replaces: Option<NonZeroU64>,
    /// For how long the token is valid, such as 10m or 24h.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    print_token(&arguments.wanted, arguments.node)
}

/// Has a token made and prints it.
pub(super) fn print_token(wanted: &Wanted, node: Option<NonZeroU64>) -> Result<(), Failure> {
    let body = json!({
        "role": ledgermq_log::cluster::Role::from(wanted.role),
        "ttl": wanted.ttl,
        "node": node,
        "replaces": wanted.replaces,
    });
    let answer = wanted.common.node.find()?.ask("POST", "/cluster/tokens", Some(&body))?;
    match (wanted.common.output, answer.get("token").and_then(Value::as_str)) {
        (Output::Text, Some(token)) => print(token),
        (Output::Json, Some(_)) => print(&answer.to_string()),
        (_, None) => Err(Failure::new(Exit::Failure, "the node answered with no token")),
    }
}
