//! What people see in Jaeger: one trace for each order of the demonstration, whole, also while its run
//! waits and after a SIGKILL between the intent of a call and its answer.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue};
use backstitch::cli::demo::processes::Wanted;
use backstitch::cli::participant::{Fault, Rule, Service};
use backstitch::request::Direction;
use http::Method;

use crate::otlp::{Collector, Manner};
use crate::rig::{EVENT, Rig, alone, order, program, run_of};
use crate::trace_store::{Seen, Store, check_whole};

const SAGA: &str = "saga order-fulfilment";
const END: &str = "saga order-fulfilment end";
const SENT: &str = "order.placed.v2 send";
const POST: &str = "POST /api/v1/events/{type}";

/// Names with how often they are there.
fn names(spans: &[Seen]) -> BTreeMap<&str, usize> {
    let mut names = BTreeMap::new();
    spans.iter().for_each(|span| *names.entry(span.name.as_str()).or_default() += 1);
    names
}

fn one<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<&Seen> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {:?}", names(spans));
    found[0]
}

fn parent_name<'a>(spans: &'a [Seen], span: &Seen) -> &'a str {
    spans.iter().find(|other| Some(&other.id) == span.parent.as_ref()).map_or("", |parent| parent.name.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_orders_of_the_demonstration() {
    let _alone = alone().await;
    let store = Store::start().await;
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program())
        .arg("demo")
        .env("TMPDIR", folder.path())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &store.otlp)
        .env("BACKSTITCH_JAEGER_URL", store.page.as_deref().unwrap_or("http://127.0.0.1:1"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let usual = [SENT, SAGA, "reserve", "charge", END];
    let whole = ["ship", "order.shipped.v1 send", "order.fulfilled.v1 send"];
    let undone = ["ship", "charge undo", "reserve undo", "order.rejected.v1 send", "saga order-fulfilment settles"];
    let checked = [&whole[..], &["charge check"]].concat();
    let rows: &[(&str, &str, &[&str])] = &[
        // order, what happens to it, spans beside the usual ones
        ("A-1001", "goes through", &whole),
        ("A-1002", "is refused and undone", &undone),
        ("A-1003", "an answer is lost", &checked),
        ("A-1004", "a service is down", &whole),
        ("A-1005", "the orchestrator is killed", &checked),
    ];
    let mut ids = Vec::new();
    for (key, why, more) in rows {
        // A collector takes spans in no order: the last one of a run may be there before the first.
        let spans = store.trace_of(key, &[&usual[..], more].concat()).await;
        let why = format!("{key} {why}");
        check_whole(&why, &spans);
        let there = names(&spans);
        for name in usual.iter().chain(*more) {
            assert!(there.contains_key(name), "{why}: no `{name}` in {there:?}");
        }
        for (name, count) in &there {
            // The request's own span is the only one that a SIGKILL may take with it.
            let known = usual.contains(name) || more.contains(name) || *name == POST;
            assert!(known && (*count == 1 || (*key == "A-1004" && *name == "reserve")), "{why}: {name} × {count}");
        }
        for span in &spans {
            let parent = match span.name.as_str() {
                SENT => "",
                POST | SAGA => SENT,
                _ => SAGA,
            };
            assert_eq!(parent_name(&spans, span), parent, "{why}: above {}", span.name);
            let kind = match span.name.as_str() {
                POST => 2,
                SAGA => 5,
                name if name.ends_with(" send") => 4,
                name if name.starts_with("saga ") => 1,
                _ => 3,
            };
            assert_eq!(span.kind, kind, "{why}: {}", span.name);
            if span.name != SENT && span.name != POST {
                assert_eq!(span.get("saga.run"), run_of(key).to_string(), "{why}: {}", span.name);
                assert_eq!(span.get("saga.name"), "order-fulfilment", "{why}: {}", span.name);
                assert_eq!(span.get("correlation.id"), one(&spans, SAGA).get("correlation.id"), "{why}");
            }
            if span.kind == 3 {
                let service = span.get("peer.service");
                assert!(["inventory", "payments", "shipping"].contains(&service), "{why}: {span:?}");
                assert!(span.get("url.full").starts_with("http://127.0.0.1:"), "{why}: {span:?}");
                assert!(!span.get("server.port").is_empty() && !span.get("http.request.method").is_empty(), "{span:?}");
            }
            if span.kind == 4 {
                assert_eq!(span.get("messaging.system"), "nats", "{why}: {span:?}");
                assert!(span.get("messaging.destination.name").starts_with("events.order."), "{why}: {span:?}");
            }
        }
        let outcome = if *key == "A-1002" { "compensated" } else { "completed" };
        assert_eq!(one(&spans, END).get("saga.outcome"), outcome, "{why}");
        assert_eq!(one(&spans, END).error.is_some(), outcome == "compensated", "{why}");
        if let Some(page) = &store.page {
            let link = format!("trace of {key}: {page}/trace/{}", spans[0].trace);
            assert!(said.contains(&link), "`{link}` is not in\n{said}");
        }
        ids.push(spans[0].trace.clone());
        check_scene(key, &spans);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "one trace for each order");
    store.stop().await;
}

/// What one order alone shows.
fn check_scene(key: &str, spans: &[Seen]) {
    match key {
        "A-1002" => {
            let (ship, charge, reserve) = (one(spans, "ship"), one(spans, "charge undo"), one(spans, "reserve undo"));
            assert_eq!((ship.get("saga.outcome"), ship.get("error.type")), ("none", "no_carrier"));
            assert_eq!(ship.get("http.response.status_code"), "422");
            for undo in [charge, reserve] {
                assert_eq!(undo.get("saga.direction"), "compensate", "compensations are marked");
            }
            assert!(charge.end <= reserve.start, "in reverse order");
            assert_eq!(one(spans, "saga order-fulfilment settles").get("saga.cause"), "failed");
        }
        "A-1003" => {
            assert_eq!(one(spans, "charge").get("saga.outcome"), "maybe");
            assert_eq!(one(spans, "charge check").get("saga.direction"), "check");
        }
        "A-1004" => {
            let attempts: Vec<&Seen> = spans.iter().filter(|span| span.name == "reserve").collect();
            assert!(attempts.len() >= 3, "two failed: {attempts:#?}");
            for attempt in &attempts {
                let number: u32 = attempt.get("saga.attempt").parse().unwrap();
                let resent = if number == 1 { String::new() } else { (number - 1).to_string() };
                assert_eq!(attempt.get("http.request.resend_count"), resent);
                assert_eq!(attempt.error.is_none(), number as usize == attempts.len(), "only the last went well");
            }
        }
        "A-1005" => {
            let cut = one(spans, "charge");
            assert_eq!((cut.get("saga.outcome"), cut.get("error.type")), ("maybe", "cut_off"));
        }
        _ => {}
    }
}

fn rule(order: &str, service: Service, fault: Fault) -> Rule {
    Rule {
        service: Some(service),
        order: Some(order.to_owned()),
        run: None,
        step: None,
        direction: Some(Direction::Forward),
        times: Some(1),
        fault,
    }
}

async fn publish(rig: &Rig, key: &str) {
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-id", key), ("ce-source", "/shop"), ("ce-type", EVENT)] {
        headers.insert(name, value.parse::<HeaderValue>().unwrap());
    }
    client.publish_with_headers(format!("events.{EVENT}"), headers, order(key).text().to_owned().into()).await.unwrap();
    client.flush().await.unwrap();
}

