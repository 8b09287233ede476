//! Publishing: one event by its data, or CloudEvents in any of the three modes.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use tracing::Instrument;
use uuid::Uuid;

use super::body::{self, Asked, Segment};
use super::cloud_event::{self, Mode, refused};
use super::problem::ApiError;
use super::routes::Api;
use super::span::{Began, RequestSpan};
use super::wire::{Accepted, EventOptions};
use crate::coordinator::published_span;
use crate::envelope::{Event, structured};
use crate::id::EventType;
use crate::payload::Payload;
use crate::time::Clock;
use crate::trace_context::TraceContext;

/// The source of events that name none.
const SOURCE_DEFAULT: &str = "/backstitch/api";
/// Events in one batch: with 1 KiB each it fills the largest body; each is one PubAck to await.
const BATCH_EVENTS_MAX: usize = 1_000;

/// `POST /api/v1/events/{type}`: the body is the data.
pub async fn publish(
    State(api): State<Api>,
    Segment(event_type): Segment,
    Asked(options): Asked<EventOptions>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let event_type = EventType::parse(&event_type).map_err(|error| ApiError::bad_request(error.to_string()))?;
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let data = if bytes.is_empty() { Payload::null() } else { body::parse_json(&bytes)? };
    let pick = |name: &'static str, asked: Option<String>, header_names: &[&str]| -> Result<Option<String>, ApiError> {
        let value = match asked {
            Some(text) => Some(text),
            None => text_header(&headers, header_names)?,
        };
        value.map(|text| body::check_text(name, &text).map(|()| text)).transpose()
    };
    let request = RequestSpan::open(api.handle.span_sink(), "POST /api/v1/events/{type}", &headers);
    let event = Event {
        id: pick("id", options.id, &["ce-id", "idempotency-key"])?.unwrap_or_else(|| Uuid::now_v7().to_string()),
        source: pick("source", options.source, &["ce-source"])?.unwrap_or_else(|| SOURCE_DEFAULT.to_owned()),
        event_type,
        time: Some(api.clock.now().to_string()),
        subject: pick("subject", None, &["ce-subject"])?,
        dataschema: None,
        correlation_id: pick("correlation_id", options.correlation_id, &["ce-correlationid", "correlation-id"])?,
        causation_id: pick("causation_id", None, &["ce-causationid"])?,
        partition_key: pick("key", options.key, &["ce-partitionkey"])?,
        trace: Some(request.trace()),
        extensions: std::collections::BTreeMap::new(),
        data,
    };
    let began = began(&event);
    let accepted = publish_all(&api, vec![event], Several::One).instrument(request.log.clone()).await;
    request.answered(accepted.as_ref().map(|_| StatusCode::ACCEPTED), &began);
    Ok((StatusCode::ACCEPTED, Json(accepted?.pop())).into_response())
}

fn began(event: &Event) -> Began {
    let first = event.trace.as_ref().map(|trace| trace.with_span(published_span(event)));
    Began { first, run: None, correlation_id: event.correlation_id.clone() }
}

fn text_header(headers: &HeaderMap, names: &[&str]) -> Result<Option<String>, ApiError> {
    let Some((name, value)) = names.iter().find_map(|name| Some((name, headers.get(*name)?))) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::bad_request(format!("header `{name}` is not ASCII")))?;
    Ok(Some(text.to_owned()))
}

/// `POST /api/v1/events`: CloudEvents in structured, binary or batch mode.
pub async fn publish_cloud_events(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mode = cloud_event::mode(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let single = |event: Result<Event, Vec<String>>| {
        event.map_err(|mistakes| refused(mistakes.into_iter().map(|mistake| (None, mistake)).collect()))
    };
    let events = match mode {
        Mode::Structured => vec![single(structured::parse(body::parse_json(&bytes)?.text().as_bytes()))?],
        Mode::Binary => {
            if body::media_type(&headers).is_none_or(|media| body::is_json(&media)) && !bytes.is_empty() {
                body::parse_json(&bytes)?; // told with line and column, numbers that nothing can read among it
            }
            vec![single(cloud_event::binary(&headers, &bytes))?]
        }
        Mode::Batch => read_batch(&body::parse_json(&bytes)?)?,
    };
    let batch = matches!(mode, Mode::Batch);
    let caller = cloud_event::trace(&headers);
    let mut requests = Vec::with_capacity(events.len());
    let events = events.into_iter().map(|mut event| {
        // An event's own trace comes before the request's: it may be forwarded for others.
        let own = event
            .trace
            .take()
            .map(|own| TraceContext { baggage: caller.as_ref().and_then(|caller| caller.baggage.clone()), ..own });
        let caller = own.or_else(|| caller.clone());
        let request = RequestSpan::continuing(api.handle.span_sink(), "POST /api/v1/events", caller);
        event.trace = Some(request.trace());
        event.time.get_or_insert_with(|| api.clock.now().to_string());
        requests.push((request, began(&event)));
        event
    });
    let events = events.collect();
    let accepted = publish_all(&api, events, if batch { Several::Batch } else { Several::One }).await;
    let answered = accepted.as_ref().map(|_| StatusCode::ACCEPTED);
    requests.iter().for_each(|(request, began)| request.answered(answered, began));
    let mut accepted = accepted?;
    if batch {
        return Ok((StatusCode::ACCEPTED, Json(accepted)).into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(accepted.pop())).into_response())
}

fn read_batch(text: &Payload) -> Result<Vec<Event>, ApiError> {
    let items: Vec<&RawValue> =
        serde_json::from_str(text.text()).map_err(|_| ApiError::bad_request("a batch is a JSON array of events"))?;
    if items.len() > BATCH_EVENTS_MAX {
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the batch is too large")
            .detail(format!("at most {BATCH_EVENTS_MAX} events are taken, these are {}", items.len())));
    }
    structured::parse_batch(text.text().as_bytes()).map_err(refused)
}

/// Whether a problem names the event that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Several {
    One,
    Batch,
}

async fn publish_all(api: &Api, events: Vec<Event>, several: Several) -> Result<Vec<Accepted>, ApiError> {
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let published = api.handle.publish(events).await.map_err(|failures| match several {
        Several::One => failures.into_iter().next().map_or_else(nothing, |(_, error)| ApiError::from(error)),
        Several::Batch => ApiError::of_events(failures),
    })?;
    let accepted = ids.into_iter().zip(published);
    Ok(accepted.map(|(id, at)| Accepted { id, sequence: at.sequence, duplicate: at.duplicate }).collect())
}

/// A failure always names an event; without one, nothing was accepted either.
fn nothing() -> ApiError {
    ApiError::unavailable("the bus gave no reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_names_every_event_that_is_wrong() {
        let batch = |text: &str| read_batch(&Payload::parse(text).unwrap());
        let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.v1"}"#;
        assert_eq!(batch("[]").unwrap().len(), 0);
        assert_eq!(batch(&format!("[{good},{good}]")).unwrap().len(), 2);
        let error = batch(&format!("[{good},\"no\",{good},{{\"id\":1}}]")).unwrap_err();
        assert_eq!((error.details().status, error.details().index), (400, Some(1)));
        let pointers: Vec<&str> = error.details().errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/1", "/3", "/3", "/3", "/3"], "no object; and four attributes");
        assert_eq!(batch(good).unwrap_err().details().status, 400, "no array");
        let many = vec![good; BATCH_EVENTS_MAX + 1].join(",");
        assert_eq!(batch(&format!("[{many}]")).unwrap_err().details().status, 413);
    }
}
