//! The seeds of the fuzz targets hold in every test run.

#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../fuzz/src/passwords.rs"]
mod passwords;
#[expect(unreachable_pub, reason = "shared with the fuzz crate")]
#[path = "../../fuzz/src/transport.rs"]
mod transport;

#[test]
fn frames_hold() {
    check(transport::seeds("websocket"), transport::websocket);
}

#[test]
fn proxy_headers_hold() {
    check(transport::seeds("proxy"), transport::proxy);
}

#[test]
fn password_files_hold() {
    check(passwords::seeds("password_file"), passwords::password_file);
}

/// Every seed, and every beginning of it.
fn check(seeds: Vec<(String, Vec<u8>)>, check: fn(&[u8])) {
    assert!(!seeds.is_empty());
    for (_, bytes) in seeds {
        for end in 0..=bytes.len() {
            check(&bytes[..end]);
        }
    }
}
