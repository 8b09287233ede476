//! The load generator: so many workers, each with connections of its own, each starting the next run
//! when the last one has ended. The same workers make the three calls bare.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// After a failure a worker waits, so that it does not spin against something that is down.
const FAILURE_WAIT: Duration = Duration::from_millis(50);

/// What the workers do over and over.
#[derive(Debug, Clone)]
pub enum Work {
    /// Start a run and wait for its end.
    Runs { api: SocketAddr, saga: &'static str },
    /// The run's three calls, one after the other, without an orchestrator.
    Bare { services: [SocketAddr; 3] },
}

/// What the workers did in the measured time.
#[derive(Debug, Default)]
pub struct Measured {
    /// Sorted, in microseconds; one for each run.
    pub latencies_us: Vec<u32>,
    pub failures: u64,
    pub first_failure: Option<String>,
    pub seconds: f64,
}

impl Measured {
    /// Adds another time's figures.
    pub fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.failures += other.failures;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.seconds += other.seconds;
    }

    pub fn per_second(&self) -> f64 {
        self.latencies_us.len() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Returns the latency below which so many of 100 runs lie, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let at = (self.latencies_us.len() * percent / 100).min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us.get(at).map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// Keeps so many runs in flight: first for the warm-up, then for the time that counts. `at_edges` is
/// called when that time begins and when it ends.
pub async fn generate<E>(
    work: &Work,
    in_flight: usize,
    warm_up: Duration,
    time: Duration,
    at_edges: &mut impl AsyncFnMut() -> E,
) -> (Measured, E, E) {
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let numbers = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        workers.spawn(worker(work.clone(), phase.clone(), numbers.clone()));
    }
    tokio::time::sleep(warm_up).await;
    let before = at_edges().await;
    let began = Instant::now();
    phase.store(MEASURE, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    phase.store(STOP, Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    let after = at_edges().await;

    let mut measured = Measured { seconds, ..Measured::default() };
    while let Some(worker) = workers.join_next().await {
        let Ok(worker) = worker else { continue };
        measured.latencies_us.extend(worker.latencies_us);
        measured.failures += worker.failures;
        measured.first_failure = measured.first_failure.or(worker.first_failure);
    }
    measured.latencies_us.sort_unstable();
    (measured, before, after)
}

async fn worker(work: Work, phase: Arc<AtomicU8>, numbers: Arc<AtomicU64>) -> Measured {
    let mut measured = Measured::default();
    let mut doors = match &work {
        Work::Runs { api, .. } => vec![Door::new(*api)],
        Work::Bare { services } => services.iter().copied().map(Door::new).collect(),
    };
    while phase.load(Ordering::Relaxed) != STOP {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let done = match &work {
            Work::Runs { saga, .. } => one_run(&mut doors[0], saga, number).await,
            Work::Bare { .. } => three_calls(&mut doors, number).await,
        };
        let counts = phase.load(Ordering::Relaxed) == MEASURE;
        match done {
            Ok(()) if counts => {
                let us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
                measured.latencies_us.push(us);
            }
            Ok(()) => {}
            Err(reason) => {
                measured.failures += u64::from(counts);
                measured.first_failure.get_or_insert(reason);
                tokio::time::sleep(FAILURE_WAIT).await;
            }
        }
    }
    measured
}

async fn one_run(door: &mut Door, saga: &str, number: u64) -> Result<(), String> {
    let body = format!(
        r#"{{"input":{{"orderId":"B-{number}","amount":2190,"lines":[{{"sku":"needle","qty":2,"price":450}},{{"sku":"thread","qty":1,"price":1290}}]}}}}"#
    );
    let target = format!("/api/v1/sagas/{saga}/runs?wait=60s");
    let (status, answer) = door.post(&target, &[], body).await?;
    let text = String::from_utf8_lossy(&answer);
    if status == StatusCode::CREATED && text.contains(r#""state":"completed""#) {
        return Ok(());
    }
    Err(format!("a start answered {status}: {}", text.chars().take(300).collect::<String>()))
}

/// The same calls that a run makes, with the same headers and bodies.
async fn three_calls(doors: &mut [Door], number: u64) -> Result<(), String> {
    let run = uuid::Uuid::now_v7().to_string();
    let bodies = [
        (
            "reserve",
            "/reservations",
            format!(
                r#"{{"reservationId":"{run}","orderId":"B-{number}","lines":[{{"sku":"needle","qty":2,"price":450}},{{"sku":"thread","qty":1,"price":1290}}]}}"#
            ),
        ),
        ("charge", "/charges", format!(r#"{{"reference":"B-{number}","amount":2190}}"#)),
        ("ship", "/shipments", format!(r#"{{"orderId":"B-{number}"}}"#)),
    ];
    for (door, (step, path, body)) in doors.iter_mut().zip(bodies) {
        let key = uuid::Uuid::now_v7().to_string();
        let traceparent = format!("00-{}-00f067aa0ba902b7-01", run.replace('-', ""));
        let headers = [
            ("idempotency-key", key.as_str()),
            ("traceparent", &traceparent),
            ("correlation-id", &run),
            ("saga-run", &run),
            ("saga-step", step),
            ("saga-direction", "forward"),
        ];
        let (status, _) = door.post(path, &headers, body).await?;
        if !status.is_success() {
            return Err(format!("{step} answered {status}"));
        }
    }
    Ok(())
}

/// One connection, opened when it is needed.
pub(super) struct Door {
    address: SocketAddr,
    host: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Door {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), open: None }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot connect to {}: {error}", self.address);
        let stream = TcpStream::connect(self.address).await.map_err(|error| cannot(&error))?;
        stream.set_nodelay(true).map_err(|error| cannot(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| cannot(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(super) async fn post(
        &mut self,
        target: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut sender = match self.open.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let failed = |error: &dyn std::fmt::Display| format!("POST {target} at {}: {error}", self.address);
        let mut request =
            Request::post(target).header("host", self.host.as_str()).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| failed(&error))?;
        sender.ready().await.map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
        self.open = Some(sender);
        Ok((status, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let measured =
            Measured { latencies_us: (1..=1_000).map(|ms| ms * 1_000).collect(), seconds: 10.0, ..Measured::default() };
        assert_eq!((measured.percentile_ms(50), measured.percentile_ms(99)), (501.0, 991.0));
        assert!((measured.per_second() - 100.0).abs() < f64::EPSILON);
        assert_eq!(Measured::default().percentile_ms(99), 0.0, "nothing measured");
    }
}
