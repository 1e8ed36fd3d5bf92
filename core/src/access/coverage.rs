//! What two Topic Filters match together, and whether others cover it.

use std::iter;

/// A level that no filter can name: a Topic Filter holds no null character.
const UNNAMED: &str = "\0";

/// The filter that matches exactly the topics that both `a` and `b` match; none if there is no
/// such topic.
pub(super) fn intersection(a: &str, b: &str) -> Option<String> {
    // [MQTT-4.7.2-1]: what begins with a wildcard matches no topic that begins with '$'.
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    if (is_wild(a) && b.starts_with('$')) || (is_wild(b) && a.starts_with('$')) {
        return None;
    }
    let mut common = Vec::new();
    let (mut a, mut b) = (a.split('/').peekable(), b.split('/').peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (None, None) => break,
            // '#' stands for whatever the other one has left, also for nothing.
            (Some("#"), _) => {
                common.extend(b);
                break;
            }
            (_, Some("#")) => {
                common.extend(a);
                break;
            }
            (None, Some(_)) | (Some(_), None) => return None,
            (Some(left), Some(right)) => {
                common.push(match (left, right) {
                    ("+", level) | (level, "+") => level,
                    _ if left == right => left,
                    _ => return None,
                });
                a.next();
                b.next();
            }
        }
    }
    Some(common.join("/"))
}

/// Topics that `filter` matches, such that if any topic that it matches escapes a set of filters
/// of at most `levels` levels, one of these does: what they all match, `filter` is covered by.
///
/// A level of a topic that no filter names is matched by wildcards alone, so whatever matches it
/// there matches every level. And beyond the longest of those filters length changes nothing.
pub(super) fn samples(filter: &str, levels: usize) -> impl Iterator<Item = String> {
    let (named, is_open) = match filter.strip_suffix("/#") {
        _ if filter == "#" => (None, true),
        Some(named) => (Some(named), true),
        None => (Some(filter), false),
    };
    let level = |level: &str| if level == "+" { UNNAMED } else { level }.to_owned();
    let named: Vec<String> =
        named.into_iter().flat_map(|named| named.split('/')).map(level).collect();
    let shortest = named.len().max(1);
    let longest = if is_open { shortest.max(levels + 1) } else { shortest };
    (shortest..=longest).map(move |length| {
        let filling = iter::repeat_n(UNNAMED, length - named.len());
        named.iter().map(String::as_str).chain(filling).collect::<Vec<_>>().join("/")
    })
}
