//! The bell by which the log thread wakes others.

/// Wakes the owner of a tail or producer. Called from the log thread: cheap, never blocking.
pub trait Wake: Send + Sync {
    /// Makes the owner look again.
    fn wake(&self);
}

/// Wakes nobody.
pub(crate) struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}
