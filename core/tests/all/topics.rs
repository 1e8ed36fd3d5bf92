//! The trie against the naive matcher.

use std::collections::BTreeMap;

use ledgermq_core::topic::TopicFilter;
use ledgermq_core::topic::tree::FilterTree;
use proptest::collection::vec;
use proptest::prelude::*;

use super::generate;

/// Matching by the text of section 4.7, with nothing shared with the crate.
fn naive(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            (*wanted == "+" || wanted == level) && naive(filter, topic)
        }
        (_, []) | ([], _) => false,
    }
}

fn naive_matches(filter: &str, topic: &str) -> bool {
    let filter = filter.strip_prefix("$share/g/").unwrap_or(filter);
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    naive(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

proptest! {
    /// `[MQTT-4.7.2-1]` `[MQTT311-4.7.2-1]`
    #[test]
    fn a_filter_matches_as_the_naive_matcher(
        filter in generate::topic_filter(),
        topic in generate::topic_name(),
    ) {
        let matches = TopicFilter::new(filter).unwrap().matches(topic);
        prop_assert_eq!(matches, naive_matches(filter, topic));
    }

    #[test]
    fn the_tree_finds_what_its_filters_match(
        steps in vec((generate::topic_filter(), 0_u8..4, any::<u16>(), prop::bool::weighted(0.3)), 0..60),
        topics in vec(generate::topic_name(), 1..10),
    ) {
        let mut tree = FilterTree::default();
        let mut model = BTreeMap::new();
        for (text, key, value, remove) in steps {
            let filter = TopicFilter::new(text).unwrap();
            let place = (filter.pattern().to_owned(), key);
            if remove {
                prop_assert_eq!(tree.remove(&filter, &key), model.remove(&place));
            } else {
                prop_assert_eq!(tree.insert(&filter, key, value), model.insert(place.clone(), value));
            }
            prop_assert_eq!(tree.get(&filter, &key), model.get(&place));
            prop_assert_eq!(tree.len(), model.len());
        }
        for topic in topics {
            let mut found = Vec::new();
            tree.for_each_match(topic, |key, value| found.push((*key, *value)));
            found.sort_unstable();
            let mut expected: Vec<_> = model
                .iter()
                .filter(|((filter, _), _)| naive_matches(filter, topic))
                .map(|((_, key), value)| (*key, *value))
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected, "{}", topic);
        }
        for ((filter, key), value) in model {
            prop_assert_eq!(tree.remove(&TopicFilter::new(&filter).unwrap(), &key), Some(value));
        }
        prop_assert!(tree.is_empty());
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in any::<String>()) {
        if let Ok(filter) = TopicFilter::new(&text) {
            prop_assert_eq!(filter.as_str(), &text);
            let _ = filter.matches(&text);
        }
    }
}
