//! What happened, in words: the tail for people, a hash of all of it for comparing two runs.

use std::collections::VecDeque;
use std::fmt::Arguments;

use ledgermq_core::offset::Timestamp;

/// Lines kept for the report of a failure.
const TAIL_LINES: usize = 400;

/// The story of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
    now: Timestamp,
    /// Print each line as it comes.
    is_loud: bool,
}

impl Trace {
    pub(crate) fn new(is_loud: bool) -> Self {
        let tail = VecDeque::with_capacity(TAIL_LINES);
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, tail, now: START, is_loud }
    }

    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Writes a line down.
    pub(crate) fn say(&mut self, what: Arguments<'_>) {
        let mut line = if self.tail.len() == TAIL_LINES {
            self.tail.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        use std::fmt::Write as _;
        write!(line, "{:>14} {what}", self.now.0 - START.0).expect("a String takes everything");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.is_loud {
            println!("{line}");
        }
        self.lines += 1;
        self.tail.push_back(line);
    }

    /// Hash of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }
}

/// When every simulated world begins.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);
