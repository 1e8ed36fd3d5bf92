//! The cluster: as one node shows it, and of several processes that are one broker.

mod alone;
mod control;
mod growing;
mod operating;
mod repair;
mod replacing;
mod several;
mod sharing;
mod snapshots;
mod stopping;
