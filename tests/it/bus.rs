//! The bus against a real nats-server: what is published arrives as it was, until it is acknowledged, whatever
//! happens to the server in between.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream;
use backstitch::bus::{Backlog, Bus, DeadLetter, Delivery, Durability, Error, JetStreamBus, Limits, Options, wire};
use backstitch::envelope::Event;
use backstitch::payload::Payload;
use backstitch::trace_context::TraceContext;
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::api_process::{Dev, Workspace};
use crate::protocols::TLS;
use crate::server::{NatsServer, Setup};

/// Far above what any of this takes, far below a hanging test run.
const SOON: Duration = Duration::from_secs(60);

fn options(server: &NatsServer) -> Options {
    Options { monitor_urls: vec![server.monitor_url()], ..Options::new(server.url()) }
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/shop".to_owned(),
        event_type: "order.placed.v2".parse().unwrap(),
        time: None,
        subject: None,
        dataschema: None,
        correlation_id: None,
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: Default::default(),
        data: Payload::parse(format!(r#"{{"orderId":"{id}"}}"#)).unwrap(),
    }
}

fn events(ids: std::ops::Range<u32>) -> Vec<Event> {
    ids.map(|id| event(&id.to_string())).collect()
}

/// Waits for a status with this text in its message.
async fn status(bus: &JetStreamBus, ready: bool, part: &str) -> String {
    let mut watch = bus.status();
    let wanted = timeout(SOON, watch.wait_for(|status| status.ready == ready && status.message.contains(part))).await;
    match wanted {
        Ok(found) => found.unwrap().message.clone(),
        Err(_) => panic!("no status `{part}`; it is {:?}", bus.status().borrow().clone()),
    }
}

async fn publish(bus: &JetStreamBus, events: Vec<Event>) -> Vec<u64> {
    let results = timeout(SOON, bus.publish(events)).await.unwrap();
    results.into_iter().map(|result| result.unwrap().sequence).collect()
}

/// Publishes as an outbox does: again until it is taken.
async fn publish_until_taken(bus: &JetStreamBus, events: &[Event]) -> Vec<u64> {
    let taken = async {
        loop {
            let results: Result<Vec<_>, Error> = bus.publish(events.to_vec()).await.into_iter().collect();
            match results {
                Ok(published) => return published.into_iter().map(|published| published.sequence).collect(),
                Err(Error::Unavailable(_)) => {}
                Err(Error::Refused(why)) => panic!("{why}"),
            }
        }
    };
    timeout(SOON, taken).await.unwrap()
}

async fn next(bus: &JetStreamBus) -> Delivery {
    timeout(SOON, bus.next(1)).await.expect("nothing was delivered").pop().unwrap()
}

/// Takes and acknowledges until each id was seen; returns the ids in order of first arrival.
async fn drain(bus: &JetStreamBus, count: usize) -> Vec<String> {
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    while seen.len() < count {
        for delivery in timeout(SOON, bus.next(64)).await.unwrap_or_else(|_| panic!("{} of {count}", seen.len())) {
            let id = delivery.event.unwrap().id;
            delivery.ack.ack().await;
            if seen.insert(id.clone()) {
                order.push(id);
            }
        }
    }
    order
}

#[tokio::test]
async fn what_waits_is_told() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec!["order.placed.v2".parse().unwrap()]);
    status(&bus, true, "").await;
    publish(&bus, events(0..3_000)).await;
    let told = async |holds: fn(Backlog) -> bool| {
        timeout(SOON, async {
            while !holds(bus.backlog()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            bus.backlog()
        })
        .await
        .unwrap_or_else(|_| panic!("it says {:?}", bus.backlog()))
    };
    // Some are fetched ahead; the others wait in the stream.
    let waiting = told(|backlog| backlog.pending > 0).await;
    assert!(waiting.ack_pending > 0, "{waiting:?}");
    assert_eq!(waiting.pending + waiting.ack_pending, 3_000);
    drain(&bus, 3_000).await;
    told(|backlog| backlog == Backlog::default()).await;
}

