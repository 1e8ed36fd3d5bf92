//! What a connection machine gives back, and what it is configured with.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Rules;
use crate::connection::{Authentication, PublishRate, Refusal, Request};
use crate::event::{Event, MessagePublished};
use crate::identity::ClientId;
use crate::packet::Packet;
use crate::topic::TopicFilter;

/// Takes what a connection machine decides. The worker writes it straight into the connection's
/// write buffer and the batch under construction; tests write it down.
pub trait Outputs {
    /// Sends `packet` to the client.
    fn send(&mut self, packet: &Packet<'_>);
    /// Appends a published message for the connection's session.
    fn publish(&mut self, message: &MessagePublished<'_>);
    /// Asks the server itself something: a message to `$CONTROL/...`, which is no event and goes to
    /// nobody else.
    fn control(&mut self, topic: &str, payload: &[u8]);
    /// Appends an event for the connection's session (none for `SessionOpened`).
    fn append(&mut self, event: Event);
    /// Number of subscriptions that the session has.
    fn subscriptions(&self) -> usize;
    /// How many of them are Shared Subscriptions.
    fn shared_subscriptions(&self) -> usize;
    /// What their Topic Filters count ([`crate::topic::filter_bytes`]).
    fn subscription_bytes(&self) -> usize;
    /// Whether the session has a subscription to `filter`.
    fn is_subscribed(&self, filter: &TopicFilter) -> bool;
    /// Whether as many messages wait for the client as may: it cannot ask for retained ones now.
    fn is_unread(&self) -> bool;
    /// Whether `topic`, that of the message or will at hand, has a retained message. Asked only
    /// while [`Settings::takes_retained`] is false.
    fn is_retained(&self, topic: &str) -> bool;
    /// Whether the client has a session that outlives its connection. Asked only while
    /// [`Settings::takes_persistent`] is false.
    fn has_session(&self) -> bool;
    /// Notes that what the client asked for is not done, and why.
    fn refused(&mut self, request: Request, refusal: Refusal);
    /// Has a user's password compared; answered by [`crate::connection::Connection::on_authenticated`].
    fn authenticate(&mut self, username: &str, password: &[u8]);
    /// Ends the Network Connection once what was sent before is out.
    fn close(&mut self);
    /// Address of the client, for the record.
    fn peer(&self) -> String;
    /// Who the client has proved to be before its CONNECT, by its certificate: its user name.
    fn identity(&self) -> Option<&str>;
    /// A Client Identifier that nobody else has.
    fn assign_client_id(&mut self) -> ClientId;
}

/// What the machine needs to know of the configuration and of the moment. Shared by all connections
/// of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Node that holds the connections.
    pub node: u64,
    /// Time from the Network Connection to CONNECT.
    pub connect_timeout: Duration,
    /// Keep Alive that the server imposes, in seconds; 0 leaves the client's.
    pub server_keep_alive: u16,
    /// Largest packet taken from a client, in bytes.
    pub packet_bytes_max: u32,
    /// Most levels of a Topic Name or Filter.
    pub topic_levels_max: usize,
    /// QoS 1 and 2 messages that a client may have under way to us (what CONNACK says).
    pub receive_maximum: u16,
    /// The most that a client gets before it answers, whatever Receive Maximum it names.
    pub inflight_out: u16,
    /// Topic Aliases that a client may use, and that it is given if it takes them; 0 is none.
    pub topic_aliases: u16,
    /// Most subscriptions of a session.
    pub subscriptions_max: usize,
    /// Most Shared Subscriptions among them.
    pub shared_subscriptions_max: usize,
    /// The most that their Topic Filters count.
    pub subscription_bytes_max: usize,
    /// How fast a client may publish.
    pub publish_rate: PublishRate,
    /// Most User Properties of a packet.
    pub user_properties_max: usize,
    /// What CONNACK gives a client that asks for Response Information, `%c` being its Client
    /// Identifier; empty is nothing.
    pub response_information: Arc<str>,
    /// Whether a client is not told that the access rules are what refuses a subscription or a
    /// message.
    pub conceals_rules: bool,
    /// Who may come in.
    pub authentication: Authentication,
    /// The access rules in force.
    pub rules: Rules,
    /// Where new clients are sent instead of being let in, as a Server Reference says it; empty if
    /// no place is known. None lets them in.
    pub elsewhere: Option<Arc<str>>,
    /// Whether messages are taken just now.
    pub takes_publishes: bool,
    /// Whether new sessions and subscriptions are taken just now.
    pub takes_sessions: bool,
    /// Why not, where they are not.
    pub shortage: Refusal,
    /// Whether a session that outlives its connection may be added just now.
    pub takes_persistent: bool,
    /// Whether a retained message of a new topic may be added just now.
    pub takes_retained: bool,
}
