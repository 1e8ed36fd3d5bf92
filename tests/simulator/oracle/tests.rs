//! The oracle against the log's own admission, with the batches of several nodes.

use ledgermq_core::event::{Event, SessionOpened};
use ledgermq_core::identity::{ClientId, ProducerId};
use ledgermq_core::offset::Offset;
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::reason::ReasonCode;
use ledgermq_log::testing::History;

use crate::oracle::Voids;
use crate::rng::Rng;

pub(crate) fn opened(client: &str, node: u64, interval: u32) -> Event {
    Event::SessionOpened(Box::new(SessionOpened {
        client: client.into(),
        username: None,
        is_proven: false,
        node,
        protocol: ProtocolVersion::V5,
        clean_start: false,
        session_expiry_interval: interval,
        keep_alive: 0,
        peer: String::new(),
        will: None,
    }))
}

fn any_event(node: u64, client: &str, rng: &mut Rng) -> Event {
    let interval = *rng.pick(&[0, 600]);
    match rng.below(10) {
        0..4 => opened(client, node, interval),
        4..6 => Event::SessionClosed {
            reason: ReasonCode::Success,
            publish_will: false,
            session_expiry_interval: interval,
        },
        6 => Event::SessionExpired,
        _ => Event::MessageReleased { packet_ids: Vec::new() },
    }
}

/// Nodes start anew, while batches of their earlier starts are on their way; batches come twice, or
/// behind a gap; sessions wander from node to node.
#[test]
fn what_is_void_is_void_for_admission_and_for_the_oracle() {
    let mut rng = Rng::new(1);
    let mut both = [0_u32; 2];
    for _ in 0..200 {
        let (mut history, mut voids) = (History::default(), Voids::default());
        let mut epochs = vec![("a", Offset::default()), ("b", Offset::default())];
        let mut sequences = std::collections::BTreeMap::new();
        for _ in 0..40 {
            let (node, start) = (rng.range(1, 3), rng.range(1, 3));
            let producer = ProducerId { node, start, local: rng.small(0, 1) };
            let mut batch = history.builder();
            if rng.permille(100) {
                batch.push(None, None, &Event::NodeStarted { node, start });
            }
            let mut begun = Vec::new();
            for ordinal in batch.len()..batch.len() + 3 {
                let (client, epoch) = *rng.pick(&epochs);
                let event = any_event(node, client, &mut rng);
                let is_opening = matches!(event, Event::SessionOpened(_));
                let id = ClientId::from(client);
                batch.push((!is_opening).then_some((&id, epoch)), None, &event);
                if is_opening {
                    begun.push((client, Offset::new(history.last_index() + 1, ordinal)));
                }
            }
            // No batch names an epoch that begins in it.
            epochs.append(&mut begun);
            let last: &mut u64 = sequences.entry(producer).or_default();
            let sequence = (*last + 1).saturating_sub(rng.below(20) / 19) + rng.below(20) / 19;
            *last = sequence.max(*last);
            history.set_late(rng.permille(100));
            let committed = history.admit(producer, sequence, &mut batch);
            let body = committed.batch();
            let wanted: Vec<_> =
                body.records().flatten().map(|record| committed.is_void(&record)).collect();
            assert_eq!(voids.next(&committed), wanted, "{committed:?}");
            wanted.iter().for_each(|is_void| both[usize::from(*is_void)] += 1);
        }
    }
    assert!(both.iter().all(|count| *count > 500), "{both:?}");
}
