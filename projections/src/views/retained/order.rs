//! The order of topics by their levels.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::views::message::RetainedMessage;

/// A message that sorts, and is found, by its topic.
#[derive(Clone, Debug)]
pub(super) struct ByTopic(pub(super) Arc<RetainedMessage>);

/// Something with a topic. Compared as if '/' were U+0000 (which no topic holds), so that a topic
/// stands before what is below it and nothing else stands between.
///
/// A trait object, since a map's key can be looked up by a borrowed form only if the key itself
/// can be lent in that form.
pub(super) trait InLevels {
    fn topic(&self) -> &str;
}

impl InLevels for ByTopic {
    fn topic(&self) -> &str {
        &self.0.topic
    }
}

impl InLevels for &str {
    fn topic(&self) -> &str {
        self
    }
}

impl<'a> Borrow<dyn InLevels + 'a> for ByTopic {
    fn borrow(&self) -> &(dyn InLevels + 'a) {
        self
    }
}

impl Ord for dyn InLevels + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.topic(), other.topic())
    }
}

impl PartialOrd for dyn InLevels + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn InLevels + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }
}

impl Eq for dyn InLevels + '_ {}

impl Ord for ByTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0.topic, &other.0.topic)
    }
}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic == other.0.topic
    }
}

impl Eq for ByTopic {}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let at = common(a, b);
    let weight = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    match (a.get(at), b.get(at)) {
        (Some(x), Some(y)) => weight(x).cmp(&weight(y)),
        _ => a.len().cmp(&b.len()),
    }
}

/// How many bytes are the same at the front of both: topics side by side have most in common, so
/// eight are looked at together.
fn common(a: &[u8], b: &[u8]) -> usize {
    let equal = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let whole = equal.take_while(|(x, y)| x == y).count() * 8;
    let rest = a[whole..].iter().zip(&b[whole..]);
    whole + rest.take_while(|(x, y)| x == y).count()
}
