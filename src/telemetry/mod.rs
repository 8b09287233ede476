//! Logs on standard error, traces over OTLP, figures for Prometheus. Nothing here can slow a run: a
//! span that finds no place is dropped and counted.

mod exporter;
mod log;
pub mod metrics;
pub mod names;
mod otlp;
mod pusher;
mod sink;
mod span;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::sync::{mpsc, oneshot};

use self::exporter::Order;
pub use self::log::Format;
pub use self::otlp::Protocol;
pub use self::pusher::Pusher;
use self::sink::Forward;
pub use self::sink::{Counts, QUEUE_LEN, SpanSink};
pub use self::span::{AttrValue, EngineSpan, SpanKind, SpanStatus};

/// The configuration's `telemetry` section.
#[derive(Debug, Clone)]
pub struct Settings {
    /// An OTLP collector; none: spans are not exported.
    pub otlp: Option<String>,
    pub protocol: Protocol,
    /// The name that traces show.
    pub service: String,
    /// Share of the traces begun here that are recorded, 0.0 to 1.0.
    pub sampling: f64,
    /// `info`, or `info,backstitch::bus=debug`.
    pub log: String,
    pub log_format: Format,
}

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`telemetry.otlp`: {endpoint} is no OTLP endpoint: {reason}; write for example http://127.0.0.1:4317")]
    Endpoint { endpoint: String, reason: String },
    #[error("`telemetry.log`: `{log}`: {reason}; write for example info,backstitch::bus=debug")]
    Log { log: String, reason: String },
    #[error("cannot start the thread that exports spans: {source}")]
    Thread { source: std::io::Error },
}

/// Logs and traces of one process. Ends with [`Telemetry::shutdown`].
pub struct Telemetry {
    settings: Settings,
    spans: SpanSink,
    orders: mpsc::UnboundedSender<Order>,
    provider: SdkTracerProvider,
}

/// Sets up logs and traces for the process. A second call leaves the logs as the first set them up.
///
/// # Errors
/// [`Error`] for an endpoint or log directives that cannot be used.
pub fn init(settings: &Settings) -> Result<Telemetry, Error> {
    let telemetry = Telemetry::start(settings)?;
    log::install(settings, telemetry.provider.tracer_with_scope(span::scope()))?;
    Ok(telemetry)
}

impl Telemetry {
    /// Starts the exporter and nothing global: no logs, no spans of `tracing`.
    ///
    /// # Errors
    /// [`Error::Endpoint`] and [`Error::Thread`].
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let counters = Arc::default();
        let (orders, ordered) = mpsc::unbounded_channel();
        let queue = match &settings.otlp {
            None => None,
            Some(endpoint) => {
                let (queue, items) = mpsc::channel(QUEUE_LEN);
                let client = otlp::Client::new(endpoint, settings.protocol)
                    .map_err(|reason| Error::Endpoint { endpoint: endpoint.clone(), reason })?;
                exporter::start(client, otlp::Sender::new(&settings.service), items, ordered, Arc::clone(&counters))?;
                Some(queue)
            }
        };
        let spans = SpanSink::new(queue, counters, settings.sampling);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sampling))))
            .with_span_processor(Forward(spans.clone()))
            .build();
        Ok(Self { settings: settings.clone(), spans, orders, provider })
    }

    /// Returns where the engine's spans go.
    #[must_use]
    pub fn spans(&self) -> SpanSink {
        self.spans.clone()
    }

    /// Returns what pushes metrics to the collector; none where there is no collector.
    #[must_use]
    pub fn pusher(&self) -> Option<Pusher> {
        Pusher::new(&self.settings)
    }

    /// Sends what is queued; true when it was sent within the bound.
    pub async fn flush(&self, within: Duration) -> bool {
        self.order(Order::Flush, within).await
    }

    /// Sends what is queued and ends the exporter; true when it was sent within the bound. What is
    /// recorded later is dropped.
    pub async fn shutdown(self, within: Duration) -> bool {
        self.order(Order::Stop, within).await
    }

    async fn order(&self, order: fn(oneshot::Sender<bool>) -> Order, within: Duration) -> bool {
        let (done, emptied) = oneshot::channel();
        if !self.spans.is_on() || self.orders.send(order(done)).is_err() {
            return true;
        }
        tokio::time::timeout(within, emptied).await.is_ok_and(|emptied| emptied.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn spans_of_the_shell_go_to_the_same_queue() {
        let (queue, mut items) = mpsc::channel(8);
        let sink = SpanSink::new(Some(queue), Arc::default(), 1.0);
        let provider = SdkTracerProvider::builder().with_span_processor(Forward(sink)).build();
        let tracer = provider.tracer_with_scope(span::scope());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log::traces(tracer)), || {
            tracing::debug_span!("too fine").in_scope(|| {});
            tracing::info_span!(target: "hyper", "another's").in_scope(|| {});
            tracing::info_span!(target: "backstitch::api::span", "of the log").in_scope(|| {});
            tracing::info_span!("start", otel.name = "backstitch start", saga.run = "r-1").in_scope(|| {
                tracing::info!(files = 3, "said within");
            });
        });
        let Ok(span) = items.try_recv() else { panic!("the span of the start is not there") };
        assert_eq!(span.name, "backstitch start");
        assert!(span.attributes.iter().any(|attribute| attribute.key.as_str() == names::SAGA_RUN), "{span:?}");
        assert_eq!(span.events.first().map(|event| &*event.name), Some("said within"));
        assert!(items.try_recv().is_err(), "no other span");
    }
}
