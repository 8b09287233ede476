//! Steps inside steps through the real coordinator, with bus, journal and services in memory: branches,
//! items, events that are early or late, a person, a child and its undo, each also across a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use backstitch::bus::Bus;
use backstitch::bus::memory::MemoryBus;
use backstitch::coordinator::{Operation, StartRequest};
use backstitch::envelope::Event;
use backstitch::id::{EventType, RunId, SagaName};
use backstitch::journal::Recovered;
use backstitch::journal::memory::MemoryJournal;
use backstitch::payload::Payload;

use super::coordinator::{Rig, Service, rest, rig_with, until};

const HEAD: &str = r#"
services:
  svc: { url: "http://127.0.0.1:1" }
defaults:
  timeout: 1s
  retry: { attempts: 2, delay: 5ms, jitter: none }
  compensate: { retry: { attempts: 2, delay: 5ms, jitter: none } }
steps:
"#;

fn call(id: &str) -> String {
    format!(
        "  - id: {id}\n    call: svc\n    with: {{ method: POST, path: /{id} }}\n    compensate: {{ with: {{ method: DELETE, path: /{id} }} }}\n"
    )
}

async fn rig(saga: &str) -> Rig {
    rig_with(saga, MemoryJournal::new(), Recovered::default(), MemoryBus::new(), Service::default()).await
}

async fn begin(rig: &Rig, saga: &str, input: &str) -> RunId {
    let request = StartRequest {
        saga: SagaName::parse(saga).unwrap(),
        version: None,
        input: Payload::parse(input).unwrap(),
        key: Some("k".to_owned()),
        correlation_id: None,
        trace: None,
    };
    rig.handle.start(request).await.unwrap();
    RunId::keyed(&SagaName::parse(saga).unwrap(), "k")
}

fn event(id: &str, kind: &str, data: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/test".to_owned(),
        event_type: EventType::parse(kind).unwrap(),
        time: None,
        subject: None,
        dataschema: None,
        correlation_id: None,
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: BTreeMap::new(),
        data: Payload::parse(data).unwrap(),
    }
}

async fn state(rig: &Rig, run: RunId) -> String {
    rig.handle.show(run).await.unwrap().map(|view| view.state).unwrap_or_default()
}

