//! What outlives the process: services, NATS, the disk, the clock on the wall, and the list of what was
//! seen to be wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backstitch::bus::MemoryBus;
use backstitch::connector::{Call, Connector};
use backstitch::id::RunId;
use backstitch::journal::{Journal, MemoryJournal};
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{Again, Answer, Attempt, Direction, Effect};
use backstitch::time::{Clock, Span, Timestamp};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::services::{Seen, Services};
use crate::rng::Rng;

/// From the so-manieth call of a step on nothing goes wrong: what is tried for ever must come to an end.
const TROUBLED_CALLS: usize = 4;

/// Faults in thousandths, drawn for each seed.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    pub refuse: u64,
    pub lose: u64,
    pub busy: u64,
    pub late: u64,
    /// A crash at a moment when commits are held by the disk.
    pub crash: u64,
    /// The wall clock jumps.
    pub jump: u64,
    pub jumps_back: bool,
}

pub struct World {
    pub rng: Mutex<Rng>,
    pub rates: Rates,
    /// The life from which on the order saga has its second version.
    pub upgraded_in: u64,
    pub services: Mutex<Services>,
    /// The present life's.
    pub journal: Mutex<MemoryJournal>,
    pub bus: MemoryBus,
    pub violations: Mutex<Vec<String>>,
    pub life: AtomicU64,
    /// Milliseconds since 1970 when the life began, with all jumps.
    wall: AtomicU64,
    born: Mutex<Option<Instant>>,
    pub figures: Mutex<BTreeMap<&'static str, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl World {
    pub fn new(rng: Rng, rates: Rates, upgraded_in: u64) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(rng),
            rates,
            upgraded_in,
            services: Mutex::default(),
            journal: Mutex::new(MemoryJournal::new()),
            bus: MemoryBus::new(),
            violations: Mutex::default(),
            life: AtomicU64::new(0),
            wall: AtomicU64::new(1_800_000_000_000),
            born: Mutex::default(),
            figures: Mutex::default(),
        })
    }

    pub fn rng(&self) -> MutexGuard<'_, Rng> {
        lock(&self.rng)
    }

    pub fn wrong(&self, what: String) {
        lock(&self.violations).push(what);
    }

    pub fn count(&self, what: &'static str) {
        self.counts(what, 1);
    }

    pub fn counts(&self, what: &'static str, times: usize) {
        *lock(&self.figures).entry(what).or_default() += times as u64;
    }

    pub fn journal(&self) -> MemoryJournal {
        lock(&self.journal).clone()
    }

    /// A life begins: called inside its runtime.
    pub fn born(&self) {
        self.life.fetch_add(1, Ordering::Relaxed);
        *lock(&self.born) = Some(Instant::now());
    }

    /// The process is gone for so long: called inside its runtime, at its end.
    pub fn gone(&self, for_ms: u64) {
        let now = self.now().0;
        *lock(&self.born) = None;
        self.wall.store(now + for_ms, Ordering::Relaxed);
    }

    pub fn now(&self) -> Timestamp {
        let lived = lock(&self.born).map_or(0, |born| u64::try_from(born.elapsed().as_millis()).unwrap());
        Timestamp(self.wall.load(Ordering::Relaxed) + lived)
    }

    pub fn jump(&self, ms: i64) {
        let wall = self.wall.load(Ordering::Relaxed);
        self.wall.store(wall.saturating_add_signed(ms), Ordering::Relaxed);
    }

    /// What the disk holds of a run, as text: written by the product, read only by searching it.
    pub fn durable(&self, run: RunId) -> String {
        let facts = self.journal().history(run).unwrap();
        facts.iter().map(|(_, fact)| String::from_utf8_lossy(fact).into_owned() + "\n").collect()
    }
}

/// The wall clock.
pub struct Wall(pub Arc<World>);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// What one call meets.
enum Fate {
    Ok,
    Refuse,
    LoseRequest,
    LoseReply,
    Busy(Option<u64>),
    /// The request lands long after its caller has given up.
    Late(u64),
}

/// The way to the services.
pub struct Wire(pub Arc<World>);

