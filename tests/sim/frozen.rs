//! Stored facts are frozen: journals of released versions hold these bytes. A changed line here means a
//! journal that no longer opens; add a form instead.

use std::sync::Arc;

use backstitch::envelope::Event;
use backstitch::id::{EventType, Fingerprint, RunId, SagaName, ServiceName};
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{Direction, Effect, Request};
use backstitch::saga::{
    Emission, Fact, Fate, Operation, Outcome, RunStarted, SettleCause, SkipReason, UndoEnd, decode, encode,
};
use backstitch::time::Timestamp;
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
