//! Looking into the views: are they what the log says?

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::topic::TopicFilter;

use crate::client::Client;
use crate::node::Node;
use crate::options::{SHARED_FILTERS, TOPICS};
use crate::seen::Seen;
use crate::world::World;

impl World {
    /// Compares the views of the nodes that run with those folded from the beginning, where they
    /// stand where the oracle stands.
    pub(super) fn look(&mut self) {
        self.catch_up();
        if self.scratch.applied() != self.oracle.last_index {
            return;
        }
        let mut scratch = None;
        for node in self.seats.iter().filter_map(|seat| seat.node.as_ref()) {
            let applied = node.projections.reader.applied();
            if applied != self.scratch.applied() {
                continue;
            }
            let scratch = *scratch.get_or_insert_with(|| self.scratch.checksum());
            look_into(node, scratch, &self.clients, &mut self.seen);
        }
    }

    /// Tells what the views think is under way and owed.
    pub(super) fn tell_what_is_owed(&mut self) {
        let Self { seats, clients, seen, trace, .. } = self;
        for seat in seats {
            let Some(node) = &seat.node else { continue };
            let name = seat.name;
            node.projections.reader.with(|views| {
                for filter in SHARED_FILTERS {
                    let group = TopicFilter::new(filter).expect("it is one");
                    if let Some((owed, _)) = views.shared_owed(&group) {
                        seen.push(Seen::Group { filter, owed });
                    }
                }
                for client in &*clients {
                    let Some(session) = views.session(&client.id) else { continue };
                    let mut owed = Vec::new();
                    views.owed(&client.id, DeliveryRef::default(), 20, &mut owed);
                    let outstanding = session.outstanding().len();
                    seen.push(Seen::Waiting {
                        client: client.number,
                        owed: session.owed_messages(),
                        outstanding,
                    });
                    if owed.is_empty() && outstanding == 0 {
                        continue;
                    }
                    let owed: Vec<_> = owed.iter().map(|owed| owed.message).collect();
                    trace.say(format_args!(
                        "{name}{} has under way {:?}, is owed {owed:?}, cursor {:?}",
                        client.id,
                        session.outstanding(),
                        session.cursor(),
                    ));
                }
            });
        }
    }

    fn catch_up(&mut self) {
        let mut notices = Vec::new();
        for (_, batch) in self.oracle.history.range(self.scratch.applied() + 1..) {
            if let Err(broken) = self.scratch.apply(batch, &mut notices) {
                self.seen.push(Seen::Broken(format!("the views broke: {broken}")));
            }
            notices.clear();
        }
    }
}

fn look_into(node: &Node, scratch: u64, clients: &[Client], seen: &mut Vec<Seen>) {
    node.projections.reader.with(|views| {
        let applied = views.applied();
        seen.push(Seen::Views { applied, node: views.checksum(), scratch });
        for topic in TOPICS {
            let retained = views.retained().get(topic);
            let payload = retained.map(|message| message.payload.to_vec());
            seen.push(Seen::Retained { topic, payload });
        }
        for client in clients {
            let filters = views.session(&client.id).map(|session| {
                let filters = session.subscriptions().iter();
                filters.map(|subscription| subscription.filter.as_str().to_owned()).collect()
            });
            seen.push(Seen::Session { client: client.number, filters });
        }
    });
}
