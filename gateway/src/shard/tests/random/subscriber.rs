//! A client that keeps the rules and a list.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::packet::Packet;

use super::super::client;

/// A subscriber's own state: that of its session, and that of its connection.
pub(super) struct Subscriber {
    /// QoS of each message published, by number.
    published: BTreeMap<u16, u8>,
    /// Numbers that the application got, in the order of their first coming.
    delivered: Vec<u16>,
    /// Numbers that were acknowledged for good.
    settled: BTreeSet<u16>,
    /// QoS 2 identifiers between PUBLISH and PUBREL, with their number.
    held: BTreeMap<u16, u16>,
    /// Whether a crash may have lost acknowledgements.
    may_repeat: bool,

    window: usize,
    is_open: bool,
    /// Numbers that came on this connection, with QoS above 0.
    seen: BTreeSet<u16>,
    /// Identifiers with a place in the window, and their number.
    under_way: BTreeMap<u16, u16>,
    /// Answers that are due.
    due: Vec<Answer>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Settled(u16),
    Received(u16),
    Complete(u16),
}

impl Subscriber {
    /// One that is connected with this Receive Maximum.
    pub(super) fn new(window: usize) -> Self {
        Self {
            published: BTreeMap::new(),
            delivered: Vec::new(),
            settled: BTreeSet::new(),
            held: BTreeMap::new(),
            may_repeat: false,
            window,
            is_open: true,
            seen: BTreeSet::new(),
            under_way: BTreeMap::new(),
            due: Vec::new(),
        }
    }

    /// Whether CONNACK came.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn expect(&mut self, n: u16, qos: u8) {
        self.published.insert(n, qos);
    }

    pub(super) fn may_repeat(&mut self) {
        self.may_repeat = true;
    }

    pub(super) fn is_away(&mut self) {
        self.is_open = false;
        self.seen.clear();
        self.under_way.clear();
        self.due.clear();
    }

    pub(super) fn is_back(&mut self, window: u16) {
        self.window = usize::from(window);
    }

    /// The next answer to send: one of those due.
    pub(super) fn answer(&mut self, which: usize) -> Option<Packet<'static>> {
        if self.due.is_empty() {
            return None;
        }
        let answer = self.due.remove(which % self.due.len());
        Some(match answer {
            Answer::Settled(id) => {
                self.settled.extend(self.under_way.remove(&id));
                client::puback(id)
            }
            Answer::Received(id) => client::pubrec(id),
            Answer::Complete(id) => {
                self.under_way.remove(&id);
                client::pubcomp(id)
            }
        })
    }

    pub(super) fn take(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "CONNACK" => {
                assert_eq!(rest, "0x00 present");
                self.is_open = true;
            }
            "PUBREL" => {
                let id = rest.parse().unwrap();
                self.settled.extend(self.held.remove(&id));
                self.due.push(Answer::Complete(id));
            }
            "SUBACK" => {}
            "DISCONNECT" => self.is_away(),
            message => self.on_publish(message.strip_prefix("t=").unwrap().parse().unwrap(), rest),
        }
    }

    fn on_publish(&mut self, n: u16, rest: &str) {
        assert!(self.is_open, "{n} before CONNACK");
        let qos = self.published[&n];
        if qos == 0 {
            assert_eq!(rest, "");
            return self.deliver(n);
        }
        let mut words = rest.split(' ');
        assert_eq!(words.next(), Some(&*format!("q{qos}")));
        let id: u16 = words.next().unwrap().strip_prefix('#').unwrap().parse().unwrap();
        let is_dup = words.next() == Some("dup");
        assert!(self.seen.insert(n), "{n} came twice on one connection");
        let may_repeat = self.may_repeat && qos == 1;
        assert!(may_repeat || !self.settled.contains(&n), "{n} was settled");
        assert!(self.under_way.insert(id, n).is_none(), "#{id} is in use");
        assert!(self.under_way.len() <= self.window, "more than the Receive Maximum");
        if qos == 1 {
            // An older one may come again; the first coming is in order.
            if !self.delivered.contains(&n) {
                self.deliver(n);
            }
            return self.due.push(Answer::Settled(id));
        }
        self.due.push(Answer::Received(id));
        match self.held.insert(id, n) {
            Some(before) => assert_eq!((before, is_dup), (n, true), "#{id} was another message's"),
            None => {
                assert!(!self.delivered.contains(&n), "{n} came twice");
                self.deliver(n);
            }
        }
    }

    /// In order among those of its QoS.
    fn deliver(&mut self, n: u16) {
        let qos = self.published[&n];
        let mut same = self.delivered.iter().rev().filter(|before| self.published[before] == qos);
        assert!(same.next().is_none_or(|before| *before < n), "{n} is out of order");
        self.delivered.push(n);
    }

    /// All messages of QoS 1 and 2 came.
    pub(super) fn has_all(&self) {
        let missing: Vec<_> = self
            .published
            .iter()
            .filter(|(n, qos)| **qos > 0 && !self.delivered.contains(n))
            .collect();
        assert!(missing.is_empty(), "missing (number, QoS): {missing:?}");
    }
}
