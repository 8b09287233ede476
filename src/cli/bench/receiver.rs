//! A trace receiver for the measurement: OTLP over gRPC, which counts spans and keeps none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Body = StreamBody<stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>;

pub struct Receiver {
    address: SocketAddr,
    spans: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens on a free port of the loopback for as long as the process lives.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let spans = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&spans);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let counted = Arc::clone(&counted);
                let service = service_fn(move |request| take(request, Arc::clone(&counted)));
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, spans })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns how many spans have come.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

async fn take(request: Request<Incoming>, spans: Arc<AtomicU64>) -> Result<Response<Body>, hyper::Error> {
    let message = request.into_body().collect().await?.to_bytes();
    // A flag and a length stand before the message.
    spans.fetch_add(count(message.get(5..).unwrap_or_default()), Ordering::Relaxed);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // An empty message with its flag and length.
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let mut answer = Response::new(StreamBody::new(stream::iter(frames)));
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

/// Counts the spans of an `ExportTraceServiceRequest`: field 2 (spans) in field 2 (scopes) in field 1 (resources).
fn count(message: &[u8]) -> u64 {
    let scopes = fields(message, 1).flat_map(|resource| fields(resource, 2));
    scopes.map(|scope| fields(scope, 2).count() as u64).sum()
}

/// Returns the contents of a message's fields of one number; all that OTLP has on these levels is of the
/// wire type 2 (a length and that many bytes).
fn fields(mut message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            let length = usize::try_from(varint(&mut message)?).ok()?;
            if tag & 7 != 2 || length > message.len() {
                return None;
            }
            let (content, rest) = message.split_at(length);
            message = rest;
            if tag >> 3 == wanted {
                return Some(content);
            }
        }
    })
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted() {
        let rows: &[(&str, &[u8], u64)] = &[
            // resource { attributes }, scope spans { scope, span, span }
            ("two", &[0x0a, 14, 0x0a, 2, 1, 1, 0x12, 8, 0x0a, 0, 0x12, 1, 7, 0x12, 1, 7], 2),
            ("two resources", &[0x0a, 4, 0x12, 2, 0x12, 0, 0x0a, 4, 0x12, 2, 0x12, 0], 2),
            ("none", &[], 0),
            ("cut off", &[0x0a, 14, 0x0a], 0),
        ];
        for (why, message, expected) in rows {
            assert_eq!(count(message), *expected, "{why}");
        }
    }
}
