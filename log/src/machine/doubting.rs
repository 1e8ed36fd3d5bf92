//! A process that begins and does not know yet whether its log is what it promised
//! (`cluster/doubt.rs`), and one that begins with an empty log in place of one that was not.
//!
//! | phase | raft | ends |
//! |---|---|---|
//! | reserved | is told nothing | enough others have said what they saw: sound, or short |
//! | short | is told nothing | with a log: the leader took the node out, as it asked: [`TurnError::Short`]; with an empty one: and let it in again: sound |
//! | sound | takes part | of a node that was alone, by what its log says: others know of members that the log does not hold: reserved |
//!
//! A short node asks every node to be re-admitted, naming the last admission that it knows of; the
//! leader does it, or says that there is a later one. A log that is not empty is kept until the node is
//! out: that takes a majority that can do without it, so never do so many give their logs up that none
//! is left. Then the process ends, and the next one begins without that log, and asks again: only
//! an admission that came after the leader took *it* out is the answer, any other was of a log that
//! is gone.
//!
//! A node that finds a part of its log damaged while it runs goes the same way (`damaged.rs`), but takes
//! part in raft until it is out: the rest of its log is what it promised.
//!
//! Until its log has come to the entry that let the node in, it does not stand for election: what it
//! is sent before tells of a time when others were in, or it alone. It votes, as any new node with a
//! short log does, but in no term in which an earlier process may have.

mod acked;
mod damaged;
#[cfg(all(test, feature = "testing"))]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Index;
use raft::eraftpb::{Message, MessageType};

use crate::clock::Now;
use crate::cluster::doubt::{Doubt, Heard, Own, Shortness, Verdict};
use crate::cluster::{Answer, Command, Frame, Member, Members, Peers, Pulse, Sent, Standing};
use crate::machine::joining::TOLD_KEY;
use crate::machine::{LogMachine, TurnError};
use crate::store::{LogStore, Unit};

use acked::acked;
use damaged::Damage;

/// Key of the store under which the index of the change stands that let this node in, with which
/// its log began: 8 bytes, big-endian.
const JOINED_KEY: &[u8] = b"J";
/// How often a node whose log has to make way asks to be re-admitted.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Marks the numbers of what a short node asks, beside those of commands.
pub(super) const OWN_ID: u64 = 1 << 63;

/// What this process knows of its own log, and of what others promised.
pub(super) struct Doubting {
    doubt: Doubt,
    phase: Phase,
    /// Index of the change that let this node in, with which its log began; 0 if that is not known.
    joined: Index,
    /// Votes of this term and below are not given: an earlier process may have given them.
    vote_floor: u64,
    /// It was taken for sound as it is, since by what it says nobody else was ever in.
    is_unjudged: bool,
    begun: Duration,
    /// The start of the node as which this process greeted first; it may have taken later ones since.
    pub(super) greeted_as: u64,
    /// The last change of the members of which anybody has spoken in a greeting.
    greeted_with: Index,
    /// The newest members that others told of.
    pub(super) told: Arc<Members>,
    /// By node: its admission, and the last entry that it was seen to acknowledge since.
    acked: BTreeMap<u64, (Index, Index)>,
    /// This node led when that was noted last: it may hold what is not committed.
    has_led: bool,
    /// What of that is written.
    acked_written: BTreeMap<u64, (Index, Index)>,
    acked_at: Duration,
    asking: Asking,
    /// An entry that cannot be read.
    damaged: Option<Damage>,
    /// An entry of a leader that is not the one that is committed here, and whose it is.
    contradicted: Option<(Index, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Reserved,
    Short(Short),
    Sound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Short {
    /// Why, for people.
    why: String,
    /// The log is there, and this is what is wrong with it.
    shortness: Option<Shortness>,
}

/// What this process has asked for, to be re-admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asking {
    /// When, and which admission it is to end.
    asked: Option<(Duration, Index)>,
    /// The admission that the leader has ended, as this process asked.
    withdrawn: Option<Index>,
}

/// How a process finds its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is that of a node that was let in just now, or of one that founds a cluster.
    New,
    /// It is that of a member, and empty.
    Empty,
    /// Nobody else was ever in.
    Alone,
    /// It holds what was promised to others, or less.
    Log,
}

