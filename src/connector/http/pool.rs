//! Idle connections of one service, the last used first.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::time::Instant;

/// Servers close idle connections after 5 s (Node, uvicorn) to 75 s (nginx). A request that meets the
/// closing is in doubt, so we let go a second before the shortest of them.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// A connection is ready some microseconds after its answer was read, or never: when the server
/// answered before it had read the request.
const READY_WAIT: Duration = Duration::from_millis(100);

/// One connection, used by one call at a time.
pub(super) struct Sender {
    inner: http1::SendRequest<Full<Bytes>>,
    idle_max: Duration,
}

impl Sender {
    pub(super) fn new(inner: http1::SendRequest<Full<Bytes>>) -> Self {
        Self { inner, idle_max: IDLE_MAX }
    }

    /// Sends; an error holds the request where it was certainly not written.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        self.inner.try_send_request(request).await
    }

    /// Waits until the connection has left its last exchange behind, and hears how long the server
    /// will keep it (`Keep-Alive: timeout=5`).
    pub(super) async fn settle(&mut self, headers: &HeaderMap) {
        if let Some(kept) = headers.get("keep-alive").and_then(|value| value.to_str().ok()).and_then(keep_alive) {
            self.idle_max = IDLE_MAX.min(kept.saturating_sub(Duration::from_secs(1)));
        }
        if !self.inner.is_ready() {
            let _ = tokio::time::timeout(READY_WAIT, self.inner.ready()).await;
        }
    }
}

/// Reads the seconds in `timeout=5, max=100`.
fn keep_alive(value: &str) -> Option<Duration> {
    let mut parts = value.split(',').filter_map(|part| part.trim().split_once('='));
    let seconds = parts.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?.1;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

pub(super) struct Pool {
    idle: Mutex<Vec<(Sender, Instant)>>,
    idle_max: usize,
}

impl Pool {
    pub(super) fn new(sockets_max: u32) -> Self {
        Self { idle: Mutex::default(), idle_max: sockets_max as usize }
    }

    /// Takes the connection used last that is still open.
    pub(super) async fn take(&self) -> Option<Sender> {
        loop {
            let (mut sender, until) = self.lock().pop()?;
            if until <= Instant::now() {
                // The others have been idle for longer, or are as short-lived.
                self.lock().retain(|(_, until)| *until > Instant::now());
                continue;
            }
            if sender.inner.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection for the next call.
    pub(super) fn put(&self, sender: Sender) {
        if !sender.inner.is_ready() || sender.idle_max.is_zero() {
            return;
        }
        let until = Instant::now() + sender.idle_max;
        let mut idle = self.lock();
        if idle.len() < self.idle_max {
            idle.push((sender, until));
        }
    }

    pub(super) fn idle_len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_headers() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("max=100, Timeout = 7", Some(7)),
            ("timeout=", None),
            ("timeout=-1", None),
            ("5", None),
        ] {
            assert_eq!(keep_alive(value).map(|kept| kept.as_secs()), seconds, "{value}");
        }
    }
}
