//! The nodes, what is between them, and what befalls them.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::LogMachine;

use crate::net::Net;
use crate::node::disk::SimStore;
use crate::peers::{self, Partition};
use crate::raft::damage::Struck;
use crate::raft::fold::{Fold, Habits, Step};
use crate::raft::invariants::{self, Halves};
use crate::raft::load;
use crate::raft::members::Standing;
use crate::raft::options::{Options, beginning};
use crate::raft::oracle::Oracle;
use crate::raft::replacing::Replacing;
use crate::raft::seat::{AHEAD, Seat, Started};
use crate::rng::Rng;
use crate::trace::Trace;

/// Simulated time within which everything must come to rest in peace.
const REST: Duration = Duration::from_secs(60);
/// A change of the members is done within it, or not at all.
const ASKED: Duration = Duration::from_secs(31);
/// Milliseconds that a step takes meanwhile, at most; and when nothing is to happen any more.
const REST_STEP_MAX: u64 = 20;
const QUIET_STEP_MAX: u64 = 100;
/// And for which nothing may change then.
const QUIET: Duration = Duration::from_secs(60);

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) pushed: u64,
    pub(crate) batches: u64,
    pub(crate) void: u64,
    pub(crate) crashes: u64,
    pub(crate) partitions: u64,
    pub(crate) leaders: u64,
    pub(crate) damages: u64,
    pub(crate) repairs: u64,
    /// Snapshots that somebody went on from, and crashes amid one.
    pub(crate) snapshots: u64,
    pub(crate) torn: u64,
    /// Nodes that took the place of another one.
    pub(crate) replaced: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.pushed += other.pushed;
        self.batches += other.batches;
        self.void += other.void;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.leaders += other.leaders;
        self.damages += other.damages;
        self.repairs += other.repairs;
        self.snapshots += other.snapshots;
        self.torn += other.torn;
        self.replaced += other.replaced;
    }
}

/// The world of one seed.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) rng: Rng,
    pub(crate) now: Timestamp,
    pub(crate) seats: Vec<Seat>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    /// The seat whose disk is damaged.
    pub(crate) struck: Option<Struck>,
    /// That of a second one.
    pub(crate) second: Option<Struck>,
    pub(crate) replacing: Option<Replacing>,
    is_peace: bool,
}

impl World {
    pub(crate) fn new(seed: u64, is_loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut options = Options::draw(&mut rng);
        // With dice of their own: the other seeds stay what they are.
        options.draw_replacements(&mut Rng::new(!seed));
        let net = Net::new(peers::Habits::draw(&mut rng));
        let mut seats: Vec<Seat> =
            (1..=options.nodes).map(|id| Seat::new(id, options.nodes, options.grows)).collect();
        for seat in &mut seats {
            seat.wall_ahead = AHEAD + Duration::from_millis(rng.below(options.skew_max * 1000 + 1));
        }
        Self {
            trace: Trace::new(is_loud),
            tally: Tally::default(),
            rng,
            now: beginning(),
            seats,
            net,
            is_peace: false,
            oracle: Oracle::default(),
            struck: None,
            second: None,
            replacing: None,
            options,
        }
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.steps {
            self.step()?;
            if self.look_at_struck() {
                self.strike();
                self.damage();
            }
            self.replace();
            if self.options.grows && self.rng.permille(self.options.members) {
                self.change_members();
            }
        }
        self.mend();
        self.come_to_rest()?;
        self.stay_quiet()
    }

    fn step(&mut self) -> Result<(), String> {
        self.tally.steps += 1;
        self.now = self.now.plus(Duration::from_micros(self.rng.range(0, self.options.pause_max)));
        self.trace.set_now(self.now);
        self.oracle.latest = self.now.plus(3 * AHEAD);
        self.net.links.advance(self.now, &mut self.rng);
        for at in 0..self.seats.len() {
            self.revive(at)?;
            if self.rng.permille(self.options.push) {
                self.push(at);
            }
            if self.rng.permille(self.options.turn) {
                self.turn(at)?;
            }
        }
        Ok(())
    }

