//! Replays: events that were taken before, given once more to one target, at a bounded rate. Where a replay
//! is, is kept after each page: after a crash it goes on there, and gives at most one page twice.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::subscription::Incoming;
use super::{Error, Events, offer};
use crate::bus::archive::{Stored, Stream};
use crate::bus::{Acknowledge, Delivery};
use crate::envelope::Event;
use crate::resilience::RatePolicy;

/// Events given and not yet through; what a crash may give twice.
const PAGE_LEN: usize = 64;
/// Replays under way at a time: each holds a page.
const RUNNING_MAX: usize = 16;
/// Ended replays that are shown; older ones stay in the stream of kept values.
const SHOWN_MAX: usize = 1_000;
/// Between two tries while NATS is away.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// The target that means the sagas.
pub const SAGAS: &str = "sagas";

/// What to replay: what `POST /api/v1/replays` takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `sagas`, or the name of a subscription.
    pub target: String,
    /// Event types; none: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<crate::id::EventType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// `start` (default), a sequence, RFC 3339, or a duration back from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last one: `now` (default), a sequence, RFC 3339 or a duration back from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// `100/s` (default), `600/m`, `5000/h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Who asks for it, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// How far a replay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub id: String,
    pub target: String,
    #[serde(flatten)]
    pub choice: Choice,
    /// First and last place in EVENTS.
    pub from: u64,
    pub to: u64,
    pub rate: String,
    /// `running`, `done`, `cancelled` or `failed`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything before this place is through.
    pub next: u64,
    /// Events that were given, and messages that are none.
    pub sent: u64,
    pub skipped: u64,
    /// RFC 3339.
    pub started_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The stream's creation: in a stream made anew the places are others.
    stream_created: u64,
}

impl Replay {
    /// True when nothing more comes.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state != "running"
    }
}

/// Replays by id, those under way with what ends them.
#[derive(Default)]
pub(super) struct Replays {
    all: BTreeMap<String, (Replay, CancellationToken)>,
}

/// How a replay's worker ended a page.
enum Page {
    More,
    Done,
    Failed(String),
}

impl Events {
    /// Begins a replay; it is kept before this returns.
    ///
    /// # Errors
    /// [`Error::Bad`] for a target, place or rate that is none, [`Error::Conflict`] when too many are under
    /// way, [`Error::Unavailable`].
    pub async fn replay(&self, request: Request) -> Result<Replay, Error> {
        self.check_target(&request.target)?;
        let rate = request.rate.as_deref().unwrap_or("100/s");
        rate_of(rate)?;
        if self.replays().all.values().filter(|(replay, _)| !replay.has_ended()).count() >= RUNNING_MAX {
            return Err(Error::Conflict(format!("{RUNNING_MAX} replays are under way; wait for one, or cancel it")));
        }
        let extent = self.0.archive.extent(Stream::Events).await?;
        let from = self.place("from", request.from.as_deref().unwrap_or("start")).await?.max(extent.first);
        let to = match request.to.as_deref() {
            None | Some("now") => extent.last,
            Some(text) if text.parse::<u64>().is_ok() => self.place("to", text).await?.min(extent.last),
            // A time: what was stored before it.
            Some(text) => self.place("to", text).await?.saturating_sub(1).min(extent.last),
        };
        let replay = Replay {
            id: uuid::Uuid::now_v7().simple().to_string(),
            target: request.target,
            choice: Choice { types: request.types, key: request.key, correlation_id: request.correlation_id },
            rate: rate.to_owned(),
            state: "running".to_owned(),
            reason: None,
            next: from,
            sent: 0,
            skipped: 0,
            started_at: self.0.clock.now().to_string(),
            ended_at: None,
            by: request.by,
            stream_created: extent.created,
            from,
            to,
        };
        let about = json!({ "replay": replay.id, "target": replay.target, "choice": replay.choice,
            "from": replay.from, "to": replay.to, "rate": replay.rate });
        self.note("replay", replay.by.as_deref(), None, about).await?;
        self.keep_replay(&replay).await?;
        self.run_replay(replay.clone());
        Ok(replay)
    }

    /// Lists replays, oldest first.
    #[must_use]
    pub fn list_replays(&self) -> Vec<Replay> {
        self.replays().all.values().map(|(replay, _)| replay.clone()).collect()
    }

