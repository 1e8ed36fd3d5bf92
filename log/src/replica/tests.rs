//! Transcripts: what a replica does with each input, as text.

mod beside;

use std::fmt::Write as _;

use raft::eraftpb::MessageType;

use super::*;
use crate::store::simulated::{SimulatedDisk, SimulatedStore};

/// A replica of node 1 on a disk, driven by lines of text.
struct Script {
    disk: SimulatedDisk,
    replica: Option<Replica<SimulatedStore>>,
    syncing: Syncing,
}

impl Script {
    fn new(voters: &[u64]) -> Self {
        let disk = SimulatedDisk::new(1, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let configuration = Some(Configuration::of_voters(voters));
        store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
        drop(store);
        Self { disk, replica: None, syncing: Syncing::Within }
    }

    fn replica(&mut self) -> &mut Replica<SimulatedStore> {
        self.replica.as_mut().expect("started")
    }

    /// Does what the line says and answers what came of it.
    fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "start" => {
                let store = SimulatedStore::open(&self.disk).expect("opens");
                let replica = Replica::new(birth(number(1)), store).expect("starts");
                self.replica = Some(replica);
                String::new()
            }
            "crash" => {
                self.replica = None;
                self.disk.crash();
                String::new()
            }
            "capacity" => {
                self.disk.set_capacity(words.get(1).map(|_| number(1)));
                String::new()
            }
            "campaign" => {
                self.replica().campaign().expect("reads");
                String::new()
            }
            "ticks" => {
                (0..number(1)).for_each(|_| self.replica().tick());
                String::new()
            }
            "reached" => {
                self.replica().reached();
                String::new()
            }
            "propose" => {
                let taken = self.replica().propose(words[1].to_owned().into());
                if taken { String::new() } else { "refused\n".to_owned() }
            }
            "transfer" => {
                let begun = self.replica().transfer(number(1));
                if begun { String::new() } else { "not begun\n".to_owned() }
            }
            "from" => {
                let message = answer(words[2], number(1), number(3), number(4));
                self.replica().step(message);
                String::new()
            }
            "turn" => self.turn(),
            other => unreachable!("{other}"),
        }
    }

    fn turn(&mut self) -> String {
        let mut turned = Turned::default();
        let syncing = self.syncing;
        let mut messages = Vec::new();
        let mut send = |message| messages.push(message);
        let result = self.replica().turn(&mut Unit::default(), syncing, &mut send, &mut turned);
        let mut text = String::new();
        if let Err(error) = result {
            writeln!(text, "  {error}").expect("text");
        }
        for message in &messages {
            let kind = format!("{:?}", message.get_msg_type());
            let (to, entries) = (message.to, message.entries.len());
            writeln!(text, "  {kind} to {to}, term {}, {entries} entries", message.term)
                .expect("text");
        }
        for entry in &turned.committed {
            let data = String::from_utf8_lossy(&entry.data);
            writeln!(text, "  committed {} of term {}: {data:?}", entry.index, entry.term)
                .expect("text");
        }
        let replica = self.replica();
        let role = if replica.is_leader() { "leads" } else { "follows" };
        writeln!(text, "  {role} in term {}", replica.term()).expect("text");
        text
    }
}

fn birth(applied: Index) -> Birth {
    Birth { node: 1, seed: 5, applied, is_founder: true, members: Members::default() }
}

/// A peer's answer: `granted` votes, `appended` entries up to an index.
fn answer(what: &str, from: u64, term: u64, index: u64) -> Message {
    let mut message = Message::new();
    (message.from, message.to, message.term, message.index) = (from, 1, term, index);
    message.set_msg_type(match what {
        "pregranted" => MessageType::MsgRequestPreVoteResponse,
        "granted" => MessageType::MsgRequestVoteResponse,
        "appended" => MessageType::MsgAppendResponse,
        other => unreachable!("{other}"),
    });
    message
}

