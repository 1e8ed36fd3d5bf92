//! Looking into the views: are they what the log says?

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::topic::TopicFilter;

use crate::options::{SHARED_FILTERS, TOPICS};
use crate::seen::Seen;
use crate::world::World;

impl World {
    /// Compares the node's views with those folded from the beginning, if they stand where the
    /// oracle stands.
    pub(super) fn look(&mut self) {
        self.catch_up();
        let Some(node) = &self.node else { return };
        let applied = node.projections.reader.applied();
        if applied != self.scratch.applied() || applied != self.oracle.last_index {
            return;
        }
        let scratch = self.scratch.checksum();
        let seen = &mut self.seen;
        node.projections.reader.with(|views| {
            seen.push(Seen::Views { applied, node: views.checksum(), scratch });
            for topic in TOPICS {
                let retained = views.retained().get(topic);
                let payload = retained.map(|message| message.payload.to_vec());
                seen.push(Seen::Retained { topic, payload });
            }
            for client in &self.clients {
                let filters = views.session(&client.id).map(|session| {
                    let filters = session.subscriptions().iter();
                    filters.map(|subscription| subscription.filter.as_str().to_owned()).collect()
                });
                seen.push(Seen::Session { client: client.number, filters });
            }
        });
    }

    /// Tells what the views think is under way and owed.
    pub(super) fn tell_what_is_owed(&mut self) {
        let Some(node) = &self.node else { return };
        node.projections.reader.with(|views| {
            for filter in SHARED_FILTERS {
                let group = TopicFilter::new(filter).expect("it is one");
                if let Some((owed, _)) = views.shared_owed(&group) {
                    self.seen.push(Seen::Group { filter, owed });
                }
            }
            for client in &self.clients {
                let Some(session) = views.session(&client.id) else { continue };
                let mut owed = Vec::new();
                views.owed(&client.id, DeliveryRef::default(), 20, &mut owed);
                let owed: Vec<_> = owed.iter().map(|owed| owed.message).collect();
                let outstanding = session.outstanding().len();
                let (client_number, owed_messages) = (client.number, session.owed_messages());
                self.seen.push(Seen::Waiting {
                    client: client_number,
                    owed: owed_messages,
                    outstanding,
                });
                if owed.is_empty() && outstanding == 0 {
                    continue;
                }
                self.trace.say(format_args!(
                    "{} has under way {:?}, is owed {owed:?}, cursor {:?}",
                    client.id,
                    session.outstanding(),
                    session.cursor(),
                ));
            }
        });
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
