//! Topic Names, Topic Filters and matching (MQTT 5 section 4.7).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

pub mod memory;
pub mod tree;

#[cfg(test)]
mod tests;

/// Bytes that a Topic Name or Topic Filter has at most. `[MQTT-4.7.3-3]`
pub const TOPIC_BYTES_MAX: usize = 65_535;

const SHARE: &str = "$share/";

/// Why a text is no Topic Name or Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// At least one character is needed. `[MQTT-4.7.3-1]`
    #[error("a topic has at least one character")]
    Empty,
    /// Over 65,535 bytes. `[MQTT-4.7.3-3]`
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    /// A Topic Name holds no wildcard. `[MQTT-3.3.2-2]`
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
    check_length(topic)?;
    // Without an early exit the compiler looks at many bytes at once.
    let suspect = topic.bytes().fold(false, |bad, byte| bad | matches!(byte, b'+' | b'#' | 0));
    if !suspect {
        return Ok(());
    }
    if topic.contains('\0') {
        return Err(TopicError::Null);
    }
    Err(TopicError::Wildcard)
}

/// Whether no client speaks in `topic`, a Topic Name: only the server does, or (`$share`) it means
/// something in Topic Filters alone.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
        && ["$SYS", "$CONTROL", "$replay", "$share"]
            .contains(&topic.split('/').next().unwrap_or_default())
}

/// Whether a message to `topic`, a Topic Name, asks the server itself something.
#[must_use]
pub fn is_control(topic: &str) -> bool {
    topic.starts_with("$CONTROL/")
}

/// What a subscription to `filter` counts where the bytes of filters are bounded: its length, and 32
/// for each level, which is a node of the trees that match messages.
#[must_use]
pub fn filter_bytes(filter: &TopicFilter) -> usize {
    const LEVEL_BYTES: usize = 32;
    filter.0.len() + LEVEL_BYTES * levels(&filter.0)
}

/// Number of levels of a Topic Name or Filter.
#[must_use]
pub fn levels(topic: &str) -> usize {
    topic.bytes().filter(|byte| *byte == b'/').count() + 1
}

/// What the valid Topic Filter `filter` matches Topic Names by: the FILTER of a Shared
/// Subscription, else the whole.
#[must_use]
pub fn pattern(filter: &str) -> &str {
    split_share(filter).ok().flatten().map_or(filter, |(_, pattern)| pattern)
}

/// A valid Topic Filter; cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `filter`.
    ///
    /// # Errors
    ///
    /// See [`TopicError`].
    pub fn new(filter: &str) -> Result<Self, TopicError> {
        check_filter(filter)?;
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
        self.0.starts_with(SHARE)
    }

    /// The Share Name of a Shared Subscription.
    #[must_use]
    pub fn share_name(&self) -> Option<&str> {
        split_share(&self.0).ok().flatten().map(|(name, _)| name)
    }

    /// What Topic Names are matched against: the FILTER of a Shared Subscription, else the whole.
    #[must_use]
    pub fn pattern(&self) -> &str {
        pattern(&self.0)
    }

    /// Whether the Topic Name `topic` matches. A Shared Subscription matches by its FILTER.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let pattern = self.pattern();
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in pattern.split('/') {
            if wanted == "#" {
                return true; // also the parent level [MQTT-4.7.1-2]
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                Some(_) | None => return false,
            }
        }
        levels.next().is_none()
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

impl<'de> Deserialize<'de> for TopicFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        check_filter(&text).map_err(serde::de::Error::custom)?;
        Ok(Self(text))
    }
}

fn check_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=TOPIC_BYTES_MAX => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

fn check_filter(filter: &str) -> Result<(), TopicError> {
    check_length(filter)?;
    if filter.contains('\0') {
        return Err(TopicError::Null);
    }
    match split_share(filter)? {
        // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        Some((name, _)) if name.is_empty() || name.contains(['+', '#']) => Err(TopicError::Share),
        Some((_, pattern)) => check_wildcards(pattern),
        None => check_wildcards(filter),
    }
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let is_right = match level {
            "+" => true,
            "#" => is_last,
            text => !text.contains(['+', '#']),
        };
        if !is_right {
            return Err(TopicError::MisplacedWildcard);
        }
    }
    Ok(())
}

/// Share Name and FILTER, if `filter` begins with `$share/`.
fn split_share(filter: &str) -> Result<Option<(&str, &str)>, TopicError> {
    let Some(rest) = filter.strip_prefix(SHARE) else {
        // "$share" alone can only be a Shared Subscription that lacks its parts. [MQTT-4.8.2-1]
        return if filter == "$share" { Err(TopicError::Share) } else { Ok(None) };
    };
    match rest.split_once('/') {
        Some((_, "")) | None => Err(TopicError::Share),
        Some(parts) => Ok(Some(parts)),
    }
}