/// Runs the lines and compares the whole transcript.
fn check(mut script: Script, lines: &str, expected: &str) {
    let mut transcript = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(transcript, "{line}").expect("text");
        transcript.push_str(&script.line(line));
    }
    let tidy = |text: &str| -> Vec<String> {
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(tidy(&transcript).join("\n"), tidy(expected).join("\n"));
}

#[test]
fn the_only_voter_leads_at_once_and_commits_in_the_turn_of_the_write() {
    check(
        Script::new(&[1]),
        "start 0\n turn\n campaign\n turn\n propose a\n propose b\n turn\n turn",
        "start 0
         turn
           follows in term 0
         campaign
         turn
           committed 1 of term 1: \"\"
           leads in term 1
         propose a
         propose b
         turn
           committed 2 of term 1: \"a\"
           committed 3 of term 1: \"b\"
           leads in term 1
         turn
           leads in term 1",
    );
}

#[test]
fn nothing_is_committed_before_the_write_went_through() {
    check(
        Script::new(&[1]),
        "start 0\n campaign\n turn\n capacity 100\n propose a\n turn\n turn\n capacity\n turn",
        "start 0
         campaign
         turn
           committed 1 of term 1: \"\"
           leads in term 1
         capacity 100
         propose a
         turn
           no space left for the log
           leads in term 1
         turn
           no space left for the log
           leads in term 1
         capacity
         turn
           committed 2 of term 1: \"a\"
           leads in term 1",
    );
}

#[test]
fn a_restart_begins_a_new_term_and_hands_nothing_out_twice() {
    check(
        Script::new(&[1]),
        "start 0\n campaign\n turn\n propose a\n turn\n propose b\n crash\n start 2\n campaign\n turn",
        "start 0
         campaign
         turn
           committed 1 of term 1: \"\"
           leads in term 1
         propose a
         turn
           committed 2 of term 1: \"a\"
           leads in term 1
         propose b
         crash
         start 2
         campaign
         turn
           committed 3 of term 2: \"\"
           leads in term 2",
    );
}

#[test]
fn what_was_applied_and_not_noted_as_committed_is_handed_out_again_only_beyond_applied() {
    // The commit index on disk is one write behind: it said 1 when entry 2 was shown.
    check(
        Script::new(&[1]),
        "start 0\n campaign\n turn\n propose a\n turn\n crash\n start 1\n campaign\n turn",
        "start 0
         campaign
         turn
           committed 1 of term 1: \"\"
           leads in term 1
         propose a
         turn
           committed 2 of term 1: \"a\"
           leads in term 1
         crash
         start 1
         campaign
         turn
           committed 2 of term 1: \"a\"
           committed 3 of term 2: \"\"
           leads in term 2",
    );
}

#[test]
fn with_three_voters_a_quorum_decides() {
    check(
        Script::new(&[1, 2, 3]),
        "start 0\n ticks 23\n turn\n from 2 pregranted 1 0\n turn\n from 2 granted 1 0\n turn
         from 3 appended 1 1\n turn\n propose a\n turn\n from 3 appended 1 2\n turn",
        "start 0
         ticks 23
         turn
           MsgRequestPreVote to 2, term 1, 0 entries
           MsgRequestPreVote to 3, term 1, 0 entries
           follows in term 0
         from 2 pregranted 1 0
         turn
           MsgRequestVote to 2, term 1, 0 entries
           MsgRequestVote to 3, term 1, 0 entries
           follows in term 1
         from 2 granted 1 0
         turn
           MsgAppend to 2, term 1, 1 entries
           MsgAppend to 3, term 1, 1 entries
           leads in term 1
         from 3 appended 1 1
         turn
           MsgAppend to 3, term 1, 0 entries
           committed 1 of term 1: \"\"
           leads in term 1
         propose a
         turn
           MsgAppend to 3, term 1, 1 entries
           leads in term 1
         from 3 appended 1 2
         turn
           MsgAppend to 3, term 1, 0 entries
           committed 2 of term 1: \"a\"
           leads in term 1",
    );
}

