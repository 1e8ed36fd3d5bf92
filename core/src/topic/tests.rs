use super::*;

/// `[MQTT-4.7.0-1]` `[MQTT-4.7.3-1]` `[MQTT311-4.7.1-1]` `[MQTT311-4.7.3-1]` `[MQTT311-4.7.3-2]`
/// `[MQTT311-4.7.3-3]`
#[test]
fn topic_names_are_checked() {
    assert_eq!(check_name(""), Err(TopicError::Empty));
    assert_eq!(check_name("a/+"), Err(TopicError::Wildcard)); // [MQTT-3.3.2-2]
    assert_eq!(check_name("#"), Err(TopicError::Wildcard));
    assert_eq!(check_name("a\0b"), Err(TopicError::Null)); // [MQTT-4.7.3-2]
    assert_eq!(check_name(&"a".repeat(65_536)), Err(TopicError::TooLong)); // [MQTT-4.7.3-3]
    for good in ["/", "a", "a//b", " ", "$SYS/a", "ä/😀", &"a".repeat(65_535)] {
        assert_eq!(check_name(good), Ok(()), "{good:?}");
    }
}

/// `[MQTT-4.7.3-3]` `[MQTT311-4.7.1-2]` `[MQTT311-4.7.1-3]` `[MQTT311-4.7.3-1]` `[MQTT311-4.7.3-2]`
/// `[MQTT311-4.7.3-3]`
#[test]
fn topic_filters_are_checked() {
    for good in [
        "#",
        "+",
        "/",
        "a/#",
        "+/+",
        "/+",
        "a/+/#",
        "$SYS/#",
        "$share/g/a/+",
        "$share/g/#",
        "$share/g//",
        "$sharex/g",
        "$shared",
        "a/$share",
    ] {
        assert!(TopicFilter::new(good).is_ok(), "{good:?}");
    }
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2]
    for bad in ["a#", "#/a", "a+", "+a/b", "a/b#", "##", "++", "$share/g/#/a", "$share/g/a+"] {
        assert_eq!(TopicFilter::new(bad), Err(TopicError::MisplacedWildcard), "{bad:?}");
    }
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    for bad in
        ["$share", "$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a"]
    {
        assert_eq!(TopicFilter::new(bad), Err(TopicError::Share), "{bad:?}");
    }
    assert_eq!(TopicFilter::new(""), Err(TopicError::Empty)); // [MQTT-4.7.3-1]
    assert_eq!(TopicFilter::new("a\0"), Err(TopicError::Null)); // [MQTT-4.7.3-2]
    assert_eq!(TopicFilter::new(&"a".repeat(65_536)), Err(TopicError::TooLong));
}

/// `[MQTT311-4.7.2-1]` `[MQTT311-4.7.3-4]`
#[test]
fn filters_match_as_the_specification_says() {
    let check = |filter: &str, topic: &str, expected: bool| {
        let filter = TopicFilter::new(filter).unwrap();
        assert_eq!(filter.matches(topic), expected, "{filter} {topic}");
    };
    // The examples of section 4.7.1.
    for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking"] {
        check("sport/tennis/player1/#", topic, true);
        check("sport/#", topic, true);
        check("#", topic, true);
    }
    check("sport/#", "sport", true);
    check("sport/tennis/+", "sport/tennis/player1", true);
    check("sport/tennis/+", "sport/tennis/player1/ranking", false);
    check("sport/+", "sport", false);
    check("sport/+", "sport/", true);
    for filter in ["+/+", "/+"] {
        check(filter, "/finance", true);
    }
    check("+", "/finance", false);
    check("a", "a/b", false);
    check("A", "a", false); // [MQTT-4.7.3-4]
    check("a/", "a", false);
    // The same letter in two ways, and two levels that a path would join.
    check("\u{E9}", "e\u{301}", false);
    check("a//b", "a/b", false);
    check("a/./b", "a/b", false);
    // [MQTT-4.7.2-1]
    check("#", "$SYS/a", false);
    check("+/a", "$SYS/a", false);
    check("$SYS/#", "$SYS/a", true);
    check("$SYS/+", "$SYS/a", true);
    check("$share/g/#", "$SYS/a", false);
    check("$share/g/+/b", "a/b", true);
}

#[test]
fn a_shared_subscription_shows_its_parts() {
    let filter = TopicFilter::new("$share/group/a/#").unwrap();
    assert!(filter.is_shared());
    assert_eq!(filter.share_name(), Some("group"));
    assert_eq!(filter.pattern(), "a/#");
    let plain = TopicFilter::new("a/#").unwrap();
    assert_eq!((plain.is_shared(), plain.share_name(), plain.pattern()), (false, None, "a/#"));
}

#[test]
fn a_stored_filter_is_checked_again() {
    let bytes = postcard::to_stdvec("a/#/b").unwrap();
    assert!(postcard::from_bytes::<TopicFilter>(&bytes).is_err());
}
