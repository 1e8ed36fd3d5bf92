//! *fold(all) == fold(rest) after snapshot(k)*, through the stores.

use std::time::Duration;

use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_log::Leading;
use ledgermq_projections::checkpoint::{FileStore, MemoryStore, Meta, Store, VERSION};
use ledgermq_projections::projector::{Events, OpenError, Options, Output, Projector};
use ledgermq_projections::views::due::Due;
use ledgermq_projections::views::retained::RetainedMessage;
use ledgermq_projections::views::topics::LEVEL_BYTES_MAX;
use ledgermq_projections::views::{Limits, Views};
use proptest::prelude::*;

use crate::support::{EPOCH, World, table};

pub(crate) const OPTIONS: Options = Options {
    node: 1,
    start: 1,
    limits: Limits { queued_messages: 3, queued_bytes: 1 << 20, owed_messages: usize::MAX },
    checkpoint_interval: Duration::from_secs(5),
};

const LONG_PAST: Timestamp = Timestamp::from_secs(EPOCH + 1_000_000);

/// Everything that can be seen of views.
pub(crate) fn seen(views: &Views) -> (String, u64, Vec<u8>, usize, u64) {
    let mut rows = views.snapshot().rows;
    rows.sort();
    let rows = rows.into_iter().flat_map(|(table, key, value)| {
        [vec![table as u8], key, value.expect("a snapshot has values")].concat()
    });
    let subscriptions = views.persistent_subscriptions();
    (table(views), views.checksum(), rows.collect(), subscriptions, views.retained().bytes())
}

pub(crate) fn due(views: &mut Views) -> Vec<Due> {
    let mut out = Vec::new();
    views.due(LONG_PAST, usize::MAX, &mut out);
    out
}

/// Which consumer's drops come first hangs on hints, which may be too early in views that saw what
/// was settled: all else has its place.
pub(crate) fn in_order(mut due: Vec<Due>) -> Vec<Due> {
    due.sort_by_key(|due| match due {
        Due::Will { .. } | Due::SessionExpired { .. } => None,
        Due::MessageDropped { .. } | Due::SharedDropped { .. } => Some(format!("{due:?}")),
    });
    due
}

/// A batch's events in the little language.
fn batch() -> impl Strategy<Value = String> {
    let client = || prop::sample::select(vec!["a", "b", "c"]);
    let topic = || prop::sample::select(vec!["x", "x/y", "y", "$s"]);
    let filter = || {
        prop::sample::select(vec![
            "x",
            "x/#",
            "+",
            "#",
            "$s",
            "$share/g/#",
            "$share/h/#",
            "$share/g/x",
        ])
    };
    let offset = || (1..40_u64, 0..3_u32).prop_map(|(index, ordinal)| format!("{index}:{ordinal}"));
    let place = || {
        let group = prop::sample::select(vec!["", "", ".g0", ".g1", ".g2", ".g3"]);
        (offset(), group).prop_map(|(at, group)| format!("{at}{group}"))
    };
    let event = prop_oneof![
        (client(), 0..3_u32, prop::bool::weighted(0.2)).prop_map(|(client, kind, clean)| {
            let clean = if clean { " clean" } else { "" };
            let kind =
                ["expiry=0", "expiry=20 will=w delay=10", "expiry=never will=w"][kind as usize];
            format!("open {client} {kind}{clean}")
        }),
        (client(), any::<bool>()).prop_map(|(client, will)| format!(
            "close {client}{}",
            if will { " will" } else { "" }
        )),
        client().prop_map(|client| format!("expire {client}")),
        (client(), filter(), 0..3_u32)
            .prop_map(|(c, filter, qos)| format!("sub {c} {filter} qos={qos} id=7")),
        (client(), filter()).prop_map(|(client, filter)| format!("unsub {client} {filter}")),
        (client(), topic(), 0..3_u32, 0..4_u32).prop_map(|(client, topic, qos, kind)| {
            let kind = ["", " retain", " retain expiry=15", " expiry=5"][kind as usize];
            format!("pub {client} {topic} m qos={qos}{kind}")
        }),
        (client(), topic())
            .prop_map(|(client, topic)| format!("pub {client} {topic} empty retain")),
        (client(), topic(), 1..9_u16)
            .prop_map(|(c, topic, id)| format!("pub {c} {topic} m qos=2 id={id}")),
        (client(), 1..9_u16).prop_map(|(client, id)| format!("release {client} {id}")),
        (client(), 1..9_u16, place())
            .prop_map(|(client, id, at)| format!("start {client} {id}={at}")),
        (client(), 1..9_u16).prop_map(|(client, id)| format!("receive {client} {id}")),
        (client(), place(), 1..9_u16, place())
            .prop_map(|(c, upto, id, at)| format!("progress {c} {upto} {id}={at}")),
        (client(), place(), place())
            .prop_map(|(c, from, upto)| format!("drop {c} {from} {upto} full")),
        (1..3_u64).prop_map(|start| format!("node 1 {start}")),
        (client(), place()).prop_map(|(client, at)| format!("settle {client} {at}")),
        prop::sample::select(vec![
            "open",
            "readwrite:#,read:$s",
            "read:x/#,write:w",
            "write:#,read:%c",
            "readwrite:#,deny:x/+",
        ])
        .prop_map(|rules| format!("rules {rules}")),
        (filter(), offset(), any::<bool>()).prop_map(|(filter, upto, is_expired)| {
            format!("sdrop {filter} {upto}{}", if is_expired { " expired" } else { "" })
        }),
    ];
    prop::collection::vec(event, 1..4).prop_map(|events| events.join(";"))
}

