//! 19: limits are limits. Random services with random limits are asked for leave at random moments; a log of
//! what left is held against the sentences that promise them, worked out anew from the whole log each time.

use std::collections::BTreeSet;

use backstitch::resilience::{CircuitPolicy, Gate, Leave, Limits, Permit, RatePolicy, Report};
use backstitch::time::{Span, Timestamp};

use super::rng::Rng;

/// Stories in an ordinary `cargo test`, some hundred questions each.
const SEEDS: u64 = 3_000;
const QUESTIONS: usize = 300;

/// What is known of the circuit by its definition alone.
#[derive(Default)]
struct Circuit {
    /// Results since it was last closed, of calls that left behind that: when, and whether good.
    results: Vec<(u64, bool)>,
    /// Open until then.
    open: Option<u64>,
    /// Number of the call that finds out whether the service is back.
    probe: Option<usize>,
    /// Calls that left before count for nothing.
    counts_from: usize,
}

#[derive(Default)]
struct Log {
    limits: Option<Limits>,
    /// When each call left.
    left: Vec<u64>,
    in_flight: BTreeSet<usize>,
    circuit: Circuit,
    wrong: Vec<String>,
}

impl Log {
    fn limits(&self) -> Limits {
        self.limits.expect("a story has limits")
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(format!("19 {what}"));
    }

    /// True when one more call at `now` keeps to the rate: no span of time has more than the burst and what
    /// the rate adds in it.
    fn rate_allows(&self, now: u64) -> bool {
        let Some(rate) = self.limits().rate else { return true };
        let (price, per_milli) = (u128::from(rate.period.0), u128::from(rate.count));
        // Part of a token may be left from the millisecond before.
        let spare = price.min(per_milli) - 1;
        let burst = price * u128::from(rate.burst) + spare;
        self.left.iter().enumerate().all(|(at, since)| {
            let calls = (self.left.len() - at + 1) as u128;
            calls * price <= burst + per_milli * u128::from(now - since)
        })
    }

    /// The circuit's say about a call at `now`; none when its sentences leave it open.
    fn circuit_allows(&self, now: u64) -> bool {
        match (&self.circuit.open, self.circuit.probe) {
            (Some(until), _) if now < *until => false,
            (_, Some(probe)) => !self.in_flight.contains(&probe),
            _ => true,
        }
    }

    fn asked(&mut self, now: u64, leave: Leave) -> Option<Permit> {
        let full = self.in_flight.len() >= self.limits().concurrency as usize;
        let (rate, circuit) = (self.rate_allows(now), self.circuit_allows(now));
        match leave {
            Leave::Now(permit) => {
                if full {
                    self.wrong(format!("a call leaves beside {} others", self.in_flight.len()));
                }
                if !rate {
                    self.wrong(format!("call {} leaves at {now} ms, faster than the rate", self.left.len()));
                }
                if !circuit {
                    self.wrong(format!("a call leaves at {now} ms through an open circuit"));
                }
                let number = self.left.len();
                if self.circuit.open.take().is_some() || self.circuit.probe.is_some() {
                    self.circuit.probe = Some(number);
                }
                self.left.push(now);
                self.in_flight.insert(number);
                Some(permit)
            }
            Leave::At(at) => {
                if at.0 <= now {
                    self.wrong(format!("it is {now} ms, and the answer is to come again at {} ms", at.0));
                }
                if !full && rate && circuit {
                    self.wrong(format!("nothing forbids a call at {now} ms, and it may not leave"));
                }
                None
            }
            Leave::AfterReport => {
                if self.in_flight.is_empty() {
                    self.wrong("a call is to wait for another one, and there is none".to_owned());
                }
                if !full && circuit {
                    self.wrong(format!("a call is to wait at {now} ms for no reason"));
                }
                None
            }
        }
    }