impl Wire {
    fn receive(&self, call: &Call) -> (usize, Fate, u64) {
        let world = &self.0;
        let headers = &call.headers;
        let key = headers.idempotency_key.clone().unwrap_or_default();
        let run: RunId = headers.run.parse().unwrap();
        if key.is_empty() || !world.durable(run).contains(&key) {
            world.wrong(format!(
                "9: a call of {} {} left before its record was durable",
                headers.step,
                headers.direction.as_str()
            ));
        }
        let (at, before) = lock(&world.services).arrive(Seen {
            sent: world.now(),
            life: world.life.load(Ordering::Relaxed),
            run: headers.run.clone(),
            step: headers.step.clone(),
            direction: headers.direction,
            target: call.request.target.clone(),
            key,
            trace: headers.trace.trace_id.to_string(),
            correlation: headers.correlation_id.clone(),
            answered: None,
        });
        let (mut rng, rates) = (world.rng(), world.rates);
        let latency = if rng.chance(100) { rng.below(900) } else { 1 + rng.below(60) };
        if before >= TROUBLED_CALLS {
            return (at, Fate::Ok, latency);
        }
        let may_refuse = headers.direction == Direction::Forward && headers.step != "ship";
        let fate = if may_refuse && rng.chance(rates.refuse) {
            Fate::Refuse
        } else if rng.chance(rates.lose) {
            if rng.chance(500) { Fate::LoseReply } else { Fate::LoseRequest }
        } else if rng.chance(rates.busy) {
            Fate::Busy(if rng.chance(500) { Some(1_000 + rng.below(3_000)) } else { None })
        } else if rng.chance(rates.late) {
            Fate::Late(rng.below(60_000))
        } else {
            Fate::Ok
        };
        (at, fate, latency)
    }

    fn answered(&self, at: usize, retry_after: Option<u64>) {
        let now = self.0.now();
        lock(&self.0.services).calls[at].answered = Some((now, retry_after.unwrap_or_default()));
    }
}

fn attempt(effect: Effect, again: Again, status: Option<u16>, retry_after: Option<u64>) -> Attempt {
    let answer = |status| Answer { status, headers: BTreeMap::new(), body: Payload::parse(r#"{"ok":true}"#).unwrap() };
    Attempt {
        effect,
        again,
        answer: status.map(answer),
        problem: (effect != Effect::Done).then(|| Problem::new("simulated", "the simulation wants it so")),
        retry_after: retry_after.map(Span::from_millis),
    }
}

impl Connector for Wire {
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt> {
        let wire = Self(Arc::clone(&self.0));
        Box::pin(async move {
            let (at, fate, latency) = wire.receive(&call);
            let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
            let world = Arc::clone(&wire.0);
            let result = match fate {
                Fate::Ok => {
                    pause(latency / 2).await;
                    let did = lock(&world.services).apply(at);
                    pause(latency / 2).await;
                    if did {
                        attempt(Effect::Done, Again::No, Some(200), None)
                    } else {
                        attempt(Effect::None, Again::No, Some(409), None)
                    }
                }
                Fate::Refuse => {
                    pause(latency).await;
                    attempt(Effect::None, Again::No, Some(422), None)
                }
                Fate::Busy(after) => {
                    pause(latency).await;
                    attempt(Effect::None, Again::Yes, Some(503), after)
                }
                Fate::LoseReply => {
                    pause(latency).await;
                    lock(&world.services).apply(at);
                    attempt(Effect::Maybe, Again::Yes, None, None)
                }
                Fate::LoseRequest => {
                    tokio::time::sleep(call.timeout).await;
                    attempt(Effect::Maybe, Again::Yes, None, None)
                }
                Fate::Late(ms) => {
                    let late = Arc::clone(&world);
                    let lands = call.timeout + Duration::from_millis(ms);
                    tokio::spawn(async move {
                        tokio::time::sleep(lands).await;
                        lock(&late.services).apply(at);
                    });
                    tokio::time::sleep(call.timeout).await;
                    attempt(Effect::Maybe, Again::Yes, None, None)
                }
            };
            wire.answered(at, result.retry_after.map(|span| span.0));
            result
        })
    }
}
