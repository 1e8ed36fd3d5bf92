//! How brokers were broken: each test bears the number of its attack in the project's list.

mod access;
mod connections;
mod cost;
mod flow;
mod sessions;
mod topics;
mod transport;
