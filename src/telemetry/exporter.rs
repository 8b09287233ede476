//! The exporter: one thread with a runtime of its own takes spans from the queue in batches and sends
//! them over OTLP. A collector that is away or slow costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use super::otlp::{self, Client, Sender, Signal};
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
/// dropped, for a queue kept full would be memory for nothing.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// What the owner asks of the thread; the answer comes when the queue has been emptied, true if all of it was taken.
pub(super) enum Order {
    Flush(oneshot::Sender<bool>),
    Stop(oneshot::Sender<bool>),
}

/// Starts the thread.
///
/// # Errors
/// [`Error::Thread`] when the system gives no thread.
pub(super) fn start(
    client: Client,
    sender: Sender,
    queue: mpsc::Receiver<Item>,
    orders: mpsc::UnboundedReceiver<Order>,
    counters: Arc<Counters>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Thread { source })?;
    let worker = Worker { client, sender, counters, away_until: None, batch: Vec::with_capacity(BATCH_LEN) };
    std::thread::Builder::new()
        .name("telemetry".to_owned())
        .spawn(move || runtime.block_on(worker.run(queue, orders)))
        .map(drop)
        .map_err(|source| Error::Thread { source })
}

struct Worker {
    client: Client,
    sender: Sender,
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
            let taken = self.drain(&mut queue, order.is_some()).await;
            match order {
                None => {}
                Some(Some(Order::Flush(done))) => done.send(taken).unwrap_or_default(),
                Some(Some(Order::Stop(done))) => return done.send(taken).unwrap_or_default(),
                // The owner is gone without a word.
                Some(None) => return,
            }
        }
    }

    /// Sends what is there: one batch, or everything.
    async fn drain(&mut self, queue: &mut mpsc::Receiver<Item>, everything: bool) -> bool {
        let mut taken = true;
        loop {
            while self.batch.len() < BATCH_LEN
                && let Ok(item) = queue.try_recv()
            {
                self.batch.push(item);
            }
            if self.batch.is_empty() {
                return taken;
            }
            taken &= self.send().await;
            if !everything {
                return taken;
            }
        }
    }

    /// True when the batch was taken.
    async fn send(&mut self) -> bool {
        let len = self.batch.len() as u64;
        if self.away_until.is_some_and(|until| until > Instant::now()) {
            self.batch.clear();
            self.counters.dropped.fetch_add(len, Ordering::Relaxed);
            return false;
        }
        self.counters.in_hand.store(len, Ordering::Relaxed);
        let spans: Vec<Vec<u8>> = self.batch.drain(..).map(|span| otlp::span::encode(&span)).collect();
        let message = self.sender.request(&spans);
        let delivered = self.deliver(&message).await;
        self.counters.in_hand.store(0, Ordering::Relaxed);
        match delivered {
            Ok(()) => {
                self.counters.exported.fetch_add(len, Ordering::Relaxed);
                if self.away_until.take().is_some() {
                    tracing::info!(endpoint = self.client.endpoint(), "the trace collector is back");
                }
                true
            }
            Err(error) => {
                self.counters.dropped.fetch_add(len, Ordering::Relaxed);
                if self.away_until.replace(Instant::now() + PROBE_EVERY).is_none() {
                    tracing::warn!(
                        endpoint = self.client.endpoint(),
                        error,
                        "the trace collector takes no spans; they are dropped until it does"
                    );
                }
                false
            }
        }
    }

    async fn deliver(&self, message: &[u8]) -> Result<(), String> {
        let tries = if self.away_until.is_some() { 1 } else { TRIES };
        for _ in 1..tries {
            if self.export(message).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
        self.export(message).await
    }

    async fn export(&self, message: &[u8]) -> Result<(), String> {
        match tokio::time::timeout(EXPORT_TIMEOUT, self.client.send(Signal::Traces, message)).await {
            Ok(result) => result,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