    /// `opened`: what the product says, where the sentences leave it open.
    fn reported(&mut self, number: usize, report: Report, now: u64, opened: bool) {
        self.in_flight.remove(&number);
        let Some(policy) = self.limits().circuit else { return };
        let circuit = &mut self.circuit;
        let good = match report {
            Report::Alive => true,
            Report::Failing => false,
            Report::Nothing => return,
        };
        if circuit.probe == Some(number) {
            circuit.probe = None;
            circuit.open = (!good).then(|| now + policy.open.0);
            circuit.results.clear();
            circuit.counts_from = self.left.len();
            return;
        }
        if number < circuit.counts_from || circuit.open.is_some() || circuit.probe.is_some() {
            return;
        }
        circuit.results.push((now, good));
        if good {
            return;
        }
        // The window is counted in tenths: the oldest may be forgotten or not.
        let count = |window: u64, wanted: bool| {
            circuit.results.iter().filter(|(at, good)| *good == wanted && now - at < window).count()
        };
        let (whole, surely) = (policy.window.0, policy.window.0 / 10 * 9);
        let enough = |bad: usize, good: usize| bad >= policy.failures as usize && bad >= good;
        let (must, may) =
            (enough(count(surely, false), count(whole, true)), enough(count(whole, false), count(surely, true)));
        if must != opened && must == may {
            let word = if must { "stays closed" } else { "opens" };
            let counted = count(whole, false);
            self.wrong(format!("the circuit {word} at {now} ms with {counted} failures of {}", policy.failures));
        }
        if if must == may { must } else { opened } {
            self.circuit.open = Some(now + policy.open.0);
            self.circuit.results.clear();
            self.circuit.counts_from = self.left.len();
        }
    }
}

fn draw(rng: &mut Rng) -> Limits {
    let circuit = rng.chance(600).then(|| CircuitPolicy {
        failures: 1 + rng.below(5) as u32,
        window: Span(1_000 * (1 + rng.below(10))),
        open: Span(1 + rng.below(5_000)),
    });
    let rate = rng.chance(600).then(|| RatePolicy {
        count: 1 + rng.below(50) as u32,
        period: Span(*rng.pick(&[1_000, 60_000])),
        burst: 1 + rng.below(10) as u32,
    });
    Limits { circuit, rate, concurrency: 1 + rng.below(6) as u32 }
}

/// Tells one story; returns what is wrong with it and how many calls left.
fn tell(seed: u64) -> (Vec<String>, usize) {
    let mut rng = Rng::new(seed ^ 0x6c69_6d69);
    let limits = draw(&mut rng);
    let mut now = 1_700_000_000_000;
    let mut gate = Gate::new(limits, Timestamp(now));
    let mut log = Log { limits: Some(limits), ..Log::default() };
    let mut permits: Vec<(usize, Permit)> = Vec::new();
    let failing = rng.below(1_000);
    for _ in 0..QUESTIONS {
        now += match rng.below(20) {
            0 => rng.below(20_000),
            1..=9 => rng.below(200),
            _ => 0,
        };
        if !permits.is_empty() && rng.chance(400) {
            let (number, permit) = permits.swap_remove(rng.below(permits.len() as u64) as usize);
            let report = match rng.below(1_000) {
                0..50 => Report::Nothing,
                drawn if drawn < failing => Report::Failing,
                _ => Report::Alive,
            };
            gate.report(permit, report, Timestamp(now));
            let opened =
                matches!(gate.circuit(Timestamp(now)), Some(backstitch::resilience::CircuitState::Open { .. }));
            log.reported(number, report, now, opened);
            continue;
        }
        let number = log.left.len();
        let leave = gate.ask(Timestamp(now));
        permits.extend(log.asked(now, leave).map(|permit| (number, permit)));
    }
    (log.wrong, log.left.len())
}

/// What is wrong with one story.
#[cfg(feature = "planted")]
pub fn found_by(seed: u64) -> Vec<String> {
    tell(seed).0
}

#[test]
fn random_calls_keep_to_every_limit() {
    let mut calls = 0;
    for seed in 0..SEEDS {
        let (wrong, left) = tell(seed);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
        calls += left;
    }
    crate::counted::count(&format!(
        "simulation, limits: {SEEDS} services, {} questions, {calls} calls left",
        SEEDS as usize * QUESTIONS
    ));
}
