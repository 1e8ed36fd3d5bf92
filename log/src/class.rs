//! Classes of appends and the gate that refuses them when room runs out.

use std::sync::Arc;

/// What an append is for. When room runs out, the first class is refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Messages of clients.
    Publish,
    /// Sessions and subscriptions.
    Open,
    /// Progress of deliveries, ends of sessions, drops, expiries: what makes room.
    Progress,
}

/// Which classes are accepted at the moment, and why not all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Everything is accepted.
    #[default]
    Open,
    /// Nothing of [`Class::Publish`] should be pushed.
    RefusePublishes {
        /// For people, as `/readyz` shows it.
        reason: Arc<str>,
    },
    /// Only [`Class::Progress`] should be pushed.
    RefuseOpens {
        /// For people, as `/readyz` shows it.
        reason: Arc<str>,
    },
    /// The log has stopped; nothing is accepted.
    Stopped {
        /// For people, as `/readyz` shows it.
        reason: Arc<str>,
    },
}

impl Gate {
    /// Whether appends of `class` are accepted.
    #[must_use]
    pub fn accepts(&self, class: Class) -> bool {
        match self {
            Self::Open => true,
            Self::RefusePublishes { .. } => class > Class::Publish,
            Self::RefuseOpens { .. } => class > Class::Open,
            Self::Stopped { .. } => false,
        }
    }

    /// Why not everything is accepted.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::RefusePublishes { reason }
            | Self::RefuseOpens { reason }
            | Self::Stopped { reason } => Some(reason),
        }
    }
}
