//! `$CONTROL`: what clients ask of the server itself. It is no event, and the answers are none.

use ledgermq_core::offset::Timestamp;

use crate::shard::table::Token;
use crate::shard::{Shard, SysValue};

/// What a client asks. Whether it may was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Whose connection it came from.
    pub token: Token,
    /// Topic Name, which begins with `$CONTROL/`.
    pub topic: Box<str>,
    /// What it asks.
    pub payload: Box<[u8]>,
}

impl Shard {
    /// Moves what was asked into `out`: not more than came in one turn.
    pub fn take_controls(&mut self, out: &mut Vec<Control>) {
        out.append(&mut self.controls);
    }

    /// Sends an answer at QoS 0 to those that subscribed to its topic, or to one connection only.
    /// Nobody gets what the access rules keep from them.
    pub fn on_control_answer(&mut self, now: Timestamp, to: Option<Token>, answer: &SysValue) {
        match to {
            Some(token) => self.send_sys(now, token, answer, false, &[]),
            None => self.route_sys(now, answer),
        }
    }
}