async fn client(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

#[tokio::test]
async fn an_event_arrives_as_it_was_sent() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec!["order.placed.v2".parse().unwrap()]);
    let message = status(&bus, true, "synced before it is acknowledged").await;
    assert!(message.contains("nats-server 2."), "{message}");
    let sent = Event {
        id: "№ 1 \"ü\" 100%".to_owned(),
        source: "/shop/€".to_owned(),
        time: Some("2026-01-31T12:00:00.123456789+01:00".to_owned()),
        subject: Some("a: Nats-Rollup: \"all\"".to_owned()),
        correlation_id: Some("c 1".to_owned()),
        causation_id: Some("d".to_owned()),
        partition_key: Some("日本".to_owned()),
        trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=1")),
        extensions: [("tenant".to_owned(), "x y".to_owned())].into(),
        data: Payload::parse("{\"b\": 1.50,\t\"a\": 12345678901234567890}").unwrap(),
        ..event("1")
    };
    let published = bus.publish(vec![sent.clone()]).await.pop().unwrap().unwrap();
    assert_eq!((&*published.stream, published.sequence, published.duplicate), ("EVENTS", 1, false));

    let delivery = next(&bus).await;
    assert_eq!(delivery.raw.payload, sent.data.text().as_bytes());
    assert_eq!(delivery.event.as_ref().unwrap(), &sent);
    assert_eq!((&*delivery.stream, &*delivery.consumer), ("EVENTS", "backstitch"));
    assert_eq!((delivery.sequence, delivery.delivered), (1, 1));
    let mut stream = client(&server).await.get_stream("EVENTS").await.unwrap();
    let created = stream.cached_info().created.unix_timestamp_nanos();
    assert_eq!(i128::from(delivery.stream_created), created);
    assert!(i128::from(delivery.published_at.0) >= created / 1_000_000);
    delivery.ack.ack().await;

    // The server knows the id again, on its own and in a batch.
    let again = bus.publish(vec![sent.clone()]).await.pop().unwrap().unwrap();
    assert_eq!((again.sequence, again.duplicate), (1, true));
    let again: Vec<_> =
        bus.publish(vec![event("2"), sent, event("3")]).await.into_iter().map(|result| result.unwrap()).collect();
    let duplicates: Vec<(u64, bool)> =
        again.iter().map(|published| (published.sequence, published.duplicate)).collect();
    assert_eq!(duplicates, [(2, false), (1, true), (3, false)]);
    assert_eq!(stream.info().await.unwrap().state.messages, 3);
    assert_eq!(drain(&bus, 2).await, ["2", "3"]);
    bus.close().await;
}

#[tokio::test]
async fn events_of_other_clients_are_read() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let client = client(&server).await.client();
    let json = event("s").to_cloud_event().text().to_owned();
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], Result<&'a str, &'a str>);
    let rows: &[Row<'_>] = &[
        (
            "binary, names in any case, percent-encoded",
            &[
                ("Ce-Specversion", "1.0"),
                ("CE-ID", "%e2%82%ac%201"),
                ("ce-source", "/py"),
                ("ce-type", "order.placed.v2"),
            ],
            b"{\"orderId\": \"\xc3\xbc\"}",
            Ok("€ 1"),
        ),
        ("structured", &[("Content-Type", "Application/CloudEvents+JSON; charset=utf-8")], json.as_bytes(), Ok("s")),
        ("no event at all", &[], b"hello", Err("`specversion` is missing")),
        ("no headers' block, no data", &[("X-Nothing", "1")], b"", Err("`id` is missing")),
    ];
    for (_, headers, payload, _) in rows {
        let mut map = async_nats::HeaderMap::new();
        for (name, value) in *headers {
            map.insert(*name, *value);
        }
        let payload = bytes::Bytes::copy_from_slice(payload);
        client.publish_with_headers("events.order.placed.v2", map, payload).await.unwrap();
    }
    for (why, _, payload, expected) in rows {
        let delivery = next(&bus).await;
        assert_eq!(delivery.raw.payload.as_ref(), *payload, "{why}");
        match (&delivery.event, expected) {
            (Ok(event), Ok(id)) => assert_eq!(event.id, *id, "{why}"),
            (Err(found), Err(part)) => assert!(found.detail.contains(part), "{why}: {found:?}"),
            (got, _) => panic!("{why}: {got:?}"),
        }
        delivery.ack.ack().await;
    }
}

