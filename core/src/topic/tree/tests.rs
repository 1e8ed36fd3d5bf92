use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn matches(tree: &FilterTree<u32, char>, topic: &str) -> String {
    let mut found = String::new();
    tree.for_each_match(topic, |_, value| found.push(*value));
    let mut found: Vec<_> = found.chars().collect();
    found.sort_unstable();
    found.into_iter().collect()
}

#[test]
fn every_matching_filter_is_found_once() {
    let mut tree = FilterTree::default();
    for (value, text) in ('a'..).zip(["a/b", "a/+", "+/b", "+/+", "#", "a/#", "a/b/#", "+", "/"]) {
        assert_eq!(tree.insert(&filter(text), 1, value), None);
    }
    assert_eq!(matches(&tree, "a/b"), "abcdefg");
    assert_eq!(matches(&tree, "a"), "efh");
    assert_eq!(matches(&tree, "/"), "dei");
    assert_eq!(matches(&tree, "x/y/z"), "e");
    assert_eq!(matches(&tree, "$x/b"), "");
}

#[test]
fn one_filter_holds_one_value_of_each_key() {
    let mut tree = FilterTree::default();
    assert_eq!(tree.insert(&filter("a"), 1, 'x'), None);
    assert_eq!(tree.insert(&filter("a"), 2, 'y'), None);
    assert_eq!(tree.insert(&filter("a"), 1, 'z'), Some('x'));
    assert_eq!((tree.len(), matches(&tree, "a")), (2, "yz".into()));
    assert_eq!(tree.get(&filter("a"), &1), Some(&'z'));
    assert_eq!(tree.remove(&filter("a"), &3), None);
    assert_eq!(tree.remove(&filter("a"), &1), Some('z'));
    assert_eq!((tree.len(), matches(&tree, "a")), (1, "y".into()));
}

#[test]
fn what_is_removed_leaves_no_branch() {
    let mut tree = FilterTree::default();
    let texts = ["a/b/c", "a/+/c", "a/#", "+/x/#", "a", &format!("a/{}", "long".repeat(20))];
    for text in texts {
        tree.insert(&filter(text), 1, 'v');
    }
    for text in texts {
        assert_eq!(tree.remove(&filter(text), &1), Some('v'));
    }
    assert!(tree.is_empty() && tree.edges.is_empty() && tree.nodes[0].is_leaf());
    assert_eq!(tree.free.len(), tree.nodes.len() - 1);
    let before = tree.nodes.len();
    tree.insert(&filter("a/b/c"), 1, 'v');
    assert_eq!(tree.nodes.len(), before, "freed nodes are used again");
}

#[test]
fn the_order_does_not_depend_on_the_history() {
    let texts = ["a/b", "a/+", "#", "+/b", "a/#"];
    let order = |texts: &[&str], keys: &[u32]| {
        let mut tree = FilterTree::default();
        for text in texts {
            for key in keys {
                tree.insert(&filter(text), *key, text.len());
            }
        }
        let mut found = Vec::new();
        tree.for_each_match("a/b", |key, value| found.push((*key, *value)));
        found
    };
    let mut reversed = texts;
    reversed.reverse();
    assert_eq!(order(&texts, &[1, 2, 3]), order(&reversed, &[3, 1, 2]));
}

#[test]
fn a_node_is_small() {
    assert!(size_of::<Node<u32, u64>>() <= 64);
}

#[test]
fn the_deepest_topic_is_walked() {
    let topic = "/".repeat(65_535);
    let mut tree = FilterTree::default();
    tree.insert(&filter(&topic), 1, 'a');
    tree.insert(&filter(&format!("{}#", "+/".repeat(30_000))), 1, 'b');
    assert_eq!(matches(&tree, &topic), "ab");
}
