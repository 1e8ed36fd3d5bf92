//! A disk that is full and has room again.

use std::time::Duration;

use ledgermq_log::store::simulated::SimulatedDisk;
use ledgermq_log::{Class, Config, Durability, Gate, Producer};

use crate::simulated::{FILE, Simulated, config, drain};
use crate::support::{Bell, payloads, publish};

fn push(producer: &mut Producer, class: Class, number: u64) -> bool {
    let mut events = producer.builder();
    publish(&mut events, format!("{number:>50000}").as_bytes());
    producer.push(class, &mut events).is_ok()
}

fn numbers(payloads: &[String]) -> Vec<u64> {
    payloads.iter().map(|payload| payload.trim().parse().expect("a number")).collect()
}

#[test]
fn a_full_disk_refuses_in_steps_loses_nothing_and_heals() {
    let disk = SimulatedDisk::new(3, FILE);
    disk.set_capacity(Some(20 * FILE));
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut tail = log.tail(1);
    let mut pushed = 0;
    let mut gates = Vec::new();
    log.run(Duration::from_millis(300));
    assert!(log.log.status().ballast, "the ballast is laid down first");

    // Whatever the gate says, somebody goes on with progress until nothing fits any more.
    while log.log.status().no_space == 0 || log.log.status().ballast {
        pushed += u64::from(push(&mut producer, Class::Progress, pushed));
        log.turn().expect("a full disk is no failure");
        let gate = log.log.gate();
        if gates.last() != Some(&gate.accepts(Class::Publish)) {
            gates.push(gate.accepts(Class::Publish));
        }
        assert!(pushed < 1000, "the disk is full at some time");
    }
    assert_eq!(gates, [true, false], "it does not flutter");
    assert!(matches!(log.log.gate(), Gate::RefuseOpens { .. }), "{:?}", log.log.gate());
    assert!(log.log.gate().reason().expect("a reason").contains("full"));
    // All that is left of the disk is used: the ballast's room, too.
    assert!(disk.used() + 200_000 > 20 * FILE, "{} of {}", disk.used(), 20 * FILE);

    // It stays full: what is pushed waits, up to the bound, and reading goes on.
    while push(&mut producer, Class::Progress, pushed) {
        pushed += 1;
        log.turn().expect("a full disk is no failure");
    }
    log.run(Duration::from_secs(1));
    let mut shown = numbers(&payloads(&drain(&mut tail)));
    assert!(shown.len() < usize::try_from(pushed).expect("few"));

    // Room returns.
    disk.set_capacity(Some(100 * FILE));
    log.run(Duration::from_secs(1));
    shown.extend(numbers(&payloads(&drain(&mut tail))));
    assert_eq!(shown, (0..pushed).collect::<Vec<_>>(), "everything, once, in order");
    assert_eq!(log.log.gate(), Gate::Open);
    assert!(log.log.status().ballast, "it is laid down again");
    assert!(log.log.status().no_space > 0);
    log.close();

    let log = Simulated::open(&disk, &config()).expect("opens again");
    let found = numbers(&payloads(&drain(&mut log.tail(1))));
    assert_eq!(found, (0..pushed).collect::<Vec<_>>());
}

#[test]
fn a_log_that_is_killed_on_a_full_disk_opens_again() {
    let disk = SimulatedDisk::new(4, FILE);
    disk.set_capacity(Some(12 * FILE));
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut tail = log.tail(1);
    let mut pushed = 0;
    while log.log.status().no_space == 0 {
        pushed += u64::from(push(&mut producer, Class::Progress, pushed));
        log.turn().expect("a full disk is no failure");
    }
    let shown = numbers(&payloads(&drain(&mut tail)));
    drop((tail, log));
    disk.crash();
    // The ballast went for it; a little is left for the entry of the new term.
    let log = Simulated::open(&disk, &config()).expect("opens");
    let (gate, free) = (log.log.gate(), log.log.status().free_bytes);
    assert!(!gate.accepts(Class::Publish) && free < 4 * FILE, "{gate:?}, {free} bytes free");
    let found = numbers(&payloads(&drain(&mut log.tail(1))));
    assert_eq!(found[..shown.len()], shown[..]);
}

#[test]
fn a_disk_that_finds_no_room_for_a_sync_waits_and_loses_nothing() {
    let config = Config { durability: Durability::OsCache, ..config() };
    let disk = SimulatedDisk::new(7, FILE);
    let mut log = Simulated::open(&disk, &config).expect("opens");
    log.run(Duration::from_millis(300));
    let mut producer = log.log.producer(Bell::mute());
    let mut tail = log.tail(1);
    disk.set_tight(true);
    let mut at_once = 0;
    for number in 0..100 {
        assert!(push(&mut producer, Class::Progress, number));
        log.turn().expect("a full disk is no failure");
        at_once += u32::from(!log.next_turn_is_ahead());
    }
    assert!(at_once <= 1, "it does not spin, but when the ballast was given up: {at_once}");
    log.run(Duration::from_secs(3));
    assert!(log.log.status().no_space > 0);
    disk.set_tight(false);
    log.run(Duration::from_secs(3));
    let shown = numbers(&payloads(&drain(&mut tail)));
    assert_eq!(shown, (0..100).collect::<Vec<_>>());
    drop((tail, log));
    disk.crash();
    let log = Simulated::open(&disk, &config).expect("opens");
    assert_eq!(numbers(&payloads(&drain(&mut log.tail(1)))), shown, "all was synced");
}

