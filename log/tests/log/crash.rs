//! The machine dies at every write in turn; nothing that was shown is missing afterwards.

use ledgermq_core::event::{BatchBuilder, Event, SessionOpened};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_log::store::simulated::{Fate, SimulatedDisk};
use ledgermq_log::{Class, CommittedBatch, Durability, Producer};

use crate::simulated::{FILE, Simulated, config, drain};
use crate::support::{Bell, publish};

/// What a reader saw of a batch, marks included.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    index: u64,
    time: u64,
    sequence: u64,
    voids: Vec<bool>,
}

fn seen(batch: &CommittedBatch) -> Seen {
    let records = batch.batch().records();
    Seen {
        index: batch.index,
        time: batch.time.0,
        sequence: batch.sequence,
        voids: records.map(|record| batch.is_void(&record.expect("a record"))).collect(),
    }
}

fn open_session(events: &mut BatchBuilder, client: &str) {
    let opened = SessionOpened {
        client: client.into(),
        username: None,
        is_proven: false,
        node: 1,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: 100,
        keep_alive: 0,
        peer: String::new(),
        will: None,
    };
    events.push(None, None, &Event::SessionOpened(Box::new(opened)));
}

/// Some events, among them late ones of a session that was taken over.
fn step(number: u64, producer: &mut Producer, last_open: &mut Offset) {
    let mut events = producer.builder();
    let client: ClientId = "client".into();
    if number.is_multiple_of(3) {
        open_session(&mut events, &client);
    }
    let message = Event::MessageReleased { packet_ids: Vec::new() };
    events.push(Some((&client, *last_open)), None, &message);
    publish(&mut events, &vec![b'x'; 20_000]);
    producer.push(Class::Progress, &mut events).expect("room");
}

/// Runs until the end or until the disk fails; appends what a tail showed.
fn run(log: &mut Simulated, steps: std::ops::Range<u64>, shown: &mut Vec<Seen>) -> bool {
    let mut producer = log.log.producer(Bell::mute());
    let mut tail = log.tail(shown.last().map_or(1, |seen| seen.index + 1));
    let mut last_open = Offset::ZERO;
    for number in steps {
        step(number, &mut producer, &mut last_open);
        let went_well = log.turn().is_ok();
        for batch in drain(&mut tail) {
            // The session's epoch is known to its connection only now and then.
            if batch.sequence.is_multiple_of(4) {
                last_open = Offset::new(batch.index, 0);
            }
            shown.push(seen(&batch));
        }
        if !went_well {
            return false;
        }
    }
    true
}

fn everything(log: &Simulated) -> Vec<Seen> {
    drain(&mut log.tail(1)).iter().map(|batch| seen(batch)).collect()
}

#[test]
fn nothing_that_was_shown_is_missing_after_a_crash_at_any_write() {
    let config = config();
    for seed in 0..3 {
        for dies_at in 0..90 {
            let disk = SimulatedDisk::new(seed, FILE);
            let mut shown = Vec::new();
            let mut log = Simulated::open(&disk, &config).expect("opens");
            disk.set_fate(Fate::Dies(dies_at));
            let survived = run(&mut log, 0..70, &mut shown);
            if survived {
                // The last writes are those of an orderly end.
                let _ = log.try_close();
            } else {
                drop(log);
            }
            disk.crash();

            let mut log = Simulated::open(&disk, &config).expect("opens again");
            let found = everything(&log);
            let lost = shown.get(found.len()..);
            assert_eq!(lost.unwrap_or_default(), [], "seed {seed}, write {dies_at}");
            assert_eq!(found[..shown.len()], shown[..], "seed {seed}, write {dies_at}");
            assert!(found.windows(2).all(|pair| pair[0].time <= pair[1].time));
            shown = found;
            assert!(run(&mut log, 70..100, &mut shown), "it goes on");
            log.close();
            let log = Simulated::open(&disk, &config).expect("opens once more");
            assert_eq!(everything(&log), shown, "seed {seed}, write {dies_at}");
        }
    }
}

#[test]
fn a_crash_while_the_log_is_purged_loses_nothing_that_is_left() {
    let config = ledgermq_log::Config {
        hot_bytes_max: ledgermq_core::quantity::ByteSize(2 * FILE),
        ..config()
    };
    for dies_at in 0..120 {
        let disk = SimulatedDisk::new(dies_at, FILE);
        let mut shown = Vec::new();
        let mut log = Simulated::open(&disk, &config).expect("opens");
        log.log.checkpointed(u64::MAX);
        log.log.purge_allowed(u64::MAX);
        disk.set_fate(Fate::Dies(u32::try_from(dies_at).expect("few")));
        let mut survives = run(&mut log, 0..110, &mut shown);
        for _ in 0..220 {
            survives = survives && log.turn().is_ok();
        }
        drop(log);
        disk.crash();
        let log = Simulated::open(&disk, &config).expect("opens again");
        let first = log.log.status().first_index;
        shown.retain(|seen| seen.index >= first);
        let found: Vec<Seen> =
            drain(&mut log.tail(first)).iter().map(|batch| seen(batch)).collect();
        assert_eq!(found[..shown.len()], shown[..], "write {dies_at}");
        assert!(!survives || first > 1, "it was purged");
    }
}

