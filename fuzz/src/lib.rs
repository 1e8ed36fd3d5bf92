//! What the fuzz targets check, and the inputs that they begin with.
//!
//! `core/tests/all/fuzz.rs`, `gateway/tests/fuzz.rs` and `log/tests/fuzz.rs` include them: every seed
//! is checked in every test run.

pub mod checks;
pub mod passwords;
pub mod peers;
pub mod seeds;
pub mod transport;
