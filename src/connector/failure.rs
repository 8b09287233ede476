//! What a call without an answer says about the effect, whatever the protocol; and what a call shows of its
//! service's health.

use crate::problem::{Problem, kind};
use crate::request::{Again, Attempt, Effect};
use crate::resilience::Report;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The service is not known.
    Unconfigured,
    /// The request cannot be written down; it will not become better.
    Invalid,
    /// Circuit, rate or sockets gave no leave for long.
    HeldBack,
    /// No connection, or one that closed before anything was written.
    Unconnected,
    /// The time was over before there was a connection.
    TimeoutUnsent,
    /// The time was over after sending.
    Timeout,
    /// Reset, cut off, wrong length, not HTTP.
    Broken,
    /// Over `answer_bytes_max`.
    TooLarge,
}

/// Judges an attempt without an answer.
pub(super) fn failed(failure: Failure, reason: &str) -> Attempt {
    let (effect, again, kind) = match failure {
        Failure::Invalid => (Effect::None, Again::No, kind::REFUSED),
        Failure::Unconfigured | Failure::HeldBack | Failure::Unconnected => (Effect::None, Again::Yes, kind::REFUSED),
        Failure::TimeoutUnsent => (Effect::None, Again::Yes, kind::TIMEOUT),
        Failure::Timeout => (Effect::Maybe, Again::Yes, kind::TIMEOUT),
        Failure::Broken | Failure::TooLarge => (Effect::Maybe, Again::Yes, kind::UNKNOWN),
    };
    Attempt { effect, again, answer: None, problem: Some(Problem::new(kind, reason)), retry_after: None }
}

/// Returns what an attempt says about the service's health.
pub(super) fn health(attempt: &Attempt) -> Report {
    match (&attempt.answer, attempt.effect) {
        (Some(answer), _) if answer.status >= 500 => Report::Failing,
        (Some(_), _) => Report::Alive,
        (None, Effect::None | Effect::Maybe | Effect::Done) => Report::Failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_without_an_answer() {
        use Again::{No, Yes};
        use Effect::{Maybe, None as Nothing};
        for (failure, expected) in [
            (Failure::Unconfigured, (Nothing, Yes)),
            (Failure::Invalid, (Nothing, No)),
            (Failure::HeldBack, (Nothing, Yes)),
            (Failure::Unconnected, (Nothing, Yes)),
            (Failure::TimeoutUnsent, (Nothing, Yes)),
            (Failure::Timeout, (Maybe, Yes)),
            (Failure::Broken, (Maybe, Yes)),
            (Failure::TooLarge, (Maybe, Yes)),
        ] {
            let attempt = failed(failure, "why");
            assert_eq!((attempt.effect, attempt.again), expected, "{failure:?}");
            assert!(attempt.problem.is_some() && attempt.answer.is_none());
        }
    }
}
