//! The topics that are published to, and how fast.

mod buckets;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledgermq_core::offset::{Offset, Timestamp};

use buckets::{Buckets, bucket_of};

pub use buckets::{Rate, WINDOW};

/// Most nodes of the tree. Part of what the fold is: changing it is a new projection version.
pub const NODES_MAX: usize = 250_000;
/// Most bytes of all their levels together; part of the fold like [`NODES_MAX`].
pub const LEVEL_BYTES_MAX: usize = 16 << 20;
/// Nodes in a row of rates.
const PAGE_NODES: u32 = 64;
/// Buckets without a message after which a topic may leave a full tree (one hour).
const IDLE_BUCKETS: u32 = 360;
/// Least buckets between two sweeps of a full tree (one minute).
const SWEEP_BUCKETS: u32 = 6;
/// Roots: of all topics, and of those that begin with '$' (a wildcard in front skips them).
const ROOT: NodeId = 0;
const DOLLAR_ROOT: NodeId = 1;

pub(crate) type NodeId = u32;

/// A tree of topic levels with message and byte buckets, each with the sum of its subtree.
///
/// Holds at most [`NODES_MAX`] nodes with at most [`LEVEL_BYTES_MAX`] bytes of levels: what does not
/// fit is counted in the deepest node above it that is there. When it is full, topics without a
/// message for an hour make room.
#[derive(Debug)]
pub struct Topics {
    nodes: Vec<Option<Node>>,
    free: BTreeSet<NodeId>,
    level_bytes: usize,
    /// Changes whenever nodes vanish: node numbers found before mean nothing then.
    version: u64,
    bucket: u32,
    swept: u32,
    /// What the batch in hand brought, by node; summed up at its end.
    batch: Vec<Counted>,
    dirty_pages: Vec<bool>,
}

#[derive(Debug)]
struct Node {
    parent: NodeId,
    level: Arc<str>,
    children: BTreeMap<Arc<str>, NodeId>,
    own: Buckets,
    subtree: Buckets,
    /// Where the last message to exactly this topic stands; zero if there was none.
    last: Offset,
    /// Place in `batch` plus one; 0 if the batch in hand has nothing for it.
    in_batch: u32,
}

/// A topic one level below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child<'t> {
    /// The level.
    pub level: &'t str,
    /// Whether there is something below it.
    pub has_children: bool,
    /// Messages to exactly this topic.
    pub own: Rate,
    /// Messages to it and everything below.
    pub subtree: Rate,
    /// Where the last message to exactly this topic stands in the log, if there was one.
    pub last: Option<Offset>,
}

/// What the batch in hand brought to a node.
#[derive(Debug)]
struct Counted {
    node: NodeId,
    rate: Rate,
    last: Option<Offset>,
}

/// What of the tree a checkpoint has to write.
pub(crate) enum Touched {
    Node(NodeId),
    Rates(u32),
    Sweep,
}

impl Default for Topics {
    fn default() -> Self {
        let root = || Some(Node::new(ROOT, Arc::from("")));
        Self {
            nodes: vec![root(), root()],
            free: BTreeSet::new(),
            level_bytes: 0,
            version: 1,
            bucket: 0,
            swept: 0,
            batch: Vec::new(),
            dirty_pages: Vec::new(),
        }
    }
}

