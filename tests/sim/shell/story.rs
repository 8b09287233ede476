//! One story: orders come in by bus and by hand, services and NATS have their troubles, the process dies
//! some times in the middle of it, and at the end everything must have come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use backstitch::bus::RawMessage;
use backstitch::coordinator::{
    Catalogue, Entry, EventSchemas, Handle, Links, Operation, Options, Parts, Refusal, StartError, StartRequest,
    Started,
};
use backstitch::definition::{self, SagaDefinition};
use backstitch::envelope::Event;
use backstitch::id::{EventType, RunId, SagaName};
use backstitch::journal::Recovered;
use backstitch::payload::Payload;
use backstitch::telemetry::SpanSink;

use super::checks;
use super::watch::{ORDER, Watched};
use super::world::{Rates, Wall, Wire, World};
use crate::rng::Rng;

/// The versions are the same, but that their calls go to different places.
const ORDER_SAGA: &str = r#"
saga: order
version: VERSION
on:
  - event: order.placed.v1
    key: ${ $event.data.orderId }
    input: ${ $event.data }
services:
  svc: { url: "http://127.0.0.1:1" }
defaults:
  timeout: 1s
  retry: { attempts: 4, delay: 500ms, factor: 2, max_delay: 5s, jitter: none }
  compensate: { retry: { attempts: forever, delay: 500ms, factor: 2, max_delay: 5s, jitter: none } }
timeout: 24h
lock: customer/${ $input.customer }
steps:
  - id: reserve
    call: svc
    with: { method: POST, path: /vVERSION/reserve }
    compensate: { with: { method: DELETE, path: /vVERSION/reserve } }
  - id: rest
    wait: 90s
  - id: charge
    call: svc
    with: { method: POST, path: /vVERSION/charge }
    compensate: { with: { method: DELETE, path: /vVERSION/charge } }
  - id: ship
    call: svc
    with: { method: POST, path: /vVERSION/ship }
    retry: { attempts: forever, delay: 500ms, factor: 2, max_delay: 5s, jitter: none }
    pivot: true
  - id: tell
    emit: order.shipped.v1
    data: { run: "${ $saga.id }" }
finally:
  completed: { emit: order.fulfilled.v1, data: { run: "${ $saga.id }" } }
  compensated: { emit: order.rejected.v1, data: { run: "${ $saga.id }" } }
"#;

/// Started by the same event, without a key of its own: each event has one.
const AUDIT_SAGA: &str = r#"
saga: audit
version: 1
on:
  - event: order.placed.v1
    input: ${ $event.data }
services:
  log: { url: "http://127.0.0.1:1" }
defaults:
  timeout: 1s
  retry: { attempts: forever, delay: 500ms, factor: 2, max_delay: 5s, jitter: none }
steps:
  - id: note
    call: log
    with: { method: POST, path: /note }
    compensate: none
  - id: noted
    emit: order.noted.v1
    data: { run: "${ $saga.id }" }
"#;

/// What was promised to somebody.
#[derive(Default)]
pub struct Promised {
    /// Events that NATS has taken, by id.
    pub events: BTreeMap<String, Event>,
    /// Starts that were answered, by run.
    pub starts: BTreeSet<RunId>,
    /// Cancels that were answered.
    pub cancels: BTreeSet<RunId>,
    /// Sequences of messages that are no events.
    pub poison: BTreeSet<u64>,
    /// Ids of events whose key has other input already.
    pub conflicts: BTreeSet<String>,
    /// Highest epoch and count of facts of each open run at the last crash.
    epochs: BTreeMap<RunId, (u64, usize)>,
}

struct Schemas;

impl EventSchemas for Schemas {
    fn check(&self, event: &EventType, data: &Payload) -> Result<(), Refusal> {
        if event.as_str() != ORDER || data.to_value().get("orderId").is_some() {
            return Ok(());
        }
        Err(Refusal::Invalid(vec![(String::new(), "orderId is missing".to_owned())]))
    }

    /// Every type has one version here.
    fn convert(&self, event: &EventType, data: &Payload, _: &EventType) -> Result<Payload, Refusal> {
        self.check(event, data).map(|()| data.clone())
    }
}