/// What a candidate asked over a connection that broke is not heard; it stands again soon after the
/// next one, and no sooner if it was no candidate.
#[test]
fn a_candidate_that_reaches_somebody_stands_again_soon() {
    check(
        Script::new(&[1, 2, 3]),
        "start 0\n reached\n ticks 11\n turn\n ticks 12\n turn\n reached\n ticks 6\n turn\n ticks 6\n turn",
        "start 0
         reached
         ticks 11
         turn
           follows in term 0
         ticks 12
         turn
           MsgRequestPreVote to 2, term 1, 0 entries
           MsgRequestPreVote to 3, term 1, 0 entries
           follows in term 0
         reached
         ticks 6
         turn
           MsgRequestPreVote to 2, term 1, 0 entries
           MsgRequestPreVote to 3, term 1, 0 entries
           follows in term 0
         ticks 6
         turn
           follows in term 0",
    );
}

#[test]
fn leadership_goes_to_one_at_a_time() {
    check(
        Script::new(&[1, 2, 3]),
        "start 0\n transfer 2\n ticks 23\n turn\n from 2 pregranted 1 0\n turn\n from 2 granted 1 0
         turn\n from 3 appended 1 1\n turn\n transfer 3\n transfer 2\n transfer 3\n propose a\n turn",
        "start 0
         transfer 2
         not begun
         ticks 23
         turn
           MsgRequestPreVote to 2, term 1, 0 entries
           MsgRequestPreVote to 3, term 1, 0 entries
           follows in term 0
         from 2 pregranted 1 0
         turn
           MsgRequestVote to 2, term 1, 0 entries
           MsgRequestVote to 3, term 1, 0 entries
           follows in term 1
         from 2 granted 1 0
         turn
           MsgAppend to 2, term 1, 1 entries
           MsgAppend to 3, term 1, 1 entries
           leads in term 1
         from 3 appended 1 1
         turn
           MsgAppend to 3, term 1, 0 entries
           committed 1 of term 1: \"\"
           leads in term 1
         transfer 3
         transfer 2
         not begun
         transfer 3
         not begun
         propose a
         refused
         turn
           MsgTimeoutNow to 3, term 1, 0 entries
           leads in term 1",
    );
}

#[test]
fn a_vote_is_durable_even_where_entries_are_not() {
    let mut script = Script::new(&[1, 2, 3]);
    script.syncing = Syncing::Later;
    check(
        script,
        "start 0\n ticks 23\n turn\n from 2 pregranted 1 0\n turn\n crash\n start 0\n turn",
        "start 0
         ticks 23
         turn
           MsgRequestPreVote to 2, term 1, 0 entries
           MsgRequestPreVote to 3, term 1, 0 entries
           follows in term 0
         from 2 pregranted 1 0
         turn
           MsgRequestVote to 2, term 1, 0 entries
           MsgRequestVote to 3, term 1, 0 entries
           follows in term 1
         crash
         start 0
         turn
           follows in term 1",
    );
}

#[test]
fn a_term_is_synced_with_the_entries_that_come_with_it() {
    // Without a sync for each write, over a disk that then loses all that it may.
    let kept = (0..20).map(|seed| {
        let disk = SimulatedDisk::new(seed, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
        store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
        let mut replica = Replica::new(birth(0), store).expect("starts");
        let mut append = Message::new();
        (append.from, append.to, append.term) = (2, 1, 7);
        append.set_msg_type(MessageType::MsgAppend);
        let mut entry = Entry::new();
        (entry.index, entry.term) = (1, 7);
        append.set_entries(vec![entry].into());
        assert!(replica.step(append));
        let (mut turned, mut messages) = (Turned::default(), Vec::new());
        let mut send = |message| messages.push(message);
        replica.turn(&mut Unit::default(), Syncing::Later, &mut send, &mut turned).expect("room");
        assert!(messages.iter().any(|message| message.term == 7), "it answers");
        drop(replica);
        disk.crash();
        SimulatedStore::open(&disk).expect("opens").recovered().hard_state.term
    });
    assert_eq!(kept.collect::<Vec<_>>(), [7; 20]);
}
