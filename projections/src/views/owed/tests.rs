use ledgermq_core::offset::{Offset, Timestamp};
use proptest::prelude::*;

use super::*;

/// Messages that follow each other: how far behind the last, bytes, QoS 2, RETAIN, seconds to live.
type Given = Vec<(u64, usize, bool, bool, Option<u64>)>;

fn given(length: usize) -> impl Strategy<Value = Given> {
    let step = prop_oneof![8 => Just(1_u64), 1 => 2_u64..9, 1 => (1_u64 << 20)..(1 << 24)];
    let bytes = prop_oneof![3 => Just(100_usize), 1 => 0_usize..1 << 29];
    let flag = || prop::bool::weighted(0.1);
    let seconds = prop::option::weighted(0.1, 1_u64..9);
    prop::collection::vec((step, bytes, flag(), flag(), seconds), 0..length)
}

fn entries(given: &Given, last: &mut u64) -> Vec<Entry> {
    let each = given.iter().map(|&(step, bytes, is_qos_2, retain, seconds)| {
        *last += step;
        let at = Offset::new(*last >> 20, u32::try_from(*last & 0xF_FFFF).unwrap());
        let qos = if is_qos_2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        Entry::message_at(at, bytes, qos, retain, seconds.map(Timestamp::from_secs))
    });
    each.collect()
}

fn references(entries: &[Entry]) -> References {
    let mut references = References::default();
    entries.iter().for_each(|entry| references.push(*entry));
    references
}

/// All that can be seen of a set.
fn seen(set: &OwedSet) -> impl PartialEq + std::fmt::Debug {
    let rows: Vec<_> = set.chunk_ids().map(|id| (id, set.chunk_row(id))).collect();
    let entries: Vec<_> = set.iter().collect();
    (rows, entries, set.len(), set.bytes(), set.next_expiry())
}

fn set_of(entries: &[Entry]) -> OwedSet {
    let mut set = OwedSet::default();
    entries.iter().for_each(|entry| {
        set.push(*entry);
    });
    set
}

proptest! {
    #[test]
    fn together_they_are_owed_as_one_by_one(
        runs in prop::collection::vec((given(700), any::<bool>()), 0..6),
    ) {
        let (mut together, mut one_by_one) = (OwedSet::default(), OwedSet::default());
        let mut last = 1 << 20;
        for (given, is_saved) in runs {
            let entries = entries(&given, &mut last);
            let mut told = (Vec::new(), Vec::new());
            together.push_all(&references(&entries), |chunk| told.0.push(chunk));
            told.1.extend(entries.iter().filter_map(|entry| one_by_one.push(*entry)));
            prop_assert_eq!(&told.0, &told.1);
            prop_assert_eq!(seen(&together), seen(&one_by_one));
            if is_saved {
                for set in [&mut together, &mut one_by_one] {
                    set.chunk_ids().collect::<Vec<_>>().into_iter().for_each(|id| set.set_clean(id));
                }
            }
        }
    }

    #[test]
    fn what_goes_as_a_whole_goes_as_one_by_one(
        given in given(1_500),
        outer in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        spared in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let entries = entries(&given, &mut (1 << 20));
        prop_assume!(!entries.is_empty());
        let at = |place: &prop::sample::Index| place.get(&entries).message();
        let (from, upto) = (at(&outer.0).min(at(&outer.1)), at(&outer.0).max(at(&outer.1)));
        let mut spared: Vec<_> = spared.iter().map(at).collect();
        spared.sort_unstable();
        let (mut whole, mut one_by_one) = (set_of(&entries), set_of(&entries));
        let mut told = (Vec::new(), Vec::new());
        for id in [0, 2] {
            whole.set_clean(id);
            one_by_one.set_clean(id);
        }
        let counts = (
            whole.remove_but(from, upto, &spared, &mut |touched| told.0.push(touched)),
            one_by_one.remove(from, upto, |entry| spared.contains(&entry.message()), &mut |touched| {
                told.1.push(touched);
            }),
        );
        prop_assert_eq!(counts.0, counts.1);
        prop_assert_eq!(&told.0, &told.1);
        let left: Vec<_> = entries.iter().copied().filter(|entry| {
            let message = entry.message();
            message < from || message > upto || spared.contains(&message)
        }).collect();
        prop_assert!(whole.iter().eq(left.iter().copied()));
        prop_assert_eq!(whole.bytes(), left.iter().map(|entry| u64::from(entry.bytes())).sum());
        prop_assert_eq!(seen(&whole), seen(&one_by_one));
    }

    #[test]
    fn no_more_goes_than_is_too_much(
        given in given(1_500),
        holes in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        spared in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        messages_max in 0_usize..1_500,
        kib_max in 0_u64..1_000,
    ) {
        let entries = entries(&given, &mut (1 << 20));
        prop_assume!(!entries.is_empty());
        let at = |place: &prop::sample::Index| place.get(&entries).message();
        let mut set = set_of(&entries);
        for hole in holes.iter().map(at) {
            set.remove(hole, hole, |_| false, &mut |_| {});
        }
        let mut spared: Vec<_> = spared.iter().map(at).collect();
        spared.sort_unstable();
        spared.dedup();
        let is_beyond = |messages, bytes| messages > messages_max || bytes > kib_max << 10;
        let waiting: Vec<_> = set.iter().filter(|entry| !spared.contains(&entry.message())).collect();
        let stay = (0..waiting.len()).find(|gone| {
            let rest = &waiting[*gone..];
            !is_beyond(rest.len(), rest.iter().map(|entry| u64::from(entry.bytes())).sum())
        });
        let gone = &waiting[..stay.unwrap_or(waiting.len())];
        let expected = gone.first().zip(gone.last());
        let expected = expected.map(|(first, last)| (first.message(), last.message()));
        prop_assert_eq!(set.excess(&spared, is_beyond), expected);
    }

    #[test]
    fn a_row_gives_back_its_chunk(given in given(700)) {
        let set = set_of(&entries(&given, &mut (1 << 20)));
        let mut loaded = OwedSet::default();
        for id in set.chunk_ids() {
            loaded.load_chunk(id, &set.chunk_row(id).unwrap()).unwrap();
        }
        loaded.finish_load();
        prop_assert_eq!(seen(&loaded), seen(&set));
    }

    #[test]
    fn no_bytes_make_a_row_that_breaks_the_set(row in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut set = OwedSet::default();
        if set.load_chunk(0, &row).is_ok() {
            prop_assert!((1..=CHUNK_ENTRIES).contains(&set.len()));
            prop_assert!(set.iter().is_sorted_by_key(|entry| entry.message()));
        }
    }
}

#[test]
fn messages_that_follow_each_other_take_little_of_a_row() {
    let row_bytes = |bytes_of: fn(usize) -> usize| {
        let given = (0..256).map(|nth| (1, bytes_of(nth), false, false, None)).collect();
        let set = set_of(&entries(&given, &mut (7 << 20)));
        set.chunk_row(0).map(|row| row.len())
    };
    assert_eq!(row_bytes(|_| 100), Some(8 + 2 + 3));
    assert_eq!(row_bytes(|nth| 100 + nth % 20), Some(8 + 256 * 2));
}
