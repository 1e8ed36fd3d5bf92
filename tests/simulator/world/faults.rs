//! What goes wrong, and its mending.

use std::time::Duration;

use ledgermq_core::access;
use ledgermq_core::event::Event;

use crate::node::{Node, Outside};
use crate::options::RULES;
use crate::seen::Seen;
use crate::world::World;

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
        let mut drawn = self.rng.below(weights.iter().map(|weight| u64::from(*weight)).sum());
        let kind = weights.iter().position(|weight| {
            let is_it = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            is_it
        });
        match kind {
            Some(0) => self.crash("power fails"),
            Some(1) => {
                if let Some(node) = &mut self.node {
                    self.trace.say(format_args!("the next fsync fails"));
                    node.log.disk().fail_next_sync(true);
                }
            }
            Some(2) => self.fill_disk(),
            Some(3) => self.reset_one(),
            Some(4) => self.silence_one(),
            Some(5) => self.jump(),
            Some(6) => {
                if let Some(node) = &mut self.node {
                    let hides = self.rng.permille(500);
                    let what = if hides { "nor kept messages read" } else { "" };
                    self.trace.say(format_args!("checkpoints cannot be written {what}"));
                    node.projections.store.set_failing(true);
                    node.projections.store.set_kept_hidden(hides);
                    let pause = Duration::from_millis(self.rng.range(10, 5_000));
                    self.heal_at = Some(self.now.plus(pause));
                }
            }
            Some(7) => return self.stop(),
            Some(_) => {
                let text = *self.rng.pick(&RULES);
                let is_open = self.rng.permille(100);
                self.change_rules((!is_open).then_some(text));
            }
            None => {}
        }
        Ok(())
    }

    /// The log says that the node is lost, though it runs; or it begins anew for another reason.
    fn give_up(&mut self) {
        let is_lost = self.rng.permille(700);
        let Some(node) = &mut self.node else { return };
        let log = &node.log.log;
        if !is_lost {
            self.trace.say(format_args!("the node is to begin anew"));
            return log.renew_incarnation();
        }
        self.trace.say(format_args!("the node is given up"));
        let mut events = log.builder();
        events.push(None, None, &Event::NodeLost { node: 1, start: log.incarnation() });
        if let Some(leading) = log.leading() {
            drop(log.derive(leading.term, events));
        }
    }

    /// The file of the access rules is changed, and the node told so, if it runs.
    pub(super) fn change_rules(&mut self, text: Option<&str>) {
        self.trace.say(format_args!("the access rules become {text:?}"));
        self.rules = text.map(|text| access::parse(text).expect("they are rules"));
        if let Some(node) = &mut self.node {
            node.reload(self.rules.clone());
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
                self.trace.say(format_args!("the wall clock is put {seconds} seconds ahead"));
                self.wall_ahead += seconds * 1_000_000;
            }
            _ => {
                self.trace.say(format_args!("the wall clock is put {seconds} seconds back"));
                self.wall_ahead = self.wall_ahead.saturating_sub(seconds * 1_000_000);
            }
        }
    }

    /// The node is stopped in order: its clients are told, all is written.
    fn stop(&mut self) -> Result<(), String> {
        let Some((node, outside)) = self.inside() else { return Ok(()) };
        node.end_connections(&outside);
        self.trace.say(format_args!("the node is asked to stop"));
        for _ in 0..DRAIN_ROUNDS {
            self.advance(DRAIN_ROUND);
            let Some((node, mut outside)) = self.inside() else { break };
            if let Err(error) = node.turn_all(&mut outside) {
                return self.on_stopped(&error);
            }
            if node.is_drained() {
                break;
            }
            for connection in self.network.connections.values_mut() {
                connection.advance(&mut self.rng);
            }
            self.judge()?;
        }
        if let Some((node, mut outside)) = self.inside()
            && let Err(error) = node.close(&mut outside)
        {
            return self.on_stopped(&error);
        }
        self.crash("the node stops");
        Ok(())
    }

    pub(super) fn crash(&mut self, why: &str) {
        let Some(node) = self.node.take() else { return };
        let dropped = node.dropped();
        self.oracle.may_lose_transient |= dropped > 0 || self.oracle.access.has_changed();
        self.trace.say(format_args!("{why}"));
        let wall = self.wall();
        let Self { now, rng, network, trace, oracle, options, rules, .. } = self;
        let mut outside = Outside { now: *now, wall, rng, network, trace, oracle, options, rules };
        self.remains = Some(node.crash(&mut outside));
        self.tally.crashes += 1;
        let pause = Duration::from_millis(self.rng.range(1, 3_000));
        self.restart_at = self.now.plus(pause);
    }

    /// The node stopped by itself. It may, if its disk failed.
    pub(super) fn on_stopped(&mut self, error: &str) -> Result<(), String> {
        if !is_fault_of_disk(error) {
            return Err(format!("the node stopped: {error}"));
        }
        self.crash(error);
        Ok(())
    }

    /// Starts the node again, and lets what was broken for a while heal.
    pub(super) fn revive(&mut self) -> Result<(), String> {
        if self.heal_at.is_some_and(|at| at <= self.now) {
            self.heal_disk();
        }
        if self.restart_at > self.now {
            return Ok(());
        }
        let Some(remains) = self.remains.take() else { return Ok(()) };
        let wall = self.wall();
        let Self { now, rng, network, trace, oracle, options, rules, .. } = self;
        let mut outside = Outside { now: *now, wall, rng, network, trace, oracle, options, rules };
        let node = match Node::start(&remains, &mut outside) {
            Ok(node) => node,
            Err(error) if is_fault_of_disk(&error) => {
                remains.disk.cut_power(outside.rng);
                self.trace.say(format_args!("the node does not start: {error}"));
                self.remains = Some(remains);
                self.restart_at = self.now.plus(Duration::from_millis(500));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.seen.push(Seen::Recovered);
        self.node = Some(node);
        Ok(())
    }

    fn fill_disk(&mut self) {
        let Some(node) = &mut self.node else { return };
        self.trace.say(format_args!("the disk is full"));
        let room = self.rng.below(60_000);
        node.log.disk().set_room(Some(room));
        let pause = Duration::from_millis(self.rng.range(10, 10_000));
        self.heal_at = Some(self.now.plus(pause));
    }

    fn heal_disk(&mut self) {
        self.heal_at = None;
        if let Some(node) = &mut self.node {
            self.trace.say(format_args!("the disk has room"));
            node.log.disk().set_room(None);
            node.projections.store.set_failing(false);
            node.projections.store.set_kept_hidden(false);
        }
        if let Some(remains) = &mut self.remains {
            remains.disk.set_room(None);
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
        self.heal_disk();
        self.restart_at = self.now;
        if let Some(node) = &mut self.node {
            node.log.disk().fail_next_sync(false);
        }
        if let Some(remains) = &mut self.remains {
            remains.disk.fail_next_sync(false);
        }
        for connection in self.network.connections.values_mut() {
            if connection.is_silent {
                connection.reset();
            }
        }
    }
}

/// Whether a node may stop for this reason: it was told so by its disk.
fn is_fault_of_disk(error: &str) -> bool {
    error.contains("cannot sync") || error.contains("is full") || error.contains("told to fail")
}
