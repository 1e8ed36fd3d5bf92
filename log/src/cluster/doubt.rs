//! Whether a node that has started again may take part in raft. Pure.
//!
//! A vote, and an acknowledgement, are promises of the log that stands behind them. A disk that lost
//! some of it, be it damaged, rolled back, or wiped, has broken promises that this node does not
//! remember. The others do: each keeps what it saw the node acknowledge while it led. So a process
//! that begins is *reserved*: raft is told nothing, neither time nor messages, until as many other
//! voters have said what they saw that they and this node are a majority. Whoever of them led last
//! may be among the rest: for a moment ([`GRACE`]) all are waited for.
//!
//! If the log reaches as far as anybody saw, it is *sound*. If not it is *short*, and stays so: the
//! node is taken out of raft, and let in again with an empty log (`machine/doubting.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ledgermq_core::offset::Index;

use crate::cluster::members::Members;
use crate::store::Configuration;

/// So long every voter is waited for. A node is dialled within it, whoever has to dial.
pub const GRACE: Duration = Duration::from_secs(4);

/// What this node knows of its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its number.
    pub node: u64,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry that is committed and folded here.
    pub applied: Index,
    /// Index of the change that let it in, with which its log began; 0 if that is not known.
    pub joined: Index,
    /// Its term.
    pub term: u64,
}

impl Own {
    /// Whether its log is of before the change of the members at `index`, of which others know. By its
    /// own log the node is the only voter, so nobody could have changed anything without it; but the
    /// change does not stand there, be it that the log is shorter, or that it went on another way. One
    /// that may be among the last entries is known when they are folded.
    #[must_use]
    pub fn is_of_before(&self, configuration: &Configuration, index: Index) -> bool {
        configuration.is_sole_voter(self.node)
            && self.joined <= self.applied
            && index > configuration.index
            && (index <= self.applied || index > self.last)
    }
}

/// What another node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The last entry that it saw this node acknowledge.
    pub acked: Index,
    /// The last entry that it knows to be committed.
    pub commit: Index,
    /// The last change of the members that it knew of.
    pub members: Index,
    /// Its term.
    pub term: u64,
}

impl Heard {
    /// What of that holds where somebody is in `term`: a leader of an earlier one that slept does not
    /// know yet that what it saw acknowledged and not committed has made way for other entries.
    fn acked_in(&self, term: u64) -> Index {
        if self.term < term { self.acked.min(self.commit) } else { self.acked }
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Others must be heard first.
    Reserved,
    /// The log is what it promised.
    Sound,
    /// It is not.
    Short(Shortness),
}

/// Why a log is not what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortness {
    /// It ends too early.
    Acknowledged {
        /// Where.
        last: Index,
        /// Who saw more.
        by: u64,
        /// How far.
        acked: Index,
    },
    /// It is of a time before the node was let in the last time.
    Outdated {
        /// Where it ends.
        last: Index,
        /// The change that let it in.
        joined: Index,
    },
    /// It is of before anybody else had a vote.
    Alone {
        /// Where it ends.
        last: Index,
        /// The change of the members that others know of.
        members: Index,
    },
    /// It has all of it, but a part cannot be read.
    Damaged {
        /// The entry.
        index: Index,
    },
}

impl fmt::Display for Shortness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { last, by, acked } => {
                write!(f, "the log ends at {last}, node {by} saw {acked} acknowledged")
            }
            Self::Outdated { last, joined } => write!(
                f,
                "the log ends at {last} and is of before this node was let in again at {joined}: \
                 was its disk rolled back?"
            ),
            Self::Alone { last, members } => write!(
                f,
                "the log ends at {last} and has this node alone, but the members changed at {members}: \
                 was its disk rolled back? What was acknowledged here since it started is in this log \
                 only, which is kept beside the one that comes"
            ),
            Self::Damaged { index } => write!(f, "entry {index} of the log is damaged"),
        }
    }
}

/// What the others have said, for as long as this process lives.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    heard: BTreeMap<u64, Heard>,
    /// A change of the members of which others know: this node led alone, and is not judged before it
    /// has been told of it, should they all be gone.
    overtaken: Index,
}

impl Doubt {
    /// `peer` says that.
    pub fn hear(&mut self, peer: u64, says: Heard) {
        let heard = self.heard.entry(peer).or_insert(says);
        let term = heard.term.max(says.term);
        heard.acked = heard.acked_in(term).max(says.acked_in(term));
        heard.commit = heard.commit.max(says.commit);
        heard.members = heard.members.max(says.members);
        heard.term = term;
    }

    /// Others know of the change of the members at `index`, and this node led alone.
    pub fn overtake(&mut self, index: Index) {
        self.overtaken = index;
    }

    /// The change of the members that had this node doubt, if it led alone; 0 if it did not.
    #[must_use]
    pub fn overtaken(&self) -> Index {
        self.overtaken
    }

    /// Who has said something.
    #[must_use]
    pub fn heard(&self) -> Vec<u64> {
        self.heard.keys().copied().collect()
    }

