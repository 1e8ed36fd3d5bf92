//! Whether anybody wants a topic.

use ledgermq_core::offset::Index;
use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::tree::FilterTree;

/// The Topic Filters that sessions subscribe to, transient and persistent, with or without a share:
/// each once, with the number of subscriptions to it. Derived from the sessions; no rows of its own.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    filters: FilterTree<(), u32>,
    /// Index of the batch after which it was last otherwise than before.
    changed: Index,
    is_changed: bool,
}

impl Interest {
    /// One subscription more to `filter`.
    pub(crate) fn add(&mut self, filter: &TopicFilter) {
        // A Shared Subscription stands under its FILTER.
        let count = self.filters.get(filter, &()).copied().unwrap_or(0);
        self.filters.insert(filter, (), count.saturating_add(1));
        self.is_changed |= count == 0;
    }

    /// One subscription less to `filter`.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) {
        match self.filters.get(filter, &()).copied() {
            None => {}
            Some(0 | 1) => {
                self.filters.remove(filter, &());
                self.is_changed = true;
            }
            Some(count) => {
                self.filters.insert(filter, (), count - 1);
            }
        }
    }

    /// Whether there is a subscription that matches `topic`.
    pub(crate) fn is_in(&self, topic: &str) -> bool {
        let mut is_any = false;
        self.filters.for_each_match(topic, |(), _| is_any = true);
        is_any
    }

    /// The batch at `index` was applied.
    pub(crate) fn end_batch(&mut self, index: Index) {
        if std::mem::take(&mut self.is_changed) {
            self.changed = index;
        }
    }

    /// Index of the last batch that changed what [`Interest::is_in`] answers.
    pub(crate) fn changed(&self) -> Index {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn a_topic_is_wanted_as_long_as_one_subscription_matches_it() {
        let mut interest = Interest::default();
        assert!(!interest.is_in("a/b"));
        for text in ["a/+", "a/+", "$share/g/a/+", "c"] {
            interest.add(&filter(text));
        }
        interest.end_batch(7);
        interest.remove(&filter("a/+"));
        interest.remove(&filter("$share/g/a/+"));
        assert!(interest.is_in("a/b"));
        interest.end_batch(8);
        assert_eq!(interest.changed(), 7, "nothing changed for anybody");
        interest.remove(&filter("a/+"));
        assert!(!interest.is_in("a/b"));
        assert!(interest.is_in("c"));
        interest.end_batch(9);
        assert_eq!(interest.changed(), 9);
        interest.remove(&filter("a/+"));
        assert!(interest.is_in("c"), "one that is not there takes nothing away");
    }
}
