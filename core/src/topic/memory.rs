//! A bounded memory of what was found out about topics.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

/// Places that a topic may be remembered in; a power of two.
const WAYS: usize = 2;
/// Places of a memory that was never used much.
const PLACES_MIN: usize = 1 << 10;

/// What was found out about topics, at most so many and so many bytes.
///
/// It forgets: a topic may have to give its place to another with a like hash, or when the bytes
/// are all taken. Whoever asks must be able to find out again. To look up costs a hash and, if it
/// is there, two look-ups in memory; to remember as much, and nothing is ever moved but when the
/// memory doubles its places.
#[derive(Debug)]
pub struct TopicMemory<V> {
    places: Vec<Option<Box<Known<V>>>>,
    known: usize,
    bytes: usize,
    limits: Limits,
    /// Where the next that has to make room is looked for.
    hand: usize,
    hasher: DefaultHashBuilder,
}

/// How much a memory may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Topics; rounded up to a power of two.
    pub topics: usize,
    /// Bytes of the topics and of what is known of them.
    pub bytes: usize,
}

#[derive(Debug)]
struct Known<V> {
    hash: u64,
    bytes: usize,
    topic: Box<str>,
    value: V,
}

/// Where a topic is remembered, or may be. It holds until the memory is changed otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: usize,
    hash: u64,
}

