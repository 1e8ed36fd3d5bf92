//! Who gets the messages of a topic: filters are matched once a topic, not once a message.

use std::collections::HashMap;

use ledgermq_core::packet::QoS;
use ledgermq_core::topic::{TopicFilter, check_name};

use super::connection::End;
use super::{PATTERNS_MAX, TOPICS_MAX};

/// A subscriber of a topic.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) slot: usize,
    pub(super) qos: QoS,
}

/// All topics that were named, and the filters with wildcards.
#[derive(Default)]
pub(super) struct Topics {
    numbers: HashMap<Box<[u8]>, usize>,
    topics: Vec<Topic>,
    patterns: Vec<(TopicFilter, Route)>,
    /// Goes up with every change of a subscription.
    version: u64,
}

struct Topic {
    name: Box<str>,
    exact: Vec<Route>,
    routes: Vec<Route>,
    /// Version at which `routes` was made, if it was.
    version: Option<u64>,
}

impl Topics {
    /// The number of a topic.
    pub(super) fn number(&mut self, name: &[u8]) -> Result<usize, End> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let text = str::from_utf8(name).ok().filter(|text| check_name(text).is_ok());
        let text = text.ok_or(End::Wrong("topic name is not valid"))?;
        if self.topics.len() == TOPICS_MAX {
            return Err(End::Wrong("too many topics"));
        }
        let number = self.topics.len();
        let (exact, routes) = (Vec::new(), Vec::new());
        self.topics.push(Topic { name: text.into(), exact, routes, version: None });
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    /// Adds a subscription. Says the number of the topic, if the filter is one and the connection
    /// had it not.
    pub(super) fn subscribe(&mut self, filter: &str, route: Route) -> Result<Option<usize>, End> {
        self.version += 1;
        if !filter.contains(['+', '#']) {
            let number = self.number(filter.as_bytes())?;
            let exact = &mut self.topics[number].exact;
            if let Some(known) = exact.iter_mut().find(|known| known.slot == route.slot) {
                known.qos = route.qos;
                return Ok(None);
            }
            exact.push(route);
            return Ok(Some(number));
        }
        let filter = TopicFilter::new(filter).map_err(|_| End::Wrong("filter is not valid"))?;
        self.patterns.retain(|(other, old)| *other != filter || old.slot != route.slot);
        if self.patterns.len() == PATTERNS_MAX {
            return Err(End::Wrong("too many filters with wildcards"));
        }
        self.patterns.push((filter, route));
        Ok(None)
    }

    /// Takes out all subscriptions of a connection, `exact` being the topics of those without
    /// wildcards.
    pub(super) fn forget(&mut self, slot: usize, exact: &[usize]) {
        self.version += 1;
        self.patterns.retain(|(_, route)| route.slot != slot);
        for number in exact {
            self.topics[*number].exact.retain(|route| route.slot != slot);
        }
    }

    /// Who gets the messages of a topic, each subscriber once.
    #[inline]
    pub(super) fn routes(&mut self, number: usize) -> &[Route] {
        let topic = &mut self.topics[number];
        if topic.version != Some(self.version) {
            topic.resolve(&self.patterns);
            topic.version = Some(self.version);
        }
        &topic.routes
    }
}

impl Topic {
    fn resolve(&mut self, patterns: &[(TopicFilter, Route)]) {
        self.routes.clone_from(&self.exact);
        for (_, route) in patterns.iter().filter(|(filter, _)| filter.matches(&self.name)) {
            match self.routes.iter_mut().find(|known| known.slot == route.slot) {
                Some(known) => known.qos = known.qos.max(route.qos),
                None => self.routes.push(*route),
            }
        }
    }
}
