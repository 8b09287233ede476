//! Reads a stream of server-sent events (WHATWG HTML section 9.2.6), bounded, from any stream of bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// `fact`, `end`, …; empty when the server named none.
    pub name: String,
    pub id: String,
    pub data: String,
}

/// An event longer than this is no news of a run: the largest payload is far smaller.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Events out of bytes.
pub struct ServerEvents<S> {
    bytes: Option<Pin<Box<S>>>,
    line: Vec<u8>,
    open: ServerEvent,
    has_data: bool,
    ready: VecDeque<ServerEvent>,
}

impl<S> ServerEvents<S> {
    /// Reads events from a stream of bytes.
    pub fn new(bytes: S) -> Self {
        Self {
            bytes: Some(Box::pin(bytes)),
            line: Vec::new(),
            open: ServerEvent::default(),
            has_data: false,
            ready: VecDeque::new(),
        }
    }

    fn take_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.open);
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.open.name = value.to_owned(),
            "id" => self.open.id = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.open.data.push('\n');
                }
                self.has_data = true;
                self.open.data.push_str(value);
            }
            _ => {} // a comment (the server's keep-alive) or a field of a later standard
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.take_line();
            } else if self.line.len() + self.open.data.len() < EVENT_BYTES_MAX {
                self.line.push(*byte);
            }
        }
    }
}

impl<S, E> Stream for ServerEvents<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Item = Result<ServerEvent, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let Some(bytes) = &mut this.bytes else { return Poll::Ready(None) };
            match ready!(bytes.as_mut().poll_next(context)) {
                Some(Ok(bytes)) => this.take_bytes(&bytes),
                Some(Err(error)) => {
                    this.bytes = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.bytes = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn events_are_read_however_the_bytes_are_cut() {
        let text =
            ": keep-alive\n\nevent: fact\nid: 3\ndata: {\"a\":\ndata: 1}\n\nid: 4\r\ndata:x\r\n\r\ndata: cut off";
        let event =
            |name: &str, id: &str, data: &str| ServerEvent { name: name.into(), id: id.into(), data: data.into() };
        let expected = vec![event("fact", "3", "{\"a\":\n1}"), event("", "4", "x")];
        for size in [1, 2, 7, text.len()] {
            let chunks: Vec<Result<Bytes, ()>> =
                text.as_bytes().chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let events: Vec<_> =
                ServerEvents::new(futures_util::stream::iter(chunks)).map(Result::unwrap).collect().await;
            assert_eq!(events, expected, "in chunks of {size}");
        }
    }
}
