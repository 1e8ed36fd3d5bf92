//! Writes beside the turns: what waits for the disk, and what does not.

use super::*;

/// Node 1 of three, with what left it and what it handed out.
struct Node {
    disk: SimulatedDisk,
    replica: Replica<SimulatedStore>,
    messages: Vec<Message>,
    turned: Turned,
}

impl Node {
    fn new() -> Self {
        let disk = SimulatedDisk::new(1, 1 << 20);
        let mut store = SimulatedStore::open(&disk).expect("an empty disk");
        let configuration = Some(Configuration::of_voters(&[1, 2, 3]));
        store.write(&Unit { configuration, ..Unit::default() }, true).expect("room");
        let replica = Replica::new(birth(0), store).expect("starts");
        Self { disk, replica, messages: Vec::new(), turned: Turned::default() }
    }

    /// Another process of it, on what the disk holds.
    fn restarted(self) -> Self {
        let Self { disk, replica, .. } = self;
        drop(replica);
        let store = SimulatedStore::open(&disk).expect("it opens");
        let replica = Replica::new(birth(0), store).expect("starts");
        Self { disk, replica, messages: Vec::new(), turned: Turned::default() }
    }

    fn turn(&mut self) -> Result<(), StoreError> {
        let mut send = |message| self.messages.push(message);
        let extra = &mut Unit::default();
        self.replica.turn(extra, Syncing::Beside, &mut send, &mut self.turned)
    }

    fn turn_well(&mut self) {
        self.turn().expect("room");
    }

    /// Node 2, the leader of `term`, sends entries behind `before`, of its term.
    fn append(&mut self, term: u64, before: (Index, u64), entries: u64, commit: Index) {
        let mut append = Message::new();
        (append.from, append.to, append.term, append.commit) = (2, 1, term, commit);
        (append.index, append.log_term) = before;
        append.set_msg_type(MessageType::MsgAppend);
        let entries = (1..=entries).map(|nth| {
            let mut entry = Entry::new();
            (entry.index, entry.term) = (before.0 + nth, term);
            entry
        });
        append.set_entries(entries.collect::<Vec<_>>().into());
        assert!(self.replica.step(append));
    }

    /// What was said to be here, since this was asked last.
    fn answered(&mut self) -> Vec<Index> {
        let messages = std::mem::take(&mut self.messages);
        let answers = messages.iter().filter(|message| {
            message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject
        });
        answers.map(|message| message.index).collect()
    }

    fn committed(&mut self) -> Vec<Index> {
        std::mem::take(&mut self.turned.committed).iter().map(|entry| entry.index).collect()
    }

    /// Node 1 leads term 1, and its first entry is on the disk.
    fn elect(&mut self) {
        self.replica.campaign().expect("reads");
        for answer_of_two in ["pregranted", "granted"] {
            (0..2).for_each(|_| self.turn_well());
            self.replica.step(answer(answer_of_two, 2, 1, 0));
        }
        (0..2).for_each(|_| self.turn_well());
        assert!(self.replica.is_leader() && !self.replica.is_writing());
        for from in [2, 3] {
            assert!(self.replica.step(answer("appended", from, 1, 1)));
        }
        self.turn_well();
        assert_eq!(self.committed(), [1]);
        self.messages.clear();
    }
}

#[test]
fn nothing_is_promised_before_it_is_on_the_disk() {
    let mut node = Node::new();
    node.disk.set_slow(2);
    node.append(1, (0, 0), 2, 0);
    for _ in 0..3 {
        node.turn_well();
        assert_eq!(node.answered(), [0; 0]);
        assert!(node.replica.is_writing() && node.replica.last_durable().0 == 0);
    }
    assert!(node.replica.has_written());
    node.turn_well();
    assert_eq!(node.answered(), [2]);
    assert_eq!((node.replica.last_durable(), node.replica.is_writing()), ((2, 1), false));
}

#[test]
fn while_the_disk_syncs_a_follower_hands_out_what_is_committed() {
    let mut node = Node::new();
    node.append(1, (0, 0), 2, 0);
    (0..2).for_each(|_| node.turn_well());
    assert_eq!(node.answered(), [2]);
    node.disk.set_slow(3);
    node.append(1, (2, 1), 2, 0);
    node.turn_well();
    // Entries 3 and 4 are on their way to the disk: of what is committed, only the others count.
    node.append(1, (4, 1), 0, 3);
    node.turn_well();
    assert_eq!((node.committed(), node.answered()), (vec![1, 2], vec![]));
    assert!(node.replica.is_writing());
    (0..3).for_each(|_| node.turn_well());
    assert_eq!((node.committed(), node.answered()), (vec![3], vec![4, 4]));
}

#[test]
fn what_comes_while_the_disk_syncs_is_one_write() {
    let mut node = Node::new();
    node.disk.set_slow(3);
    node.append(1, (0, 0), 1, 0);
    node.turn_well();
    for before in 1..=3 {
        node.append(1, (before, 1), 1, 0);
        node.turn_well();
    }
    let writes = node.disk.writes();
    (0..5).for_each(|_| node.turn_well());
    assert_eq!(node.answered(), [1, 2, 3, 4]);
    // One is synced, and one is written and synced.
    assert_eq!(node.disk.writes(), writes + 3);
}

#[test]
fn a_leader_sends_at_once_and_counts_itself_when_its_own_disk_has_it() {
    let mut node = Node::new();
    node.elect();
    node.disk.set_slow(4);
    assert!(node.replica.propose("a".into()));
    node.turn_well();
    let appends = std::mem::take(&mut node.messages);
    assert_eq!(appends.iter().filter(|message| message.entries.len() == 1).count(), 2);
    for from in [2, 3] {
        assert!(node.replica.step(answer("appended", from, 1, 2)));
    }
    node.turn_well();
    assert_eq!(node.committed(), [0; 0], "it hands out nothing that it may forget");
    assert!(node.replica.committed() == 2 && node.replica.is_writing());
    (0..4).for_each(|_| node.turn_well());
    assert_eq!(node.committed(), [2]);
}

