//! Answers that stand in for calls: `cache: {key, ttl}`. Of this process and not journaled; what a run took
//! from here is recorded like any other answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::request::{Attempt, Effect, Request};
use crate::time::Timestamp;

/// Answers kept at once; the oldest go first. An answer has at most the service's `answer_bytes_max`.
const ANSWERS_MAX: usize = 10_000;

#[derive(Default)]
struct Inner {
    answers: HashMap<String, (Timestamp, Attempt)>,
    order: VecDeque<String>,
}

/// Successful answers by service and key.
#[derive(Default)]
pub struct Answers(Mutex<Inner>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where a request's answer stands; none for one that is not cached.
    #[must_use]
    pub fn place(request: &Request) -> Option<String> {
        let cache = request.cache.as_ref()?;
        Some(format!("{}\u{1f}{}", request.service, cache.key))
    }

    /// Finds an answer that is young enough.
    pub fn find(&self, request: &Request, now: Timestamp) -> Option<Attempt> {
        let place = Self::place(request)?;
        let cache = request.cache.as_ref()?;
        let inner = self.lock();
        let (at, answer) = inner.answers.get(&place)?;
        (now <= at.plus(cache.ttl)).then(|| answer.clone())
    }

    /// Keeps an answer, if it was a success.
    pub fn keep(&self, place: String, answer: &Attempt, now: Timestamp) {
        if answer.effect != Effect::Done {
            return;
        }
        let mut inner = self.lock();
        if inner.answers.insert(place.clone(), (now, answer.clone())).is_none() {
            inner.order.push_back(place);
        }
        while inner.order.len() > ANSWERS_MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ServiceName;
    use crate::request::{Again, CacheUse};
    use crate::time::Span;

    #[test]
    fn young_successes_stand_in() {
        let request = |service: &str, key: &str| Request {
            service: ServiceName::parse(service).unwrap(),
            method: "GET".to_owned(),
            target: "/rates".to_owned(),
            headers: Vec::new(),
            body: None,
            cache: Some(CacheUse { key: key.to_owned(), ttl: Span(1_000) }),
        };
        let answer = |effect| Attempt { effect, again: Again::No, answer: None, problem: None, retry_after: None };
        let answers = Answers::default();
        let one = request("bank", "eur");
        answers.keep(Answers::place(&one).unwrap(), &answer(Effect::Done), Timestamp(5_000));
        answers.keep(Answers::place(&request("bank", "usd")).unwrap(), &answer(Effect::Maybe), Timestamp(5_000));
        for (why, request, at, found) in [
            ("young", &one, 6_000, true),
            ("too old", &one, 6_001, false),
            ("another key", &request("bank", "gbp"), 5_000, false),
            ("another service", &request("shop", "eur"), 5_000, false),
            ("no success", &request("bank", "usd"), 5_000, false),
        ] {
            assert_eq!(answers.find(request, Timestamp(at)).is_some(), found, "{why}");
        }
    }
}
