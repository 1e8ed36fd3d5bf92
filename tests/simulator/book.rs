//! All messages that clients made, by the number that their payload carries.

use ledgermq_core::packet::QoS;

use crate::options::SHARED_TOPICS;

/// Number of a message.
pub(crate) type Uid = u32;

/// What a client meant to publish.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Number of the client.
    pub(crate) client: usize,
    pub(crate) topic: &'static str,
    pub(crate) qos: QoS,
    /// Place among the client's messages of that topic and QoS.
    pub(crate) seq: u32,
    pub(crate) may_expire: bool,
    /// A Will Message, of a connection that may end in two ways.
    pub(crate) is_will: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    messages: Vec<Message>,
}

impl Message {
    /// Whether only groups (Shared Subscriptions) get it.
    pub(crate) fn is_shared(&self) -> bool {
        SHARED_TOPICS.contains(&self.topic)
    }
}

impl Book {
    pub(crate) fn add(&mut self, message: Message) -> Uid {
        self.messages.push(message);
        Uid::try_from(self.messages.len()).expect("few messages")
    }

    pub(crate) fn get(&self, uid: Uid) -> &Message {
        &self.messages[uid as usize - 1]
    }
}

/// The payload of message `uid`, at least `bytes` long.
pub(crate) fn payload(uid: Uid, bytes: usize) -> Vec<u8> {
    let mut payload = format!("m{uid}.").into_bytes();
    payload.resize(payload.len().max(bytes), b'.');
    payload
}

/// The number in a payload; none in an empty one.
pub(crate) fn uid_of(payload: &[u8]) -> Option<Uid> {
    let end = payload.iter().position(|byte| *byte == b'.')?;
    str::from_utf8(payload.get(1..end)?).ok()?.parse().ok()
}