#[tokio::test]
async fn a_message_comes_until_it_is_acknowledged() {
    let server = NatsServer::start();
    let ack_wait = Duration::from_millis(300);
    let bus = JetStreamBus::start(Options { ack_wait, ..options(&server) });
    bus.subscribe(vec!["order.placed.v2".parse().unwrap()]);
    status(&bus, true, "").await;
    publish(&bus, events(1..3)).await;

    let held = next(&bus).await; // in hand all along: does not come again
    for delivered in 1..4 {
        let dropped = next(&bus).await;
        assert_eq!((dropped.sequence, dropped.delivered), (2, delivered));
    }
    let later = next(&bus).await;
    later.ack.later(Duration::from_millis(10)).await;
    let last = next(&bus).await;
    assert_eq!((last.sequence, last.delivered), (2, 5));
    last.ack.ack().await;
    held.ack.ack().await;
    let mut consumer: jetstream::consumer::PullConsumer =
        client(&server).await.get_stream("EVENTS").await.unwrap().get_consumer("backstitch").await.unwrap();
    // Four waits are over without a redelivery, and the server has nothing outstanding.
    assert!(timeout(4 * ack_wait, bus.next(1)).await.is_err());
    let info = consumer.info().await.unwrap();
    assert_eq!((info.num_ack_pending, info.num_pending, info.ack_floor.stream_sequence), (0, 0, 2));
}

#[tokio::test]
async fn what_is_no_event_is_put_aside_as_it_was() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let context = client(&server).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", "theirs");
    headers.insert("ce-id", "%E2%82");
    let payload = bytes::Bytes::from_static(b"\x00\xff\r\n");
    context.client().publish_with_headers("events.order.placed", headers, payload.clone()).await.unwrap();
    let delivery = next(&bus).await;
    let letter = DeadLetter {
        raw: delivery.raw,
        reason: "invalid_event".to_owned(),
        detail: delivery.event.unwrap_err().detail,
        consumer: delivery.consumer.to_string(),
        stream: delivery.stream.to_string(),
        sequence: delivery.sequence,
        pointers: vec!["/a".to_owned()],
        attempts: delivery.delivered,
        first_at: delivery.published_at,
        last_at: delivery.published_at,
    };
    let first = bus.dead_letter(letter.clone()).await.unwrap();
    assert_eq!((&*first.stream, first.sequence, first.duplicate), ("DEAD_LETTERS", 1, false));
    assert!(bus.dead_letter(letter).await.unwrap().duplicate, "the same letter twice is one");
    delivery.ack.ack().await;

    let stored = context.get_stream("DEAD_LETTERS").await.unwrap().get_raw_message(1).await.unwrap();
    assert_eq!((stored.subject.as_str(), &stored.payload), ("dead_letters.backstitch", &payload));
    let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
    assert_eq!(header("ce-id"), "%E2%82");
    assert_eq!(header("Backstitch-Original-Nats-Msg-Id"), "theirs");
    assert_eq!(header("Backstitch-Reason"), "invalid_event");
    assert_eq!(header("Backstitch-Sequence"), "1");
    assert_eq!((header("Backstitch-Pointers"), header("Backstitch-Attempts")), ("/a".to_owned(), "1".to_owned()));
    assert!(header("Backstitch-Detail").contains("ce-id"), "{}", header("Backstitch-Detail"));
}

#[tokio::test]
async fn nats_away_at_the_start_and_back() {
    let mut server = NatsServer::start();
    server.kill();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, false, "cannot be reached").await;
    let results = bus.publish(events(1..3)).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::Unavailable(_)))), "{results:?}");
    server.start_again();
    status(&bus, true, "").await;
    publish(&bus, events(1..3)).await;
    assert_eq!(drain(&bus, 2).await, ["1", "2"]);
}

