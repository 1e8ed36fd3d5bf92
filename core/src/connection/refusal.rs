//! Why the server does not do what a client asks for.

use crate::connection::outputs::Settings;
use crate::reason::ReasonCode;

/// What a client asked for and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A session.
    Connect,
    /// That a message is published.
    Publish,
    /// A subscription, or the end of one.
    Subscribe,
}

impl Request {
    /// Number of kinds; their values are below it.
    pub const COUNT: usize = 3;
}

/// The rule or limit that stands against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The access rules do not allow it.
    NotAuthorized,
    /// The log takes nothing of the kind just now.
    Storage,
    /// As many messages, or bytes of them, are retained as may be.
    Retained,
    /// The client publishes faster than it may.
    PublishRate,
    /// The packet has more User Properties than it may.
    UserProperties,
    /// The session has as many subscriptions as it may.
    Subscriptions,
    /// The Topic Name or Filter is malformed or has too many levels.
    Topic,
    /// There are as many connections as there may be.
    Connections,
    /// Connections come faster than they may.
    ConnectionRate,
    /// The Client Identifier cannot be used.
    ClientIdentifier,
    /// The Authentication Method is not known.
    AuthenticationMethod,
    /// As much of what the client asked for waits for it as may.
    Unread,
    /// The Topic Filters of the session have as many bytes as they may.
    SubscriptionBytes,
    /// There are as many sessions as there may be.
    Sessions,
    /// One SUBSCRIBE asks for what is retained in too many ways.
    Wildcards,
    /// The node has not enough memory left.
    Memory,
    /// The node is cut off from most of the cluster: nothing would become durable. Only a CONNECT is
    /// answered so; other packets wait.
    Quorum,
    /// An operator drains the node: it takes no new clients.
    Draining,
}

impl Refusal {
    /// All of them, in the order of their values.
    pub const ALL: [Self; 18] = [
        Self::NotAuthorized,
        Self::Storage,
        Self::Retained,
        Self::PublishRate,
        Self::UserProperties,
        Self::Subscriptions,
        Self::Topic,
        Self::Connections,
        Self::ConnectionRate,
        Self::ClientIdentifier,
        Self::AuthenticationMethod,
        Self::Unread,
        Self::SubscriptionBytes,
        Self::Sessions,
        Self::Wildcards,
        Self::Memory,
        Self::Quorum,
        Self::Draining,
    ];

