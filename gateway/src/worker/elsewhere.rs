//! A node that is drained sends new clients to others.

use std::sync::Arc;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;
use ledgermq_log::Log;

/// How often to look which other nodes take clients.
const INTERVAL: Duration = Duration::from_secs(1);
/// Addresses in one Server Reference, at most.
const ADDRESSES_MAX: usize = 8;

/// Where new clients are sent, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    reference: Option<Arc<str>>,
    due: Timestamp,
}

impl Elsewhere {
    /// Looks at the moment; none while this node takes clients itself.
    pub(super) fn look(&mut self, now: Timestamp, log: &Log) -> Option<Arc<str>> {
        if !log.is_draining() {
            self.reference = None;
        } else if self.reference.is_none() || now >= self.due {
            self.due = now.plus(INTERVAL);
            self.reference = Some(reference(&log.mqtt_elsewhere()));
        }
        self.reference.clone()
    }
}

/// MQTT 5 section 4.11: a list with spaces between.
fn reference(addresses: &[String]) -> Arc<str> {
    addresses[..addresses.len().min(ADDRESSES_MAX)].join(" ").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_reference_is_a_list_with_spaces_between_and_has_an_end() {
        assert_eq!(&*reference(&[]), "");
        assert_eq!(&*reference(&["a:1883".into(), "[::1]:1883".into()]), "a:1883 [::1]:1883");
        let many: Vec<String> = (0..20).map(|node| format!("n{node}:1883")).collect();
        assert_eq!(reference(&many).split(' ').count(), ADDRESSES_MAX);
    }
}
