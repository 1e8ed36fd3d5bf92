//! Sizes and durations as people write them in the configuration: always with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes, written `"64KiB"`, `"20GB"` or `"0"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A duration, written `"10s"`, `"250ms"`, `"7d"` or `"0"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A text that is no size or duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a whole number followed by one of the units of a size.
    #[error("{0:?} is no size: write a whole number with B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")]
    Size(String),
    /// Not a whole number followed by one of the units of a duration.
    #[error("{0:?} is no duration: write a whole number with us, ms, s, m, h or d")]
    Span(String),
    /// More than 64 bits can hold.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// Units of a size in bytes, the ones preferred for writing first, largest first.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Units of a duration in microseconds, largest first.
const SPANS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl ByteSize {
    /// `n` times 1,024 bytes.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1,048,576 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` times 1,073,741,824 bytes.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl Span {
    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SIZES, QuantityError::Size).map(Self)
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, &SPANS, QuantityError::Span).map(|micros| Self(Duration::from_micros(micros)))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES[..5])
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX), &SPANS)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text("a size with its unit, such as \"64KiB\"", Self::from_str))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text("a duration with its unit, such as \"10s\"", Self::from_str))
    }
}

/// Reads a quantity from text; a bare number is refused with what was expected.
struct Text<T>(&'static str, fn(&str) -> Result<T, QuantityError>);

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    wrong: fn(String) -> QuantityError,
) -> Result<u64, QuantityError> {
    if text == "0" {
        return Ok(0);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong(text.to_owned()));
    };
    if number.is_empty() {
        return Err(wrong(text.to_owned()));
    }
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

/// Writes `value` in the largest unit that it is a multiple of.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    if value == 0 {
        return f.write_str("0");
    }
    let (unit, factor) = units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .expect("the smallest unit is 1, which divides everything");
    write!(f, "{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, QuantityError, Span};

    #[test]
    fn sizes_and_durations_are_read_with_their_units() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("2 GB"), Ok(2_000_000_000));
        assert_eq!(size("0"), Ok(0));
        let span = |text: &str| text.parse::<Span>().map(|span| span.0.as_millis());
        assert_eq!(span("10s"), Ok(10_000));
        assert_eq!(span("250ms"), Ok(250));
    }

    #[test]
    fn what_has_no_unit_or_is_too_large_is_refused() {
        assert!(matches!("64".parse::<ByteSize>(), Err(QuantityError::Size(_))));
        assert!(matches!("KiB".parse::<ByteSize>(), Err(QuantityError::Size(_))));
        assert!(matches!("1.5GiB".parse::<ByteSize>(), Err(QuantityError::Size(_))));
        assert!(matches!("10 min".parse::<Span>(), Err(QuantityError::Span(_))));
        assert!(matches!("99999999999TiB".parse::<ByteSize>(), Err(QuantityError::TooLarge(_))));
    }

    #[test]
    fn what_is_written_reads_back() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, 1_000_u64.saturating_mul(shift)] {
                assert_eq!(ByteSize(value).to_string().parse(), Ok(ByteSize(value)));
                let span = Span(std::time::Duration::from_micros(value));
                assert_eq!(span.to_string().parse(), Ok(span));
            }
        }
    }
}
