//! Given events, expect views.

mod access;
mod checkpoint;
mod cutting;
mod depth;
mod driver;
mod matrix;
mod model;
mod owed;
mod projector;
mod retained;
mod sessions;
mod shared;
mod snapshot;
mod support;
mod topics;
mod wills;
