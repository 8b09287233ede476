//! One delivery: a signed POST of the event in structured mode, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Subscription;
use crate::connector::http::HttpConnector;
use crate::envelope::Event;
use crate::request::{Effect, Request};
use crate::time::{Span, Timestamp};

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// Not taken; the endpoint may have said when to come again.
    Failed {
        why: String,
        retry_after: Option<Span>,
    },
    /// 410: nobody wants any of it any more.
    Gone,
}

/// Sends an event once.
pub(super) async fn deliver(
    connector: &HttpConnector,
    subscription: &Arc<Subscription>,
    event: &Event,
    replay: Option<&str>,
    attempt: u64,
    now: Timestamp,
) -> Outcome {
    let body = event.to_cloud_event();
    let (id, at_s) = (webhook_id(event, replay), now.0 / 1_000);
    let signatures: Vec<String> =
        subscription.keys.iter().map(|key| key.sign(&id, at_s, body.text().as_bytes())).collect();
    let mut headers = vec![
        ("content-type".to_owned(), "application/cloudevents+json; charset=utf-8".to_owned()),
        ("webhook-id".to_owned(), id),
        ("webhook-timestamp".to_owned(), at_s.to_string()),
        ("webhook-signature".to_owned(), signatures.join(" ")),
        ("backstitch-attempt".to_owned(), attempt.to_string()),
    ];
    if let Some(replay) = replay {
        headers.push(("backstitch-replay".to_owned(), replay.to_owned()));
    }
    if let Some(trace) = &event.trace {
        headers.push(("traceparent".to_owned(), trace.traceparent()));
    }
    let request = Request {
        service: subscription.name.clone(),
        method: "POST".to_owned(),
        target: String::new(),
        headers,
        body: Some(body),
        cache: None,
    };
    let attempt = connector.send(request, Duration::from_millis(subscription.timeout.0)).await;
    let status = attempt.answer.as_ref().map(|answer| answer.status);
    match (status, attempt.effect) {
        (Some(200..=299), _) | (None, Effect::Done) => Outcome::Delivered,
        (Some(410), _) => Outcome::Gone,
        (Some(status), _) => Outcome::Failed { why: format!("it answered {status}"), retry_after: attempt.retry_after },
        (None, Effect::None | Effect::Maybe) => {
            let why = attempt
                .problem
                .map_or_else(|| "no answer".to_owned(), |problem| problem.detail.unwrap_or(problem.title));
            Outcome::Failed { why, retry_after: None }
        }
    }
}

/// Returns the id that stays over all attempts: receivers tell repetitions by it. A replay is on purpose,
/// and has one of its own.
fn webhook_id(event: &Event, replay: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update((event.source.len() as u64).to_le_bytes());
    hash.update(event.source.as_bytes());
    hash.update(event.id.as_bytes());
    let hex: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    match replay {
        None => format!("evt_{hex}"),
        Some(replay) => format!("evt_{hex}_{replay}"),
    }
}
