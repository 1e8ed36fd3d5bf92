//! Topic Names against many Topic Filters.
//!
//! Watches "fold + match: at most 0.5 us a message", and that it does not grow with the number of
//! filters: this is what is paid where the shard's cache of topics does not know the topic. The
//! cache has no public face; `outbox` runs through it.

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::tree::FilterTree;

const COUNTS: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
/// Different topics that are matched.
const TOPICS: usize = 1_000;

/// The Topic Filter of a number.
type Filters = fn(usize) -> String;

/// All of this subject.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matching");
    for count in COUNTS {
        let topics = topics(count);
        group.throughput(Throughput::Elements(topics.len() as u64));
        for (kind, filter) in [("exact", exact as Filters), ("wildcard", wildcard)] {
            // A million filters are built only if this case is run.
            let tree = LazyCell::new(|| tree(count, filter));
            group.bench_function(BenchmarkId::new(kind, count), |bencher| {
                let tree: &FilterTree<usize, ()> = &tree;
                bencher.iter(|| {
                    let mut found = 0;
                    for topic in &topics {
                        tree.for_each_match(black_box(topic), |_, ()| found += 1);
                    }
                    assert_eq!(found, topics.len());
                });
            });
        }
    }
    group.finish();
}

fn exact(number: usize) -> String {
    format!("site/{}/line/{}/temperature", number / 100, number % 100)
}

/// One level or the rest is left open, in turn.
fn wildcard(number: usize) -> String {
    match number % 2 {
        0 => format!("site/{}/+/{}/temperature", number / 100, number % 100),
        _ => format!("site/{}/line/{}/#", number / 100, number % 100),
    }
}

/// Each matches one of `count` filters of either kind; spread over all of them.
fn topics(count: usize) -> Vec<String> {
    // A step that is prime to the counts does not favour neighbours.
    (0..TOPICS.min(count)).map(|number| exact(number * 7_919 % count)).collect()
}

fn tree(count: usize, filter: Filters) -> FilterTree<usize, ()> {
    let mut tree = FilterTree::default();
    for number in 0..count {
        let filter = TopicFilter::new(&filter(number)).unwrap();
        tree.insert(&filter, number, ());
    }
    tree
}
