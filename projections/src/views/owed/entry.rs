//! One reference in 16 bytes.

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_core::packet::QoS;

const ORDINAL_BITS: u32 = 20;
const LOW_BITS: u32 = 28;
const LOW_MASK: u64 = (1 << LOW_BITS) - 1;
const QOS_2: u64 = 1 << 28;
const RETAIN: u64 = 1 << 29;
const ANSWER: u64 = 1 << 30;
const EXPIRY_SHIFT: u32 = 31;
const EXPIRY_MAX: u64 = (1 << 33) - 1;
const SECOND: u64 = 1_000_000;

/// Most records of a batch that references can tell apart (a batch of 256 KiB has some 12,000).
pub(crate) const BATCH_RECORDS_MAX: u32 = 1 << ORDINAL_BITS;
/// Highest index that references can name: 17 trillion batches.
pub(crate) const INDEX_MAX: Index = (1 << (64 - ORDINAL_BITS)) - 1;

/// A reference to a message with what limits and delivery need to know of it.
///
/// `key` is the index (44 bits) and the ordinal (20 bits). `info` is, from the lowest bit: bytes of
/// the message or, for an answer, its `nth` (28 bits); QoS 2; RETAIN; answer; second of expiry,
/// 0 is none (33 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    key: u64,
    info: u64,
}

impl Entry {
    /// A reference to the message at `at`, of `bytes` bytes (256 MiB and more count as that much).
    pub(crate) fn message_at(
        at: Offset,
        bytes: usize,
        qos: QoS,
        retain: bool,
        expires: Option<Timestamp>,
    ) -> Self {
        let bytes = (bytes as u64).min(LOW_MASK);
        Self { key: key(at), info: bytes | flags(qos, retain) | expiry(expires) }
    }

    /// A reference to a retained message that answers a subscription.
    pub(crate) fn answer(message: DeliveryRef, qos: QoS, expires: Option<Timestamp>) -> Self {
        debug_assert!(u64::from(message.nth) <= LOW_MASK, "retained messages are bounded");
        let nth = u64::from(message.nth).min(LOW_MASK);
        Self { key: key(message.at), info: nth | flags(qos, true) | ANSWER | expiry(expires) }
    }

    /// The reference as a consumer names it.
    pub(crate) fn message(self) -> DeliveryRef {
        let ordinal = u32_of(self.key & u64::from(BATCH_RECORDS_MAX - 1));
        DeliveryRef {
            at: Offset::new(self.key >> ORDINAL_BITS, ordinal),
            nth: if self.is_answer() { u32_of(self.info & LOW_MASK) } else { 0 },
        }
    }

    pub(crate) fn message_of(entry: &Self) -> DeliveryRef {
        entry.message()
    }

    /// Bytes of a message in the log; 0 for an answer, whose content is held beside.
    pub(crate) fn bytes(self) -> u32 {
        if self.is_answer() { 0 } else { u32_of(self.info & LOW_MASK) }
    }

    /// QoS of the delivery.
    pub(crate) fn qos(self) -> QoS {
        if self.info & QOS_2 != 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
    }

    /// RETAIN flag of the delivery.
    pub(crate) fn retain(self) -> bool {
        self.info & RETAIN != 0
    }

    /// Whether this is a retained message that answers a subscription.
    pub(crate) fn is_answer(self) -> bool {
        self.info & ANSWER != 0
    }

    /// When the message expires, rounded up to a second.
    pub(crate) fn expires(self) -> Option<Timestamp> {
        let seconds = self.info >> EXPIRY_SHIFT;
        (seconds != 0).then(|| Timestamp::from_secs(seconds))
    }

    /// Whether the message has expired at `now`.
    pub(crate) fn is_expired(self, now: Timestamp) -> bool {
        self.expires().is_some_and(|expiry| expiry <= now)
    }

    pub(crate) fn words(self) -> [u64; 2] {
        [self.key, self.info]
    }

    pub(crate) fn from_words([key, info]: [u64; 2]) -> Self {
        Self { key, info }
    }
}

fn key(at: Offset) -> u64 {
    debug_assert!(at.index <= INDEX_MAX && at.ordinal < BATCH_RECORDS_MAX, "checked per batch");
    at.index << ORDINAL_BITS | u64::from(at.ordinal)
}

fn flags(qos: QoS, retain: bool) -> u64 {
    let qos = if qos == QoS::ExactlyOnce { QOS_2 } else { 0 };
    qos | if retain { RETAIN } else { 0 }
}

fn expiry(expires: Option<Timestamp>) -> u64 {
    let seconds = expires.map_or(0, |at| at.0.div_ceil(SECOND).clamp(1, EXPIRY_MAX));
    seconds << EXPIRY_SHIFT
}

fn u32_of(masked: u64) -> u32 {
    u32::try_from(masked).expect("masked to fewer bits")
}
