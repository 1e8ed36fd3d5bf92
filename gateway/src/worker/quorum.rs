//! A node that cannot reach most of the cluster can acknowledge nothing. For a moment its clients
//! wait; then they are sent away, well before the others give the node up and publish their wills.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::Gate;

/// After this time without contact the others give a node up, unless they are told otherwise.
pub(crate) const NODE_LOST: Duration = Duration::from_secs(10);

/// For so long a node that is cut off may not have known it: up to 2.4 s until it forgets the leader
/// that it does not hear, and two more until it says so.
const UNNOTICED: Duration = Duration::from_millis(4_400);

/// A node that has left will never be of use again; who is told so by a command of its own hears that first.
const LEAVING: Duration = Duration::from_millis(500);

/// How long clients wait where nothing becomes durable; `None` where it does. `node_lost`: the time after
/// which the others give this node up.
#[must_use]
pub fn patience(gate: &Gate, node_lost: Duration) -> Option<Duration> {
    match gate {
        Gate::NoQuorum { .. } => Some((node_lost / 2).saturating_sub(UNNOTICED)),
        Gate::Left { .. } => Some(LEAVING),
        _ => None,
    }
}

/// Until when connections last while nothing becomes durable.
#[derive(Debug)]
pub(crate) struct Quorum {
    node_lost: Duration,
    ends_at: Option<Timestamp>,
    did_end: bool,
}

impl Quorum {
    /// `node_lost`: the time after which the others give this node up.
    pub(crate) fn new(node_lost: Duration) -> Self {
        Self { node_lost, ends_at: None, did_end: false }
    }

    /// Looks at the moment; says, once, that the connections are to end.
    pub(super) fn look(&mut self, now: Timestamp, gate: &Gate) -> bool {
        let Some(patience) = patience(gate, self.node_lost) else {
            (self.ends_at, self.did_end) = (None, false);
            return false;
        };
        let end = now.plus(patience);
        let end = self.ends_at.map_or(end, |at| at.min(end));
        self.ends_at = Some(end);
        if self.did_end || now < end {
            return false;
        }
        self.did_end = true;
        true
    }

    /// Whether there was none when it was looked.
    pub(super) fn is_lost(&self) -> bool {
        self.ends_at.is_some()
    }

    /// When [`Quorum::look`] has something to say.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.ends_at.filter(|_| !self.did_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_half_of_the_time_after_which_the_node_is_given_up() {
        let cut_off = Gate::NoQuorum { reason: "a test".into() };
        let left = Gate::Left { reason: "a test".into() };
        let of = |gate, seconds| patience(gate, Duration::from_secs(seconds));
        assert_eq!(of(&cut_off, 10), Some(Duration::from_millis(600)));
        assert_eq!(of(&cut_off, 6), Some(Duration::ZERO));
        assert_eq!((of(&left, 600), of(&Gate::Open, 10)), (Some(LEAVING), None));
        let mut quorum = Quorum::new(2 * (UNNOTICED + Duration::from_secs(5)));
        let at = Timestamp::from_secs;
        assert!(!quorum.look(at(1), &Gate::Open));
        assert_eq!(quorum.next(), None);
        assert!(!quorum.look(at(2), &cut_off));
        assert_eq!(quorum.next(), Some(at(7)));
        assert!(!quorum.look(at(6), &cut_off));
        assert!(quorum.look(at(7), &cut_off));
        assert!(!quorum.look(at(8), &cut_off), "once");
        assert_eq!(quorum.next(), None);
        // One that comes back in between begins anew.
        assert!(!quorum.look(at(9), &Gate::Open));
        assert!(!quorum.look(at(10), &cut_off));
        assert!(!quorum.look(at(14), &cut_off));
        assert!(!quorum.look(at(14), &Gate::Open));
        assert!(!quorum.look(at(15), &cut_off));
        assert!(quorum.look(at(20), &cut_off));
        assert!(!quorum.look(at(21), &Gate::Open));
        // One that has left meanwhile does not wait as long.
        assert!(!quorum.look(at(22), &cut_off));
        assert!(!quorum.look(at(23), &left));
        assert_eq!(quorum.next(), Some(at(23).plus(LEAVING)));
        assert!(quorum.look(at(24), &left));
    }
}
