//! Disks that are damaged: wiped, cut, rolled back, or with a flipped byte; of one node at a time, and
//! while it is repaired of a second one, which finds out while it runs.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use ledgermq_log::cluster::{Member, Standing};

use crate::raft::fold::Saved;
use crate::raft::members;
use crate::raft::world::World;

/// A disk that was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Struck {
    /// Whose.
    pub(crate) at: usize,
    /// Nothing on it tells that something is missing: only the others know. If those who know are
    /// gone, too, nobody does; so nothing else happens before it is found out.
    is_silent: bool,
    /// A byte of an old entry, which is only found when it is read.
    is_hidden: bool,
}

/// How long ago an image was taken of which others remember all that came since.
const IMAGE_AGE_MIN: Duration = Duration::from_secs(1);

/// A node that is halted syncs late; longer than that it never is.
const CACHE_AGE_MAX_US: u64 = 5_000_000;

impl World {
    /// Whether something else may fail now.
    pub(crate) fn look_at_struck(&mut self) -> bool {
        if self.second.is_some_and(|second| self.is_whole(second)) {
            self.second = None;
        }
        let Some(struck) = self.struck else { return true };
        let seat = &self.seats[struck.at];
        let struck = Struck { is_silent: struck.is_silent && !seat.was_given_up, ..struck };
        let Some(process) = &seat.process else { return !struck.is_silent };
        if process.machine.is_in_doubt() {
            return !struck.is_silent;
        }
        if self.is_whole(struck) {
            self.trace.say(format_args!("node {} is whole again", seat.id));
            self.struck = None;
        }
        true
    }

    /// Whether a disk that was damaged counts as any other again.
    fn is_whole(&self, struck: Struck) -> bool {
        let seat = &self.seats[struck.at];
        let Some(process) = &seat.process else { return false };
        let members = process.log.members();
        let is_voter = members.voters().any(|voter| voter == seat.id);
        // Its log has come to all that was committed when it was let in again.
        let has_all = process.log.committed() >= self.oracle.last();
        let is_found = !struck.is_hidden || seat.was_given_up;
        is_voter && has_all && is_found && !process.machine.is_in_doubt()
    }

    /// Whether the log of that node must last until it is taken out: it is damaged, and the one of
    /// another node is gone. Should it start anew before, it would give it up (`log/README.md`).
    pub(crate) fn must_last(&self, at: usize) -> bool {
        self.second.is_some_and(|second| second.at == at) && !self.seats[at].was_given_up
    }

    /// Damages a disk, perhaps.
    pub(crate) fn damage(&mut self) {
        if let Some(struck) = self.struck {
            return self.flip_another(struck);
        }
        let is_free = self.second.is_none() && self.replacing.is_none();
        if !self.options.grows || !is_free || !self.rng.permille(self.options.damage) {
            return;
        }
        let at = self.rng.size(0, self.seats.len() - 1);
        if self.seats[at].standing != members::Standing::In || !self.has_three_voters() {
            return;
        }
        let kinds = if self.options.is_cached { 10 } else { 6 };
        match self.rng.below(kinds) {
            0 | 1 => self.remember(at),
            2 => self.roll_back(at),
            3 => self.wipe(at),
            6.. => self.cut_power(at),
            _ => self.flip(at),
        }
    }

    /// Whether, as far as anybody knows, one can be done without. As long as a change of several votes
    /// is under way that is not so: what is committed may be with the voters before it alone, and of
    /// one, that one would take with it what nobody else has, and the majority that could let it out.
    pub(crate) fn has_three_voters(&self) -> bool {
        let mut processes = self.seats.iter().filter_map(|seat| seat.process.as_ref());
        if processes.any(|process| process.machine.is_joint()) {
            return false;
        }
        let voters = |seat: &crate::raft::seat::Seat| {
            seat.process.as_ref().map(|process| process.log.members().voters().count())
        };
        self.seats.iter().filter_map(voters).min().unwrap_or(0) >= 3
    }

    fn remember(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.disk.remember();
        seat.remembered_at = Some(self.now);
        seat.remembered = seat.saved.clone();
    }

    fn wipe(&mut self, at: usize) {
        self.take_down(at);
        self.seats[at].disk.wipe();
        self.seats[at].saved = Saved::default();
        self.seats[at].remembered_at = None;
        self.strike_disk(at, false, false, "its disk is empty");
    }

    /// A byte of one of the newest entries, or of an old one.
    fn flip(&mut self, at: usize) {
        let before = *self.rng.pick(&[0, 3, 50, 200]);
        let was_down = self.seats[at].process.is_none();
        if before < 10 && !was_down {
            self.take_down(at);
        }
        if let Some(index) = self.seats[at].disk.flip(before) {
            let is_hidden = before >= 10;
            self.strike_disk(at, false, is_hidden, &format!("a byte of entry {index} is flipped"));
        }
    }

