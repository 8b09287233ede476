//! The exporter: one thread with a runtime of its own takes spans from the queue in batches and sends
//! them over OTLP. A collector that is away or slow costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use super::sink::{Counters, Item};

/// A span has 0.5 to 1 KiB on the wire; collectors take messages of 4 MiB.
const BATCH_LEN: usize = 2_048;
/// How long the first span of a batch waits for others: short for people who look on, long enough for
/// batches of hundreds under load.
const LINGER: Duration = Duration::from_millis(200);
/// A collector answers in milliseconds.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A batch that was not taken is sent again this often, a restart of the collector apart.
const TRIES: u32 = 5;
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// While the collector is away, one batch in this time finds out whether it is back; the others are
/// dropped, for a queue kept full would be 40 MB for nothing.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// What the owner asks of the thread; the answer comes when the queue has been emptied.
pub(super) enum Order {
    Flush(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// Starts the thread.
///
/// # Errors
/// [`Error`] for an endpoint that is no address, or when the system gives no thread.
pub(super) fn start(
    endpoint: &str,
    resource: &Resource,
    scope: InstrumentationScope,
    queue: mpsc::Receiver<Item>,
    orders: mpsc::UnboundedReceiver<Order>,
    counters: Arc<Counters>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Thread { source })?;
    let exporter = {
        let _entered = runtime.enter();
        exporter(endpoint)
    };
    let mut exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            runtime.shutdown_background();
            return Err(error);
        }
    };
    exporter.set_resource(resource);
    let worker = Worker {
        exporter,
        endpoint: endpoint.to_owned(),
        scope,
        counters,
        away_until: None,
        batch: Vec::with_capacity(BATCH_LEN),
    };
    std::thread::Builder::new()
        .name("telemetry".to_owned())
        .spawn(move || runtime.block_on(worker.run(queue, orders)))
        .map(drop)
        .map_err(|source| Error::Thread { source })
}

fn exporter(endpoint: &str) -> Result<SpanExporter, Error> {
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .with_retry_policy(RetryPolicy::disabled());
    if endpoint.starts_with("https://") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    builder.build().map_err(|error| Error::Endpoint { endpoint: endpoint.to_owned(), reason: error.to_string() })
}

struct Worker {
    exporter: SpanExporter,
    endpoint: String,
    scope: InstrumentationScope,
    counters: Arc<Counters>,
    /// Set while the collector is away.
    away_until: Option<Instant>,
    batch: Vec<Item>,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Item>, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                order = orders.recv() => Some(order),
                taken = queue.recv_many(&mut self.batch, BATCH_LEN) => {
                    if taken == 0 {
                        // Every sink is gone, so nothing more can come.
                        return;
                    }
                    None
                }
            };
            let order = match order {
                Some(order) => Some(order),
                None if self.batch.len() >= BATCH_LEN => None,
                None => tokio::time::timeout(LINGER, orders.recv()).await.ok(),
            };
            self.drain(&mut queue, order.is_some()).await;
            match order {
                None => {}
                Some(Some(Order::Flush(done))) => done.send(()).unwrap_or_default(),
                Some(Some(Order::Stop(done))) => return done.send(()).unwrap_or_default(),
                // The owner is gone without a word.
                Some(None) => return,
            }
        }
    }

    /// Sends what is there: one batch, or everything.
    async fn drain(&mut self, queue: &mut mpsc::Receiver<Item>, everything: bool) {
        loop {
            while self.batch.len() < BATCH_LEN
                && let Ok(item) = queue.try_recv()
            {
                self.batch.push(item);
            }
            if self.batch.is_empty() {
                return;
            }
            self.send().await;
            if !everything {
                return;
            }
        }
    }

    async fn send(&mut self) {
        let len = self.batch.len() as u64;
        if self.away_until.is_some_and(|until| until > Instant::now()) {
            self.batch.clear();
            self.counters.dropped.fetch_add(len, Ordering::Relaxed);
            return;
        }
        let batch: Vec<SpanData> = self
            .batch
            .drain(..)
            .map(|item| match item {
                Item::Engine(span) => span.into_data(&self.scope),
                Item::Built(span) => *span,
            })
            .collect();
        match self.deliver(batch).await {
            Ok(()) => {
                self.counters.exported.fetch_add(len, Ordering::Relaxed);
                if self.away_until.take().is_some() {
                    tracing::info!(endpoint = self.endpoint, "the trace collector is back");
                }
            }
            Err(error) => {
                self.counters.dropped.fetch_add(len, Ordering::Relaxed);
                if self.away_until.replace(Instant::now() + PROBE_EVERY).is_none() {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        error,
                        "the trace collector takes no spans; they are dropped until it does"
                    );
                }
            }
        }
    }

    async fn deliver(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let tries = if self.away_until.is_some() { 1 } else { TRIES };
        for _ in 1..tries {
            if self.export(batch.clone()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
        self.export(batch).await
    }

    async fn export(&self, batch: Vec<SpanData>) -> Result<(), String> {
        // The exporter has a timeout of its own; this one holds whatever it does.
        match tokio::time::timeout(2 * EXPORT_TIMEOUT, self.exporter.export(batch)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
