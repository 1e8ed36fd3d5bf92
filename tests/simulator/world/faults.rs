//! What goes wrong, and its mending.

use std::fmt;
use std::time::Duration;

use ledgermq_core::access;
use ledgermq_core::event::Event;

use crate::node::Node;
use crate::options::RULES;
use crate::seen::Seen;
use crate::world::World;
use crate::world::cluster::KINDS;

/// Rounds that connections and log have for the rest when the node is stopped: ten seconds.
const DRAIN_ROUNDS: u32 = 100;
const DRAIN_ROUND: Duration = Duration::from_millis(100);

impl World {
    /// One fault, drawn by the seed's weights.
    pub(super) fn strike(&mut self) -> Result<(), String> {
        if self.rng.permille(100) {
            self.give_up();
            return Ok(());
        }
        let faults = &self.options.faults;
        let cluster = self.cluster.as_ref().map_or([0; KINDS], |it| it.weights);
        let weights = [
            faults.crash,
            faults.sync_error,
            faults.disk_full,
            faults.reset,
            faults.half_open,
            faults.clock_jump,
            faults.store_fails,
            faults.stop,
            if self.options.has_rules { faults.rules } else { 0 },
        ];
        let weights = [&weights[..], &cluster[..]].concat();
        let mut drawn = self.rng.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        let kind = weights.iter().position(|weight| {
            let is_it = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            is_it
        });
        match kind {
            Some(5) => self.jump(),
            Some(3) => self.reset_one(),
            Some(4) => self.silence_one(),
            Some(8) => {
                let text = *self.rng.pick(&RULES);
                let is_open = self.rng.permille(100);
                self.change_rules((!is_open).then_some(text));
            }
            Some(kind) if kind > 8 => self.strike_cluster(kind - 9),
            Some(kind) => {
                let at = self.pick_seat();
                return self.strike_node(kind, at);
            }
            None => {}
        }
        Ok(())
    }

    /// The log says that a node is lost, though it runs; or one begins anew for another reason.
    fn give_up(&mut self) {
        let is_lost = self.rng.permille(700);
        let at = self.pick_seat();
        if !is_lost {
            self.say_of(at, format_args!("the node is to begin anew"));
            if let Some(node) = &self.seats[at].node {
                node.log.log.renew_incarnation();
            }
            return;
        }
        self.say_of(at, format_args!("the node is given up"));
        let node = self.seats[at].name.id;
        let Some(given_up) = &self.seats[at].node else { return };
        let start = given_up.log.log.incarnation();
        for seat in &self.seats {
            let Some(log) = seat.node.as_ref().map(|node| &node.log.log) else { continue };
            if let Some(leading) = log.leading() {
                let mut events = log.builder();
                events.push(None, None, &Event::NodeLost { node, start });
                drop(log.derive(leading.term, events));
            }
        }
    }

    /// What goes wrong with one node.
    fn strike_node(&mut self, kind: usize, at: usize) -> Result<(), String> {
        match kind {
            0 => self.crash(at, "power fails"),
            1 => {
                if let Some(node) = &self.seats[at].node {
                    node.log.disk().fail_next_sync(true);
                    self.say_of(at, format_args!("the next fsync fails"));
                }
            }
            2 => self.fill_disk(at),
            6 => self.fail_store(at),
            _ => return self.stop(at),
        }
        Ok(())
    }

    /// Writes down what becomes of a node.
    pub(super) fn say_of(&mut self, at: usize, what: fmt::Arguments<'_>) {
        self.trace.say(format_args!("{}{what}", self.seats[at].name));
    }

    /// The file of the access rules is changed, and the node told so, if it runs; of several some are.
    fn change_rules(&mut self, text: Option<&str>) {
        self.trace.say(format_args!("the access rules become {text:?}"));
        self.rules = text.map(|text| access::parse(text).expect("they are rules"));
        for seat in &mut self.seats {
            let is_told = self.cluster.is_none() || self.rng.permille(500);
            if let Some(node) = seat.node.as_mut().filter(|_| is_told) {
                node.reload(self.rules.clone());
            }
        }
    }

