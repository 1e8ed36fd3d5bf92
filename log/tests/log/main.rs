//! The log from outside: one binary for all tests that are not beside the code.

mod cluster;
mod crash;
mod full;
mod purge;
mod reopen;
mod simulated;
mod snapshots;
mod support;
mod time;
