//! Nodes that ask to be let in, and what this node says of itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::cluster::{
    Authority, ClusterId, Command, Door, Entry, Identity, Join, Local, MemberChange, Members,
    Peers, Refusal, RefusalCode,
};
use crate::machine::LogMachine;
use crate::shared::lock;
use crate::store::LogStore;

/// Requests that may wait.
const WAITING_MAX: usize = 16;
/// Whoever asks waits half a minute.
const PATIENCE: Duration = Duration::from_secs(25);
/// Key of the store under which the members stand that a node was told when it was let in, until
/// its log says who they are.
pub(super) const TOLD_KEY: &[u8] = b"M";

/// The place of this node in a cluster.
pub struct Membership {
    /// Who it is.
    pub identity: Identity,
    /// Where other nodes reach it.
    pub address: String,
    /// Where clients reach it.
    pub mqtt: Vec<String>,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// The cluster's authority, with which a leader lets nodes in.
    pub authority: Option<Authority>,
    /// The members, if it was let in just now.
    pub told: Option<Arc<Members>>,
    /// The members as an earlier process knew them, for one that finds its log empty.
    pub known: Option<Arc<Members>>,
    /// Why an earlier process had to leave its log behind, if it is so.
    pub why: Option<String>,
}

/// What the machine knows of its place, and who waits at the door.
#[derive(Default)]
pub(super) struct Joining {
    membership: Option<Membership>,
    waiting: Vec<Waiting>,
    /// What was said of this node last.
    said: Option<Local>,
}

struct Waiting {
    id: u64,
    request: Box<Join>,
    until: Duration,
}

impl Joining {
    pub(super) fn new(membership: Option<Membership>) -> Self {
        Self { membership, ..Self::default() }
    }

    /// Who this node is in its cluster.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.membership.as_ref().map(|membership| &membership.identity)
    }

    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.identity().map(|identity| identity.cluster)
    }

    /// What was said in greetings is said again.
    pub(super) fn unsay(&mut self) {
        self.said = None;
    }
}

impl<S: LogStore> LogMachine<S> {
    /// Somebody asks to be let in.
    pub(super) fn take_join(&mut self, id: u64, request: Join, now: Now, peers: &mut dyn Peers) {
        if self.joining.waiting.len() >= WAITING_MAX {
            let text = "too many nodes ask to be let in: try again in a moment";
            return peers.answer(id, Err(Refusal::new(RefusalCode::Busy, text)));
        }
        let (request, until) = (Box::new(request), now.monotonic + PATIENCE);
        self.joining.waiting.push(Waiting { id, request, until });
    }

    /// Lets in who may, as the leader; whoever asks elsewhere is told where.
    pub(super) fn open_door(&mut self, now: Now, peers: &mut dyn Peers) {
        let mut waiting = std::mem::take(&mut self.joining.waiting);
        waiting.retain(|asks| match self.admit(asks, now) {
            Some(answer) => {
                peers.answer(asks.id, answer);
                false
            }
            None => true,
        });
        self.joining.waiting = waiting;
    }

