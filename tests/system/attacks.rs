//! How brokers were broken: each test bears the number of its attack in the project's list.

mod access;
mod fields;
mod hostile;
mod malformed;
mod names;
mod protocol;
mod transport;
