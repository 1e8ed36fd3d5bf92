//! Events folded into what we want to ask: sessions, subscriptions, retained messages, owed
//! messages, topics with their rates, counters.
//!
//! [`views::Views`] is the pure machine: committed batches in, notices out. The driver reads the
//! log, applies, and writes checkpoints; everybody else looks through a [`reader::Reader`].

mod bytes;
mod time;

pub mod checkpoint;
pub mod driver;
pub mod notice;
pub mod projector;
pub mod reader;
pub mod views;
