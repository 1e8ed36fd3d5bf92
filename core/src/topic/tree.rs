//! Many Topic Filters, matched at once.
//!
//! A trie in one vector of nodes. Children are found through one hash table over all edges, keyed
//! by (parent, level), since most nodes have no child or one; `+` and `#` children stand in the
//! node. Nodes know their parent, so that a match walks without recursion, stack or allocation.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::topic::TopicFilter;

mod level;
mod values;

use level::Level;
use values::Values;

#[cfg(test)]
mod tests;

/// Values under Topic Filters, found by Topic Name. Under one filter stands at most one value of
/// each key (a subscriber, say).
///
/// A Shared Subscription stands under its FILTER: keys of different shares must differ.
#[derive(Clone, Debug)]
pub struct FilterTree<K, V> {
    nodes: Vec<Node<K, V>>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    hasher: DefaultHashBuilder,
    len: usize,
}

const ROOT: u32 = 0;
/// No node; the root is nobody's child.
const NONE: u32 = 0;

#[derive(Clone, Debug)]
struct Node<K, V> {
    level: Level,
    parent: u32,
    plus: u32,
    hash: u32,
    /// Number of children by name.
    children: u32,
    values: Values<K, V>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            level: Level::default(),
            parent: ROOT,
            plus: NONE,
            hash: NONE,
            children: 0,
            values: Values::None,
        }
    }
}

impl<K, V> Node<K, V> {
    fn is_leaf(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.hash == NONE
    }
}

impl<K, V> Default for FilterTree<K, V> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            edges: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            len: 0,
        }
    }
}

impl<K: Ord, V> FilterTree<K, V> {
    /// Puts `value` of `key` under `filter`; the key's former value there is returned.
    ///
    /// # Panics
    ///
    /// If there are 2^32 nodes.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let mut node = ROOT;
        for level in filter.pattern().split('/') {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.add_child(node, level),
            };
        }
        let old = self.nodes[node as usize].values.insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the value of `key` away from `filter`; empty branches vanish.
    pub fn remove(&mut self, filter: &TopicFilter, key: &K) -> Option<V> {
        let node = self.find(filter)?;
        let old = self.nodes[node as usize].values.remove(key)?;
        self.len -= 1;
        self.prune(node);
        Some(old)
    }

    /// The value of `key` under `filter`.
    #[must_use]
    pub fn get(&self, filter: &TopicFilter, key: &K) -> Option<&V> {
        self.nodes[self.find(filter)? as usize].values.get(key)
    }

    /// Calls `found` with each key and value whose filter matches the Topic Name `topic`, in an
    /// order that depends only on what the tree holds.
    pub fn for_each_match<'t>(&'t self, topic: &str, mut found: impl FnMut(&'t K, &'t V)) {
        // [MQTT-4.7.2-1]
        let is_system = topic.starts_with('$');
        let mut walk = Walk { node: ROOT, at: 0 };
        loop {
            let wildcards = walk.node != ROOT || !is_system;
            let node = &self.nodes[walk.node as usize];
            if node.hash != NONE && wildcards {
                self.nodes[node.hash as usize].values.for_each(&mut found);
            }
            let next = walk.level(topic).and_then(|level| {
                self.named_child(walk.node, level)
                    .or((node.plus != NONE && wildcards).then_some(node.plus))
            });
            if let Some(child) = next {
                walk.descend(topic, child);
                continue;
            }
            if walk.is_at_end(topic) {
                node.values.for_each(&mut found);
            }
            if !self.next_branch(&mut walk, topic, is_system) {
                return;
            }
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Climbs to the nearest node whose `+` child is still to be visited, and enters that.
    fn next_branch(&self, walk: &mut Walk, topic: &str, is_system: bool) -> bool {
        while walk.node != ROOT {
            let left = walk.node;
            walk.ascend(topic, self.nodes[left as usize].parent);
            let plus = self.nodes[walk.node as usize].plus;
            if plus != NONE && plus != left && (walk.node != ROOT || !is_system) {
                walk.descend(topic, plus);
                return true;
            }
        }
        false
    }

    fn find(&self, filter: &TopicFilter) -> Option<u32> {
        filter.pattern().split('/').try_fold(ROOT, |node, level| self.child(node, level))
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let node = &self.nodes[parent as usize];
        match level {
            "+" => Some(node.plus).filter(|child| *child != NONE),
            "#" => Some(node.hash).filter(|child| *child != NONE),
            name => self.named_child(parent, name),
        }
    }

    fn named_child(&self, parent: u32, level: &str) -> Option<u32> {
        if self.nodes[parent as usize].children == 0 {
            return None;
        }
        let hash = self.hasher.hash_one((parent, level.as_bytes()));
        self.edges
            .find(hash, |child| {
                let child = &self.nodes[*child as usize];
                child.parent == parent && child.level.as_bytes() == level.as_bytes()
            })
            .copied()
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let node = Node { level: Level::new(level), parent, ..Node::default() };
        let child = match self.free.pop() {
            Some(child) => {
                self.nodes[child as usize] = node;
                child
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes fit in memory")
            }
        };
        match level {
            "+" => self.nodes[parent as usize].plus = child,
            "#" => self.nodes[parent as usize].hash = child,
            _ => {
                self.nodes[parent as usize].children += 1;
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                let hash = |child: &u32| {
                    let child = &nodes[*child as usize];
                    hasher.hash_one((child.parent, child.level.as_bytes()))
                };
                self.edges.insert_unique(hash(&child), child, hash);
            }
        }
        child
    }

    /// Removes `node` and its forebears as far as they hold nothing.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT
            && self.nodes[node as usize].values.is_empty()
            && self.nodes[node as usize].is_leaf()
        {
            let gone = std::mem::take(&mut self.nodes[node as usize]);
            let parent = &mut self.nodes[gone.parent as usize];
            if parent.plus == node {
                parent.plus = NONE;
            } else if parent.hash == node {
                parent.hash = NONE;
            } else {
                parent.children -= 1;
                let hash = self.hasher.hash_one((gone.parent, gone.level.as_bytes()));
                if let Ok(edge) = self.edges.find_entry(hash, |child| *child == node) {
                    edge.remove();
                }
            }
            self.free.push(node);
            node = gone.parent;
        }
    }
}

/// Where a match stands: a node, and where in the topic the level below it begins. That is one
/// beyond the end once all levels are used up.
struct Walk {
    node: u32,
    at: usize,
}

impl Walk {
    fn is_at_end(&self, topic: &str) -> bool {
        self.at > topic.len()
    }

    fn level<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.get(self.at..).map(|rest| rest.split_once('/').map_or(rest, |(level, _)| level))
    }

    fn descend(&mut self, topic: &str, child: u32) {
        self.at += self.level(topic).map_or(0, str::len) + 1;
        self.node = child;
    }

    fn ascend(&mut self, topic: &str, parent: u32) {
        self.at = topic[..self.at - 1].rfind('/').map_or(0, |slash| slash + 1);
        self.node = parent;
    }
}
