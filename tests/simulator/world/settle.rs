//! The phase of peace: everything must come to its end.

use std::time::Duration;

use crate::client::Client;
use crate::node::Node;
use crate::seen::Seen;
use crate::world::World;

/// Rounds within which everything must be delivered when faults have stopped.
const SETTLE_ROUNDS: u64 = 12_000;
/// The same for several nodes, where each commit takes some rounds.
const SETTLE_ROUNDS_CLUSTER: u64 = 48_000;
/// Rounds within which several nodes know the same leader: a minute, which is long for an election, but
/// ends may have to lose their patience with a connection first.
const ELECTION_ROUNDS: u64 = 2_400;
/// Time that passes in a round, and in one that finds everything at rest.
const ROUND: Duration = Duration::from_millis(25);
const QUIET_ROUND: Duration = Duration::from_millis(250);
/// Rounds at rest after which nothing more is expected: longer than a will may be delayed, by a log
/// whose time goes at half the pace.
const QUIET_ROUNDS: u64 = 200;

impl World {
    /// Faults stop, clients behave: everything must come to its end.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("--- faults stop"));
        self.heal();
        self.lift_rules();
        self.settle_members();
        self.options.socket_bytes = self.options.socket_bytes.max(64 << 10);
        let (mut quiet, mut is_at_rest, mut has_led, mut term) = (0, false, false, None);
        let asked = self.now.plus(self.asked());
        let mut is_asked = true;
        let rounds = if self.cluster.is_none() { SETTLE_ROUNDS } else { SETTLE_ROUNDS_CLUSTER };
        for round in 0..rounds {
            self.advance(if is_at_rest { QUIET_ROUND } else { ROUND });
            for at in 0..self.seats.len() {
                self.turn_by(at, Node::turn_all)?;
            }
            self.revive()?;
            self.look_at_members();
            self.look_for_leaders();
            self.network.end_silence();
            for at in 0..self.clients.len() {
                self.turn_client_at(at, true);
            }
            for connection in self.network.connections.values_mut() {
                connection.advance(&mut self.rng);
            }
            self.network.sweep();
            self.judge()?;
            let is_quiet = self.is_idle() && self.clients.iter().all(Client::is_settled);
            has_led |= self.cluster.is_none() || self.leader().is_ok();
            if !has_led && round >= ELECTION_ROUNDS {
                return Err(format!("liveness: {:?} after a minute of peace", self.leader()));
            }
            if std::mem::replace(&mut is_asked, self.now < asked) && !is_asked {
                self.undrain();
                // All run by now, and hear of it.
                self.lift_rules();
            }
            if is_quiet
                && !is_asked
                && let Ok((now, ..)) = self.leader()
            {
                let before = *term.get_or_insert(now);
                if now != before {
                    return Err(format!("quiet: the term went from {before} to {now} in peace"));
                }
            }
            let is_silent = self.network.is_silent();
            quiet = if is_quiet && !is_asked { quiet + u64::from(is_silent) } else { 0 };
            is_at_rest = is_quiet && is_silent;
            if quiet >= QUIET_ROUNDS {
                return self.finish();
            }
        }
        let clients: Vec<_> = self
            .clients
            .iter()
            .filter(|client| !client.is_settled())
            .map(|client| format!("{client:?}"))
            .collect();
        let (is_idle, leader) = (self.is_idle(), self.leader());
        Err(format!(
            "owed: it does not come to rest; idle {is_idle}, unsettled: {clients:?}, leader {leader:?}"
        ))
    }

    /// Whether all nodes run, have nothing to do, and agree.
    fn is_idle(&self) -> bool {
        let mut members = self.seats.iter().filter(|seat| seat.is_in());
        members.all(|seat| seat.node.as_ref().is_some_and(Node::is_idle))
            && self.are_members_settled()
            && self.leader().is_ok_and(|(.., committed)| committed.len() == 1)
    }

    fn finish(&mut self) -> Result<(), String> {
        self.trace.say(format_args!("--- settled"));
        self.tell_what_is_owed();
        for client in &self.clients {
            let open = client.left_open(&self.network);
            let left = open.map(|conn| Seen::LeftOpen { client: client.number, conn });
            self.seen.extend(left);
        }
        let nodes = self.seats.iter().filter_map(|seat| seat.node.as_ref());
        let dropped: u64 = nodes.map(Node::dropped).sum();
        self.oracle.may_lose_transient |= dropped > 0 || self.oracle.access.has_changed();
        self.look();
        self.seen.push(Seen::Settled);
        self.tally.void = self.oracle.void_records;
        self.tally.late = self.oracle.voids.late;
        self.tally.snapshots = self.oracle.snapshots;
        self.tally.published = self.oracle.published.len() as u64;
        self.judge()
    }
}
