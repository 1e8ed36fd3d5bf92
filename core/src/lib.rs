//! What MQTT is and what can happen: packets, codec, topics, the connection machine and events.
//!
//! Everything here is pure: no socket, clock, task, thread or random source. Time is an argument.

pub mod access;
pub mod codec;
pub mod connection;
pub mod event;
pub mod identity;
pub mod offset;
pub mod packet;
pub mod quantity;
pub mod reason;
pub mod topic;
