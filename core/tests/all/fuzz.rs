//! The seeds of the fuzz targets hold in every test run.

#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../../fuzz/src/checks.rs"]
mod checks;
#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../../fuzz/src/seeds.rs"]
mod seeds;

#[test]
fn packets_hold() {
    check("packet_decode", checks::packet_decode);
}

#[test]
fn batches_hold() {
    check("event_batch", checks::event_batch);
}

#[test]
fn topics_hold() {
    check("topic_filter", checks::topic_filter);
}

#[test]
fn access_rules_hold() {
    check("acl_file", checks::acl_file);
}

/// Every seed, and every beginning of it.
fn check(target: &str, check: fn(&[u8])) {
    let seeds = seeds::of(target);
    assert!(!seeds.is_empty());
    for (_, bytes) in seeds {
        for end in 0..=bytes.len() {
            check(&bytes[..end]);
        }
    }
}
