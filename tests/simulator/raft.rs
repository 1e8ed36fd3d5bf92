//! The raft layer alone: the log machines of several nodes under a seeded clock, network and disk,
//! with producers for clients. A hundred times faster for a seed than the whole world.

mod damage;
mod fold;
mod invariants;
mod load;
pub(crate) mod members;
mod options;
mod oracle;
mod replacing;
mod run;
mod seat;
mod world;
