//! Checkpoints that travel: out of a store, in beside another one, and in its place.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ledgermq_core::offset::{Index, Offset};
use ledgermq_projections::checkpoint::{
    Changes, FileStore, ImportError, Imported, MemoryStore, Meta, Part, RowVisitor, Store,
    StoreError, Table, VERSION, export, import, row_checksum,
};
use ledgermq_projections::projector::{OpenError, Options, Projector};
use ledgermq_projections::views::Limits;
use ledgermq_projections::views::retained::RetainedMessage;
use proptest::prelude::*;

use crate::support::{World, table};

/// Bytes of a block with its head, as the stream has them.
const BLOCK_BYTES: usize = (64 << 10) + 12;
const OPTIONS: Options = Options {
    node: 1,
    start: 1,
    limits: Limits { queued_messages: 3, queued_bytes: 1 << 20, owed_messages: usize::MAX },
    checkpoint_interval: Duration::from_secs(5),
};

/// Runs the test with stores in files and in memory.
fn with_each(test: impl Fn(&mut dyn FnMut() -> Box<dyn Store>)) {
    test(&mut || Box::new(MemoryStore::default()));
    let directory = tempfile::tempdir().expect("a directory");
    let mut number = 0;
    test(&mut || {
        number += 1;
        let path = directory.path().join(format!("views-{number}.redb"));
        Box::new(FileStore::open(&path).expect("it can be opened"))
    });
}

/// A world in which something of every kind is stored, and a store with its state; everything that is
/// owed is kept.
fn filled(store: &mut dyn Store) -> World {
    let mut world = World::new(OPTIONS.limits);
    world.fold(
        "node 1 1; open a expiry=100 will=w delay=5; open b expiry=never; open g expiry=never
         rules readwrite:#
         sub a # qos=2; sub b x/+ qos=1; sub g $share/g/x/# qos=1
         pub p x/1 m qos=1 retain; pub a y m qos=2 id=3
         sub b x/1 qos=1
         close a will",
    );
    // More than one block.
    for number in 0..40 {
        world.fold(&format!("pub p x/{number} {} qos=1 retain", "long".repeat(1_000)));
    }
    save(&mut world, store);
    world
}

/// Saves what the views are, and keeps what they owe.
fn save(world: &mut World, store: &mut dyn Store) {
    let index = world.history.last_index();
    store.commit(&world.views.changes()).expect("it has room");
    let mut copies = Vec::new();
    for at in world.views.owed_between(0, index) {
        let batch =
            world.batches.iter().find(|batch| batch.index == at.index).expect("it is there");
        RetainedMessage::copy(batch, &[at], &mut copies);
    }
    store.keep(index, &copies).expect("it has room");
}

fn exported(store: &mut dyn Store) -> (Meta, Vec<u8>) {
    let mut stream = Vec::new();
    let index = store.meta().expect("it can be read").expect("it was written").applied;
    let meta = export(store, index, &mut stream).expect("it can be written");
    let said = store.bytes().expect("it is there");
    // Head, end and the header of a block come on top, which only a store that is all but empty shows.
    let most = said + 128;
    assert!(stream.len() as u64 <= most, "{} bytes, and {said} were said", stream.len());
    (meta, stream)
}

fn take_in(store: &mut dyn Store, meta: &Meta, mut stream: &[u8]) -> Result<Imported, ImportError> {
    import(store, &mut stream, OPTIONS.limits, meta.applied, meta.checksum)
}

type Content = (Option<Meta>, Vec<(Table, Vec<u8>, Vec<u8>)>, Vec<(Offset, Vec<u8>)>);

fn content(store: &mut dyn Store) -> Content {
    let (mut rows, mut kept) = (Vec::new(), Vec::new());
    let visit: &mut RowVisitor<'_> = &mut |table, key, value| {
        rows.push((table, key.to_vec(), value.to_vec()));
        Ok(())
    };
    store.load(visit).expect("it can be read");
    let visit = &mut |at, message: &[u8]| {
        kept.push((at, message.to_vec()));
        Ok(())
    };
    store.load_kept(visit).expect("it can be read");
    (store.meta().expect("it can be read"), rows, kept)
}