impl Doubting {
    /// `told` are the members as this node was told before; `why` its log is empty, if that is known.
    pub(super) fn new<S: LogStore>(
        node: u64,
        store: &S,
        found: Found,
        (told, why): (Option<Arc<Members>>, Option<String>),
        now: Now,
        extra: &mut Unit,
    ) -> Self {
        let told = told.unwrap_or_default();
        let mut joined = store.get(JOINED_KEY).and_then(number).unwrap_or(0);
        let phase = match found {
            Found::New => {
                if let Some(member) = told.nodes.get(&node) {
                    joined = member.joined;
                    extra.puts.push((JOINED_KEY.to_vec(), joined.to_be_bytes().to_vec()));
                }
                Phase::Sound
            }
            Found::Empty if joined == 0 => {
                let why = why.unwrap_or_else(|| "the log is gone".to_owned());
                Phase::Short(Short { why, shortness: None })
            }
            Found::Alone => Phase::Sound,
            Found::Empty | Found::Log => Phase::Reserved,
        };
        let acked = acked(store);
        let is_unjudged = matches!(found, Found::Alone | Found::New);
        Self {
            doubt: Doubt::default(),
            phase,
            joined,
            vote_floor: 0,
            is_unjudged,
            begun: now.monotonic,
            greeted_as: 0,
            greeted_with: 0,
            told,
            acked_written: acked.clone(),
            acked,
            has_led: false,
            acked_at: now.monotonic,
            asking: Asking::default(),
            damaged: None,
            contradicted: None,
        }
    }

    /// Whether raft may be told anything.
    pub(super) fn is_sound(&self) -> bool {
        self.phase == Phase::Sound
    }

    /// Whether this process has asked to be let in again.
    pub(super) fn has_asked(&self) -> bool {
        self.asking.asked.is_some()
    }

    /// Why this node takes no part, for people; none if it does.
    pub(super) fn reason(&self) -> Option<String> {
        match &self.phase {
            Phase::Sound => None,
            Phase::Reserved if self.doubt.overtaken() > self.told.index => Some(format!(
                "others know of members, as of {}, that the log of this node, which has it alone, does \
                 not: was its disk rolled back? It waits to be told of them. If they refuse it as an \
                 earlier start or as a clone, see that its clock is right, and start it again",
                self.doubt.overtaken()
            )),
            Phase::Reserved => Some(format!(
                "this node has started again and takes no part before most of the others have said \
                 how far its log was; heard so far: nodes {:?}. If they are all there and nothing \
                 comes of it, start it again",
                self.doubt.heard()
            )),
            Phase::Short(Short { why, .. }) => {
                Some(format!("{why}: this node begins again with an empty log, and has no vote"))
            }
        }
    }

    /// What `peer`, let in at `joined`, was seen to acknowledge.
    pub(super) fn acked_of(&self, peer: u64, joined: Index) -> Index {
        let acked = self.acked.get(&peer).filter(|(life, _)| *life == joined);
        acked.map_or(0, |(_, acked)| *acked)
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Whether this node takes no part in raft: it has to hear the others first, or its log is gone.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.doubting.is_sound()
    }

    /// Whether the log has come to the entry that let this node in.
    pub(super) fn is_admitted(&self) -> bool {
        self.admission.applied() >= self.doubting.joined
    }

    /// Whether this node is the only voter, by all that it knows.
    pub(super) fn is_alone(&self) -> bool {
        let configuration = self.replica.configuration();
        configuration.is_sole_voter(self.shared.node)
            && self.doubting.is_sound()
            && self.is_admitted()
            && self.doubting.told.index <= configuration.index
    }

    /// Whether nobody else is in, be it as a learner.
    pub(super) fn is_the_only_one(&self) -> bool {
        self.is_alone() && self.replica.is_sole_member()
    }

    /// Whether this node may stand for election.
    pub(super) fn may_stand(&self) -> bool {
        self.doubting.is_sound() && self.is_admitted()
    }

    /// Whether the log is as long as when this node was let in. A shorter one says nothing of what is
    /// committed: to a candidate that was away, and takes this node for the voter that it was before it
    /// lost its log, any log would be as good (raft seed 4083).
    fn may_vote(&self) -> bool {
        self.replica.last_index() >= self.doubting.joined
    }

    /// Whether raft may be told that.
    pub(super) fn may_step(&self, message: &Message) -> bool {
        let is_sound = self.doubting.is_sound() && self.overtaken().is_none();
        match message.get_msg_type() {
            MessageType::MsgRequestVote => {
                is_sound && self.may_vote() && message.term > self.doubting.vote_floor
            }
            MessageType::MsgRequestPreVote => is_sound && self.may_vote(),
            MessageType::MsgTimeoutNow => is_sound && self.may_stand(),
            _ => is_sound,
        }
    }