pub(crate) fn line() -> impl Strategy<Value = (String, bool)> {
    let pause = prop_oneof![3 => Just(0_u64), 1 => 1..12_u64];
    (batch(), pause, any::<bool>())
        .prop_map(|(batch, pause, saves)| (format!("{pause}|{batch}"), saves))
}

/// Folds the lines, saving where they say; at each save restarts from the store and folds the
/// rest.
fn restarts_at_every_save(
    lines: &[(String, bool)],
    store: &mut (impl Store + Clone),
) -> Result<(), TestCaseError> {
    let mut world = World::new(OPTIONS.limits);
    let mut restarted = Vec::new();
    let mut now = 0;
    for (line, saves) in lines {
        let (pause, batch) = line.split_once('|').expect("as written");
        now += pause.parse::<u64>().expect("seconds");
        let before = world.batches.len();
        world.fold(&format!("time {now}\n{batch}"));
        for (projector, at) in &mut restarted {
            let _: &mut usize = at;
            turn(projector, &world, before);
        }
        if *saves {
            let changes = world.views.changes();
            store.commit(&changes).expect("it has room");
            let index = world.history.last_index();
            let meta = store.meta().expect("it can be read").expect("it was written");
            let Meta { version, applied, checksum, .. } = meta;
            prop_assert_eq!((version, applied), (VERSION, index));
            prop_assert_eq!(checksum, world.views.checksum(), "the sum that followed the changes");
            let projector = Projector::open(OPTIONS, store, 1, index).expect("it is sound");
            restarted.push((projector, world.batches.len()));
        }
    }
    let expected = seen(&world.views);
    let expected_due = in_order(due(&mut world.views));
    for (projector, at) in restarted {
        let reader = projector.reader();
        reader.with(|views| {
            prop_assert_eq!(&seen(views), &expected, "from a checkpoint at batch {}", at);
            prop_assert_eq!(views.owed_messages(), world.views.owed_messages());
            Ok(())
        })?;
        let due = in_order(due_of(projector, &world));
        prop_assert_eq!(&due, &expected_due, "due, from a checkpoint at batch {}", at);
    }
    Ok(())
}

fn turn(projector: &mut Projector, world: &World, from: usize) {
    let (mut notices, mut out) = (Vec::new(), Vec::new());
    let batches = &world.batches[from..];
    projector
        .turn(Timestamp(0), Timestamp(0), batches, &mut notices, &mut out)
        .expect("it can be folded");
}

/// What a projector would append when all is long past.
fn due_of(mut projector: Projector, world: &World) -> Vec<Due> {
    let (mut notices, mut out) = (Vec::new(), Vec::new());
    let now = Timestamp(0);
    projector.turn(now, now, &[], &mut notices, &mut out).expect("nothing to fold");
    projector.appended(now, Some(world.history.last_index()));
    out.clear();
    projector.set_lead(Some(Leading { term: 1, first: 1 }), world.history.last_index());
    projector.turn(now, LONG_PAST, &[], &mut notices, &mut out).expect("nothing to fold");
    out.into_iter()
        .find_map(|output| match output {
            Output::Derive { events: Events::Due(due), .. } => Some(due),
            _ => None,
        })
        .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn folding_the_rest_after_a_checkpoint_gives_the_same(
        lines in prop::collection::vec(line(), 1..40),
    ) {
        restarts_at_every_save(&lines, &mut MemoryStore::default())?;
    }
}

#[test]
fn the_file_holds_what_memory_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut world = World::new(OPTIONS.limits);
    let mut memory = MemoryStore::default();
    let path = directory.path().join("views.redb");
    for round in 0..4 {
        world.fold(&format!(
            "open a expiry=100 will=w delay=5; open b expiry=never
             sub a #  qos=2; sub b x/+ qos=1
             pub p x/{round} m qos=1 retain; pub a y m qos=2 id=3
             progress a 3:0
             close a will; unsub b x/+"
        ));
        let changes = world.views.changes();
        memory.commit(&changes).expect("it has room");
        let mut file = FileStore::open(&path).expect("it can be opened");
        file.commit(&changes).expect("it has room");
        let rows = |store: &mut dyn Store| {
            let mut rows = Vec::new();
            let visit = &mut |table, key: &[u8], value: &[u8]| {
                rows.push((table, key.to_vec(), value.to_vec()));
                Ok(())
            };
            store.load(visit).expect("it can be read");
            (store.meta().expect("it can be read"), rows)
        };
        assert_eq!(rows(&mut file), rows(&mut memory));
        let index = world.history.last_index();
        let projector = Projector::open(OPTIONS, &mut file, 1, index).expect("it is sound");
        let (mine, theirs) = (seen(&world.views), projector.reader().with(seen));
        assert_eq!(mine, theirs);
    }
}

