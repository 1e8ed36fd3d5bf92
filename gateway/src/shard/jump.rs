//! The thread of a shard breaks: part of the log is not to be had, or the others gave this process up
//! and it begins anew. Its connections end; clients come again, here or elsewhere.

use ledgermq_core::access::Rules;
use ledgermq_core::connection::Ending;
use ledgermq_core::identity::ProducerId;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::reason::ReasonCode;

use crate::shard::shared;
use crate::shard::{Shard, matching};

const SKIPPED: &str = "this node had to skip part of what happened; connect again";
const GIVEN_UP: &str = "the cluster gave this node up for a while; connect again";
const CUT_OFF: &str = "this node has no contact with most of the cluster; connect elsewhere";

impl Shard {
    /// Skips the log up to `to`, which is the index to come next; `rules` are those in force there.
    ///
    /// Nobody knows what of its own lies in between: sessions that were being opened may be there
    /// and may come yet. So no client is to be let in before [`Shard::on_incarnation`].
    pub fn jump(&mut self, now: Timestamp, to: Index, rules: Rules) {
        self.break_off(now, SKIPPED);
        self.settings.rules = rules;
        self.subscriptions = matching::Subscriptions::default();
        self.recent.clear();
        self.reached = Offset::new(to, 0);
        // What was subscribed to meanwhile is known by views that have come as far.
        self.subscribed = to.saturating_sub(1);
    }

    /// The batches of this shard are those of `producer` from here on: what it gave to the log as
    /// another, and was not acknowledged, is void. Everything of it that was left is thrown away.
    pub fn on_incarnation(&mut self, now: Timestamp, producer: ProducerId) {
        self.break_off(now, GIVEN_UP);
        self.stage.clear();
        self.producer = producer;
    }

    /// Ends every connection, since nothing can be acknowledged for a while.
    pub fn end_cut_off(&mut self, now: Timestamp) {
        self.end_told(now, CUT_OFF);
    }

    fn end_told(&mut self, now: Timestamp, text: &'static str) {
        for token in self.table.tokens() {
            self.end(now, token, Ending::Told(ReasonCode::ServerBusy, text));
        }
    }

    /// Ends every connection and waits for nothing that was under way.
    fn break_off(&mut self, now: Timestamp, text: &'static str) {
        self.end_told(now, text);
        for token in std::mem::take(&mut self.stage.opening) {
            let Some(client) = self.table.get_mut(token) else { continue };
            client.is_opening = false;
            if client.link.is_gone {
                self.forget_held(token);
                self.table.remove(token);
            }
        }
        self.early_sessions.clear();
        self.early_retained.clear();
        self.early_shared = shared::Early::default();
        self.asked.clear();
    }
}