    fn admit(&mut self, asks: &Waiting, now: Now) -> Option<crate::cluster::JoinAnswer> {
        let refuse = |code, text: &str| Some(Err(Refusal::new(code, text)));
        let members = self.replica.members();
        if !self.replica.is_leader() {
            let leader = members.nodes.get(&self.replica.leader());
            let mut refusal =
                Refusal::new(RefusalCode::NotLeader, "this node does not lead: ask the leader");
            refusal.instead = leader.map(|leader| leader.address.clone()).unwrap_or_default();
            return Some(Err(refusal));
        }
        let Some(authority) = self.joining.membership.as_ref().and_then(|it| it.authority.as_ref())
        else {
            return refuse(RefusalCode::Join, "this node has not the cluster's authority");
        };
        if now.monotonic >= asks.until {
            return refuse(RefusalCode::Busy, "it was not done in time: is there a quorum?");
        }
        if !members.is_founded() {
            return None;
        }
        let now_s = now.wall.0 / 1_000_000;
        let door = Door { authority, members, now_s };
        match door.check(&asks.request) {
            Err(refusal) => Some(Err(refusal)),
            Ok(Entry::Member) => {
                let start_min = self.admission.start_of(asks.request.node) + 1;
                let joined = door.joined(&asks.request, start_min);
                Some(joined.map_err(|error| Refusal::new(RefusalCode::Other, error.to_string())))
            }
            // What it is once that is applied is seen in a later turn.
            Ok(Entry::Propose(change)) => {
                if let MemberChange::JoinFor { replaces, .. } = &change
                    && let Some(text) = self.serves(*replaces)
                {
                    return refuse(RefusalCode::Join, &text);
                }
                self.replica.propose_change(&change);
                None
            }
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        !self.joining.waiting.is_empty()
    }

    /// The change that this node, as the leader, has to make for itself; `None` if there is none.
    pub(super) fn own_change(&self) -> Option<MemberChange> {
        let Membership { identity, address, mqtt, key, .. } = self.joining.membership.as_ref()?;
        let is_alone = self.replica.is_sole_member();
        (is_alone && !self.replica.members().is_founded()).then(|| MemberChange::Found {
            cluster: identity.cluster,
            generation: identity.generation,
            node: self.shared.node,
            address: address.clone(),
            mqtt: mqtt.clone(),
            key: *key,
        })
    }

    /// Tells the leader where this node is reached, if the log says otherwise.
    pub(super) fn tell_address(&mut self, now: Duration) {
        let Some(Membership { address, mqtt, .. }) = &self.joining.membership else { return };
        let own = self.shared.node;
        let member = self.replica.members().nodes.get(&own);
        let is_elsewhere =
            member.is_some_and(|member| member.address != *address || member.mqtt != *mqtt);
        if is_elsewhere && self.replica.leader() != 0 {
            let (address, mqtt) = (address.clone(), mqtt.clone());
            self.add_own_command(Command::Address { node: own, address, mqtt }, now);
        }
    }

    /// Says in greetings how far this node is, and whom it knows. Under a number that does not outlive
    /// this process it greets nobody.
    pub(super) fn tell_peers(&mut self, peers: &mut dyn Peers) {
        if !self.is_number_kept && self.joining.said.is_some() {
            return;
        }
        let members = self.sayable_members();
        let starts = members.nodes.keys().map(|node| (*node, self.admission.known_start(*node)));
        let local = Local {
            start: self.shared.start(),
            last: self.replica.last_durable(),
            commit: self.replica.committed(),
            first: self.shared.reader.first_index(),
            starts: starts.collect(),
            leaving: self.leaving(&members),
            members,
        };
        if self.joining.said.as_ref() != Some(&local) {
            peers.update(&local);
            self.joining.said = Some(local);
        }
    }

    /// The newest members of which others may hear: what was told to this node, or what it has on its
    /// disk. Whoever hears that somebody has left ends it, and a crash must not leave this node in need
    /// of it.
    pub(super) fn sayable_members(&self) -> Arc<Members> {
        let shown = Arc::clone(&lock(&self.shared.members));
        let told = &self.doubting.told;
        if told.index > shown.index { Arc::clone(told) } else { shown }
    }

    /// Those who have left and are in as applied here: their vote is needed until a change is finished,
    /// or is known here that others know already.
    fn leaving(&self, members: &Members) -> BTreeSet<u64> {
        let needed = self.replica.configuration().members().into_iter();
        needed.filter(|node| members.retired.contains(node)).collect()
    }

    /// Says so for the first time: nobody is greeted before.
    pub(super) fn tell_peers_first(&mut self, peers: &mut dyn Peers) {
        if self.joining.said.is_none() {
            self.doubting.greeted_as = self.shared.start();
            self.show_members();
            self.tell_peers(peers);
        }
    }

    /// Says at once that this process goes by another number: who is greeted under one that was
    /// declared lost takes it for a disk that was rolled back.
    pub(super) fn tell_peers_number(&mut self, peers: &mut dyn Peers) {
        let said = self.joining.said.as_ref().map(|local| local.start);
        if self.is_number_kept && said != Some(self.shared.start()) {
            self.tell_peers(peers);
        }
    }
}
