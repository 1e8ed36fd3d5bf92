//! The last decision, for those who ask again.

use crate::access::{Action, Identity, Rules};

/// Topics beyond this length are decided anew each time: a connection keeps no more.
const TOPIC_BYTES_MAX: usize = 256;

/// Remembers the last decision of one identity and action: a publisher mostly stays with its topic.
#[derive(Debug, Default)]
pub struct Memo(Option<Box<Decision>>);

#[derive(Debug)]
struct Decision {
    rules: Rules,
    topic: String,
    may: bool,
}

impl Memo {
    /// [`Rules::may`]; `identity` and `action` are the same at every call.
    pub fn decide(
        &mut self,
        rules: &Rules,
        identity: &Identity<'_>,
        action: Action,
        topic: &str,
    ) -> bool {
        if rules.is_open() || topic.len() > TOPIC_BYTES_MAX {
            return rules.may(identity, action, topic);
        }
        if let Some(last) = &self.0
            && last.topic == topic
            && last.rules.is_same(rules)
        {
            return last.may;
        }
        let may = rules.may(identity, action, topic);
        let last = self.0.get_or_insert_with(|| {
            Box::new(Decision { rules: rules.clone(), topic: String::new(), may })
        });
        last.rules.clone_from(rules);
        last.topic.clear();
        last.topic.push_str(topic);
        last.may = may;
        may
    }
}
