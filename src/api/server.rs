//! Accepts connections and keeps slow or silent clients from holding what others need: connections are
//! counted, heads must arrive in time, answers must be taken in time. Stops gracefully.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Time for a request's head; also how long a quiet connection is kept. Pools of clients keep theirs for 90 s
/// at most and meet a closed one with a new one.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// Heads beyond this are no requests to this API: the longest query has a few KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Time for a client to take some part of an answer, from a full socket buffer on.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// After a failed accept (no more files): connections end all the time, so a short pause is enough.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled, then lets the requests in flight end; returns when all have.
/// `connections_max` more clients wait in the system's backlog.
pub async fn serve(listener: TcpListener, router: Router, connections_max: usize, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(connections_max));
    let tasks = TaskTracker::new();
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), stop.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener); // no new connections while the last answers leave
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Small answers must not wait for more (Nagle).
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(TakenInTime::new(stream, WRITE_WAIT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // Errors here are a client's: it hung up, was too slow, or spoke no HTTP.
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A socket whose writes fail when the other side takes nothing for a while.
struct TakenInTime<S> {
    inner: S,
    wait: Duration,
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<S> TakenInTime<S> {
    fn new(inner: S, wait: Duration) -> Self {
        Self { inner, wait, blocked: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.blocked = None;
            return poll;
        }
        let wait = self.wait;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + wait)));
        match blocked.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answer"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TakenInTime<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TakenInTime<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.watch(context, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.watch(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(context);
        this.watch(context, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_shutdown(context);
        this.watch(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn started(
        router: Router,
        connections_max: usize,
    ) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, connections_max, stop.clone()));
        (address, stop, served)
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn connections_are_bounded_and_the_next_one_waits() {
        let (address, _stop, _served) = started(Router::new().route("/", get(|| async { "hello" })), 1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut first).await.ends_with("hello"));
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut answer = tokio::spawn(async move { ask(&mut second).await });
        // The first one is still open: the second is in the backlog.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut answer).await.is_err());
        drop(first);
        assert!(answer.await.unwrap().ends_with("hello"));
    }

    #[tokio::test]
    async fn a_request_in_flight_ends_before_the_server_does() {
        let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (seen, held) = (entered.clone(), gate.clone());
        let handler = move || async move {
            seen.add_permits(1);
            let _permit = held.acquire().await;
            "slow"
        };
        let (address, stop, served) = started(Router::new().route("/", get(handler)), 10).await;
        let answer = tokio::spawn(async move { ask(&mut TcpStream::connect(address).await.unwrap()).await });
        entered.acquire().await.unwrap().forget();
        stop.cancel();
        assert!(!served.is_finished());
        gate.add_permits(1);
        assert!(answer.await.unwrap().ends_with("slow"));
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut socket = TakenInTime::new(ours, Duration::from_secs(30));
        let began = Instant::now();
        let error = socket.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_let_go() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let service = TowerToHyperService::new(Router::new().route("/", get(|| async { "hello" })));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT)
            .serve_connection(TokioIo::new(ours), service);
        let served = tokio::spawn(connection);
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut bytes = [0; 1024];
        assert!(theirs.read(&mut bytes).await.unwrap() > 0);
        theirs.write_all(b"GET / HT").await.unwrap(); // and no more, ever
        let began = Instant::now();
        let _ = served.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), HEAD_WAIT.as_secs());
    }
}
