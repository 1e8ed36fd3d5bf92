//! Owed sets against a naive model: lists, and every subscription asked for every message.
//!
//! The model knows messages by the number of their step; several steps make a batch.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::topic::TopicFilter;
use proptest::prelude::*;

use crate::support::{World, owed, ref_text, reference};

const CLIENTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const TOPICS: [&str; 5] = ["x", "x/y", "x/z", "$x", "z"];
const FILTERS: [&str; 7] = ["x", "x/#", "+/y", "#", "$x", "+", "z"];

#[derive(Clone, Debug)]
enum Step {
    Open { client: usize, interval: u32, clean: bool },
    Close { client: usize },
    Subscribe { client: usize, filter: usize, qos: u32, no_local: bool, as_published: bool },
    Unsubscribe { client: usize, filter: usize },
    Publish { client: usize, topic: usize, qos: u32, retain: bool },
    Progress { client: usize, upto: u64, outstanding: Vec<u64> },
    Receive { client: usize, nth: usize },
    Drop { client: usize, from: u64, length: u64 },
}

#[derive(Default)]
struct Held {
    is_online: bool,
    /// Whether it outlives its connection.
    outlives: bool,
    /// Whether messages are owed to it: it outlives this connection, or outlived another.
    is_owed: bool,
    subscriptions: BTreeMap<usize, (u32, bool, bool)>,
    owed: Vec<(u64, u32, bool)>,
    outstanding: Vec<u64>,
}

#[derive(Default)]
struct Model {
    sessions: BTreeMap<usize, Held>,
}

impl Model {
    /// Applies a step, which is number `number`.
    fn apply(&mut self, number: u64, step: &Step) {
        match step {
            Step::Open { client, interval, clean } => {
                let old = self.sessions.remove(client).filter(|old| old.outlives && !clean);
                let held = Held {
                    is_online: true,
                    outlives: *interval > 0,
                    is_owed: *interval > 0 || old.is_some(),
                    ..old.unwrap_or_default()
                };
                self.sessions.insert(*client, held);
            }
            Step::Publish { client, topic, qos, retain } => {
                for (other, held) in &mut self.sessions {
                    held.publish(number, *other == *client, *topic, *qos, *retain);
                }
            }
            Step::Close { client } => {
                if self.sessions.get(client).is_some_and(|held| !held.outlives) {
                    self.sessions.remove(client);
                }
                if let Some(held) = self.sessions.get_mut(client) {
                    held.is_online = false;
                }
            }
            Step::Subscribe { client, filter, qos, no_local, as_published } => {
                if let Some(held) = self.sessions.get_mut(client) {
                    held.subscriptions.insert(*filter, (*qos, *no_local, *as_published));
                }
            }
            Step::Unsubscribe { client, filter } => {
                if let Some(held) = self.sessions.get_mut(client) {
                    held.subscriptions.remove(filter);
                }
            }
            Step::Progress { client, upto, outstanding } => {
                if let Some(held) = self.sessions.get_mut(client).filter(|held| held.is_owed) {
                    held.owed.retain(|(at, ..)| at > upto || outstanding.contains(at));
                    let is_owed = |at: &u64| held.owed.iter().any(|(owed, ..)| owed == at);
                    held.outstanding = outstanding.iter().copied().filter(is_owed).collect();
                }
            }
            Step::Receive { client, nth } => {
                if let Some(held) = self.sessions.get_mut(client)
                    && *nth < held.outstanding.len()
                {
                    let received = held.outstanding.remove(*nth);
                    held.owed.retain(|(at, ..)| *at != received);
                }
            }
            Step::Drop { client, from, length } => {
                if let Some(held) = self.sessions.get_mut(client) {
                    let outstanding = &held.outstanding;
                    held.owed.retain(|(at, ..)| {
                        !(*from..=from + length).contains(at) || outstanding.contains(at)
                    });
                }
            }
        }
    }

    fn text(&self, places: &Places) -> String {
        let mut text = String::new();
        for (client, held) in &self.sessions {
            let _ = write!(text, "{}:", CLIENTS[*client]);
            for (at, qos, retain) in &held.owed {
                let _ = write!(text, " {}/{qos}/{retain}", places.text(*at));
            }
            text.push('\n');
        }
        text
    }
}

impl Held {
    fn publish(&mut self, number: u64, is_own: bool, topic: usize, qos: u32, retain: bool) {
        if !self.is_owed {
            return;
        }
        let matching: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|(filter, (_, no_local, _))| {
                let filter = TopicFilter::new(FILTERS[**filter]).expect("a filter");
                filter.matches(TOPICS[topic]) && !(*no_local && is_own)
            })
            .collect();
        let granted = matching.iter().map(|(_, (qos, ..))| *qos).max().unwrap_or(0);
        if granted.min(qos) > 0 {
            let retain = retain && matching.iter().any(|(_, (.., as_published))| *as_published);
            self.owed.push((number, granted.min(qos), retain));
        }
    }
}

/// Where the steps are in the log.
#[derive(Default)]
struct Places(Vec<(u64, usize)>);

