//! The seeds of the fuzz target hold in every test run.

#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../fuzz/src/peers.rs"]
mod peers;

/// Every seed, and every beginning of it.
#[test]
fn frames_of_peers_hold() {
    let seeds = peers::seeds("peer_frame");
    assert!(!seeds.is_empty());
    for (_, bytes) in seeds {
        for end in 0..=bytes.len() {
            peers::peer_frame(&bytes[..end]);
        }
    }
}
