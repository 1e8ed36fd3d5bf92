//! Who may come in, and who may receive what.

use std::net::SocketAddr;

use ledgermq_core::access::{Action, Identity, RuleList, Rules};
use ledgermq_core::connection::State;
use ledgermq_core::offset::Timestamp;
use ledgermq_core::reason::ReasonCode;

use crate::shard::client::Client;
use crate::shard::matching::Matches;
use crate::shard::table::Token;
use crate::shard::{Shard, Sources};

/// A password that is to be compared; the answer is [`Shard::on_authenticated`].
pub struct Asked {
    /// Whose connection waits.
    pub token: Token,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// User Name.
    pub username: Box<str>,
    /// Password.
    pub password: Box<[u8]>,
}

impl std::fmt::Debug for Asked {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Shard {
    /// Moves the passwords that are to be compared into `out`.
    pub fn take_asked(&mut self, out: &mut Vec<Asked>) {
        out.append(&mut self.asked);
    }

    /// The password of `token` was compared, or cannot be: goes on with its CONNECT.
    pub fn on_authenticated(
        &mut self,
        now: Timestamp,
        token: Token,
        verdict: Result<(), ReasonCode>,
        sources: &mut impl Sources,
    ) {
        let Some(client) = self.table.get(token) else { return };
        let name = client.machine.client().cloned();
        if let Some(name) = name.filter(|_| verdict.is_ok()) {
            self.weigh_session(&name, sources);
            self.flush_before_takeover(now, &name);
        }
        if let Err(reason) = verdict {
            self.stats.refused_connects += 1;
            self.stats.refused_busy += u64::from(reason == ReasonCode::ServerBusy);
        }
        self.turn(now, token, |machine, sink, settings| {
            machine.on_authenticated(verdict, settings, sink);
        });
        if let Some(client) = self.table.get_mut(token) {
            client.is_opening |= client.machine.state() == State::Opening;
        }
    }

    /// The connections that a message to `topic` is for.
    pub(super) fn matches(&mut self, topic: &str) -> Matches {
        let Self { table, settings, subscriptions, .. } = self;
        subscriptions.matches(topic, |token| {
            let client = table.get(token);
            client.is_some_and(|client| client.may_receive(&settings.rules, topic))
        })
    }

    /// From here on other rules decide, for every message behind this place in the log.
    pub(super) fn on_rules_replaced(&mut self, rules: Option<&RuleList>) {
        self.settings.rules = Rules::new(rules);
        self.subscriptions.forget();
    }
}

impl Client {
    /// Whether it may receive messages of `topic`.
    pub(crate) fn may_receive(&self, rules: &Rules, topic: &str) -> bool {
        let client = self.machine.client().map_or("", |client| client.as_str());
        let identity = Identity { client, username: self.machine.username() };
        rules.may(&identity, Action::Receive, topic)
    }
}
