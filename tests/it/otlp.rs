//! A trace collector for tests: OTLP over gRPC on a free port of the loopback, which keeps every span it
//! is sent. gRPC by hand, so that the other side of the wire is not the code under test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How the collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Take,
    /// Reads and never answers.
    Hang,
    /// `UNAVAILABLE`
    Refuse,
}

/// A span with its resource's and its own attributes as text.
#[derive(Clone, Debug)]
pub struct Taken {
    pub span: Span,
    pub resource: Vec<(String, String)>,
    pub attributes: Vec<(String, String)>,
}

impl Taken {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    manner: Mutex<Manner>,
    taken: watch::Sender<Vec<Taken>>,
    metrics: Mutex<Vec<Metric>>,
    /// Requests of any manner.
    requests: watch::Sender<usize>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), Manner::Take).await
    }

    pub async fn at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            taken: watch::channel(Vec::new()).0,
            metrics: Mutex::default(),
            requests: watch::channel(0).0,
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, serving }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Taken> {
        self.shared.taken.borrow().clone()
    }

    /// Every metric that came, in order.
    pub fn metrics(&self) -> Vec<Metric> {
        self.shared.metrics.lock().unwrap().clone()
    }

    /// Waits until a request has come, whatever became of it.
    pub async fn asked(&self) {
        self.shared.requests.subscribe().wait_for(|requests| *requests > 0).await.unwrap();
    }

    /// Waits for that many spans.
    pub async fn wait_for(&self, count: usize) -> Vec<Taken> {
        self.shared.taken.subscribe().wait_for(|taken| taken.len() >= count).await.unwrap().clone()
    }

    /// Ends the collector with its connections.
    pub async fn stop(self) {
        self.serving.abort();
        let mut this = self;
        let _ = (&mut this.serving).await;
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Aborted with the task that owns it, so that nobody talks to a collector that has stopped.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| export(request, Arc::clone(&shared)));
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.serve_connection(TokioIo::new(stream), service).await
        });
    }
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn export(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect().await?.to_bytes();
    shared.requests.send_modify(|requests| *requests += 1);
    let manner = *shared.manner.lock().unwrap();
    match manner {
        Manner::Take => {
            // One message: a flag, its length, the message.
            match path.as_str() {
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                    let request = ExportTraceServiceRequest::decode(&bytes[5..]).unwrap();
                    shared.taken.send_modify(|taken| taken.extend(spans(request)));
                }
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                    let request = ExportMetricsServiceRequest::decode(&bytes[5..]).unwrap();
                    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
                    shared.metrics.lock().unwrap().extend(scopes.flat_map(|scope| scope.metrics));
                }
                path => panic!("nobody takes {path}"),
            }
            Ok(answer("0"))
        }
        Manner::Refuse => Ok(answer("14")),
        Manner::Hang => std::future::pending().await,
    }
}

fn answer(status: &'static str) -> Response<Body> {
    let message = ExportTraceServiceResponse::default().encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let frames = vec![Ok(Frame::data(Bytes::from(framed))), Ok(Frame::trailers(trailers))];
    Response::builder().header("content-type", "application/grpc").body(StreamBody::new(stream::iter(frames))).unwrap()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Taken> {
    let mut taken = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = texts(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let attributes = texts(span.attributes.clone());
            taken.push(Taken { span, resource: resource.clone(), attributes });
        }
    }
    taken
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}