    /// Returns a replay.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn show_replay(&self, id: &str) -> Result<Replay, Error> {
        let replays = self.replays();
        let found = replays.all.get(id).map(|(replay, _)| replay.clone());
        found.ok_or_else(|| Error::NotFound(format!("no replay `{id}`")))
    }

    /// Ends a replay; what is on its way is still given.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`] for one that has ended.
    pub async fn cancel_replay(&self, id: &str, by: Option<&str>) -> Result<Replay, Error> {
        let replay = self.show_replay(id)?;
        if replay.has_ended() {
            return Err(Error::Conflict(format!("replay {id} is {}", replay.state)));
        }
        self.note("cancel_replay", by, None, json!({ "replay": id })).await?;
        if let Some((_, cancel)) = self.replays().all.get(id) {
            cancel.cancel();
        }
        Ok(replay)
    }

    /// Goes on with what was under way when the process ended.
    pub(super) async fn resume_replays(&self) {
        let kept = loop {
            match self.0.archive.kept("replay.".to_owned()).await {
                Ok(kept) => break kept,
                Err(_) => tokio::time::sleep(AGAIN_PAUSE).await, // NATS is away, and says so elsewhere
            }
        };
        let newest = kept.len().saturating_sub(SHOWN_MAX);
        for (name, value) in kept.into_iter().skip(newest) {
            match serde_json::from_slice::<Replay>(&value) {
                Ok(replay) if replay.has_ended() => {
                    self.replays().all.insert(replay.id.clone(), (replay, CancellationToken::new()));
                }
                Ok(replay) => {
                    tracing::info!(replay = replay.id, next = replay.next, "a replay goes on where it was");
                    self.run_replay(replay);
                }
                Err(error) => tracing::warn!(name, %error, "a kept replay cannot be read"),
            }
        }
    }

    fn run_replay(&self, replay: Replay) {
        let cancel = CancellationToken::new();
        self.replays().all.insert(replay.id.clone(), (replay.clone(), cancel.clone()));
        let this = self.clone();
        tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(async move { this.give_all(replay, cancel).await }));
    }

    async fn give_all(&self, mut replay: Replay, cancel: CancellationToken) {
        let mut pace = Pace::of(&replay.rate);
        loop {
            let ended = if cancel.is_cancelled() {
                Some(("cancelled", None))
            } else {
                match self.give_page(&mut replay, &mut pace, &cancel).await {
                    Ok(Page::More) => None,
                    Ok(Page::Done) => Some(("done", None)),
                    Ok(Page::Failed(why)) => Some(("failed", Some(why))),
                    Err(_) => {
                        tokio::time::sleep(AGAIN_PAUSE).await;
                        continue;
                    }
                }
            };
            if let Some((state, reason)) = &ended {
                replay.state = (*state).to_owned();
                replay.reason.clone_from(reason);
                replay.ended_at = Some(self.0.clock.now().to_string());
                tracing::info!(replay = replay.id, state, sent = replay.sent, reason, "a replay has ended");
            }
            while self.keep_replay(&replay).await.is_err() {
                tokio::time::sleep(AGAIN_PAUSE).await;
            }
            if let Some((shown, _)) = self.replays().all.get_mut(&replay.id) {
                shown.clone_from(&replay);
            }
            if ended.is_some() {
                return;
            }
        }
    }

    /// Gives the next page and waits until all of it is through.
    async fn give_page(&self, replay: &mut Replay, pace: &mut Pace, cancel: &CancellationToken) -> Result<Page, Error> {
        if replay.next > replay.to {
            return Ok(Page::Done);
        }
        let extent = self.0.archive.extent(Stream::Events).await?;
        if extent.created != replay.stream_created {
            return Ok(Page::Failed(
                "the stream EVENTS was made anew; what was to be replayed is not there".to_owned(),
            ));
        }
        let page = self.0.archive.read(Stream::Events, replay.next, replay.choice.subjects(), PAGE_LEN).await?;
        let mut under_way = Vec::with_capacity(PAGE_LEN);
        let mut next = if page.messages.is_empty() { replay.to + 1 } else { page.next };
        for stored in page.messages {
            if stored.sequence > replay.to {
                next = replay.to + 1;
                break;
            }
            if cancel.is_cancelled() {
                next = stored.sequence;
                break;
            }
            match offer::read(&stored, self.0.event_bytes_max) {
                Ok(event) if replay.choice.fits(&event) => {
                    pace.next().await;
                    under_way.push(self.give_once(replay, stored, event).await);
                    replay.sent += 1;
                }
                Ok(_) => {}
                Err(_) => replay.skipped += 1,
            }
        }
        futures_util::future::join_all(under_way).await;
        replay.next = next;
        Ok(if replay.next > replay.to { Page::Done } else { Page::More })
    }

    /// Gives one event to the target; returns what waits until it is through, and gives it again if it is not.
    async fn give_once(&self, replay: &Replay, stored: Stored, event: Event) -> JoinHandle<()> {
        let (this, replay) = (self.clone(), replay.clone());
        let mut through = this.hand(&replay, &stored, &event).await;
        tokio::spawn(async move {
            // None: the process stops; the replay goes on at the next start.
            while let Some(waiting) = through {
                if waiting.await.unwrap_or(false) {
                    return;
                }
                tokio::time::sleep(AGAIN_PAUSE).await;
                through = this.hand(&replay, &stored, &event).await;
            }
            std::future::pending::<()>().await;
        })
    }

    async fn hand(&self, replay: &Replay, stored: &Stored, event: &Event) -> Option<oneshot::Receiver<bool>> {
        let (done, through) = oneshot::channel();
        let handed = if replay.target == SAGAS {
            let delivery = self.delivery(replay, stored, event.clone(), done);
            self.0.replayed.send(delivery).await.is_ok()
        } else {
            let replay_id = Some(replay.id.as_str().into());
            self.give_subscription(
                &replay.target,
                Incoming { stored: stored.clone(), replay: replay_id, done: Some(done) },
            )
            .await
        };
        handed.then_some(through)
    }

    fn delivery(&self, replay: &Replay, stored: &Stored, event: Event, done: oneshot::Sender<bool>) -> Delivery {
        Delivery {
            stream: "EVENTS".into(),
            consumer: self.0.sagas.as_str().into(),
            stream_created: replay.stream_created,
            sequence: stored.sequence,
            delivered: 1,
            published_at: stored.stored_at,
            replay: Some(replay.id.as_str().into()),
            event: Ok(event),
            raw: stored.raw.clone(),
            ack: Box::new(Through(done)),
        }
    }

    async fn keep_replay(&self, replay: &Replay) -> Result<(), Error> {
        let value = serde_json::to_vec(replay).map_err(|error| Error::Bad(error.to_string()))?;
        Ok(self.0.archive.keep(format!("replay.{}", replay.id), value.into()).await?)
    }
}

