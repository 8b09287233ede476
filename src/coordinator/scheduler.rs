//! Starts sagas by the clock. Each moment of a schedule is a run with a key of its own, made from the moment:
//! whoever looks again, after a crash or a clock that was put back, finds that it has been.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::json;

use super::catalogue::Entry;
use super::handle::{Handle, Inner, KeyedStart, StartError};
use super::inbox::EventScope;
use crate::definition::schedule::{CatchUp, Schedule};
use crate::expression::Place;
use crate::id::RunId;
use crate::payload::Payload;
use crate::time::{Span, Timestamp};

/// The clock may jump, and schedules may be loaded anew: so often somebody looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Without `catch_up` a moment that lies further back was missed.
const LATE_MAX: Span = Span::from_secs(60);
/// Moments that `catch_up` looks back over, at most.
const CATCH_UP_MAX: usize = 1_000;
/// A start that is refused for lack of room is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Works until the coordinator is gone.
pub(super) async fn work(handle: Weak<Inner>) {
    // The last moment that was dealt with, by saga, place in `on`, and rhythm.
    let mut seen: BTreeMap<(String, usize, String), Timestamp> = BTreeMap::new();
    loop {
        let Some(now_handle) = handle.upgrade().map(Handle::of) else { return };
        let catalogue = now_handle.0.catalogue.get();
        for entry in catalogue.by_clock() {
            for (at, schedule) in entry.definition.schedules.iter().enumerate() {
                let name = (entry.definition.name.to_string(), at, schedule.rhythm.to_string());
                let now = now_handle.0.shared.clock.now();
                let last = match seen.get(&name) {
                    Some(last) => *last,
                    None => caught_up(&now_handle, entry, at, schedule, now).await,
                };
                let last = fire_due(&now_handle, entry, at, schedule, last, now).await;
                seen.insert(name, last);
            }
        }
        let now = now_handle.0.shared.clock.now();
        let next = catalogue.by_clock().flat_map(|entry| &entry.definition.schedules);
        let next = next.filter_map(|schedule| schedule.rhythm.next_after(now)).min();
        let wait = next.map_or(LOOK_EVERY, |next| Duration::from_millis(next.since(now).0)).min(LOOK_EVERY);
        drop(now_handle);
        tokio::time::sleep(wait).await;
    }
}

/// Starts what is due since the last moment; returns the last one dealt with.
async fn fire_due(
    handle: &Handle,
    entry: &Entry,
    at: usize,
    schedule: &Schedule,
    mut last: Timestamp,
    now: Timestamp,
) -> Timestamp {
    while let Some(next) = schedule.rhythm.next_after(last).filter(|next| *next <= now) {
        let missed = schedule.catch_up == CatchUp::None && now.since(next) > LATE_MAX;
        if missed {
            tracing::warn!(saga = %entry.definition.name, moment = %next, "a moment of a schedule was missed");
            let newest = schedule.rhythm.last_before(now.plus(Span(1))).unwrap_or(next);
            last = if now.since(newest) > LATE_MAX { newest } else { Timestamp(newest.0 - 1) };
            continue;
        }
        if !fire(handle, entry, at, schedule, next).await {
            return last; // no room at the moment: it stays due
        }
        last = next;
    }
    last
}

/// Decides where a schedule that is seen for the first time begins: with what was missed, or now.
async fn caught_up(handle: &Handle, entry: &Entry, at: usize, schedule: &Schedule, now: Timestamp) -> Timestamp {
    if schedule.catch_up == CatchUp::None {
        return now;
    }
    let mut missed = Vec::new();
    let mut moment = now.plus(Span(1));
    while missed.len() < CATCH_UP_MAX {
        let Some(before) = schedule.rhythm.last_before(moment) else { break };
        let Ok(firing) = firing(entry, at, schedule, before) else { break };
        if handle.has_been(firing.run).await {
            // The last one that ran. What came behind it was missed.
            return match schedule.catch_up {
                CatchUp::One => missed.first().map_or(now, |newest: &Timestamp| Timestamp(newest.0 - 1)),
                CatchUp::All | CatchUp::None => before,
            };
        }
        missed.push(before);
        moment = before;
    }
    now // it has never run, or too long ago to say
}

fn firing(entry: &Entry, at: usize, schedule: &Schedule, moment: Timestamp) -> Result<KeyedStart, String> {
    let saga = &entry.definition.name;
    let (source, time) = (format!("/sagas/{saga}/on/{at}"), moment.to_string());
    let event = Payload::of(&json!({
        "specversion": "1.0",
        "id": time,
        "source": source,
        "type": "schedule",
        "time": time,
        "data": { "time": time },
    }));
    let scope = EventScope { event: event.clone() };
    let key = match &schedule.key {
        None => format!("{source}#{time}"),
        Some(key) => match key.eval(&scope, Place::Plain) {
            Ok(key) => key.ok_or_else(|| "the key is null".to_owned())?,
            Err(error) => return Err(format!("key: {error}")),
        },
    };
    let input = match &schedule.input {
        None => Payload::of(&json!({ "time": time })),
        Some(input) => input.eval(&scope).map_err(|error| format!("input: {error}"))?,
    };
    Ok(KeyedStart { run: RunId::keyed(saga, &key), key, event, input, causation_id: None })
}

/// Starts the run of a moment. False when there is no room for it now.
async fn fire(handle: &Handle, entry: &Entry, at: usize, schedule: &Schedule, moment: Timestamp) -> bool {
    let saga = &entry.definition.name;
    let told = match firing(entry, at, schedule, moment) {
        Err(why) => Err(why),
        Ok(firing) => match handle.start_keyed(entry, firing, None).await {
            Ok(_) => Ok(()),
            Err(StartError::Unavailable { reason }) => {
                tracing::warn!(%saga, %moment, %reason, "a schedule waits until runs are taken again");
                tokio::time::sleep(AGAIN).await;
                return false;
            }
            Err(error) => Err(error.to_string()),
        },
    };
    if let Err(why) = told {
        tracing::error!(%saga, %moment, why, "a schedule could not start its saga");
    }
    true
}

impl Handle {
    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// True when a run is open or has ended.
    async fn has_been(&self, run: RunId) -> bool {
        let known = self.0.shared.journal.tombstone(run).ok().flatten().is_some();
        known || self.show(run).await.is_ok_and(|view| view.is_some())
    }
}
