//! Outbox tables: what a service's transactions wrote is published in order, with stable ids, and then removed.
//! A crash in between publishes it again with the same id, which the server and every inbox know.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Events;
use crate::bus::{self, DeadLetter, RawMessage, wire};
use crate::coordinator::Refusal;
use crate::envelope::Event;
use crate::envelope::binary;
use crate::id::{EventType, ServiceName};
use crate::payload::Payload;
use crate::postgres::{self, Row, Table};
use crate::time::Span;
use crate::trace_context::TraceContext;

/// First and longest pause while the database or NATS is away.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(10);

/// One table, by its configuration.
#[derive(Debug, Clone)]
pub struct OutboxTable {
    pub name: ServiceName,
    pub options: postgres::Options,
    /// The events' source.
    pub source: String,
    /// How often an empty table is looked at.
    pub poll: Span,
}

/// What is shown of an outbox table; counts are since the process began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxView {
    pub name: String,
    /// The table can be read.
    pub ready: bool,
    pub published: u64,
    pub put_aside: u64,
}

/// Why a row is no event that can be published.
struct Unfit {
    /// As it would have been published.
    raw: RawMessage,
    reason: &'static str,
    detail: String,
    pointers: Vec<String>,
}

/// The consumer's name as dead letters carry it.
fn consumer(name: &ServiceName) -> String {
    format!("outbox-{name}")
}

impl Events {
    /// Adds outbox tables; they are read when the event side is started.
    pub fn read_outboxes(&self, tables: Vec<OutboxTable>) {
        for table in tables {
            let this = self.clone();
            this.note_outbox(&table.name, |_| {});
            self.later(Box::pin(async move { this.read_outbox(Arc::new(table)).await }));
        }
    }

    /// Lists outbox tables by name.
    #[must_use]
    pub fn list_outboxes(&self) -> Vec<OutboxView> {
        self.0.outboxes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn note_outbox(&self, name: &ServiceName, change: impl FnOnce(&mut OutboxView)) {
        let mut outboxes = self.0.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_string();
        change(outboxes.entry(name.clone()).or_insert_with(|| OutboxView { name, ..OutboxView::default() }));
    }

    async fn read_outbox(&self, outbox: Arc<OutboxTable>) {
        let (mut pause, mut said) = (AGAIN_PAUSE, String::new());
        loop {
            let why = match Table::open(&outbox.options).await {
                Ok(table) => {
                    tracing::info!(outbox = %outbox.name, "an outbox table is read");
                    pause = AGAIN_PAUSE;
                    self.note_outbox(&outbox.name, |view| view.ready = true);
                    self.drain(&outbox, &table).await
                }
                Err(error) => error.to_string(),
            };
            self.note_outbox(&outbox.name, |view| view.ready = false);
            if said != why {
                tracing::warn!(outbox = %outbox.name, error = why, "an outbox table cannot be read, trying again");
                said = why;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_PAUSE_MAX);
        }
    }

    /// Publishes what is in the table and what comes; returns why it cannot go on.
    async fn drain(&self, outbox: &OutboxTable, table: &Table) -> String {
        loop {
            let rows = match table.rows().await {
                Ok(rows) => rows,
                Err(error) => return error.to_string(),
            };
            let through = self.publish_rows(outbox, &rows).await;
            if !through.is_empty()
                && let Err(error) = table.remove(&through).await
            {
                return error.to_string();
            }
            if through.len() < rows.len() {
                tokio::time::sleep(AGAIN_PAUSE).await; // NATS is away, and says so elsewhere
            } else if rows.is_empty() {
                tokio::time::sleep(outbox.poll.to_std()).await;
            }
        }
    }

    /// Publishes rows in order; returns the ids of those that are through: published, or put aside.
    async fn publish_rows(&self, outbox: &OutboxTable, rows: &[Row]) -> Vec<String> {
        let mut through = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            let mut events = Vec::new();
            let mut unfit = None;
            for row in rest {
                match self.event_of(outbox, row) {
                    Ok(event) => events.push(event),
                    Err(why) => {
                        unfit = Some(why);
                        break;
                    }
                }
            }
            let count = events.len();
            if count > 0 {
                for (row, result) in rest.iter().zip(self.0.bus.publish(events.clone()).await) {
                    match result {
                        Ok(_) => {
                            through.push(row.id.clone());
                            self.note_outbox(&outbox.name, |view| view.published += 1);
                        }
                        Err(bus::Error::Unavailable(_)) => return through,
                        Err(bus::Error::Refused(detail)) => {
                            let at = through.len() - (rows.len() - rest.len());
                            let raw = events.get(at).map(wire::encode).unwrap_or_else(|| bare(row));
                            unfit =
                                Some(Box::new(Unfit { raw, reason: "refused_by_bus", detail, pointers: Vec::new() }));
                            break;
                        }
                    }
                }
                rest = &rows[through.len()..];
            }
            if let (Some(unfit), Some(row)) = (unfit, rest.first()) {
                if !self.put_row_aside(outbox, unfit).await {
                    return through;
                }
                self.note_outbox(&outbox.name, |view| view.put_aside += 1);
                through.push(row.id.clone());
                rest = &rest[1..];
            }
        }
        through
    }