#[test]
fn what_os_cache_took_is_synced_while_a_write_waits_for_room() {
    let config = Config { durability: Durability::OsCache, ..config() };
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed, FILE);
        disk.set_capacity(Some(12 * FILE));
        let mut log = Simulated::open(&disk, &config).expect("opens");
        let mut producer = log.log.producer(Bell::mute());
        let mut tail = log.tail(1);
        let mut pushed = 0;
        while log.log.status().no_space == 0 || log.log.status().ballast {
            pushed += u64::from(push(&mut producer, Class::Progress, pushed));
            log.turn().expect("a full disk is no failure");
        }
        for _ in 0..20 {
            log.turn().expect("a full disk is no failure");
            assert!(log.next_turn_is_ahead(), "it does not spin");
        }
        let shown = numbers(&payloads(&drain(&mut tail)));
        drop((tail, log));
        disk.crash();
        disk.set_capacity(None);
        let log = Simulated::open(&disk, &config).expect("opens");
        let found = numbers(&payloads(&drain(&mut log.tail(1))));
        assert!(found.len() >= shown.len(), "{} of {}", found.len(), shown.len());
    }
}

#[test]
fn a_disk_smaller_than_the_hot_log_is_purged_before_messages_are_refused_for_good() {
    let disk = SimulatedDisk::new(8, FILE);
    disk.set_capacity(Some(20 * FILE));
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    log.log.checkpointed(u64::MAX);
    log.log.purge_allowed(u64::MAX);
    // Five times what the disk holds.
    let mut refused = Duration::ZERO;
    for number in 0..2000 {
        while !log.log.gate().accepts(Class::Publish) {
            log.run(Duration::from_millis(100));
            refused += Duration::from_millis(100);
            assert!(refused < Duration::from_secs(60), "{:?}", log.log.status());
        }
        assert!(push(&mut producer, Class::Publish, number));
        log.turn().expect("the disk is good");
    }
    assert!(log.log.status().first_index > 1000, "{:?}", log.log.status());
}

#[test]
fn a_purge_makes_room_for_a_write_that_waits() {
    let disk = SimulatedDisk::new(9, FILE);
    disk.set_capacity(Some(20 * FILE));
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut pushed = 0;
    // Nobody lets go of anything before the last byte is used; admission has its checkpoint.
    while log.log.status().no_space == 0 || log.log.status().ballast {
        pushed += u64::from(push(&mut producer, Class::Progress, pushed));
        log.turn().expect("a full disk is no failure");
        if pushed == 250 {
            log.run(Duration::from_secs(3));
        }
    }
    assert!(log.log.purge_wanted().is_some(), "{:?}", log.log.status());
    log.log.checkpointed(u64::MAX);
    log.log.purge_allowed(u64::MAX);
    disk.set_capacity(Some(disk.used() + FILE / 2));
    log.run(Duration::from_secs(3));
    let status = log.log.status();
    assert!(status.first_index > 1 && status.waiting_bytes == 0, "{status:?}");
    assert_eq!(log.log.gate(), Gate::Open, "{status:?}");
}

#[test]
fn the_classes_share_what_may_wait() {
    let disk = SimulatedDisk::new(5, FILE);
    let log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut counts = Vec::new();
    for class in [Class::Publish, Class::Open, Class::Progress] {
        let mut count = 0;
        while push(&mut producer, class, 0) {
            count += 1;
        }
        counts.push(count);
    }
    assert!((115..=130).contains(&counts[0]), "six of eight MiB: {counts:?}");
    assert!((18..=22).contains(&counts[1]) && (18..=22).contains(&counts[2]), "{counts:?}");
}

#[test]
fn one_large_message_passes_alone() {
    let disk = SimulatedDisk::new(6, FILE);
    let mut log = Simulated::open(&disk, &config()).expect("opens");
    let mut producer = log.log.producer(Bell::mute());
    let mut events = producer.builder();
    publish(&mut events, &vec![b'x'; 20 << 20]);
    producer.push(Class::Publish, &mut events).expect("nothing else waits");
    let mut tail = log.tail(1);
    log.turn().expect("room");
    let batches = drain(&mut tail);
    assert_eq!(batches.len(), 1);
    assert!(batches[0].bytes() > 20 << 20);
}
