//! Groups of Shared Subscriptions against a naive model: one list of messages, and who has each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ledgermq_core::offset::Offset;
use ledgermq_core::topic::TopicFilter;
use ledgermq_projections::notice::Notice;
use ledgermq_projections::views::Views;
use ledgermq_projections::views::shared::SHARED_WINDOW;
use proptest::prelude::*;

use crate::support::{World, shared_text};

const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];
const GROUPS: [&str; 3] = ["$share/g/x", "$share/h/x", "$share/g/#"];
const TOPICS: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
enum Step {
    Open { client: usize, outlives: bool, clean: bool },
    Close { client: usize },
    Join { client: usize, group: usize, qos: u32, as_published: bool },
    Leave { client: usize, group: usize },
    Publish { topic: usize, qos: u32, retain: bool, expiry: Option<u64> },
    Settle { client: usize, nth: usize },
    Start { client: usize, nth: usize },
    Receive { client: usize, nth: usize },
    GiveUp { client: usize, nth: usize },
    Drop { group: usize, upto: usize, is_expired: bool },
}

/// A message of a group: who has it, if anybody.
#[derive(Clone, Debug)]
struct Item {
    at: Offset,
    qos: u32,
    retain: bool,
    /// The second at which it expires.
    expires: Option<u64>,
    held: Option<(usize, bool)>,
}

#[derive(Default)]
struct Group {
    number: u32,
    /// QoS and Retain As Published of the members.
    members: BTreeMap<usize, (u32, bool)>,
    items: Vec<Item>,
    turn: Option<usize>,
}

#[derive(Default)]
struct Session {
    epoch: Offset,
    is_online: bool,
    outlives: bool,
}

#[derive(Default)]
struct Model {
    sessions: BTreeMap<usize, Session>,
    /// Places of the sessions: the lowest that is free is taken.
    places: Vec<Option<usize>>,
    groups: BTreeMap<usize, Group>,
    begun: u32,
    /// Second of the batch.
    now: u64,
    given: BTreeMap<usize, String>,
}

