//! The text of an `acl_file`, in Mosquitto's syntax.

use crate::access::{Access, RuleList, Subject};
use crate::topic::{TopicError, TopicFilter};

/// Bytes that an `acl_file` has at most: its rules are one event.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Characters of a line that an error repeats.
const TEXT_MAX: usize = 80;

/// Why a text is no list of access rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {text:?}: {fault}")]
pub struct AclError {
    /// Line, from 1.
    pub line: usize,
    /// The line, or its beginning.
    pub text: String,
    /// What is wrong, and what to do.
    pub fault: AclFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclFault {
    /// It begins with none of the four keywords.
    #[error("a line begins with 'user', 'topic', 'pattern' or '#'; correct or remove it")]
    Keyword,
    /// `user` alone.
    #[error("the user name is missing; say 'user NAME'")]
    NoName,
    /// `topic` or `pattern` alone.
    #[error("the topic filter is missing; say 'topic [read|write|readwrite|deny] FILTER'")]
    NoFilter,
    /// Two words of which the first is no access.
    #[error(
        "the first word is none of read, write, readwrite and deny; if it belongs to a topic \
         filter with spaces, put 'readwrite' in front of it"
    )]
    Access,
    /// No Topic Filter.
    #[error("{0}; correct the topic filter")]
    Filter(TopicError),
    /// A Shared Subscription.
    #[error("a shared subscription is judged by its FILTER; leave '$share/NAME/' out")]
    Shared,
    /// `%c` or `%u` in a `topic` line.
    #[error("'%c' and '%u' are for 'pattern' lines; say 'pattern' instead of 'topic'")]
    Placeholder,
    /// The file is too large.
    #[error("an acl_file has at most 4 MiB; use patterns instead of many rules")]
    TooLarge,
}

/// Reads an `acl_file`.
///
/// ```text
/// topic [read|write|readwrite|deny] FILTER    for clients without a user name
/// user NAME
/// topic [read|write|readwrite|deny] FILTER    for this user
/// pattern [read|write|readwrite|deny] FILTER  for everyone; %c is the client, %u the user
/// ```
///
/// # Errors
///
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<RuleList, AclError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(error(0, "", AclFault::TooLarge));
    }
    let mut subject = Subject::Nameless;
    let mut rules = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |fault| error(number, line, fault);
        let (keyword, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let rest = rest.trim_start();
        match keyword {
            "user" if rest.is_empty() => return Err(fault(AclFault::NoName)),
            "user" => subject = Subject::User(rest.into()),
            "topic" => {
                let (access, filter) = rule(rest).map_err(fault)?;
                if has_placeholder(&filter) {
                    return Err(fault(AclFault::Placeholder));
                }
                rules.push((subject.clone(), access, filter));
            }
            "pattern" => {
                let (access, filter) = rule(rest).map_err(fault)?;
                rules.push((Subject::Everyone, access, filter));
            }
            _ => return Err(fault(AclFault::Keyword)),
        }
    }
    Ok(rules.into_iter().collect())
}

fn error(line: usize, text: &str, fault: AclFault) -> AclError {
    AclError { line, text: text.chars().take(TEXT_MAX).collect(), fault }
}

/// `[ACCESS] FILTER`. A single word is a filter, whatever it reads.
fn rule(text: &str) -> Result<(Access, TopicFilter), AclFault> {
    let (access, filter) = match text.split_once([' ', '\t']) {
        None if text.is_empty() => return Err(AclFault::NoFilter),
        None => (Access::ReadWrite, text),
        Some((word, filter)) => (access(word).ok_or(AclFault::Access)?, filter.trim_start()),
    };
    let filter = TopicFilter::new(filter).map_err(AclFault::Filter)?;
    if filter.is_shared() {
        return Err(AclFault::Shared);
    }
    Ok((access, filter))
}

fn access(word: &str) -> Option<Access> {
    match word {
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        "readwrite" => Some(Access::ReadWrite),
        "deny" => Some(Access::Deny),
        _ => None,
    }
}

/// Mosquitto takes `%c` in a `topic` line as it is written; whoever writes it means a pattern.
fn has_placeholder(filter: &TopicFilter) -> bool {
    filter.as_str().split('/').any(|level| level == "%c" || level == "%u")
}
