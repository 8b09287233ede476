//! Spans reach a collector exactly as they were recorded; a collector that is away, slow or back again
//! costs nobody time.

use std::time::{Duration, Instant};

use backstitch::telemetry::metrics::Metrics;
use backstitch::telemetry::{
    EngineSpan, Format, Protocol, QUEUE_LEN, Settings, SpanKind, SpanStatus, Telemetry, names,
};
use backstitch::trace_context::{SpanId, TraceContext};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as WireKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::connector_peer::{Peer, Play, answer, nobody};
use crate::otlp::{Collector, Manner};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Far beyond what a machine busy with compiling needs.
const LONG: Duration = Duration::from_secs(60);

fn settings(otlp: Option<String>) -> Settings {
    Settings {
        otlp,
        protocol: Protocol::Grpc,
        service: "test".into(),
        sampling: 1.0,
        log: "info".into(),
        log_format: Format::Auto,
    }
}

fn started(endpoint: String) -> Telemetry {
    Telemetry::start(&settings(Some(endpoint))).unwrap()
}

fn span(number: u32) -> EngineSpan<'static> {
    let parent = TraceContext::parse(PARENT, Some("a=1")).unwrap();
    EngineSpan {
        context: parent.with_span(SpanId::derived(&[b"run", &number.to_le_bytes()])),
        parent: Some(parent.span_id),
        parent_is_remote: true,
        name: "reserve".into(),
        kind: SpanKind::Client,
        start_us: 1_700_000_000_000_001,
        end_us: 1_700_000_000_250_002,
        attributes: vec![
            (names::SAGA_STEP, "lines[2]/reserve".into()),
            (names::SAGA_ATTEMPT, 3_u32.into()),
            (names::SAGA_OUTCOME, "unknown".into()),
        ],
        status: SpanStatus::Error("no answer".into()),
        links: vec![TraceContext::parse("00-11111111111111111111111111111111-2222222222222222-01", None).unwrap()],
    }
}

#[tokio::test]
async fn a_span_arrives_as_it_was_recorded() {
    let collector = Collector::start().await;
    let telemetry = started(collector.endpoint());
    let sink = telemetry.spans();
    sink.record(&span(1));
    let mut unsampled = span(2);
    unsampled.context.sampled = false;
    sink.record(&unsampled);
    sink.record(&EngineSpan { end_us: 5, start_us: 9, parent: None, status: SpanStatus::Unset, ..span(3) });
    assert!(telemetry.flush(LONG).await);
    let taken = collector.spans();
    assert_eq!(taken.len(), 2, "the one that is not sampled is not sent");

    let first = &taken[0];
    let resource = |name: &str| first.resource.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(resource("service.name"), Some("test"));
    assert_eq!(resource("service.version"), Some(env!("CARGO_PKG_VERSION")));
    let wire = &first.span;
    let parent = TraceContext::parse(PARENT, None).unwrap();
    assert_eq!(wire.trace_id, parent.trace_id.0);
    assert_eq!(wire.span_id, SpanId::derived(&[b"run", &1_u32.to_le_bytes()]).0);
    assert_eq!(wire.parent_span_id, parent.span_id.0);
    assert_eq!(wire.trace_state, "a=1");
    assert_eq!((wire.name.as_str(), wire.kind()), ("reserve", WireKind::Client));
    assert_eq!(wire.start_time_unix_nano, 1_700_000_000_000_001_000);
    assert_eq!(wire.end_time_unix_nano, 1_700_000_000_250_002_000);
    assert_eq!(first.attribute("saga.step"), Some("lines[2]/reserve"));
    assert_eq!((first.attribute("saga.attempt"), first.attribute("saga.outcome")), (Some("3"), Some("unknown")));
    let status = wire.status.clone().unwrap();
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "no answer"));
    assert_eq!((wire.links.len(), wire.links[0].span_id.clone()), (1, vec![0x22; 8]));

    let second = &taken[1].span;
    assert!(second.parent_span_id.is_empty(), "a root");
    assert_eq!((second.start_time_unix_nano, second.end_time_unix_nano), (9_000, 9_000), "never ends before it begins");
    assert_eq!((sink.counts().exported, sink.counts().dropped), (2, 0));
}

#[tokio::test]
async fn many_spans_all_arrive_once() {
    let collector = Collector::start().await;
    let telemetry = started(collector.endpoint());
    let recording: Vec<_> = (0..8_u32)
        .map(|part| {
            let sink = telemetry.spans();
            std::thread::spawn(move || (0..2_500).for_each(|number| sink.record(&span(part * 2_500 + number))))
        })
        .collect();
    recording.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(telemetry.shutdown(LONG).await);
    let ids: std::collections::BTreeSet<Vec<u8>> =
        collector.spans().into_iter().map(|taken| taken.span.span_id).collect();
    assert_eq!((collector.spans().len(), ids.len()), (20_000, 20_000));
}

