//! Which topic to look at next, when topics in their order are looked through for a filter.

/// What a filter has to do with a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seek {
    /// It matches, and so may the next.
    Found,
    /// It matches, and so do those behind it that begin with as many of its bytes. [MQTT-4.7.2-1]
    /// holds for those of which nothing is said.
    FoundWithAllBelow(usize),
    /// It matches; the next that may is there, or behind.
    FoundAndOn(Option<String>),
    /// It does not match; the next that may is there, or behind.
    On(Option<String>),
}

/// Compares `filter` with `topic` level by level. None of the topics between it and the place that is
/// named matches, so that few are looked at that do not, and none is looked at twice. It neither
/// recurses nor keeps a stack, since both may have tens of thousands of levels.
pub(super) fn seek(filter: &str, topic: &str) -> Seek {
    // [MQTT-4.7.2-1]: a wildcard in front matches no topic that begins with '$'.
    if filter.starts_with(['+', '#']) && topic.starts_with('$') {
        return Seek::On(Some("%".to_owned()));
    }
    let mut wanted = filter.split('/');
    // Bytes of the topic up to the level in hand, and up to the end of the last that '+' stood for: what
    // else may match is behind all that is below that.
    let (mut at, mut any) = (0, None);
    loop {
        let level = topic[at..].find('/').map_or(&topic[at..], |length| &topic[at..at + length]);
        let end = at + level.len();
        match wanted.next() {
            Some("#") => return Seek::FoundWithAllBelow(at),
            Some("+") => any = Some(end),
            Some(literal) if literal > level => {
                return Seek::On(Some(format!("{}{literal}", &topic[..at])));
            }
            Some(literal) if literal < level => return Seek::On(behind(topic, any)),
            Some(_) => {}
            None => return Seek::On(behind(topic, any)),
        }
        if end == topic.len() {
            return match wanted.next() {
                None => Seek::FoundAndOn(behind(topic, any)),
                // What '#' stands behind matches, too. [MQTT-4.7.1-2]
                Some("#") => Seek::Found,
                Some("+") => Seek::On(Some(format!("{topic}/"))),
                Some(literal) => Seek::On(Some(format!("{topic}/{literal}"))),
            };
        }
        at = end + 1;
    }
}

/// The first text, in the order of the topics, behind the first `any` bytes of `topic` and everything
/// below them.
fn behind(topic: &str, any: Option<usize>) -> Option<String> {
    any.map(|end| format!("{}\u{1}", &topic[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(text: &str) -> Seek {
        Seek::On(Some(text.to_owned()))
    }

    #[test]
    fn a_topic_that_does_not_match_says_where_to_look_next() {
        assert_eq!(seek("a/#", "a"), Seek::Found);
        assert_eq!(seek("a/#", "a/b/c"), Seek::FoundWithAllBelow(2));
        assert_eq!(seek("#", "a/b/c"), Seek::FoundWithAllBelow(0));
        assert_eq!(seek("+/#", "a/b/c"), Seek::FoundWithAllBelow(2));
        assert_eq!(seek("a/#", "aa"), Seek::On(None));
        assert_eq!(seek("a/b", "a/b"), Seek::FoundAndOn(None));
        assert_eq!(seek("+/b", "a/b"), Seek::FoundAndOn(Some("a\u{1}".to_owned())));
        assert_eq!(seek("+/b", "a"), on("a/b"));
        assert_eq!(seek("+/b", "a/a/x"), on("a/b"));
        assert_eq!(seek("+/b", "a/c"), on("a\u{1}"));
        assert_eq!(seek("+/+", "a"), on("a/"));
        assert_eq!(seek("+/+", "a/b/c"), on("a/b\u{1}"));
        assert_eq!(seek("+/b/+/c", "a/b/x/d"), on("a/b/x\u{1}"));
        assert_eq!(seek("+", "$SYS"), on("%"));
        assert_eq!(seek("$SYS/#", "$SYS"), Seek::Found);
    }
}