async fn reaches(rig: &Rig, run: RunId, wanted: &str) {
    for _ in 0..500 {
        if state(rig, run).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the run never is {wanted}: {:?}", rig.handle.show(run).await);
}

#[tokio::test]
async fn branches_and_items_are_undone_in_reverse() {
    let saga = format!(
        "saga: trip\nversion: 1\n{HEAD}{}  - id: stay\n    parallel:\n      branches:\n        hotel:\n{}        car:\n{}  - id: lines\n    for: {{ each: line, in: \"${{ $input.lines }}\" }}\n    do:\n      - id: send\n        call: svc\n        with: {{ method: POST, path: \"/send/${{ $line.sku }}\" }}\n        compensate: {{ with: {{ method: DELETE, path: \"/send/${{ $line.sku }}\" }} }}\n{}",
        call("first"),
        call("hotel").replace("\n", "\n        ").replacen("  - id", "          - id", 1).trim_end().to_owned() + "\n",
        call("car").replace("\n", "\n        ").replacen("  - id", "          - id", 1).trim_end().to_owned() + "\n",
        call("last"),
    );
    let rig = rig(&saga).await;
    rig.service.refuse.lock().unwrap().insert("/last".to_owned(), 422);
    let run = begin(&rig, "trip", r#"{"lines":[{"sku":"a"},{"sku":"b"}]}"#).await;
    assert_eq!(rest(&rig, run).await, "compensated");
    let calls = rig.service.targets();
    assert_eq!(calls[0], "POST /first");
    assert_eq!(calls[3..7], ["POST /send/a", "POST /send/b", "POST /last", "DELETE /send/b"]);
    assert_eq!(calls[7], "DELETE /send/a");
    let mut beside = calls[8..10].to_vec();
    beside.sort();
    assert_eq!(beside, ["DELETE /car", "DELETE /hotel"]);
    assert_eq!(calls[10], "DELETE /first");
    let steps: BTreeMap<String, String> =
        rig.handle.show(run).await.unwrap().unwrap().steps.into_iter().map(|step| (step.id, step.status)).collect();
    assert_eq!(steps["lines[1]/send"], "undone");
    assert_eq!(steps["stay/hotel"], "undone");
    let sent: Vec<String> = rig.service.calls.lock().unwrap().iter().map(|call| call.headers.step.clone()).collect();
    assert!(sent.contains(&"lines[0]/send".to_owned()), "{sent:?}");
}

const PAID: &str = "  - id: paid\n    await: order.paid.v1\n    where: { data.orderId: \"${ $input.orderId }\" }\n    timeout: 20s\n    compensate: none\n    output: ${ $result.data.amount }\n";

#[tokio::test]
async fn an_event_counts_whether_it_comes_early_or_late() {
    let saga = format!("saga: order\nversion: 1\n{HEAD}{}{PAID}{}", call("reserve"), call("ship"));
    // Late: the step waits already.
    let rig = rig(&saga).await;
    let run = begin(&rig, "order", r#"{"orderId":"A-1"}"#).await;
    reaches(&rig, run, "waiting").await;
    let other = event("e-0", "order.paid.v1", r#"{"orderId":"A-2","amount":1}"#);
    let own = event("e-1", "order.paid.v1", r#"{"orderId":"A-1","amount":7}"#);
    assert!(rig.bus.publish(vec![other, own.clone()]).await.iter().all(Result::is_ok));
    assert_eq!(rest(&rig, run).await, "completed");
    let steps = rig.handle.show(run).await.unwrap().unwrap().steps;
    assert_eq!(steps[1].output.as_ref().unwrap().text(), "7");
    assert_eq!(rig.service.targets(), ["POST /reserve", "POST /ship"]);

    // Early: it comes while a step before it sleeps.
    let pause = "  - { id: pause, wait: 300ms }\n";
    let saga = format!("saga: order\nversion: 1\n{HEAD}{pause}{PAID}{}", call("ship"));
    let rig = self::rig(&saga).await;
    let run = begin(&rig, "order", r#"{"orderId":"A-1"}"#).await;
    reaches(&rig, run, "waiting").await;
    assert!(rig.bus.publish(vec![own]).await[0].is_ok());
    until("the event is taken in", || rig.bus.unacknowledged().is_empty()).await;
    assert_eq!(state(&rig, run).await, "waiting");
    assert_eq!(rest(&rig, run).await, "completed");
}

#[tokio::test]
async fn nothing_in_time_undoes() {
    let saga =
        format!("saga: order\nversion: 1\n{HEAD}{}{}{}", call("reserve"), PAID.replace("20s", "50ms"), call("ship"));
    let rig = rig(&saga).await;
    let run = begin(&rig, "order", r#"{"orderId":"A-1"}"#).await;
    assert_eq!(rest(&rig, run).await, "compensated");
    assert_eq!(rig.service.targets(), ["POST /reserve", "DELETE /reserve"]);
    assert_eq!(rig.handle.show(run).await.unwrap().unwrap().error.unwrap().kind, "timeout");
}

#[tokio::test]
async fn a_person_answers_and_only_as_the_form_says() {
    let saga = format!(
        "saga: refund\nversion: 1\n{HEAD}  - id: approve\n    ask: refund ${{ $input.amount }}?\n    who: [ann]\n    form: {{ type: object, required: [ok], properties: {{ ok: {{ type: boolean }} }} }}\n  - id: pay\n    if: ${{ $steps.approve.output.ok }}\n    call: svc\n    with: {{ method: POST, path: /pay }}\n"
    );
    let rig = rig(&saga).await;
    let run = begin(&rig, "refund", r#"{"amount":5}"#).await;
    reaches(&rig, run, "waiting").await;
    let view = rig.handle.show(run).await.unwrap().unwrap();
    assert!(view.waiting_for.unwrap().contains("refund 5?"));
    let answer = |by: &str, data: &str| {
        rig.handle.answer(run, "approve".to_owned(), by.to_owned(), Payload::parse(data).unwrap())
    };
    assert!(answer("bob", r#"{"ok":true}"#).await.unwrap_err().to_string().contains("is for ann"));
    assert!(matches!(
        answer("ann", r#"{"ok":1}"#).await,
        Err(backstitch::coordinator::OperateError::Invalid(found)) if found[0].0 == "/ok"
    ));
    answer("ann", r#"{"ok":true}"#).await.unwrap();
    assert_eq!(rest(&rig, run).await, "completed");
    assert_eq!(rig.service.targets(), ["POST /pay"]);
    let view = rig.handle.show(run).await.unwrap().unwrap();
    assert!(view.steps[0].output.as_ref().unwrap().text().contains("\"by\":\"ann\""));
}

#[tokio::test]
async fn a_child_is_held_and_undone_with_its_parent_also_across_a_restart() {
    let sagas = format!(
        "saga: parent\nversion: 1\n{HEAD}{}  - id: sub\n    run: child\n    input: {{ a: 1 }}\n{}\n---\nsaga: child\nversion: 1\n{HEAD}{}{}",
        call("before"),
        call("after"),
        call("one"),
        call("two"),
    );
    let rig = rig(&sagas).await;
    rig.service.hang.lock().unwrap().push("/after".to_owned());
    let run = begin(&rig, "parent", "{}").await;
    until("the step behind the child is under way", || rig.service.targets().contains(&"POST /after".to_owned())).await;
    let (journal, recovered) = rig.journal.crash(0);
    assert_eq!(recovered.runs.len(), 2, "the child is held");
    rig.service.hang.lock().unwrap().clear();
    rig.service.refuse.lock().unwrap().insert("/after".to_owned(), 422);
    let Rig { bus, service, .. } = rig;
    let rig = rig_with(&sagas, journal, recovered, bus, service).await;
    // The attempt that was cut off is in doubt, so a refusal does not end it; then all of it is undone.
    assert_eq!(rest(&rig, run).await, "compensated");
    let undos: Vec<String> = rig.service.targets().into_iter().filter(|target| target.starts_with("DELETE")).collect();
    assert_eq!(undos, ["DELETE /after", "DELETE /two", "DELETE /one", "DELETE /before"]);
    // What the child did is undone under its own name.
    let of_child: Vec<String> = {
        let calls = rig.service.calls.lock().unwrap();
        calls.iter().filter(|call| call.request.target == "/one").map(|call| call.headers.run.clone()).collect()
    };
    assert!(of_child.windows(2).all(|pair| pair[0] == pair[1]), "{of_child:?}");
    assert_ne!(of_child[0], run.to_string());
    let child: RunId = of_child[0].parse().unwrap();
    reaches(&rig, child, "completed").await;
    let view = rig.handle.show(child).await.unwrap().unwrap();
    assert!(view.undone_by.is_some() && view.parent == Some(run), "{view:?}");
}

#[tokio::test]
async fn a_run_is_cancelled_in_the_middle_of_everything() {
    let saga = format!(
        "saga: trip\nversion: 1\n{HEAD}{}  - id: both\n    parallel:\n      branches:\n        wait:\n          - {{ id: sleep, wait: 1h }}\n        event:\n          - {{ id: told, await: order.paid.v1, compensate: none }}\n",
        call("first")
    );
    let rig = rig(&saga).await;
    let run = begin(&rig, "trip", "{}").await;
    reaches(&rig, run, "waiting").await;
    rig.handle.operate(run, Operation::Cancel { reason: None }).await.unwrap();
    assert_eq!(rest(&rig, run).await, "compensated");
    assert_eq!(rig.service.targets(), ["POST /first", "DELETE /first"]);
}
