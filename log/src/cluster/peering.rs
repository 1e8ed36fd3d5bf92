//! Who dials whom, who is let in, and which lanes are up. Pure: the sockets turn
//! it, and so does a simulator.
//!
//! Two nodes have one *session*: a connection for each lane, dialled together. It is up when both
//! ends have greeted each other on all of them, and over when one of them breaks. The node with the
//! lower number dials; the other one does so only when it has long not been reached, for it may have
//! moved. The side that dials greets first, the other repeats the number of its session.

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::authority::Shown;
use crate::cluster::exchange::Local;
use crate::cluster::frame::{Hello, Lane, Refusal, RefusalCode};
use crate::cluster::identity::ClusterId;
use crate::cluster::members::NODES_MAX;

/// First pause after a session that did not come up, and the longest: a cluster that is cut apart for
/// long is to be one again soon after the cut is mended.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// After a refusal that will hold, such as that of another cluster.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A session that breaks before counts as one that did not come up.
const STABLE: Duration = Duration::from_secs(10);
/// A session that has not come up by then never will.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// The node with the higher number dials after so long without a session.
const PATIENCE: Duration = Duration::from_secs(3);
/// A session from which something was heard so recently is alive.
const ALIVE: Duration = Duration::from_secs(3);

/// What of this node stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which life of it.
    pub generation: u64,
    /// Its number.
    pub node: u64,
    /// The random number of this process.
    pub boot: u128,
    /// Its version, for people.
    pub version: String,
    /// Where others reach it.
    pub address: String,
}

/// One session, for as long as this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// A session to be dialled: a connection to `address` for each lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Whom.
    pub peer: u64,
    /// The session.
    pub session: SessionId,
    /// Where.
    pub address: String,
}

/// What a greeting brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Who greets.
    pub peer: u64,
    /// The session that the lane belongs to.
    pub session: SessionId,
    /// A session that ends with it: its connections must be closed.
    pub replaced: Option<Ended>,
    /// All lanes are up now.
    pub is_up: bool,
    /// It knows of newer members: that counts, whatever becomes of the session.
    pub knows_more: bool,
}

/// A session that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// With whom it was.
    pub peer: u64,
    /// The session.
    pub session: SessionId,
    /// It was up: the log thread must be told.
    pub was_up: bool,
}

/// How a greeting came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On a connection that this node has dialled for that peer, session and lane.
    Dialled {
        /// Whom.
        peer: u64,
        /// The session.
        session: SessionId,
        /// The lane.
        lane: Lane,
    },
    /// On a connection that somebody else has dialled.
    Accepted,
}

/// The sessions of a node with all others.
#[derive(Debug)]
pub struct Peering {
    me: Me,
    local: Local,
    peers: BTreeMap<u64, Peer>,
    last_session: u64,
}

#[derive(Debug)]
struct Peer {
    /// Where the members say that it is.
    address: String,
    /// Where it says itself that it is, if that is elsewhere.
    heard_address: Option<String>,
    session: Option<Session>,
    /// The process with which there was a session last, and its start.
    last: Option<(u128, u64)>,
    /// Sessions in a row that this node dialled and that did not come up, or not for long.
    failures: u32,
    /// Why the session that ends now was refused, by either side.
    refused: Option<RefusalCode>,
    next_dial: Duration,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// The dialler's number for it.
    number: u64,
    is_dialled: bool,
    /// The other process, once it has greeted.
    boot: Option<u128>,
    lanes: Vec<Lane>,
    /// This node has greeted on a lane of it: the other one may have given its own session up for it.
    has_greeted: bool,
    is_up: bool,
    /// When it came up, or else when it was dialled.
    begun: Duration,
    heard: Duration,
}

impl Peering {
    /// Nobody is known before [`Self::update`].
    #[must_use]
    pub fn new(me: Me) -> Self {
        Self { me, local: Local::default(), peers: BTreeMap::new(), last_session: 0 }
    }

