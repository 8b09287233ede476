//! Metrics over OTLP: the same figures as the page for Prometheus, pushed to the collector.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Settings;
use super::metrics::Metrics;
use super::otlp::{Client, Sender, Signal};

/// A collector answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends figures to one collector.
pub struct Pusher {
    client: Client,
    sender: Sender,
    began_ns: u64,
}

impl Pusher {
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let client = Client::new(settings.otlp.as_deref()?, settings.protocol).ok()?;
        Some(Self { client, sender: Sender::new(&settings.service), began_ns: now_ns() })
    }

    /// Sends every figure once.
    ///
    /// # Errors
    /// One line: what the collector or the network said.
    pub async fn push(&self, metrics: &Metrics) -> Result<(), String> {
        let message = self.sender.request(&metrics.encode(self.began_ns, now_ns()));
        match tokio::time::timeout(TIMEOUT, self.client.send(Signal::Metrics, &message)).await {
            Ok(sent) => sent,
            Err(_) => Err(format!("{} does not answer within {} s", self.client.endpoint(), TIMEOUT.as_secs())),
        }
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
