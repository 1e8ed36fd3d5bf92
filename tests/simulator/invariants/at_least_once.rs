//! QoS 1 comes only to whom it is owed; that it comes is judged with everything that is owed.

use ledgermq_core::packet::QoS;

use crate::invariants::{Facts, Invariant, life_of};
use crate::seen::Seen;

#[derive(Default)]
pub(crate) struct AtLeastOnce;

impl Invariant for AtLeastOnce {
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String> {
        let Seen::Received(receipt) = seen else { return Ok(()) };
        if receipt.qos != QoS::AtLeastOnce || receipt.uid == 0 {
            return Ok(());
        }
        if facts.book.get(receipt.uid).is_shared() {
            return Ok(());
        }
        let life = life_of(receipt.conn, facts)?;
        let counts = facts.oracle.lives[life].counts.get(&receipt.uid);
        if counts.is_none_or(|counts| counts[QoS::AtLeastOnce as usize] == 0) {
            return Err(format!(
                "client {} took m{} by QoS 1, which it was not owed",
                receipt.client, receipt.uid
            ));
        }
        Ok(())
    }
}
