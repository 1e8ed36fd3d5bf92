//! What the verbs share that have something done: ask, and say that it is done.

use serde_json::Value;

use super::Common;
use crate::cli::{Failure, Output, print};

/// Asks the node, and prints `done` for people or the answer for programs.
pub(super) fn run(
    common: &Common,
    method: &str,
    path: &str,
    body: Option<&Value>,
    done: &str,
) -> Result<(), Failure> {
    let answer = common.node.find()?.ask(method, path, body)?;
    match common.output {
        Output::Text => print(done),
        Output::Json => print(&answer.to_string()),
    }
}