    /// Takes over what the log knows. Answers the sessions with nodes that are no members any more.
    pub fn update(&mut self, now: Duration, local: Local) -> Vec<Ended> {
        self.local = local;
        for (&node, member) in &self.local.members.nodes {
            if node == self.me.node {
                continue;
            }
            let is_mine = self.me.node < node;
            self.peers
                .entry(node)
                .and_modify(|peer| {
                    if peer.address != member.address {
                        peer.address.clone_from(&member.address);
                        peer.heard_address = None;
                        peer.failures = 0;
                    }
                })
                .or_insert_with(|| Peer {
                    address: member.address.clone(),
                    heard_address: None,
                    session: None,
                    last: None,
                    failures: 0,
                    refused: None,
                    next_dial: if is_mine { now } else { now + PATIENCE },
                });
        }
        let mut ended = Vec::new();
        let local = &self.local;
        self.peers.retain(|&peer, state| {
            let is_retired = local.has_left(peer);
            if is_retired && let Some(Session { id, is_up, .. }) = state.session {
                ended.push(Ended { peer, session: id, was_up: is_up });
            }
            !is_retired
        });
        ended
    }

    /// Sessions to be dialled now.
    pub fn dial(&mut self, now: Duration) -> Vec<Dial> {
        let mut dials = Vec::new();
        for (&peer, state) in &mut self.peers {
            if state.session.is_some() || state.next_dial > now {
                continue;
            }
            self.last_session += 1;
            let id = SessionId(self.last_session);
            let number = self.last_session;
            state.session = Some(Session::new(id, number, true, None, now));
            let address = match &state.heard_address {
                Some(heard) if state.failures % 2 == 1 => heard,
                _ => &state.address,
            };
            dials.push(Dial { peer, session: id, address: address.clone() });
        }
        dials
    }