#[test]
fn what_was_exported_takes_the_place_of_another_store() {
    with_each(|new| {
        let (mut from, mut to) = (new(), new());
        let world = filled(&mut *from);
        let (meta, stream) = exported(&mut *from);
        assert!(stream.len() > 2 * BLOCK_BYTES);
        let before = {
            let mut other = World::new(OPTIONS.limits);
            other.fold("open z expiry=100\n sub z # qos=1\n pub p old 1 qos=1 retain");
            save(&mut other, &mut *to);
            content(&mut *to)
        };
        let kept = to.kept();
        assert!(kept.get(Offset::new(3, 0)).expect("it can be read").is_some());
        let imported = take_in(&mut *to, &meta, &stream).expect("it is sound");
        assert_eq!(imported.meta, Meta { kept_upto: meta.applied, ..meta });
        assert_eq!(content(&mut *to), before, "it stands beside");
        assert_eq!(to.beside().meta().expect("it can be read"), Some(imported.meta));

        to.take_place().expect("it is complete");
        assert_eq!(content(&mut *to), content(&mut *from));
        assert_eq!(to.beside().meta().expect("it can be read"), None);
        to.take_place().expect_err("there is none any more");
        // Whoever read copies reads those.
        for at in world.views.owed_between(0, meta.applied) {
            let message = kept.get(at).expect("it can be read").expect("it was kept");
            assert_eq!(message.offset, at);
        }
        // And it goes on.
        let mut world = world;
        world.fold("close b\n pub p x/1 more qos=1 retain");
        to.commit(&world.views.changes()).expect("it has room");
        let last = world.history.last_index();
        let opened = Projector::open(OPTIONS, &mut *to, meta.applied, last).expect("it is sound");
        assert_eq!(opened.reader().with(table), table(&world.views));
    });
}

#[test]
fn who_reads_copies_at_that_moment_does_not_bring_the_old_file_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut from = MemoryStore::default();
    filled(&mut from);
    let (meta, stream) = exported(&mut from);
    for round in 0..20 {
        let path = directory.path().join(format!("views-{round}.redb"));
        let mut store = FileStore::open(&path).expect("it can be opened");
        take_in(&mut store, &meta, &stream).expect("it is sound");
        let (kept, is_done) = (store.kept(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let _ = kept.get(Offset::new(9_999, 0));
                }
            });
            store.take_place().expect("it is complete");
            is_done.store(true, Ordering::Relaxed);
        });
        let applied = store.meta().expect("it can be read").map(|meta| meta.applied);
        assert_eq!(applied, Some(meta.applied), "round {round}");
    }
}

#[test]
fn a_store_elsewhere_or_that_has_not_kept_what_is_owed_is_not_exported() {
    with_each(|new| {
        let mut store = new();
        let mut stream = Vec::new();
        export(&mut *store, 1, &mut stream).expect_err("there is nothing");
        let mut world = World::new(OPTIONS.limits);
        world.fold("open a expiry=100\n sub a # qos=1\n pub p x 1 qos=1");
        store.commit(&world.views.changes()).expect("it has room");
        let error = export(&mut *store, 3, &mut stream).expect_err("it is not kept");
        assert!(error.to_string().contains("stands at 3 and keeps what is owed up to 0, not 3"));
        save(&mut world, &mut *store);
        export(&mut *store, 2, &mut stream).expect_err("it is elsewhere");
        assert!(stream.is_empty());
        export(&mut *store, 3, &mut stream).expect("it is as wanted");
    });
}

#[test]
fn a_sink_that_takes_no_more_is_an_error() {
    struct Short(usize);
    impl io::Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut store = MemoryStore::default();
    filled(&mut store);
    let (meta, stream) = exported(&mut store);
    for room in [0, 100, BLOCK_BYTES, stream.len() - 1] {
        let error = export(&mut store, meta.applied, &mut Short(room)).expect_err("it is full");
        assert_eq!(error.to_string(), "the snapshot cannot be written", "{room}");
    }
    export(&mut store, meta.applied, &mut Short(stream.len())).expect("it has room");
}