    /// A byte of an old entry of a second node, which a third one has, too.
    fn flip_another(&mut self, struck: Struck) {
        let is_free = self.second.is_none() && self.replacing.is_none();
        if !is_free || !self.rng.permille(10 * self.options.damage) {
            return;
        }
        let at = self.rng.size(0, self.seats.len() - 1);
        let before = *self.rng.pick(&[10, 30, 100]);
        let has_vote = |at: usize| {
            let process = self.seats[at].process.as_ref()?;
            let is_voter = process.log.members().voters().any(|voter| voter == self.seats[at].id);
            (is_voter && !process.machine.is_in_doubt()).then(|| process.machine.committed())
        };
        let Some(index) = has_vote(at).and_then(|last| last.checked_sub(before)) else { return };
        let others = (0..self.seats.len()).filter(|other| *other != at && *other != struck.at);
        let is_there = others.filter_map(has_vote).any(|committed| committed >= index);
        // That of the first is gone, or is found out before it takes part again.
        let is_out = !struck.is_hidden || self.seats[struck.at].was_given_up;
        if at != struck.at && is_there && is_out && self.seats[at].disk.flip_entry(index) {
            let seat = &mut self.seats[at];
            (seat.may_be_damaged, seat.was_given_up, seat.remembered_at) = (true, false, None);
            self.tally.damages += 1;
            self.trace.say(format_args!("node {}: a byte of entry {index} flips, too", seat.id));
            self.second = Some(Struck { at, is_silent: false, is_hidden: true });
            // It is found out now, or when it is not in memory any more.
            drop(seat.process.as_ref().map(|process| process.log.read(index)));
        }
    }

    /// Whether everybody who saw what the node acknowledged since `then` is alive and can say so.
    fn is_remembered(&self, at: usize, then: Timestamp) -> bool {
        let is_there = |(other, seat): (usize, &crate::raft::seat::Seat)| {
            let is_up = seat
                .process
                .as_ref()
                .is_some_and(|process| process.started < then && !process.machine.is_in_doubt());
            other == at
                || seat.standing != members::Standing::In
                || (is_up && seat.halted_until <= self.now)
        };
        self.seats.iter().enumerate().all(is_there)
    }

    /// What was acknowledged from the cache and not synced yet is gone, and nothing tells.
    fn cut_power(&mut self, at: usize) {
        let then = Timestamp(self.now.0.saturating_sub(CACHE_AGE_MAX_US));
        if !self.is_remembered(at, then) {
            return;
        }
        self.net.links.mend(self.now, &mut self.rng);
        self.take_down(at);
        self.strike_disk(
            at,
            true,
            false,
            "the power fails, and what was only in the cache is gone",
        );
    }

    /// To what the disk was once, if the others remember what came since.
    fn roll_back(&mut self, at: usize) {
        let Some(then) = self.seats[at].remembered_at else { return };
        if self.now.since(then) < IMAGE_AGE_MIN || !self.is_remembered(at, then) {
            return;
        }
        self.net.links.mend(self.now, &mut self.rng);
        let with_mark = self.rng.permille(500);
        self.take_down(at);
        let seat = &mut self.seats[at];
        seat.remembered_at = None;
        seat.saved = seat.remembered.clone();
        if let Some(last) = seat.disk.roll_back(with_mark) {
            let what = format!("its disk is rolled back to {last}, with its mark: {with_mark}");
            self.strike_disk(at, true, false, &what);
        }
    }

    pub(crate) fn take_down(&mut self, at: usize) {
        let Self { seats, now, rng, net, .. } = self;
        if seats[at].crash(rng) {
            net.links.died(seats[at].id, *now, rng);
        }
        seats[at].restart_at = now.plus(Duration::from_millis(rng.range(1, 2_000)));
        seats[at].full_until = None;
        seats[at].disk.set_room(None);
        seats[at].halted_until = Timestamp(0);
    }

    fn strike_disk(&mut self, at: usize, is_silent: bool, is_hidden: bool, what: &str) {
        let seat = &mut self.seats[at];
        seat.may_be_damaged = true;
        seat.was_given_up = false;
        self.tally.damages += 1;
        self.trace.say(format_args!("node {}: {what}", seat.id));
        self.struck = Some(Struck { at, is_silent, is_hidden });
    }

    /// In peace every learner has its vote again, but for an odd one.
    pub(crate) fn are_members_settled(&self) -> Result<(), String> {
        for seat in self.seats.iter().filter(|seat| seat.standing == members::Standing::In) {
            let process = seat.process.as_ref().ok_or("a node is down")?;
            if process.machine.is_in_doubt() {
                return Err(format!("node {} is in doubt", seat.id));
            }
            let members = process.log.members();
            if !members.is_founded() {
                continue;
            }
            let voters = members.voters().count();
            // Who comes for a node that is there waits for it to go.
            let waits = |member: &&Member| {
                member.standing != Standing::Voter && !member.is_held && member.replaces.is_none()
            };
            let learners = members.nodes.values().filter(waits).count();
            if learners > 1 || (learners == 1 && voters.is_multiple_of(2)) {
                return Err(format!(
                    "node {} knows of {voters} voters and {learners} others",
                    seat.id
                ));
            }
        }
        Ok(())
    }
}
