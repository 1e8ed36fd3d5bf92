//! Messages of QoS 0 that many connections get alike: encoded once, and copied to each.

use ledgermq_core::codec;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::packet::{ForwardedProperties, ProtocolVersion, Publish, QoS};

use crate::shard::Shard;
use crate::shard::delivery::Run;
use crate::shard::matching::Match;
use crate::shard::stats;

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
            for message in run.messages() {
                let before = form.bytes.len();
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
                let encoded = codec::encode_publish(&publish, version, &mut form.bytes);
                debug_assert!(encoded.is_ok(), "{encoded:?}");
                form.largest = form.largest.max(form.bytes.len() - before);
            }
        }
        form
    }
}

impl Shard {
    /// Copies the whole run to a connection that takes all of it, in the form in which others get
    /// it, now. Says whether it did; if not, each message has to be looked at.
    pub(super) fn copy(&mut self, now: Timestamp, run: &Run<'_>, found: &Match) -> bool {
        let Some(grant) = found.grant_for_all() else { return false };
        let Some(client) = self.table.get(found.token) else { return false };
        let Some(first) = run.alike() else { return false };
        let is_plain = first.qos.min(grant.qos) == QoS::AtMostOnce && grant.identifiers.is_empty();
        let is_live = client.backlog.as_ref().is_none_or(|backlog| backlog.is_live());
        if !is_plain || !is_live || !self.has_output_room(&client.link) {
            return false;
        }
        let output_max = self.output_max();
        let Self { table, copies, spare, stats, .. } = self;
        let Some(client) = table.get_mut(found.token) else { return false };
        let retain = first.retain && grant.retain_as_published;
        let form = copies.form(run, client.link.version, retain);
        let fits = client.link.unwritten().len() + form.bytes.len() <= output_max;
        if !fits || !client.machine.takes_unchanged(form.largest) {
            return false;
        }
        let messages = run.messages().len() as u64;
        client.link.copy(&form.bytes, messages, spare);
        stats.packets_sent += messages;
        stats.payload_bytes_sent += run.payload_bytes() as u64;
        stats.sent[stats::by(QoS::AtMostOnce)] += messages;
        self.after(now, found.token);
        true
    }
}
