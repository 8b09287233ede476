//! Points and spans of time in whole milliseconds. Nothing here reads a clock: `Clock` is what the
//! shell implements.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper ends of the buckets that latencies are counted in, in microseconds: from a fast disk's sync to a
/// call that times out. Whoever counts and whoever shows use the same.
pub const LATENCY_BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// Returns the bucket of a latency; the last, one more, is for all that is longer.
#[must_use]
pub fn latency_bucket(micros: u64) -> usize {
    LATENCY_BUCKETS_US.partition_point(|end| *end < micros)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the moment `span` later, saturating.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns the span from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

/// Ten years: longer is taken for a mistake of units.
pub const SPAN_MAX: Span = Span::from_millis(10 * 365 * 24 * 3_600 * 1_000);

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a duration; write for example 200ms, 3s, 2m, 24h, 7d or ISO 8601 such as PT1H30M, at most ten years"
)]
pub struct SpanError {
    pub text: String,
}

impl Span {
    /// Returns a span of that many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns a span of that many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    /// Parses `200ms 3s 2m 24h 7d` or ISO 8601 (`PT1H30M`, `P7D`).
    ///
    /// # Errors
    /// [`SpanError`] for anything else, for years and months (which have no fixed length), and
    /// above [`SPAN_MAX`].
    pub fn parse(text: &str) -> Result<Self, SpanError> {
        let refused = || SpanError { text: text.to_owned() };
        let span = if text.starts_with('P') { Self::iso(text) } else { Self::short(text) }.ok_or_else(refused)?;
        if span > SPAN_MAX { Err(refused()) } else { Ok(span) }
    }

    fn short(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let count: u64 = text[..digits].parse().ok()?;
        count.checked_mul(Self::unit(&text[digits..])?).map(Self)
    }

    fn unit(word: &str) -> Option<u64> {
        Some(match word {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        })
    }

    fn iso(text: &str) -> Option<Self> {
        let (mut rest, mut in_time, mut total, mut parts) = (&text[1..], false, 0_u64, 0);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('T') {
                if in_time || after.is_empty() {
                    return None;
                }
                (in_time, rest) = (true, after);
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
            let count: u64 = rest[..end].parse().ok()?;
            let unit = match (in_time, rest.as_bytes()[end]) {
                (false, b'W') => 7 * 86_400_000,
                (false, b'D') => 86_400_000,
                (true, b'H') => 3_600_000,
                (true, b'M') => 60_000,
                (true, b'S') => 1_000,
                _ => return None,
            };
            total = total.checked_add(count.checked_mul(unit)?)?;
            parts += 1;
            rest = &rest[end + 1..];
        }
        (parts > 0).then_some(Self(total))
    }

    /// Returns the standard library's type.
    #[must_use]
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(millis, _)| self.0 >= *millis && self.0.is_multiple_of(*millis)) {
            Some((millis, word)) => write!(f, "{}{word}", self.0 / millis),
            None => write!(f, "{}ms", self.0),
        }
    }
}
impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Tells the time. The system's in `serve`, a moved one in tests.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present moment.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let rows: &[(&str, &str, Option<u64>)] = &[
            ("milliseconds", "200ms", Some(200)),
            ("seconds", "3s", Some(3_000)),
            ("days", "7d", Some(604_800_000)),
            ("ISO", "PT1H30M", Some(5_400_000)),
            ("ISO days", "P2DT1S", Some(172_801_000)),
            ("no unit", "3", None),
            ("no number", "s", None),
            ("negative", "-3s", None),
            ("fraction", "1.5s", None),
            ("calendar month", "P1M", None),
            ("empty ISO", "PT", None),
            ("too long", "4000d", None),
            ("overflow", "99999999999999999999d", None),
        ];
        for (why, text, expected) in rows {
            assert_eq!(Span::parse(text).ok().map(|span| span.0), *expected, "{why}: {text}");
        }
        assert_eq!(Span(90_000).to_string(), "90s");
    }

    #[test]
    fn timestamps_print_rfc_3339() {
        assert_eq!(Timestamp(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
    }
}
