//! How brokers were broken: each test bears the number of its attack in the project's list.

mod access;
mod connections;
mod cost;
mod fields;
mod flow;
mod hostile;
mod malformed;
mod names;
mod protocol;
mod sessions;
mod topics;
mod transport;
