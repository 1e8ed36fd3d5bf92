//! What must hold after every step: one file each.

mod access;
mod acknowledged;
mod at_least_once;
mod derived_once;
mod exactly_once;
mod fold;
mod history;
mod one_leader;
mod one_owner;
mod order;
mod owed;
mod protocol;
mod retained;
mod sessions;
mod shared;
mod takeover;
mod views_equal;
mod wills;

use crate::book::Book;
use crate::client::Client;
use crate::oracle::Oracle;
use crate::seen::Seen;

/// What an invariant may look at.
pub(crate) struct Facts<'a> {
    pub(crate) oracle: &'a Oracle,
    pub(crate) book: &'a Book,
    pub(crate) clients: &'a [Client],
}

/// Something that is always true.
///
/// No invariant assumes that an unknown write is absent: what was not acknowledged may be there.
pub(crate) trait Invariant {
    /// Judges one observation.
    ///
    /// # Errors
    ///
    /// What was broken, in words.
    fn see(&mut self, seen: &Seen, facts: &Facts<'_>) -> Result<(), String>;
}

/// All of them, with their names.
pub(crate) fn all() -> Vec<(&'static str, Box<dyn Invariant>)> {
    vec![
        ("history", Box::new(history::History)),
        ("access", Box::new(access::Access)),
        ("acknowledged", Box::<acknowledged::Acknowledged>::default()),
        ("exactly once", Box::<exactly_once::ExactlyOnce>::default()),
        ("at least once", Box::<at_least_once::AtLeastOnce>::default()),
        ("order", Box::<order::Order>::default()),
        ("owed", Box::<owed::Owed>::default()),
        ("fold", Box::new(fold::Fold)),
        ("views equal", Box::<views_equal::ViewsEqual>::default()),
        ("retained", Box::new(retained::RetainedValue)),
        ("shared", Box::<shared::Shared>::default()),
        ("takeover", Box::new(takeover::Takeover)),
        ("one leader", Box::<one_leader::OneLeader>::default()),
        ("one owner", Box::new(one_owner::OneOwner)),
        ("sessions", Box::new(sessions::Sessions)),
        ("protocol", Box::new(protocol::Protocol)),
        ("wills", Box::new(wills::Wills)),
        ("derived once", Box::<derived_once::DerivedOnce>::default()),
    ]
}

/// The session that `receipt` was received in.
fn life_of(conn: crate::network::ConnId, facts: &Facts<'_>) -> Result<usize, String> {
    facts
        .oracle
        .opened
        .get(&crate::node::peer(conn).to_string())
        .map(|opened| opened.life)
        .ok_or_else(|| format!("connection {conn} was answered, but no session was opened by it"))
}