    /// Starts what is due to start, and makes room on the disk that is due to have some.
    fn revive(&mut self, at: usize) -> Result<(), String> {
        let Self { seats, now, rng, net, trace, options, oracle, tally, .. } = self;
        let seat = &mut seats[at];
        if seat.full_until.is_some_and(|until| until <= *now) {
            seat.full_until = None;
            seat.disk.set_room(None);
        }
        if seat.standing != Standing::In
            || seat.is_lost
            || seat.process.is_some()
            || seat.restart_at > *now
            || seat.full_until.is_some()
        {
            return Ok(());
        }
        if let Started::GaveUp(why) = seat.start(options, *now, rng)? {
            trace.say(format_args!("node {} gives its log up: {why}", seat.id));
            tally.repairs += 1;
            return Ok(());
        }
        net.started(seat.id);
        oracle.started_at = *now;
        trace.say(format_args!("node {} starts", seat.id));
        let (id, process) = (seat.id, seat.process.as_ref());
        if process.is_some_and(|process| process.leads(id).is_some()) {
            // It could elect itself, and has committed what it found, by its own vote.
            self.look_at_commit(at, &[vec![id], Vec::new()])?;
        }
        Ok(())
    }

    fn push(&mut self, at: usize) {
        let time = self.seats.iter().filter_map(|seat| seat.process.as_ref());
        let floor = time.map(|process| process.log.time()).max().unwrap_or_default();
        let seat = &mut self.seats[at];
        let Some(process) = &mut seat.process else { return };
        let pushed = load::push(process, self.options.payload_max, &mut self.rng);
        if let Some((producer, first, last)) = pushed {
            self.tally.pushed += last + 1 - first;
            let now = self.now;
            let floors = (first..=last).map(|number| ((producer, number), (floor, now)));
            self.oracle.floors.extend(floors);
        }
    }

    fn turn(&mut self, at: usize) -> Result<(), String> {
        let Self { seats, now, rng, net, .. } = self;
        let seat = &mut seats[at];
        if seat.process.is_none() || seat.halted_until > *now {
            return Ok(());
        }
        net.dial(seat.id, self.options.nodes, *now, rng);
        let voters = seat.process.as_ref().map(|process| halves(&process.machine));
        let turn = seat.turn(net, *now, rng)?;
        if let Some(why) = &turn.gave_up {
            net.links.died(seat.id, *now, rng);
            self.trace.say(format_args!("node {} gives its log up: {why}", seat.id));
            self.tally.repairs += 1;
        }
        invariants::on_votes(&mut self.oracle, self.seats[at].id, &turn)?;
        self.look_at_commit(at, &voters.unwrap_or_default())?;
        self.look(at)?;
        self.look_at_members(at);
        self.tear(at);
        Ok(())
    }

    /// Judges what a node knows to be committed after its turn, before which these had a vote.
    fn look_at_commit(&mut self, at: usize, before: &Halves) -> Result<(), String> {
        let Self { seats, oracle, options, .. } = self;
        let Some(process) = &seats[at].process else { return Ok(()) };
        let (after, committed) = (halves(&process.machine), process.machine.committed());
        let damaged = (self.struck.is_some() || self.replacing.is_some(), options.is_cached);
        invariants::on_commit(oracle, seats, damaged, [before, &after], committed)
    }

    /// Lets a node crash that is amid a snapshot, perhaps.
    fn tear(&mut self, at: usize) {
        let seat = &self.seats[at];
        let Some(process) = &seat.process else { return };
        let is_amid =
            Fold::is_busy(&process.log, &seat.saved) || process.log.cut_wanted().is_some();
        if !self.is_peace && is_amid && self.rng.permille(self.options.torn) {
            self.trace.say(format_args!("node {} crashes amid a snapshot", seat.id));
            self.tally.torn += 1;
            self.crash(at);
        }
    }

