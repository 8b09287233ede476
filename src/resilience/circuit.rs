//! A circuit breaker: a service that mostly fails is left alone for a while, then asked by one call.

use crate::planted;
use crate::time::{Span, Timestamp};

/// `circuit: { failures: 10, window: 30s, open: 20s }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// Failed calls within [`Self::window`] that open it, when they are also half or more of all calls
    /// in it: ten failures among a thousand successes are no outage.
    pub failures: u32,
    pub window: Span,
    /// How long it stays open before one call may try.
    pub open: Span,
}

/// For metrics and `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    Closed,
    Open {
        until: Timestamp,
    },
    /// The open time is over; one call at a time finds out.
    Probing {
        in_flight: bool,
    },
}

/// The window is counted in this many slices: the oldest tenth is forgotten at once.
const SLICES: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    /// Which slice of time this counts; 0 is before all.
    number: u64,
    good: u32,
    bad: u32,
}

#[derive(Debug, Clone)]
pub struct Circuit {
    policy: CircuitPolicy,
    state: CircuitState,
    slices: [Slice; SLICES],
    /// Rises at every change of state: a call that began before it says nothing about after it.
    generation: u64,
}

impl Circuit {
    /// Makes a closed circuit.
    #[must_use]
    pub fn new(policy: CircuitPolicy) -> Self {
        Self { policy, state: CircuitState::Closed, slices: [Slice::default(); SLICES], generation: 0 }
    }

