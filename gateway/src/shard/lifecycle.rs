//! How connections end: by their transport, by the server, by silence.

use std::time::Duration;

use ledgermq_core::connection::Ending;
use ledgermq_core::event::SessionRef;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::reason::ReasonCode;

use crate::shard::Shard;
use crate::shard::client::Pause;
use crate::shard::table::Token;

/// How long a connection that we end may take to read what was sent before.
const LINGER: Duration = Duration::from_secs(5);
/// A tick that comes so much after the last one says that the process did not run: whatever the
/// clients sent meanwhile is unread. (While there are connections, the wheel ticks every second.)
pub(super) const STALLED: Duration = Duration::from_secs(3);
/// Time after which every connection was read again, once the log is no longer behind.
const READ_AGAIN: Duration = Duration::from_secs(1);

impl Shard {
    /// The transport of `token` was closed or failed.
    pub fn on_transport_closed(&mut self, now: Timestamp, token: Token) {
        self.end(now, token, Ending::TransportLost);
        self.forget(token);
    }

    /// Ends a connection for a reason of the server's.
    pub fn end(&mut self, now: Timestamp, token: Token, ending: Ending) {
        self.turn(now, token, |machine, sink, _| machine.on_ended(ending, sink));
    }

    /// Ends every connection (server shutting down).
    pub fn end_all(&mut self, now: Timestamp, reason: ReasonCode) {
        for token in self.table.tokens() {
            self.end(now, token, Ending::Server(reason));
        }
    }

    /// The wheel returned `token`.
    pub(super) fn on_silence(&mut self, now: Timestamp, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        if client.scheduled.is_none_or(|due| due > now) {
            // An entry from before it was scheduled to be looked at earlier.
            return;
        }
        client.scheduled = None;
        // While we do not read, and until what came meanwhile is read, nobody is silent.
        if client.is_excused() || now.since(self.congested) < READ_AGAIN {
            client.machine.excuse_silence(now);
        }
        match client.deadline(&self.settings) {
            Some(deadline) if deadline > now => self.schedule(token),
            None => {}
            Some(_) if client.link.is_ending => {
                // It had its time to read what we sent.
                self.closed.push(token);
                self.forget(token);
            }
            Some(_) => {
                self.stats.silent += 1;
                self.end(now, token, Ending::Server(ReasonCode::KeepAliveTimeout));
            }
        }
    }

    /// Sees to it that the wheel returns `token` at its deadline, if not earlier.
    pub(super) fn schedule(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        let Some(deadline) = client.deadline(&self.settings) else { return };
        if client.scheduled.is_none_or(|due| due > deadline) {
            client.scheduled = Some(self.wheel.insert(deadline, token));
        }
    }

    /// Gives an ended connection time to read what was sent before.
    pub(super) fn linger(&mut self, now: Timestamp, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        client.link.linger_until = now.plus(LINGER);
        self.detach(token);
        self.schedule(token);
    }

    /// Takes an ended connection out of everything that finds it by its session.
    fn detach(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        client.is_detached = true;
        client.backlog = None;
        client.input = Vec::new();
        self.release(token);
        let Some(client) = self.table.get_mut(token) else { return };
        self.withheld.remove(&token);
        if client.pause == Some(Pause::Throttled) {
            self.throttled.retain(|(_, held)| *held != token);
        }
        let subscriptions = std::mem::take(&mut client.subscriptions);
        client.count_subscriptions();
        for subscription in subscriptions {
            self.subscriptions.remove(&subscription.filter, token);
        }
        self.weigh_held(token);
        let Some(client) = self.table.get(token) else { return };
        let Some(SessionRef { client, epoch }) = client.link.session.clone() else { return };
        self.by_epoch.remove(&epoch);
        if self.by_client.get(&client) == Some(&token) {
            self.by_client.remove(&client);
        }
    }

    /// Frees the place of `token`, whose transport is closed. One whose opening is on its way is
    /// kept until that is committed and can be closed.
    pub fn forget(&mut self, token: Token) {
        let Some(client) = self.table.get_mut(token) else { return };
        client.link.is_ending = true;
        client.link.is_gone = true;
        self.count_unfinished(token);
        self.detach(token);
        if self.table.get(token).is_some_and(|client| !client.is_opening) {
            self.forget_held(token);
            self.table.remove(token);
        }
    }
}