impl<V> TopicMemory<V> {
    /// An empty memory. It takes no room before it is used.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let hasher = DefaultHashBuilder::default();
        Self { places: Vec::new(), known: 0, bytes: 0, limits, hand: 0, hasher }
    }

    /// The place of `topic`: `Ok` if it is remembered there, `Err` if it may be.
    ///
    /// # Errors
    ///
    /// The place that it may take: a free one, or one whose topic has to go for it.
    pub fn find(&self, topic: &str) -> Result<Place, Place> {
        let hash = self.hasher.hash_one(topic);
        if self.places.is_empty() {
            return Err(Place { at: 0, hash });
        }
        let low = self.low(hash);
        let base = low & !(WAYS - 1);
        let mut free = None;
        for at in base..base + WAYS {
            match &self.places[at] {
                Some(known) if known.hash == hash && *known.topic == *topic => {
                    return Ok(Place { at, hash });
                }
                Some(_) => {}
                None => free = free.or(Some(at)),
            }
        }
        Err(Place { at: free.unwrap_or(low), hash })
    }

    /// What is remembered at a place that [`TopicMemory::find`] found, or where
    /// [`TopicMemory::put`] put it.
    ///
    /// # Panics
    ///
    /// If nothing is there: the memory was changed in between.
    pub fn at(&mut self, place: Place) -> &mut V {
        let known = self.places[place.at].as_mut();
        &mut known.expect("the place was found, and nothing changed since").value
    }

    /// Remembers `value`, which takes that many bytes beside the topic, at the place that
    /// [`TopicMemory::find`] named for `topic`. Says where it is. What is larger than the whole
    /// memory may be is remembered alone.
    pub fn put(&mut self, place: Place, topic: &str, value: V, bytes: usize) -> Place {
        let bytes = size_of::<Known<V>>() + topic.len() + bytes;
        let is_known = |known: &Known<V>| known.hash == place.hash && *known.topic == *topic;
        let held = self.places.get(place.at).and_then(|held| held.as_deref());
        // Where places double, what is known of the topic would find another one.
        let place = if held.is_some_and(is_known) { place } else { self.grown(place) };
        self.forget(place.at);
        self.make_room(bytes);
        self.bytes += bytes;
        self.known += 1;
        let hash = place.hash;
        self.places[place.at] = Some(Box::new(Known { hash, bytes, topic: topic.into(), value }));
        place
    }

    /// How many topics are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Bytes of the topics and of what is known of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lower bits of a hash choose the place; a topic keeps it when the places double, or
    /// moves up by as many as there were.
    fn low(&self, hash: u64) -> usize {
        let mask = self.places.len() as u64 - 1;
        usize::try_from(hash & mask).expect("less than the number of places")
    }

    fn forget(&mut self, at: usize) {
        if let Some(old) = self.places[at].take() {
            self.bytes -= old.bytes;
            self.known -= 1;
        }
    }

    /// Lets topics go, one place after the other, until there is room for so many bytes.
    fn make_room(&mut self, bytes: usize) {
        while self.known > 0 && self.bytes + bytes > self.limits.bytes {
            self.forget(self.hand);
            self.hand = (self.hand + 1) % self.places.len();
        }
    }

    /// Doubles the places when half of them are taken, as long as they may be more. Says what
    /// became of the place.
    fn grown(&mut self, place: Place) -> Place {
        let most = self.limits.topics.next_power_of_two().max(WAYS);
        if self.places.len() >= most || self.known * 2 < self.places.len() {
            return place;
        }
        let wanted = (self.places.len() * 2).max(PLACES_MIN).min(most);
        let mut places = Vec::new();
        places.resize_with(wanted, || None);
        let old = std::mem::replace(&mut self.places, places);
        for known in old.into_iter().flatten() {
            let at = self.free_at(known.hash);
            self.places[at] = Some(known);
        }
        Place { at: self.free_at(place.hash), ..place }
    }

    /// The free place for a hash, or the one whose topic has to go. When places double, no two that
    /// were beside each other meet a third: all of them stay.
    fn free_at(&self, hash: u64) -> usize {
        let low = self.low(hash);
        let base = low & !(WAYS - 1);
        (base..base + WAYS).find(|at| self.places[*at].is_none()).unwrap_or(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(topics: usize, bytes: usize) -> TopicMemory<usize> {
        TopicMemory::new(Limits { topics, bytes })
    }

    /// What is remembered of `topic`; remembered now if it is not.
    fn look_up(memory: &mut TopicMemory<usize>, topic: &str, value: usize) -> usize {
        let place = match memory.find(topic) {
            Ok(place) => place,
            Err(place) => memory.put(place, topic, value, 8),
        };
        *memory.at(place)
    }

    #[test]
    fn what_is_remembered_is_found_while_places_double() {
        let mut memory = memory(1 << 16, usize::MAX);
        let topic = |number: usize| format!("t/{number}");
        for number in 0..5000 {
            assert_eq!(look_up(&mut memory, &topic(number), number), number);
        }
        let found = (0..5000).filter(|number| memory.find(&topic(*number)).is_ok()).count();
        assert_eq!(found, memory.len());
        // Two places each, at most half taken: few have to go.
        assert!(found > 4000, "{found}");
        for number in 0..5000 {
            let value = look_up(&mut memory, &topic(number), number);
            assert_eq!(value, number, "never what belongs to another topic");
        }
    }

    #[test]
    fn topics_and_bytes_are_bounded_and_counted() {
        let most = 20_000;
        let mut memory = memory(128, most);
        let mut largest = 0;
        for number in 0..10_000 {
            look_up(&mut memory, &format!("t/{number}"), number);
            assert!(memory.places.len() <= 128 && memory.bytes() <= most, "{number}");
            largest = largest.max(memory.bytes());
        }
        assert!(largest > most / 3, "it is used: {largest}");
        let held: usize = memory.places.iter().flatten().map(|known| known.bytes).sum();
        assert_eq!(held, memory.bytes());
    }

    #[test]
    fn a_topic_is_remembered_once_where_places_double() {
        let mut memory = memory(1 << 16, usize::MAX);
        let mut number = 0;
        // An earlier one may have had to go: the hashes are other ones in every run.
        let mut last = String::new();
        while memory.len() < PLACES_MIN / 2 {
            last = format!("t/{number}");
            look_up(&mut memory, &last, number);
            number += 1;
        }
        let place = memory.find(&last).expect("it came last");
        let before = memory.len();
        let place = memory.put(place, &last, 2, 8);
        assert_eq!((*memory.at(place), memory.len()), (2, before));
        assert_eq!(look_up(&mut memory, &last, 3), 2);
    }

    #[test]
    fn what_is_larger_than_all_is_remembered_alone() {
        let mut memory = memory(128, 1000);
        for number in 0..5 {
            look_up(&mut memory, &format!("t/{number}"), number);
        }
        let place = memory.find("large").expect_err("it is new");
        memory.put(place, "large", 7, 5000);
        assert_eq!((memory.len(), look_up(&mut memory, "large", 0)), (1, 7));
    }

    #[test]
    fn a_topic_is_replaced_at_its_place() {
        let mut memory = memory(128, usize::MAX);
        look_up(&mut memory, "t", 1);
        let place = memory.find("t").expect("it is there");
        let before = memory.bytes();
        let place = memory.put(place, "t", 2, 8);
        assert_eq!((*memory.at(place), memory.len(), memory.bytes()), (2, 1, before));
    }
}