    /// Returns the state at a moment.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> CircuitState {
        match self.state {
            CircuitState::Open { until } if until <= now => CircuitState::Probing { in_flight: false },
            state => state,
        }
    }

    /// Lets a call pass and returns the generation to report with.
    ///
    /// # Errors
    /// When to ask again; none: when the probe's result is there.
    pub fn pass(&mut self, now: Timestamp) -> Result<u64, Option<Timestamp>> {
        match self.state(now) {
            CircuitState::Closed => Ok(self.generation),
            CircuitState::Open { until } => Err(Some(until)),
            CircuitState::Probing { in_flight: true } if planted::is("probe_has_company") => Ok(self.generation),
            CircuitState::Probing { in_flight: true } => Err(None),
            CircuitState::Probing { in_flight: false } => {
                self.turn(CircuitState::Probing { in_flight: true });
                Ok(self.generation)
            }
        }
    }

    /// Takes a call's result; none for one that was broken off by ourselves.
    pub fn report(&mut self, generation: u64, good: Option<bool>, now: Timestamp) {
        if generation != self.generation && !planted::is("results_from_before_count") {
            return;
        }
        match (self.state, good) {
            (CircuitState::Closed, Some(good)) => self.count(good, now),
            (CircuitState::Probing { .. }, Some(true)) => self.turn(CircuitState::Closed),
            (CircuitState::Probing { .. }, Some(false)) => self.open(now),
            (CircuitState::Probing { .. }, None) => self.turn(CircuitState::Probing { in_flight: false }),
            (CircuitState::Closed, None) | (CircuitState::Open { .. }, _) => {}
        }
    }

    fn turn(&mut self, state: CircuitState) {
        self.generation += 1;
        self.slices = [Slice::default(); SLICES];
        self.state = state;
    }

    fn open(&mut self, now: Timestamp) {
        self.turn(CircuitState::Open { until: now.plus(self.policy.open) });
    }

    fn count(&mut self, good: bool, now: Timestamp) {
        let number = now.0 / (self.policy.window.0 / SLICES as u64).max(1) + 1;
        let slice = &mut self.slices[(number % SLICES as u64) as usize];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        if good {
            slice.good = slice.good.saturating_add(1);
            return;
        }
        slice.bad = slice.bad.saturating_add(1);
        let oldest = number.saturating_sub(SLICES as u64 - 1);
        let (good, bad) = self
            .slices
            .iter()
            .filter(|slice| slice.number >= oldest)
            .fold((0_u64, 0_u64), |(good, bad), slice| (good + u64::from(slice.good), bad + u64::from(slice.bad)));
        let failures = self.policy.failures.max(1) + u32::from(planted::is("circuit_opens_one_failure_late"));
        if bad >= u64::from(failures) && bad >= good {
            self.open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CircuitPolicy = CircuitPolicy { failures: 3, window: Span(10_000), open: Span(5_000) };

    /// Plays calls, each beginning and ending at one moment: `+` good, `-` bad, `x` broken off.
    fn after(calls: &[(u64, char)]) -> Circuit {
        let mut circuit = Circuit::new(POLICY);
        for (at, result) in calls {
            let generation = circuit.pass(Timestamp(*at)).unwrap_or_else(|_| panic!("{calls:?} at {at}"));
            let good = match result {
                '+' => Some(true),
                '-' => Some(false),
                _ => None,
            };
            circuit.report(generation, good, Timestamp(*at));
        }
        circuit
    }

    /// Why, the calls, and the state at a moment.
    type Row = (&'static str, &'static [(u64, char)], u64, CircuitState);

    #[test]
    fn opens_and_closes() {
        let closed = CircuitState::Closed;
        let open = |until| CircuitState::Open { until: Timestamp(until) };
        let rows: &[Row] = &[
            ("fresh", &[], 0, closed),
            ("one short", &[(1, '-'), (2, '-')], 2, closed),
            ("enough", &[(1, '-'), (2, '-'), (3, '-')], 3, open(5_003)),
            ("spread wider than the window", &[(1, '-'), (2, '-'), (11_000, '-')], 11_000, closed),
            ("few among many", &[(1, '+'), (1, '+'), (1, '+'), (1, '+'), (2, '-'), (2, '-'), (2, '-')], 2, closed),
            ("half", &[(1, '+'), (1, '+'), (1, '+'), (2, '-'), (2, '-'), (2, '-')], 2, open(5_002)),
            ("broken off by us", &[(1, 'x'), (1, 'x'), (1, 'x')], 2, closed),
            ("time is over", &[(1, '-'), (2, '-'), (3, '-')], 5_003, CircuitState::Probing { in_flight: false }),
            ("probe succeeds", &[(1, '-'), (2, '-'), (3, '-'), (5_003, '+')], 5_003, closed),
            ("probe fails", &[(1, '-'), (2, '-'), (3, '-'), (5_003, '-')], 5_003, open(10_003)),
            (
                "probe broken off",
                &[(1, '-'), (2, '-'), (3, '-'), (5_003, 'x')],
                5_003,
                CircuitState::Probing { in_flight: false },
            ),
        ];
        for (why, calls, at, expected) in rows {
            assert_eq!(after(calls).state(Timestamp(*at)), *expected, "{why}");
        }
    }

    #[test]
    fn one_probe_at_a_time() {
        let mut circuit = after(&[(1, '-'), (2, '-'), (3, '-')]);
        assert_eq!(circuit.pass(Timestamp(4)), Err(Some(Timestamp(5_003))));
        let probe = circuit.pass(Timestamp(5_003)).unwrap();
        assert_eq!(circuit.pass(Timestamp(5_003)), Err(None));
        circuit.report(probe, Some(true), Timestamp(5_100));
        assert!(circuit.pass(Timestamp(5_100)).is_ok());
    }

    #[test]
    fn late_results_say_nothing() {
        let mut circuit = Circuit::new(POLICY);
        let slow = circuit.pass(Timestamp(0)).unwrap();
        for _ in 0..3 {
            let generation = circuit.pass(Timestamp(1)).unwrap();
            circuit.report(generation, Some(false), Timestamp(1));
        }
        circuit.report(slow, Some(true), Timestamp(2));
        assert_eq!(circuit.state(Timestamp(2)), CircuitState::Open { until: Timestamp(5_001) });
        let _probe = circuit.pass(Timestamp(5_001)).unwrap();
        circuit.report(slow, Some(true), Timestamp(5_002));
        assert_eq!(circuit.state(Timestamp(5_002)), CircuitState::Probing { in_flight: true });
    }
}
