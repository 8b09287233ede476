//! Server-sent events: one run from its first fact to its end, or all runs from now on.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::body::Segment;
use super::problem::ApiError;
use super::routes::Api;
use super::runs::{is_final, parse_id};
use crate::coordinator::view::{HistoryEntry, RunNews, RunView};
use crate::id::RunId;

/// Below the idle time of common proxies (60 s), so that a quiet stream stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries made ready ahead of a slow reader; the coordinator drops what does not fit behind it.
const AHEAD: usize = 64;

/// `GET /api/v1/stream`: `fact` events of all runs from now on.
pub async fn all(State(api): State<Api>) -> Response {
    let stopping = api.stopping.clone();
    let events = api.handle.watch(None).map(|news| fact(&news)).take_until(stopping.cancelled_owned());
    answer(events)
}

/// `GET /api/v1/runs/{id}/stream`: every `fact` from the first, or behind `Last-Event-ID`; `end` with
/// the whole run when it has completed or been compensated.
pub async fn run(State(api): State<Api>, Segment(id): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let run = parse_id(&id)?;
    // Watch first, read afterwards: what happens in between is in both, and told once.
    let news = api.handle.watch(Some(run));
    let Some(view) = api.handle.show(run).await.map_err(|problem| ApiError::internal(&problem))? else {
        return Err(ApiError::no_run(run));
    };
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let next = last.map_or(0, |last| last.saturating_add(1));
    let (sender, receiver) = mpsc::channel(AHEAD);
    let stopping = api.stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            // Ends with an error when the reader has gone: nothing is left to do then.
            _ = follow(api, run, view, next, news, sender) => {}
        }
    });
    Ok(answer(ReceiverStream::new(receiver)))
}

struct Gone;

async fn follow(
    api: Api,
    run: RunId,
    view: RunView,
    mut next: u64,
    mut news: BoxStream<'static, RunNews>,
    sender: mpsc::Sender<Event>,
) -> Result<(), Gone> {
    let told = |entry: HistoryEntry, state: &str| {
        fact(&RunNews { run, saga: view.saga.clone(), key: view.key.clone(), state: state.to_owned(), entry })
    };
    let mut state = view.state.clone();
    let mut catch_up = true;
    loop {
        if catch_up {
            let history = api.handle.history(run).await.ok().flatten().unwrap_or_default();
            let from = next;
            for entry in history.into_iter().skip_while(|entry| entry.sequence < from) {
                next = entry.sequence + 1;
                sender.send(told(entry, &state)).await.map_err(|_| Gone)?;
            }
        }
        if is_final(&state) {
            break;
        }
        // A stream that ends while the run goes on is a coordinator that stops.
        let item = tokio::select! {
            item = news.next() => item,
            () = sender.closed() => return Err(Gone),
        };
        let Some(item) = item else { return Ok(()) };
        state.clone_from(&item.state);
        // After a gap (this reader was too slow) the history has it all; and an entry's state is that after
        // its whole commit, so the last ones may still be on their way when it is final.
        catch_up = item.entry.sequence > next || is_final(&state);
        if item.entry.sequence == next {
            next += 1;
            sender.send(fact(&item)).await.map_err(|_| Gone)?;
        }
    }
    let view = api.handle.show(run).await.ok().flatten().unwrap_or(view);
    let end = Event::default().event("end").data(serde_json::to_string(&view).unwrap_or_default());
    sender.send(end).await.map_err(|_| Gone)
}

fn fact(news: &RunNews) -> Event {
    let data = serde_json::to_string(news).unwrap_or_default();
    Event::default().event("fact").id(news.entry.sequence.to_string()).data(data)
}

fn answer(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = events.map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
