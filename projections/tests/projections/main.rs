//! Given events, expect views.

mod retained;
mod sessions;
mod support;
mod wills;
