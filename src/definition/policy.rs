//! `retry` and `timeout`: what a file says at several levels, put together.

use super::diagnostic::Finding;
use super::model::{Attempts, Jitter, RetryPolicy};
use super::reader::Reader;
use super::yaml::{Meaning, Node, Yaml};
use crate::time::Span;

/// The keys of a retry policy.
pub(super) const RETRY_KEYS: &[&str] = &["attempts", "delay", "factor", "max_delay", "jitter", "within"];
/// More attempts than this is `forever` in other words.
const ATTEMPTS_MAX: u32 = 1_000_000;
const FACTOR_MILLI_MAX: u32 = 100_000;

/// What one `retry` says; the rest comes from the level above.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RetryPatch {
    pub attempts: Option<Attempts>,
    pub delay: Option<Span>,
    pub factor_milli: Option<u32>,
    pub max_delay: Option<Span>,
    pub jitter: Option<Jitter>,
    pub within: Option<Span>,
}

impl RetryPatch {
    /// Returns the policy with what this one says.
    pub(super) fn over(self, below: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            attempts: self.attempts.unwrap_or(below.attempts),
            delay: self.delay.unwrap_or(below.delay),
            factor_milli: self.factor_milli.unwrap_or(below.factor_milli),
            max_delay: self.max_delay.unwrap_or(below.max_delay),
            jitter: self.jitter.unwrap_or(below.jitter),
            within: self.within.or(below.within),
        }
    }
}

impl Reader<'_> {
    /// Reads `retry: {…}` or `retry: forever`.
    pub(super) fn retry(&mut self, node: &Node) -> RetryPatch {
        if let Yaml::Scalar(_) = &node.value {
            let attempts = self.word(node, "`retry`", &[("forever", Attempts::Forever)]);
            return RetryPatch { attempts, ..RetryPatch::default() };
        }
        let Some(map) = self.mapping(node, "`retry`", RETRY_KEYS, &[]) else { return RetryPatch::default() };
        let patch = RetryPatch {
            attempts: map.get("attempts").and_then(|node| self.attempts(node)),
            delay: map.get("delay").and_then(|node| self.span(node, "`delay`")),
            factor_milli: map.get("factor").and_then(|node| self.factor(node)),
            max_delay: map.get("max_delay").and_then(|node| self.span(node, "`max_delay`")),
            jitter: map
                .get("jitter")
                .and_then(|node| self.word(node, "`jitter`", &[("none", Jitter::None), ("full", Jitter::Full)])),
            within: map.get("within").and_then(|node| self.span(node, "`within`")),
        };
        if let (Some(delay), Some(max), Some(entry)) = (patch.delay, patch.max_delay, map.entry("max_delay"))
            && max < delay
        {
            let message = format!("`max_delay` {max} is shorter than `delay` {delay}");
            self.find(Finding::new("S013", entry.value.span.clone(), message));
        }
        patch
    }

    fn attempts(&mut self, node: &Node) -> Option<Attempts> {
        if let Yaml::Scalar(scalar) = &node.value
            && let Meaning::Text(_) = scalar.meaning()
        {
            return self.word(node, "`attempts`", &[("forever", Attempts::Forever)]);
        }
        self.integer(node, "`attempts`", 1, ATTEMPTS_MAX).map(Attempts::Count)
    }

    fn factor(&mut self, node: &Node) -> Option<u32> {
        if let Yaml::Scalar(scalar) = &node.value
            && let Meaning::Number(text) = scalar.meaning()
        {
            let milli = thousandths(text).filter(|milli| (1_000..=FACTOR_MILLI_MAX).contains(milli));
            if milli.is_none() {
                let message = format!("`factor` is a number from 1 to {}", FACTOR_MILLI_MAX / 1_000);
                self.find(
                    Finding::new("S013", node.span.clone(), message).help("with at most three digits behind the point"),
                );
            }
            return milli;
        }
        let message = format!("`factor` is a number, not {}", node.kind());
        self.find(Finding::new("S006", node.span.clone(), message));
        None
    }

    /// Reads `timeout: 3s` or `timeout: {attempt, total}`.
    pub(super) fn timeout(&mut self, node: &Node) -> (Option<Span>, Option<Span>) {
        if let Yaml::Mapping(_) = &node.value {
            let Some(map) = self.mapping(node, "`timeout`", &["attempt", "total"], &[]) else { return (None, None) };
            let attempt = map.get("attempt").and_then(|node| self.duration(node, "`attempt`"));
            let total = map.get("total").and_then(|node| self.duration(node, "`total`"));
            return (attempt, total);
        }
        (self.duration(node, "`timeout`"), None)
    }

    /// Reads a duration longer than nothing.
    pub(super) fn duration(&mut self, node: &Node, what: &str) -> Option<Span> {
        let span = self.span(node, what)?;
        if span == Span::default() {
            self.find(Finding::new("S013", node.span.clone(), format!("{what} is longer than nothing")));
            return None;
        }
        Some(span)
    }
}

/// Reads a decimal such as `1.5` in thousandths, exactly.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = format!("{fraction:0<3}").parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact() {
        for (text, expected) in [
            ("2", Some(2_000)),
            ("1.5", Some(1_500)),
            ("1.125", Some(1_125)),
            ("1.0001", None),
            ("1e2", None),
            ("-1", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