/// Nothing may be left, and the store is as it was.
#[track_caller]
fn is_refused(store: &mut dyn Store, meta: &Meta, stream: &[u8]) -> String {
    let before = content(store);
    let error = take_in(store, meta, stream).expect_err("it is not what was exported");
    assert!(matches!(error, ImportError::Refused(_)), "{error}");
    assert_eq!(store.beside().meta().expect("it can be read"), None);
    assert_eq!(content(store), before);
    error.to_string()
}

#[test]
fn damage_in_any_block_and_any_cut_is_refused() {
    with_each(|new| {
        let (mut from, mut to) = (new(), new());
        filled(&mut *from);
        let (meta, stream) = exported(&mut *from);
        for block in 0..stream.len().div_ceil(BLOCK_BYTES) {
            let start = block * BLOCK_BYTES;
            for at in [start, start + 3, start + 5, start + 12, start + 40_000] {
                let Some(byte) = stream.get(at) else { continue };
                let mut damaged = stream.clone();
                damaged[at] = byte ^ 4;
                let why = is_refused(&mut *to, &meta, &damaged);
                assert!(why.starts_with("the snapshot is refused: "), "{at}: {why}");
            }
            for cut in [start, start + 5, start + 30] {
                let why = is_refused(&mut *to, &meta, &stream[..cut.min(stream.len() - 1)]);
                assert!(why.ends_with("it is cut short"), "{cut}: {why}");
            }
        }
        let mut longer = stream.clone();
        longer.extend_from_slice(&stream);
        is_refused(&mut *to, &meta, &longer);
        take_in(&mut *to, &meta, &stream).expect("the whole is sound");
    });
}

#[test]
fn blocks_that_change_places_are_refused() {
    let (mut from, mut to) = (MemoryStore::default(), MemoryStore::default());
    filled(&mut from);
    let (meta, stream) = exported(&mut from);
    let (first, rest) = stream.split_at(BLOCK_BYTES);
    let (second, rest) = rest.split_at(BLOCK_BYTES);
    let swapped = [first, &rest[..rest.len().min(BLOCK_BYTES)], second].concat();
    let why = is_refused(&mut to, &meta, &swapped);
    assert!(why.ends_with("block 1 is not what was written"), "{why}");
}

#[test]
fn another_index_checksum_format_or_version_is_refused_with_the_reason() {
    let (mut from, mut to) = (MemoryStore::default(), MemoryStore::default());
    filled(&mut from);
    let (meta, stream) = exported(&mut from);
    let other = Meta { applied: meta.applied + 1, ..meta };
    assert!(is_refused(&mut to, &other, &stream).contains("it is of index"));
    let other = Meta { checksum: 1, ..meta };
    assert!(is_refused(&mut to, &other, &stream).contains("and not of"));
    from.set_version(VERSION + 1);
    let (_, stream) = exported(&mut from);
    let why = is_refused(&mut to, &meta, &stream);
    let expected = format!("its rows have version {}, this program {VERSION}", VERSION + 1);
    assert!(why.ends_with(&expected), "{why}");
    is_refused(&mut to, &meta, b"");
}

#[test]
fn rows_that_are_not_those_of_the_checksum_are_refused() {
    let (mut from, mut to) = (MemoryStore::default(), MemoryStore::default());
    filled(&mut from);
    assert!(from.damage());
    let (meta, stream) = exported(&mut from);
    is_refused(&mut to, &meta, &stream);
}

