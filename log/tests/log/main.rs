//! The log from outside: one binary for all tests that are not beside the code.

mod reopen;
mod support;