    /// Everything is allowed to everybody.
    pub(super) fn lift_rules(&mut self) {
        self.trace.say(format_args!("the access rules become None"));
        self.rules = None;
        for node in self.seats.iter_mut().filter_map(|seat| seat.node.as_mut()) {
            node.lift_rules();
        }
    }

    /// Much time passes at once, or the wall clock is put to another time.
    fn jump(&mut self) {
        let seconds = *self.rng.pick(&[1, 60, 3_600, 86_400]);
        match self.rng.below(3) {
            0 => {
                self.trace.say(format_args!("{seconds} seconds pass at once"));
                self.advance(Duration::from_secs(seconds));
            }
            1 => {
                let at = self.pick_seat();
                self.say_of(at, format_args!("the wall clock is put {seconds} seconds ahead"));
                self.seats[at].wall_ahead += seconds * 1_000_000;
            }
            _ => {
                let at = self.pick_seat();
                self.say_of(at, format_args!("the wall clock is put {seconds} seconds back"));
                let ahead = &mut self.seats[at].wall_ahead;
                *ahead = ahead.saturating_sub(seconds * 1_000_000);
            }
        }
    }

    /// The node is stopped in order: its clients are told, all is written. The others go on.
    fn stop(&mut self, at: usize) -> Result<(), String> {
        let Some((node, outside)) = self.inside(at) else { return Ok(()) };
        node.end_connections(&outside);
        self.say_of(at, format_args!("the node is asked to stop"));
        for _ in 0..DRAIN_ROUNDS {
            self.advance(DRAIN_ROUND);
            let Some((node, mut outside)) = self.inside(at) else { break };
            if let Err(error) = node.turn_all(&mut outside) {
                return self.on_stopped(at, &error);
            }
            if node.is_drained() {
                break;
            }
            for other in (0..self.seats.len()).filter(|other| *other != at) {
                self.turn_by(other, Node::turn_all)?;
            }
            for connection in self.network.connections.values_mut() {
                connection.advance(&mut self.rng);
            }
            self.judge()?;
        }
        if let Some((node, mut outside)) = self.inside(at)
            && let Err(error) = node.close(&mut outside)
        {
            return self.on_stopped(at, &error);
        }
        self.crash(at, "the node stops");
        Ok(())
    }

    pub(super) fn crash(&mut self, at: usize, why: &str) {
        let Some(node) = self.seats[at].node.take() else { return };
        let (dropped, start) = (node.dropped(), node.log.log.start());
        self.oracle.may_lose_transient |= dropped > 0 || self.oracle.access.has_changed();
        self.say_of(at, format_args!("{why}"));
        let absences = self.cluster.as_ref().map_or(0, |cluster| cluster.absences);
        let (seat, mut outside) = self.around(at);
        let id = seat.name.id;
        seat.remains = Some(node.crash(&mut outside));
        let most = if absences > 0 && outside.rng.permille(absences) { 40_000 } else { 3_000 };
        let pause = Duration::from_millis(outside.rng.range(1, most));
        self.seats[at].restart_at = self.now.plus(pause);
        self.seats[at].note_start(start);
        if let Some(cluster) = &mut self.cluster {
            cluster.net.links.died(id, self.now, &mut self.rng);
        }
        self.tally.crashes += 1;
    }

    /// The node stopped by itself. It may, if its disk failed.
    pub(super) fn on_stopped(&mut self, at: usize, error: &str) -> Result<(), String> {
        if !is_fault_of_disk(error) {
            return Err(format!("{}the node stopped: {error}", self.seats[at].name));
        }
        self.crash(at, error);
        Ok(())
    }

