//! Looking into the views: are they what the log says?

use std::collections::BTreeSet;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::Index;
use ledgermq_core::topic::TopicFilter;

use crate::client::Client;
use crate::node::{Node, Worker};
use crate::options::{SHARED_FILTERS, TOPICS};
use crate::seen::{Fold, Seen};
use crate::world::World;

impl World {
    /// Compares the views of the nodes that run with those folded from the beginning, where they
    /// stand where the oracle stands.
    pub(super) fn look(&mut self) {
        let stands = self.stands();
        self.catch_up(&stands);
        self.look_for_holders();
        self.look_at_states();
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

    /// Tells who holds each client's connection.
    fn look_for_holders(&mut self) {
        for client in &self.clients {
            let mut holders = Vec::new();
            for seat in &self.seats {
                let Some(node) = &seat.node else { continue };
                let last = self.oracle.last_index;
                let holding = node.workers.iter().filter(|it| it.holds(&client.id, last));
                holders.extend(holding.map(Worker::process));
            }
            self.seen.push(Seen::Holders { client: client.id.clone(), holders });
        }
    }

    /// Tells what the folds of the nodes have come to, wherever they stand.
    fn look_at_states(&mut self) {
        for seat in &self.seats {
            let Some(running) = &seat.node else { continue };
            let node = seat.name.id;
            let (applied, checksum) =
                running.projections.reader.with(|views| (views.applied(), views.checksum()));
            let index = self.last_batch(applied);
            self.seen.push(Seen::State { node, fold: Fold::Views, index, checksum });
            let (passed, checksum) = running.log.admission();
            let index = self.last_batch(passed);
            self.seen.push(Seen::State { node, fold: Fold::Admission, index, checksum });
        }
    }

    /// Indices at which the folds of the nodes stand.
    fn stands(&self) -> BTreeSet<Index> {
        let of = |node: &Node| [node.projections.reader.applied(), node.log.admission().0];
        self.nodes().flat_map(of).map(|applied| self.last_batch(applied)).collect()
    }

    /// Index of the last batch up to an entry.
    fn last_batch(&self, upto: Index) -> Index {
        self.oracle.history.range(..=upto).next_back().map_or(0, |(index, _)| *index)
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

    /// Folds what is new, and tells what it came to: in the end, and where nodes stand now. The
    /// checksum of a whole state takes long.
    fn catch_up(&mut self, stands: &BTreeSet<Index>) {
        let mut notices = Vec::new();
        let last = self.oracle.last_index;
        for (index, batch) in self.oracle.history.range(self.scratch.applied() + 1..) {
            if let Err(broken) = self.scratch.apply(batch, &mut notices) {
                self.seen.push(Seen::Broken(format!("the views broke: {broken}")));
            }
            notices.clear();
            self.admitted.apply(batch);
            if *index == last || stands.contains(index) {
                let sums = [
                    (Fold::Views, self.scratch.checksum()),
                    (Fold::Admission, self.admitted.checksum()),
                ];
                let (node, index) = (0, *index);
                let states =
                    sums.map(|(fold, checksum)| Seen::State { node, fold, index, checksum });
                self.seen.extend(states);
            }
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
