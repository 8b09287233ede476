//! The services' doors: one listener for each service, which can be closed for a while, and one control
//! address for the ledger, the faults and the counters.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::faults::{Fault, Faults, Rule};
use super::ledger::{Arrival, ArrivalOutcome, Call, Keys, Ledger, Reply, Service};
use crate::request::Direction;

/// Orders are a few hundred bytes; this leaves room for the large payloads of a test.
const BODY_BYTES_MAX: usize = 4 << 20;
/// A port that was given up for a while may be in use for a moment when it is taken again.
const REBIND_WAIT: Duration = Duration::from_millis(20);
/// The longest that `/wait` is held.
const WAIT_MAX: Duration = Duration::from_secs(120);

type Answer = Response<Full<Bytes>>;

/// How all three services behave.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    pub keys: Keys,
    /// Each call takes this long: half before its effect, half after.
    pub delay: Duration,
    /// Answers at once, remembers nothing: for measuring others.
    pub bench: bool,
}

/// What the doors share.
pub struct Shared {
    behaviour: Behaviour,
    started: Instant,
    ledger: Mutex<Ledger>,
    faults: Mutex<Faults>,
    /// Told after every arrival.
    arrived: Notify,
    in_flight: AtomicU64,
    calls: AtomicU64,
    /// True while a service refuses connections, in the order of [`Service::ALL`].
    down: [watch::Sender<bool>; 3],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self {
            behaviour,
            started: Instant::now(),
            ledger: Mutex::new(Ledger::new(behaviour.keys)),
            faults: Mutex::default(),
            arrived: Notify::new(),
            in_flight: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            down: std::array::from_fn(|_| watch::Sender::new(false)),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Counts a request for as long as it lives.
struct InFlight<'a>(&'a AtomicU64);

impl<'a> InFlight<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one service for ever; while it is told to be down its port is closed.
pub async fn serve(shared: Arc<Shared>, service: Service, listener: TcpListener, address: SocketAddr) {
    let mut down = shared.down[service as usize].subscribe();
    let mut listener = Some(listener);
    loop {
        if down.wait_for(|down| !down).await.is_err() {
            return;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => rebind(address).await,
        };
        let connections = CancellationToken::new();
        loop {
            tokio::select! {
                accepted = open.accept() => {
                    if let Ok((stream, _)) = accepted {
                        let answer = { let shared = shared.clone(); move |request| call(shared.clone(), service, request) };
                        tokio::spawn(connection(stream, answer, connections.clone()));
                    }
                }
                _ = down.wait_for(|down| *down) => break,
            }
        }
        connections.cancel();
    }
}

async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(REBIND_WAIT).await,
        }
    }
}

/// Serves the control address for ever.
pub async fn serve_control(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            let answer = move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(control(&shared, request).await) }
            };
            tokio::spawn(connection(stream, answer, CancellationToken::new()));
        }
    }
}

async fn connection<A, F, E>(stream: TcpStream, answer: A, closed: CancellationToken)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Answer, E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    // Without it a small answer may wait 40 ms for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::select! {
        // An error here is the peer's going away, or an answer lost on purpose.
        _ = serving => {}
        () = closed.cancelled() => {}
    }
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is thrown away")]
struct NoAnswer;

async fn call(shared: Arc<Shared>, service: Service, request: Request<Incoming>) -> Result<Answer, NoAnswer> {
    shared.calls.fetch_add(1, Ordering::Relaxed);
    if shared.behaviour.bench {
        return bench_answer(request).await;
    }
    // Ends with the connection: what is counted is a call that somebody waits for.
    let counted = shared.clone();
    let _counted = InFlight::new(&counted.in_flight);
    // A service goes on with what it has begun when its caller goes away.
    let worker = tokio::spawn(async move {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
        Some(work(&shared, &read_call(service, &parts, &body)).await)
    });
    match worker.await {
        Ok(Some(Some((reply, retry_after_s)))) => Ok(answer(&reply, retry_after_s)),
        _ => Err(NoAnswer),
    }
}

