//! Bad input to the bus: too large, too deep, injected headers, tricks with subjects. Each gets a clear answer,
//! nothing is lost, and nobody else is affected.

use backstitch::cli::client::encode;
use serde_json::{Value, json};

use crate::api_process::{Dev, Workspace};
use crate::dead_letters::{Foreign, letters};
use crate::server::{NatsServer, Setup};

fn problem(answer: &Value) -> String {
    format!("{} {} {}", answer["title"], answer["detail"], answer["errors"])
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_and_harms_nobody() {
    let nats = NatsServer::start_with(Setup { sync_always: true, more: "max_payload: 8MB" });
    let workspace = Workspace::new();
    workspace.write(
        "backstitch.yaml",
        "telemetry: { otlp: off }\nnats: { event_bytes_max: 1048576 }\napi: { body_bytes_max: 4194304 }\n",
    );
    let dev = Dev::start(&workspace, &["--nats", &nats.url(), "--nats-monitor", &nats.monitor_url()]);
    let thing = |id: &str| json!({ "id": id, "size": 1 }).to_string();
    let (large, huge) = ("x".repeat(2 * 1024 * 1024), "x".repeat(5 * 1024 * 1024));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));

    // By its type in the path.
    let rows: &[(&str, &str, String, u16, &str)] = &[
        ("2 MiB, our limit is 1 MiB", "thing.happened.v1", thing(&large), 422, "nats.event_bytes_max is 1048576"),
        ("5 MiB, above what a request may have", "thing.happened.v1", thing(&huge), 413, "at most 4194304 bytes"),
        ("200 levels", "thing.happened.v1", deep.clone(), 400, "nested deeper than 100 levels"),
        ("no JSON", "thing.happened.v1", "{\"id\"".into(), 400, "line 1 column"),
        ("a wildcard", "a.*", thing("1"), 400, "event type `a.*`"),
        ("all of them", ">", thing("1"), 400, "event type `>`"),
        ("the server's own", "$JS.API.STREAM.DELETE.EVENTS", thing("1"), 400, "event type `$JS"),
        ("the server's own, with a version", "$JS.API.STREAM.DELETE.v1", thing("1"), 400, "event type `$JS"),
        ("an empty token", "a..b", thing("1"), 400, "event type `a..b`"),
        ("an empty token, with a version", "a..v1", thing("1"), 400, "event type `a..v1`"),
        ("white space", "a b.v1", thing("1"), 400, "event type `a b.v1`"),
        ("a line break", "a\r\nb.v1", thing("1"), 400, "event type"),
        ("an unknown version", "thing.happened.v9", thing("1"), 422, "no schema for event type"),
    ];
    for (why, event_type, body, status, part) in rows {
        let (got, answer) = dev.json("POST", &format!("/api/v1/events/{}", encode(event_type)), Some(body)).await;
        assert!(got == *status && problem(&answer).contains(part), "{why}: {got} {}", problem(&answer));
    }

    // As CloudEvents, and in the query and headers.
    let event = |name: &str, value: &str| {
        let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "thing.happened.v1",
            "data": { "id": "1", "size": 1 } });
        event[name] = value.into();
        event.to_string()
    };
    let injected = "a\r\nNats-Rollup: all";
    for (why, body) in [
        ("a type", event("type", "$JS.API.STREAM.DELETE.EVENTS")),
        ("a subject", event("subject", injected)),
        ("an id", event("id", injected)),
        ("a key", event("partitionkey", injected)),
        ("an extension", event("tenant", injected)),
    ] {
        let answer =
            dev.ask("POST", "/api/v1/events", &["content-type: application/cloudevents+json"], Some(&body)).await;
        assert_eq!(answer.status.as_u16(), 400, "{why}: {}", String::from_utf8_lossy(&answer.body));
    }
    let headers = |subject: &'static str| {
        [
            "content-type: application/json",
            "ce-specversion: 1.0",
            "ce-id: 1",
            "ce-source: /s",
            "ce-type: thing.happened.v1",
            subject,
        ]
    };
    let answer =
        dev.ask("POST", "/api/v1/events", &headers("ce-subject: a%0D%0ANats-Rollup: all"), Some(&thing("1"))).await;
    assert_eq!(answer.status.as_u16(), 400, "an encoded line break");
    let (got, _) = dev.json("POST", "/api/v1/events/thing.happened.v1?key=a%0D%0Ab", Some(&thing("1"))).await;
    assert_eq!(got, 400);

    // By anybody's NATS client: it is stored, and put aside.
    let foreign = Foreign::of(&dev).await;
    foreign.thing("large", None, &thing(&large)).await;
    foreign.thing("deep", None, &deep).await;
    foreign.thing("a%0D%0ANats-Rollup:%20all", None, &thing("1")).await;
    let mut found: Vec<(String, String)> =
        letters(&dev, 3).await.into_iter().map(|letter| (letter.reason, letter.detail)).collect();
    found.sort();
    let expected =
        [("invalid_event", "control character"), ("invalid_event", "nested deeper"), ("too_large", "1048576")];
    for ((reason, detail), (expected, part)) in found.iter().zip(expected) {
        assert!(reason == expected && detail.contains(part), "{reason}: {detail}");
    }

    // Everything is as it was, and others are served.
    let (status, accepted) = dev.json("POST", "/api/v1/events/thing.happened.v1?id=good", Some(&thing("good"))).await;
    // Behind the three of others, and the notices about them.
    assert!(status == 202 && accepted["sequence"].as_u64() >= Some(4), "{accepted}");
    let found = dev.json("GET", "/api/v1/events?type=thing.happened.v1", None).await.1;
    assert_eq!(found["events"].as_array().unwrap().len(), 1, "{found}");
    println!("bad input: {} requests and 4 messages answered or put aside; the next event is number 4", rows.len() + 7);
}
