//! Who publishes what, and who subscribes to what.

use ledgermq_core::packet::QoS;

/// How publishers and subscribers belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Every publisher has a subscriber of its own.
    Pairs,
    /// Every subscriber gets everything.
    Every,
    /// All subscribers share one subscription: each message comes to one of them.
    Shared,
}

/// The topics of a run and their receivers.
#[derive(Clone, Debug)]
pub(super) struct Map {
    layout: Layout,
    publishers: usize,
    subscribers: usize,
    /// Topics of each publisher.
    topics_each: usize,
    topics: Vec<String>,
    prefix: String,
}

impl Map {
    pub(super) fn new(
        layout: Layout,
        publishers: usize,
        subscribers: usize,
        topics_each: usize,
        prefix: String,
    ) -> Self {
        let topic = |number: usize| {
            let (publisher, topic) = (number / topics_each, number % topics_each);
            if topics_each == 1 {
                format!("{prefix}/{publisher}")
            } else {
                format!("{prefix}/{publisher}/{topic}")
            }
        };
        let topics = (0..publishers * topics_each).map(topic).collect();
        Self { layout, publishers, subscribers, topics_each, topics, prefix }
    }

    /// All topics; the place of one is its stream.
    pub(super) fn topics(&self) -> &[String] {
        &self.topics
    }

    /// The stream of the message with that number of that publisher: its topics in turn.
    pub(super) fn stream(&self, publisher: usize, number: u64) -> usize {
        let topic = if self.topics_each == 1 { 0 } else { number % self.topics_each as u64 };
        publisher * self.topics_each + usize::try_from(topic).unwrap_or(0)
    }

    /// The publisher of that stream.
    pub(super) fn publisher(&self, stream: usize) -> usize {
        stream / self.topics_each
    }

    /// How many get each message.
    pub(super) fn receivers(&self) -> usize {
        match self.layout {
            Layout::Pairs => 1.min(self.subscribers),
            Layout::Every => self.subscribers,
            Layout::Shared => 1.min(self.subscribers),
        }
    }

    /// How many streams are counted apart, by all receivers.
    pub(super) fn counted(&self) -> usize {
        self.receivers() * self.topics.len()
    }

    /// The place among the counted of what a subscriber got of a stream; `None` if it is none of
    /// its streams.
    pub(super) fn place(&self, subscriber: usize, stream: usize) -> Option<usize> {
        if stream >= self.topics.len() {
            return None;
        }
        match self.layout {
            Layout::Pairs => (self.publisher(stream) == subscriber).then_some(stream),
            Layout::Every => Some(subscriber * self.topics.len() + stream),
            Layout::Shared => Some(stream),
        }
    }

    /// The stream whose messages are counted at that place.
    pub(super) fn stream_at(&self, place: usize) -> usize {
        place % self.topics.len()
    }

    /// The Topic Filters of a subscriber: one for each topic, or one with a wildcard.
    pub(super) fn filters(
        &self,
        subscriber: usize,
        wildcard: bool,
        qos: QoS,
    ) -> Vec<(String, QoS)> {
        let share = if self.layout == Layout::Shared { "$share/bench/" } else { "" };
        if wildcard {
            let filter = match self.layout {
                Layout::Pairs => format!("{}/{subscriber}/#", self.prefix),
                Layout::Every | Layout::Shared => format!("{share}{}/#", self.prefix),
            };
            return vec![(filter, qos)];
        }
        let own = subscriber * self.topics_each..(subscriber + 1) * self.topics_each;
        let topics = match self.layout {
            Layout::Pairs => &self.topics[own],
            Layout::Every | Layout::Shared => &self.topics[..],
        };
        topics.iter().map(|topic| (format!("{share}{topic}"), qos)).collect()
    }

    /// Publishers of the run.
    pub(super) fn publishers(&self) -> usize {
        self.publishers
    }

    /// Whether one receiver can see whether a topic's order is kept.
    pub(super) fn has_order(&self) -> bool {
        self.layout != Layout::Shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(layout: Layout, publishers: usize, subscribers: usize, topics: usize) -> Map {
        Map::new(layout, publishers, subscribers, topics, "b".to_owned())
    }

    fn filters(map: &Map, subscriber: usize, wildcard: bool) -> Vec<String> {
        let filters = map.filters(subscriber, wildcard, QoS::AtMostOnce);
        filters.into_iter().map(|(filter, _)| filter).collect()
    }

    #[test]
    fn a_pair_has_topics_of_its_own() {
        let map = map(Layout::Pairs, 2, 2, 2);
        assert_eq!(map.topics(), ["b/0/0", "b/0/1", "b/1/0", "b/1/1"]);
        assert_eq!(filters(&map, 1, false), ["b/1/0", "b/1/1"]);
        assert_eq!(filters(&map, 1, true), ["b/1/#"]);
        assert_eq!(map.stream(1, 3), 3);
        assert_eq!((map.place(1, 3), map.place(0, 3), map.place(0, 4)), (Some(3), None, None));
        assert_eq!((map.receivers(), map.counted()), (1, 4));
    }

    #[test]
    fn every_subscriber_gets_everything_and_is_counted_apart() {
        let map = map(Layout::Every, 2, 3, 1);
        assert_eq!(filters(&map, 2, false), ["b/0", "b/1"]);
        assert_eq!(map.place(2, 1), Some(5));
        assert_eq!((map.receivers(), map.counted(), map.stream_at(5)), (3, 6, 1));
    }

    #[test]
    fn shared_subscribers_count_together() {
        let map = map(Layout::Shared, 2, 3, 1);
        assert_eq!(filters(&map, 0, false), ["$share/bench/b/0", "$share/bench/b/1"]);
        assert_eq!(filters(&map, 0, true), ["$share/bench/b/#"]);
        assert_eq!((map.place(0, 1), map.place(2, 1)), (Some(1), Some(1)));
        assert!(!map.has_order());
    }
}