    /// Makes the event of a row.
    fn event_of(&self, outbox: &OutboxTable, row: &Row) -> Result<Event, Box<Unfit>> {
        let refused = |reason, detail: String, pointers| Box::new(Unfit { raw: bare(row), reason, detail, pointers });
        let event_type = EventType::parse(&row.event_type)
            .map_err(|error| refused("invalid_event", error.to_string(), Vec::new()))?;
        let data = match &row.payload {
            None => Payload::null(),
            Some(text) => Payload::parse(text.as_str())
                .map_err(|error| refused("invalid_event", format!("the payload is no JSON: {error}"), Vec::new()))?,
        };
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let event = Event {
            id: row.id.clone(),
            source: outbox.source.clone(),
            event_type,
            time: None,
            subject: given(&row.aggregate_id),
            dataschema: None,
            correlation_id: row.correlation_id.clone(),
            causation_id: row.causation_id.clone(),
            partition_key: given(&row.aggregate_id),
            trace: row.traceparent.as_deref().and_then(|parent| TraceContext::parse(parent, row.tracestate.as_deref())),
            extensions: given(&row.aggregate_type).map(|kind| ("aggregatetype".to_owned(), kind)).into_iter().collect(),
            data,
        };
        wire::check(&event).map_err(|detail| refused("invalid_event", detail, Vec::new()))?;
        self.0.schemas.check(&event.event_type, &event.data).map_err(|refusal| {
            let detail = refusal.line(&event.event_type);
            let (reason, pointers) = match refusal {
                Refusal::UnknownType { .. } => ("unknown_type", Vec::new()),
                Refusal::Invalid(violations) | Refusal::NoWay { violations, .. } => {
                    ("invalid_data", violations.into_iter().map(|(pointer, _)| pointer).collect())
                }
            };
            Box::new(Unfit { raw: wire::encode(&event), reason, detail, pointers })
        })?;
        Ok(event)
    }

    async fn put_row_aside(&self, outbox: &OutboxTable, unfit: Box<Unfit>) -> bool {
        let unfit = *unfit;
        tracing::warn!(outbox = %outbox.name, reason = unfit.reason, detail = unfit.detail, "a row is put aside in DEAD_LETTERS");
        let now = self.0.clock.now();
        let letter = DeadLetter {
            raw: unfit.raw,
            reason: unfit.reason.to_owned(),
            detail: unfit.detail,
            pointers: unfit.pointers,
            consumer: consumer(&outbox.name),
            stream: consumer(&outbox.name),
            sequence: 0,
            attempts: 1,
            first_at: now,
            last_at: now,
        };
        self.0.bus.dead_letter(letter).await.is_ok()
    }
}

/// What there is of a row that is no event: its columns as headers.
fn bare(row: &Row) -> RawMessage {
    let subject = match EventType::parse(&row.event_type) {
        Ok(event_type) => format!("{}.{event_type}", wire::EVENTS),
        Err(_) => format!("{}.unreadable", wire::EVENTS),
    };
    let header = |name: &str, value: &str| (name.to_owned(), binary::encode(value));
    let headers = vec![
        header("ce-specversion", "1.0"),
        header("ce-id", &row.id),
        header("ce-type", &row.event_type),
        header("ce-partitionkey", &row.aggregate_id),
    ];
    RawMessage { subject, headers, payload: row.payload.clone().unwrap_or_default().into() }
}