#[tokio::test]
async fn killed_in_the_middle_nothing_is_lost_and_order_is_kept() {
    let mut server = NatsServer::start();
    let bus = std::sync::Arc::new(JetStreamBus::start(options(&server)));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let publisher = tokio::spawn({
        let bus = bus.clone();
        async move {
            for first in (0..1_000).step_by(100) {
                publish_until_taken(&bus, &events(first..first + 100)).await;
            }
        }
    });
    let consumer = tokio::spawn({
        let bus = bus.clone();
        async move { drain(&bus, 1_000).await }
    });
    for _ in 0..3 {
        let killed = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
            server
        });
        server = killed.await.unwrap();
        status(&bus, true, "").await;
    }
    publisher.await.unwrap();
    let order = consumer.await.unwrap();
    assert_eq!(order, (0..1_000).map(|id| id.to_string()).collect::<Vec<_>>());
    let stored = client(&server).await.get_stream("EVENTS").await.unwrap().cached_info().state.messages;
    assert_eq!(stored, 1_000, "each id once");
}

#[tokio::test]
async fn a_deleted_stream_is_made_anew() {
    let mut server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    publish(&bus, events(1..3)).await;
    let before = next(&bus).await;
    let context = client(&server).await;
    context.delete_stream("EVENTS").await.unwrap();
    context.delete_stream("DEAD_LETTERS").await.unwrap();
    // A publish that meets the missing stream has it repaired, and is taken then.
    assert_eq!(publish_until_taken(&bus, &events(3..4)).await, [1]);
    let after = next(&bus).await;
    assert_eq!((after.event.as_ref().unwrap().id.as_str(), after.sequence), ("3", 1));
    assert_ne!(after.stream_created, before.stream_created);
    before.ack.ack().await; // also sequence 1: must not acknowledge what it never saw
    drop(after);
    let mut consumer: jetstream::consumer::PullConsumer =
        context.get_stream("EVENTS").await.unwrap().get_consumer("backstitch").await.unwrap();
    context.client().flush().await.unwrap();
    assert_eq!(consumer.info().await.unwrap().num_ack_pending, 1);

    // The whole store gone, under a running bus.
    server.kill();
    server.wipe();
    server.start_again();
    assert_eq!(publish_until_taken(&bus, &events(4..5)).await, [1]);
    assert_eq!(drain(&bus, 1).await, ["4"]);

    // And a consumer removed behind our back.
    let stream = self::client(&server).await.get_stream("EVENTS").await.unwrap();
    stream.delete_consumer("backstitch").await.unwrap();
    publish_until_taken(&bus, &events(5..6)).await;
    assert!(drain(&bus, 1).await.iter().all(|id| id == "4" || id == "5"));
}

#[tokio::test]
async fn a_frozen_server_is_noticed_and_resumed() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    server.freeze();
    let results = bus.publish(events(1..2)).await;
    assert!(matches!(results[0], Err(Error::Unavailable(_))), "{results:?}");
    status(&bus, false, "").await;
    server.thaw();
    assert_eq!(publish_until_taken(&bus, &events(1..2)).await.len(), 1);
    assert_eq!(drain(&bus, 1).await, ["1"]);
}

#[tokio::test]
async fn a_server_without_proof_is_refused() {
    let lazy = NatsServer::start_with(Setup { sync_always: false, more: "" });
    let synced = NatsServer::start();
    let with = |monitor: &[String], durability| Options {
        monitor_urls: monitor.to_vec(),
        durability,
        ..Options::new(lazy.url())
    };
    let rows = [
        ("no address", with(&[], Durability::Strict), false, "nats.monitor_url is not set"),
        ("syncs late", with(&[lazy.monitor_url()], Durability::Strict), false, "sync_interval: always"),
        ("another server's", with(&[synced.monitor_url()], Durability::Strict), false, "another server"),
        ("nobody there", with(&["http://127.0.0.1:1".to_owned()], Durability::Strict), false, "cannot be asked"),
        ("trusted", with(&[], Durability::TrustServer), true, "may be lost at a power cut"),
    ];
    for (why, options, ready, part) in rows {
        let bus = JetStreamBus::start(options);
        let message = status(&bus, ready, part).await;
        if !ready {
            assert!(message.contains("nats.durability is strict"), "{why}: {message}");
        }
        if why == "syncs late" {
            let results = bus.publish(events(1..2)).await;
            assert!(matches!(&results[0], Err(Error::Unavailable(why)) if why.contains("strict")), "{results:?}");
        }
    }
}