#[test]
fn a_stream_that_cannot_be_read_is_none_of_its_own_fault() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(io::ErrorKind::PermissionDenied.into()),
                bytes => Ok(bytes),
            }
        }
    }
    with_each(|new| {
        let (mut from, mut to) = (new(), new());
        filled(&mut *from);
        let (meta, stream) = exported(&mut *from);
        let mut short = Failing(&stream[..BLOCK_BYTES * 2]);
        let error = import(&mut *to, &mut short, OPTIONS.limits, meta.applied, meta.checksum);
        assert!(matches!(error, Err(ImportError::Read(_))), "{error:?}");
        assert_eq!(to.beside().meta().expect("it can be read"), None);
    });
}

#[test]
fn a_store_that_is_full_takes_nothing_in_and_something_later() {
    let (mut from, mut to) = (MemoryStore::default(), MemoryStore::default());
    filled(&mut from);
    let (meta, stream) = exported(&mut from);
    to.set_failing(true);
    let error = take_in(&mut to, &meta, &stream).expect_err("it is full");
    assert!(matches!(error, ImportError::Store(StoreError::Storage(_))), "{error}");
    to.set_failing(false);
    take_in(&mut to, &meta, &stream).expect("it has room");
    to.set_failing(true);
    to.take_place().expect_err("it is full");
    to.set_failing(false);
    assert_eq!(to.meta().expect("it can be read"), None);
    to.take_place().expect("it has room");
    assert_eq!(content(&mut to), content(&mut from));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the rows are: those that no view can load are refused, others come as they were.
    #[test]
    fn random_rows_come_as_they_were_or_not_at_all(
        messages in prop::collection::vec(("[a-z]{1,9}(/[a-z]{1,9})?", "[a-z]{1,400}", any::<bool>()), 0..60),
        odd in prop::option::of((0..15_usize, bytes(), bytes())),
    ) {
        let mut world = World::new(OPTIONS.limits);
        world.fold("open a expiry=never\n sub a # qos=1");
        for (topic, payload, retain) in messages {
            world.fold(&format!("pub p {topic} {payload} qos=1{}", if retain { " retain" } else { "" }));
        }
        let mut from = MemoryStore::default();
        save(&mut world, &mut from);
        if let Some((table, key, value)) = &odd {
            let rows = vec![(Table::ALL[*table], key.clone(), Some(value.clone()))];
            let applied = world.history.last_index();
            from.commit(&Changes { applied, rows, ..Changes::default() }).expect("it has room");
        }
        let (meta, stream) = exported(&mut from);
        let mut to = MemoryStore::default();
        match take_in(&mut to, &meta, &stream) {
            Ok(_) => {
                to.take_place().expect("it is complete");
                prop_assert_eq!(content(&mut to), content(&mut from));
            }
            Err(error) => {
                prop_assert!(odd.is_some(), "{}", error);
                prop_assert_eq!(to.beside().meta().expect("it can be read"), None);
            }
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

/// Opens a projector over `store` with a log that begins at `first`.
fn open(store: &mut dyn Store, first: Index, commit: Index) -> Result<Projector, OpenError> {
    Projector::open(OPTIONS, store, first, commit)
}

/// A store of index 2 with a snapshot of index `at` beside it.
fn with_beside(new: &mut dyn FnMut() -> Box<dyn Store>) -> (Box<dyn Store>, Index) {
    let (mut from, mut store) = (new(), new());
    filled(&mut *from);
    let (meta, stream) = exported(&mut *from);
    let mut old = World::new(OPTIONS.limits);
    old.fold("open z expiry=100\n sub z # qos=1");
    save(&mut old, &mut *store);
    take_in(&mut *store, &meta, &stream).expect("it is sound");
    (store, meta.applied)
}

#[test]
fn a_complete_snapshot_takes_its_place_at_a_start_behind_the_jump_of_the_log() {
    with_each(|new| {
        let (mut store, at) = with_beside(new);
        let projector = open(&mut *store, at + 1, at).expect("the log has jumped there");
        assert_eq!(projector.next_index(), at + 1);
        assert!(projector.reader().with(table).contains("b 1:2 online"));
        assert_eq!(store.meta().expect("it can be read").map(|meta| meta.applied), Some(at));
        assert_eq!(store.beside().meta().expect("it can be read"), None);
        // And the next start finds nothing to do.
        let projector = open(&mut *store, at + 1, at).expect("it is sound");
        assert_eq!(projector.next_index(), at + 1);
    });
}

#[test]
fn a_snapshot_beside_a_store_that_can_go_on_is_thrown_away() {
    with_each(|new| {
        let (mut store, _) = with_beside(new);
        let projector = open(&mut *store, 1, 2).expect("the log has not jumped");
        assert_eq!(projector.next_index(), 3);
        assert_eq!(store.beside().meta().expect("it can be read"), None);
    });
}

#[test]
fn an_incomplete_or_stale_snapshot_takes_no_place() {
    with_each(|new| {
        let (mut store, at) = with_beside(new);
        let error = open(&mut *store, at + 2, at + 1).err().expect("it ends before the log begins");
        assert!(matches!(error, OpenError::HistoryGone { .. }), "{error}");
        let error = open(&mut *store, at, at - 1).err().expect("it is ahead of the log");
        assert!(matches!(error, OpenError::HistoryGone { .. }), "{error}");

        let beside = store.beside();
        beside.begin().expect("it has room");
        let row = (Table::Counters, Vec::new(), vec![1]);
        let checksum = row_checksum(row.0, &row.1, &row.2);
        beside.add(&Part { rows: vec![row], kept: Vec::new() }).expect("it has room");
        // The process ends here; the next one finds the file.
        assert_eq!(beside.meta().expect("it can be read"), None);
        let error = open(&mut *store, at + 1, at).err().expect("it is incomplete");
        assert!(matches!(error, OpenError::HistoryGone { .. }), "{error}");

        // It is complete and cannot be loaded.
        let beside = store.beside();
        beside.begin().expect("it has room");
        let meta = Meta { version: VERSION, applied: at, checksum, ..Meta::default() };
        beside.finish(&Meta { checksum: 1, ..meta }).expect("it has room");
        let error = open(&mut *store, at + 1, at).err().expect("it is damaged");
        assert!(error.to_string().starts_with("the checkpoint is damaged"), "{error}");
    });
}

#[test]
fn a_process_that_ends_between_any_two_steps_leaves_a_file_that_the_next_one_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let open_file = |path: &Path| FileStore::open(path).expect("it can be opened");
    let mut from = open_file(&path("from"));
    filled(&mut from);
    let (meta, stream) = exported(&mut from);
    let (first, commit) = (meta.applied + 1, meta.applied);
    let beside = path("views.new");
    let mut store = open_file(&path("views"));
    let mut old = World::new(OPTIONS.limits);
    old.fold("open z expiry=100\n sub z # qos=1");
    save(&mut old, &mut store);

    // While it is taken in: a part is there.
    store.beside().begin().expect("it has room");
    store.beside().add(&Part::default()).expect("it has room");
    drop(store);
    assert!(beside.exists());
    let mut store = open_file(&path("views"));
    assert_eq!(open(&mut store, 1, 2).expect("the log has not jumped").next_index(), 3);
    assert!(!beside.exists());

    // When it was taken in.
    take_in(&mut store, &meta, &stream).expect("it is sound");
    drop(store);
    let mut store = open_file(&path("views"));
    assert_eq!(open(&mut store, 1, 2).expect("the log has not jumped").next_index(), 3);
    assert!(!beside.exists());

    // When the log has jumped.
    take_in(&mut store, &meta, &stream).expect("it is sound");
    drop(store);
    let mut store = open_file(&path("views"));
    assert_eq!(open(&mut store, first, commit).expect("it fits").next_index(), first);
    assert!(!beside.exists());

    // When it was put in place.
    drop(store);
    let mut store = open_file(&path("views"));
    assert_eq!(open(&mut store, first, commit).expect("it fits").next_index(), first);

    // A file that is none is no store beside.
    std::fs::write(&beside, vec![7; 10_000]).expect("it has room");
    assert_eq!(open(&mut store, first, commit).expect("it fits").next_index(), first);
    assert!(!beside.exists());
}