    fn crash(&mut self, at: usize) {
        if self.must_last(at) {
            return;
        }
        let Self { seats, now, rng, net, trace, tally, options, .. } = self;
        let seat = &mut seats[at];
        // What a power cut takes of a cache is a damage of its own (`damage.rs`).
        let was_there = if options.is_cached { seat.kill() } else { seat.crash(rng) };
        if was_there {
            net.links.died(seat.id, *now, rng);
            let most = *rng.pick(&[10, 1_000, 10_000]);
            seat.restart_at = now.plus(Duration::from_millis(rng.range(1, most)));
            tally.crashes += 1;
            trace.say(format_args!("node {} crashes", seat.id));
        }
    }

    /// Judges what a node shows after its turn.
    fn look(&mut self, at: usize) -> Result<(), String> {
        let Self { seats, oracle, trace, tally, rng, options, is_peace, .. } = self;
        let seat = &mut seats[at];
        let Some(process) = &mut seat.process else { return Ok(()) };
        if let Some(term) = process.leads(seat.id)
            && invariants::on_leader(oracle, term, seat.id)?
        {
            tally.leaders += 1;
            trace.say(format_args!("node {} leads in term {term}", seat.id));
        }
        let habits = match is_peace {
            true => Habits { waits: 0, fails: 0, ..options.fold },
            false => options.fold,
        };
        let mut before = process.fold.position() - 1;
        let id = seat.id;
        for step in seat.shown(habits, rng)? {
            match step {
                Step::Batch(index, known) => {
                    if index > oracle.last() {
                        invariants::on_shown_first(oracle, seats, options.is_cached, at, index)?;
                        tally.batches += 1;
                        tally.void += u64::from(!known.is_admitted);
                        trace.say(format_args!(
                            "node {id} shows {index} first: {:?} {} {:?}",
                            known.producer, known.sequence, known.numbers
                        ));
                    }
                    invariants::on_committed(oracle, before, index, known)?;
                    before = index;
                }
                Step::Jumped(index, state) => {
                    tally.snapshots += 1;
                    trace.say(format_args!("node {id} goes on from a snapshot at {index}"));
                    invariants::on_snapshot(oracle, index, &state)?;
                    before = index;
                }
            }
        }
        Ok(())
    }

    /// Lets something fail, perhaps.
    fn strike(&mut self) {
        let at = self.rng.size(0, self.seats.len() - 1);
        if self.rng.permille(self.options.crash) {
            self.crash(at);
        }
        let Self { seats, now, rng, net, trace, options, tally, .. } = self;
        let millis = Duration::from_millis;
        let seat = &mut seats[at];
        if rng.permille(options.partition) && options.nodes > 1 {
            let nodes: Vec<u64> = (1..=options.nodes).collect();
            let partition = Partition::draw(&nodes, *now, rng);
            trace.say(format_args!("{partition:?}"));
            net.links.strike(partition, *now, rng);
            tally.partitions += 1;
        }
        if rng.permille(options.reset)
            && let Some(between) = net.links.reset_any(*now, rng)
        {
            trace.say(format_args!("reset {between:?}"));
        }
        if rng.permille(options.halt) {
            let most = *rng.pick(&[300, 3_000]);
            seat.halted_until = now.plus(millis(rng.range(1, most)));
            trace.say(format_args!("node {} halts", seat.id));
        }
        if rng.permille(options.jump) {
            let seconds = *rng.pick(&[1, 30, 90]);
            seat.wall_ahead =
                AHEAD - millis(rng.below(1000 * seconds)) + millis(rng.below(1000 * seconds));
            trace.say(format_args!("the clock of node {} is {:?} ahead", seat.id, seat.wall_ahead));
        }
        if rng.permille(options.full) && seat.process.is_some() {
            seat.disk.set_room(Some(rng.below(30_000)));
            let most = *rng.pick(&[100, 5_000]);
            seat.full_until = Some(now.plus(millis(rng.range(1, most))));
            trace.say(format_args!("the disk of node {} fills", seat.id));
        }
        if rng.permille(options.transfer)
            && let Some(process) = &mut seat.process
        {
            let to = rng.range(1, options.nodes);
            process.machine.transfer(to);
            trace.say(format_args!("node {} hands over to {to}, if it leads", seat.id));
        }
    }

