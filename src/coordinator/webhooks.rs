//! Webhooks in: each delivery starts the sagas that its webhook triggers, once, whatever is sent again. Needs no
//! NATS: a start is accepted by the journal. What cannot start a saga is told to the sender, who keeps the delivery
//! and tries again.

use super::catalogue::Entry;
use super::handle::{Handle, KeyedStart, StartError, Started};
use super::inbox::EventScope;
use crate::definition::WebhookTrigger;
use crate::expression::Place;
use crate::id::{RunId, SagaName, ServiceName};
use crate::trace_context::TraceContext;
use crate::webhook::Delivery;

/// What came of a delivery; what has started is durable.
#[derive(Debug, Default)]
pub struct Delivered {
    pub started: Vec<(SagaName, Started)>,
    /// The first saga that could not be started, beside those that were.
    pub failed: Option<(SagaName, WebhookError)>,
}

/// Why a delivery does not start a saga.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WebhookError {
    /// One of the trigger's expressions, by its key.
    #[error("{key}: {detail}")]
    Expression { key: &'static str, detail: String },
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Handle {
    /// Counts what became of a delivery of a configured webhook: `accepted`, `unsigned`, `failed`.
    pub fn count_delivery(&self, webhook: &ServiceName, outcome: &str) {
        self.0.shared.metrics.webhook_delivery(webhook, outcome);
    }

    /// Starts what a delivery triggers. None: no loaded saga is started by this webhook.
    pub async fn deliver(
        &self,
        webhook: &ServiceName,
        delivery: &Delivery,
        trace: Option<&TraceContext>,
    ) -> Option<Delivered> {
        let catalogue = self.0.catalogue.get();
        let mut triggers = catalogue.triggered_by_webhook(webhook, (&delivery.source, &delivery.id)).peekable();
        triggers.peek()?;
        let scope = EventScope { event: delivery.event.clone() };
        let mut delivered = Delivered::default();
        for (entry, trigger) in triggers {
            let name = &entry.definition.name;
            let seen = |saga: &SagaName| saga == name;
            if delivered.started.iter().any(|(saga, _)| seen(saga))
                || delivered.failed.as_ref().is_some_and(|(saga, _)| seen(saga))
            {
                continue; // one delivery starts a saga once: the first entry of `on` that fits
            }
            match self.deliver_to(entry, trigger, delivery, &scope, trace).await {
                Ok(started) => delivered.started.extend(started.map(|started| (name.clone(), started))),
                // The others get it all the same.
                Err(error) => drop(delivered.failed.get_or_insert_with(|| (name.clone(), error))),
            }
        }
        Some(delivered)
    }

    async fn deliver_to(
        &self,
        entry: &Entry,
        trigger: &WebhookTrigger,
        delivery: &Delivery,
        scope: &EventScope,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Started>, WebhookError> {
        let wrong = |key, detail: String| WebhookError::Expression { key, detail };
        if let Some(when) = &trigger.when
            && !when.eval_bool(scope).map_err(|error| wrong("when", error.to_string()))?
        {
            return Ok(None);
        }
        let key = match &trigger.key {
            None => format!("{}#{}", delivery.source, delivery.id),
            Some(key) => key
                .eval(scope, Place::Plain)
                .map_err(|error| wrong("key", error.to_string()))?
                .ok_or_else(|| wrong("key", "it is null".to_owned()))?,
        };
        let input = match &trigger.input {
            None => delivery.data.clone(),
            Some(input) => input.eval(scope).map_err(|error| wrong("input", error.to_string()))?,
        };
        let start = KeyedStart {
            run: RunId::keyed(&entry.definition.name, &key),
            key,
            input,
            event: delivery.event.clone(),
            causation_id: Some(delivery.id.clone()),
        };
        Ok(Some(self.start_keyed(entry, start, trace).await?))
    }
}
