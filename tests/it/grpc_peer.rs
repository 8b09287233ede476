//! A gRPC service written down on the wire: HTTP/2, five bytes before each message, the status in the trailers.
//! Shares nothing with the client's library but the messages' descriptors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request: its path, its metadata, its message as JSON.
pub type Asked = (String, HeaderMap, Value);
/// Answers a path and a message with one, or with a code and words.
pub type Answers = fn(&str, &Value) -> Result<Value, (u16, &'static str)>;

/// The descriptors as they are given to a process.
pub fn descriptor_set() -> Vec<u8> {
    let text = include_str!("../tracking.descriptor.json");
    let set = DescriptorPool::global().get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
    DynamicMessage::deserialize(set, &mut serde_json::Deserializer::from_str(text)).unwrap().encode_to_vec()
}

pub struct GrpcPeer {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl GrpcPeer {
    /// Serves until the test ends.
    pub async fn start(at: SocketAddr, answers: Answers) -> Self {
        Self::serve(at, answers, None).await
    }

    /// The same with the certificate in `tests/it/tls`, for localhost and 127.0.0.1.
    pub async fn start_tls(answers: Answers) -> Self {
        let tls = crate::connector_peer::acceptor(&[b"h2"]);
        Self::serve("127.0.0.1:0".parse().unwrap(), answers, Some(tls)).await
    }

    async fn serve(at: SocketAddr, answers: Answers, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let pool = DescriptorPool::decode(descriptor_set().as_slice()).unwrap();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (pool, kept) = (pool.clone(), Arc::clone(&kept));
                let serve = service_fn(move |request| answered(pool.clone(), Arc::clone(&kept), answers, request));
                let tls = tls.clone();
                tokio::spawn(async move {
                    let http = http2::Builder::new(TokioExecutor::new());
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), serve).await),
                        // A client that does not trust us goes away.
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(http.serve_connection(TokioIo::new(stream), serve).await);
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }
}

async fn answered(
    pool: DescriptorPool,
    kept: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!((parts.method.as_str(), parts.headers["content-type"].to_str().unwrap()), ("POST", "application/grpc"));
    assert_eq!((body[0], u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize), (0, body.len() - 5));
    let kind = |name: &str| pool.get_message_by_name(name).unwrap();
    let message = DynamicMessage::decode(kind("tracking.v1.AnnounceRequest"), &body[5..]).unwrap();
    let message = serde_json::to_value(&message).unwrap();
    let path = parts.uri.path().to_owned();
    let answer = answers(&path, &message);
    kept.lock().unwrap().push((path, parts.headers, message));
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match answer {
        Ok(json) => {
            let reply = DynamicMessage::deserialize(kind("tracking.v1.AnnounceReply"), json).unwrap().encode_to_vec();
            let mut framed = vec![0];
            framed.extend(u32::try_from(reply.len()).unwrap().to_be_bytes());
            framed.extend(reply);
            frames.push(Frame::data(Bytes::from(framed)));
            trailers.insert("grpc-status", 0.into());
        }
        Err((code, words)) => {
            trailers.insert("grpc-status", code.into());
            trailers.insert("grpc-message", words.parse().unwrap());
        }
    }
    frames.push(Frame::trailers(trailers));
    let body = StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok::<_, Infallible>)));
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}
