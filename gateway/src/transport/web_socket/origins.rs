//! Which web pages may have a browser connect.

use std::net::IpAddr;
use std::sync::Arc;

/// Says of the `Origin` that a browser sends whether its page may connect. Other clients send none.
///
/// A node that only its own machine reaches is still reached by every page that a browser there
/// shows, and such a node may let in whoever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages from anywhere.
    Any,
    /// Pages that this machine serves, and those named.
    Local(Arc<[String]>),
}

impl Origins {
    /// What holds for a client at `peer`, if `named` is configured; `*` names all.
    #[must_use]
    pub fn of(peer: IpAddr, named: &Arc<[String]>) -> Self {
        let is_any = !peer.to_canonical().is_loopback() || named.iter().any(|name| name == "*");
        if is_any { Self::Any } else { Self::Local(Arc::clone(named)) }
    }

    /// Whether a page of `origin` may connect.
    #[must_use]
    pub fn admit(&self, origin: &[u8]) -> bool {
        let Self::Local(named) = self else { return true };
        let Ok(origin) = str::from_utf8(origin.trim_ascii()) else { return false };
        named.iter().any(|name| name.eq_ignore_ascii_case(origin)) || is_local(origin)
    }
}

/// Whether `scheme://host` or `scheme://host:port` has a host that is this machine.
fn is_local(origin: &str) -> bool {
    let Some((_, place)) = origin.split_once("://") else { return false };
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => place.split(':').next(),
    };
    host.is_some_and(|host| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_this_machine_only_its_own_pages_and_those_named_may_connect() {
        let named: Arc<[String]> = Arc::new(["https://example.org".to_owned()]);
        let local = Origins::of(IpAddr::from([127, 0, 0, 1]), &named);
        for (origin, expected) in [
            ("http://localhost", true),
            ("http://LOCALHOST:3000", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("https://example.org", true),
            ("https://example.org:8443", false),
            ("https://example.com", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(local.admit(origin.as_bytes()), expected, "{origin}");
        }
        assert!(!local.admit(b"http://\xFF"));
    }

    #[test]
    fn from_elsewhere_and_where_all_are_named_every_page_may_connect() {
        let none: Arc<[String]> = Arc::new([]);
        assert_eq!(Origins::of(IpAddr::from([192, 0, 2, 1]), &none), Origins::Any);
        let all: Arc<[String]> = Arc::new(["*".to_owned()]);
        assert_eq!(Origins::of(IpAddr::from([127, 0, 0, 1]), &all), Origins::Any);
        assert!(Origins::Any.admit(b"null"));
    }
}
