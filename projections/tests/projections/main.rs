//! Given events, expect views.

mod checkpoint;
mod driver;
mod matrix;
mod model;
mod owed;
mod projector;
mod retained;
mod sessions;
mod support;
mod topics;
mod wills;