    /// The newest members that are known here, be they applied or not.
    pub(super) fn newest_members(&self) -> &Members {
        let (told, applied) = (&self.doubting.told, self.replica.members());
        if told.index > applied.index { told } else { applied }
    }

    /// Whether a change of several votes is under way, for which those who leave are needed, too.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.replica.is_joint()
    }

    /// Whether others could give this node its log again.
    #[must_use]
    pub fn has_others(&self) -> bool {
        let own = self.shared.node;
        self.newest_members().voters().any(|voter| voter != own)
    }

    /// A peer says how it stands, and what it saw of this node.
    pub(super) fn hear_of_acked(&mut self, from: u64, pulse: &Pulse) {
        // Of the session with an earlier process: what came since is not counted.
        let of_now = self.doubting.greeted_as..=self.shared.start();
        if self.doubting.is_sound() || !of_now.contains(&pulse.greeted) {
            return;
        }
        let hello = self.peers.get(from).and_then(|known| known.hello.as_ref());
        if let Some(hello) = hello {
            let Pulse { acked, commit, term, .. } = *pulse;
            let members = hello.members_index;
            self.doubting.doubt.hear(from, Heard { acked, commit, members, term });
        }
    }

    /// A peer knows of newer members, and may not let this node in to tell it of them.
    pub(super) fn hear_greeting(&mut self, peer: u64, members: Index) {
        tracing::debug!(peer, members, "a node that greets knows of newer members");
        self.doubting.greeted_with = self.doubting.greeted_with.max(members);
    }

    /// A peer tells of newer members.
    pub(super) fn hear_of_members(&mut self, members: Members) {
        let is_ours = self.joining.cluster().is_some_and(|cluster| cluster == members.cluster);
        if is_ours && members.index > self.doubting.told.index {
            self.doubting.told = Arc::new(members);
        }
    }

    /// Judges the own log, or asks for another.
    pub(super) fn doubt(&mut self, now: Now, peers: &mut dyn Peers) -> Result<(), TurnError> {
        if let Some((index, from)) = self.doubting.contradicted {
            return Err(TurnError::Contradicted { index, from });
        }
        if let Some(members) = self.overtaken() {
            self.begin_doubt(members, now.monotonic);
        }
        if !self.doubting.is_sound() {
            self.replica.stop_leading();
        }
        match self.doubting.phase {
            Phase::Sound => self.leave_if_damaged(now.monotonic, peers),
            Phase::Reserved => self.judge(now.monotonic),
            Phase::Short(_) => self.ask_readmission(now.monotonic, peers),
        }
    }

    /// The change of the members of which others know, if this node leads alone, as its log says: its
    /// disk was rolled back to what it was before they came.
    fn overtaken(&self) -> Option<Index> {
        let configuration = self.replica.configuration();
        if !self.doubting.is_unjudged || !configuration.is_sole_voter(self.shared.node) {
            return None;
        }
        let hellos = self.peers.hellos().map(|(_, hello)| hello.members_index);
        let newest = hellos.fold(self.doubting.told.index, Index::max);
        let newest = newest.max(self.doubting.greeted_with);
        self.own().is_of_before(configuration, newest).then_some(newest)
    }

    /// Takes no part any more before it has been told of the members, of which others know.
    fn begin_doubt(&mut self, members: Index, now: Duration) {
        let Doubting { doubt, phase, begun, is_unjudged, .. } = &mut self.doubting;
        (*phase, *begun, *is_unjudged) = (Phase::Reserved, now, false);
        doubt.overtake(members);
        let why = self.doubting.reason();
        tracing::error!(why, "this node has led alone, and takes no part any more");
    }

    fn own(&self) -> Own {
        Own {
            node: self.shared.node,
            last: self.replica.last_index(),
            applied: self.admission.applied(),
            joined: self.joined_at(),
            term: self.replica.term(),
        }
    }

    fn judge(&mut self, now: Duration) -> Result<(), TurnError> {
        let own = self.own();
        let waited = now.saturating_sub(self.doubting.begun);
        let configuration = self.replica.configuration();
        let members = self.newest_members();
        match self.doubting.doubt.judge(own, configuration, members, waited) {
            Verdict::Reserved => Ok(()),
            Verdict::Short(shortness) => {
                let why = shortness.to_string();
                tracing::error!(why, "this node asks to be let in again with an empty log");
                let shortness = Some(shortness);
                self.doubting.phase = Phase::Short(Short { why, shortness });
                Ok(())
            }
            Verdict::Sound => {
                tracing::info!(last = own.last, "the log is as far as the others saw it");
                self.take_part(self.doubting.doubt.term());
                Ok(())
            }
        }
    }

    /// The change with which the own log began, as far as it says so itself.
    fn joined_at(&self) -> Index {
        let member = self.replica.members().nodes.get(&self.shared.node);
        member.map_or(0, |member| member.joined).max(self.doubting.joined)
    }

    fn ask_readmission(&mut self, now: Duration, peers: &mut dyn Peers) -> Result<(), TurnError> {
        let Phase::Short(Short { shortness, .. }) = &self.doubting.phase else { return Ok(()) };
        let Some(withdrawn) = self.doubting.asking.withdrawn else {
            self.ask(now, peers);
            return Ok(());
        };
        if let Some(shortness) = shortness {
            return Err(TurnError::Short(*shortness));
        }
        let member = self.newest_members().nodes.get(&self.shared.node);
        if let Some(Member { joined, standing, .. }) = member
            && *joined > withdrawn
            && *standing != Standing::Away
            && let Some(term) = self.peers.term_behind(*joined)
        {
            let joined = *joined;
            self.readmitted(joined, term);
        }
        Ok(())
    }

    /// From here on this node takes part in raft. What an earlier process of it has promised in `term` or
    /// before, with a log that is gone perhaps, it does not know: it gives no vote there, and hears nobody
    /// who leads in an earlier one.
    fn take_part(&mut self, term: u64) {
        self.doubting.vote_floor = term;
        self.doubting.phase = Phase::Sound;
        self.replica.raise_term(term);
    }

    /// Asks every node to be re-admitted, now and then: it is the leader that does it.
    fn ask(&mut self, now: Duration, peers: &mut dyn Peers) {
        let node = self.shared.node;
        let Some(Member { joined, .. }) = self.newest_members().nodes.get(&node) else { return };
        let joined = *joined;
        if self.doubting.asking.asked.is_some_and(|(at, _)| now < at + ASK_INTERVAL) {
            return;
        }
        self.doubting.asking.asked = Some((now, joined));
        let (id, command) = (OWN_ID | joined, Command::Readmit { node, joined });
        let frame = Frame::Command { id, command };
        for peer in self.peers.connected() {
            let _ = peers.send(peer, &frame);
        }
    }

    /// The answer to what this node asked for itself; `false` if it is not one.
    pub(super) fn take_readmission(&mut self, id: u64, answer: &Answer) -> bool {
        if id & OWN_ID == 0 {
            return false;
        }
        let Asking { asked, withdrawn } = &mut self.doubting.asking;
        // An earlier process may have asked to end an earlier admission.
        let is_asked = asked.is_some_and(|(_, joined)| id == OWN_ID | joined);
        if is_asked && *answer == Answer::Done {
            *withdrawn = Some(id & !OWN_ID);
        }
        true
    }

    /// The log begins with what it is sent from now on, by leaders that know of `joined`: the one that let
    /// this node in led in `term` or before.
    fn readmitted(&mut self, joined: Index, term: u64) {
        tracing::info!(joined, "this node was let in again, and is sent the log");
        self.doubting.joined = joined;
        self.take_part(self.doubting.doubt.term().max(term));
        self.doubting.asking = Asking::default();
        let puts = &mut self.extra.puts;
        puts.push((JOINED_KEY.to_vec(), joined.to_be_bytes().to_vec()));
        puts.push((TOLD_KEY.to_vec(), self.doubting.told.encode()));
    }

    /// A leader sends another entry than the one that is committed here.
    pub(super) fn contradict(&mut self, index: Index, from: u64) {
        self.doubting.contradicted.get_or_insert((index, from));
    }

    /// Tells the members to whoever knows older ones only.
    pub(super) fn tell_members(&mut self, now: Duration, peers: &mut dyn Peers) {
        let newest = self.sayable_members();
        let index = newest.index;
        let behind = self.peers.behind(index, now);
        if behind.is_empty() {
            return;
        }
        let frame = Frame::Members(Box::new((*newest).clone()));
        for peer in behind {
            if peers.send(peer, &frame) == Sent::Taken {
                self.peers.told_members(peer, index, now);
            }
        }
    }
}

fn number(bytes: Vec<u8>) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(feature = "testing")]
impl<S: LogStore> LogMachine<S> {
    /// For tests of something else: the log is what it promised.
    pub fn trust(&mut self) {
        self.doubting.phase = Phase::Sound;
    }
}
