//! The words of a command line: `verb word key=value ...`.

use ledgermq_core::event::DeliveryRef;
use ledgermq_core::identity::PacketId;
use ledgermq_core::packet::QoS;
use ledgermq_core::reason::ReasonCode;

/// The words after the verb. What is asked for is taken out, so that a word that nobody asked for
/// is noticed.
pub(super) struct Words<'a> {
    line: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> (&'a str, Self) {
        let mut words: Vec<_> = line.split_whitespace().collect();
        let verb = words.remove(0);
        (verb, Self { line, words })
    }

    /// Whether the word `name` stands there.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|word| *word == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// The value of `name=value`.
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        let value = |word: &&'a str| word.strip_prefix(name)?.strip_prefix('=');
        let at = self.words.iter().position(|word| value(word).is_some())?;
        value(&self.words.remove(at))
    }

    /// The number of `name=number`.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        let value = self.text(name)?;
        Some(number(value).unwrap_or_else(|| panic!("no number in {:?}: {value}", self.line)))
    }

    /// The next word that is no `name=value`.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let at = self.words.iter().position(|word| !word.contains('='))?;
        Some(self.words.remove(at))
    }

    /// The next word, a number.
    pub(super) fn id(&mut self) -> PacketId {
        let word = self.word().unwrap_or_else(|| panic!("a number is missing: {:?}", self.line));
        number(word).and_then(PacketId::new).unwrap_or_else(|| panic!("no identifier: {word}"))
    }

    /// The next word, a message `INDEX:ORDINAL`, `INDEX:ORDINAL/NTH` or `INDEX:ORDINAL/gGROUP`.
    pub(super) fn message(&mut self) -> DeliveryRef {
        message(self.word().unwrap_or_else(|| panic!("a message is missing: {:?}", self.line)))
    }

    /// The next word as a reason code, if there is one.
    pub(super) fn reason(&mut self) -> Option<ReasonCode> {
        let code = number::<u8>(self.word()?).expect("a reason code");
        Some(ReasonCode::try_from(code).expect("a known reason code"))
    }

    pub(super) fn qos(&mut self) -> QoS {
        QoS::from_bits(self.number("qos").unwrap_or(0)).expect("a QoS")
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> Vec<&'a str> {
        std::mem::take(&mut self.words)
    }
}

impl Drop for Words<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.words.is_empty(), "not understood in {:?}: {:?}", self.line, self.words);
        }
    }
}

pub(super) fn message(text: &str) -> DeliveryRef {
    let (at, nth) = text.split_once('/').unwrap_or((text, "0"));
    let at = at.parse().expect("an offset");
    match nth.strip_prefix('g') {
        Some(group) => DeliveryRef::shared(at, group.parse().expect("a group")),
        None => DeliveryRef { at, nth: nth.parse().expect("a number") },
    }
}

fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    T::try_from(value).ok()
}
