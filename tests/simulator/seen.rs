//! What was seen at the clients' end, for the invariants to judge.

use ledgermq_core::offset::Index;
use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

use crate::book::Uid;
use crate::network::ConnId;
use crate::oracle::Process;

/// One observation.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// CONNACK with success.
    ConnAck { client: usize, conn: ConnId, session_present: bool },
    /// PUBACK or PUBREC with success, for a message with a number; whether it said that nobody
    /// subscribes.
    PubAcked { uid: Uid, is_unheard: bool },
    /// PUBCOMP for a released message of a persistent session.
    PubComp { client: usize },
    /// A filter was granted.
    SubAck { client: usize, filter: &'static str },
    /// A filter was given up.
    UnsubAck { client: usize, filter: &'static str },
    /// A message came.
    Received(Receipt),
    /// A node says that it leads.
    Leads { term: u64, node: u64 },
    /// The node stands again after a crash or a stop.
    Recovered,
    /// The views at an index, told by the node and folded from the beginning.
    Views { applied: u64, node: u64, scratch: u64 },
    /// What a fold of the log is at an index of a batch, on a node; node 0 folds from the beginning.
    State { node: u64, fold: Fold, index: Index, checksum: u64 },
    /// The processes that hold a connection of the client, of those that have read the whole log.
    Holders { client: String, holders: Vec<Process> },
    /// A topic's retained message in the views, at an index that the oracle stands at.
    Retained { topic: &'static str, payload: Option<Vec<u8>> },
    /// A session's filters in the views, at an index that the oracle stands at.
    Session { client: usize, filters: Option<Vec<String>> },
    /// What the views still hold for a client's session when everything had its time: messages owed,
    /// and deliveries under way.
    Waiting { client: usize, owed: usize, outstanding: usize },
    /// What a group is still owed then.
    Group { filter: &'static str, owed: usize },
    /// The node sent DISCONNECT.
    Disconnected { client: usize, reason: ReasonCode },
    /// The node sent DISCONNECT on a connection that its client left open when it connected anew.
    Displaced { client: usize, conn: ConnId, reason: ReasonCode },
    /// A connection that its client left open then is still open when everything had its time.
    LeftOpen { client: usize, conn: ConnId },
    /// The node broke the protocol.
    Broken(String),
    /// Faults have stopped and everything had its time.
    Settled,
}

/// A fold of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fold {
    /// The rows of the views.
    Views,
    /// Who may act: producers and sessions.
    Admission,
}

/// A PUBLISH as the client took it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) client: usize,
    pub(crate) conn: ConnId,
    pub(crate) uid: Uid,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// A QoS 2 message that the client held already: not given to the application again.
    pub(crate) is_known: bool,
    /// A QoS 1 message that came with this identifier before and was not acknowledged since: the same
    /// delivery again.
    pub(crate) is_repeated: bool,
    /// The session was new with this connection.
    pub(crate) is_fresh: bool,
    /// QoS 1 and 2 messages that the client had not answered before this one.
    pub(crate) in_flight: usize,
    pub(crate) receive_maximum: usize,
    /// The identifier was in use for another message.
    pub(crate) is_id_taken: bool,
}
