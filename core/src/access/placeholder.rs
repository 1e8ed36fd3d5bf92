//! Patterns: filters in which `%c` and `%u` stand for the client's own names.

use crate::access::{Access, Identity};
use crate::topic::TopicFilter;

/// A rule for everyone.
///
/// A name that holds `+`, `#` or `/` would widen the filter that it is put into (CVE-2017-7650):
/// a pattern that grants does not apply to such a client, and in one that denies, the
/// level that holds the name is any level. Nor can a name make a filter that matches topics which begin with `$`.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) access: Access,
    filter: TopicFilter,
    has_client: bool,
    has_user: bool,
}

impl Pattern {
    pub(super) fn new(access: Access, filter: &TopicFilter) -> Self {
        let has = |placeholder| filter.as_str().contains(placeholder);
        Self { access, filter: filter.clone(), has_client: has("%c"), has_user: has("%u") }
    }

    /// Whether it applies to `identity` and matches the Topic Name `topic`. Allocates nothing.
    pub(super) fn matches(&self, identity: &Identity<'_>, topic: &str) -> bool {
        if !self.has_client && !self.has_user {
            return self.filter.matches(topic);
        }
        let text = self.filter.as_str();
        let is_opened = topic.starts_with('$') && !text.starts_with('$');
        if is_opened || !self.applies(identity) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in text.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || is_filled(wanted, level, identity) => {}
                Some(_) | None => return false,
            }
        }
        levels.next().is_none()
    }

    /// The filter for `identity`, if it applies: it matches what [`Pattern::matches`] says.
    pub(super) fn filled(&self, identity: &Identity<'_>) -> Option<String> {
        if !self.applies(identity) {
            return None;
        }
        let levels = self.filter.as_str().split('/').map(|level| fill(level, identity));
        let filled = levels.collect::<Vec<_>>().join("/");
        let is_opened = filled.starts_with('$') && !self.filter.as_str().starts_with('$');
        (!is_opened).then_some(filled)
    }

    fn applies(&self, identity: &Identity<'_>) -> bool {
        if self.has_user && identity.username.is_none() {
            return false;
        }
        let user = self.has_user && identity.username.is_some_and(widens);
        let client = self.has_client && widens(identity.client);
        self.access == Access::Deny || !(user || client)
    }
}

/// Whether a name would match more than itself.
fn widens(name: &str) -> bool {
    name.contains(['+', '#', '/'])
}

/// Whether `level` of a topic is `wanted` with its placeholders filled; any is, if a name widens.
fn is_filled(wanted: &str, level: &str, identity: &Identity<'_>) -> bool {
    let (mut wanted, mut level, mut is_filled) = (wanted, level, true);
    while let Some(at) = wanted.find('%') {
        let (head, tail) = wanted.split_at(at);
        let (name, length) = placeholder(tail, identity);
        if length > 1 && widens(name) {
            return true;
        }
        match level.strip_prefix(head).and_then(|rest| rest.strip_prefix(name)) {
            Some(rest) => level = rest,
            None => is_filled = false,
        }
        wanted = &tail[length..];
    }
    is_filled && wanted == level
}

/// `level` with its placeholders filled; `+` if a name widens.
fn fill(level: &str, identity: &Identity<'_>) -> String {
    let (mut rest, mut filled) = (level, String::new());
    while let Some(at) = rest.find('%') {
        let (head, tail) = rest.split_at(at);
        let (name, length) = placeholder(tail, identity);
        if length > 1 && widens(name) {
            return "+".to_owned();
        }
        filled.extend([head, name]);
        rest = &tail[length..];
    }
    filled + rest
}

/// What the `%` at the beginning of `text` stands for, and the length of the placeholder.
fn placeholder<'a>(text: &'a str, identity: &Identity<'a>) -> (&'a str, usize) {
    if text.starts_with("%c") {
        (identity.client, 2)
    } else if text.starts_with("%u") {
        (identity.username.unwrap_or_default(), 2)
    } else {
        ("%", 1)
    }
}
