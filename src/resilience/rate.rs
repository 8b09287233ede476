//! A rate limit as a token bucket, in whole numbers.

use crate::planted;
use crate::time::{Span, Timestamp};

/// `rate: 20/s, burst: 40`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePolicy {
    /// Calls per [`Self::period`]; at least 1.
    pub count: u32,
    /// At least a millisecond.
    pub period: Span,
    /// Calls that may leave at once after a quiet time; at least 1.
    pub burst: u32,
}

impl RatePolicy {
    /// Parses `20/s`, `100/m` or `5000/h`; the burst equals the count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let count: u32 = count.trim().parse().ok().filter(|count| *count > 0)?;
        let period = match unit.trim() {
            "s" => Span::from_secs(1),
            "m" => Span::from_secs(60),
            "h" => Span::from_secs(3_600),
            _ => return None,
        };
        Some(Self { count, period, burst: count })
    }
}

/// The bucket. A token is worth `period` units and every millisecond adds `count` units, so nothing is
/// lost to rounding at any rate.
#[derive(Debug, Clone)]
pub struct Bucket {
    policy: RatePolicy,
    units: u64,
    filled_at: Timestamp,
}

impl Bucket {
    /// Makes a full bucket.
    #[must_use]
    pub fn new(policy: RatePolicy, now: Timestamp) -> Self {
        Self { policy, units: Self::capacity(policy), filled_at: now }
    }

    /// The burst, and room for the part of a token that comes with the last millisecond of a wait:
    /// without it a full bucket would forget that part, and the rate would be missed by a little.
    fn capacity(policy: RatePolicy) -> u64 {
        let (price, per_milli) = (policy.period.0.max(1), u64::from(policy.count.max(1)));
        price.saturating_mul(u64::from(policy.burst.max(1))).saturating_add(price.min(per_milli) - 1)
    }

    /// Takes a token, or says when there will be one. A refusal changes nothing.
    ///
    /// # Errors
    /// The moment of the next token.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let (price, per_milli) = (self.policy.period.0.max(1), u64::from(self.policy.count.max(1)));
        let added = now.since(self.filled_at).0.saturating_mul(per_milli);
        self.units = self.units.saturating_add(added).min(Self::capacity(self.policy));
        self.filled_at = self.filled_at.max(now);
        if self.units >= price || (self.units > 0 && planted::is("part_of_a_token_is_enough")) {
            self.units = self.units.saturating_sub(price);
            return Ok(());
        }
        Err(self.filled_at.plus(Span((price - self.units).div_ceil(per_milli))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let rows = [
            ("per second", "20/s", Some((20, 1_000))),
            ("per minute", "100/m", Some((100, 60_000))),
            ("spaces", "5 / h", Some((5, 3_600_000))),
            ("zero", "0/s", None),
            ("no unit", "20", None),
            ("unknown unit", "20/d", None),
            ("negative", "-1/s", None),
        ];
        for (why, text, expected) in rows {
            assert_eq!(RatePolicy::parse(text).map(|p| (p.count, p.period.0)), expected, "{why}");
        }
    }

    /// Takes as often as it may for a while and returns the moments.
    fn moments(policy: RatePolicy, until: u64) -> Vec<u64> {
        let mut bucket = Bucket::new(policy, Timestamp(0));
        let (mut now, mut taken) = (Timestamp(0), Vec::new());
        while now.0 <= until {
            match bucket.take(now) {
                Ok(()) => taken.push(now.0),
                Err(at) => {
                    assert!(at > now, "waiting must move on");
                    now = at;
                }
            }
        }
        taken
    }

    #[test]
    fn a_bucket_keeps_its_rate_exactly() {
        let rows = [
            ("one a second", RatePolicy { count: 1, period: Span(1_000), burst: 1 }, 11),
            ("three a second, indivisible", RatePolicy { count: 3, period: Span(1_000), burst: 1 }, 31),
            ("burst", RatePolicy { count: 1, period: Span(1_000), burst: 5 }, 15),
            ("faster than the clock", RatePolicy { count: 5_000, period: Span(1_000), burst: 5 }, 50_005),
        ];
        for (why, policy, expected) in rows {
            assert_eq!(moments(policy, 10_000).len(), expected, "{why}");
        }
    }

    #[test]
    fn a_clock_that_jumps_gives_no_tokens() {
        let mut bucket = Bucket::new(RatePolicy { count: 1, period: Span(1_000), burst: 1 }, Timestamp(5_000));
        assert_eq!(bucket.take(Timestamp(5_000)), Ok(()));
        assert_eq!(bucket.take(Timestamp(1_000)), Err(Timestamp(6_000)), "backwards");
        assert_eq!(bucket.take(Timestamp(u64::MAX)), Ok(()), "far forwards: one burst");
        assert!(bucket.take(Timestamp(u64::MAX)).is_err());
    }
}