    /// Starts nodes again, and lets what was broken for a while heal.
    pub(super) fn revive(&mut self) -> Result<(), String> {
        for at in 0..self.seats.len() {
            if self.seats[at].heal_at.is_some_and(|heal_at| heal_at <= self.now) {
                self.heal_disk(at);
            }
            if self.seats[at].restart_at <= self.now && self.seats[at].is_in() {
                self.restart(at)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, at: usize) -> Result<(), String> {
        let (seat, mut outside) = self.around(at);
        let Some(remains) = seat.remains.take() else { return Ok(()) };
        let id = seat.name.id;
        let membership = seat.membering.as_mut().map(|it| it.membership(id));
        match Node::start(&remains, membership, &mut outside) {
            Ok(node) => {
                seat.note_start(node.log.log.start());
                seat.node = Some(node);
                if let Some(cluster) = &mut self.cluster {
                    cluster.net.started(id);
                }
                self.seen.push(Seen::Recovered);
            }
            Err(error) if is_fault_of_disk(&error) => {
                remains.disk.cut_power(outside.rng);
                outside.say(format_args!("the node does not start: {error}"));
                seat.remains = Some(remains);
                self.seats[at].restart_at = self.now.plus(Duration::from_millis(500));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn fill_disk(&mut self, at: usize) {
        if self.seats[at].node.is_none() {
            return;
        }
        self.say_of(at, format_args!("the disk is full"));
        let room = self.rng.below(60_000);
        let pause = Duration::from_millis(self.rng.range(10, 10_000));
        let seat = &mut self.seats[at];
        if let Some(node) = &seat.node {
            node.log.disk().set_room(Some(room));
        }
        seat.heal_at = Some(self.now.plus(pause));
    }

    /// The disk of the views takes nothing for a while.
    fn fail_store(&mut self, at: usize) {
        let Some(node) = &self.seats[at].node else { return };
        let hides = self.rng.permille(500);
        node.projections.store.set_failing(true);
        node.projections.store.set_kept_hidden(hides);
        let what = if hides { "nor kept messages read" } else { "" };
        self.say_of(at, format_args!("checkpoints cannot be written {what}"));
        let pause = Duration::from_millis(self.rng.range(10, 5_000));
        self.seats[at].heal_at = Some(self.now.plus(pause));
    }

    fn heal_disk(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.heal_at = None;
        if let Some(remains) = &seat.remains {
            remains.disk.set_room(None);
        }
        if let Some(node) = &seat.node {
            node.log.disk().set_room(None);
            node.projections.store.set_failing(false);
            node.projections.store.set_kept_hidden(false);
            self.say_of(at, format_args!("the disk has room"));
        }
    }

    fn reset_one(&mut self) {
        let Some(id) = self.network.any(&mut self.rng) else { return };
        if let Some(connection) = self.network.get_mut(id) {
            self.trace.say(format_args!("connection {id} is reset"));
            connection.reset();
        }
    }

    /// A path dies without a word; later both ends may learn of it.
    fn silence_one(&mut self) {
        let Some(id) = self.network.any(&mut self.rng) else { return };
        let Some(connection) = self.network.get_mut(id) else { return };
        if connection.is_silent {
            return connection.reset();
        }
        self.trace.say(format_args!("connection {id} falls silent"));
        connection.is_silent = true;
    }

    /// Everything that was broken works again.
    pub(super) fn heal(&mut self) {
        self.mend_cluster();
        for at in 0..self.seats.len() {
            self.heal_disk(at);
            let seat = &mut self.seats[at];
            seat.restart_at = self.now;
            if let Some(node) = &seat.node {
                node.log.disk().fail_next_sync(false);
            }
            if let Some(remains) = &seat.remains {
                remains.disk.fail_next_sync(false);
            }
        }
        self.network.end_silence();
    }
}

/// Whether a node may stop for this reason: it was told so by its disk.
fn is_fault_of_disk(error: &str) -> bool {
    error.contains("cannot sync") || error.contains("is full") || error.contains("told to fail")
}
