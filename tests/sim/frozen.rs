//! Stored facts are frozen: journals of released versions hold these bytes. A changed line here means a
//! journal that no longer opens; add a form instead.

use std::sync::Arc;

use backstitch::envelope::Event;
use backstitch::id::{EventType, Fingerprint, RunId, SagaName, ServiceName};
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{CacheUse, Direction, Effect, Request};
use backstitch::saga::{
    BlockAt, ChildRun, Emission, Fact, Fate, Operation, Outcome, RunStarted, ScopeAt, SettleCause, SkipReason, StepAt,
    UndoEnd, Wanted, decode, encode,
};
use backstitch::time::{Span, Timestamp};
use backstitch::trace_context::{SpanId, TraceContext, TraceId};
use uuid::Uuid;

fn all() -> Vec<Fact> {
    let key = Uuid::from_u128(7);
    let request = Arc::new(Request {
        service: ServiceName::parse("payments").unwrap(),
        method: "POST".to_owned(),
        target: "/charges?reference=A-1".to_owned(),
        headers: vec![("x-tenant".to_owned(), "t1".to_owned())],
        body: Some(Payload::parse(r#"{"amount":12345678901234567890}"#).unwrap()),
        cache: None,
    });
    let problem =
        Problem { status: Some(422), ..Problem::new("card_declined", "declined").detail("no funds").at("charge") };
    let event_type = EventType::parse("order.shipped.v1").unwrap();
    let event = Event {
        id: "e".to_owned(),
        source: "/sagas/order".to_owned(),
        event_type: event_type.clone(),
        time: None,
        subject: None,
        dataschema: None,
        correlation_id: None,
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: std::collections::BTreeMap::new(),
        data: Payload::null(),
    };
    let emitted = |emission, dead| Fact::EventEmitted {
        emission,
        id: "e".to_owned(),
        event: event_type.clone(),
        number: 0,
        dead,
        content: Some(Arc::new(event.clone())),
    };
    let forward = Direction::Forward;
    let plain = Arc::clone(&request);
    // Inside a `for`: the third item of the step with index 4, and of the list with index 1.
    let item: StepAt = serde_json::from_str("[4,2]").unwrap();
    let block: BlockAt = serde_json::from_str("[1,2]").unwrap();
    let wanted = Arc::new(Wanted {
        types: vec![event_type.clone()],
        matching: vec![(vec!["data".to_owned(), "orderId".to_owned()], Payload::parse(r#""A-1""#).unwrap())],
        since: Timestamp(7),
    });
    let child = Arc::new(ChildRun {
        run: RunId(Uuid::from_u128(3)),
        saga: SagaName::parse("other").unwrap(),
        version: Some(2),
        input: Payload::parse("{}").unwrap(),
        undo_of: Some(RunId(Uuid::from_u128(2))),
        wait: true,
    });
    vec![
        Fact::RunStarted(Box::new(RunStarted {
            run: RunId(Uuid::from_u128(1)),
            saga: SagaName::parse("order").unwrap(),
            version: 2,
            definition: Fingerprint([9; 32]),
            key: Some("A-1".to_owned()),
            correlation_id: "c-1".to_owned(),
            causation_id: Some("e-1".to_owned()),
            trace: TraceContext {
                tracestate: Some("a=1".into()),
                ..TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), true)
            },
            parent: Some(SpanId([3; 8])),
            input: Payload::parse(r#"{"orderId":"A-1"}"#).unwrap(),
            event: Some(Payload::parse(r#"{"id":"e-1"}"#).unwrap()),
            input_hash: "00ff".to_owned(),
            deadline: Some(Timestamp(1_700_000_000_000)),
            parent_run: None,
            undo_of: None,
            link_after: None,
        })),
        Fact::Migrated { version: 3, definition: Fingerprint([8; 32]), next: vec![block], by: Some("ann".to_owned()) },
        Fact::Migrated { version: 3, definition: Fingerprint([8; 32]), next: Vec::new(), by: None },
        Fact::LockWanted { name: "order/A-1".to_owned() },
        Fact::LockGranted {},
        Fact::StepSkipped { step: 0.into(), why: SkipReason::Condition },
        Fact::StepSkipped { step: 0.into(), why: SkipReason::NoMatch },
        Fact::StepSkipped { step: 0.into(), why: SkipReason::Operator },
        Fact::ArmTaken { step: 1.into(), arm: 2 },
        Fact::StepStarted {
            step: 0.into(),
            key,
            key_number: 0,
            sent_key: None,
            request: Arc::clone(&request),
            attempt: 1,
            round: 0,
        },
        Fact::StepStarted {
            step: 0.into(),
            key,
            key_number: 1,
            sent_key: Some("k".to_owned()),
            request: Arc::clone(&request),
            attempt: 2,
            round: 0,
        },
        Fact::AttemptStarted { step: 0.into(), direction: forward, attempt: 2 },
        Fact::AttemptEnded {
            step: 0.into(),
            direction: forward,
            attempt: 1,
            effect: Effect::Done,
            proof: false,
            refused: false,
            status: Some(200),
            problem: None,
            fate: Fate::Over { again: false },
        },
        Fact::AttemptEnded {
            step: 0.into(),
            direction: Direction::Compensate,
            attempt: 1,
            effect: Effect::Maybe,
            proof: false,
            refused: false,
            status: None,
            problem: Some(problem.clone()),
            fate: Fate::RetryAt(Timestamp(5)),
        },
        Fact::AttemptEnded {
            step: 0.into(),
            direction: Direction::Check,
            attempt: 1,
            effect: Effect::None,
            proof: true,
            refused: true,
            status: Some(404),
            problem: None,
            fate: Fate::Over { again: true },
        },
        Fact::AttemptInterrupted { step: 0.into(), direction: forward, attempt: 1 },
        Fact::CheckStarted { step: 0.into(), key, request: Arc::clone(&request), attempt: 1 },
        Fact::AskDeferred { step: 0.into() },
        Fact::CheckEnded { step: 0.into(), happened: Some(false), conclusive: true, problem: None },
        Fact::CheckEnded { step: 0.into(), happened: None, conclusive: false, problem: Some(problem.clone()) },
        Fact::WaitStarted { step: 0.into(), due: Timestamp(5) },
        Fact::RetryScheduled { step: 0.into(), due: Timestamp(5) },
        Fact::StepEnded {
            step: 0.into(),
            outcome: Outcome::Done,
            output: Some(Payload::parse("[1]").unwrap()),
            failure: None,
        },
        Fact::StepEnded { step: 0.into(), outcome: Outcome::Refused, output: None, failure: Some(problem.clone()) },
        Fact::StepEnded { step: 0.into(), outcome: Outcome::Unknown, output: None, failure: None },
        Fact::StepWithdrawn { step: 0.into() },
        Fact::ClearingBegan { step: 0.into() },
        Fact::FailureHandled { step: 0.into(), output: None },
        emitted(Emission::Step(3.into()), None),
        emitted(Emission::Undo(3.into()), None),
        emitted(Emission::Completed, None),
        emitted(Emission::Compensated, Some("/orderId: missing".to_owned())),
        emitted(Emission::Parked, None),
        Fact::SettlingBegan { cause: SettleCause::Failed, problem: problem.clone(), cancel: false },
        Fact::SettlingBegan { cause: SettleCause::Cancelled, problem: problem.clone(), cancel: false },
        Fact::SettlingBegan { cause: SettleCause::Deadline, problem, cancel: false },
        Fact::UndoBegan {},
        Fact::UndoStarted { step: 0.into(), key, request, attempt: 1 },
        Fact::UndoEnded { step: 0.into(), end: UndoEnd::Undone },
        Fact::UndoEnded { step: 0.into(), end: UndoEnd::Nothing },
        Fact::UndoEnded { step: 0.into(), end: UndoEnd::Skipped },
        Fact::Parked { step: 0.into(), direction: Direction::Compensate, reason: "exhausted".to_owned() },
        Fact::OperatorActed { operation: Operation::Cancel { reason: Some("r".to_owned()) } },
        Fact::OperatorActed { operation: Operation::Pause },
        Fact::OperatorActed { operation: Operation::Resume },
        Fact::OperatorActed { operation: Operation::Retry { new_key: true } },
        Fact::OperatorActed { operation: Operation::Skip },
        Fact::OperatorActed { operation: Operation::ResolveDone { output: Some(Payload::parse("1").unwrap()) } },
        Fact::OperatorActed { operation: Operation::ResolveNotDone },
        Fact::OperatorActed { operation: Operation::ReleaseLock { by: Some("ann".to_owned()) } },
        Fact::OperatorActed {
            operation: Operation::Answer {
                step: 3.into(),
                by: "ann".to_owned(),
                answer: Payload::parse(r#"{"ok":true}"#).unwrap(),
            },
        },
        Fact::StepStarted {
            step: item,
            key,
            key_number: 0,
            sent_key: None,
            request: Arc::new(Request {
                cache: Some(CacheUse { key: "eur".to_owned(), ttl: Span(1_000) }),
                headers: Vec::new(),
                body: None,
                ..Request::clone(&plain)
            }),
            attempt: 1,
            round: 2,
        },
        Fact::RoundEnded { step: item, due: Timestamp(5) },
        Fact::PageEnded { step: 0.into(), items: Payload::parse("[1]").unwrap(), next: Some("/b".to_owned()) },
        Fact::PageEnded { step: 0.into(), items: Payload::parse("[]").unwrap(), next: None },
        Fact::BlockEntered { block },
        Fact::BranchesEntered { step: 2.into() },
        Fact::ItemsListed { step: 2.into(), items: Payload::parse("[1,2]").unwrap() },
        Fact::AwaitStarted { step: item, direction: forward, wanted: Arc::clone(&wanted), due: Some(Timestamp(9)) },
        Fact::AwaitEnded {
            step: item,
            direction: Direction::Compensate,
            problem: Some(Problem::new("timeout", "no reply came in time")),
            due: Some(Timestamp(9)),
        },
        Fact::EventTaken {
            step: item,
            direction: forward,
            key: "/shop#e-1".to_owned(),
            event: event_type.clone(),
            content: Payload::parse(r#"{"id":"e-1"}"#).unwrap(),
        },
        Fact::AskStarted {
            step: 3.into(),
            title: "may it?".to_owned(),
            show: Some(Payload::parse("1").unwrap()),
            due: None,
        },
        Fact::ChildStarted { step: 3.into(), direction: forward, child: Arc::clone(&child) },
        Fact::ChildEnded { step: 3.into(), direction: Direction::Compensate, completed: false },
        Fact::ScopeSettling {
            scope: ScopeAt::Block(block),
            from: Some(item),
            cause: SettleCause::Failed,
            problem: Problem::new("refused", "no"),
            undo: true,
            catch: Some(1),
            cancel: true,
        },
        Fact::ScopeSettling {
            scope: ScopeAt::Step(2.into()),
            from: None,
            cause: SettleCause::Lost,
            problem: Problem::new("cancelled", "another branch was enough"),
            undo: false,
            catch: None,
            cancel: false,
        },
        Fact::ScopeUndoing { scope: ScopeAt::Block(block) },
        Fact::ScopeEnded { scope: ScopeAt::Step(item) },
        Fact::ParkingWanted { step: item, direction: forward, reason: "in doubt".to_owned() },
        Fact::StepExpired { step: 2.into() },
        Fact::FailureHandled { step: 2.into(), output: Some(Payload::parse("0").unwrap()) },
        Fact::Released {},
        Fact::UndoneBy { run: RunId(Uuid::from_u128(4)) },
        Fact::DeadlineMissed {},
        Fact::Noted { text: "left out".to_owned() },
        Fact::RunEnded { completed: true, output: Some(Payload::parse("{}").unwrap()) },
        Fact::RunEnded { completed: false, output: None },
    ]
}

/// What a fact is after it was stored: the event's content lies in the outbox.
fn stored(fact: Fact) -> Fact {
    match fact {
        Fact::EventEmitted { emission, id, event, number, dead, .. } => {
            Fact::EventEmitted { emission, id, event, number, dead, content: None }
        }
        other => other,
    }
}

#[test]
fn stored_facts_never_change() {
    let mut page = String::new();
    for fact in all() {
        let bytes = encode(&fact);
        page.push_str(std::str::from_utf8(&bytes).unwrap());
        page.push('\n');
        assert_eq!(decode(&bytes).unwrap(), stored(fact));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/facts.golden.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(page, std::fs::read_to_string(path).unwrap_or_default(), "stored bytes have changed");
}

#[test]
fn what_is_no_fact_is_refused_with_a_reason() {
    for (why, bytes, wanted) in [
        ("empty", &b""[..], "empty"),
        ("a newer form", b"9{}", "newer version"),
        ("cut short", b"1{\"noted\":", "does not read"),
        ("an unknown fact", b"1{\"never\":{}}", "does not read"),
    ] {
        let error = decode(bytes).expect_err(why).to_string();
        assert!(error.contains(wanted), "{why}: {error}");
    }
}
