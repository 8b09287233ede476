//! Waiting at a service's gate: in order of arrival, without using up the attempt's time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Figures;
use crate::id::ServiceName;
use crate::resilience::{CircuitState, Gate, Leave, Limits, Permit, Report};
use crate::service::Service;
use crate::time::Timestamp;

pub(super) struct Permission {
    gate: Mutex<Gate>,
    /// Held by the first in the queue: it alone watches the gate.
    turn: tokio::sync::Mutex<()>,
    reported: Notify,
    started: Instant,
    waiting: AtomicU64,
    waited_ms: AtomicU64,
}

impl Permission {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            gate: Mutex::new(Gate::new(limits, Timestamp(0))),
            turn: tokio::sync::Mutex::default(),
            reported: Notify::new(),
            started: Instant::now(),
            waiting: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
        }
    }

    /// Waits for leave to make one call. May be dropped at any time.
    pub(super) async fn acquire(&self) -> Held<'_> {
        let waiting = Waiting::new(self);
        let _turn = self.turn.lock().await;
        loop {
            let leave = self.gate().ask(self.now());
            match leave {
                Leave::Now(permit) => {
                    drop(waiting);
                    return Held { permission: self, permit: Some(permit), report: Report::Nothing };
                }
                Leave::AfterReport => self.reported.notified().await,
                Leave::At(at) => {
                    // A report may change the moment, so both are waited for.
                    let due = self.started + Duration::from_millis(at.0);
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.reported.notified() => {}
                    }
                }
            }
        }
    }

    /// Returns the calls in flight and the circuit.
    fn state(&self) -> (u32, Option<CircuitState>) {
        let gate = self.gate();
        (gate.in_flight(), gate.circuit(self.now()))
    }

    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn waited_ms(&self) -> u64 {
        self.waited_ms.load(Ordering::Relaxed)
    }

    /// Returns what is going on at a service with this gate.
    pub(super) fn figures(&self, name: &ServiceName, service: &Service, idle_sockets: usize) -> Figures {
        let (in_flight, circuit) = self.state();
        Figures {
            service: name.clone(),
            in_flight,
            limit: service.limits().concurrency,
            waiting: self.waiting(),
            waited_ms: self.waited_ms(),
            idle_sockets,
            circuit,
        }
    }

    /// Milliseconds since this gate was made: a clock that never jumps.
    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to make one call; gives it back when dropped.
pub(super) struct Held<'a> {
    permission: &'a Permission,
    permit: Option<Permit>,
    report: Report,
}

impl Held<'_> {
    /// Sets what the call showed.
    pub(super) fn report(&mut self, report: Report) {
        self.report = report;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            let now = self.permission.now();
            self.permission.gate().report(permit, self.report, now);
            self.permission.reported.notify_one();
        }
    }
}

/// Counts one waiting call, however the waiting ends.
struct Waiting<'a> {
    permission: &'a Permission,
    since: Instant,
}

impl<'a> Waiting<'a> {
    fn new(permission: &'a Permission) -> Self {
        permission.waiting.fetch_add(1, Ordering::Relaxed);
        Self { permission, since: Instant::now() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.permission.waiting.fetch_sub(1, Ordering::Relaxed);
        let waited = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.permission.waited_ms.fetch_add(waited, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::{CircuitPolicy, RatePolicy};
    use crate::time::Span;

    fn permission(limits: Limits) -> Permission {
        Permission::new(limits)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_delays() {
        let circuit = CircuitPolicy { failures: 1, window: Span::from_secs(10), open: Span::from_secs(20) };
        let gate = permission(Limits { circuit: Some(circuit), rate: None, concurrency: 8 });
        gate.acquire().await.report(Report::Failing);
        let start = Instant::now();
        gate.acquire().await.report(Report::Alive);
        assert_eq!(start.elapsed().as_secs(), 20, "the probe leaves when the open time is over");
        gate.acquire().await.report(Report::Alive);
        assert_eq!(start.elapsed().as_secs(), 20, "closed again");
        assert_eq!(gate.waited_ms(), 20_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_delays_in_order_of_arrival() {
        let rate = RatePolicy { count: 10, period: Span::from_secs(1), burst: 1 };
        let gate = permission(Limits { circuit: None, rate: Some(rate), concurrency: 100 });
        let (start, gate) = (Instant::now(), &gate);
        let calls = (0..21).map(|number| async move {
            drop(gate.acquire().await);
            (number, start.elapsed().as_millis() as u64 / 100)
        });
        let left = futures_util::future::join_all(calls).await;
        assert!(left.iter().all(|(number, tenths)| number == tenths), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_are_handed_on_and_a_dropped_wait_loses_none() {
        let gate = permission(Limits { circuit: None, rate: None, concurrency: 1 });
        let held = gate.acquire().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.acquire()).await.is_err());
        assert_eq!((gate.waiting(), gate.state().0), (0, 1));
        drop(held);
        let _again = tokio::time::timeout(Duration::from_secs(1), gate.acquire()).await.expect("a free place");
    }
}
