//! What this node saw others acknowledge: it is said to each of them when it has greeted, so that a log
//! that lost some of it is found out.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgermq_core::offset::Index;

use super::Doubting;
use crate::config::Durability;
use crate::machine::LogMachine;
use crate::store::LogStore;

/// Keys of the store under which it stands what another node was seen to acknowledge, with the number
/// of that node (8 bytes, big-endian) behind: its admission, and the entry (8 bytes each, big-endian).
const ACKED_PREFIX: &[u8] = b"p";
/// How often that is written, at most.
const ACKED_INTERVAL: Duration = Duration::from_secs(1);

impl<S: LogStore> LogMachine<S> {
    /// Notes what the followers have acknowledged, before anything counts by it: a pulse says it to
    /// each of them when it has greeted.
    pub(in crate::machine) fn note_acked(&mut self) {
        let members = self.replica.members();
        for (node, matched, _) in self.replica.followers() {
            let joined = members.nodes.get(&node).map_or(0, |member| member.joined);
            let acked = self.doubting.acked.entry(node).or_default();
            if acked.0 != joined || acked.1 < matched {
                *acked = (joined, matched);
            }
        }
        let has_led = std::mem::replace(&mut self.doubting.has_led, self.replica.is_leader());
        if has_led && !self.doubting.has_led {
            // What it saw as a leader and was not committed promised nothing: others may lead now.
            let committed = self.replica.committed();
            self.doubting.acked.values_mut().for_each(|acked| acked.1 = acked.1.min(committed));
        }
    }

    /// A peer says how far it has folded the log: all of that is committed, and durable there.
    pub(in crate::machine) fn note_applied(&mut self, peer: u64, applied: Index) {
        let member = self.newest_members().nodes.get(&peer);
        let joined = member.map_or(0, |member| member.joined);
        // Said by the process before its log was given up.
        if applied < joined {
            return;
        }
        let acked = self.doubting.acked.entry(peer).or_default();
        if acked.0 != joined || acked.1 < applied {
            *acked = (joined, applied);
        }
    }

    /// Writes it down now and then, with what is written anyway.
    pub(in crate::machine) fn keep_acked(&mut self, now: Duration) {
        // What is not synced is lost by all in one power cut: then nobody may hold them to it.
        let is_fsync = self.config.durability == Durability::Fsync;
        let Doubting { acked, acked_written, acked_at, .. } = &mut self.doubting;
        if !is_fsync || now.saturating_sub(*acked_at) < ACKED_INTERVAL || acked == acked_written {
            return;
        }
        *acked_at = now;
        let committed = self.replica.committed();
        for (node, (joined, index)) in &*acked {
            let index = (*index).min(committed);
            if acked_written.get(node) != Some(&(*joined, index)) {
                let key = [ACKED_PREFIX, &node.to_be_bytes()].concat();
                let value = [joined.to_be_bytes(), index.to_be_bytes()].concat();
                self.extra.puts.push((key, value));
            }
        }
        let kept =
            acked.iter().map(|(node, (joined, index))| (*node, (*joined, (*index).min(committed))));
        *acked_written = kept.collect();
    }

    /// The last entry that `node` was seen to acknowledge since it was let in.
    pub(in crate::machine) fn acked_of(&self, node: u64) -> Index {
        let member = self.newest_members().nodes.get(&node);
        self.doubting.acked_of(node, member.map_or(0, |member| member.joined))
    }
}

/// What others were seen to acknowledge, as it was written.
pub(super) fn acked<S: LogStore>(store: &S) -> BTreeMap<u64, (Index, Index)> {
    let keys = store.keys(ACKED_PREFIX).into_iter();
    let acked = keys.filter_map(|key| {
        let node = u64::from_be_bytes(key.strip_prefix(ACKED_PREFIX)?.try_into().ok()?);
        let value = store.get(&key)?;
        let (joined, index) = value.split_first_chunk()?;
        let index = index.try_into().ok()?;
        Some((node, (u64::from_be_bytes(*joined), u64::from_be_bytes(index))))
    });
    acked.collect()
}
