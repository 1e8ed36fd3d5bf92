//! The verbs that have something done to a node: ask, and say that it is done.

use std::num::NonZeroU64;

use clap::Args;
use serde_json::json;

use super::Common;
use crate::cli::{Failure, Output, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Number of the node.
    #[arg(value_name = "N")]
    id: NonZeroU64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct DrainArguments {
    /// Let clients in again.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    of: Arguments,
}

/// What is to be done to the node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Remove,
    Promote,
    Demote,
    Lead,
    Drain,
    Undrain,
}

impl Verb {
    /// Asks the node, and prints for people that it is done, or the answer for programs.
    pub(super) fn run(self, arguments: &Arguments) -> Result<(), Failure> {
        let Arguments { id, common } = arguments;
        let body = matches!(self, Self::Lead).then(|| json!({ "node": id }));
        let (method, path) = self.request(*id);
        let answer = common.node.find()?.ask(method, &path, body.as_ref())?;
        match common.output {
            Output::Text => print(&self.done(*id)),
            Output::Json => print(&answer.to_string()),
        }
    }

    fn request(self, id: NonZeroU64) -> (&'static str, String) {
        let (method, what) = match self {
            Self::Lead => return ("POST", "/cluster/leader".to_owned()),
            Self::Remove => ("DELETE", ""),
            Self::Promote => ("POST", "/promote"),
            Self::Demote => ("POST", "/demote"),
            Self::Drain => ("POST", "/drain"),
            Self::Undrain => ("POST", "/undrain"),
        };
        (method, format!("/cluster/nodes/{id}{what}"))
    }

    fn done(self, id: NonZeroU64) -> String {
        let what = match self {
            Self::Remove => "has left the cluster",
            Self::Promote => "has a vote",
            Self::Demote => "has no vote, until it is promoted",
            Self::Lead => "leads",
            Self::Drain => "lets no new clients in and does not lead",
            Self::Undrain => "lets clients in",
        };
        format!("node {id} {what}")
    }
}

/// `drain N`, and with `--undo` its end.
pub(super) fn drain(arguments: &DrainArguments) -> Result<(), Failure> {
    let verb = if arguments.undo { Verb::Undrain } else { Verb::Drain };
    verb.run(&arguments.of)
}
