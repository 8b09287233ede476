//! The coordinator with everything around it in memory: what leaves and when, what survives, what an
//! event starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstitch::bus::memory::MemoryBus;
use backstitch::bus::{Bus, RawMessage};
use backstitch::connector::{Call, Connector};
use backstitch::coordinator::{
    Catalogue, Entry, EventSchemas, Handle, Links, Operation, Options, Parts, Refusal, StartError, StartRequest,
    Started, SystemClock,
};
use backstitch::definition;
use backstitch::envelope::Event;
use backstitch::id::{EventType, RunId, SagaName};
use backstitch::journal::memory::MemoryJournal;
use backstitch::journal::{Journal, Recovered};
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{Again, Answer, Attempt, Direction, Effect};
use backstitch::telemetry::SpanSink;
use futures_util::future::BoxFuture;

const SAGA: &str = r#"
saga: order
version: 1
on:
  - event: order.placed.v1
    key: ${ $event.data.orderId }
    input: ${ $event.data }
services:
  svc: { url: "http://127.0.0.1:1" }
defaults:
  timeout: 1s
  retry: { attempts: 3, delay: 5ms, jitter: none }
  compensate: { retry: { attempts: 2, delay: 5ms, jitter: none } }
steps:
  - id: reserve
    call: svc
    with: { method: POST, path: /reserve, body: { order: "${ $input.orderId }" } }
    compensate: { with: { method: DELETE, path: /reserve } }
  - id: charge
    call: svc
    with: { method: POST, path: /charge, body: { order: "${ $input.orderId }" } }
    compensate: { with: { method: DELETE, path: /charge } }
  - id: tell
    emit: order.charged.v1
    data: { orderId: "${ $input.orderId }" }
finally:
  compensated: { emit: order.rejected.v1, data: { orderId: "${ $input.orderId }" } }
"#;

/// A service that does what it is told, and remembers every call.
#[derive(Clone, Default)]
pub struct Service {
    pub calls: Arc<Mutex<Vec<Call>>>,
    /// Answers by path; anything else is 200.
    pub refuse: Arc<Mutex<BTreeMap<String, u16>>>,
    /// Paths that never answer.
    pub hang: Arc<Mutex<Vec<String>>>,
    seen: Arc<tokio::sync::Notify>,
}

impl Connector for Service {
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt> {
        let (target, direction) = (call.request.target.clone(), call.headers.direction);
        let refused = self.refuse.lock().unwrap().get(&target).copied().filter(|_| direction == Direction::Forward);
        let hang = self.hang.lock().unwrap().contains(&target);
        self.calls.lock().unwrap().push(call);
        self.seen.notify_waiters();
        Box::pin(async move {
            if hang {
                std::future::pending::<()>().await;
            }
            let answer = |status| Some(Answer { status, headers: BTreeMap::new(), body: Payload::null() });
            match refused {
                Some(status) => Attempt {
                    effect: Effect::None,
                    again: Again::No,
                    answer: answer(status),
                    problem: Some(Problem::new("refused", "the service said no")),
                    retry_after: None,
                },
                None => Attempt {
                    effect: Effect::Done,
                    again: Again::No,
                    answer: answer(200),
                    problem: None,
                    retry_after: None,
                },
            }
        })
    }
}

impl Service {
    pub fn targets(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| format!("{} {}", call.request.method, call.request.target)).collect()
    }
}

/// Every type is known; data must have an `orderId`.
struct Schemas;

impl EventSchemas for Schemas {
    fn check(&self, _: &EventType, data: &Payload) -> Result<(), Refusal> {
        match data.to_value().get("orderId") {
            Some(_) => Ok(()),
            None => Err(Refusal::Invalid(vec![(String::new(), "orderId is missing".to_owned())])),
        }
    }
    /// Versions are alike here; `tests/it/schema_versions.rs` has those that are not.
    fn convert(&self, event: &EventType, data: &Payload, _: &EventType) -> Result<Payload, Refusal> {
        self.check(event, data).map(|()| data.clone())
    }
}