    /// Sessions that did not come up in time.
    pub fn overdue(&mut self, now: Duration) -> Vec<Ended> {
        let overdue: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(&peer, state)| {
                let session = state.session.as_ref()?;
                let is_overdue = !session.is_up && now >= session.begun + GREETING_MAX;
                is_overdue.then_some((peer, session.id))
            })
            .collect();
        overdue.into_iter().filter_map(|(peer, session)| self.lost(now, peer, session)).collect()
    }

    /// When [`Self::dial`] or [`Self::overdue`] have something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let next = |peer: &Peer| match &peer.session {
            None => Some(peer.next_dial),
            Some(session) if !session.is_up => Some(session.begun + GREETING_MAX),
            Some(_) => None,
        };
        self.peers.values().filter_map(next).min()
    }

    /// What this node says now on a lane of a session; `None` if the session is over.
    #[must_use]
    pub fn hello(&mut self, peer: u64, session: SessionId, lane: Lane) -> Option<Hello> {
        let open = self.peers.get_mut(&peer)?.session.as_mut()?;
        if open.id != session {
            return None;
        }
        open.has_greeted = true;
        let number = open.number;
        Some(Hello {
            lane,
            cluster: self.me.cluster,
            boot: self.me.boot,
            session: number,
            generation: self.me.generation,
            node: self.me.node,
            start: self.local.start,
            last: self.local.last,
            commit: self.local.commit,
            first: self.local.first,
            members_index: self.local.members.index,
            version: self.me.version.clone(),
            address: self.me.address.clone(),
        })
    }

    /// Somebody greets. `certificate` is what its certificate says that it is; without TLS there is
    /// none, and what it says of itself is believed.
    ///
    /// # Errors
    ///
    /// What it is to be told before the connection is closed.
    pub fn greet(
        &mut self,
        now: Duration,
        way: Way,
        hello: &Hello,
        certificate: Option<Shown>,
    ) -> Result<Greeted, Refusal> {
        if self.local.start == 0 {
            return Err(busy("the log of this node is not open yet"));
        }
        check::hello(&self.me, &self.local, hello, certificate)?;
        self.check_process(hello)?;
        if !self.is_spoken_with(hello.node) && self.has_member_up() {
            // Whoever of the members is up tells of newer ones, and then it is known.
            let text = format!("node {} is not a member, as far as is known here", hello.node);
            return Err(Refusal::new(RefusalCode::Unknown, text));
        }
        let (session, replaced) = match way {
            Way::Dialled { peer, session, lane } => {
                self.answered(peer, session, lane, hello)?;
                (session, None)
            }
            Way::Accepted => self.accept(now, hello)?,
        };
        let peer = hello.node;
        let state = self.peers.get_mut(&peer);
        let state = state.ok_or_else(|| busy("the session is over"))?;
        let Some(open) = state.session.as_mut().filter(|open| open.id == session) else {
            return Err(busy("the session is over"));
        };
        if open.lanes.contains(&hello.lane) {
            return Err(busy("the lane is there already"));
        }
        open.boot = Some(hello.boot);
        open.lanes.push(hello.lane);
        open.heard = now;
        open.is_up = open.lanes.len() == Lane::ALL.len();
        let is_up = open.is_up;
        if is_up {
            open.begun = now;
            state.last = Some((hello.boot, hello.start));
            let is_elsewhere = !hello.address.is_empty() && hello.address != state.address;
            state.heard_address = is_elsewhere.then(|| hello.address.clone());
        }
        let knows_more = hello.members_index > self.local.members.index;
        Ok(Greeted { peer, session, replaced, is_up, knows_more })
    }

    /// Whether that can be the process with which there was a session, or one that came after it.
    fn check_process(&self, hello: &Hello) -> Result<(), Refusal> {
        let last = self.peers.get(&hello.node).and_then(|peer| peer.last);
        let Some((_, start)) = last.filter(|(boot, _)| *boot != hello.boot) else { return Ok(()) };
        let node = hello.node;
        if hello.start == start {
            let text = format!(
                "another process began as start {start} of node {node}: was its disk cloned?"
            );
            return Err(Refusal::new(RefusalCode::Cloned, text));
        }
        if hello.start < start {
            let text = format!(
                "node {node} starts as {}, but it was here as start {start}: was its disk rolled back?",
                hello.start
            );
            return Err(Refusal::new(RefusalCode::RolledBack, text));
        }
        Ok(())
    }

    fn has_member_up(&self) -> bool {
        self.local.members.nodes.keys().any(|node| self.is_up(*node))
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now: Duration, peer: u64) {
        if let Some(session) = self.peers.get_mut(&peer).and_then(|peer| peer.session.as_mut()) {
            session.heard = now;
        }
    }

    /// One side does not want the other: how long to wait before the next dial depends on why.
    pub fn refused(&mut self, peer: u64, code: RefusalCode) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.refused = Some(code);
        }
    }

    /// A connection of the session broke, or could not be made: the session is over. `None` if it
    /// was so before.
    pub fn lost(&mut self, now: Duration, peer: u64, session: SessionId) -> Option<Ended> {
        let is_mine = self.me.node < peer;
        let state = self.peers.get_mut(&peer)?;
        let was = state.session.take_if(|open| open.id == session)?;
        let refused = state.refused.take();
        if was.is_up && now.saturating_sub(was.begun) >= STABLE {
            state.failures = 0;
        } else if was.is_dialled {
            state.failures = state.failures.saturating_add(1);
        }
        let pause = BACKOFF_MIN * 2_u32.saturating_pow(state.failures.min(7));
        // Others dial this node, too: not all at the same time.
        let spread = Duration::from_millis((self.me.node.wrapping_mul(7) + peer * 13) % 50);
        let pause = pause.min(BACKOFF_MAX) + spread;
        let is_first = state.failures == 0;
        state.next_dial = now
            + match refused {
                Some(code) if is_lasting(code) => REFUSED_PAUSE + spread,
                _ if is_mine || !is_first => pause,
                _ => PATIENCE,
            };
        if !self.is_spoken_with(peer) {
            // It was let in since it knew of newer members; they have not come here.
            self.peers.remove(&peer);
        }
        Some(Ended { peer, session, was_up: was.is_up })
    }

    /// Whether `node` is a member, or needed until it may go.
    fn is_spoken_with(&self, node: u64) -> bool {
        self.local.members.nodes.contains_key(&node) || self.local.leaving.contains(&node)
    }

    /// Whether all lanes to the peer are up.
    #[must_use]
    pub fn is_up(&self, peer: u64) -> bool {
        let session = self.peers.get(&peer).and_then(|peer| peer.session.as_ref());
        session.is_some_and(|session| session.is_up)
    }

    /// Whether the session is not over.
    #[must_use]
    pub fn is_open(&self, peer: u64, session: SessionId) -> bool {
        self.session(peer, session).is_some()
    }

    fn session(&self, peer: u64, session: SessionId) -> Option<&Session> {
        self.peers.get(&peer)?.session.as_ref().filter(|open| open.id == session)
    }

    /// Whether the answer to our greeting is one.
    fn answered(
        &self,
        peer: u64,
        session: SessionId,
        lane: Lane,
        hello: &Hello,
    ) -> Result<(), Refusal> {
        if hello.node != peer {
            let text = format!("node {peer} was dialled and node {} answers", hello.node);
            return Err(Refusal::new(RefusalCode::Certificate, text));
        }
        let Some(open) = self.session(peer, session) else {
            return Err(busy("the session is over"));
        };
        let is_same = open.boot.is_none_or(|boot| boot == hello.boot);
        if hello.lane != lane || hello.session != open.number || !is_same {
            let text = "the answer is to another greeting";
            return Err(Refusal::new(RefusalCode::Malformed, text));
        }
        Ok(())
    }

    /// Finds or begins the session that somebody else has dialled.
    fn accept(
        &mut self,
        now: Duration,
        hello: &Hello,
    ) -> Result<(SessionId, Option<Ended>), Refusal> {
        let peer = hello.node;
        // Whoever is no member here but knows of newer members was let in above.
        if !self.peers.contains_key(&peer) && self.peers.len() >= 2 * NODES_MAX {
            return Err(busy("too many nodes that are no members here"));
        }
        let state = self.peers.entry(peer).or_insert_with(|| Peer {
            address: hello.address.clone(),
            heard_address: None,
            session: None,
            last: None,
            failures: 0,
            refused: None,
            next_dial: now + PATIENCE,
        });
        let mut replaced = None;
        if let Some(open) = &state.session {
            if !open.is_dialled
                && open.number == hello.session
                && open.boot.is_none_or(|boot| boot == hello.boot)
            {
                return Ok((open.id, None));
            }
            open.give_way(now, self.me.node, hello)?;
            replaced = Some(Ended { peer, session: open.id, was_up: open.is_up });
        }
        self.last_session += 1;
        let id = SessionId(self.last_session);
        state.session = Some(Session::new(id, hello.session, false, Some(hello.boot), now));
        Ok((id, replaced))
    }
}

