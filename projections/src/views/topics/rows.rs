//! The tree as rows of a checkpoint: a row a node, and a row of rates for a page of nodes.

use std::sync::Arc;

use ledgermq_core::offset::Offset;

use crate::bytes::{Cut, Reader, put_bytes, put_u32, put_u64};
use crate::views::topics::buckets::Buckets;
use crate::views::topics::{DOLLAR_ROOT, NODES_MAX, Node, NodeId, PAGE_NODES, Topics};

impl Topics {
    pub(crate) fn pages(&self) -> impl Iterator<Item = u32> {
        let nodes = u32::try_from(self.nodes.len()).expect("bounded");
        (0..nodes.div_ceil(PAGE_NODES)).filter(|page| self.page_row(*page).is_some())
    }

    pub(crate) fn node_row(&self, id: NodeId) -> Option<Vec<u8>> {
        let node = self.node(id)?;
        let mut row = Vec::new();
        put_u32(&mut row, node.parent);
        put_bytes(&mut row, node.level.as_bytes());
        Some(row)
    }

    /// The rates and last places of a page of nodes; none if nothing was ever counted there.
    pub(crate) fn page_row(&self, page: u32) -> Option<Vec<u8>> {
        let mut row = Vec::new();
        let first = page * PAGE_NODES;
        for id in first..first + PAGE_NODES {
            let Some(node) = self.node(id).filter(|node| node.subtree != Buckets::default()) else {
                continue;
            };
            put_u32(&mut row, id);
            node.own.encode(&mut row);
            node.subtree.encode(&mut row);
            put_u64(&mut row, node.last.index);
            put_u32(&mut row, node.last.ordinal);
        }
        (!row.is_empty()).then_some(row)
    }

    pub(crate) fn set_clean(&mut self, page: u32) {
        if let Some(is_dirty) = self.dirty_pages.get_mut(page as usize) {
            *is_dirty = false;
        }
    }

    /// When the tree was last swept; none if never.
    pub(crate) fn sweep_row(&self) -> Option<Vec<u8>> {
        (self.swept > 0).then(|| self.swept.to_be_bytes().to_vec())
    }

    pub(crate) fn load_node(&mut self, id: NodeId, row: &[u8]) -> Result<(), Cut> {
        let mut from = Reader(row);
        let parent = from.u32()?;
        if id <= DOLLAR_ROOT || id as usize >= NODES_MAX {
            return Err(Cut);
        }
        while self.nodes.len() <= id as usize {
            self.nodes.push(None);
        }
        self.nodes[id as usize] = Some(Node::new(parent, from.str()?.into()));
        Ok(())
    }

    /// Rows of rates come behind the rows of nodes.
    pub(crate) fn load_page(&mut self, row: &[u8]) -> Result<(), Cut> {
        let mut from = Reader(row);
        while !from.0.is_empty() {
            let node = self.node_mut(from.u32()?).ok_or(Cut)?;
            node.own = Buckets::decode(&mut from)?;
            node.subtree = Buckets::decode(&mut from)?;
            node.last = Offset::new(from.u64()?, from.u32()?);
        }
        Ok(())
    }

    pub(crate) fn load_sweep(&mut self, row: &[u8]) -> Result<(), Cut> {
        self.swept = Reader(row).u32()?;
        Ok(())
    }

    /// Joins the nodes of a checkpoint.
    pub(crate) fn finish_load(&mut self) -> Result<(), Cut> {
        let ids: Vec<NodeId> = self.node_ids().collect();
        for id in ids {
            let node = self.node(id).ok_or(Cut)?;
            let (parent, level) = (node.parent, Arc::clone(&node.level));
            self.level_bytes += level.len();
            self.node_mut(parent).ok_or(Cut)?.children.insert(level, id);
        }
        let free = (0..).zip(&self.nodes).filter(|(_, node)| node.is_none());
        self.free = free.map(|(id, _)| id).collect();
        Ok(())
    }
}