    /// Its name where it is counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not_authorized",
            Self::Storage => "storage",
            Self::Retained => "retained",
            Self::PublishRate => "publish_rate",
            Self::UserProperties => "user_properties",
            Self::Subscriptions => "subscriptions",
            Self::Topic => "topic",
            Self::Connections => "connections",
            Self::ConnectionRate => "connection_rate",
            Self::ClientIdentifier => "client_identifier",
            Self::AuthenticationMethod => "authentication_method",
            Self::Unread => "unread",
            Self::SubscriptionBytes => "subscription_bytes",
            Self::Sessions => "sessions",
            Self::Wildcards => "wildcards",
            Self::Memory => "memory",
            Self::Quorum => "quorum",
            Self::Draining => "draining",
        }
    }

    /// The Reason Code that says it in the answer to `request`.
    #[must_use]
    pub const fn reason(self, request: Request) -> ReasonCode {
        match (self, request) {
            (Self::NotAuthorized, _) => ReasonCode::NotAuthorized,
            (Self::Topic, Request::Subscribe) => ReasonCode::TopicFilterInvalid,
            (Self::Topic, _) => ReasonCode::TopicNameInvalid,
            (Self::ConnectionRate, _) => ReasonCode::ConnectionRateExceeded,
            (Self::ClientIdentifier, _) => ReasonCode::ClientIdentifierNotValid,
            (Self::AuthenticationMethod, _) => ReasonCode::BadAuthenticationMethod,
            // No PUBACK, PUBREC or SUBACK has that code; none of them is to be answered so.
            (Self::Quorum, Request::Connect) => ReasonCode::ServerUnavailable,
            (Self::Draining, Request::Connect) => ReasonCode::UseAnotherServer,
            (Self::Quorum | Self::Draining, _) => ReasonCode::UnspecifiedError,
            (
                Self::Storage
                | Self::Retained
                | Self::PublishRate
                | Self::UserProperties
                | Self::Subscriptions
                | Self::Connections
                | Self::Unread
                | Self::SubscriptionBytes
                | Self::Sessions
                | Self::Wildcards
                | Self::Memory,
                _,
            ) => ReasonCode::QuotaExceeded,
        }
    }

    /// What the client is told: the Reason Code, and what may stand in a Reason String. With
    /// [`Settings::conceals_rules`] what the access rules refuse has an answer that tells nothing of
    /// them (section 3.9.3, Reason Code 0x80).
    #[must_use]
    pub fn told(self, request: Request, settings: &Settings) -> (ReasonCode, Option<&'static str>) {
        if self == Self::NotAuthorized && settings.conceals_rules {
            return (ReasonCode::UnspecifiedError, None);
        }
        (self.reason(request), Some(self.text()))
    }

    /// What the Reason String tells a client that asked for one.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAuthorized => "the access rules do not allow this",
            Self::Storage => "the broker's storage takes nothing of this kind now; try again later",
            Self::Retained => "the broker retains as many messages as it may; clear some",
            Self::PublishRate => "published faster than this client may; send more slowly",
            Self::UserProperties => "more user properties in one packet than are taken",
            Self::Subscriptions => "this session has as many subscriptions as it may",
            Self::Topic => "the topic is malformed or has more levels than are taken",
            Self::Connections => "the broker has as many connections as it may; try again later",
            Self::ConnectionRate => "connections come faster than they may; try again later",
            Self::ClientIdentifier => "this client identifier cannot be used with this CONNECT",
            Self::AuthenticationMethod => "this authentication method is not known here",
            Self::SubscriptionBytes => {
                "the topic filters of this session are as long as they may be"
            }
            Self::Sessions => "the broker keeps as many sessions as it may; end some",
            Self::Wildcards => "wildcards in too many different places; subscribe bit by bit",
            Self::Memory => "the broker is short of memory; try again later",
            Self::Quorum => "this node has no contact with most of the cluster; connect elsewhere",
            Self::Draining => "this node takes no new clients; connect elsewhere",
            Self::Unread => "too much that was asked for before waits to be read; read it first",
        }
    }
}

/// What the Reason String of a DISCONNECT or CONNACK tells a client that asked for one.
pub(super) const fn explain(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::MalformedPacket => "a packet could not be decoded",
        ReasonCode::ProtocolError => "a packet came that the protocol does not allow here",
        ReasonCode::ServerShuttingDown => "the broker stops; connect again later or elsewhere",
        ReasonCode::KeepAliveTimeout => "nothing came for one and a half times the keep alive",
        ReasonCode::SessionTakenOver => "another connection uses this client identifier now",
        ReasonCode::ReceiveMaximumExceeded => "more messages unacknowledged than CONNACK allowed",
        ReasonCode::TopicAliasInvalid => "the topic alias is beyond what CONNACK allowed",
        ReasonCode::PacketTooLarge => "a packet is larger than CONNACK allowed or than is taken",
        ReasonCode::MessageRateTooHigh => "published faster than this client may",
        ReasonCode::TopicNameInvalid => "the topic is malformed or has more levels than are taken",
        ReasonCode::AdministrativeAction => "ended by an operator or a change of the access rules",
        ReasonCode::BadUserNameOrPassword => "the user name or password is wrong",
        ReasonCode::NotAuthorized => "this client may not do this",
        ReasonCode::ServerBusy => "too many clients log in at once; try again later",
        ReasonCode::QuotaExceeded => "a limit of the broker is reached; try again later",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_stands_in_the_order_of_the_values() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
        }
        assert_eq!(Request::Subscribe as usize + 1, Request::COUNT);
    }

    #[test]
    fn every_refusal_is_an_error_of_its_packet() {
        for refusal in Refusal::ALL {
            for request in [Request::Connect, Request::Publish, Request::Subscribe] {
                assert!(refusal.reason(request).is_error());
            }
        }
    }
}
