//! The shard with the real views behind it, everything between them driven by hand.

mod authorizing;
mod catching_up;
mod client;
mod delivering;
mod ending;
mod exactly_once;
mod holding;
mod input;
mod jumping;
mod limits;
mod opening;
mod publishing;
mod random;
mod resuming;
mod sharing;
mod subscribing;
mod world;
