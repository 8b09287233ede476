//! The HTTP connector against peers that refuse, hang, break off and lie: what each of it says about the
//! effect, and that a request is sent once.

use std::time::{Duration, Instant};

use backstitch::connector::http::HttpConnector;
use backstitch::connector::{Call, CallHeaders, Connector};
use backstitch::id::ServiceName;
use backstitch::payload::Payload;
use backstitch::request::{Again, Attempt, Direction, Effect, Request};
use backstitch::resilience::CircuitPolicy;
use backstitch::secret::Secret;
use backstitch::service::{Auth, Network, Service, ServiceUrl};
use backstitch::time::Span;
use backstitch::trace_context::TraceContext;

use crate::connector_peer::{Peer, Play, answer, mute, nobody};
use crate::skip::skip;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Longer than any exchange on the loopback, on a busy machine too; short enough to wait for.
const SHORT: Duration = Duration::from_millis(1_000);
const LONG: Duration = Duration::from_secs(60);

pub fn name() -> ServiceName {
    ServiceName::parse("peer").unwrap()
}

fn service(url: &str) -> Service {
    Service::at(ServiceUrl::parse(url).unwrap())
}

fn connector(service: Service) -> HttpConnector {
    HttpConnector::new([(name(), service)]).unwrap()
}

pub fn call(timeout: Duration) -> Call {
    Call {
        request: Request {
            service: name(),
            method: "POST".into(),
            target: "/charges?a=1".into(),
            headers: vec![("x-own".into(), "yes".into())],
            cache: None,
            body: Some(Payload::parse(r#"{"amount":1.10}"#).unwrap()),
        },
        timeout,
        headers: CallHeaders {
            idempotency_key: Some("key-1".into()),
            trace: TraceContext::parse(PARENT, Some("a=1")).unwrap(),
            correlation_id: "order ü".into(),
            run: "run-1".into(),
            step: "lines[2]/reserve".into(),
            direction: Direction::Compensate,
            forward_key: Some("key-0".into()),
        },
    }
}

fn outcome(attempt: &Attempt) -> (Effect, Again) {
    (attempt.effect, attempt.again)
}

const DONE: (Effect, Again) = (Effect::Done, Again::No);
const REFUSED: (Effect, Again) = (Effect::None, Again::No);
const NOT_SENT: (Effect, Again) = (Effect::None, Again::Yes);
const UNKNOWN: (Effect, Again) = (Effect::Maybe, Again::Yes);

/// The beginning of some megabytes of zeros, packed.
const PACKED: [u8; 24] =
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xed, 0xc1, 1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 8, 0];

#[tokio::test]
async fn what_a_peer_does_decides_the_effect() {
    let json = "Content-Type: application/json";
    let say = |status: &str, headers: &[&str], body: &str| Play::Say(answer(status, headers, body));
    let head = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{text}").into_bytes();
    let rows = [
        ("an answer", say("200 OK", &[json], r#"{"id":7}"#), DONE, None),
        ("created without a body", say("201 Created", &[], ""), DONE, None),
        ("no content", Play::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), DONE, None),
        ("text", say("200 OK", &["Content-Type: text/plain"], "ok"), DONE, None),
        ("chunks", Play::Say(head("Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n")), DONE, None),
        ("until the end of the connection", Play::SayAndClose(head("\r\n[1]")), DONE, None),
        (
            "after an early hint",
            Play::Say([b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), answer("200 OK", &[json], "1")].concat()),
            DONE,
            None,
        ),
        ("not JSON", say("200 OK", &[json], "<html>"), UNKNOWN, None),
        ("refused", say("409 Conflict", &[json], "{}"), REFUSED, None),
        ("refused with an unreadable body", say("404 Not Found", &[json], "<html>"), REFUSED, None),
        ("request timeout", say("408 Request Timeout", &[], ""), UNKNOWN, None),
        ("too early", say("425 Too Early", &[], ""), NOT_SENT, None),
        ("too many, seconds", say("429 Too Many Requests", &["Retry-After: 3"], ""), NOT_SENT, Some(3_000)),
        (
            "too many, a date",
            say(
                "429 Too Many Requests",
                &["Date: Sun, 06 Nov 1994 08:49:30 GMT", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"],
                "",
            ),
            NOT_SENT,
            Some(7_000),
        ),
        ("too many, nonsense", say("429 Too Many Requests", &["Retry-After: later"], ""), NOT_SENT, None),
        ("too many, nothing said", say("429 Too Many Requests", &[], ""), NOT_SENT, None),
        ("unavailable until", say("503 Service Unavailable", &["Retry-After: 9"], ""), NOT_SENT, Some(9_000)),
        ("unavailable", say("503 Service Unavailable", &[], ""), UNKNOWN, None),
        ("broken", say("500 Internal Server Error", &[], ""), UNKNOWN, None),
        ("moved", say("302 Found", &["Location: /elsewhere"], ""), UNKNOWN, None),
        ("moved for good", say("308 Permanent Redirect", &["Location: http://127.0.0.1:1/"], ""), UNKNOWN, None),
        ("not modified", say("304 Not Modified", &[], ""), UNKNOWN, None),
        ("reset after reading", Play::SayAndReset(Vec::new()), UNKNOWN, None),
        ("closed after reading", Play::SayAndClose(Vec::new()), UNKNOWN, None),
        ("reset in the status line", Play::SayAndReset(b"HTTP/1.1 20".to_vec()), UNKNOWN, None),
        ("closed in the headers", Play::SayAndClose(head("Content-Le")), UNKNOWN, None),
        ("reset in the body", Play::SayAndReset(head("Content-Length: 9\r\n\r\n{\"a\"")), UNKNOWN, None),
        ("shorter than said", Play::SayAndClose(head("Content-Length: 9\r\n\r\n[]")), UNKNOWN, None),
        ("longer than said", Play::SayAndClose(head("Content-Length: 1\r\n\r\n[]")), UNKNOWN, None),
        ("two lengths", Play::Say(head("Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]")), UNKNOWN, None),
        ("chunks cut off", Play::SayAndClose(head("Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n")), UNKNOWN, None),
        ("chunks of nonsense", Play::Say(head("Transfer-Encoding: chunked\r\n\r\nxyz\r\n")), UNKNOWN, None),
        (
            "refused, cut off",
            Play::SayAndClose(b"HTTP/1.1 409 Conflict\r\nContent-Length: 9\r\n\r\n{}".to_vec()),
            UNKNOWN,
            None,
        ),
        ("not HTTP", Play::Say(b"220 mail.example ESMTP\r\n\r\n".to_vec()), UNKNOWN, None),
        (
            "another protocol",
            Play::Say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec()),
            UNKNOWN,
            None,
        ),
        ("said to be huge", Play::SayAndHang(head("Content-Length: 99999999\r\n\r\n")), UNKNOWN, None),
        ("huge", Play::Drip(head("\r\n"), vec![b' '; 65_536]), UNKNOWN, None),
        ("huge headers", Play::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X-More: 1\r\n".repeat(2_000)), UNKNOWN, None),
        // Nobody asked for it packed, so nobody unpacks it, whatever it would grow to.
        (
            "packed",
            Play::Say([&head("Content-Encoding: gzip\r\nContent-Length: 24\r\n\r\n")[..], &PACKED].concat()),
            UNKNOWN,
            None,
        ),
        ("deep", say("200 OK", &[json], &"[".repeat(100_000)), UNKNOWN, None),
    ];
    let mut wrong = Vec::new();
    for (why, play, expected, after) in rows {
        let peer = Peer::start([play]).await;
        let began = Instant::now();
        let attempt = connector(service(&format!("http://{}", peer.address))).call(call(LONG)).await;
        let seen = (outcome(&attempt), attempt.retry_after.map(|span| span.0), peer.requests().len());
        if seen != (expected, after, 1) {
            wrong.push(format!("{why}: {seen:?}, {:?}", attempt.problem));
        }
        assert_eq!(attempt.problem.is_none(), attempt.effect == Effect::Done, "{why}");
        assert!(began.elapsed() < LONG, "{why}: must not wait for the timeout");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn time_runs_out() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n".to_vec();
    for (why, play) in [
        ("no answer", Play::SayAndHang(Vec::new())),
        ("half a header", Play::SayAndHang(b"HTTP/1.1 200 OK\r\nContent-".to_vec())),
        ("half a body", Play::SayAndHang([&head[..], b"Content-Length: 9\r\n\r\n[1"].concat())),
        ("a header that drips", Play::Drip(head.clone(), b"X-A: 1\r\n".to_vec())),
        ("a body that drips", Play::Drip([&head[..], b"\r\n"].concat(), b" ".to_vec())),
    ] {
        let peer = Peer::start([play]).await;
        let attempt = connector(service(&format!("http://{}", peer.address))).call(call(SHORT)).await;
        assert_eq!(outcome(&attempt), UNKNOWN, "{why}");
        let problem = attempt.problem.unwrap();
        assert_eq!(
            (problem.kind.as_str(), problem.title.as_str()),
            ("timeout", "peer did not answer within 1000 ms"),
            "{why}"
        );
        assert_eq!(peer.requests().len(), 1, "{why}");
    }
}

#[tokio::test]
async fn what_was_not_sent_had_no_effect() {
    let unread = Peer::start([Play::ResetUnread]).await;
    let (silent, held) = mute().await;
    let mut impatient = service(&format!("https://{silent}"));
    impatient.connect_timeout = Span::from_millis(300);
    let rows = [
        ("nobody there", service(&format!("http://{}", nobody().await)), LONG, "refused"),
        ("no such name", service("http://nowhere.invalid"), LONG, "refused"),
        ("TLS that never answers", service(&format!("https://{silent}")), SHORT, "timeout"),
        ("TLS that never answers, connect timeout", impatient, LONG, "refused"),
        ("TLS to one who speaks none", service(&format!("https://{}", unread.address)), LONG, "refused"),
    ];
    for (why, service, timeout, kind) in rows {
        let attempt = connector(service).call(call(timeout)).await;
        let problem = attempt.problem.clone().unwrap();
        assert_eq!((outcome(&attempt), problem.kind.as_str()), (NOT_SENT, kind), "{why}: {}", problem.title);
        assert!(
            attempt.answer.is_none() && problem.title.starts_with(|c: char| c.is_ascii_lowercase()),
            "{}",
            problem.title
        );
    }
    held.abort();
    let unknown = HttpConnector::default().call(call(LONG)).await;
    assert_eq!(outcome(&unknown), NOT_SENT, "not configured");
    // A reset before anything was read: the request may be on its way, so nothing is promised.
    let attempt = connector(service(&format!("http://{}", unread.address))).call(call(LONG)).await;
    assert_eq!((attempt.effect == Effect::Done, attempt.again), (false, Again::Yes));
    assert_eq!(unread.requests().len(), 0);
}

#[tokio::test]
async fn the_message_is_as_the_contract_says() {
    let peer = Peer::start([Play::Say(answer(
        "200 OK",
        &["Content-Type: application/json", "X-Two: a", "X-Two: b", "Set-Cookie: s=1"],
        r#"{"n":1.10}"#,
    ))])
    .await;
    let mut service = service(&format!("http://{}/base/", peer.address));
    service.auth = Some(Auth::Bearer(Secret::new("t0".into())));
    let connector = connector(service);
    let mut call = call(LONG);
    // What an author must not be able to change, and what may be changed.
    for (name, value) in [
        ("saga-run", "forged"),
        ("traceparent", "forged"),
        ("tracestate", "forged"),
        ("correlation-id", "forged"),
        ("idempotency-key", "forged"),
        ("authorization", "forged"),
        ("saga-forward-key", "forged"),
        ("accept", "application/hal+json"),
    ] {
        call.request.headers.push((name.into(), value.into()));
    }
    let attempt = connector.call(call.clone()).await;
    let answered = attempt.answer.unwrap();
    assert_eq!(answered.body.text(), r#"{"n":1.10}"#, "digits as they came");
    assert_eq!(answered.headers["x-two"], "a, b");
    assert!(!answered.headers.contains_key("set-cookie"));
    let wire = peer.requests().remove(0);
    for line in [
        "POST /base/charges?a=1 HTTP/1.1",
        &format!("host: {}", peer.address),
        "idempotency-key: key-1",
        &format!("traceparent: {PARENT}"),
        "tracestate: a=1",
        "correlation-id: order %C3%BC",
        "saga-run: run-1",
        "saga-step: lines[2]/reserve",
        "saga-direction: compensate",
        "saga-forward-key: key-0",
        "content-type: application/json",
        "accept: application/hal+json",
        "authorization: Bearer t0",
        "x-own: yes",
        "content-length: 15",
    ] {
        assert!(wire.split("\r\n").any(|found| found == line), "`{line}` is not in\n{wire}");
    }
    assert!(wire.ends_with("\r\n\r\n{\"amount\":1.10}"), "{wire}");
    assert!(!wire.contains("forged") && !wire.to_lowercase().contains("accept-encoding"), "{wire}");

    // The key stands elsewhere, and there is no trace state, no forward key, no body.
    call.headers.idempotency_key = None;
    call.headers.forward_key = None;
    call.headers.trace.tracestate = None;
    call.request = Request {
        method: "GET".into(),
        body: None,
        headers: vec![("idempotency-key".into(), "own".into())],
        ..call.request
    };
    connector.call(call).await;
    let wire = peer.requests().remove(1);
    for absent in ["tracestate", "saga-forward-key", "content-type", "content-length"] {
        assert!(!wire.contains(absent), "{absent} is in\n{wire}");
    }
    assert!(wire.contains("idempotency-key: own\r\n"), "{wire}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_sent() {
    let peer = Peer::start([Play::Say(answer("200 OK", &[], ""))]).await;
    let connector = connector(service(&format!("http://{}", peer.address)));
    type Change = fn(&mut Call);
    let rows: [(&str, Change); 8] = [
        ("two lines in a header", |call| call.request.headers.push(("x".into(), "a\r\nX-Evil: 1".into()))),
        ("a header name with a space", |call| call.request.headers.push(("x y".into(), "a".into()))),
        ("a second length", |call| call.request.headers.push(("Content-Length".into(), "0".into()))),
        ("another host", |call| call.request.headers.push(("host".into(), "evil".into()))),
        ("a path that climbs", |call| call.request.target = "/a/../../admin".into()),
        ("a path with a new line", |call| call.request.target = "/a HTTP/1.1\r\nX: 1".into()),
        ("a method with a space", |call| call.request.method = "GET /x".into()),
        ("a tunnel", |call| call.request.method = "CONNECT".into()),
    ];
    for (why, change) in rows {
        let mut call = call(LONG);
        change(&mut call);
        let attempt = connector.call(call).await;
        assert_eq!(outcome(&attempt), REFUSED, "{why}");
        assert!(!attempt.problem.unwrap().title.contains('\n'), "{why}");
    }
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again_and_stale_ones_do_no_harm() {
    let ok = answer("200 OK", &["Content-Type: application/json"], "1");
    let peer = Peer::start([Play::Say(ok.clone())]).await;
    let kept = connector(service(&format!("http://{}", peer.address)));
    for _ in 0..10 {
        assert_eq!(outcome(&kept.call(call(LONG)).await), DONE);
    }
    assert_eq!((peer.requests().len(), peer.connections()), (10, 1), "one connection for all");

    // The peer closes after each answer without saying so: the next call finds a closed connection.
    let peer = Peer::start([Play::SayAndClose(ok.clone())]).await;
    let closing = connector(service(&format!("http://{}", peer.address)));
    for number in 1..=50 {
        let attempt = closing.call(call(LONG)).await;
        assert!(attempt.effect != Effect::None, "{attempt:?}");
        assert_eq!(peer.requests().len(), number, "sent exactly once");
    }

    // The peer resets on the second request of a connection: sent, so in doubt, and not sent again.
    let peer = Peer::start([Play::Say(ok.clone()), Play::SayAndReset(Vec::new()), Play::Say(ok)]).await;
    let reset = connector(service(&format!("http://{}", peer.address)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(outcome(&reset.call(call(LONG)).await));
    }
    assert_eq!((seen, peer.requests().len(), peer.connections()), (vec![DONE, UNKNOWN, DONE], 3, 2));
}

#[tokio::test]
async fn sockets_are_bounded_and_waiting_for_one_costs_no_time() {
    let ok = answer("200 OK", &[], "");
    let peer = Peer::start([Play::SayAndHang(Vec::new()), Play::Say(ok)]).await;
    let mut service = service(&format!("http://{}", peer.address));
    service.sockets_max = 1;
    let connector = connector(service);
    let first = tokio::spawn(connector.call(call(SHORT)));
    while peer.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(connector.call(call(SHORT)));
    while connector.figures()[0].waiting == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((connector.figures()[0].in_flight, peer.requests().len()), (1, 1));
    assert_eq!(outcome(&first.await.unwrap()), UNKNOWN);
    assert_eq!(outcome(&second.await.unwrap()), DONE, "its time began with its turn");
    assert!(connector.figures()[0].waited_ms > 0);

    let peer = Peer::start([Play::Say(answer("200 OK", &[], ""))]).await;
    let mut service = self::service(&format!("http://{}", peer.address));
    service.sockets_max = 4;
    let connector = self::connector(service);
    let calls: Vec<_> = (0..200).map(|_| tokio::spawn(connector.call(call(LONG)))).collect();
    for call in calls {
        assert_eq!(outcome(&call.await.unwrap()), DONE);
    }
    assert!(peer.connections() <= 4, "{}", peer.connections());
    assert_eq!(peer.requests().len(), 200);
}

#[tokio::test]
async fn an_open_circuit_delays_and_then_asks_once() {
    let ok = Play::Say(answer("200 OK", &[], ""));
    let bad = Play::Say(answer("500 Internal Server Error", &[], ""));
    let peer = Peer::start([bad.clone(), bad, ok]).await;
    let mut service = service(&format!("http://{}", peer.address));
    service.circuit = Some(CircuitPolicy { failures: 2, window: Span::from_secs(60), open: Span::from_millis(1_500) });
    let connector = connector(service);
    for _ in 0..2 {
        assert_eq!(outcome(&connector.call(call(LONG)).await), UNKNOWN);
    }
    let began = Instant::now();
    let attempt = connector.call(call(SHORT)).await;
    assert_eq!(outcome(&attempt), DONE, "longer than its timeout, but waiting does not count: {attempt:?}");
    assert!(began.elapsed() >= Duration::from_millis(1_400), "{:?}", began.elapsed());
    assert_eq!(peer.requests().len(), 3, "nothing was sent while it was open");
}

#[tokio::test]
async fn tls_is_checked() {
    let json = Play::Say(answer("200 OK", &["Content-Type: application/json"], "1"));
    let peer = Peer::start_tls([json]).await;
    let port = peer.address.port();
    let ca = Some(include_bytes!("tls/ca.pem").to_vec());
    let rows = [
        ("a certificate we trust", format!("https://127.0.0.1:{port}"), ca.clone(), DONE),
        ("by name", format!("https://localhost:{port}"), ca.clone(), DONE),
        ("a certificate nobody vouches for", format!("https://127.0.0.1:{port}"), None, NOT_SENT),
        ("another's certificate", format!("https://127.0.0.2:{port}"), ca, NOT_SENT),
    ];
    for (why, url, ca, expected) in rows {
        let mut service = service(&url);
        service.ca = ca;
        let before = peer.requests().len();
        let attempt = connector(service).call(call(LONG)).await;
        assert_eq!(outcome(&attempt), expected, "{why}: {:?}", attempt.problem);
        assert_eq!(peer.requests().len() - before, usize::from(expected == DONE), "{why}");
    }
    let mut broken = service("https://127.0.0.1");
    broken.ca = Some(b"no certificate".to_vec());
    assert!(HttpConnector::new([(name(), broken)]).is_err());
}

#[tokio::test]
async fn a_name_must_not_lead_inside() {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let addresses: Vec<_> = match tokio::net::lookup_host((host.as_str(), 80)).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => Vec::new(),
    };
    let private = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        std::net::IpAddr::V6(v6) => v6.is_loopback(),
    };
    if addresses.is_empty() || !addresses.iter().all(|address| private(address.ip())) {
        return skip("a name that leads to a private address", "this machine's own name does not");
    }
    let url = format!("http://{host}:{}", nobody().await.port());
    let attempt = connector(service(&url)).call(call(LONG)).await;
    assert_eq!(outcome(&attempt), NOT_SENT);
    assert!(attempt.problem.unwrap().title.contains("network: private"));
    let mut meant = service(&url);
    meant.network = Network::Private;
    let attempt = connector(meant).call(call(LONG)).await;
    assert!(attempt.problem.unwrap().title.contains("cannot connect"), "tried, and nobody is there");
}
