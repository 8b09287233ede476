//! `POST /webhooks/{name}`: what others send when something happened to them, each with a signature instead of a token.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use tracing::Instrument;

use super::body::{self, Segment};
use super::problem::ApiError;
use super::routes::Api;
use super::span::{Began, RequestSpan};
use super::wire::{WebhookAccepted, WebhookRun};
use crate::coordinator::{Delivered, Started, WebhookError, anchor_span};
use crate::id::{SagaName, ServiceName};
use crate::payload::Payload;
use crate::time::Clock;
use crate::webhook::{self, Delivery, Hello, Webhook};

/// The configured webhooks; a reload puts others in their place.
pub struct Webhooks(RwLock<Arc<BTreeMap<ServiceName, Webhook>>>);

impl Webhooks {
    #[must_use]
    pub fn new(webhooks: BTreeMap<ServiceName, Webhook>) -> Self {
        Self(RwLock::new(Arc::new(webhooks)))
    }

    pub fn replace(&self, webhooks: BTreeMap<ServiceName, Webhook>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(webhooks);
    }

    fn get(&self) -> Arc<BTreeMap<ServiceName, Webhook>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl webhook::Headers for HeaderMap {
    fn text(&self, name: &str) -> Option<&str> {
        let mut all = self.get_all(name).iter();
        match (all.next(), all.next()) {
            (Some(one), None) => one.to_str().ok(),
            _ => None,
        }
    }
}

/// `POST /webhooks/{name}`
pub async fn receive(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let webhooks = api.webhooks.get();
    let Some((name, webhook)) = ServiceName::parse(&name).ok().and_then(|name| webhooks.get_key_value(&name)) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no-webhook", "there is no webhook of this name")
            .detail("`webhooks:` in backstitch.yaml names them"));
    };
    let answer = taken(&api, (name, webhook), &headers, body).await;
    let outcome = match &answer {
        Ok(_) => "accepted",
        Err(error) if error.status() == StatusCode::FORBIDDEN => "unsigned",
        Err(_) => "failed",
    };
    api.handle.count_delivery(name, outcome);
    answer
}

async fn taken(
    api: &Api,
    (name, webhook): (&ServiceName, &Webhook),
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read(headers, body, api.body_bytes_max).await?;
    if let Err(refused) = webhook.verifier.verify(headers, &bytes, api.clock.now()) {
        // Anybody can cause it: counted, answered with the reason, and no line for each.
        tracing::debug!(webhook = %name, reason = %refused, "a webhook's delivery was refused");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "bad-signature", "this is not from who it should be")
            .detail(refused.to_string()));
    }
    let data = read(headers, &bytes)?;
    if let Some(Hello(words)) = webhook.hello(&data) {
        return Ok(words.into_response());
    }
    let delivery = webhook.delivery(name, headers, &bytes, data);
    let span = RequestSpan::open(api.handle.span_sink(), "POST /webhooks/{name}", headers);
    let mut began = Began::default();
    let answer = begin(api, name, delivery, (&span, &mut began)).instrument(span.log.clone()).await;
    span.answered(answer.as_ref().map(Response::status), &began);
    answer
}

fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Payload, ApiError> {
    match body::media_type(headers).as_deref() {
        _ if bytes.is_empty() => Ok(Payload::null()),
        Some("application/x-www-form-urlencoded") => Ok(webhook::form(bytes)),
        Some(other) if !body::is_json(other) => {
            Err(body::unsupported(other, "application/json or application/x-www-form-urlencoded"))
        }
        _ => body::parse_json(bytes),
    }
}

async fn begin(
    api: &Api,
    name: &ServiceName,
    delivery: Delivery,
    (span, began): (&RequestSpan, &mut Began),
) -> Result<Response, ApiError> {
    let Some(Delivered { started, failed }) = api.handle.deliver(name, &delivery, Some(&span.trace())).await else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no-saga", "no loaded saga is started by this webhook")
            .detail(format!("a saga says `on: [{{ webhook: {name} }}]`")));
    };
    let run = |(saga, started): (SagaName, Started)| match started {
        Started::Created(id) => WebhookRun { saga: saga.to_string(), id, created: true },
        Started::Existing(id) => WebhookRun { saga: saga.to_string(), id, created: false },
    };
    let runs: Vec<WebhookRun> = started.into_iter().map(run).collect();
    if let Some(first) = runs.first() {
        span.log.record("run", tracing::field::display(first.id));
        began.run = Some(first.id.to_string());
        began.correlation_id.clone_from(&began.run);
        began.first = first.created.then(|| span.trace().with_span(anchor_span(first.id)));
    }
    match failed {
        None => Ok((StatusCode::ACCEPTED, Json(WebhookAccepted { id: delivery.id, runs })).into_response()),
        Some((saga, error)) => {
            tracing::warn!(webhook = %name, delivery = delivery.id, %saga, %error, "a delivery could not start its saga");
            Err(refused(&saga, error))
        }
    }
}

fn refused(saga: &SagaName, error: WebhookError) -> ApiError {
    match error {
        WebhookError::Start(error) => error.into(),
        WebhookError::Expression { .. } => {
            let title = format!("the delivery does not start saga `{saga}`");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-data", title)
                .detail(format!("its trigger's {error}"))
        }
    }
}
