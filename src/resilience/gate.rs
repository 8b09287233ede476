//! The gate before a service: calls in flight, circuit and rate in one answer.

use super::circuit::{Circuit, CircuitPolicy, CircuitState};
use super::rate::{Bucket, RatePolicy};
use crate::planted;
use crate::time::Timestamp;

/// What a service can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub circuit: Option<CircuitPolicy>,
    pub rate: Option<RatePolicy>,
    /// Calls in flight; at least 1.
    pub concurrency: u32,
}

/// May a call leave?
#[derive(Debug, PartialEq, Eq)]
pub enum Leave {
    Now(Permit),
    /// Ask again then.
    At(Timestamp),
    /// Ask again when a call has been reported.
    AfterReport,
}

/// Leave to make one call. Must come back through [`Gate::report`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    generation: u64,
}

/// What a call showed of its service's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It answered, be it a refusal.
    Alive,
    /// No connection, no answer in time, a broken answer, a 5xx.
    Failing,
    /// Broken off by ourselves.
    Nothing,
}

#[derive(Debug)]
pub struct Gate {
    concurrency: u32,
    in_flight: u32,
    circuit: Option<Circuit>,
    rate: Option<Bucket>,
}

impl Gate {
    /// Makes an open gate.
    #[must_use]
    pub fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            concurrency: limits.concurrency.max(1),
            in_flight: 0,
            circuit: limits.circuit.map(Circuit::new),
            rate: limits.rate.map(|policy| Bucket::new(policy, now)),
        }
    }

    /// Asks for leave to make one call. A refusal takes nothing.
    pub fn ask(&mut self, now: Timestamp) -> Leave {
        if self.in_flight >= self.concurrency + u32::from(planted::is("one_call_beside_too_many")) {
            return Leave::AfterReport;
        }
        match self.circuit.as_ref().map(|circuit| circuit.state(now)) {
            Some(CircuitState::Open { until }) => return Leave::At(until),
            Some(CircuitState::Probing { in_flight: true }) if !planted::is("probe_has_company") => {
                return Leave::AfterReport;
            }
            Some(CircuitState::Probing { .. } | CircuitState::Closed) | None => {}
        }
        if let Some(Err(at)) = self.rate.as_mut().map(|bucket| bucket.take(now)) {
            return Leave::At(at);
        }
        let generation = match self.circuit.as_mut().map(|circuit| circuit.pass(now)) {
            Some(Ok(generation)) => generation,
            Some(Err(Some(at))) => return Leave::At(at),
            Some(Err(None)) => return Leave::AfterReport,
            None => 0,
        };
        self.in_flight += 1;
        Leave::Now(Permit { generation })
    }

    /// Takes a permit back with what the call showed.
    pub fn report(&mut self, permit: Permit, report: Report, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(circuit) = &mut self.circuit {
            let good = match report {
                Report::Alive => Some(true),
                Report::Failing => Some(false),
                Report::Nothing => None,
            };
            circuit.report(permit.generation, good, now);
        }
    }

    /// Returns the number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the circuit's state, where there is one.
    #[must_use]
    pub fn circuit(&self, now: Timestamp) -> Option<CircuitState> {
        self.circuit.as_ref().map(|circuit| circuit.state(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn permit(leave: Leave) -> Permit {
        match leave {
            Leave::Now(permit) => permit,
            Leave::At(_) | Leave::AfterReport => panic!("{leave:?}"),
        }
    }

    #[test]
    fn concurrency_is_a_limit() {
        let mut gate = Gate::new(Limits { circuit: None, rate: None, concurrency: 2 }, Timestamp(0));
        let first = permit(gate.ask(Timestamp(0)));
        let _second = permit(gate.ask(Timestamp(0)));
        assert_eq!(gate.ask(Timestamp(9)), Leave::AfterReport);
        gate.report(first, Report::Nothing, Timestamp(9));
        assert_eq!(gate.in_flight(), 1);
        let _third = permit(gate.ask(Timestamp(9)));
    }

    #[test]
    fn an_open_circuit_costs_no_token() {
        let circuit = CircuitPolicy { failures: 1, window: Span(1_000), open: Span(1_000) };
        let rate = RatePolicy { count: 1, period: Span(1_000), burst: 2 };
        let mut gate = Gate::new(Limits { circuit: Some(circuit), rate: Some(rate), concurrency: 9 }, Timestamp(0));
        let failing = permit(gate.ask(Timestamp(0)));
        gate.report(failing, Report::Failing, Timestamp(0));
        for now in 1..1_000 {
            assert_eq!(gate.ask(Timestamp(now)), Leave::At(Timestamp(1_000)));
        }
        let probe = permit(gate.ask(Timestamp(1_000)));
        assert_eq!(gate.ask(Timestamp(1_000)), Leave::AfterReport, "one probe");
        gate.report(probe, Report::Alive, Timestamp(1_000));
        let _next = permit(gate.ask(Timestamp(1_000)));
        assert_eq!(gate.ask(Timestamp(1_000)), Leave::At(Timestamp(2_000)), "the rate");
    }
}