#[tokio::test]
async fn streams_that_cannot_serve_are_refused_and_others_updated() {
    let server = NatsServer::start_with(Setup { sync_always: true, more: "max_payload: 262144\n" });
    let context = client(&server).await;
    let bus = JetStreamBus::start(options(&server));
    status(&bus, false, "raise `max_payload`").await;
    let options = Options { event_bytes_max: 65_536, ..options(&server) };

    let config = |subjects: &str| jetstream::stream::Config {
        name: "EVENTS".to_owned(),
        subjects: vec![subjects.to_owned()],
        retention: jetstream::stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    context.create_stream(config("events.>")).await.unwrap();
    let bus = JetStreamBus::start(options.clone());
    status(&bus, false, "its retention is not `limits`").await;
    context.delete_stream("EVENTS").await.unwrap();
    context
        .create_stream(jetstream::stream::Config { name: "OTHER".to_owned(), ..config("events.order.>") })
        .await
        .unwrap();
    status(&bus, false, "subjects overlap").await;
    context.delete_stream("OTHER").await.unwrap();
    let described = jetstream::stream::Config {
        description: Some("theirs".to_owned()),
        retention: jetstream::stream::RetentionPolicy::Limits,
        ..config("old.>")
    };
    context.create_stream(described).await.unwrap();
    status(&bus, true, "").await;
    let found = context.get_stream("EVENTS").await.unwrap().cached_info().config.clone();
    assert_eq!(found.subjects, ["events.>"]);
    assert_eq!(found.discard, jetstream::stream::DiscardPolicy::New);
    assert_eq!(found.description.as_deref(), Some("theirs"), "what an operator added stays");

    let large = Event { data: Payload::of(&"x".repeat(70_000)), ..event("large") };
    let results = bus.publish(vec![event("1"), large, event("2")]).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert!(results[1..].iter().all(|result| matches!(result, Err(Error::Refused(_)))), "{results:?}");
    assert_eq!(wire::decode(&wire::encode(&event("1"))).unwrap(), event("1"));
}

#[tokio::test]
async fn many_events_go_in_batches() {
    const COUNT: u32 = 2_048;
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let began = std::time::Instant::now();
    let sequences = publish(&bus, events(0..COUNT)).await;
    let published = began.elapsed();
    assert_eq!(sequences, (1..=u64::from(COUNT)).collect::<Vec<_>>());
    let began = std::time::Instant::now();
    let order = drain(&bus, COUNT as usize).await;
    let consumed = began.elapsed();
    assert_eq!(order, (0..COUNT).map(|id| id.to_string()).collect::<Vec<_>>());
    let last =
        client(&server).await.get_stream("EVENTS").await.unwrap().get_raw_message(u64::from(COUNT)).await.unwrap();
    assert!(
        last.headers.get("Nats-Batch-Id").is_some(),
        "the batch was refused and its events were sent one at a time"
    );

    // Publishers of one event each share batches: 512 at a time, the answers theirs.
    let began = std::time::Instant::now();
    let mut alone: Vec<(String, u64)> = futures_util::stream::iter(COUNT..2 * COUNT)
        .map(|id| {
            let published = bus.publish(vec![event(&id.to_string())]);
            async move { (id.to_string(), published.await.pop().unwrap().unwrap().sequence) }
        })
        .buffer_unordered(512)
        .collect()
        .await;
    let singly = began.elapsed();
    let mut stored = Vec::new();
    while stored.len() < COUNT as usize {
        for delivery in timeout(SOON, bus.next(256)).await.unwrap() {
            stored.push((delivery.event.unwrap().id, delivery.sequence));
            delivery.ack.ack().await;
        }
    }
    alone.sort_unstable();
    stored.sort_unstable();
    assert_eq!(alone, stored);
    let rate = |time: Duration| f64::from(COUNT) / time.as_secs_f64();
    println!(
        "each write synced: {:.0} published/s by one, {:.0}/s by 512 at a time, {:.0} consumed/s",
        rate(published),
        rate(singly),
        rate(consumed)
    );
}

/// Publishes with bytes as headers that no client library would write.
async fn publish_raw(server: &NatsServer, subject: &str, headers: &[u8], payload: &[u8]) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    let stream = tokio::net::TcpStream::connect(server.url().trim_start_matches("nats://")).await.unwrap();
    let (read, mut write) = stream.into_split();
    let total = headers.len() + payload.len();
    let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
    bytes.extend_from_slice(format!("HPUB {subject} {} {total}\r\n", headers.len()).as_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\nPING\r\n");
    write.write_all(&bytes).await.unwrap();
    let mut lines = tokio::io::BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.starts_with("-ERR"), "{line}");
        if line == "PONG" {
            return;
        }
    }
    panic!("the server closed the connection");
}

