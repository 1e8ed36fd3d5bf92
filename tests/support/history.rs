//! What clients did and saw during faults, and the judgement of it.

use std::collections::{BTreeMap, BTreeSet};

use ledgermq_core::packet::QoS;

/// Violations that are printed; the rest is counted.
const SHOWN: usize = 40;

/// What one publisher was promised. Its messages are numbered from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) qos: QoS,
    /// Highest number that was sent.
    pub(crate) sent: u64,
    /// Numbers that were acknowledged (PUBACK or PUBREC without error).
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Numbers that were refused by a Reason Code.
    pub(crate) refused: BTreeSet<u64>,
    /// What went wrong on the way.
    pub(crate) violations: Vec<String>,
}

/// What one subscriber received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) name: String,
    pub(crate) qos: QoS,
    /// Numbers of each publisher in the order of their arrival.
    pub(crate) numbers: BTreeMap<String, Vec<u64>>,
    /// What went wrong on the way.
    pub(crate) violations: Vec<String>,
}

impl Delivered {
    /// How many messages came, with repetitions.
    pub(crate) fn count(&self) -> usize {
        self.numbers.values().map(Vec::len).sum()
    }
}

/// Whether the message of that number is one that a subscriber should see.
pub(crate) type Concerns = fn(&Published, u64) -> bool;

/// The judgement over all histories.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    violations: Vec<String>,
    acknowledged: usize,
    refused: usize,
    delivered: usize,
    repeated: usize,
}

impl Verdict {
    /// Judges what the publishers were promised.
    pub(crate) fn published(&mut self, published: &[Published]) {
        for publisher in published {
            self.acknowledged += publisher.acknowledged.len();
            self.refused += publisher.refused.len();
            self.violations.extend(publisher.violations.iter().cloned());
            let is_open = |number: &u64| {
                !publisher.acknowledged.contains(number) && !publisher.refused.contains(number)
            };
            let open: Vec<u64> = (1..=publisher.sent).filter(is_open).collect();
            if !open.is_empty() {
                let name = &publisher.name;
                self.violations.push(format!("{name}: never answered in the end: {open:?}"));
            }
            let both = publisher.acknowledged.intersection(&publisher.refused).count();
            if both > 0 {
                let name = &publisher.name;
                self.violations.push(format!("{name}: {both} were acknowledged and refused"));
            }
        }
    }

    /// Judges what one subscriber received of what those publishers were promised.
    pub(crate) fn delivered(
        &mut self,
        delivered: &Delivered,
        published: &[Published],
        concerns: Concerns,
    ) {
        self.delivered += delivered.count();
        self.violations.extend(delivered.violations.iter().cloned());
        let none = Vec::new();
        for publisher in published {
            let numbers = delivered.numbers.get(&publisher.name).unwrap_or(&none);
            self.compare(delivered, publisher, numbers, concerns);
        }
    }

    fn compare(
        &mut self,
        delivered: &Delivered,
        publisher: &Published,
        numbers: &[u64],
        concerns: Concerns,
    ) {
        let road = format!("{} to {}", publisher.name, delivered.name);
        let exactly_once = publisher.qos.min(delivered.qos) == QoS::ExactlyOnce;
        let mut seen = BTreeSet::new();
        let mut highest = 0;
        for (arrival, &number) in numbers.iter().enumerate() {
            if !seen.insert(number) {
                self.repeated += 1;
                if exactly_once {
                    self.violations.push(format!("{road}: QoS 2 message {number} came twice"));
                }
                continue;
            }
            if number < highest {
                self.violations.push(format!(
                    "{road}: {number} came after {highest} (arrival {arrival} of {})",
                    numbers.len()
                ));
            }
            highest = highest.max(number);
            if number > publisher.sent || publisher.refused.contains(&number) {
                self.violations.push(format!("{road}: {number} came but was never accepted"));
            }
        }
        let lost: Vec<u64> = publisher
            .acknowledged
            .iter()
            .filter(|number| concerns(publisher, **number) && !seen.contains(*number))
            .copied()
            .collect();
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            let count = lost.len();
            self.violations
                .push(format!("{road}: {count} acknowledged messages lost, {first} to {last}"));
        }
    }

    /// Adds a violation found elsewhere.
    pub(crate) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// Prints the figures; panics if anything was violated.
    pub(crate) fn announce(self, what: &str) {
        println!(
            "{what}: {} acknowledged, {} refused, {} delivered ({} again, as QoS 1 may), {} \
             violations",
            self.acknowledged,
            self.refused,
            self.delivered,
            self.repeated,
            self.violations.len()
        );
        let shown: Vec<&str> = self.violations.iter().take(SHOWN).map(String::as_str).collect();
        assert!(shown.is_empty(), "{} violations:\n{}", self.violations.len(), shown.join("\n"));
        assert!(self.acknowledged > 0, "there was traffic");
    }
}
