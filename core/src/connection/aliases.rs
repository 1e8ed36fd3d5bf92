//! Topic Aliases of both directions (MQTT 5 section 3.3.2.3.4). They live as long as the Network
//! Connection.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::reason::ReasonCode;

/// The aliases of one connection.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    /// Topics that the client named, by alias less one. At most as many as CONNACK allowed.
    incoming: Vec<Option<Arc<str>>>,
    /// Most aliases that we may give.
    outgoing_max: u16,
    /// Aliases that we gave, counted from 1 in the order of the topics.
    outgoing: HashMap<Box<str>, u16>,
}

/// How a topic is written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// By its name.
    Name,
    /// By its name, which gives it this alias.
    NameFor(u16),
    /// By this alias alone.
    Alias(u16),
}

impl Aliases {
    /// For a client that takes at most `outgoing_max` aliases.
    pub(super) fn new(outgoing_max: u16) -> Self {
        Self { outgoing_max, ..Self::default() }
    }

    /// Whether topics may be written to the client by an alias.
    pub(super) fn writes_aliases(&self) -> bool {
        self.outgoing_max > 0
    }

    /// The topic of a message from the client with `alias`: `topic`, which the alias means from now
    /// on, or if that is empty what the alias means. `[MQTT-3.3.2-8]` to `[MQTT-3.3.2-12]`
    pub(super) fn resolve(
        &mut self,
        topic: &str,
        alias: u16,
        max: u16,
    ) -> Result<Arc<str>, ReasonCode> {
        if alias == 0 || alias > max {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.incoming.get(at).and_then(Option::as_ref);
            return known.cloned().ok_or(ReasonCode::ProtocolError);
        }
        if self.incoming.len() <= at {
            self.incoming.resize(at + 1, None);
        }
        // The same again is usual, and needs no copy.
        let place = &mut self.incoming[at];
        match place {
            Some(known) if **known == *topic => {}
            _ => *place = Some(topic.into()),
        }
        Ok(place.clone().expect("it was just set"))
    }

    /// How to write `topic` to the client, which `may_give` it an alias. The first topics get the
    /// aliases: one that is taken away again would cost more than it saves.
    pub(super) fn write(&mut self, topic: &str, may_give: bool) -> Written {
        if let Some(alias) = self.outgoing.get(topic) {
            return Written::Alias(*alias);
        }
        let given = u16::try_from(self.outgoing.len()).unwrap_or(u16::MAX);
        if !may_give || given >= self.outgoing_max {
            return Written::Name;
        }
        self.outgoing.insert(topic.into(), given + 1);
        Written::NameFor(given + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_means_its_last_topic() {
        let mut aliases = Aliases::default();
        let mut resolve =
            |topic, alias| aliases.resolve(topic, alias, 3).map(|topic| topic.to_string());
        assert_eq!(resolve("", 1), Err(ReasonCode::ProtocolError));
        assert_eq!(resolve("a", 3), Ok("a".to_owned()));
        assert_eq!(resolve("", 3), Ok("a".to_owned()));
        assert_eq!(resolve("", 2), Err(ReasonCode::ProtocolError));
        assert_eq!(resolve("b", 3), Ok("b".to_owned()));
        assert_eq!(resolve("", 3), Ok("b".to_owned()));
        assert_eq!(resolve("a", 0), Err(ReasonCode::TopicAliasInvalid));
        assert_eq!(resolve("a", 4), Err(ReasonCode::TopicAliasInvalid));
    }

    #[test]
    fn the_first_topics_get_the_aliases() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.write("a", false), Written::Name);
        assert_eq!(aliases.write("a", true), Written::NameFor(1));
        assert_eq!(aliases.write("b", true), Written::NameFor(2));
        assert_eq!(aliases.write("c", true), Written::Name);
        assert_eq!(aliases.write("a", false), Written::Alias(1));
        assert_eq!(Aliases::default().write("a", true), Written::Name);
    }
}