/// What lies in the saga directory: the order saga in its first or its second version, and the audit's.
fn definitions(upgraded: bool) -> [Arc<SagaDefinition>; 2] {
    static LOADED: OnceLock<[Arc<SagaDefinition>; 3]> = OnceLock::new();
    let [first, second, audit] = LOADED.get_or_init(|| {
        let order = |version: &str| ORDER_SAGA.replace("VERSION", version);
        [("order.yaml", order("1")), ("order.yaml", order("2")), ("audit.yaml", AUDIT_SAGA.to_owned())].map(
            |(file, text)| match definition::reload(file, &text) {
                Ok(definition) => Arc::new(definition),
                Err(found) => panic!("{file}: {:?}", found.iter().map(|one| &one.message).collect::<Vec<_>>()),
            },
        )
    });
    [Arc::clone(if upgraded { second } else { first }), Arc::clone(audit)]
}

async fn begin(world: &Arc<World>, recovered: Recovered) -> Handle {
    let upgraded = world.life.load(Ordering::Relaxed) >= world.upgraded_in;
    let entries = definitions(upgraded).into_iter().map(|definition| Entry { definition, input: None });
    let parts = Parts {
        catalogue: Catalogue::new(entries.collect()).unwrap(),
        schemas: Arc::new(Schemas),
        journal: Arc::new(world.journal()),
        recovered,
        services: BTreeMap::new(),
        bus: Arc::new(Watched(Arc::clone(world))),
        connector: Arc::new(Wire(Arc::clone(world))),
        clock: Arc::new(Wall(Arc::clone(world))),
        spans: SpanSink::off(),
        metrics: Arc::default(),
        options: Options::default(),
        links: Links::default(),
    };
    parts.start().await.unwrap()
}

fn data(order: u64, variant: u64) -> String {
    // Four customers: runs of one customer wait for each other.
    format!(r#"{{"orderId":"A-{order}","customer":{},"variant":{variant}}}"#, order % 4)
}

fn event(id: &str, data: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/shop".to_owned(),
        event_type: EventType::parse(ORDER).unwrap(),
        time: None,
        subject: None,
        dataschema: None,
        correlation_id: Some(format!("corr-{id}")),
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: BTreeMap::new(),
        data: Payload::parse(data).unwrap(),
    }
}

/// Virtual time: a life has at most four minutes of work, and every answer comes within seconds.
const LIFE_MAX: Duration = Duration::from_secs(1_800);

/// How a life ends.
enum Death {
    /// In the middle of something, with commits on their way to the disk.
    Held,
    Sudden,
    Drained,
    JournalFailed,
}

/// Tells one story; returns what was wrong with it, and figures.
pub fn tell(seed: u64) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let mut rng = Rng::new(seed);
    let mut rate = |max: u64| if rng.chance(600) { rng.below(max) } else { 0 };
    let rates = Rates {
        refuse: rate(150),
        lose: rate(300),
        busy: rate(250),
        late: rate(100),
        crash: rate(8),
        jump: rate(10),
        jumps_back: rate(2) == 1,
    };
    let lives = 1 + rng.below(5);
    // In its first life it is there from the beginning, behind the last one never.
    let upgraded_in = 1 + rng.below(lives + 2);
    let world = World::new(rng, rates, upgraded_in);
    let promised = Arc::new(Mutex::new(Promised::default()));
    let mut recovered = Recovered::default();
    for life in 0..=lives {
        let last = life == lives;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let death = runtime.block_on(live(&world, &promised, recovered, last));
        // Everything that runs ends in the middle of what it does.
        drop(runtime);
        let held = world.journal().held();
        let stored = usize::try_from(world.rng().below(held as u64 + 1)).unwrap();
        world.count(match death {
            Death::Held => "crash with commits held",
            Death::Sudden => "crash",
            Death::Drained => "drain",
            Death::JournalFailed => "failed journal",
        });
        let (journal, found) = world.journal().crash(stored);
        epochs(&world, &mut promised.lock().unwrap(), &found);
        *world.journal.lock().unwrap() = journal;
        recovered = found;
        // The server delivers again what nobody acknowledged.
        world.bus.redeliver();
    }
    checks::at_the_end(&world, &promised.lock().unwrap());
    let violations = std::mem::take(&mut *world.violations.lock().unwrap());
    let figures = std::mem::take(&mut *world.figures.lock().unwrap());
    (violations, figures)
}