/// Tells a replay that one of its events is through.
struct Through(oneshot::Sender<bool>);

impl Acknowledge for Through {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        let _ = self.0.send(true);
        Box::pin(std::future::ready(()))
    }

    fn later(self: Box<Self>, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let _ = self.0.send(false);
        })
    }
}

/// Lets events go at a rate, evenly: no burst, as whoever gets them works on what is new beside them.
struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    fn of(rate: &str) -> Self {
        let gap = rate_of(rate).map_or(Duration::from_millis(10), |rate| rate.period.to_std() / rate.count.max(1));
        Self { gap, next: Instant::now() }
    }

    async fn next(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = self.next.max(Instant::now().checked_sub(self.gap).unwrap_or(self.next)) + self.gap;
    }
}

fn rate_of(text: &str) -> Result<RatePolicy, Error> {
    RatePolicy::parse(text).ok_or_else(|| {
        Error::Bad(format!("rate: `{text}` is none; write a count and its time: 100/s, 600/m or 5000/h"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_even() {
        let (mut pace, began) = (Pace::of("10/s"), Instant::now());
        for _ in 0..11 {
            pace.next().await;
        }
        assert_eq!(began.elapsed().as_millis(), 1_000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        for _ in 0..11 {
            pace.next().await;
        }
        assert!(began.elapsed().as_millis() >= 800, "a quiet time gives no burst: {:?}", began.elapsed());
    }
}
