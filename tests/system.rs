//! System tests: the built broker, driven from outside through its ports and its process.
//!
//! What needs more than cargo (client programs, root, time) is ignored here and run as a part of
//! `./test.sh`, each part being one module.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, says what it does, and waits for real time to pass"
)]

#[path = "support/support.rs"]
mod support;

#[path = "system/cli.rs"]
mod cli;
#[path = "system/house.rs"]
mod house;
#[path = "system/limits.rs"]
mod limits;
#[path = "system/publish.rs"]
mod publish;
#[path = "system/retained.rs"]
mod retained;
#[path = "system/sessions.rs"]
mod sessions;
#[path = "system/shutdown.rs"]
mod shutdown;
#[path = "system/wills.rs"]
mod wills;