/// One of these makes the NATS client's own task panic; what it prints is expected.
#[tokio::test]
async fn headers_that_no_client_can_read_block_nothing() {
    let server = NatsServer::start();
    let bus = JetStreamBus::start(options(&server));
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let rows: &[(&str, &[u8])] = &[
        ("Latin-1", b"NATS/1.0\r\nce-id: \xfc\r\n\r\n"),
        ("no colon", b"NATS/1.0\r\nhello\r\n\r\n"),
        ("a name with a space", b"NATS/1.0\r\nce id: 1\r\n\r\n"),
        ("a lone carriage return", b"NATS/1.0\r\nce-id: a\rb\r\n\r\n"),
        ("a status that ends a pull", b"NATS/1.0 408 Request Timeout\r\n\r\n"),
        ("a status that is none", b"NATS/1.0 abc\r\n\r\n"),
        ("no version", b"ce-id: 1\r\n\r\n"),
    ];
    let mut delivered = 0;
    for (index, (why, headers)) in rows.iter().enumerate() {
        let id = index.to_string();
        publish_raw(&server, "events.order.placed.v2", headers, b"poison").await;
        publish_until_taken(&bus, &[event(&id)]).await;
        'row: loop {
            for delivery in timeout(SOON, bus.next(64)).await.unwrap_or_else(|_| panic!("stuck behind {why}")) {
                let found = delivery.event.as_ref().ok().map(|event| event.id.clone());
                delivered += u64::from(found.is_none());
                delivery.ack.ack().await;
                if found.as_ref() == Some(&id) {
                    break 'row;
                }
            }
        }
    }
    let letters = client(&server).await.get_stream("DEAD_LETTERS").await.unwrap().cached_info().state.messages;
    assert_eq!(delivered + letters, rows.len() as u64, "each is either delivered as no event, or put aside");
    let letter = client(&server).await.get_stream("DEAD_LETTERS").await.unwrap().get_raw_message(1).await.unwrap();
    assert_eq!(letter.payload.as_ref(), b"poison");
    let headers = letter.headers.get("Backstitch-Original-Headers").unwrap().as_str();
    assert_eq!(backstitch::envelope::base64::decode(headers).as_deref(), Some(rows[0].1));
}

#[tokio::test]
async fn a_full_stream_refuses_and_keeps_what_it_has() {
    let server = NatsServer::start();
    let events_limits = Limits { bytes_max: Some(64 * 1_024), age_max: None };
    let bus = JetStreamBus::start(Options { events: events_limits, ..options(&server) });
    bus.subscribe(vec![]);
    status(&bus, true, "").await;
    let large = |id: &str| Event { data: Payload::of(&"x".repeat(20_000)), ..event(id) };
    publish(&bus, vec![large("1"), large("2"), large("3")]).await;
    let result = bus.publish(vec![large("4")]).await.pop().unwrap();
    assert!(matches!(&result, Err(Error::Unavailable(why)) if why.contains("maximum bytes")), "{result:?}");
    assert_eq!(drain(&bus, 3).await, ["1", "2", "3"]);
    client(&server).await.get_stream("EVENTS").await.unwrap().purge().await.unwrap();
    publish(&bus, vec![large("4")]).await;
}