async fn bench_answer(request: Request<Incoming>) -> Result<Answer, NoAnswer> {
    let list = request.method() == Method::GET;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|_| NoAnswer)?;
    }
    let text = if list { "[]" } else { r#"{"id":"1"}"# };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Handles one request; none is an answer that never comes.
async fn work(shared: &Shared, call: &Call) -> Option<(Reply, Option<u64>)> {
    let (line, fault) = {
        let mut ledger = lock(&shared.ledger);
        let line = ledger.note(call, shared.now_ms());
        (line, lock(&shared.faults).take(call, ledger.order_of(call)))
    };
    shared.arrived.notify_waiters();
    let half = shared.behaviour.delay / 2;
    if !half.is_zero() {
        tokio::time::sleep(half).await;
    }
    let refusal = match &fault {
        Some(Fault::Refuse { status, problem, title }) => Some(Reply::problem(*status, problem, title)),
        Some(Fault::Unavailable { retry_after_s }) => {
            lock(&shared.ledger).settle(line, ArrivalOutcome::Unavailable);
            return Some((Reply::problem(503, "unavailable", "come back later"), *retry_after_s));
        }
        Some(Fault::Hang) => {
            lock(&shared.ledger).settle(line, ArrivalOutcome::Hung);
            return std::future::pending().await;
        }
        Some(Fault::LoseReply | Fault::Hold { .. }) | None => None,
    };
    let reply = {
        let mut ledger = lock(&shared.ledger);
        let (reply, outcome) = ledger.apply(call, refusal);
        let lost = fault == Some(Fault::LoseReply);
        ledger.settle(line, if lost { ArrivalOutcome::ReplyLost } else { outcome });
        reply
    };
    match fault {
        Some(Fault::LoseReply) => return None,
        Some(Fault::Hold { ms }) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Some(Fault::Refuse { .. } | Fault::Unavailable { .. } | Fault::Hang) | None => {}
    }
    if !half.is_zero() {
        tokio::time::sleep(half).await;
    }
    Some((reply, None))
}

fn read_call(service: Service, parts: &http::request::Parts, body: &Bytes) -> Call {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = parts.uri.path();
    let direction = match header("saga-direction").as_deref() {
        Some("forward") => Direction::Forward,
        Some("compensate") => Direction::Compensate,
        Some("check") => Direction::Check,
        // Called by hand: the method and the path say it.
        _ if parts.method == Method::GET => Direction::Check,
        _ if parts.method == Method::DELETE || path.starts_with("/refunds") => Direction::Compensate,
        _ => Direction::Forward,
    };
    let key = header("idempotency-key");
    Call {
        service,
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(|| path.to_owned(), ToString::to_string),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        run: header("saga-run").or_else(|| key.clone()).unwrap_or_else(|| "by-hand".to_owned()),
        step: header("saga-step").unwrap_or_else(|| path.trim_start_matches('/').to_owned()),
        key,
        direction,
        forward_key: header("saga-forward-key"),
        correlation_id: header("correlation-id"),
        traceparent: header("traceparent"),
    }
}

fn answer(reply: &Reply, retry_after_s: Option<u64>) -> Answer {
    let problem = reply.status >= 400;
    let mut builder = Response::builder()
        .status(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header("content-type", if problem { "application/problem+json" } else { "application/json" });
    if let Some(seconds) = retry_after_s {
        builder = builder.header("retry-after", seconds);
    }
    builder.body(Full::new(Bytes::from(reply.body.clone()))).unwrap_or_default()
}

#[derive(serde::Deserialize)]
struct DownRequest {
    service: Service,
    /// None: until told `/up`.
    ms: Option<u64>,
}

#[derive(serde::Deserialize)]
struct UpRequest {
    service: Service,
}

/// Which arrival to wait for.
#[derive(serde::Deserialize)]
struct WaitRequest {
    run: Option<String>,
    order: Option<String>,
    step: Option<String>,
    direction: Option<Direction>,
    count: usize,
    timeout_ms: u64,
}

impl WaitRequest {
    fn fits(&self, arrival: &Arrival) -> bool {
        self.run.as_deref().is_none_or(|run| run == arrival.run)
            && self.order.as_deref().is_none_or(|order| arrival.order.as_deref() == Some(order))
            && self.step.as_deref().is_none_or(|step| step == arrival.step)
            && self.direction.is_none_or(|direction| direction == arrival.direction)
    }
}

async fn control(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await.map(|body| body.to_bytes()) else {
        return answer(&Reply::problem(400, "unreadable", "the body cannot be read"), None);
    };
    let reply = match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/ledger") => {
            let report = lock(&shared.ledger).report();
            Reply::json(200, &serde_json::to_value(report).unwrap_or_default())
        }
        ("GET", "/ledger/summary") => {
            let summary = lock(&shared.ledger).summary();
            Reply::json(200, &serde_json::to_value(summary).unwrap_or_default())
        }
        ("GET", "/counters") => Reply::json(
            200,
            &json!({"calls": shared.calls.load(Ordering::Relaxed), "in_flight": shared.in_flight.load(Ordering::Relaxed)}),
        ),
        ("POST", "/faults") => with_body(&body, |rule: Rule| {
            if lock(&shared.faults).add(rule) {
                Reply { status: 204, body: String::new() }
            } else {
                Reply::problem(429, "too_many", "there are too many rules; DELETE /faults first")
            }
        }),
        ("DELETE", "/faults") => {
            lock(&shared.faults).clear();
            Reply { status: 204, body: String::new() }
        }
        ("POST", "/down") => with_body(&body, |down: DownRequest| {
            shared.down[down.service as usize].send_replace(true);
            if let Some(ms) = down.ms {
                let shared = shared.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    shared.down[down.service as usize].send_replace(false);
                });
            }
            Reply { status: 204, body: String::new() }
        }),
        ("POST", "/up") => with_body(&body, |up: UpRequest| {
            shared.down[up.service as usize].send_replace(false);
            Reply { status: 204, body: String::new() }
        }),
        ("POST", "/wait") => match serde_json::from_slice::<WaitRequest>(&body) {
            Ok(wanted) => wait(shared, &wanted).await,
            Err(error) => Reply::problem(400, "unreadable", &error.to_string()),
        },
        _ => Reply::problem(404, "not_found", "GET /ledger /counters, POST /faults /down /up /wait, DELETE /faults"),
    };
    answer(&reply, None)
}

