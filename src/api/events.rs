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
use super::cloud_event::{self, NotAnEvent};
use super::problem::ApiError;
use super::routes::Api;
use super::span::RequestSpan;
use super::wire::{Accepted, EventOptions};
use crate::envelope::Event;
use crate::id::EventType;
use crate::payload::Payload;
use crate::time::Clock;

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
    let request = RequestSpan::open("POST /api/v1/events/{type}", &headers);
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
        trace: request.trace.clone(),
        extensions: std::collections::BTreeMap::new(),
        data,
    };
    if let Some(id) = &event.correlation_id {
        request.span.record("correlation.id", id);
    }
    let accepted = publish_all(&api, vec![event]).instrument(request.span.clone()).await.map_err(|(_, error)| error);
    request.answered(accepted.as_ref().map(|_| StatusCode::ACCEPTED));
    Ok((StatusCode::ACCEPTED, Json(accepted?.pop())).into_response())
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
    let media = body::media_type(&headers).unwrap_or_default();
    let mode = mode(&media, &headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let events = match mode {
        Mode::Structured => vec![cloud_event::structured(body::parse_json(&bytes)?.text()).map_err(refused)?],
        Mode::Binary => {
            let data = if bytes.is_empty() { Payload::null() } else { body::parse_json(&bytes)? };
            vec![cloud_event::binary(&headers, data).map_err(refused)?]
        }
        Mode::Batch => read_batch(body::parse_json(&bytes)?.text())?,
    };
    let batch = matches!(mode, Mode::Batch);
    let caller = cloud_event::trace(&headers);
    let mut requests = Vec::with_capacity(events.len());
    let events = events.into_iter().map(|mut event| {
        // An event's own trace comes before the request's: it may be forwarded for others.
        let request = RequestSpan::continuing("POST /api/v1/events", event.trace.take().or_else(|| caller.clone()));
        event.trace.clone_from(&request.trace);
        event.time.get_or_insert_with(|| api.clock.now().to_string());
        requests.push(request);
        event
    });
    let events = events.collect();
    let accepted = publish_all(&api, events).await;
    let answered = accepted.as_ref().map(|_| StatusCode::ACCEPTED).map_err(|(_, error)| error);
    requests.iter().for_each(|request| request.answered(answered));
    let mut accepted = accepted.map_err(|(index, error)| if batch { error.of_event(index) } else { error })?;
    if batch {
        return Ok((StatusCode::ACCEPTED, Json(accepted)).into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(accepted.pop())).into_response())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Structured,
    Binary,
    Batch,
}

/// Tells the mode by the content type (HTTP binding section 3): what is neither structured nor a batch is binary.
fn mode(media: &str, headers: &HeaderMap) -> Result<Mode, ApiError> {
    match media {
        cloud_event::STRUCTURED => Ok(Mode::Structured),
        cloud_event::BATCH => Ok(Mode::Batch),
        _ if headers.contains_key("ce-specversion") => body::want_json(headers).map(|()| Mode::Binary),
        other => Err(body::unsupported(
            other,
            "application/cloudevents+json or application/cloudevents-batch+json, or `ce-` headers with \
             application/json; for data alone use POST /api/v1/events/{type}",
        )),
    }
}

fn read_batch(text: &str) -> Result<Vec<Event>, ApiError> {
    let items: Vec<Box<RawValue>> =
        serde_json::from_str(text).map_err(|_| ApiError::bad_request("a batch is a JSON array of events"))?;
    if items.len() > BATCH_EVENTS_MAX {
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the batch is too large")
            .detail(format!("at most {BATCH_EVENTS_MAX} events are taken, these are {}", items.len())));
    }
    let read = |(index, raw): (usize, Box<RawValue>)| {
        cloud_event::structured(raw.get()).map_err(|error| refused(error).of_event(index))
    };
    items.into_iter().enumerate().map(read).collect()
}

fn refused(error: NotAnEvent) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "not-an-event", "this is no CloudEvent that is taken here")
        .detail(error.to_string())
}

async fn publish_all(api: &Api, events: Vec<Event>) -> Result<Vec<Accepted>, (usize, ApiError)> {
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let published = api.handle.publish(events).await.map_err(|(index, error)| (index, ApiError::from(error)))?;
    let accepted = ids.into_iter().zip(published);
    Ok(accepted.map(|(id, at)| Accepted { id, sequence: at.sequence, duplicate: at.duplicate }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let rows: &[(&str, &str, bool, Result<Mode, u16>)] = &[
            ("structured", "application/cloudevents+json; charset=utf-8", false, Ok(Mode::Structured)),
            ("batch", "application/cloudevents-batch+json", false, Ok(Mode::Batch)),
            ("binary", "application/json", true, Ok(Mode::Binary)),
            ("binary without a content type", "", true, Ok(Mode::Binary)),
            ("data alone", "application/json", false, Err(415)),
            ("binary with text", "text/plain", true, Err(415)),
        ];
        for (why, content, binary, expected) in rows {
            let mut headers = HeaderMap::new();
            if !content.is_empty() {
                headers.insert("content-type", content.parse().unwrap());
            }
            if *binary {
                headers.insert("ce-specversion", "1.0".parse().unwrap());
            }
            let media = body::media_type(&headers).unwrap_or_default();
            assert_eq!(mode(&media, &headers).map_err(|error| error.details().status), *expected, "{why}");
        }
    }

    #[test]
    fn a_batch_names_the_event_that_is_wrong() {
        let good = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.v1"}"#;
        assert_eq!(read_batch("[]").unwrap().len(), 0);
        assert_eq!(read_batch(&format!("[{good},{good}]")).unwrap().len(), 2);
        let error = read_batch(&format!("[{good},\"no\"]")).unwrap_err();
        assert_eq!((error.details().status, error.details().index), (400, Some(1)));
        assert_eq!(read_batch(good).unwrap_err().details().status, 400, "no array");
        let many = vec![good; BATCH_EVENTS_MAX + 1].join(",");
        assert_eq!(read_batch(&format!("[{many}]")).unwrap_err().details().status, 413);
    }
}