/// 18: whatever moved a run in this life did so under a higher epoch than the life before.
fn epochs(world: &World, promised: &mut Promised, found: &Recovered) {
    for open in &found.runs {
        let (epoch, facts) = promised.epochs.insert(open.run, (open.epoch, open.facts.len())).unwrap_or_default();
        if facts > 0 && open.facts.len() > facts && open.epoch <= epoch {
            world.wrong(format!(
                "18: run {} moved under epoch {} after a life with epoch {epoch}",
                open.run, open.epoch
            ));
        }
    }
}

async fn live(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, recovered: Recovered, last: bool) -> Death {
    world.born();
    world.bus.set_available(true);
    world.journal().hold();
    let handle = begin_while_the_disk_works(world, recovered).await;
    let disk = disk(Arc::clone(world), last);
    let death = if last {
        let rest = async {
            checks::until_rest(world, promised, &handle).await;
            Death::Drained
        };
        tokio::select! {
            biased;
            death = rest => death,
            death = disk => death,
        }
    } else {
        let minutes = 1 + world.rng().below(4);
        let work = async {
            tokio::join!(
                orders(world, promised, &handle, minutes * 60_000),
                outages(world, minutes * 60_000),
                operator(world, promised, &handle, minutes * 60_000)
            );
            end(world, promised, &handle).await
        };
        tokio::select! {
            biased;
            death = disk => death,
            death = work => death,
            () = tokio::time::sleep(LIFE_MAX) => {
                world.wrong("something asked of the process was never answered".to_owned());
                Death::Sudden
            }
        }
    };
    let downtime = world.rng().below(120_000);
    world.gone(downtime);
    death
}

/// The coordinator stores its definitions while it starts: the disk has to take them.
async fn begin_while_the_disk_works(world: &Arc<World>, recovered: Recovered) -> Handle {
    let starting = begin(world, recovered);
    let mut starting = std::pin::pin!(starting);
    loop {
        tokio::select! {
            biased;
            handle = &mut starting => return handle,
            () = tokio::time::sleep(Duration::from_millis(1)) => { world.journal().release(1); }
        }
    }
}

