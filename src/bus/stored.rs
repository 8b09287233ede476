//! The archive on JetStream: `$JS.API.STREAM.MSG.GET` and its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::archive::{Archive, Extent, Page, Stored, Stream, matches};
use super::dead_letter::ORIGINAL_HEADERS;
use super::jetstream::{Session, Shared};
use super::reconcile::Kind;
use super::send::{self, Outgoing};
use super::{Error, Published, RawMessage, wire};
use crate::envelope::base64;
use crate::time::Timestamp;

/// Look-ups under way at a time: one takes about 100 µs, so this gives some ten thousand a second.
const AT_A_TIME: usize = 32;
/// Unreadable headers are kept as Base64 in one header, up to here.
const HEADERS_BYTES_MAX: usize = 24 * 1_024;

/// A message as the API returns it.
pub(super) struct Fetched {
    pub(super) sequence: u64,
    pub(super) subject: String,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
    stored_at: Timestamp,
}

/// Which message.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    At(u64),
    /// The first one from a sequence on whose subject is so.
    From(u64, String),
}

/// Returns a message, none when it is not there.
///
/// # Errors
/// One line: what was asked and what came back.
pub(super) async fn fetch(session: &Session, stream: &str, wanted: &Wanted) -> Result<Option<Fetched>, String> {
    #[derive(Deserialize)]
    struct Answer {
        message: Option<Message>,
        error: Option<Problem>,
    }
    #[derive(Deserialize)]
    struct Message {
        subject: String,
        seq: u64,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
        #[serde(default)]
        time: String,
    }
    let (place, request) = match wanted {
        Wanted::At(sequence) => (sequence, serde_json::json!({ "seq": sequence })),
        Wanted::From(sequence, subject) => {
            (sequence, serde_json::json!({ "seq": (*sequence).max(1), "next_by_subj": subject }))
        }
    };
    let failed = |why: String| format!("message {place} of {stream} cannot be looked at: {why}");
    let answer: Answer = ask(session, format!("STREAM.MSG.GET.{stream}"), &request).await.map_err(&failed)?;
    match (answer.message, answer.error) {
        (Some(message), _) => {
            let bytes = |text: &str| base64::decode(text).ok_or_else(|| failed("it is no Base64".to_owned()));
            Ok(Some(Fetched {
                sequence: message.seq,
                headers: bytes(&message.hdrs)?,
                payload: bytes(&message.data)?,
                subject: message.subject,
                stored_at: message.time.parse().map_or(Timestamp(0), |at: jiff::Timestamp| {
                    Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0))
                }),
            }))
        }
        (None, Some(problem)) if problem.code == 404 => Ok(None),
        (None, Some(problem)) => Err(failed(problem.description)),
        (None, None) => Err(failed("the answer is empty".to_owned())),
    }
}

#[derive(Deserialize)]
struct Problem {
    code: u16,
    #[serde(default)]
    description: String,
}

async fn ask<T: DeserializeOwned>(
    session: &Session,
    subject: String,
    request: &serde_json::Value,
) -> Result<T, String> {
    session.context.request(subject, request).await.map_err(|error| error.to_string())
}

impl Fetched {
    /// Reads the headers; what cannot be read is kept as Base64.
    fn stored(self) -> Stored {
        let Self { sequence, subject, headers, payload, stored_at } = self;
        let (headers, unreadable) = match wire::read_headers(&subject, &headers) {
            Ok(headers) => (headers, None),
            Err(why) => (vec![(ORIGINAL_HEADERS.to_owned(), base64_of(&headers))], Some(why)),
        };
        Stored { sequence, stored_at, raw: RawMessage { subject, headers, payload: payload.into() }, unreadable }
    }
}

/// Returns headers that nobody can read as they are kept.
pub(super) fn base64_of(headers: &[u8]) -> String {
    base64::encode(&headers[..headers.len().min(HEADERS_BYTES_MAX)])
}

/// Reads the archive of one bus.
#[derive(Clone)]
pub(super) struct JetStreamArchive(pub(super) Arc<Shared>);

