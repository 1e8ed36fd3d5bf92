//! The MQTT edge: listeners, workers that own connections, delivery.

pub mod config;