impl Session {
    fn new(
        id: SessionId,
        number: u64,
        is_dialled: bool,
        boot: Option<u128>,
        now: Duration,
    ) -> Self {
        let (lanes, has_greeted, is_up) = (Vec::new(), false, false);
        Self { id, number, is_dialled, boot, lanes, has_greeted, is_up, begun: now, heard: now }
    }

    /// Whether this session gives way to the one that `hello` begins.
    fn give_way(&self, now: Duration, me: u64, hello: &Hello) -> Result<(), Refusal> {
        let is_alive = now < self.heard + ALIVE;
        if self.boot.is_some_and(|boot| boot != hello.boot) {
            // A process that died leaves connections behind only if its machine died with it.
            if self.is_up && is_alive {
                let text =
                    format!("another process runs as node {}: was its disk cloned?", hello.node);
                return Err(Refusal::new(RefusalCode::Cloned, text));
            }
            return Ok(());
        }
        if !self.is_dialled {
            // The dialler knows best which of its sessions is the last.
            return match hello.session > self.number {
                true => Ok(()),
                false => Err(busy("there is a newer session")),
            };
        }
        // Both have dialled. The lower number's counts, but for one on which it could not say a word, or is
        // not answered: the other one may have given its own session up for it at the same time.
        if (me < hello.node && self.has_greeted || self.is_up) && is_alive {
            return Err(busy("there is a session already"));
        }
        Ok(())
    }
}

/// Whether a refusal for that reason holds until an operator does something.
fn is_lasting(code: RefusalCode) -> bool {
    match code {
        RefusalCode::Protocol
        | RefusalCode::Cluster
        | RefusalCode::Generation
        | RefusalCode::Certificate
        | RefusalCode::Retired
        | RefusalCode::RolledBack => true,
        // A process that died with its machine is taken for alive for a moment, and who was let in just
        // now is not known everywhere.
        RefusalCode::Cloned
        | RefusalCode::Unknown
        | RefusalCode::Busy
        | RefusalCode::Malformed
        | RefusalCode::Join
        | RefusalCode::NotLeader
        | RefusalCode::Stopping
        | RefusalCode::Other => false,
    }
}

fn busy(text: &str) -> Refusal {
    Refusal::new(RefusalCode::Busy, text)
}