fn saved() -> (World, MemoryStore) {
    let mut world = World::default();
    world.fold("open a expiry=100\n sub a # qos=1\n pub p x 1 qos=1 retain");
    let mut store = MemoryStore::default();
    store.commit(&world.views.changes()).expect("it has room");
    (world, store)
}

#[test]
fn a_damaged_checkpoint_or_one_of_another_version_is_rebuilt_from_the_whole_log() {
    let spoils: [fn(&MemoryStore); 2] =
        [|store| assert!(store.damage()), |store| store.set_version(VERSION + 1)];
    for spoil in spoils {
        let (world, mut store) = saved();
        spoil(&store);
        let mut projector = Projector::open(OPTIONS, &mut store, 1, 3).expect("it is rebuilt");
        assert_eq!(projector.next_index(), 1);
        turn(&mut projector, &world, 0);
        assert_eq!(projector.reader().with(seen), seen(&world.views));
    }
}

#[test]
fn a_rebuilt_checkpoint_allows_no_purge_that_the_one_before_it_had_prepared() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = FileStore::open(&directory.path().join("views.redb")).expect("it can be opened");
    let mut memory = MemoryStore::default();
    let (world, _) = saved();
    for store in [&mut memory as &mut dyn Store, &mut file] {
        store.commit(&world.views.snapshot()).expect("it has room");
        let mut copies = Vec::new();
        RetainedMessage::copy(&world.batches[2], &[Offset::new(3, 0)], &mut copies);
        store.keep(3, &copies).expect("it has room");
        assert_eq!(store.kept_offsets().expect("it can be read").len(), 1);
        // The log is shorter than the checkpoint, which is not believed therefore.
        Projector::open(OPTIONS, store, 1, 2).expect("it is rebuilt");
        store.commit(&world.views.snapshot()).expect("it has room");

        let mut projector = Projector::open(OPTIONS, store, 1, 3).expect("it is sound");
        let mut out = Vec::new();
        let (now, mut notices) = (Timestamp(0), Vec::new());
        projector.turn(now, now, &[], &mut notices, &mut out).expect("nothing to fold");
        assert!(out.iter().any(|output| matches!(output, Output::PurgeAllowed(0))), "{out:?}");
        assert_eq!(store.kept_offsets().expect("it can be read"), []);
        assert_eq!(store.kept().get(Offset::new(3, 0)).expect("it can be read"), None);
    }
}

#[test]
fn without_the_whole_log_a_bad_checkpoint_is_an_error_that_says_so() {
    let (_, mut store) = saved();
    assert!(store.damage());
    let error = Projector::open(OPTIONS, &mut store, 2, 3).err().expect("it cannot be rebuilt");
    assert!(matches!(error, OpenError::HistoryGone { first: 2, .. }));
    assert!(error.to_string().starts_with("the checkpoint is damaged"), "{error}");

    let error = Projector::open(OPTIONS, &mut MemoryStore::default(), 2, 3).err();
    assert!(
        error.expect("nothing to begin with").to_string().starts_with("there is no checkpoint")
    );

    let (_, mut store) = saved();
    let error = Projector::open(OPTIONS, &mut store, 5, 9).err().expect("a gap");
    assert!(error.to_string().starts_with("the checkpoint ends at index 3"));
}

#[test]
fn a_checkpoint_ahead_of_the_log_is_not_believed() {
    let (_, mut store) = saved();
    let projector = Projector::open(OPTIONS, &mut store, 1, 2).expect("it is rebuilt");
    assert_eq!(projector.next_index(), 1);
}

#[test]
fn a_tree_of_topics_that_is_full_is_as_full_after_a_restart() {
    let long = "x".repeat(60_000);
    let messages = LEVEL_BYTES_MAX / long.len() - 2;
    let mut world = World::default();
    for number in 0..messages {
        world.fold(&format!("pub p {number}{long} 1"));
    }
    let mut store = MemoryStore::default();
    store.commit(&world.views.changes()).expect("it has room");
    let index = world.history.last_index();
    let mut projector = Projector::open(OPTIONS, &mut store, 1, index).expect("it is sound");
    for number in messages..messages + 5 {
        world.fold(&format!("pub p {number}{long} 1"));
    }
    turn(&mut projector, &world, messages);
    assert!(world.views.topics().len() - 2 < messages + 5, "it is full");
    assert_eq!(projector.reader().with(Views::checksum), world.views.checksum());
}

#[test]
fn a_damaged_file_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("views.redb");
    std::fs::write(&path, vec![7; 10_000]).expect("it has room");
    let mut store = FileStore::open(&path).expect("it is opened all the same");
    let projector = Projector::open(OPTIONS, &mut store, 1, 3).expect("it is rebuilt");
    assert_eq!(projector.next_index(), 1);
    store.commit(&saved().0.views.snapshot()).expect("it has room");
    assert_eq!(store.meta().expect("it can be read").expect("it was written").applied, 3);
}