/// A process that is killed with deliveries in hand: the next one has them at once, not after the server's wait.
#[tokio::test]
async fn what_a_dead_process_had_in_hand_comes_at_once() {
    let server = NatsServer::start();
    let ack_wait = Duration::from_secs(3_600);
    let first = JetStreamBus::start(Options { ack_wait, ..options(&server) });
    first.subscribe(vec![]);
    status(&first, true, "").await;
    publish(&first, events(0..300)).await;
    let mut taken = 0;
    while taken < 100 {
        for delivery in timeout(SOON, first.next(1)).await.unwrap() {
            taken += 1;
            if delivery.sequence % 2 == 0 {
                delivery.ack.ack().await;
            } else {
                std::mem::forget(delivery.ack); // no destructor runs at a kill -9
            }
        }
    }
    first.close().await;
    let second = JetStreamBus::start(Options { ack_wait, ..options(&server) });
    second.subscribe(vec![]);
    let mut ids: Vec<u32> = drain(&second, 250).await.iter().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    let expected: Vec<u32> = (0..300).filter(|id| *id >= 100 || id % 2 == 0).collect(); // sequence is id + 1
    assert_eq!(ids, expected);
}

/// Two processes on one consumer is a mistake of configuration; it must at least not double what is in hand.
#[tokio::test]
async fn a_second_reader_does_not_take_what_the_first_has_in_hand() {
    let server = NatsServer::start();
    let first = JetStreamBus::start(options(&server));
    first.subscribe(vec![]);
    status(&first, true, "").await;
    publish(&first, events(1..2)).await;
    let held = next(&first).await;
    let second = JetStreamBus::start(options(&server));
    second.subscribe(vec![]);
    status(&second, true, "").await;
    publish(&first, events(2..3)).await;
    let took = tokio::select! {
        taken = next(&first) => taken,
        taken = next(&second) => taken,
    };
    assert_eq!(took.event.as_ref().unwrap().id, "2", "the first message is still in hand");
    held.ack.ack().await;
}

/// Through the program: TLS with an authority of its own, a user and a password that is a secret; a server that nobody
/// vouches for, or that does not take the password, is told and nothing is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_over_tls_is_signed_in_to() {
    let server = NatsServer::start_with(Setup { sync_always: true, more: TLS });
    let workspace = Workspace::new();
    let url = server.url().replace("nats://", "tls://");
    let ca = concat!(", ca_file: ", env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/ca.pem");
    for (why, password, ca, told) in [
        ("nobody vouches for it", "s3cret", "", Some("UnknownIssuer")),
        ("another password", "wrong", ca, Some("authorization")),
        ("as it should be", "s3cret", ca, None),
    ] {
        workspace.write("secrets/nats", &format!("{password}\n"));
        let monitor = server.monitor_url();
        let nats = format!("{{ monitor_url: \"{monitor}\", user: stock, password: \"${{secret:nats}}\"{ca} }}");
        let config = format!("telemetry: {{ otlp: off }}\nsecrets: {{ directory: secrets }}\nnats: {nats}\n");
        workspace.write("backstitch.yaml", &config);
        let dev = Dev::start(&workspace, &["--nats", &url, "--data", "data"]);
        let status = &dev.announcement["nats"];
        let message = status["message"].as_str().unwrap();
        assert_eq!(status["ready"], told.is_none(), "{why}: {message}");
        assert!(told.is_none_or(|told| message.contains(told)), "{why}: {message}");
        assert!(!dev.log().contains(password), "{why}");
        let event = r#"{"id":"A-1","size":1}"#;
        let (status, answer) = dev.json("POST", "/api/v1/events/thing.happened.v1", Some(event)).await;
        assert_eq!(status, if told.is_none() { 202 } else { 503 }, "{why}: {answer}");
        assert!(dev.stop().success());
    }
}
