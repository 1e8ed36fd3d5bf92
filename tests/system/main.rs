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

#[path = "../support/support.rs"]
mod support;

mod access;
mod api;
mod asked;
mod attacks;
mod bench;
mod cli;
mod clients;
mod cluster;
mod control;
mod damage;
mod disk_full;
mod faults;
mod house;
mod kill;
mod limits;
mod netns;
mod normative;
mod outage;
mod overload;
mod power;
mod publish;
mod replacement;
mod restart;
mod retained;
mod sessions;
mod sharing;
mod shutdown;
mod slow;
mod sys;
mod transport;
mod wills;
