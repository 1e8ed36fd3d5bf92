//! Messages owed to persistent sessions, as references.

use std::sync::Arc;

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::packet::QoS;

use crate::views::retained::RetainedMessage;

/// A message owed to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Which one.
    pub message: DeliveryRef,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Where its content is.
    pub source: OwedSource,
}

/// Where the content of an owed message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwedSource {
    /// In the log, at the offset of the reference.
    Log,
    /// Here: an answer to a subscription, or kept before the log was purged.
    Kept(Arc<RetainedMessage>),
}
