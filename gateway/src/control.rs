//! `$CONTROL` between the workers and who answers: questions go out by a [`ControlDoor`], answers
//! come back by [`ControlAnswers`].

use std::sync::Arc;

use crate::inbox::{Inbound, Inboxes};
use crate::shard::{SysValue, Token};

/// What a client is told that asks something that nobody answers.
pub const UNAVAILABLE: &str = r#"{"error": "endpoint not available"}"#;

/// Takes a question, if there is room for one: at once, on the worker's thread.
pub type ControlDoor = Arc<dyn Fn(Question) -> bool + Send + Sync>;

/// The connection that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub(crate) worker: u16,
    pub(crate) token: Token,
}

/// What a client asks, and may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// Topic Name, which begins with `$CONTROL/`.
    pub topic: Box<str>,
    /// What.
    pub payload: Box<[u8]>,
}

/// The topic on which a question to `topic` is answered.
#[must_use]
pub fn response_topic(topic: &str) -> Box<str> {
    format!("{topic}/response").into()
}

/// Sends answers to clients of this node; a cheap clone.
#[derive(Clone)]
pub struct ControlAnswers {
    pub(crate) inboxes: Inboxes,
}

impl ControlAnswers {
    /// Answers what was asked at `topic` to all that subscribed to the answers, as Mosquitto does.
    pub fn publish(&self, topic: &str, answer: &str) {
        let answer = Arc::new(SysValue { topic: response_topic(topic), value: answer.into() });
        let inbound = || Inbound::ControlAnswer(None, Arc::clone(&answer));
        self.inboxes.iter().for_each(|inbox| inbox.push(inbound()));
    }

    /// Answers to who asked, and nobody else.
    pub fn reply(&self, asker: Asker, topic: &str, answer: &str) {
        let answer = Arc::new(SysValue { topic: response_topic(topic), value: answer.into() });
        if let Some(inbox) = self.inboxes.of_producer(asker.worker) {
            inbox.push(Inbound::ControlAnswer(Some(asker.token), answer));
        }
    }
}
