//! One trace from a foreign publisher to the last undo, with a SIGKILL in the middle: no span twice, none
//! without its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue};
use backstitch::cli::demo::processes::Wanted;
use backstitch::cli::participant::{Fault, Rule, Service};
use backstitch::request::Direction;

use crate::otlp::{Collector, Taken};
use crate::rig::{EVENT, Rig, alone, order, run_of, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PUBLISHER: &str = "00f067aa0ba902b7";
const ORDER: &str = "T-1";

fn rule(service: Service, fault: Fault) -> Rule {
    Rule {
        service: Some(service),
        order: Some(ORDER.to_owned()),
        run: None,
        step: None,
        direction: Some(Direction::Forward),
        times: Some(1),
        fault,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn publish(rig: &Rig) {
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "trace-1"),
        ("ce-source", "/shop"),
        ("ce-type", EVENT),
        ("ce-correlationid", "corr-trace"),
        ("ce-traceparent", &format!("00-{TRACE}-{PUBLISHER}-01")),
    ] {
        headers.insert(name, value.parse::<HeaderValue>().unwrap());
    }
    let payload = order(ORDER).text().to_owned().into();
    client.publish_with_headers(format!("events.{EVENT}"), headers, payload).await.unwrap();
    client.flush().await.unwrap();
}

/// The spans of the trace, by name; a name that comes more than once has them all.
fn by_name(spans: &[Taken]) -> BTreeMap<String, Vec<&Taken>> {
    let mut names: BTreeMap<String, Vec<&Taken>> = BTreeMap::new();
    for taken in spans.iter().filter(|taken| hex(&taken.span.trace_id) == TRACE) {
        names.entry(taken.span.name.clone()).or_default().push(taken);
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_from_the_publisher_to_the_last_undo_across_a_kill() {
    let _alone = alone().await;
    let collector = Collector::start().await;
    let config = format!("telemetry: {{ otlp: \"{}\" }}\n", collector.endpoint());
    let mut rig = Rig::prepare("one-trace", &[], "data", &config).await;
    rig.orchestrator.start().await.unwrap();
    rig.participants.fault(&rule(Service::Payments, Fault::Hold { ms: 60_000 })).await.unwrap();
    let refuse = Fault::Refuse { status: 422, problem: "no_carrier".to_owned(), title: "no carrier".to_owned() };
    rig.participants.fault(&rule(Service::Shipping, refuse)).await.unwrap();
    publish(&rig).await;
    let run = run_of(ORDER);
    let wanted = Wanted { run: None, order: Some(ORDER), step: Some("charge"), direction: None, count: 1 };
    rig.participants.wait(&wanted, Duration::from_secs(30)).await.unwrap();
    // Spans that wait for their export die with the process: they are exported again.
    rig.orchestrator.kill().await;
    rig.orchestrator.start().await.unwrap();
    let view = rig.ended(run).await;
    assert_eq!((view.state.as_str(), view.trace_id.as_str()), ("compensated", TRACE));
    let end = "saga order-fulfilment end";
    until("the last span", async || by_name(&collector.spans()).contains_key(end).then_some(())).await;
    let spans = collector.spans();
    let names = by_name(&spans);
    let expected = BTreeSet::from([
        "saga order-fulfilment",
        "reserve",
        "charge",
        "charge check",
        "ship",
        "saga order-fulfilment settles",
        "charge undo",
        "reserve undo",
        "order.rejected.v1 send",
        end,
    ]);
    let seen: BTreeSet<&str> = names.keys().map(String::as_str).collect();
    assert_eq!(seen, expected);
    let all: Vec<&Taken> = names.values().flatten().copied().collect();
    let ids: BTreeSet<String> = all.iter().map(|taken| hex(&taken.span.span_id)).collect();
    // A span that was exported before and after the kill is the same one to the last attribute.
    for taken in &all {
        for other in all.iter().filter(|other| other.span.span_id == taken.span.span_id) {
            assert_eq!(other.span, taken.span, "one span in two versions");
        }
    }
    assert_eq!(ids.len(), names.len(), "each once in this run: {seen:?}");
    for taken in &all {
        let parent = hex(&taken.span.parent_span_id);
        assert!(parent == PUBLISHER || ids.contains(&parent), "{} has no parent: {parent}", taken.span.name);
        assert_eq!(taken.attribute("correlation.id"), Some("corr-trace"), "{}", taken.span.name);
        assert_eq!(taken.attribute("saga.run"), Some(run.to_string().as_str()), "{}", taken.span.name);
    }
    assert_eq!(hex(&names["saga order-fulfilment"][0].span.parent_span_id), PUBLISHER);
    // The shell's own `tracing` spans go the same way: a start is a trace of its own.
    let start = spans.iter().rfind(|taken| taken.span.name == "backstitch start").expect("a span of the start");
    assert!(start.span.parent_span_id.is_empty(), "a root");
    for name in ["journal open", "runs resume"] {
        let below = spans.iter().any(|taken| {
            let span = &taken.span;
            span.name == name && (&span.trace_id, &span.parent_span_id) == (&start.span.trace_id, &start.span.span_id)
        });
        assert!(below, "`{name}` hangs from the start");
    }
    // What the services were told is what the collector has.
    let ledger = rig.participants.ledger().await.unwrap();
    for arrival in &ledger.arrivals {
        let parts: Vec<&str> = arrival.traceparent.as_deref().unwrap_or_default().split('-').collect();
        assert_eq!(parts[1], TRACE);
        assert!(ids.contains(parts[2]), "a service hangs on span {} that nobody has sent", parts[2]);
    }
    assert_eq!(names["charge undo"][0].attribute("saga.direction"), Some("compensate"));
    rig.stop().await;
    collector.stop().await;
}
