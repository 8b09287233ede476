//! W3C baggage goes on only where the configuration names it: to services, and with events.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::api_process::{Dev, Workspace};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SAGA: &str = "\
saga: carries
version: 1
services:
  shop: { url: SHOP }
on:
  - event: thing.happened.v1
    key: ${ $event.data.id }
    input: ${ $event.data }
steps:
  - id: tell
    call: shop
    with: { method: POST, path: /told }
    compensate: none
  - id: announce
    emit: thing.announced.v1
    data: { id: \"${ $input.id }\", size: 1 }
";

type Seen = Arc<Mutex<Vec<(Option<String>, String)>>>;

async fn told(State(seen): State<Seen>, headers: HeaderMap) -> StatusCode {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    seen.lock().unwrap().push((text("baggage"), text("traceparent").unwrap_or_default()));
    StatusCode::NO_CONTENT
}

/// Publishes an event with baggage; returns what the service saw of it, and what the event behind it carried.
async fn passed_on(config: &str) -> (Option<String>, Option<String>) {
    let seen: Seen = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/told", axum::routing::post(told)).with_state(Arc::clone(&seen));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future(),
    );
    let workspace = Workspace::new();
    workspace.write("sagas/carries.yaml", &SAGA.replace("SHOP", &url));
    let schema = std::fs::read_to_string(workspace.path().join("schemas/thing.happened/v1.json")).unwrap();
    workspace.write("schemas/thing.announced/v1.json", &schema);
    workspace.write("backstitch.yaml", config);
    let dev = Dev::start(&workspace, &[]);
    let nats = async_nats::connect(dev.announcement["nats_url"].as_str().unwrap()).await.unwrap();
    let mut announced = nats.subscribe("events.thing.announced.v1").await.unwrap();
    nats.flush().await.unwrap();
    let headers = [&format!("traceparent: {PARENT}"), "baggage: tenant=acme;shown=no,card=4711, colour=blue"];
    let target = "/api/v1/events/thing.happened.v1?id=1&source=/test";
    let answer = dev.ask("POST", target, &headers, Some(r#"{"id": "A", "size": 1}"#)).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", String::from_utf8_lossy(&answer.body));
    let event = tokio::time::timeout(crate::api_process::WAIT, announced.next()).await.unwrap().unwrap();
    let carried = event.headers.as_ref().and_then(|headers| headers.get("baggage")).map(ToString::to_string);
    assert!(dev.stop().success());
    stop.cancel();
    serving.await.unwrap().unwrap();
    let seen = seen.lock().unwrap();
    let [(baggage, parent)] = &seen[..] else { panic!("one call: {seen:?}") };
    assert!(parent.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "in the same trace: {parent}");
    (baggage.clone(), carried)
}

#[tokio::test(flavor = "multi_thread")]
async fn baggage_goes_on_only_where_it_is_named() {
    let named = "telemetry: { otlp: off, baggage: \"tenant colour\" }\n";
    let expected = Some("tenant=acme;shown=no,colour=blue".to_owned());
    assert_eq!(passed_on(named).await, (expected.clone(), expected), "to the service, and with the event");
    assert_eq!(passed_on("telemetry: { otlp: off }\n").await, (None, None), "none by default");
}
