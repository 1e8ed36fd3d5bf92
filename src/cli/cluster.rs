//! `ledgermq cluster`: what operators ask a running node, and have its cluster do.

mod add;
mod change;
mod client;
mod demote;
mod node;
mod promote;
mod remove;
mod status;
mod token;
mod transfer_leader;

use clap::{Args, Subcommand};

use super::{Failure, Output};
use node::NodeArguments;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the nodes: who leads, who votes, how far each is.
    Status(status::Arguments),
    /// Print a token with which the node of a number may join.
    Add(add::Arguments),
    /// Print a token with which a node may join, and nothing else.
    Token(token::Arguments),
    /// Let a node leave for ever; its number is not given again.
    Remove(remove::Arguments),
    /// Give a node a vote.
    Promote(promote::Arguments),
    /// Take a node's vote; it goes on keeping the log.
    Demote(demote::Arguments),
    /// Let another node lead.
    TransferLeader(transfer_leader::Arguments),
}

/// What all of them take.
#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    node: NodeArguments,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Status(arguments) => status::run(&arguments),
        Command::Add(arguments) => add::run(&arguments),
        Command::Token(arguments) => token::run(&arguments),
        Command::Remove(arguments) => remove::run(&arguments),
        Command::Promote(arguments) => promote::run(&arguments),
        Command::Demote(arguments) => demote::run(&arguments),
        Command::TransferLeader(arguments) => transfer_leader::run(&arguments),
    }
}
