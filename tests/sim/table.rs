//! The whole (state × input) table as one page to review: `UPDATE_GOLDEN=1 cargo test --test sim table`
//! writes it anew.

use std::fmt::Write;
use std::sync::Arc;

use backstitch::definition::{self, SagaDefinition};
use backstitch::id::RunId;
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{Again, Answer, Attempt, Direction, Effect};
use backstitch::saga::{
    self, Fact, Input, Migration, Operation, Rules, SagaState, Start, StepAt, Timer, decide, evolve,
};
use backstitch::time::Timestamp;
use backstitch::trace_context::{SpanId, TraceContext, TraceId};

use super::spec::{Check, Kind, Spec, Undo, call, call_with, step};
use super::world::load;

const NOW: Timestamp = Timestamp(1_000_000);

fn check_event(_: &backstitch::id::EventType, _: &Payload) -> Result<(), String> {
    Ok(())
}

/// A run driven input by input, without a world.
pub struct Driver {
    pub definition: Arc<SagaDefinition>,
    pub state: SagaState,
}

impl Driver {
    fn new(spec: &Spec) -> Self {
        Self::of(load(spec))
    }

    /// Begins a run.
    pub fn of(definition: Arc<SagaDefinition>) -> Self {
        let start = Start {
            run: RunId(uuid::Uuid::from_u128(1)),
            key: None,
            correlation_id: "c".to_owned(),
            causation_id: None,
            trace: TraceContext::new(TraceId([1; 16]), SpanId([1; 8]), true),
            link_after: None,
            parent: None,
            input: Payload::parse(r#"{"order":"A-1","amount":7}"#).unwrap(),
            event: None,
            input_hash: String::new(),
            parent_run: None,
        };
        let rules = Rules { definition: &definition, check_event: &check_event };
        let facts = saga::start(&rules, start, NOW);
        let Fact::RunStarted(begun) = &facts[0] else { panic!("a run begins with its start") };
        let mut state = saga::begin(&definition, begun, NOW);
        for fact in &facts {
            evolve(&definition, &mut state, fact, NOW);
        }
        let mut this = Self { definition, state };
        this.settle(NOW);
        this
    }

    fn settle(&mut self, now: Timestamp) {
        while let Ok(facts) = self.decide(Input::Continue, now) {
            if facts.is_empty() {
                return;
            }
            self.evolve(&facts, now);
        }
    }

    fn decide(&self, input: Input, now: Timestamp) -> Result<Vec<Fact>, saga::Rejected> {
        let rules = Rules { definition: &self.definition, check_event: &check_event };
        decide(&rules, &self.state, input, now)
    }

    fn evolve(&mut self, facts: &[Fact], now: Timestamp) {
        for fact in facts {
            evolve(&self.definition, &mut self.state, fact, now);
        }
    }

    /// The call in flight is answered well.
    pub fn answered(self) -> Self {
        self.answer(Direction::Forward, "done")
    }

    /// Gives an input that must be taken, an hour later.
    pub fn given(self, input: Input) -> Self {
        self.give(input, Timestamp(NOW.0 + 3_600_000))
    }

    /// Moves the run, if it can.
    pub fn migrate(&mut self, wanted: Migration) -> Result<(), saga::Rejected> {
        let to = Arc::clone(&wanted.to);
        let facts = self.decide(Input::Migrate(Box::new(wanted)), NOW)?;
        self.definition = to;
        self.evolve(&facts, NOW);
        self.settle(NOW);
        Ok(())
    }

    /// Gives an input that must be taken.
    fn give(mut self, input: Input, now: Timestamp) -> Self {
        let facts = self.decide(input.clone(), now).unwrap_or_else(|why| panic!("{input:?}: {why}"));
        self.evolve(&facts, now);
        self.settle(now);
        self
    }

    /// What a good answer to the call in flight means, with events checked so.
    pub fn answered_by(
        &self,
        check_event: &(dyn Fn(&backstitch::id::EventType, &Payload) -> Result<(), String> + Send + Sync),
    ) -> Vec<Fact> {
        let (step, attempt) = self.in_flight();
        let rules = Rules { definition: &self.definition, check_event };
        let input = Input::AttemptEnded { step, direction: Direction::Forward, attempt, result: result("done").into() };
        decide(&rules, &self.state, input, NOW).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn answer(self, direction: Direction, kind: &str) -> Self {
        let (step, attempt) = self.in_flight();
        let now = Timestamp(NOW.0 + 10);
        self.give(Input::AttemptEnded { step, direction, attempt, result: result(kind).into() }, now)
    }

    fn in_flight(&self) -> (StepAt, u32) {
        let step = *self.state.active.first().expect("something is in flight");
        match self.state.step(step).activity {
            saga::Activity::InFlight { attempt, .. } => (step, attempt),
            other => panic!("nothing in flight but {other:?}"),
        }
    }
}

fn result(kind: &str) -> Attempt {
    let answer = |status| {
        Some(Answer { status, headers: Default::default(), body: Payload::parse(r#"{"applied":false}"#).unwrap() })
    };
    let problem = |title: &str| Some(Problem::new(title, title));
    let (effect, again, answer, problem) = match kind {
        "done" => (Effect::Done, Again::No, answer(200), None),
        "refused" => (Effect::None, Again::No, answer(422), problem("refused")),
        "retry" => (Effect::None, Again::Yes, answer(503), problem("busy")),
        "maybe" => (Effect::Maybe, Again::Yes, None, problem("timeout")),
        other => panic!("no such result {other}"),
    };
    Attempt { effect, again, answer, problem, retry_after: None }
}

fn states() -> Vec<(&'static str, Driver)> {
    use Direction::{Check as Asked, Compensate, Forward};
    let two = || Driver::new(&Spec::of(vec![call("a"), call("b")]));
    let asking = || Driver::new(&Spec::of(vec![call("a"), call_with("b", |call| call.check = Check::Ask)]));
    let waiting = || Driver::new(&Spec::of(vec![call("a"), step("w", Kind::Wait(5_000)), call("b")]));
    let pivot = || {
        Driver::new(&Spec::of(vec![
            call("a"),
            call_with("p", |call| call.pivot = true),
            call_with("z", |call| call.undo = Undo::Unstated),
        ]))
    };
    let exhausted = |mut driver: Driver| {
        for _ in 0..2 {
            driver = driver.answer(Compensate, "refused");
            if driver.state.parked.is_none() {
                driver = driver.give(Input::TimerFired(Timer::Step(0.into())), Timestamp(NOW.0 + 600_000));
            }
        }
        driver
    };
    let mut locked = Spec::of(vec![call("a")]);
    locked.lock = true;
    vec![
        ("waiting for the lock", Driver::new(&locked)),
        (
            "paused under its lock",
            Driver::new(&locked)
                .give(Input::LockGranted, NOW)
                .answer(Forward, "retry")
                .give(Input::Operator(Operation::Pause), NOW),
        ),
        ("first attempt in flight", two()),
        ("waiting for a retry", two().answer(Forward, "retry")),
        ("second step in flight", two().answer(Forward, "done")),
        ("second step in doubt, waiting", two().answer(Forward, "done").answer(Forward, "maybe")),
        ("asking", asking().answer(Forward, "done").answer(Forward, "maybe")),
        ("asking, waiting", asking().answer(Forward, "done").answer(Forward, "maybe").answer(Asked, "retry")),
        ("in a wait", waiting().answer(Forward, "done")),
        ("paused", two().give(Input::Operator(Operation::Pause), NOW)),
        ("settling", two().give(Input::Operator(Operation::Cancel { reason: None }), NOW)),
        ("undo in flight", two().answer(Forward, "done").answer(Forward, "refused")),
        ("undo waiting", two().answer(Forward, "done").answer(Forward, "refused").answer(Compensate, "maybe")),
        ("parked at an undo", exhausted(two().answer(Forward, "done").answer(Forward, "refused"))),
        ("pivot in flight", pivot().answer(Forward, "done")),
        ("parked at the pivot", {
            let mut driver = pivot().answer(Forward, "done");
            for _ in 0..3 {
                driver = driver.answer(Forward, "maybe");
                if driver.state.parked.is_none() {
                    driver = driver.give(Input::TimerFired(Timer::Step(1.into())), Timestamp(NOW.0 + 600_000));
                }
            }
            driver
        }),
        ("behind the pivot", pivot().answer(Forward, "done").answer(Forward, "done")),
        ("parked behind the pivot", pivot().answer(Forward, "done").answer(Forward, "done").answer(Forward, "refused")),
        (
            "cut off by a restart",
            two().give(Input::Operator(Operation::Pause), NOW).give(Input::Restarted { epoch: 2 }, NOW),
        ),
        ("completed", two().answer(Forward, "done").answer(Forward, "done")),
        ("compensated", two().answer(Forward, "refused")),
    ]
}

fn inputs(driver: &Driver) -> Vec<(String, Input)> {
    let mut inputs = Vec::new();
    if let Some(step) = driver.state.active.first().copied()
        && let saga::Activity::InFlight { direction, attempt } = driver.state.step(step).activity
    {
        for kind in ["done", "refused", "retry", "maybe"] {
            let input = Input::AttemptEnded { step, direction, attempt, result: result(kind).into() };
            inputs.push((format!("{} ended {kind}", direction.as_str()), input));
        }
    }
    let stale = Input::AttemptEnded {
        step: 0.into(),
        direction: Direction::Forward,
        attempt: 99,
        result: result("done").into(),
    };
    inputs.push(("an answer nobody waits for".to_owned(), stale));
    let timer = driver.state.active.first().copied().unwrap_or(0.into());
    inputs.push(("timer".to_owned(), Input::TimerFired(Timer::Step(timer))));
    inputs.push(("deadline".to_owned(), Input::TimerFired(Timer::Deadline)));
    inputs.push(("lock".to_owned(), Input::LockGranted));
    inputs.push(("restarted".to_owned(), Input::Restarted { epoch: 2 }));
    for operation in [
        Operation::Cancel { reason: None },
        Operation::Pause,
        Operation::Resume,
        Operation::Retry { new_key: false },
        Operation::Retry { new_key: true },
        Operation::Skip,
        Operation::ResolveDone { output: None },
        Operation::ResolveNotDone,
        Operation::ReleaseLock { by: None },
    ] {
        let word = match &operation {
            Operation::Retry { new_key: true } => "retry --new-key".to_owned(),
            Operation::ResolveDone { .. } => "resolve --done".to_owned(),
            Operation::ResolveNotDone => "resolve --not-done".to_owned(),
            other => other.as_str().to_owned(),
        };
        inputs.push((word, Input::Operator(operation)));
    }
    // A version that says the same.
    let source = driver.definition.source.replacen("version: 1\n", "version: 2\n", 1);
    let to = Arc::new(definition::reload("sim.yaml", &source).unwrap_or_else(|found| panic!("{}", found[0].message)));
    inputs.push(("migrate".to_owned(), Input::Migrate(Box::new(Migration { to, new_undo: false, by: None }))));
    inputs
}

fn fact_words(facts: &[Fact]) -> String {
    let words = facts.iter().map(|fact| {
        let json = serde_json::to_value(fact).unwrap();
        let (name, fields) = json.as_object().and_then(|object| object.iter().next()).unwrap();
        let mut word = name.clone();
        for field in ["step", "outcome", "effect", "cause", "end", "direction", "attempt"] {
            if let Some(value) = fields.get(field) {
                let _ = write!(word, " {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        word
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_table_is_as_reviewed() {
    let mut page = String::from(
        "What each input means in each state: the facts of the first move, and the state behind all moves.\n",
    );
    for (name, driver) in states() {
        let _ = writeln!(page, "\n== {name} ({}, {})", driver.state.state().as_str(), driver.state.phase.as_str());
        for (word, input) in inputs(&driver) {
            let now = Timestamp(NOW.0 + 3_600_000);
            let mut after = Driver { definition: Arc::clone(&driver.definition), state: driver.state.clone() };
            let _ = match after.decide(input, now) {
                Err(why) => writeln!(page, "{word:28} -  {why}"),
                Ok(facts) => {
                    after.evolve(&facts, now);
                    after.settle(now);
                    let words = fact_words(&facts);
                    writeln!(
                        page,
                        "{word:28} => {} / {}",
                        after.state.state().as_str(),
                        if words.is_empty() { "nothing" } else { &words }
                    )
                }
            };
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/table.golden.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(page, golden, "the table has changed; UPDATE_GOLDEN=1 writes it, then read the diff");
}
