//! A service that misbehaves on purpose: plain TCP, one scripted play per request, every request kept as
//! it came over the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the peer does with one request.
#[derive(Clone, Debug)]
pub enum Play {
    /// Writes this and keeps the connection.
    Say(Vec<u8>),
    /// Writes this and closes the connection in order.
    SayAndClose(Vec<u8>),
    /// Writes this (which may be nothing) and resets the connection.
    SayAndReset(Vec<u8>),
    /// Writes this and then never another byte.
    SayAndHang(Vec<u8>),
    /// Writes the first, then the second again and again, slowly.
    Drip(Vec<u8>, Vec<u8>),
    /// Resets the connection as soon as it is there, before reading.
    ResetUnread,
}

/// Writes an answer with its length.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    format!("{text}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Accepts TLS with the certificate in `tests/it/tls`, for localhost and 127.0.0.1.
pub fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// One listening peer. Plays its plays in order of requests, the last one for ever.
pub struct Peer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    plays: Vec<Play>,
    requests: Mutex<Vec<String>>,
    connections: Mutex<usize>,
    tls: Option<TlsAcceptor>,
}

impl Peer {
    pub async fn start(plays: impl Into<Vec<Play>>) -> Self {
        Self::listen(plays.into(), None).await
    }

    /// With the certificate in `tests/it/tls`, for localhost and 127.0.0.1.
    pub async fn start_tls(plays: impl Into<Vec<Play>>) -> Self {
        Self::listen(plays.into(), Some(acceptor(&[]))).await
    }

    async fn listen(plays: Vec<Play>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { plays, requests: Mutex::default(), connections: Mutex::default(), tls });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Every request so far, head and body as they came.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        *shared.connections.lock().unwrap() += 1;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if matches!(shared.plays.as_slice(), [Play::ResetUnread]) {
                return stream.set_zero_linger().unwrap();
            }
            match &shared.tls {
                None => {
                    if let Some(stream) = serve(stream, &shared).await {
                        stream.set_zero_linger().unwrap();
                    }
                }
                Some(tls) => {
                    // A client that does not trust us breaks off here.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &shared).await;
                    }
                }
            }
        });
    }
}

/// Plays on one connection; gives the stream back when it shall be reset.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, shared: &Shared) -> Option<S> {
    while let Some(request) = request(&mut stream).await {
        let play = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(request);
            shared.plays[(requests.len() - 1).min(shared.plays.len() - 1)].clone()
        };
        match play {
            Play::Say(bytes) => stream.write_all(&bytes).await.ok()?,
            Play::SayAndClose(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
            Play::SayAndReset(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
                return Some(stream);
            }
            Play::SayAndHang(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                // Until the caller gives up and closes.
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.ok()? > 0 {}
                return None;
            }
            Play::Drip(bytes, again) => {
                stream.write_all(&bytes).await.ok()?;
                let mut tick = tokio::time::interval(Duration::from_millis(5));
                loop {
                    tick.tick().await;
                    stream.write_all(&again).await.ok()?;
                }
            }
            Play::ResetUnread => return Some(stream),
        }
    }
    None
}

/// Reads one request with its body.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes.clone()).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    bytes.extend(body);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Closes a listener's port: nobody is there any more.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Accepts and says nothing, not even TLS.
pub async fn mute() -> (SocketAddr, JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
        streams
    });
    (address, held)
}
