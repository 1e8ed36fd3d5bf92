//! What the fuzz targets check, and the inputs that they begin with.
//!
//! `core/tests/all/seeds.rs` includes both files: every seed is checked in every test run.

pub mod checks;
pub mod seeds;
