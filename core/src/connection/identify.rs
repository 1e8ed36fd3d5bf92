//! Who a client is, and whether it may come in.

use crate::access::{Action, Identity};
use crate::connection::refusal::Refusal;
use crate::connection::{Connection, Outputs, Settings, State};
use crate::event::{Event, SessionOpened};
use crate::packet::Connect;
use crate::reason::ReasonCode;

/// Who may come in, as far as configuration says; each client is judged by it at CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Whether user names are proven by passwords ([`Outputs::authenticate`]).
    pub has_passwords: bool,
    /// Whether a client may come in that proves nothing.
    pub takes_anonymous: bool,
}

/// What a client says of itself.
enum Claim<'a> {
    /// This user, or nobody in particular; `is_proven` if it was shown by a certificate.
    Is { username: Option<&'a str>, is_proven: bool },
    /// A user whose password is to be compared.
    Asks { username: &'a str, password: &'a [u8] },
}

impl Connection {
    /// The client gave its names in `connect`: opens its session, or asks for its password to be
    /// compared first. `opened` is what its `SessionOpened` says but for the user.
    pub(super) fn identify(
        &mut self,
        connect: &Connect<'_>,
        mut opened: SessionOpened,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        let certified = out.identity().map(str::to_owned);
        match claim(connect, certified.as_deref(), settings.authentication) {
            Err(reason) => self.refuse(reason, out),
            Ok(Claim::Is { username, is_proven }) => {
                opened.username = username.map(str::to_owned);
                opened.is_proven = is_proven;
                self.open(opened, settings, out);
            }
            Ok(Claim::Asks { username, password }) => {
                opened.username = Some(username.to_owned());
                self.state = State::Authenticating;
                self.opening = Some(Box::new(opened));
                out.authenticate(username, password);
            }
        }
    }

    /// The answer to [`Outputs::authenticate`]: goes on with CONNECT, or refuses it for `verdict`.
    pub fn on_authenticated(
        &mut self,
        verdict: Result<(), ReasonCode>,
        settings: &Settings,
        out: &mut impl Outputs,
    ) {
        let Some(mut opened) = self.opening.take() else { return };
        if self.state != State::Authenticating {
            return;
        }
        if let Err(reason) = verdict {
            return self.refuse(reason, out);
        }
        // An operator may drain the node meanwhile, or the log fill up.
        if let Some(elsewhere) = &settings.elsewhere {
            return self.send_elsewhere(elsewhere, out);
        }
        if !settings.takes_sessions {
            return self.refuse_connect(settings.shortage, out);
        }
        opened.is_proven = true;
        self.open(*opened, settings, out);
    }

    /// The `SessionOpened` of this connection is void, which the log has decided in its order: it
    /// came late ([`Refusal::Quorum`]), or the session of that Client Identifier belongs to another user
    /// ([`Refusal::NotAuthorized`]).
    pub fn on_opening_void(&mut self, why: Refusal, out: &mut impl Outputs) {
        if self.state == State::Opening {
            self.refuse_connect(why, out);
        }
    }

    fn open(&mut self, opened: SessionOpened, settings: &Settings, out: &mut impl Outputs) {
        self.username = opened.username.as_deref().map(Into::into);
        if let Some(will) = &opened.will
            && !self.may(settings, Action::Publish, &will.topic)
        {
            return self.refuse_connect(Refusal::NotAuthorized, out);
        }
        let is_addition =
            self.session_expiry_interval > 0 && !settings.takes_persistent && !out.has_session();
        if is_addition {
            return self.refuse_connect(Refusal::Sessions, out);
        }
        self.state = State::Opening;
        out.append(Event::SessionOpened(Box::new(opened)));
    }

    /// Whether the rules allow the client `action` with `topic`.
    pub(super) fn may(&mut self, settings: &Settings, action: Action, topic: &str) -> bool {
        let client = self.client.as_deref().unwrap_or_default();
        let identity = Identity { client, username: self.username.as_deref() };
        match action {
            Action::Publish => self.may_publish.decide(&settings.rules, &identity, action, topic),
            Action::Subscribe | Action::Receive => settings.rules.may(&identity, action, topic),
        }
    }

    /// The user that the client is, if it is one.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }
}

fn claim<'a>(
    connect: &Connect<'a>,
    certified: Option<&'a str>,
    authentication: Authentication,
) -> Result<Claim<'a>, ReasonCode> {
    let Authentication { has_passwords, takes_anonymous } = authentication;
    match (certified, connect.username, connect.password) {
        (Some(_), _, _) => Ok(Claim::Is { username: certified, is_proven: true }),
        (None, Some(username), password) if has_passwords => {
            // A user name may come alone: it is then compared with an empty password.
            Ok(Claim::Asks { username, password: password.unwrap_or_default() })
        }
        // MQTT 5 allows a password alone: nobody can tell whose it is.
        (None, None, Some(_)) if has_passwords => Err(ReasonCode::BadUserNameOrPassword),
        (None, username, _) if takes_anonymous => Ok(Claim::Is { username, is_proven: false }),
        (None, _, _) => Err(ReasonCode::NotAuthorized),
    }
}
