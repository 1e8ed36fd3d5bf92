//! `ledgermq cluster`: what operators ask a running node, and have its cluster do.

mod add;
mod client;
mod node;
mod status;
mod token;
mod verb;

use clap::{Args, Subcommand};

use super::{Failure, Output};
use node::NodeArguments;
use verb::Verb;

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
    Remove(verb::Arguments),
    /// Give a node a vote.
    Promote(verb::Arguments),
    /// Take a node's vote until it is promoted; it goes on keeping the log.
    Demote(verb::Arguments),
    /// Let another node lead.
    TransferLeader(verb::Arguments),
    /// Let no new clients into a node and have another one lead, until --undo or its next start.
    Drain(verb::DrainArguments),
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
        Command::Remove(arguments) => Verb::Remove.run(&arguments),
        Command::Promote(arguments) => Verb::Promote.run(&arguments),
        Command::Demote(arguments) => Verb::Demote.run(&arguments),
        Command::TransferLeader(arguments) => Verb::Lead.run(&arguments),
        Command::Drain(arguments) => verb::drain(&arguments),
    }
}
