//! The seeds of the fuzz targets hold in every test run.

#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../fuzz/src/transport.rs"]
mod transport;

#[test]
fn frames_hold() {
    check("websocket", transport::websocket);
}

#[test]
fn proxy_headers_hold() {
    check("proxy", transport::proxy);
}

/// Every seed, and every beginning of it.
fn check(target: &str, check: fn(&[u8])) {
    let seeds = transport::seeds(target);
    assert!(!seeds.is_empty());
    for (_, bytes) in seeds {
        for end in 0..=bytes.len() {
            check(&bytes[..end]);
        }
    }
}
