//! The events of a shard on their way to the log.

use std::collections::VecDeque;

use ledgermq_core::event::batch::TARGET_BYTES;
use ledgermq_core::event::{BatchBuilder, Event, MessagePublished, SessionRef};
use ledgermq_core::identity::ClientId;
use ledgermq_log::Class;

use crate::shard::table::Token;
use crate::shard::volume::{UnderWay, Volume};

/// Batches kept for reuse.
const SPARE_MAX: usize = 8;

/// Makes Client Identifiers that nobody else has. The driver's are random, the simulator's seeded.
pub type Names = Box<dyn FnMut() -> ClientId + Send>;

/// The batch under construction, and those that are full and wait to be handed over.
///
/// It does not bound itself: the worker stops giving bytes to the shard while the log does not
/// take what is here ([`Stage::is_congested`]), so that it holds what one turn reads at most.
pub struct Stage {
    open: BatchBuilder,
    class: Class,
    ready: VecDeque<(Class, BatchBuilder)>,
    spare: Vec<BatchBuilder>,
    is_congested: bool,
    headroom: usize,
    names: Names,
    /// Connections whose `SessionOpened` is on its way, in the order of the appends.
    pub(crate) opening: VecDeque<Token>,
    /// What it may add to the views.
    pub(crate) under_way: UnderWay,
}

impl Stage {
    /// An empty stage; `empty` is a batch as the log's producer makes them.
    #[must_use]
    pub fn new(empty: BatchBuilder, names: Names) -> Self {
        Self {
            headroom: empty.headroom(),
            open: empty,
            class: Class::Progress,
            is_congested: false,
            ready: VecDeque::new(),
            spare: Vec::new(),
            names,
            opening: VecDeque::new(),
            under_way: UnderWay::default(),
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ready.is_empty()
    }

    /// Hands the batches over in their order, as long as `push` takes them; it leaves an empty
    /// batch behind and answers whether it took the events.
    pub fn hand_over(&mut self, mut push: impl FnMut(Class, &mut BatchBuilder) -> bool) {
        self.close();
        while let Some((class, batch)) = self.ready.front_mut() {
            self.is_congested = !push(*class, batch);
            if self.is_congested {
                return;
            }
            let (_, batch) = self.ready.pop_front().expect("it was just there");
            if self.spare.len() < SPARE_MAX {
                self.spare.push(batch);
            }
        }
    }

    /// Number of batches that are full.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.ready.len()
    }

    /// Whether the log did not take all at the last [`Stage::hand_over`].
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.is_congested
    }

    pub(crate) fn publish(&mut self, session: Option<&SessionRef>, message: &MessagePublished<'_>) {
        let size = message.topic.len() + message.properties.len() + message.payload.len();
        if !self.open.is_empty() && self.open.bytes() + size > TARGET_BYTES {
            self.close();
        }
        if message.retain {
            self.under_way.add(Volume::of_message(message));
        }
        self.class = Class::Publish;
        self.open.publish(session.map(|session| (&session.client, session.epoch)), None, message);
        // A message larger than a batch goes alone.
        if self.open.bytes() > TARGET_BYTES {
            self.close();
        }
    }

    pub(crate) fn append(&mut self, session: Option<&SessionRef>, event: &Event) {
        if let Event::SessionOpened(opened) = event {
            self.under_way.add(Volume::of_session(opened));
        }
        let is_growth = matches!(event, Event::SessionOpened(_) | Event::Subscribed { .. });
        if is_growth && self.class == Class::Progress {
            self.class = Class::Open;
        }
        self.open.push(session.map(|session| (&session.client, session.epoch)), None, event);
        if self.open.bytes() > TARGET_BYTES {
            self.close();
        }
    }

    pub(crate) fn assign_client_id(&mut self) -> ClientId {
        (self.names)()
    }

    /// Throws away what was not handed over.
    pub(crate) fn clear(&mut self) {
        self.open = BatchBuilder::new(self.headroom);
        self.class = Class::Progress;
        self.ready.clear();
        self.is_congested = false;
        self.under_way = UnderWay::default();
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_else(|| BatchBuilder::new(self.headroom));
        let full = std::mem::replace(&mut self.open, next);
        self.ready.push_back((std::mem::replace(&mut self.class, Class::Progress), full));
    }
}