    /// Nothing fails any more.
    fn mend(&mut self) {
        self.trace.say(format_args!("peace"));
        self.is_peace = true;
        self.net.links.mend(self.now, &mut self.rng);
        for seat in &mut self.seats {
            seat.disk.set_room(None);
            seat.full_until = None;
            seat.halted_until = Timestamp(0);
            seat.restart_at = Timestamp(0);
            seat.wall_ahead = AHEAD;
        }
    }

    /// A step of up to so many milliseconds.
    fn peaceful_step(&mut self, most: u64) -> Result<(), String> {
        self.now = self.now.plus(Duration::from_millis(self.rng.range(1, most)));
        self.trace.set_now(self.now);
        self.oracle.latest = self.now.plus(3 * AHEAD);
        self.net.links.advance(self.now, &mut self.rng);
        self.go_on_replacing();
        for at in 0..self.seats.len() {
            self.revive(at)?;
            self.seats[at].take_all(&mut self.net, self.now);
            self.turn(at)?;
        }
        Ok(())
    }

    /// Everything that was pushed comes into the log, and every node shows all of it.
    fn come_to_rest(&mut self) -> Result<(), String> {
        let (end, asked) = (self.now.plus(REST), self.now.plus(ASKED));
        // What was asked for before may still be done.
        while self.options.grows && self.now < asked {
            self.peaceful_step(REST_STEP_MAX)?;
        }
        while let Err(what) = self.is_at_rest() {
            if self.now > end {
                return Err(format!("liveness: {what} after {REST:?} of peace"));
            }
            self.peaceful_step(REST_STEP_MAX)?;
        }
        Ok(())
    }

    fn is_at_rest(&self) -> Result<(), String> {
        for process in self.seats.iter().filter_map(|seat| seat.process.as_ref()) {
            if let Some(doubt) = process.log.cluster_status().doubt {
                return Err(doubt);
            }
        }
        let (mut leaders, mut folds) = (Vec::new(), Vec::new());
        for seat in self.seats.iter().filter(|seat| seat.standing == Standing::In) {
            let process = seat.process.as_ref().ok_or("a node is down")?;
            if !process.machine.is_idle() {
                let status = process.log.status();
                return Err(format!(
                    "node {} has batches that are not admitted; term {}, leader {}, commit {}, {:?}",
                    seat.id, status.term, status.leader, status.commit_index, status.gate
                ));
            }
            if process.machine.is_handing_over() {
                return Err(format!("node {} is handing over", seat.id));
            }
            let status = process.log.status();
            leaders.push((status.term, status.leader, status.commit_index));
            folds.push((process.machine.admission_checksum(), process.fold.state()));
        }
        if folds.iter().any(|other| *other != folds[0]) {
            return Err("the folds differ".to_owned());
        }
        self.are_members_settled()?;
        if leaders[0].1 == 0 || leaders.iter().any(|other| *other != leaders[0]) {
            return Err(format!("(term, leader, commit) are {leaders:?}"));
        }
        Ok(())
    }

    /// Without a reason nobody stands for election.
    fn stay_quiet(&mut self) -> Result<(), String> {
        // A node that was asked to leave before may still do.
        let term = |world: &Self| {
            let processes = world.seats.iter().filter_map(|seat| seat.process.as_ref());
            processes.map(|process| process.log.status().term).max()
        };
        // Nor may four heartbeats in a row be lost: over many seeds they would be.
        self.net.links.calm();
        let (before, end) = (term(self), self.now.plus(QUIET));
        while self.now < end {
            self.peaceful_step(QUIET_STEP_MAX)?;
        }
        match term(self) {
            after if after == before => Ok(()),
            after => Err(format!("quiet: the term went from {before:?} to {after:?} in peace")),
        }
    }
}

fn halves(machine: &LogMachine<SimStore>) -> Halves {
    [machine.voters(), machine.outgoing_voters()]
}