#[tokio::test]
async fn spans_leave_without_being_asked_for() {
    let collector = Collector::start().await;
    let telemetry = started(collector.endpoint());
    telemetry.spans().record(&span(1));
    tokio::time::timeout(LONG, collector.wait_for(1)).await.expect("the exporter sends by itself");
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing() {
    let hanging = Collector::at("127.0.0.1:0".parse().unwrap(), Manner::Hang).await;
    let refusing = Collector::at("127.0.0.1:0".parse().unwrap(), Manner::Refuse).await;
    let away = format!("http://{}", nobody().await);
    for (why, endpoint) in [("hangs", hanging.endpoint()), ("refuses", refusing.endpoint()), ("is away", away)] {
        let telemetry = started(endpoint);
        let sink = telemetry.spans();
        let began = Instant::now();
        // More than queue and exporter can hold.
        for number in 0..u32::try_from(QUEUE_LEN + 10_000).unwrap() {
            sink.record(&span(number));
        }
        // One that waited for room would wait for ever.
        assert!(began.elapsed() < LONG, "{why}: recording took {:?}", began.elapsed());
        let counts = sink.counts();
        assert!(counts.dropped > 0 && counts.exported == 0, "{why}: {counts:?}");
        assert!(counts.queue_len as usize <= QUEUE_LEN + 2_048, "{why}: {counts:?}");
        let began = Instant::now();
        assert!(!telemetry.shutdown(Duration::from_millis(300)).await, "{why}: it cannot say that all was sent");
        assert!(began.elapsed() < LONG, "{why}: shutting down is bounded");
        sink.record(&span(0));
    }
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_waited() {
    let address = nobody().await;
    let telemetry = started(format!("http://{address}"));
    telemetry.spans().record(&span(1));
    let first = Collector::at(address, Manner::Refuse).await;
    tokio::time::timeout(LONG, first.asked()).await.expect("tried again");
    first.stop().await;
    let second = Collector::at(address, Manner::Take).await;
    let taken = tokio::time::timeout(LONG, second.wait_for(1)).await.expect("the same span, sent again");
    assert_eq!(taken[0].span.span_id, span(1).context.span_id.0);
}

#[tokio::test]
async fn settings_that_cannot_be_used() {
    assert!(Telemetry::start(&settings(Some("no address".into()))).is_err());
    let off = Telemetry::start(&settings(None)).unwrap();
    off.spans().record(&span(1));
    assert!(!off.spans().is_on() && off.flush(LONG).await && off.shutdown(LONG).await);
}

#[tokio::test]
async fn metrics_arrive_over_otlp() {
    let collector = Collector::start().await;
    let metrics = Metrics::default();
    metrics.runs_started.with(&["order"]).add(3);
    metrics.runs.with(&["order", "parked"]).set(2);
    metrics.consumer_lag.with(&[]).set_ms(1_500);
    metrics.commit_seconds.with(&[]).observe(Duration::from_micros(250));
    metrics.commit_seconds.with(&[]).observe(Duration::from_secs(3_600));
    started(collector.endpoint()).pusher().unwrap().push(&metrics).await.unwrap();
    let taken = collector.metrics();
    let find = |name: &str| taken.iter().find(|metric| metric.name == name).unwrap().data.clone().unwrap();
    let Data::Sum(started) = find("backstitch_runs_started_total") else { panic!("{taken:?}") };
    assert_eq!((started.aggregation_temporality, started.is_monotonic), (2, true), "since the process began");
    let point = &started.data_points[0];
    assert_eq!((point.value, point.attributes[0].key.as_str()), (Some(Value::AsInt(3)), "saga"));
    assert!(point.start_time_unix_nano > 0 && point.time_unix_nano >= point.start_time_unix_nano);
    let Data::Gauge(runs) = find("backstitch_runs") else { panic!("{taken:?}") };
    assert_eq!((runs.data_points[0].value, runs.data_points[0].attributes.len()), (Some(Value::AsInt(2)), 2));
    let Data::Gauge(lag) = find("backstitch_consumer_lag_seconds") else { panic!("{taken:?}") };
    assert_eq!(lag.data_points[0].value, Some(Value::AsDouble(1.5)));
    let Data::Histogram(commits) = find("backstitch_commit_seconds") else { panic!("{taken:?}") };
    let point = &commits.data_points[0];
    assert_eq!((point.count, point.bucket_counts.len(), point.explicit_bounds.len()), (2, 13, 12));
    assert_eq!((point.bucket_counts[0], point.bucket_counts[12], point.explicit_bounds[0]), (1, 1, 0.000_25));
    assert!(point.sum.is_some_and(|sum| (sum - 3_600.000_25).abs() < 1e-6));
    assert_eq!(taken.iter().filter(|metric| metric.name == "backstitch_retries_total").count(), 0, "nothing to say");
}

#[tokio::test]
async fn spans_go_over_http_too() {
    let peer = Peer::start([Play::Say(answer("200 OK", &["Content-Type: application/x-protobuf"], ""))]).await;
    let endpoint = Some(format!("http://{}/", peer.address));
    let telemetry = Telemetry::start(&Settings { protocol: Protocol::Http, ..settings(endpoint) }).unwrap();
    let sink = telemetry.spans();
    sink.record(&span(1));
    assert!(telemetry.shutdown(LONG).await);
    let request = peer.requests().remove(0);
    assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-protobuf\r\n") && request.contains("lines[2]/reserve"));
    assert_eq!(sink.counts().exported, 1);
}