#[test]
fn with_os_cache_a_power_cut_loses_only_the_unsynced_end() {
    let config = ledgermq_log::Config { durability: Durability::OsCache, ..config() };
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed, FILE);
        let mut shown = Vec::new();
        let mut log = Simulated::open(&disk, &config).expect("opens");
        // Ten milliseconds a turn, synced every fifty: five turns may be lost.
        assert!(run(&mut log, 0..50 + seed, &mut shown));
        drop(log);
        disk.crash();
        let log = Simulated::open(&disk, &config).expect("opens again");
        let found = everything(&log);
        assert!(found.len() + 6 >= shown.len(), "{} of {}", found.len(), shown.len());
        assert_eq!(found[..], shown[..found.len()]);
        lost += shown.len() - found.len();
    }
    assert!(lost > 0, "the disk does lose what is not synced");
}

#[test]
fn behind_the_mark_nothing_is_lost_whatever_the_durability() {
    let config = ledgermq_log::Config { durability: Durability::OsCache, ..config() };
    let mut asked = 0;
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed, FILE);
        let mut shown = Vec::new();
        let mut log = Simulated::open(&disk, &config).expect("opens");
        assert!(run(&mut log, 0..21 + seed, &mut shown));
        let last = shown.last().expect("something was committed").index;
        if !log.log.want_mark(last) {
            asked += 1;
            log.turn().expect("the disk is well");
        }
        assert!(log.log.want_mark(last));
        drop(log);
        disk.crash();
        let log = Simulated::open(&disk, &config).expect("opens again");
        assert_eq!(everything(&log)[..shown.len()], shown[..]);
    }
    assert!(asked > 0, "it is not marked at every write anyway");
}

#[test]
fn a_start_number_is_above_all_that_the_log_knows_of() {
    let disk = SimulatedDisk::new(1, FILE);
    for round in 0..6 {
        let mut log = Simulated::open(&disk, &config()).expect("opens");
        let start = log.log.start();
        let mut events = log.log.builder();
        events.push(None, None, &Event::NodeStarted { node: 1, start });
        let ticket = log.log.submit(Class::Progress, events).expect("accepted");
        log.turn().expect("the disk is good");
        assert!(ticket.try_receipt().expect("the log runs").is_some(), "round {round}: void");
        drop(ticket);
        if round % 2 == 0 {
            log.close()
        } else {
            drop(log)
        }
        if round > 2 {
            disk.forget_starts();
        }
    }
}

#[test]
fn a_log_that_lost_what_was_synced_is_refused() {
    let disk = SimulatedDisk::new(1, FILE);
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    assert!(run(&mut log, 0..20, &mut Vec::new()));
    log.close();
    disk.crash();
    disk.cut_behind(15);
    let error = Simulated::open(&disk, &config()).err().expect("refused").to_string();
    assert!(error.contains("was synced"), "{error}");
}

#[test]
fn a_damaged_entry_is_never_served() {
    let disk = SimulatedDisk::new(1, FILE);
    // Nothing is kept in memory.
    let config = ledgermq_log::Config {
        ring_bytes: ledgermq_core::quantity::ByteSize(1),
        cache_bytes: ledgermq_core::quantity::ByteSize(1),
        ..config()
    };
    let mut log = Simulated::open(&disk, &config).expect("opens");
    assert!(run(&mut log, 0..20, &mut Vec::new()));
    disk.damage(10);
    let error = log.log.read(10).expect_err("damaged").to_string();
    assert!(error.contains("entry 10 is damaged"), "{error}");
    let mut tail = log.tail(8);
    let mut batches = Vec::new();
    let error = loop {
        match tail.take(1 << 20, &mut batches) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("entry 10 is damaged"), "{error}");
    assert_eq!(batches.iter().map(|batch| batch.index).collect::<Vec<_>>(), [8, 9]);
    assert_eq!(tail.position(), 10, "it stands before the damage");
}

#[test]
fn an_error_of_the_disk_ends_the_log() {
    let disk = SimulatedDisk::new(1, FILE);
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut shown = Vec::new();
    disk.set_fate(Fate::Fails(10));
    assert!(!run(&mut log, 0..20, &mut shown));
    assert!(!shown.is_empty());
    let mut producer = log.log.producer(Bell::mute());
    for number in 20..23 {
        step(number, &mut producer, &mut Offset::ZERO.clone());
        assert!(log.turn().is_err(), "no write is tried again");
    }
    assert_eq!(everything(&log), shown, "nothing is shown any more");
    drop((log, producer));
    disk.crash();
    let log = Simulated::open(&disk, &config()).expect("opens");
    assert_eq!(everything(&log)[..shown.len()], shown[..]);
}