fn with_body<T: DeserializeOwned>(body: &Bytes, act: impl FnOnce(T) -> Reply) -> Reply {
    match serde_json::from_slice(body) {
        Ok(value) => act(value),
        Err(error) => Reply::problem(400, "unreadable", &error.to_string()),
    }
}

/// Answers 200 when so many arrivals fit, 408 when the time is over.
async fn wait(shared: &Shared, wanted: &WaitRequest) -> Reply {
    let limit = Duration::from_millis(wanted.timeout_ms).min(WAIT_MAX);
    let enough = async {
        loop {
            let next = shared.arrived.notified();
            tokio::pin!(next);
            next.as_mut().enable(); // before looking, so that no arrival falls between
            let count = lock(&shared.ledger).count(|arrival| wanted.fits(arrival));
            if count >= wanted.count {
                return count;
            }
            next.await;
        }
    };
    match tokio::time::timeout(limit, enough).await {
        Ok(count) => Reply::json(200, &json!({"count": count})),
        Err(_) => Reply::problem(408, "timeout", "not so many such arrivals in this time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::{Answer, Client, ClientError};

    /// Starts payments and the control address in this process.
    async fn start() -> (Client, Client) {
        let behaviour = Behaviour { keys: Keys::Honoured, delay: Duration::ZERO, bench: false };
        let shared = Shared::new(behaviour);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let payments = listener.local_addr().unwrap();
        tokio::spawn(serve(shared.clone(), Service::Payments, listener, payments));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = listener.local_addr().unwrap();
        tokio::spawn(serve_control(shared, listener));
        let client = |address: SocketAddr| Client::new(&format!("http://{address}"), None).unwrap();
        (client(payments), client(control))
    }

    async fn post(client: &Client, target: &str, body: Value) -> Result<Answer, ClientError> {
        let body = Bytes::from(body.to_string());
        client.request(Method::POST, target, &[], Some(body), Duration::from_secs(30)).await
    }

    async fn charge(client: &Client, order: &str) -> Result<Answer, ClientError> {
        let header = |name: &'static str, value: &str| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        };
        let headers = [header("idempotency-key", order), header("saga-run", order), header("saga-step", "charge")];
        let body = Bytes::from(json!({"reference": order}).to_string());
        client.request(Method::POST, "/charges", &headers, Some(body), Duration::from_secs(30)).await
    }

    #[tokio::test]
    async fn goes_wrong_as_told() {
        let (payments, control) = start().await;
        let fault = |order: &str, fault: Value| json!({"order": order, "times": 1, "fault": fault});
        for rule in [
            fault("no", json!({"kind": "refuse", "status": 422, "problem": "card_declined", "title": "declined"})),
            fault("busy", json!({"kind": "unavailable", "retry_after_s": 7})),
            fault("lost", json!({"kind": "lose_reply"})),
            fault("slow", json!({"kind": "hold", "ms": 1})),
        ] {
            assert_eq!(post(&control, "/faults", rule).await.unwrap().status, 204);
        }
        assert_eq!(charge(&payments, "no").await.unwrap().status, 422);
        let busy = charge(&payments, "busy").await.unwrap();
        assert_eq!((busy.status.as_u16(), busy.headers["retry-after"].to_str().unwrap()), (503, "7"));
        assert!(charge(&payments, "lost").await.is_err(), "no answer");
        for order in ["lost", "slow", "busy"] {
            assert_eq!(charge(&payments, order).await.unwrap().status, 201, "{order}");
        }
        let report: super::super::Report = control.get("/ledger").await.unwrap();
        let outcomes: Vec<ArrivalOutcome> = report.arrivals.iter().map(|arrival| arrival.outcome).collect();
        use ArrivalOutcome::{Applied, Refused, Replayed, ReplyLost, Unavailable};
        assert_eq!(outcomes, [Refused, Unavailable, ReplyLost, Replayed, Applied, Applied]);
        assert!(report.effects.iter().all(|effect| (effect.done, effect.undone) == (1, 0)));
    }

    #[tokio::test]
    async fn refuses_connections_while_it_is_down() {
        let (payments, control) = start().await;
        assert_eq!(charge(&payments, "a").await.unwrap().status, 201);
        post(&control, "/down", json!({"service": "payments"})).await.unwrap();
        // The door closes in another task; what is seen first may still be the old connection's answer.
        let refused = async { while charge(&payments, "b").await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
        post(&control, "/up", json!({"service": "payments"})).await.unwrap();
        let accepted = async { while charge(&payments, "c").await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), accepted).await.unwrap();
    }

    #[tokio::test]
    async fn an_arrival_can_be_waited_for() {
        let (payments, control) = start().await;
        let wait = |ms: u64| json!({"order": "w", "step": "charge", "count": 1, "timeout_ms": ms});
        assert_eq!(post(&control, "/wait", wait(1)).await.unwrap().status, 408);
        let (waited, charged) = tokio::join!(post(&control, "/wait", wait(30_000)), charge(&payments, "w"));
        assert_eq!((waited.unwrap().status.as_u16(), charged.unwrap().status.as_u16()), (200, 201));
    }
}
