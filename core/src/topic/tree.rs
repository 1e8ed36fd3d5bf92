//! Many Topic Filters, matched at once.

use crate::topic::TopicFilter;

/// Values under Topic Filters, found by Topic Name. Several values may stand under one filter.
#[derive(Clone, Debug)]
pub struct FilterTree<T> {
    values: Vec<(TopicFilter, T)>,
}

impl<T> Default for FilterTree<T> {
    fn default() -> Self {
        Self { values: Vec::new() }
    }
}

impl<T: PartialEq> FilterTree<T> {
    /// Puts `value` under `filter`; an equal value there is replaced and returned.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) -> Option<T> {
        let old = self.remove(filter, &value);
        self.values.push((filter.clone(), value));
        old
    }

    /// Takes the value equal to `value` away from `filter`; empty branches vanish.
    pub fn remove(&mut self, filter: &TopicFilter, value: &T) -> Option<T> {
        let at = self.values.iter().position(|(f, v)| f == filter && v == value)?;
        Some(self.values.swap_remove(at).1)
    }

    /// Calls `found` with each value whose filter matches the Topic Name `topic`.
    pub fn for_each_match<'t>(&'t self, topic: &str, mut found: impl FnMut(&'t T)) {
        self.values.iter().filter(|(f, _)| f.matches(topic)).for_each(|(_, v)| found(v));
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}
