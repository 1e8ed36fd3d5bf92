//! Some fifty lines that say what an `acl_file` means, from the manual; slow and obvious.

use std::collections::BTreeSet;

/// What one client may do: (access, levels of the filter) of each line that applies to it.
pub(super) struct Model(Vec<(String, Vec<String>)>);

impl Model {
    pub(super) fn new(acl: &str, client: &str, username: Option<&str>) -> Self {
        let (mut user, mut rules) = (None, Vec::new());
        for line in acl.lines() {
            let (keyword, rest) = line.split_once(' ').unwrap();
            if keyword == "user" {
                user = Some(rest);
                continue;
            }
            let (access, filter) = rest.split_once(' ').unwrap_or(("readwrite", rest));
            let (mut is_ours, mut levels) = (keyword == "pattern" || user == username, Vec::new());
            for (place, level) in filter.split('/').enumerate() {
                let mut filled = level.to_owned();
                for (sign, name) in [("%c", Some(client)), ("%u", username)] {
                    if keyword == "topic" || !level.contains(sign) {
                        continue;
                    }
                    is_ours &= name.is_some();
                    let name = name.unwrap_or("");
                    let widens = name.contains(['+', '#', '/']);
                    is_ours &= !widens || access == "deny";
                    filled = if widens { "+".into() } else { filled.replace(sign, name) };
                    // It must not become the name of a '$' tree: then it matches nothing.
                    is_ours &= place > 0 || !filled.starts_with('$');
                }
                levels.push(filled);
            }
            if is_ours {
                rules.push((access.to_owned(), levels));
            }
        }
        Self(rules)
    }

    fn says(&self, accesses: &[&str], topic: &str) -> bool {
        let topic: Vec<_> = topic.split('/').collect();
        self.0.iter().any(|(access, filter)| {
            accesses.contains(&access.as_str())
                && matches(&filter.iter().map(String::as_str).collect::<Vec<_>>(), &topic)
        })
    }

    pub(super) fn may_write(&self, topic: &str) -> bool {
        self.says(&["write", "readwrite"], topic) && !self.says(&["deny"], topic)
    }

    pub(super) fn may_read(&self, topic: &str) -> bool {
        self.says(&["read", "readwrite"], topic) && !self.says(&["deny"], topic)
    }

    /// Whether all of these that the filter matches can be read.
    pub(super) fn can_read_all(&self, filter: &str) -> bool {
        !self.any_topic(filter, |topic| !self.may_read(topic))
    }

    /// Whether one of these that the filter matches can be read.
    pub(super) fn could_read(&self, filter: &str) -> bool {
        self.any_topic(filter, |topic| self.may_read(topic))
    }

    /// Whether one of all topics up to four levels, over all names that are used, matches and is so.
    fn any_topic(&self, filter: &str, is_so: impl Fn(&str) -> bool) -> bool {
        let filter: Vec<_> = filter.split('/').collect();
        let used = self.0.iter().flat_map(|(_, levels)| levels.iter().map(String::as_str));
        let names: BTreeSet<_> = used.chain(filter.iter().copied()).chain(["other"]).collect();
        let names: Vec<_> = names.into_iter().filter(|name| !["+", "#"].contains(name)).collect();
        let mut topics: Vec<Vec<&str>> = names.iter().map(|name| vec![*name]).collect();
        for _ in 0..4 {
            let mut longer = Vec::new();
            for topic in topics.into_iter().filter(|topic| could_match(&filter, topic)) {
                if matches(&filter, &topic) && is_so(&topic.join("/")) {
                    return true;
                }
                longer.extend(names.iter().map(|name| [&topic[..], &[*name]].concat()));
            }
            topics = longer;
        }
        false
    }
}

fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["+" | "#", ..], [first, ..]) if first.starts_with('$') => false,
        _ => matches_rest(filter, topic),
    }
}

fn matches_rest(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches_rest(filter, topic),
        ([name, filter @ ..], [level, topic @ ..]) if name == level => matches_rest(filter, topic),
        _ => false,
    }
}

/// Whether a longer topic may match, so that it is worth counting on.
fn could_match(filter: &[&str], topic: &[&str]) -> bool {
    for (wanted, level) in filter.iter().zip(topic) {
        match *wanted {
            "#" => return true,
            "+" => {}
            name if name == *level => {}
            _ => return false,
        }
    }
    topic.len() <= filter.len()
}