#[test]
fn what_another_leader_overwrites_while_the_disk_syncs_does_not_count() {
    let mut node = Node::new();
    node.disk.set_slow(3);
    node.append(1, (0, 0), 3, 0);
    node.turn_well();
    node.append(2, (1, 1), 1, 0);
    (0..4).for_each(|_| node.turn_well());
    // The first write has ended, and the other goes on.
    assert_eq!(node.replica.last_durable(), (3, 1));
    let early = node.messages.iter().filter(|message| message.term == 2 && message.index >= 2);
    assert_eq!(early.count(), 0, "entry 2 of term 2 is not there yet");
    (0..4).for_each(|_| node.turn_well());
    assert_eq!(node.replica.last_durable(), (2, 2));
    let late = node.messages.iter().filter(|message| message.term == 2 && message.index == 2);
    assert_eq!(late.count(), 1);
}

#[test]
fn a_full_disk_holds_it_up_until_there_is_room() {
    let mut node = Node::new();
    node.disk.set_capacity(Some(node.disk.used()));
    node.append(1, (0, 0), 2, 0);
    node.turn_well();
    assert!(matches!(node.turn(), Err(StoreError::NoSpace)));
    assert!(node.replica.is_stuck() && node.replica.stuck_bytes() > 0);
    assert!(matches!(node.turn(), Err(StoreError::NoSpace)));
    assert_eq!(node.answered(), [0; 0]);
    node.disk.set_capacity(None);
    node.turn_well();
    assert_eq!((node.answered(), node.replica.is_stuck()), (vec![2], false));
}

#[test]
fn a_turn_that_waits_for_the_disk_writes_what_was_begun_first() {
    let mut node = Node::new();
    node.disk.set_slow(9);
    node.append(1, (0, 0), 1, 0);
    node.turn_well();
    node.append(1, (1, 1), 1, 0);
    node.turn_well();
    node.append(1, (2, 1), 1, 0);
    let mut send = |message| node.messages.push(message);
    let extra = &mut Unit::default();
    node.replica.turn(extra, Syncing::Within, &mut send, &mut node.turned).expect("room");
    assert_eq!((node.answered(), node.replica.last_durable().0), (vec![1, 2, 3], 3));
}

#[test]
fn a_crash_leaves_no_promise_behind() {
    for seed in 0..8 {
        let mut node = Node::new();
        node.disk.set_slow(5);
        node.append(1, (0, 0), 2, 0);
        (0..seed).for_each(|_| node.turn_well());
        let promised = node.answered().last().copied().unwrap_or(0);
        let Node { disk, replica, .. } = node;
        drop(replica);
        disk.crash();
        let kept = SimulatedStore::open(&disk).expect("opens").recovered().last.0;
        assert!(kept >= promised, "{kept} of {promised}");
    }
}

/// A byte that is flipped under a process: raft takes no answer but the entries when they are committed.
#[test]
fn what_was_found_and_is_committed_later_is_not_asked_of_the_disk_again() {
    let mut node = Node::new();
    node.append(1, (0, 0), 3, 0);
    (0..2).for_each(|_| node.turn_well());
    let mut node = node.restarted();
    node.disk.damage(2);
    node.append(1, (3, 1), 0, 3);
    (0..2).for_each(|_| node.turn_well());
    assert_eq!(node.committed(), [1, 2, 3]);
}

/// A commit index that is kept beside a write that brings another term.
#[test]
fn what_is_kept_of_the_commit_index_takes_no_vote_back() {
    let mut node = Node::new();
    node.append(5, (0, 0), 2, 2);
    (0..3).for_each(|_| node.turn_well());
    assert_eq!(node.committed(), [1, 2]);
    let mut vote = Message::new();
    (vote.from, vote.to, vote.term, vote.index, vote.log_term) = (3, 1, 6, 2, 5);
    vote.set_msg_type(MessageType::MsgRequestVote);
    // As in a hand-over: the leader is not waited for.
    vote.context = Bytes::from_static(b"CampaignTransfer");
    assert!(node.replica.step(vote));
    node.turn_well();
    assert!(node.replica.is_writing());
    node.replica.keep_commit().expect("room");
    node.turn_well();
    let answers = std::mem::take(&mut node.messages);
    let granted = MessageType::MsgRequestVoteResponse;
    assert!(answers.iter().any(|answer| answer.get_msg_type() == granted && !answer.reject));
    let Node { disk, replica, .. } = node;
    drop(replica);
    disk.crash();
    let state = SimulatedStore::open(&disk).expect("opens").recovered().hard_state;
    assert_eq!((state.term, state.vote, state.commit), (6, 3, 2));
}

/// A tail that makes way for other entries was never committed, though entries of those indices are.
#[test]
fn what_is_kept_of_the_commit_index_is_of_what_stands_on_the_disk() {
    let mut node = Node::new();
    node.append(1, (0, 0), 4, 0);
    (0..2).for_each(|_| node.turn_well());
    node.disk.set_slow(5);
    // A write goes on, and what another leader sends is the next one.
    node.append(1, (4, 1), 1, 0);
    node.turn_well();
    node.append(2, (2, 1), 1, 3);
    node.turn_well();
    node.replica.keep_commit().expect("room");
    let Node { disk, replica, .. } = node;
    drop(replica);
    disk.crash();
    let recovered = SimulatedStore::open(&disk).expect("opens").recovered();
    assert_eq!((recovered.last, recovered.hard_state.commit), ((5, 1), 2));
}