impl JetStreamArchive {
    async fn extent_of(&self, stream: Stream) -> Result<Extent, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            created: String,
            state: Option<State>,
            error: Option<Problem>,
        }
        #[derive(Deserialize)]
        struct State {
            messages: u64,
            first_seq: u64,
            last_seq: u64,
        }
        let session = send::ready(&self.0).await?;
        let name = Kind::of(stream).name();
        let away = |why: String| Error::Unavailable(format!("stream {name} cannot be looked at: {why}"));
        let answer: Answer =
            ask(&session, format!("STREAM.INFO.{name}"), &serde_json::json!({})).await.map_err(away)?;
        match (answer.state, answer.error) {
            (Some(state), _) => Ok(Extent {
                first: state.first_seq.max(1),
                last: state.last_seq,
                messages: state.messages,
                created: answer
                    .created
                    .parse()
                    .map_or(0, |at: jiff::Timestamp| u64::try_from(at.as_nanosecond()).unwrap_or(0)),
            }),
            (None, problem) => Err(away(problem.map(|problem| problem.description).unwrap_or_default())),
        }
    }

    async fn page(&self, stream: Stream, from: u64, subjects: &[String], max: usize) -> Result<Page, Error> {
        let session = send::ready(&self.0).await?;
        let name = Kind::of(stream).name();
        let get = async |wanted: Wanted| match fetch(&session, name, &wanted).await {
            Ok(found) => Ok(found.map(Fetched::stored)),
            Err(why) => {
                self.0.doubt();
                Err(Error::Unavailable(why))
            }
        };
        let mut page = Page { messages: Vec::new(), next: from.max(1) };
        // The first one that is wanted, however far away it is.
        let mut first: Option<Stored> = None;
        for subject in subjects {
            let found = get(Wanted::From(page.next, subject.clone())).await?;
            if let Some(found) = found
                && first.as_ref().is_none_or(|first| found.sequence < first.sequence)
            {
                first = Some(found);
            }
        }
        let Some(first) = first else { return Ok(page) };
        page.next = first.sequence + 1;
        page.messages.push(first);
        // Then its neighbours, several at a time.
        while page.messages.len() < max {
            let window = page.next..page.next + AT_A_TIME as u64;
            let found: Vec<Result<Option<Stored>, Error>> =
                futures_util::stream::iter(window.clone().map(|at| get(Wanted::At(at))))
                    .buffered(AT_A_TIME)
                    .collect()
                    .await;
            let mut found: Vec<Option<Stored>> = found.into_iter().collect::<Result<_, _>>()?;
            let Some(last) = found.iter().rposition(Option::is_some) else { break };
            // One that was missing may have been stored while its successor was looked up.
            for (at, place) in found[..last].iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
                *place = get(Wanted::At(window.start + at as u64)).await?;
            }
            for stored in found.into_iter().take(last + 1).flatten() {
                if page.messages.len() == max {
                    return Ok(page);
                }
                page.next = stored.sequence + 1;
                if matches(&stored.raw.subject, subjects) {
                    page.messages.push(stored);
                }
            }
        }
        Ok(page)
    }

    /// Looks for the first message at or after a time by halving.
    async fn at_time(&self, stream: Stream, time: Timestamp) -> Result<u64, Error> {
        let extent = self.extent_of(stream).await?;
        let session = send::ready(&self.0).await?;
        let name = Kind::of(stream).name();
        let (mut low, mut high) = (extent.first, extent.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found =
                fetch(&session, name, &Wanted::From(middle, ">".to_owned())).await.map_err(Error::Unavailable)?;
            match found {
                Some(found) if found.stored_at < time => low = found.sequence + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    async fn remove_one(&self, stream: Stream, sequence: u64) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            success: bool,
            error: Option<Problem>,
        }
        let session = send::ready(&self.0).await?;
        let name = Kind::of(stream).name();
        let away = |why: String| Error::Unavailable(format!("message {sequence} of {name} cannot be removed: {why}"));
        // Not overwritten: it was no secret while it lay there.
        let request = serde_json::json!({ "seq": sequence, "no_erase": true });
        let answer: Answer = ask(&session, format!("STREAM.MSG.DELETE.{name}"), &request).await.map_err(away)?;
        match answer.error {
            None => Ok(answer.success),
            // What is not there: 404, or 400 with "no message found" in some versions.
            Some(problem) if problem.code == 404 || problem.description.contains("no message found") => Ok(false),
            Some(problem) => Err(away(problem.description)),
        }
    }
}

impl Archive for JetStreamArchive {
    fn extent(&self, stream: Stream) -> BoxFuture<'static, Result<Extent, Error>> {
        let this = self.clone();
        Box::pin(async move { this.extent_of(stream).await })
    }

    fn read(
        &self,
        stream: Stream,
        from: u64,
        subjects: Vec<String>,
        max: usize,
    ) -> BoxFuture<'static, Result<Page, Error>> {
        let this = self.clone();
        Box::pin(async move { this.page(stream, from, &subjects, max.max(1)).await })
    }

    fn at(&self, stream: Stream, time: Timestamp) -> BoxFuture<'static, Result<u64, Error>> {
        let this = self.clone();
        Box::pin(async move { this.at_time(stream, time).await })
    }

    fn remove(&self, stream: Stream, sequence: u64) -> BoxFuture<'static, Result<bool, Error>> {
        let this = self.clone();
        Box::pin(async move { this.remove_one(stream, sequence).await })
    }

    fn put(&self, raw: RawMessage) -> BoxFuture<'static, Result<Published, Error>> {
        let shared = self.0.clone();
        Box::pin(async move { send::one(&shared, &Outgoing::new(raw)?).await })
    }

    fn keep(&self, name: String, value: Bytes) -> BoxFuture<'static, Result<(), Error>> {
        let put =
            self.put(RawMessage { subject: format!("{}.{name}", wire::STATE), headers: Vec::new(), payload: value });
        Box::pin(async move { put.await.map(|_| ()) })
    }

    fn kept(&self, prefix: String) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, Error>> {
        let this = self.clone();
        Box::pin(async move {
            /// Subscriptions and replays are a few dozen.
            const PAGE_LEN: usize = 256;
            // A wildcard is a token of its own.
            let wildcard = if prefix.ends_with('.') { ">" } else { "" };
            let subjects = vec![format!("{}.{prefix}{wildcard}", wire::STATE)];
            let mut all = BTreeMap::new();
            let mut from = 1;
            loop {
                let page = this.page(Stream::State, from, &subjects, PAGE_LEN).await?;
                if page.messages.is_empty() {
                    return Ok(all.into_iter().collect());
                }
                from = page.next;
                for stored in page.messages {
                    // A newer value of the same name lies behind the older one.
                    all.insert(stored.raw.subject[wire::STATE.len() + 1..].to_owned(), stored.raw.payload);
                }
            }
        })
    }
}