    /// The highest term that anybody was in: this node may have voted in it, and not remember.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.heard.values().map(|heard| heard.term).max().unwrap_or(0)
    }

    /// What is to be thought of the log: `configuration` is the one that it ends with, `members` are
    /// the newest that this node was told of, and it waits since `waited`.
    #[must_use]
    pub fn judge(
        &self,
        own: Own,
        configuration: &Configuration,
        members: &Members,
        waited: Duration,
    ) -> Verdict {
        let newest =
            self.heard.values().map(|heard| heard.members).fold(self.overtaken, Index::max);
        if newest > members.index.max(configuration.index) {
            // Whoever knows of newer members tells them.
            return Verdict::Reserved;
        }
        if let Some(member) = members.nodes.get(&own.node)
            && member.joined > own.joined.max(own.last)
        {
            return Verdict::Short(Shortness::Outdated { last: own.last, joined: member.joined });
        }
        let has_others = members.voters().any(|voter| voter != own.node);
        if has_others && own.is_of_before(configuration, members.index) {
            let (last, members) = (own.last, members.index);
            return Verdict::Short(Shortness::Alone { last, members });
        }
        if let Some(shortness) = self.shortness(own) {
            return Verdict::Short(shortness);
        }
        let told: Vec<u64> = members.voters().collect();
        let state = &configuration.state;
        let voters: [&[u64]; 2] = match members.index > configuration.index {
            true => [&told, &[]],
            false => [&state.voters, &state.voters_outgoing],
        };
        let is_heard = |node: &u64| *node == own.node || self.heard.contains_key(node);
        let is_enough = |voters: &[u64]| {
            let heard = voters.iter().filter(|node| is_heard(node)).count();
            voters.is_empty() || heard > voters.len() / 2
        };
        let all = voters.iter().all(|voters| voters.iter().all(is_heard));
        let enough = voters.iter().all(|voters| is_enough(voters)) && waited >= GRACE;
        if all || enough { Verdict::Sound } else { Verdict::Reserved }
    }

    /// Whether somebody saw more than there is. Who does not know yet that this node was let in again
    /// speaks of a log that is gone.
    fn shortness(&self, own: Own) -> Option<Shortness> {
        let term = self.term().max(own.term);
        let of_now = self.heard.iter().filter(|(_, heard)| heard.members >= own.joined);
        let seen = of_now.map(|(by, heard)| (heard.acked_in(term), *by));
        let (acked, by) = seen.max_by_key(|(acked, _)| *acked)?;
        (acked > own.last).then_some(Shortness::Acknowledged { last: own.last, by, acked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::ClusterId;
    use crate::cluster::members::{MemberChange, Role};

    const OWN: Own = Own { node: 3, last: 90, applied: 80, joined: 5, term: 7 };

    fn says(acked: Index, members: Index, term: u64) -> Heard {
        Heard { acked, commit: 80, members, term }
    }

    fn three() -> Configuration {
        Configuration { index: 10, ..Configuration::of_voters(&[1, 2, 3]) }
    }

    /// Node 1 founds at 1, the others come in; the last change is at 10.
    fn members(joined: &[(u64, Index)]) -> Members {
        let mut members = Members::default();
        let (address, mqtt) = ("one:1".to_owned(), Vec::new());
        let (cluster, generation, key) = (ClusterId([1; 16]), 1, [0; 32]);
        members.apply(1, &MemberChange::Found { cluster, generation, node: 1, address, mqtt, key });
        for (node, index) in joined {
            let token = node.to_le_bytes();
            let (address, mqtt) = (format!("node:{node}"), Vec::new());
            let (node, role) = (*node, Role::Log);
            let (expires_s, at_s) = (1, 0);
            let change =
                MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s };
            assert!(members.apply(*index, &change));
        }
        let nodes = joined.iter().map(|(node, _)| *node).collect();
        assert!(members.apply(10, &MemberChange::Promote { nodes }));
        members
    }

    fn judge(doubt: &Doubt, waited: Duration) -> Verdict {
        doubt.judge(OWN, &three(), &members(&[(2, 4), (3, 5)]), waited)
    }

    #[test]
    fn a_log_is_sound_when_all_have_spoken_and_saw_no_more() {
        let mut doubt = Doubt::default();
        assert_eq!(judge(&doubt, GRACE), Verdict::Reserved);
        doubt.hear(1, says(90, 10, 7));
        assert_eq!(judge(&doubt, Duration::ZERO), Verdict::Reserved);
        doubt.hear(2, says(0, 10, 8));
        assert_eq!(judge(&doubt, Duration::ZERO), Verdict::Sound);
        assert_eq!(doubt.term(), 8);
    }

    /// After a power cut of all, one of which does not come back, the two free each other.
    #[test]
    fn after_a_while_a_majority_is_enough() {
        let mut doubt = Doubt::default();
        doubt.hear(2, says(90, 10, 7));
        assert_eq!(judge(&doubt, GRACE - Duration::from_millis(1)), Verdict::Reserved);
        assert_eq!(judge(&doubt, GRACE), Verdict::Sound);
    }

    #[test]
    fn one_who_saw_more_is_enough_to_know() {
        let mut doubt = Doubt::default();
        doubt.hear(1, says(100, 10, 7));
        let short = Shortness::Acknowledged { last: 90, by: 1, acked: 100 };
        assert_eq!(judge(&doubt, Duration::ZERO), Verdict::Short(short));
        assert_eq!(short.to_string(), "the log ends at 90, node 1 saw 100 acknowledged");
        // It does not take it back.
        doubt.hear(1, says(0, 10, 7));
        assert_eq!(judge(&doubt, GRACE), Verdict::Short(short));
    }

    /// What it saw and was not committed has made way for entries of the term that it does not know.
    #[test]
    fn a_leader_of_an_earlier_term_condemns_no_log_by_what_was_not_committed() {
        let (slept, others) = (says(100, 10, 6), says(0, 10, 7));
        for (first, second) in [(slept, others), (others, slept)] {
            let mut doubt = Doubt::default();
            doubt.hear(1, first);
            doubt.hear(2, second);
            assert_eq!(judge(&doubt, GRACE), Verdict::Sound);
        }
        // Nor when it has heard of the term; what was committed holds.
        let mut doubt = Doubt::default();
        doubt.hear(1, slept);
        doubt.hear(1, says(80, 10, 8));
        assert_eq!(judge(&doubt, GRACE), Verdict::Sound);
        doubt.hear(1, Heard { commit: 100, ..slept });
        let short = Shortness::Acknowledged { last: 90, by: 1, acked: 100 };
        assert_eq!(judge(&doubt, GRACE), Verdict::Short(short));
    }

    #[test]
    fn newer_members_are_learnt_first() {
        let mut doubt = Doubt::default();
        for peer in [1, 2] {
            doubt.hear(peer, says(0, 12, 7));
        }
        assert_eq!(judge(&doubt, GRACE), Verdict::Reserved);
        // Nodes 4 and 5 vote, too, by now: two of five are not enough, three are.
        let mut newer = members(&[(2, 4), (3, 5), (4, 6), (5, 7)]);
        newer.index = 12;
        let verdict = |doubt: &Doubt| doubt.judge(OWN, &three(), &newer, GRACE);
        assert_eq!(verdict(&doubt), Verdict::Sound);
        let mut doubt = Doubt::default();
        doubt.hear(1, says(0, 12, 7));
        assert_eq!(verdict(&doubt), Verdict::Reserved);
        doubt.hear(5, says(0, 12, 7));
        assert_eq!(verdict(&doubt), Verdict::Sound);
    }

    /// However far it went on alone.
    #[test]
    fn the_log_of_an_only_voter_is_of_before_a_change_that_it_does_not_hold() {
        let alone = Configuration { index: 3, ..Configuration::of_voters(&[1]) };
        let founder = Own { node: 1, last: 90, applied: 80, joined: 1, term: 7 };
        let newer = |index| Members { index, ..members(&[(2, 4), (3, 5)]) };
        let verdict = |own, index| Doubt::default().judge(own, &alone, &newer(index), GRACE);
        for index in [10, 80, 91] {
            let short = Shortness::Alone { last: 90, members: index };
            assert_eq!(verdict(founder, index), Verdict::Short(short), "{index}");
        }
        // It may be among those that are not folded yet; or the log begins anew with what it is sent.
        assert!(!founder.is_of_before(&alone, 81));
        assert!(!founder.is_of_before(&alone, 3), "it made that itself");
        assert!(!Own { joined: 85, ..founder }.is_of_before(&alone, 10));
        assert!(!founder.is_of_before(&three(), 20), "others vote by what it holds");
    }

    #[test]
    fn both_halves_of_a_joint_configuration_must_have_spoken() {
        let mut joint = three();
        joint.state.voters_outgoing = vec![3, 4, 5];
        let mut doubt = Doubt::default();
        doubt.hear(1, says(0, 10, 7));
        let verdict = |doubt: &Doubt| doubt.judge(OWN, &joint, &Members::default(), GRACE);
        assert_eq!(verdict(&doubt), Verdict::Reserved);
        doubt.hear(5, says(0, 10, 7));
        assert_eq!(verdict(&doubt), Verdict::Sound);
    }

    #[test]
    fn a_log_of_before_the_last_admission_is_short() {
        let mut doubt = Doubt::default();
        doubt.hear(1, says(0, 120, 7));
        let mut newer = members(&[(2, 4), (3, 5)]);
        assert!(newer.apply(119, &MemberChange::Withdraw { node: 3 }));
        assert!(newer.apply(120, &MemberChange::Readmit { node: 3 }));
        let outdated = Shortness::Outdated { last: 90, joined: 120 };
        assert_eq!(doubt.judge(OWN, &three(), &newer, GRACE), Verdict::Short(outdated));
        // Its successor, which has not been sent that entry yet, is not; and who has not heard of it
        // remembers another log.
        let own = Own { joined: 120, ..OWN };
        doubt.hear(2, says(500, 10, 7));
        assert_eq!(doubt.judge(own, &three(), &newer, GRACE), Verdict::Sound);
    }
}