async fn charge_has_arrived(rig: &Rig, key: &str) {
    let wanted = Wanted { run: None, order: Some(key), step: Some("charge"), direction: None, count: 1 };
    rig.participants.wait(&wanted, Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_whole_while_its_run_waits_and_after_a_kill() {
    let _alone = alone().await;
    let store = Store::start().await;
    let config = format!("telemetry: {{ otlp: \"{}\" }}\n", store.otlp);
    let mut rig = Rig::prepare("traces-kill", &[], "data", &config).await;
    rig.orchestrator.start().await.unwrap();
    rig.participants.fault(&rule("W-1", Service::Payments, Fault::Hold { ms: 60_000 })).await.unwrap();
    publish(&rig, "W-1").await;
    charge_has_arrived(&rig, "W-1").await;
    let waiting = store.trace_of("W-1", &[SAGA, "reserve"]).await;
    check_whole("while charge is out", &waiting);
    assert_eq!(names(&waiting), BTreeMap::from([(SAGA, 1), ("reserve", 1)]));

    rig.orchestrator.kill().await;
    rig.orchestrator.start().await.unwrap();
    assert_eq!(rig.ended(run_of("W-1")).await.state, "completed");
    let expected = [SAGA, "reserve", "charge", "charge check", "ship"];
    let expected = [&expected[..], &["order.shipped.v1 send", "order.fulfilled.v1 send", END]].concat();
    let spans = store.trace_with(&waiting[0].trace, &expected).await;
    check_whole("after a kill between intent and answer", &spans);
    assert_eq!(names(&spans), expected.iter().map(|name| (*name, 1)).collect());

    // Killed right behind its start: what waited for its export is exported again, the event's span with it.
    rig.participants.fault(&rule("W-2", Service::Payments, Fault::Hold { ms: 60_000 })).await.unwrap();
    rig.orchestrator.client.publish(EVENT, &order("W-2"), &Default::default()).await.unwrap();
    charge_has_arrived(&rig, "W-2").await;
    rig.orchestrator.kill().await;
    rig.orchestrator.start().await.unwrap();
    assert_eq!(rig.ended(run_of("W-2")).await.state, "completed");
    let spans = store.trace_of("W-2", &[&expected[..], &[SENT]].concat()).await;
    check_whole("published through the API and killed at once", &spans);
    assert_eq!(parent_name(&spans, one(&spans, SAGA)), SENT);
    rig.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_sampled_is_exported_when_it_ends_badly() {
    let _alone = alone().await;
    let store = Store::start().await;
    let config = format!("telemetry: {{ otlp: \"{}\", sampling: 0.0 }}\n", store.otlp);
    let mut rig = Rig::prepare("traces-late", &[], "data", &config).await;
    rig.orchestrator.start().await.unwrap();
    let refuse = Fault::Refuse { status: 422, problem: "no_carrier".to_owned(), title: "no carrier".to_owned() };
    rig.participants.fault(&rule("U-2", Service::Shipping, refuse)).await.unwrap();
    for (key, state) in [("U-1", "completed"), ("U-2", "compensated")] {
        rig.orchestrator.client.publish(EVENT, &order(key), &Default::default()).await.unwrap();
        assert_eq!(rig.ended(run_of(key)).await.state, state);
    }
    let expected = [SENT, SAGA, "reserve", "charge", "ship", "charge undo", "reserve undo", END];
    let spans = store.trace_of("U-2", &expected).await;
    check_whole("exported afterwards", &spans);
    for name in expected {
        one(&spans, name);
    }
    let others: Vec<Seen> = store.spans().await.into_iter().filter(|span| span.trace != spans[0].trace).collect();
    assert!(others.is_empty(), "nobody asked for these: {others:#?}");
    let ledger = rig.participants.ledger().await.unwrap();
    for arrival in &ledger.arrivals {
        let parent = arrival.traceparent.as_deref().unwrap_or_default();
        let flags = u8::from_str_radix(parent.rsplit('-').next().unwrap(), 16).unwrap();
        assert_eq!(flags & 1, 0, "services are told that it is not sampled: {parent}");
    }
    rig.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_has_no_effect_on_runs() {
    let _alone = alone().await;
    let collector = Collector::at("127.0.0.1:0".parse().unwrap(), Manner::Hang).await;
    let config = format!("telemetry: {{ otlp: \"{}\" }}\n", collector.endpoint());
    let mut rig = Rig::prepare("traces-hang", &[], "data", &config).await;
    rig.orchestrator.start().await.unwrap();
    for number in 0..20 {
        rig.orchestrator.client.publish(EVENT, &order(&format!("H-{number}")), &Default::default()).await.unwrap();
    }
    for number in 0..20 {
        assert_eq!(rig.ended(run_of(&format!("H-{number}"))).await.state, "completed");
    }
    collector.asked().await;
    let answer = rig.orchestrator.client.request(Method::GET, "/metrics", &[], None, Duration::from_secs(10)).await;
    let page = String::from_utf8(answer.unwrap().body.to_vec()).unwrap();
    let figure = |name: &str| {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("{name} in\n{page}"))
    };
    assert_eq!(figure("backstitch_spans_exported_total"), 0);
    let kept = figure("backstitch_queue_length{queue=\"spans\"}") + figure("backstitch_spans_dropped_total");
    assert!(kept > 0, "what waits or was dropped is counted");
    rig.stop().await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_goes_on_in_a_linked_trace() {
    const NAPPING: &str = "saga: napping\nversion: 1\nsteps:\n  - id: before\n    call: inventory\n    with: { method: GET, path: /reservations }\n    compensate: none\n  - id: nap\n    wait: 1500ms\n  - id: after\n    call: payments\n    with: { method: GET, path: /charges }\n    compensate: none\n";
    let _alone = alone().await;
    let store = Store::start().await;
    let config = format!("telemetry: {{ otlp: \"{}\", link_after: 1s }}\n", store.otlp);
    let mut rig = Rig::prepare("traces-linked", &[], "data", &config).await;
    std::fs::write(rig.workspace.path().join("sagas/napping.yaml"), NAPPING).unwrap();
    rig.orchestrator.start().await.unwrap();
    let client = rig.orchestrator.client.clone();
    let body = serde_json::from_str(r#"{"key": "N-1"}"#).unwrap();
    let run = client.start("napping", &body, None).await.unwrap().id;
    let view = rig.ended(run).await;
    assert_eq!(view.state, "completed");
    let first = store.trace_of("N-1", &["saga napping", "before", "nap waits"]).await;
    check_whole("the first trace", &first);
    let next = &one(&first, "nap waits").links;
    assert_eq!(view.linked_traces, *next, "the run names its later traces");
    let second = store.trace_with(&next[0], &["saga napping goes on", "after", "saga napping end"]).await;
    check_whole("the second trace", &second);
    assert_eq!(one(&second, "saga napping goes on").links, [first[0].trace.clone()]);
    let ledger = rig.participants.ledger().await.unwrap();
    let after = ledger.arrivals.iter().find(|arrival| arrival.target.starts_with("/charges")).unwrap();
    assert!(after.traceparent.as_deref().unwrap().contains(&next[0]), "services see the trace that goes on");
    rig.stop().await;
    store.stop().await;
}