/// Takes commits some milliseconds after they were given; now and then power goes away before.
async fn disk(world: Arc<World>, last: bool) -> Death {
    let mut idle_ms = 10;
    loop {
        let (pause, batch) = {
            let mut rng = world.rng();
            (1 + rng.below(8), 1 + rng.below(6))
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let journal = world.journal();
        if journal.held() == 0 {
            // Nothing to do until somebody commits: time may fly.
            tokio::time::sleep(Duration::from_millis(idle_ms)).await;
            idle_ms = (idle_ms * 2).min(2_000);
            continue;
        }
        idle_ms = 10;
        let (crash, jump) = {
            let mut rng = world.rng();
            let jump = rng.chance(world.rates.jump).then(|| rng.below(20_000) as i64);
            (!last && rng.chance(world.rates.crash), jump)
        };
        if let Some(ms) = jump {
            world.jump(if world.rates.jumps_back { -ms } else { ms });
        }
        if crash {
            return Death::Held;
        }
        journal.release(usize::try_from(batch).unwrap());
    }
}

async fn orders(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle, for_ms: u64) {
    let count = 2 + world.rng().below(6);
    for n in 0..count {
        let (pause, number, kind) = {
            let mut rng = world.rng();
            (rng.below(for_ms / count), rng.below(40), rng.below(10))
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match kind {
            0..4 => {
                let id = format!("e-{}-{n}", world.now().0);
                publish(world, promised, handle, event(&id, &data(number, 0))).await;
            }
            4..7 => start_twice(world, promised, handle, number).await,
            7 => {
                let raw = RawMessage {
                    subject: format!("events.{ORDER}"),
                    headers: vec![("ce-id".to_owned(), "x".to_owned())],
                    payload: bytes::Bytes::from_static(b"no event"),
                };
                let sequence = world.bus.inject(raw);
                promised.lock().unwrap().poison.insert(sequence);
                world.count("poison");
            }
            8 => {
                // An order that is there already, with other data.
                let there = promised.lock().unwrap().starts.iter().next().copied();
                let number = (0..40).find(|number| Some(run_of(*number)) == there);
                if let Some(number) = number {
                    let id = format!("c-{}-{n}", world.now().0);
                    promised.lock().unwrap().conflicts.insert(id.clone());
                    world.count("conflict");
                    publish(world, promised, handle, event(&id, &data(number, 1))).await;
                }
            }
            _ => world.bus.redeliver(),
        }
    }
}

pub fn run_of(order: u64) -> RunId {
    RunId::keyed(&SagaName::parse("order").unwrap(), &format!("A-{order}"))
}

async fn publish(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle, event: Event) {
    // Twice, as a client does that got no answer.
    for _ in 0..2 {
        if handle.publish(vec![event.clone()]).await.is_ok() {
            promised.lock().unwrap().events.insert(event.id.clone(), event.clone());
            if world.rng().chance(700) {
                return;
            }
        }
    }
}

/// Starts the same key by hand twice at the same moment.
async fn start_twice(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle, number: u64) {
    let request = StartRequest {
        saga: SagaName::parse("order").unwrap(),
        version: None,
        input: Payload::parse(data(number, 0)).unwrap(),
        key: Some(format!("A-{number}")),
        correlation_id: None,
        trace: None,
    };
    let one = async || match handle.start(request.clone()).await {
        Ok(Started::Created(run) | Started::Existing(run)) => {
            if world.durable(run).is_empty() {
                world.wrong(format!("9: the start of run {run} was answered before it was durable"));
            }
            promised.lock().unwrap().starts.insert(run);
        }
        Err(StartError::Unavailable { .. }) => {}
        Err(error) => world.wrong(format!("a start is refused: {error}")),
    };
    tokio::join!(one(), one());
}

async fn outages(world: &Arc<World>, for_ms: u64) {
    if world.rng().chance(600) {
        return;
    }
    let (after, away) = {
        let mut rng = world.rng();
        (rng.below(for_ms), rng.below(for_ms))
    };
    tokio::time::sleep(Duration::from_millis(after)).await;
    world.count("outage");
    world.bus.set_available(false);
    tokio::time::sleep(Duration::from_millis(away)).await;
    world.bus.set_available(true);
}

/// Cancels something now and then.
async fn operator(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle, for_ms: u64) {
    if world.rng().chance(600) {
        return;
    }
    let after = world.rng().below(for_ms);
    tokio::time::sleep(Duration::from_millis(after)).await;
    let Some(run) = promised.lock().unwrap().starts.iter().next_back().copied() else { return };
    let reason = format!("because of {after}");
    if handle.operate(run, Operation::Cancel { reason: Some(reason.clone()) }).await.is_ok() {
        if !world.durable(run).contains(&reason) {
            world.wrong(format!("9: the cancel of run {run} was answered before it was durable"));
        }
        promised.lock().unwrap().cancels.insert(run);
        world.count("cancel");
    }
}

/// The work of a life is over: it is killed, drained, or its disk fails, with an event just come in.
async fn end(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle) -> Death {
    let (kind, number) = {
        let mut rng = world.rng();
        (rng.below(4), rng.below(40))
    };
    let id = format!("last-{}", world.now().0);
    publish(world, promised, handle, event(&id, &data(number, 0))).await;
    match kind {
        0 => {
            handle.drain(Duration::from_secs(5)).await;
            Death::Drained
        }
        1 => {
            world.journal().fail("a sync failed");
            handle.failed().await;
            // Whoever waits for an answer gets it, and nothing may be acknowledged.
            tokio::time::sleep(Duration::from_millis(100)).await;
            Death::JournalFailed
        }
        _ => {
            let pause = world.rng().below(30);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Death::Sudden
        }
    }
}