impl Topics {
    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Whether nothing was published yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= 2
    }

    /// Messages and bytes of the last [`WINDOW`] before `now` to all topics that `filter`
    /// matches. `now` is in the log's time.
    #[must_use]
    pub fn rate(&self, filter: &str, now: Timestamp) -> Rate {
        let mut sum = Rate::default();
        let root = if filter.starts_with('$') { DOLLAR_ROOT } else { ROOT };
        self.add_rate(root, filter, now, &mut sum);
        sum
    }

    /// The topics one level below `parent` (none: the first level), in the order of their levels,
    /// from the one behind `after` on.
    pub fn children<'t>(
        &'t self,
        parent: Option<&str>,
        after: Option<&str>,
        now: Timestamp,
    ) -> impl Iterator<Item = Child<'t>> {
        let after = after.map(Box::<str>::from);
        let at = match parent {
            None => [Some(ROOT), Some(DOLLAR_ROOT)],
            Some(topic) => [self.find(topic), None],
        };
        let nodes = at.into_iter().flatten().filter_map(|at| self.node(at));
        nodes
            .flat_map(|node| &node.children)
            .filter(move |(level, _)| after.as_ref().is_none_or(|after| ***level > **after))
            .filter_map(move |(level, id)| {
                let node = self.node(*id)?;
                Some(Child {
                    level,
                    has_children: !node.children.is_empty(),
                    own: node.own.rate(now),
                    subtree: node.subtree.rate(now),
                    last: Some(node.last).filter(|last| *last != Offset::ZERO),
                })
            })
    }

    /// Begins a batch of this time.
    pub(crate) fn begin(&mut self, time: Timestamp) {
        self.bucket = bucket_of(time);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The node of `topic`, made if there is room; else (`false`) the deepest one above it, which
    /// must not be remembered: whether there is room has to be asked each time anew.
    pub(crate) fn enter(
        &mut self,
        topic: &str,
        touched: &mut impl FnMut(Touched),
    ) -> (NodeId, bool) {
        let mut at = if topic.starts_with('$') { DOLLAR_ROOT } else { ROOT };
        for level in topic.split('/') {
            let known = self.node(at).and_then(|node| node.children.get(level)).copied();
            let Some(child) = known.or_else(|| self.add(at, level, touched)) else {
                return (at, false);
            };
            at = child;
        }
        (at, true)
    }

    /// Counts a message of `bytes` at `node`; `at` is its place if the node is its topic's own.
    pub(crate) fn count(&mut self, node: NodeId, bytes: usize, at: Option<Offset>) {
        let place = self.batch.len();
        let Some(counted) = self.node_mut(node) else { return };
        let counted_at = if counted.in_batch == 0 {
            counted.in_batch = u32::try_from(place + 1).expect("a batch has fewer records");
            self.batch.push(Counted { node, rate: Rate::default(), last: None });
            place
        } else {
            counted.in_batch as usize - 1
        };
        let counted = &mut self.batch[counted_at];
        counted.rate.add(Rate { messages: 1, bytes: bytes as u64 });
        counted.last = at.or(counted.last);
    }

    /// Ends a batch: adds what it brought to the nodes and to all above them.
    pub(crate) fn end(&mut self, touched: &mut impl FnMut(Touched)) {
        let bucket = self.bucket;
        let mut batch = std::mem::take(&mut self.batch);
        for Counted { node: id, rate, last } in batch.drain(..) {
            if let Some(node) = self.node_mut(id) {
                node.in_batch = 0;
                node.own.add(bucket, rate);
                node.last = last.unwrap_or(node.last);
            }
            let mut at = id;
            loop {
                self.touch_page(at / PAGE_NODES, touched);
                let Some(node) = self.node_mut(at) else { break };
                node.subtree.add(bucket, rate);
                if at <= DOLLAR_ROOT {
                    break;
                }
                at = node.parent;
            }
        }
        self.batch = batch;
    }

    pub(crate) fn node_ids(&self) -> impl Iterator<Item = NodeId> {
        (0..)
            .zip(&self.nodes)
            .filter(|(id, node)| *id > DOLLAR_ROOT && node.is_some())
            .map(|(id, _)| id)
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)?.as_ref()
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id as usize)?.as_mut()
    }

    fn find(&self, topic: &str) -> Option<NodeId> {
        let root = if topic.starts_with('$') { DOLLAR_ROOT } else { ROOT };
        topic.split('/').try_fold(root, |at, level| self.node(at)?.children.get(level).copied())
    }

    fn add_rate(&self, root: NodeId, filter: &str, now: Timestamp, sum: &mut Rate) {
        // Not by recursion: there may be tens of thousands of levels.
        let mut waiting = vec![(root, filter)];
        while let Some((at, rest)) = waiting.pop() {
            let Some(node) = self.node(at) else { continue };
            let (level, rest) = match rest.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (rest, None),
            };
            let mut go_on = |child: NodeId| match (rest, self.node(child)) {
                (Some(rest), _) => waiting.push((child, rest)),
                (None, Some(child)) => sum.add(child.own.rate(now)),
                (None, None) => {}
            };
            match level {
                "#" => sum.add(node.subtree.rate(now)),
                "+" => node.children.values().for_each(|child| go_on(*child)),
                literal => node.children.get(literal).into_iter().for_each(|child| go_on(*child)),
            }
        }
    }

    fn add(
        &mut self,
        parent: NodeId,
        level: &str,
        touched: &mut impl FnMut(Touched),
    ) -> Option<NodeId> {
        if !self.has_room_for(level) {
            self.sweep(parent, touched);
            if !self.has_room_for(level) {
                return None;
            }
        }
        let level: Arc<str> = level.into();
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.nodes.push(None);
            NodeId::try_from(self.nodes.len() - 1).expect("bounded")
        });
        self.level_bytes += level.len();
        self.nodes[id as usize] = Some(Node::new(parent, Arc::clone(&level)));
        self.node_mut(parent)?.children.insert(level, id);
        touched(Touched::Node(id));
        Some(id)
    }

    fn has_room_for(&self, level: &str) -> bool {
        self.len() < NODES_MAX && self.level_bytes + level.len() <= LEVEL_BYTES_MAX
    }

    /// Takes topics away that were idle for an hour, `keep` and the batch in hand excepted; at most
    /// once a minute.
    fn sweep(&mut self, keep: NodeId, touched: &mut impl FnMut(Touched)) {
        if self.swept != 0 && self.bucket < self.swept.saturating_add(SWEEP_BUCKETS) {
            return;
        }
        self.swept = self.bucket;
        touched(Touched::Sweep);
        let oldest = self.bucket.saturating_sub(IDLE_BUCKETS);
        let idle: Vec<NodeId> = self
            .node_ids()
            .filter(|id| *id != keep)
            .filter(|id| {
                self.node(*id).is_some_and(|node| {
                    node.in_batch == 0 && node.subtree.last() < oldest && node.children.is_empty()
                })
            })
            .collect();
        for id in idle {
            self.remove_branch(id, keep, oldest, touched);
        }
        self.version += 1;
    }

    /// Removes a leaf, and what above it became an idle leaf by that.
    fn remove_branch(
        &mut self,
        leaf: NodeId,
        keep: NodeId,
        oldest: u32,
        touched: &mut impl FnMut(Touched),
    ) {
        let mut id = leaf;
        while id > DOLLAR_ROOT && id != keep {
            let is_idle = self.node(id).is_some_and(|node| {
                node.children.is_empty() && node.in_batch == 0 && node.subtree.last() < oldest
            });
            if !is_idle {
                return;
            }
            let Some(node) = self.nodes[id as usize].take() else { return };
            self.free.insert(id);
            self.level_bytes -= node.level.len();
            touched(Touched::Node(id));
            self.touch_page(id / PAGE_NODES, touched);
            if let Some(parent) = self.node_mut(node.parent) {
                parent.children.remove(&node.level);
            }
            id = node.parent;
        }
    }

    fn touch_page(&mut self, page: u32, touched: &mut impl FnMut(Touched)) {
        let at = page as usize;
        if self.dirty_pages.len() <= at {
            self.dirty_pages.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.dirty_pages[at], true) {
            touched(Touched::Rates(page));
        }
    }
}

impl Node {
    fn new(parent: NodeId, level: Arc<str>) -> Self {
        Self {
            parent,
            level,
            children: BTreeMap::new(),
            own: Buckets::default(),
            subtree: Buckets::default(),
            last: Offset::ZERO,
            in_batch: 0,
        }
    }
}