impl Model {
    fn apply(&mut self, at: Offset, step: &Step) {
        match *step {
            Step::Open { client, outlives, clean } => self.open(at, client, outlives, clean),
            Step::Close { client } => {
                let Some(session) = self.sessions.get_mut(&client) else { return };
                session.is_online = false;
                if session.outlives {
                    self.went(client);
                } else {
                    self.end(client);
                }
            }
            Step::Join { client, group, qos, as_published } => {
                let begun = &mut self.begun;
                let group = self.groups.entry(group).or_insert_with(|| {
                    *begun += 1;
                    Group { number: *begun - 1, ..Group::default() }
                });
                group.members.insert(client, (qos, as_published));
            }
            Step::Leave { client, group } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.members.remove(&client);
                }
            }
            Step::Publish { topic, qos, retain, expiry } => {
                let expires = expiry.map(|after| self.now + after);
                self.publish(topic, &Item { at, qos, retain, expires, held: None });
            }
            Step::Settle { client, nth }
            | Step::Receive { client, nth }
            | Step::GiveUp { client, nth } => {
                if let Some((group, place)) = self.holds(client).get(nth).copied() {
                    self.group(group).items.remove(place);
                }
            }
            Step::Start { client, nth } => {
                if let Some((group, place)) = self.holds(client).get(nth).copied() {
                    let group = self.group(group);
                    group.items[place].held = Some((client, true));
                }
            }
            Step::Drop { group, upto, is_expired } => {
                let now = self.now;
                let is_left =
                    |item: &Item| is_expired && item.expires.is_none_or(|expires| expires > now);
                if let Some(group) = self.groups.get_mut(&group) {
                    let upto = group.items.get(upto).map_or(Offset::ZERO, |item| item.at);
                    group
                        .items
                        .retain(|item| item.held.is_some() || item.at > upto || is_left(item));
                }
            }
        }
        self.groups.retain(|_, group| !group.members.is_empty());
        self.assign();
    }

    fn open(&mut self, at: Offset, client: usize, outlives: bool, clean: bool) {
        let old = self.sessions.contains_key(&client);
        let resumes = self.sessions.get(&client).is_some_and(|old| old.outlives && !clean);
        if old {
            let was_online =
                std::mem::take(&mut self.sessions.get_mut(&client).expect("it is there").is_online);
            if was_online {
                self.went(client);
                self.assign();
            }
            if !resumes {
                self.end(client);
                self.groups.retain(|_, group| !group.members.is_empty());
                self.assign();
            }
        }
        self.sessions.insert(client, Session { epoch: at, is_online: true, outlives });
        if !resumes {
            let free = self.places.iter().position(Option::is_none);
            let place = free.unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
            self.places[place] = Some(client);
        }
    }

    fn group(&mut self, name: usize) -> &mut Group {
        self.groups.get_mut(&name).expect("it was just found")
    }

    fn client(&self, place: usize) -> usize {
        self.places[place].expect("it was just found")
    }

    fn went(&mut self, client: usize) {
        self.given.remove(&client);
        for item in self.groups.values_mut().flat_map(|group| &mut group.items) {
            if item.held == Some((client, false)) {
                item.held = None;
            }
        }
    }

    fn end(&mut self, client: usize) {
        self.went(client);
        for group in self.groups.values_mut() {
            group.members.remove(&client);
            group.items.retain(|item| item.held.is_none_or(|(holder, _)| holder != client));
        }
        self.sessions.remove(&client);
        for place in &mut self.places {
            *place = place.filter(|held| *held != client);
        }
        while self.places.last().is_some_and(Option::is_none) {
            self.places.pop();
        }
    }

    fn publish(&mut self, topic: usize, item: &Item) {
        for name in self.names() {
            let filter = TopicFilter::new(GROUPS[name]).expect("a filter");
            if !filter.matches(TOPICS[topic]) {
                continue;
            }
            let group = &self.groups[&name];
            if item.qos > 0 && group.members.values().any(|(granted, _)| *granted > 0) {
                self.group(name).items.push(item.clone());
                self.assign();
            } else if let Some(place) = self.next(name, usize::MAX) {
                self.tell(name, place, item, 0);
            }
        }
    }

    /// The groups in the order in which they began.
    fn names(&self) -> Vec<usize> {
        let mut names: Vec<usize> = self.groups.keys().copied().collect();
        names.sort_by_key(|name| self.groups[name].number);
        names
    }

    /// Gives what waits, the oldest first, until nobody of the group has room.
    fn assign(&mut self) {
        for name in self.names() {
            while let Some(waits) = self.groups[&name].items.iter().position(|i| i.held.is_none())
                && let Some(place) = self.next(name, SHARED_WINDOW)
            {
                let client = self.client(place);
                let group = self.group(name);
                let item = group.items[waits].clone();
                let qos = item.qos.min(group.members[&client].0);
                if qos == 0 {
                    group.items.remove(waits);
                } else {
                    group.items[waits].held = Some((client, false));
                }
                self.tell(name, place, &item, qos);
            }
        }
    }

    /// The place of who is next: online, and with less than `window` unsettled.
    fn next(&self, name: usize, window: usize) -> Option<usize> {
        let group = &self.groups[&name];
        let is_ready = |place: &usize| {
            self.places[*place].is_some_and(|client| {
                let is_his = |item: &&Item| item.held.is_some_and(|(holder, _)| holder == client);
                self.sessions[&client].is_online
                    && group.members.contains_key(&client)
                    && group.items.iter().filter(is_his).count() < window
            })
        };
        let first = group.turn.map_or(0, |turn| turn + 1);
        (first..self.places.len()).find(is_ready).or_else(|| (0..self.places.len()).find(is_ready))
    }

    fn tell(&mut self, name: usize, place: usize, item: &Item, qos: u32) {
        let client = self.client(place);
        let group = self.group(name);
        group.turn = Some(place);
        let retain = if item.retain && group.members[&client].1 { "r" } else { "" };
        let number = group.number;
        let text = self.given.entry(client).or_default();
        let _ = write!(text, " {}.g{number}/{qos}{retain}", item.at);
    }

    /// Groups and places of the messages that a session holds.
    fn holds(&self, client: usize) -> Vec<(usize, usize)> {
        let groups = self.groups.iter().flat_map(|(name, group)| {
            let places = 0..group.items.len();
            places.map(move |place| (*name, place))
        });
        let is_his = |(name, place): &(usize, usize)| {
            self.groups[name].items[*place].held.is_some_and(|(holder, _)| holder == client)
        };
        groups.filter(is_his).collect()
    }

    fn reference(&self, (group, place): (usize, usize)) -> String {
        let group = &self.groups[&group];
        format!("{}.g{}", group.items[place].at, group.number)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, group) in &self.groups {
            let waiting = group.items.iter().filter(|item| item.held.is_none()).count();
            let _ = writeln!(text, "{} {} {waiting}", GROUPS[*name], group.items.len());
        }
        text
    }

    /// What was given since the last call, by the places of the sessions.
    fn take_given(&mut self) -> String {
        let given = std::mem::take(&mut self.given);
        let mut text = String::new();
        for client in self.places.iter().flatten() {
            if let Some(given) = given.get(client) {
                let _ = writeln!(text, "{}{given}", self.sessions[client].epoch);
            }
        }
        text
    }
}

