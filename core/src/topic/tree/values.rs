//! The values under one filter.

use std::collections::BTreeMap;

/// The values under one filter, in the order of their keys. Most filters have one.
#[derive(Clone, Debug)]
pub(super) enum Values<K, V> {
    None,
    One(K, V),
    // Boxed so that the one value, not the map, sets the size of a node.
    #[expect(clippy::box_collection, reason = "keeps the node small")]
    Many(Box<BTreeMap<K, V>>),
}

impl<K: Ord, V> Values<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::None => {
                *self = Self::One(key, value);
                None
            }
            Self::One(known, old) if *known == key => Some(std::mem::replace(old, value)),
            Self::One(..) => {
                let mut many = Box::new(BTreeMap::from([(key, value)]));
                if let Self::One(key, value) = std::mem::replace(self, Self::None) {
                    many.insert(key, value);
                }
                *self = Self::Many(many);
                None
            }
            Self::Many(many) => many.insert(key, value),
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::None => None,
            Self::One(known, _) if known != key => None,
            Self::One(..) => match std::mem::replace(self, Self::None) {
                Self::One(_, value) => Some(value),
                Self::None | Self::Many(_) => None,
            },
            Self::Many(many) => {
                let old = many.remove(key);
                if many.len() == 1
                    && let Some((key, value)) = many.pop_first()
                {
                    *self = Self::One(key, value);
                }
                old
            }
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::None => None,
            Self::One(known, value) => (known == key).then_some(value),
            Self::Many(many) => many.get(key),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn for_each<'t>(&'t self, found: &mut impl FnMut(&'t K, &'t V)) {
        match self {
            Self::None => {}
            Self::One(key, value) => found(key, value),
            Self::Many(many) => many.iter().for_each(|(key, value)| found(key, value)),
        }
    }
}
