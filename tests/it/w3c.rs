//! The requests of the W3C's trace context harness, sent to the real binary as they were recorded: what
//! must come out of it at the services that a run calls. `tests/vectors/w3c` says where they are from.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connector_peer::{Peer, Play, answer};
use crate::rig::{Rig, alone};

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";
const WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct File {
    requests: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    test: String,
    headers: Vec<(String, String)>,
    outgoing_calls: usize,
}

/// What must come out.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    /// The trace goes on; else another begins.
    goes_on: bool,
    /// None: it is left out.
    tracestate: Option<String>,
}

/// The harness's assertions, by test; where one of its requests differs from the others, by its headers.
fn expected(request: &Recorded) -> Expected {
    let test = request.test.rsplit('.').next().unwrap();
    let value = |wanted: &str| {
        let named = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
        let values: Vec<&str> = request.headers.iter().filter(named).map(|(_, value)| value.trim()).collect();
        values.into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>().join(",")
    };
    let goes_on = match test {
        "test_traceparent_header_name_valid_casing"
        | "test_traceparent_included_tracestate_missing"
        | "test_traceparent_ows_handling"
        | "test_multiple_requests_with_valid_traceparent"
        | "test_propagates_random_flag" => true,
        // A later version may have more behind a dash, and behind a dash only.
        "test_traceparent_version_0xcc" => !value("traceparent").contains("01."),
        "test_tracestate_included_traceparent_missing" => false,
        test => test.starts_with("test_tracestate_"),
    };
    let tracestate = match test {
        "test_tracestate_duplicated_keys"
        | "test_tracestate_header_name"
        | "test_tracestate_included_traceparent_missing"
        | "test_tracestate_key_illegal_characters"
        | "test_tracestate_value_illegal_characters" => None,
        "test_tracestate_ows_handling" => Some("foo=1,bar=2,baz=3".to_owned()),
        _ => Some(value("tracestate")).filter(|state| !state.is_empty()),
    };
    Expected { goes_on, tracestate }
}

/// Starts a run with these headers, byte for byte, and waits for its end.
async fn start(api: &str, saga: &str, headers: &[(String, String)]) {
    let mut head = format!("POST /api/v1/sagas/{saga}/runs?wait=30s HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n");
    head += "content-type: application/json\r\ncontent-length: 2\r\n";
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(api).await.unwrap();
    stream.write_all(format!("{head}\r\n{{}}").as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(WAIT, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 201 ") && text.contains("\"state\":\"completed\""), "{headers:?}: {text}");
}

fn header<'a>(request: &'a str, wanted: &str) -> Vec<&'a str> {
    let lines = request.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).collect()
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_the_w3c_harness() {
    let _alone = alone().await;
    let file: File = serde_json::from_str(include_str!("../vectors/w3c/trace-context-requests.json")).unwrap();
    let peer = Peer::start([Play::Say(answer("200 OK", &["Content-Type: application/json"], "{}"))]).await;
    let mut rig = Rig::prepare("w3c", &[], "data", "telemetry: { otlp: \"off\" }\n").await;
    let config = rig.workspace.path().join("backstitch.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let with_peer = format!("services:\n  peer: {{ url: \"http://{}\", timeout: 5s }}\n", peer.address);
    std::fs::write(&config, text.replacen("services:\n", &with_peer, 1)).unwrap();
    for calls in [1, 3] {
        let step =
            |n: usize| format!("  - {{ id: s{n}, call: peer, with: {{ method: GET, path: /x }}, compensate: none }}\n");
        let steps: String = (0..calls).map(step).collect();
        let saga = format!("saga: calls-{calls}\nversion: 1\nsteps:\n{steps}");
        std::fs::write(rig.workspace.path().join(format!("sagas/calls-{calls}.yaml")), saga).unwrap();
    }
    rig.orchestrator.start().await.unwrap();
    let api = rig.orchestrator.client.url().trim_start_matches("http://").to_owned();

    let mut tests = BTreeSet::new();
    let mut parents = BTreeSet::new();
    for request in &file.requests {
        let why = format!("{} {:?}", request.test, request.headers);
        let before = peer.requests().len();
        start(&api, &format!("calls-{}", request.outgoing_calls), &request.headers).await;
        let calls = peer.requests().split_off(before);
        assert_eq!(calls.len(), request.outgoing_calls, "{why}");
        let mut traces = BTreeSet::new();
        for call in &calls {
            let traceparent = header(call, "traceparent");
            let parts: Vec<&str> = traceparent[0].split('-').collect();
            let whole = parts.len() == 4 && is_hex(parts[1], 32) && is_hex(parts[2], 16) && is_hex(parts[3], 2);
            assert!(whole && traceparent.len() == 1 && parts[0] == "00", "{why}: {traceparent:?}");
            assert!(parts[2] != PARENT && parents.insert(parts[2].to_owned()), "{why}: a parent id of its own");
            traces.insert(parts[1].to_owned());
            let states = header(call, "tracestate");
            let seen = Expected { goes_on: parts[1] == TRACE, tracestate: states.first().map(|&text| text.to_owned()) };
            assert_eq!(seen, expected(request), "{why}");
            if request.test.ends_with("test_propagates_random_flag") {
                assert_eq!(parts[3], "02", "{why}");
            }
        }
        assert_eq!(traces.len(), 1, "{why}: one run, one trace");
        tests.insert(request.test.as_str());
    }
    assert_eq!((file.requests.len(), tests.len()), (65, 41));
    rig.stop().await;
}