/// The step in the little language, if it can be said of what is there.
fn text(step: &Step, model: &Model) -> Option<String> {
    let held =
        |client: &usize, nth: &usize| Some(model.reference(*model.holds(*client).get(*nth)?));
    let flag = |is: bool, name: &'static str| if is { name } else { "" };
    let is_there = |client: &usize| model.sessions.contains_key(client);
    Some(match step {
        Step::Open { client, outlives, clean } => {
            let (outlives, clean) = (flag(*outlives, " expiry=100"), flag(*clean, " clean"));
            format!("open {}{outlives}{clean}", CLIENTS[*client])
        }
        Step::Close { client } => {
            let session = model.sessions.get(client).filter(|session| session.is_online)?;
            let expiry = if session.outlives { 100 } else { 0 };
            format!("close {} expiry={expiry}", CLIENTS[*client])
        }
        Step::Join { client, group, qos, as_published } => {
            let as_published = flag(*as_published, " rap");
            is_there(client).then_some(())?;
            format!("sub {} {} qos={qos}{as_published}", CLIENTS[*client], GROUPS[*group])
        }
        Step::Leave { client, group } => {
            is_there(client).then_some(())?;
            format!("unsub {} {}", CLIENTS[*client], GROUPS[*group])
        }
        Step::Publish { topic, qos, retain, expiry } => {
            let expiry = expiry.map(|after| format!(" expiry={after}")).unwrap_or_default();
            format!("pub - {} m qos={qos}{}{expiry}", TOPICS[*topic], flag(*retain, " retain"))
        }
        Step::Settle { client, nth } => {
            format!("settle {} {}", CLIENTS[*client], held(client, nth)?)
        }
        Step::Start { client, nth } => {
            let (group, place) = *model.holds(*client).get(*nth)?;
            format!("start {} {}={}", CLIENTS[*client], place + 1, model.reference((group, place)))
        }
        // A session that outlives its connection says by the identifier that it received a message.
        Step::Receive { client, nth } => {
            let (at, message) = (CLIENTS[*client], held(client, nth)?);
            if !model.sessions[client].outlives {
                return Some(format!("settle {at} {message}"));
            }
            format!("start {at} 60000={message};receive {at} 60000")
        }
        Step::GiveUp { client, nth } => {
            let message = held(client, nth)?;
            format!("drop {} {message} {message} large", CLIENTS[*client])
        }
        Step::Drop { group, upto, is_expired } => {
            let upto = model.groups.get(group)?.items.get(*upto)?.at;
            format!("sdrop {} {upto}{}", GROUPS[*group], flag(*is_expired, " expired"))
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS.len();
    let group = 0..GROUPS.len();
    let held = (client.clone(), 0..4_usize);
    prop_oneof![
        2 => (client.clone(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(client, outlives, clean)| Step::Open { client, outlives, clean }),
        1 => client.clone().prop_map(|client| Step::Close { client }),
        4 => (client.clone(), group.clone(), prop::sample::select(vec![0, 1, 2, 2]), any::<bool>())
            .prop_map(|(client, group, qos, as_published)| {
                Step::Join { client, group, qos, as_published }
            }),
        1 => (client, group.clone()).prop_map(|(client, group)| Step::Leave { client, group }),
        8 => (0..TOPICS.len(), 0..3_u32, any::<bool>(), prop::option::of(1..6_u64))
            .prop_map(|(topic, qos, retain, expiry)| Step::Publish { topic, qos, retain, expiry }),
        3 => held.clone().prop_map(|(client, nth)| Step::Settle { client, nth }),
        2 => held.clone().prop_map(|(client, nth)| Step::Start { client, nth }),
        1 => held.clone().prop_map(|(client, nth)| Step::Receive { client, nth }),
        1 => held.prop_map(|(client, nth)| Step::GiveUp { client, nth }),
        1 => (group, 0..6_usize, any::<bool>())
            .prop_map(|(group, upto, is_expired)| Step::Drop { group, upto, is_expired }),
    ]
}

pub(super) fn given(world: &mut World) -> String {
    let mut text = String::new();
    for notice in world.notices.drain(..) {
        if let Notice::Shared { epoch, deliveries, .. } = notice {
            let _ = writeln!(text, "{epoch}{}", shared_text(&deliveries));
        }
    }
    text
}

fn groups(views: &Views) -> String {
    let mut text = String::new();
    for name in GROUPS {
        let filter = TopicFilter::new(name).expect("a filter");
        if let Some((owed, waiting)) = views.shared_owed(&filter) {
            let _ = writeln!(text, "{name} {owed} {waiting}");
        }
    }
    text
}

proptest! {
    #[test]
    fn who_gets_what_is_as_in_the_model(
        batches in prop::collection::vec((0..3_u64, prop::collection::vec(step(), 1..4)), 0..80),
    ) {
        let (mut world, mut model) = (World::default(), Model::default());
        for (pause, steps) in &batches {
            model.now += pause;
            let index = world.history.last_index() + 1;
            let mut lines: Vec<String> = Vec::new();
            let mut ordinal = 0;
            for step in steps {
                let Some(line) = text(step, &model) else { continue };
                model.apply(Offset::new(index, ordinal), step);
                ordinal += u32::try_from(line.split(';').count()).expect("few events");
                lines.push(line);
            }
            if lines.is_empty() {
                continue;
            }
            world.fold(&format!("time {}\n{}", model.now, lines.join(";")));
            prop_assert_eq!(given(&mut world), model.take_given(), "given by {:?}", lines);
            prop_assert_eq!(groups(&world.views), model.text(), "after {:?}", lines);
            prop_assert_eq!(world.views.shared_groups(), model.groups.len());
        }
    }
}
