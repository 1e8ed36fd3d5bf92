//! The cluster: as one node shows it, and of several processes that are one broker.

mod alone;
mod several;
mod snapshots;
