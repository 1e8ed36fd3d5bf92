//! Finds keys that no section knows, and names the nearest one that exists.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A key of a file that no section knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownKey {
    /// Dotted path as written.
    pub(super) key: String,
    /// Place in the file's text, in bytes.
    pub(super) at: usize,
}

/// The first key of `written`, in the order of their names, that `known` does not have.
///
/// `known` holds every key once; an array of tables holds one table with all keys of its elements.
pub(super) fn find(written: &DeTable<'_>, known: &Table) -> Option<UnknownKey> {
    find_below("", written, known)
}

fn find_below(path: &str, written: &DeTable<'_>, known: &Table) -> Option<UnknownKey> {
    written.iter().find_map(|(key, value)| {
        let path = join(path, key.get_ref());
        let Some(known) = known.get(key.get_ref().as_ref()) else {
            return Some(UnknownKey { key: path, at: key.span().start });
        };
        match (value.get_ref(), known) {
            (DeValue::Table(written), Value::Table(known)) => find_below(&path, written, known),
            (DeValue::Array(written), Value::Array(known)) => {
                let known = known.first()?.as_table()?;
                let tables = written.iter().filter_map(|item| item.get_ref().as_table());
                tables.fold(None, |found, item| found.or_else(|| find_below(&path, item, known)))
            }
            _ => None,
        }
    })
}

/// The known key that `key` was most likely meant to be.
pub(super) fn nearest(key: &str, known: &Table) -> Option<String> {
    let mut keys = Vec::new();
    all_keys("", known, &mut keys);
    let distance = |candidate: &String| {
        let (parent, name) = split(key);
        let (candidate_parent, candidate_name) = split(candidate);
        // The name counts more than the section: a right name in a wrong section is common.
        strsim::damerau_levenshtein(name, candidate_name) * 4
            + strsim::damerau_levenshtein(parent, candidate_parent).min(8)
    };
    keys.into_iter().min_by_key(distance)
}

fn all_keys(path: &str, table: &Table, keys: &mut Vec<String>) {
    for (key, value) in table {
        let path = join(path, key);
        match value {
            Value::Table(table) => all_keys(&path, table, keys),
            Value::Array(items) => {
                keys.push(path.clone());
                if let Some(Value::Table(table)) = items.first() {
                    all_keys(&path, table, keys);
                }
                continue;
            }
            _ => {}
        }
        keys.push(path);
    }
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

pub(super) fn join(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}
