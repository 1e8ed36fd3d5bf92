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
    /// Nothing becomes durable: most of the cluster cannot be reached. Only [`Class::Progress`]
    /// should be pushed; it waits.
    NoQuorum {
        /// For people, as `/readyz` shows it.
        reason: Arc<str>,
    },
    /// The node was taken out of the cluster: nothing that it takes becomes durable ever again.
    Left {
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
            Self::RefuseOpens { .. } | Self::NoQuorum { .. } | Self::Left { .. } => {
                class > Class::Open
            }
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
            | Self::NoQuorum { reason }
            | Self::Left { reason }
            | Self::Stopped { reason } => Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_refuses_the_first_classes_first() {
        let reason: Arc<str> = Arc::from("why");
        let gates = [
            (Gate::Open, 3),
            (Gate::RefusePublishes { reason: Arc::clone(&reason) }, 2),
            (Gate::RefuseOpens { reason: Arc::clone(&reason) }, 1),
            (Gate::NoQuorum { reason: Arc::clone(&reason) }, 1),
            (Gate::Left { reason: Arc::clone(&reason) }, 1),
            (Gate::Stopped { reason }, 0),
        ];
        for (gate, accepted) in gates {
            let classes = [Class::Publish, Class::Open, Class::Progress];
            let refused = classes.iter().take_while(|class| !gate.accepts(**class)).count();
            assert!(classes[refused..].iter().all(|class| gate.accepts(*class)), "{gate:?}");
            assert_eq!(classes.len() - refused, accepted, "{gate:?}");
            assert_eq!(gate.reason(), (gate != Gate::Open).then_some("why"));
        }
    }
}