impl Places {
    /// The place of a step; one behind all for a step that is to come.
    fn text(&self, number: u64) -> String {
        let place = usize::try_from(number).ok().and_then(|number| self.0.get(number - 1));
        let (index, ordinal) = place.copied().unwrap_or((100_000, 0));
        format!("{index}:{ordinal}")
    }
}

/// The step in the little language; `outstanding` as the model knows it, identifiers by number.
fn text(step: &Step, places: &Places, outstanding: &[u64]) -> String {
    let flag = |is: &bool, name: &str| if *is { format!(" {name}") } else { String::new() };
    match step {
        Step::Open { client, interval, clean } => {
            format!("open {} expiry={interval}{}", CLIENTS[*client], flag(clean, "clean"))
        }
        Step::Close { client } => format!("close {}", CLIENTS[*client]),
        Step::Subscribe { client, filter, qos, no_local, as_published } => format!(
            "sub {} {} qos={qos} rh=2{}{}",
            CLIENTS[*client],
            FILTERS[*filter],
            flag(no_local, "nl"),
            flag(as_published, "rap")
        ),
        Step::Unsubscribe { client, filter } => {
            format!("unsub {} {}", CLIENTS[*client], FILTERS[*filter])
        }
        Step::Publish { client, topic, qos, retain } => {
            let (client, topic) = (CLIENTS[*client], TOPICS[*topic]);
            format!("pub {client} {topic} m qos={qos}{}", flag(retain, "retain"))
        }
        Step::Progress { client, upto, outstanding } => {
            let outstanding = outstanding.iter().map(|at| format!(" {at}={}", places.text(*at)));
            let (client, upto) = (CLIENTS[*client], places.text(*upto));
            format!("progress {client} {upto}{}", outstanding.collect::<String>())
        }
        Step::Receive { client, nth } => {
            let id = outstanding.get(*nth).copied().unwrap_or(60_000);
            format!("receive {} {id}", CLIENTS[*client])
        }
        Step::Drop { client, from, length } => {
            let (from, upto) = (places.text(*from), places.text(from + length));
            format!("drop {} {from} {upto} full", CLIENTS[*client])
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS.len();
    let place = 1..120_u64;
    prop_oneof![
        2 => (client.clone(), prop::sample::select(vec![0, 100, 100]), prop::bool::weighted(0.2))
            .prop_map(|(client, interval, clean)| Step::Open { client, interval, clean }),
        1 => client.clone().prop_map(|client| Step::Close { client }),
        4 => (client.clone(), 0..FILTERS.len(), 0..3_u32, any::<bool>(), any::<bool>()).prop_map(
            |(client, filter, qos, no_local, as_published)| Step::Subscribe {
                client, filter, qos, no_local, as_published
            }
        ),
        1 => (client.clone(), 0..FILTERS.len())
            .prop_map(|(client, filter)| Step::Unsubscribe { client, filter }),
        10 => (client.clone(), 0..TOPICS.len(), 0..3_u32, any::<bool>()).prop_map(
            |(client, topic, qos, retain)| Step::Publish { client, topic, qos, retain }
        ),
        2 => (client.clone(), place.clone(), prop::collection::btree_set(place.clone(), 0..4))
            .prop_map(|(client, upto, outstanding)| Step::Progress {
                client,
                upto,
                outstanding: outstanding.into_iter().filter(|at| *at <= upto).collect(),
            }),
        1 => (client.clone(), 0..3_usize).prop_map(|(client, nth)| Step::Receive { client, nth }),
        1 => (client, place, 0..20_u64)
            .prop_map(|(client, from, length)| Step::Drop { client, from, length }),
    ]
}

proptest! {
    #[test]
    fn the_owed_sets_are_those_of_the_model(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..12), 0..40),
    ) {
        let (mut world, mut model) = (World::default(), Model::default());
        let mut places = Places::default();
        for steps in &batches {
            let mut events = Vec::new();
            for step in steps {
                // The little language has no event of a client that was never there.
                let is_known = match step {
                    Step::Close { client } => {
                        model.sessions.get(client).is_some_and(|held| held.is_online)
                    }
                    Step::Progress { client, .. } => model.sessions.contains_key(client),
                    _ => true,
                };
                if !is_known {
                    continue;
                }
                let outstanding = match step {
                    Step::Receive { client, .. } => model.sessions.get(client),
                    _ => None,
                };
                let outstanding = outstanding.map(|held| held.outstanding.clone());
                places.0.push((world.history.last_index() + 1, events.len()));
                events.push(text(step, &places, &outstanding.unwrap_or_default()));
                model.apply(places.0.len() as u64, step);
            }
            if !events.is_empty() {
                world.fold(&events.join("; "));
            }
            prop_assert_eq!(views_text(&world), model.text(&places), "after {:?}", steps);
        }
    }
}

fn views_text(world: &World) -> String {
    let mut text = String::new();
    for session in world.views.sessions().iter(None) {
        let _ = write!(text, "{}:", session.client());
        for held in owed(&world.views, session.client(), DeliveryRef::default()) {
            let _ = write!(text, " {}/{}/{}", ref_text(held.message), held.qos as u8, held.retain);
        }
        text.push('\n');
    }
    text
}

#[test]
fn references_are_read_as_they_are_written() {
    assert_eq!(ref_text(reference("4:5.6")), "4:5.6");
}
