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

/// How long clients wait for a quorum from when the node says that there is none.
#[must_use]
pub fn patience(node_lost: Duration) -> Duration {
    (node_lost / 2).saturating_sub(UNNOTICED)
}

/// How long there was no quorum.
#[derive(Debug)]
pub(crate) struct Quorum {
    /// How long clients wait for one.
    patience: Duration,
    /// Since when there is none.
    lost: Option<Timestamp>,
    did_end: bool,
}

impl Quorum {
    /// `node_lost`: the time after which the others give this node up.
    pub(crate) fn new(node_lost: Duration) -> Self {
        Self { patience: patience(node_lost), lost: None, did_end: false }
    }

    /// Looks at the moment; says, once, that the connections are to end. Whoever is connected to a node
    /// that has left waits for nothing.
    pub(super) fn look(&mut self, now: Timestamp, gate: &Gate) -> bool {
        let patience = match gate {
            Gate::NoQuorum { .. } => self.patience,
            Gate::Left { .. } => Duration::ZERO,
            _ => {
                (self.lost, self.did_end) = (None, false);
                return false;
            }
        };
        let lost = *self.lost.get_or_insert(now);
        if self.did_end || now.since(lost) < patience {
            return false;
        }
        self.did_end = true;
        true
    }

    /// When [`Quorum::look`] has something to say.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.lost.filter(|_| !self.did_end).map(|lost| lost.plus(self.patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wait_half_of_the_time_after_which_the_node_is_given_up() {
        assert_eq!(patience(Duration::from_secs(10)), Duration::from_millis(600));
        assert_eq!(patience(Duration::from_secs(6)), Duration::ZERO);
        let cut_off = Gate::NoQuorum { reason: "a test".into() };
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
        assert!(quorum.look(at(22), &Gate::Left { reason: "a test".into() }), "at once");
    }
}
