//! Raft's configuration as the store keeps it.
//!
//! The bytes are postcard's of the voters, learners, outgoing voters, learners to come and whether
//! raft leaves a joint configuration by itself, and of the index behind them. Stores that were
//! written before there were several nodes end without the index.

use ledgermq_core::offset::Index;
use raft::eraftpb::ConfState;

/// Members by number: who votes, who learns, and who is on the way from one to the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// The entry that brought it; 0 for the one that a node begins with. Entries up to here must
    /// not be applied to it again.
    pub index: Index,
    /// The members.
    pub state: ConfState,
}

impl Configuration {
    /// The one that a log of these voters begins with.
    #[must_use]
    pub fn of_voters(voters: &[u64]) -> Self {
        Self { index: 0, state: ConfState { voters: voters.to_vec(), ..ConfState::default() } }
    }

    /// Whether nobody is in it: the node was not told yet of which cluster it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.voters.is_empty() && self.state.learners.is_empty()
    }

    /// Everybody who is in it, ascending.
    #[must_use]
    pub fn members(&self) -> Vec<u64> {
        let lists = [&self.state.voters, &self.state.learners];
        let coming = [&self.state.voters_outgoing, &self.state.learners_next];
        let mut members: Vec<u64> =
            lists.into_iter().chain(coming).flat_map(|list| list.iter().copied()).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Whether `node` has a vote.
    #[must_use]
    pub fn is_voter(&self, node: u64) -> bool {
        self.state.voters.contains(&node) || self.state.voters_outgoing.contains(&node)
    }

    /// Whether `node` is the only one who votes.
    #[must_use]
    pub fn is_sole_voter(&self, node: u64) -> bool {
        self.state.voters == [node] && self.state.voters_outgoing.is_empty()
    }
}

type Lists = (Vec<u64>, Vec<u64>, Vec<u64>, Vec<u64>, bool);

pub(crate) fn to_bytes(configuration: &Configuration) -> Vec<u8> {
    let Configuration { index, state } = configuration;
    let voters = (&state.voters, &state.learners, &state.voters_outgoing);
    let content = (voters, &state.learners_next, state.auto_leave, index);
    postcard::to_stdvec(&content).expect("a Vec takes every value")
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Configuration> {
    let (lists, rest) = postcard::take_from_bytes::<Lists>(bytes).ok()?;
    let index = if rest.is_empty() { 0 } else { postcard::from_bytes(rest).ok()? };
    let mut state = ConfState::default();
    (state.voters, state.learners, state.voters_outgoing, state.learners_next, state.auto_leave) =
        lists;
    Some(Configuration { index, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        let mut state = ConfState { voters: vec![1, 2, 300], ..ConfState::default() };
        (state.learners, state.voters_outgoing) = (vec![4], vec![1]);
        (state.learners_next, state.auto_leave) = (vec![2], true);
        Configuration { index: 200, state }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = [3, 1, 2, 172, 2, 1, 4, 1, 1, 1, 2, 1, 200, 1];
        assert_eq!(to_bytes(&configuration()), bytes);
        assert_eq!(from_bytes(&bytes), Some(configuration()));
    }

    #[test]
    fn a_store_of_a_single_node_of_old_is_read() {
        assert_eq!(from_bytes(&[1, 1, 0, 0, 0, 0]), Some(Configuration::of_voters(&[1])));
    }

    #[test]
    fn what_is_cut_short_is_none() {
        let whole = to_bytes(&configuration());
        // Without its index it is a whole one of old.
        let old = whole.len() - 2;
        for end in (0..whole.len()).filter(|end| *end != old) {
            assert_eq!(from_bytes(&whole[..end]), None, "{end}");
        }
    }
}
