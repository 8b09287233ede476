//! Carries the connector's figures to the metrics; the two adapters do not know each other.

use std::sync::Arc;
use std::time::Duration;

use crate::connector::http::HttpConnector;
use crate::resilience::CircuitState;
use crate::telemetry::metrics::Metrics;

/// Prometheus asks every 15 s as a rule; a second is near enough for people too.
const EVERY: Duration = Duration::from_secs(1);

/// Carries figures for as long as the process lives.
pub async fn carry(connector: HttpConnector, metrics: Arc<Metrics>) {
    loop {
        once(&connector, &metrics);
        tokio::time::sleep(EVERY).await;
    }
}

fn once(connector: &HttpConnector, metrics: &Metrics) {
    for figures in connector.figures() {
        let service = figures.service.as_str();
        metrics.call_wait_ms.with(&[service]).at_least(figures.waited_ms);
        metrics.calls_waiting.with(&[service]).set(figures.waiting);
        metrics.calls_in_flight.with(&[service]).set(u64::from(figures.in_flight));
        if let Some(circuit) = figures.circuit {
            metrics.circuit_open.with(&[service]).set(u64::from(circuit != CircuitState::Closed));
        }
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
        let connector = HttpConnector::new([(ServiceName::parse("pay").unwrap(), service)]).unwrap();
        let metrics = Metrics::default();
        once(&connector, &metrics);
        let text = metrics.render();
        for line in ["backstitch_circuit_open{service=\"pay\"} 0", "backstitch_calls_in_flight{service=\"pay\"} 0"] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
    }
}
