//! Messages of QoS 0 that many connections get alike: encoded once, and copied to each.

use ledgermq_core::codec;
use ledgermq_core::event::MessagePublished;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{ForwardedProperties, ProtocolVersion, Publish, QoS};

use crate::shard::Shard;
use crate::shard::delivery::Run;
use crate::shard::matching::Match;

/// Memory of encoded packets that is kept for the next ones.
const BYTES_KEPT: usize = 512 << 10;

/// The packets of the run in hand, as far as somebody gets them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// By version (3.1.1 or 5) and RETAIN.
    forms: [Form; 4],
}

#[derive(Debug, Default)]
struct Form {
    bytes: Vec<u8>,
    /// Where each packet ends, and the payloads up to there.
    ends: Vec<(usize, usize)>,
    /// Bytes of the largest packet; 0 if they are not encoded.
    largest: usize,
}

impl Copies {
    /// The next run is in hand.
    pub(super) fn clear(&mut self) {
        for form in &mut self.forms {
            form.largest = 0;
            if form.bytes.capacity() > BYTES_KEPT {
                form.bytes = Vec::new();
            }
        }
    }

    fn form(&mut self, run: &Run<'_>, version: ProtocolVersion, retain: bool) -> &Form {
        let at = usize::from(version == ProtocolVersion::V5) * 2 + usize::from(retain);
        let form = &mut self.forms[at];
        if form.largest == 0 {
            form.bytes.clear();
            form.ends.clear();
            let mut payload_bytes = 0;
            for message in run.messages() {
                let bytes = encode(message, version, retain, &mut form.bytes);
                form.largest = form.largest.max(bytes);
                payload_bytes += message.payload.len();
                form.ends.push((form.bytes.len(), payload_bytes));
            }
        }
        form
    }
}

/// Encodes a message at QoS 0 as whoever takes it [unchanged] gets it. Returns the bytes of the packet.
///
/// [unchanged]: ledgermq_core::connection::Connection::takes_unchanged
pub(super) fn encode(
    message: &MessagePublished<'_>,
    version: ProtocolVersion,
    retain: bool,
    bytes: &mut Vec<u8>,
) -> usize {
    let before = bytes.len();
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain,
        topic: message.topic,
        packet_id: None,
        message_expiry_interval: None,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        forwarded: ForwardedProperties(message.properties.into()),
        payload: message.payload,
    };
    let encoded = codec::encode_publish(&publish, version, bytes);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    bytes.len() - before
}

impl Shard {
    /// Copies the messages of a run to a connection that takes all of it, in the form in which others
    /// get it, as far as its output has room now. Says how many; the next has to be looked at by itself.
    pub(super) fn copy(&mut self, now: Timestamp, run: &Run<'_>, found: &Match) -> usize {
        let Some(grant) = found.grant_for_all() else { return 0 };
        let Some(client) = self.table.get(found.token) else { return 0 };
        let Some(first) = run.alike() else { return 0 };
        let is_plain = first.qos.min(grant.qos) == QoS::AtMostOnce && grant.identifiers.is_empty();
        let is_live = client.backlog.as_ref().is_none_or(|backlog| backlog.is_live());
        if !is_plain || !is_live || !self.has_output_room(&client.link) {
            return 0;
        }
        let output_max = self.output_max(&client.link);
        let Self { table, copies, spare, stats, .. } = self;
        let Some(client) = table.get_mut(found.token) else { return 0 };
        let retain = first.retain && grant.retain_as_published;
        let form = copies.form(run, client.link.version, retain);
        if !client.machine.takes_unchanged(form.largest) {
            return 0;
        }
        let room = output_max.saturating_sub(client.link.unwritten().len());
        let messages = form.ends.partition_point(|(end, _)| *end <= room);
        let Some((end, payload_bytes)) = messages.checked_sub(1).map(|last| form.ends[last]) else {
            return 0;
        };
        client.link.copy(&form.bytes[..end], messages as u64, spare);
        stats.copied(messages as u64, payload_bytes as u64);
        self.after(now, found.token);
        messages
    }
}