pub struct Rig {
    pub handle: Handle,
    pub journal: MemoryJournal,
    pub bus: MemoryBus,
    pub service: Service,
}

pub async fn rig_with(
    saga: &str,
    journal: MemoryJournal,
    recovered: Recovered,
    bus: MemoryBus,
    service: Service,
) -> Rig {
    // Several files stand behind each other, as documents of one text would.
    let entry = |saga: &str| match definition::reload("order.yaml", saga) {
        Ok(definition) => Entry { definition: Arc::new(definition), input: None },
        Err(found) => panic!("{:?}", found.iter().map(|one| &one.message).collect::<Vec<_>>()),
    };
    let catalogue = Catalogue::new(saga.split("\n---\n").map(entry).collect()).unwrap();
    let parts = Parts {
        catalogue,
        schemas: Arc::new(Schemas),
        journal: Arc::new(journal.clone()),
        recovered,
        services: BTreeMap::new(),
        bus: Arc::new(bus.clone()),
        connector: Arc::new(service.clone()),
        clock: Arc::new(SystemClock),
        spans: SpanSink::off(),
        metrics: Arc::default(),
        options: Options::default(),
        links: Links::default(),
    };
    Rig { handle: parts.start().await.unwrap(), journal, bus, service }
}

async fn rig() -> Rig {
    rig_with(SAGA, MemoryJournal::new(), Recovered::default(), MemoryBus::new(), Service::default()).await
}

fn order(id: &str, data: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/test".to_owned(),
        event_type: EventType::parse("order.placed.v1").unwrap(),
        time: None,
        subject: None,
        dataschema: None,
        correlation_id: Some("corr-1".to_owned()),
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: BTreeMap::new(),
        data: Payload::parse(data).unwrap(),
    }
}

fn run_of(order: &str) -> RunId {
    RunId::keyed(&SagaName::parse("order").unwrap(), order)
}

