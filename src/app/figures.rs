//! Carries figures of the connector and of the process to the metrics, as the adapters do not know each
//! other; and pushes all of them to a collector where that is configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::connector::Services;
use crate::coordinator::Handle;
use crate::events::Events;
use crate::resilience::CircuitState;
use crate::telemetry::Pusher;
use crate::telemetry::metrics::Metrics;

/// Prometheus asks every 15 s as a rule; a second is near enough for people too.
const EVERY: Duration = Duration::from_secs(1);
/// `_SC_CLK_TCK` of every Linux.
const TICK_MS: u64 = 10;
const PAGE_BYTES: u64 = 4_096;

/// What figures are carried from.
pub struct Sources {
    pub connector: Services,
    pub events: Events,
    /// The journal's directory.
    pub journal: PathBuf,
    pub free_bytes_min: u64,
}

/// Carries figures for as long as the process lives.
pub async fn carry(sources: Sources, metrics: Arc<Metrics>) {
    loop {
        calls(&sources.connector, &metrics);
        disk(&sources.journal, sources.free_bytes_min, &metrics);
        event_side(&sources.events, &metrics);
        process(&metrics);
        tokio::time::sleep(EVERY).await;
    }
}

/// Pushes all figures to the collector, again and again. One that is away is said once.
pub async fn push(handle: Handle, metrics: Arc<Metrics>, pusher: Pusher, every: Duration) {
    let mut is_away = false;
    loop {
        tokio::time::sleep(every).await;
        handle.refresh_metrics().await;
        match pusher.push(&metrics).await {
            Ok(()) => is_away = false,
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(error, "the collector takes no metrics; the next ones are tried all the same");
                }
            }
        }
    }
}

/// Calls and circuits by service.
fn calls(connector: &Services, metrics: &Metrics) {
    for figures in connector.figures() {
        let service = figures.service.as_str();
        metrics.call_wait.with(&[service]).at_least_ms(figures.waited_ms);
        metrics.calls_waiting.with(&[service]).set(figures.waiting);
        metrics.calls_in_flight.with(&[service]).set(u64::from(figures.in_flight));
        metrics.calls_limit.with(&[service]).set(u64::from(figures.limit));
        if let Some(circuit) = figures.circuit {
            let now = match circuit {
                CircuitState::Closed => "closed",
                CircuitState::Open { .. } => "open",
                CircuitState::Probing { .. } => "half_open",
            };
            for word in ["closed", "open", "half_open"] {
                metrics.circuit.with(&[service, word]).set(u64::from(word == now));
            }
        }
    }
}

/// The disk that the journal lies on.
fn disk(journal: &Path, free_bytes_min: u64, metrics: &Metrics) {
    if let Ok(disk) = rustix::fs::statvfs(journal) {
        metrics.disk_free.with(&[]).set(disk.f_bavail.saturating_mul(disk.f_frsize));
    }
    metrics.disk_free_min.with(&[]).set(free_bytes_min);
}

/// Subscriptions and outbox tables.
fn event_side(events: &Events, metrics: &Metrics) {
    for one in events.list_subscriptions() {
        let name = one.name.as_str();
        for (outcome, count) in
            [("delivered", one.delivered), ("failed", one.failed_attempts), ("put_aside", one.put_aside)]
        {
            metrics.subscription_events.with(&[name, outcome]).at_least(count);
        }
        metrics.subscription_waiting.with(&[name]).set(one.waiting as u64);
        metrics.subscription_disabled.with(&[name]).set(u64::from(one.reason.is_some()));
    }
    for one in events.list_outboxes() {
        let name = one.name.as_str();
        metrics.outbox_rows.with(&[name, "published"]).at_least(one.published);
        metrics.outbox_rows.with(&[name, "put_aside"]).at_least(one.put_aside);
        metrics.outbox_ready.with(&[name]).set(u64::from(one.ready));
    }
}

/// This process as the kernel sees it; where there is no `/proc`, nothing is said.
fn process(metrics: &Metrics) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    // The second field is the program's name in parentheses and may hold anything.
    let stat = read("stat");
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (ticks(), ticks()) {
        metrics.cpu.with(&[]).at_least_ms((user + system) * TICK_MS);
    }
    let pages = read("statm").split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    if let Some(pages) = pages {
        metrics.memory.with(&[]).set(pages * PAGE_BYTES);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        metrics.open_files.with(&[]).set(files.count() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ServiceName;
    use crate::resilience::CircuitPolicy;
    use crate::service::{Service, ServiceUrl};
    use crate::time::Span;

    #[test]
    fn figures_are_carried() {
        let mut service = Service::at(ServiceUrl::parse("http://127.0.0.1:1").unwrap());
        service.circuit = Some(CircuitPolicy { failures: 1, window: Span(1_000), open: Span(1_000) });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let connector = Services::new([(ServiceName::parse("pay").unwrap(), service)]).unwrap();
        let metrics = Metrics::default();
        calls(&connector, &metrics);
        disk(Path::new("."), 7, &metrics);
        process(&metrics);
        let text = metrics.render();
        for line in [
            "backstitch_circuit_state{service=\"pay\",state=\"closed\"} 1",
            "backstitch_circuit_state{service=\"pay\",state=\"open\"} 0",
            "backstitch_calls_in_flight{service=\"pay\"} 0",
            "backstitch_calls_limit{service=\"pay\"} 64",
            "backstitch_disk_free_bytes_min 7",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
        for name in ["backstitch_disk_free_bytes", "process_resident_memory_bytes", "process_open_fds"] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            assert!(value.is_some_and(|value| value > 0), "{name} in\n{text}");
        }
    }
}
