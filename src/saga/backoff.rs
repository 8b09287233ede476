//! When the next attempt is due: exponential, capped, spread by a hash instead of a random draw, so
//! that a replay schedules the same moment and two runs still do not retry together.

use crate::definition::{Attempts, Jitter, RetryPolicy};
use crate::id::RunId;
use crate::planted;
use crate::time::{Span, Timestamp};

/// Returns the wait before the attempt behind `used` ended ones (from 1).
///
/// `delay × factor^(used-1)`, at most `max_delay`; with full jitter a share of that between nothing and
/// all of it. `asked` (a `Retry-After`) takes its place, within `max_delay`.
pub fn wait(policy: &RetryPolicy, run: RunId, step: u32, used: u32, asked: Option<Span>) -> Span {
    if let Some(asked) = asked {
        return asked.min(policy.max_delay);
    }
    let mut ceiling = policy.delay.0.min(policy.max_delay.0);
    for _ in 1..used {
        if ceiling >= policy.max_delay.0 {
            break;
        }
        // At most ten years in milliseconds times 100,000: within u64 by a factor of 500.
        let next = ceiling.saturating_mul(u64::from(policy.factor_milli)) / 1_000;
        if next == ceiling {
            break; // factor 1: constant
        }
        ceiling = next.min(policy.max_delay.0);
    }
    match policy.jitter {
        Jitter::None => Span(ceiling),
        Jitter::Full => {
            let (high, low) = run.0.as_u64_pair();
            let seed = high ^ low.rotate_left(17) ^ (u64::from(step) << 32) ^ u64::from(used);
            Span(mix64(seed) % (ceiling + 1))
        }
    }
}

/// True when the policy lets another attempt start at `at`.
pub fn allows(policy: &RetryPolicy, used: u32, first: Timestamp, total: Option<Span>, at: Timestamp) -> bool {
    let counted = match policy.attempts {
        Attempts::Forever => true,
        Attempts::Count(count) => used < count + u32::from(planted::is("one_attempt_more")),
    };
    counted && [policy.within, total].into_iter().flatten().all(|limit| at <= first.plus(limit))
}

/// A finaliser that spreads neighbouring seeds (splitmix64, Steele and others 2014).
fn mix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(uuid::Uuid::from_u128(7));

    #[test]
    fn waits() {
        let plain = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::FORWARD };
        for (why, used, asked, expected) in [
            ("first", 1, None, 200),
            ("doubled", 2, None, 400),
            ("capped", 40, None, 10_000),
            ("never overflows", u32::MAX, None, 10_000),
            ("Retry-After", 1, Some(Span(3_000)), 3_000),
            ("Retry-After within max_delay", 1, Some(Span(99_000)), 10_000),
        ] {
            assert_eq!(wait(&plain, RUN, 0, used, asked), Span(expected), "{why}");
        }
        let spread: std::collections::BTreeSet<u64> =
            (0..64).map(|step| wait(&RetryPolicy::FORWARD, RUN, step, 3, None).0).collect();
        assert!(spread.len() > 32 && spread.iter().all(|ms| *ms <= 800), "full jitter spreads: {spread:?}");
    }

    #[test]
    fn limits() {
        let policy = RetryPolicy { attempts: Attempts::Count(3), within: Some(Span(1_000)), ..RetryPolicy::FORWARD };
        let first = Timestamp(5_000);
        for (why, used, total, at, expected) in [
            ("attempts left", 2, None, 5_500, true),
            ("five in all means five", 3, None, 5_500, false),
            ("within", 1, None, 6_001, false),
            ("total", 1, Some(Span(100)), 5_101, false),
        ] {
            assert_eq!(allows(&policy, used, first, total, Timestamp(at)), expected, "{why}");
        }
    }
}