pub async fn rest(rig: &Rig, run: RunId) -> String {
    // The run may not have begun yet: its event is on the way.
    for _ in 0..200 {
        if let Some(view) = rig.handle.wait(run, Duration::from_secs(5)).await {
            return view.state;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("run {run} never began");
}

pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Orders that are not acknowledged. What the saga itself emitted is for others.
fn open_orders(rig: &Rig) -> usize {
    let messages = rig.bus.messages();
    let is_order = |sequence: &u64| messages[*sequence as usize - 1].subject == "events.order.placed.v1";
    rig.bus.unacknowledged().into_iter().filter(is_order).count()
}

fn start(key: &str, input: &str) -> StartRequest {
    StartRequest {
        saga: SagaName::parse("order").unwrap(),
        version: None,
        input: Payload::parse(input).unwrap(),
        key: Some(key.to_owned()),
        correlation_id: None,
        trace: None,
    }
}

#[tokio::test]
async fn an_event_starts_one_run_whatever_is_redelivered() {
    let rig = rig().await;
    let event = order("e-1", r#"{"orderId":"A-1"}"#);
    assert!(rig.handle.publish(vec![event.clone()]).await.is_ok());
    assert_eq!(rest(&rig, run_of("A-1")).await, "completed");
    // The same event once more, as a new message, and the first one delivered again.
    assert!(rig.bus.publish(vec![event]).await[0].is_ok());
    rig.bus.redeliver();
    until("everything is acknowledged", || open_orders(&rig) == 0).await;
    assert_eq!(rig.service.targets(), ["POST /reserve", "POST /charge"]);
    let view = rig.handle.show(run_of("A-1")).await.unwrap().unwrap();
    assert_eq!((view.correlation_id.as_str(), view.key.as_deref()), ("corr-1", Some("A-1")));
    until("the emitted event is published", || {
        rig.bus.events().iter().any(|e| e.event_type.as_str() == "order.charged.v1")
    })
    .await;
    let emitted = rig.bus.events().into_iter().find(|e| e.event_type.as_str() == "order.charged.v1").unwrap();
    assert_eq!(emitted.correlation_id.as_deref(), Some("corr-1"));
    assert_eq!(emitted.causation_id.as_deref(), Some("e-1"));
}

#[tokio::test]
async fn nothing_leaves_and_nothing_is_acknowledged_before_it_is_durable() {
    let rig = rig().await;
    rig.journal.hold();
    assert!(rig.bus.publish(vec![order("e-1", r#"{"orderId":"A-1"}"#)]).await[0].is_ok());
    until("the start waits for the disk", || rig.journal.held() == 1).await;
    assert_eq!(rig.service.targets(), Vec::<String>::new(), "a call left before its record");
    assert_eq!(open_orders(&rig), 1, "acknowledged before its record");
    rig.journal.release(1);
    until("the first call leaves", || rig.service.targets() == ["POST /reserve"]).await;
    until("the event is acknowledged", || open_orders(&rig) == 0).await;
    rig.journal.resume();
    assert_eq!(rest(&rig, run_of("A-1")).await, "completed");
}

#[tokio::test]
async fn a_start_that_was_not_durable_was_never_answered_and_a_durable_one_goes_on() {
    let rig = rig().await;
    rig.service.hang.lock().unwrap().push("/charge".to_owned());
    assert!(matches!(rig.handle.start(start("A-1", r#"{"orderId":"A-1"}"#)).await, Ok(Started::Created(_))));
    until("the second call is under way", || rig.service.targets().len() == 2).await;
    rig.journal.hold();
    let handle = rig.handle.clone();
    let lost = tokio::spawn(async move { handle.start(start("B-1", r#"{"orderId":"B-1"}"#)).await });
    until("the start waits for the disk", || rig.journal.held() == 1).await;
    // Power is lost: what was held is gone.
    let (journal, recovered) = rig.journal.crash(0);
    assert_eq!(recovered.runs.len(), 1);
    assert!(lost.await.unwrap().is_err(), "it was answered though it is lost");
    let again = rig_with(SAGA, journal, recovered, rig.bus.clone(), Service::default()).await;
    assert_eq!(again.handle.resumed(), 1);
    assert_eq!(rest(&again, run_of("A-1")).await, "completed");
    // The attempt that was cut off is sent again with the same key.
    let before = rig.service.calls.lock().unwrap()[1].headers.idempotency_key.clone();
    let after = again.service.calls.lock().unwrap()[0].headers.idempotency_key.clone();
    assert!(before.is_some() && before == after, "{before:?} {after:?}");
    assert!(again.handle.show(run_of("B-1")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_undoes_and_tells() {
    let rig = rig().await;
    rig.service.refuse.lock().unwrap().insert("/charge".to_owned(), 422);
    assert!(rig.handle.start(start("A-1", r#"{"orderId":"A-1"}"#)).await.is_ok());
    assert_eq!(rest(&rig, run_of("A-1")).await, "compensated");
    assert_eq!(rig.service.targets(), ["POST /reserve", "POST /charge", "DELETE /reserve"]);
    let calls = rig.service.calls.lock().unwrap().clone();
    assert_eq!(calls[2].headers.forward_key, calls[0].headers.idempotency_key);
    assert_eq!(calls[2].headers.direction, Direction::Compensate);
    assert_eq!(calls[2].headers.trace.trace_id, calls[0].headers.trace.trace_id);
    until("the rejection is published", || {
        rig.bus.events().iter().any(|e| e.event_type.as_str() == "order.rejected.v1")
    })
    .await;
}

#[tokio::test]
async fn a_key_means_one_run() {
    let rig = rig().await;
    let first = rig.handle.start(start("A-1", r#"{"orderId":"A-1","n":1}"#)).await.unwrap();
    let Started::Created(run) = first else { panic!("{first:?}") };
    // Equal as JSON, not as text.
    let again = rig.handle.start(start("A-1", r#"{ "n": 1, "orderId": "A-1" }"#)).await.unwrap();
    assert_eq!(again, Started::Existing(run));
    let other = rig.handle.start(start("A-1", r#"{"orderId":"A-1","n":2}"#)).await;
    assert!(matches!(other, Err(StartError::KeyConflict { .. })), "{other:?}");
    rest(&rig, run).await;
    let finished = rig.handle.start(start("A-1", r#"{"orderId":"A-1","n":1}"#)).await.unwrap();
    assert_eq!(finished, Started::Existing(run), "the key outlives the run");
    let late = rig.handle.start(start("A-1", r#"{"orderId":"A-1","n":2}"#)).await;
    assert!(matches!(late, Err(StartError::KeyConflict { .. })), "{late:?}");
}

#[tokio::test]
async fn poison_is_put_aside_with_its_reason_and_blocks_nothing() {
    let rig = rig().await;
    let raw = RawMessage {
        subject: "events.order.placed.v1".to_owned(),
        headers: vec![("ce-id".to_owned(), "x".to_owned())],
        payload: bytes::Bytes::from_static(b"not json"),
    };
    rig.bus.inject(raw);
    assert!(rig.bus.publish(vec![order("e-2", r#"{"wrong":true}"#)]).await[0].is_ok());
    assert!(rig.bus.publish(vec![order("e-3", r#"{"orderId":null}"#)]).await[0].is_ok());
    assert!(rig.bus.publish(vec![order("e-4", r#"{"orderId":"A-4"}"#)]).await[0].is_ok());
    assert_eq!(rest(&rig, run_of("A-4")).await, "completed");
    until("three are put aside", || rig.bus.dead_letters().len() == 3).await;
    let mut reasons: Vec<String> = rig.bus.dead_letters().into_iter().map(|letter| letter.reason).collect();
    reasons.sort();
    assert_eq!(reasons, ["invalid_data", "invalid_event", "null_key"]);
    until("all are acknowledged", || open_orders(&rig) == 0).await;
    // The same key with other input.
    assert!(rig.bus.publish(vec![order("e-5", r#"{"orderId":"A-4","n":2}"#)]).await[0].is_ok());
    until("the conflict is put aside", || rig.bus.dead_letters().iter().any(|letter| letter.reason == "key_conflict"))
        .await;
}

#[tokio::test]
async fn a_lock_lets_one_run_at_a_time() {
    let saga = SAGA.replace("defaults:", "lock: stock/${ $input.item }\ndefaults:");
    let rig = rig_with(&saga, MemoryJournal::new(), Recovered::default(), MemoryBus::new(), Service::default()).await;
    rig.service.hang.lock().unwrap().push("/reserve".to_owned());
    assert!(rig.handle.start(start("A-1", r#"{"orderId":"A-1","item":"x"}"#)).await.is_ok());
    until("the first holds it", || rig.service.targets().len() == 1).await;
    assert!(rig.handle.start(start("A-2", r#"{"orderId":"A-2","item":"x"}"#)).await.is_ok());
    assert!(rig.handle.start(start("A-3", r#"{"orderId":"A-3","item":"y"}"#)).await.is_ok());
    until("another lock is free", || rig.service.targets().len() == 2).await;
    let waiting = rig.handle.show(run_of("A-2")).await.unwrap().unwrap();
    assert_eq!(waiting.state, "waiting");
    assert!(waiting.waiting_for.unwrap().contains(&run_of("A-1").to_string()), "the holder is named");
    // The holder's process dies: after the restart the holder is still first.
    let (journal, recovered) = rig.journal.crash(0);
    let again = rig_with(&saga, journal, recovered, rig.bus.clone(), Service::default()).await;
    for order in ["A-1", "A-2", "A-3"] {
        assert_eq!(rest(&again, run_of(order)).await, "completed", "{order}");
    }
    let runs: Vec<String> = again.service.calls.lock().unwrap().iter().map(|call| call.headers.run.clone()).collect();
    let last_of_first = runs.iter().rposition(|run| *run == run_of("A-1").to_string()).unwrap();
    let first_of_second = runs.iter().position(|run| *run == run_of("A-2").to_string()).unwrap();
    assert!(last_of_first < first_of_second, "the second run began while the first held the lock");
}

#[tokio::test]
async fn operators_act_and_are_answered_when_it_is_durable() {
    let rig = rig().await;
    rig.service.hang.lock().unwrap().push("/charge".to_owned());
    assert!(rig.handle.start(start("A-1", r#"{"orderId":"A-1"}"#)).await.is_ok());
    until("the second call is under way", || rig.service.targets().len() == 2).await;
    let paused = rig.handle.operate(run_of("A-1"), Operation::Pause).await.unwrap();
    assert_eq!(paused.state, "paused");
    assert!(rig.handle.operate(run_of("A-1"), Operation::Pause).await.is_err(), "twice is a conflict");
    assert!(rig.handle.operate(run_of("A-1"), Operation::Skip).await.is_err());
    assert!(
        rig.handle.operate(RunId::keyed(&SagaName::parse("order").unwrap(), "none"), Operation::Pause).await.is_err()
    );
    let history = rig.handle.history(run_of("A-1")).await.unwrap().unwrap();
    assert!(history.iter().any(|entry| entry.fact == "operator_acted"), "{history:?}");
    assert!(history.iter().zip(0..).all(|(entry, n)| entry.sequence == n));
}

#[tokio::test]
async fn lists_go_page_by_page_over_open_and_finished_runs() {
    let rig = rig().await;
    for n in 0..7 {
        assert!(rig.handle.start(start(&format!("F-{n}"), r#"{"orderId":"f"}"#)).await.is_ok());
        rest(&rig, run_of(&format!("F-{n}"))).await;
    }
    rig.service.hang.lock().unwrap().push("/reserve".to_owned());
    for n in 0..5 {
        assert!(rig.handle.start(start(&format!("O-{n}"), r#"{"orderId":"o"}"#)).await.is_ok());
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let filter = backstitch::coordinator::view::RunFilter { limit: Some(3), cursor, ..Default::default() };
        let page = rig.handle.list(filter).await.unwrap();
        assert!(page.runs.len() <= 3);
        seen.extend(page.runs.into_iter().map(|run| run.key.unwrap_or_default()));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    let expected: Vec<String> = (0..7).map(|n| format!("F-{n}")).chain((0..5).map(|n| format!("O-{n}"))).collect();
    assert_eq!(seen, expected, "each run once");
    let bad = backstitch::coordinator::view::RunFilter { state: Some("lost".to_owned()), ..Default::default() };
    assert!(rig.handle.list(bad).await.is_err());
}

#[tokio::test]
async fn a_drain_stops_intake_and_keeps_what_has_not_ended() {
    let rig = rig().await;
    rig.service.hang.lock().unwrap().push("/charge".to_owned());
    assert!(rig.handle.start(start("A-1", r#"{"orderId":"A-1"}"#)).await.is_ok());
    until("the second call is under way", || rig.service.targets().len() == 2).await;
    assert!(!rig.handle.drain(Duration::from_millis(50)).await, "the hanging call was cut off");
    assert!(matches!(
        rig.handle.start(start("A-2", r#"{"orderId":"A-2"}"#)).await,
        Err(StartError::Unavailable { .. })
    ));
    let (journal, recovered) = rig.journal.crash(0);
    let again = rig_with(SAGA, journal, recovered, rig.bus.clone(), Service::default()).await;
    assert_eq!(rest(&again, run_of("A-1")).await, "completed");
}

#[tokio::test]
async fn events_wait_in_the_outbox_while_nats_is_away() {
    let rig = rig().await;
    rig.bus.set_available(false);
    assert!(rig.handle.start(start("A-1", r#"{"orderId":"A-1"}"#)).await.is_ok());
    assert_eq!(rest(&rig, run_of("A-1")).await, "completed", "a run needs no NATS");
    assert_eq!(rig.bus.events().len(), 0);
    // The process dies before NATS is back: the event is in the journal.
    let (journal, recovered) = rig.journal.crash(0);
    assert_eq!(recovered.outbox.len(), 1);
    rig.bus.set_available(true);
    let again = rig_with(SAGA, journal, recovered, rig.bus.clone(), Service::default()).await;
    until("it is published after all", || again.bus.events().len() == 1).await;
    let stats = again.journal.stats();
    assert!(stats.commits > 0);
}
