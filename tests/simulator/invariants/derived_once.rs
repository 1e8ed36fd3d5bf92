//! What the log derives from itself stands in it once: the will of a connection, the end of a session
//! that expired. Void ones count, too: whoever derives knows all that stands before. Only a will that
//! a new connection could still have called off may come twice: void, because there is one, and then
//! for good, because it came too late to call it off.

use std::collections::BTreeSet;

use ledgermq_core::event::{Event, EventRef};
use ledgermq_core::offset::{Index, Offset};
use ledgermq_log::CommittedBatch;

use crate::invariants::{Facts, Invariant};
use crate::seen::Seen;

/// What was derived up to an index.
#[derive(Default)]
pub(crate) struct DerivedOnce {
    upto: Index,
    /// Connections whose will was published, or was to be and is void.
    wills: BTreeSet<Offset>,
    void_wills: BTreeSet<Offset>,
    /// Sessions that expired, by their last connection.
    expired: BTreeSet<Offset>,
}

impl DerivedOnce {
    fn take(&mut self, batch: &CommittedBatch) -> Result<(), String> {
        let body = batch.batch();
        let sessions: Vec<_> = body.sessions().flatten().collect();
        for record in body.records().flatten() {
            let at = Offset::new(batch.index, record.ordinal);
            let is_new = match (record.event(), record.cause, record.session) {
                (Ok(EventRef::MessagePublished(_)), Some(cause), _) if batch.is_void(&record) => {
                    !self.wills.contains(&cause) && self.void_wills.insert(cause)
                }
                (Ok(EventRef::MessagePublished(_)), Some(cause), _) => self.wills.insert(cause),
                (Ok(EventRef::Other(Event::SessionExpired)), _, Some(slot)) => {
                    self.expired.insert(sessions[usize::from(slot)].epoch)
                }
                _ => true,
            };
            if !is_new {
                let what = record.event();
                return Err(format!("{what:?} at {at} was derived before"));
            }
        }
        Ok(())
    }
}

impl Invariant for DerivedOnce {
    fn see(&mut self, _: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        for (index, batch) in facts.oracle.history.range(self.upto + 1..) {
            self.upto = *index;
            // A batch that came twice says nothing the second time.
            if batch.is_admitted() {
                self.take(batch)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ledgermq_core::event::{BatchBuilder, MessagePublished};
    use ledgermq_core::identity::{ClientId, ProducerId};
    use ledgermq_core::packet::QoS;
    use ledgermq_log::testing::History;

    use super::*;
    use crate::book::Book;
    use crate::oracle::Oracle;
    use crate::oracle::tests::opened;

    const EPOCH: Offset = Offset { index: 1, ordinal: 0 };

    fn expire(batch: &mut BatchBuilder) {
        batch.push(Some((&ClientId::from("c"), EPOCH)), None, &Event::SessionExpired);
    }

    fn publish_will(batch: &mut BatchBuilder) {
        publish(batch, false);
    }

    /// Void behind the end of its session.
    fn publish_delayed_will(batch: &mut BatchBuilder) {
        publish(batch, true);
    }

    fn publish(batch: &mut BatchBuilder, is_delayed: bool) {
        let client = ClientId::from("c");
        let message = MessagePublished {
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: None,
            topic: "t",
            message_expiry_interval: None,
            properties: &[],
            payload: b"m1.",
        };
        batch.publish(is_delayed.then_some((&client, EPOCH)), Some(EPOCH), &message);
    }

    /// Node 1 opens a session and derives `first`; node 2 derives `second`, or sends it twice.
    fn judge(fills: &[fn(&mut BatchBuilder)], sequences: &[u64]) -> Result<(), String> {
        let (mut history, mut oracle) = (History::default(), Oracle::default());
        let mut commit = |producer, sequence, fill: &dyn Fn(&mut BatchBuilder)| {
            let mut batch = history.builder();
            fill(&mut batch);
            oracle.on_committed(&history.admit(producer, sequence, &mut batch));
        };
        let producer = |node| ProducerId { node, start: 1, local: 0 };
        commit(producer(1), 1, &|batch| {
            batch.push(None, None, &opened("c", 1, 600));
        });
        for (fill, sequence) in fills.iter().zip(sequences) {
            commit(producer(2), *sequence, fill);
        }
        let facts = Facts { oracle: &oracle, book: &Book::default(), clients: &[] };
        DerivedOnce::default().see(&Seen::Settled, &facts)
    }

    #[test]
    fn nothing_is_derived_twice() {
        assert_eq!(judge(&[expire, publish_will], &[1, 2]), Ok(()));
        assert_eq!(judge(&[expire, expire], &[1, 1]), Ok(()), "a batch that came twice");
        for derive in [expire, publish_will] {
            let fault = judge(&[derive, derive], &[1, 2]).expect_err("it stands there twice");
            assert!(fault.ends_with("was derived before"), "{fault}");
        }
    }

    #[test]
    fn a_will_that_is_void_may_come_once_more() {
        let judge = |fills: &[fn(&mut BatchBuilder)]| judge(fills, &[1, 2, 3]);
        assert_eq!(judge(&[expire, publish_delayed_will, publish_will]), Ok(()));
        assert!(judge(&[expire, publish_delayed_will, publish_delayed_will]).is_err());
        assert!(judge(&[expire, publish_will, publish_delayed_will]).is_err());
    }
}
