//! What must hold when a story is over. Shares nothing with the core: it knows what was promised, what the
//! services did, and what NATS has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstitch::coordinator::Handle;
use backstitch::id::RunId;
use backstitch::journal::{EventKey, InboxState, Journal, StreamPosition};
use backstitch::request::Direction;

use super::services::Seen;
use super::story::Promised;
use super::watch::{ORDER, runs_of};
use super::world::World;

/// Virtual time in which everything comes to rest once faults stop: locks of 12 orders with waits of 90 s
/// each, are half an hour.
const REST: Duration = Duration::from_secs(4 * 3_600);

fn expected(promised: &Promised) -> BTreeSet<RunId> {
    let mut runs = promised.starts.clone();
    for event in promised.events.values() {
        runs.extend(runs_of(event));
    }
    runs
}

/// Waits until every promised run is at rest and nothing is left to deliver or to publish.
pub async fn until_rest(world: &Arc<World>, promised: &Arc<Mutex<Promised>>, handle: &Handle) {
    let runs = expected(&promised.lock().unwrap());
    let rest = async {
        loop {
            let mut open = 0;
            for run in &runs {
                let view = handle.show(*run).await.unwrap();
                open +=
                    usize::from(!view.is_some_and(|view| matches!(view.state.as_str(), "completed" | "compensated")));
            }
            let orders = world.bus.messages();
            let is_order = |sequence: &u64| orders[*sequence as usize - 1].subject == format!("events.{ORDER}");
            if open == 0 && !world.bus.unacknowledged().iter().any(is_order) && world.journal().held() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    };
    if tokio::time::timeout(REST, rest).await.is_err() {
        for run in runs {
            match handle.show(run).await.unwrap() {
                None => world.wrong(format!("14: run {run} was promised and never began")),
                Some(view) if matches!(view.state.as_str(), "completed" | "compensated") => {}
                Some(view) => world.wrong(format!("1: {} {run} rests nowhere: {}", view.saga, view.state)),
            }
        }
        world.wrong(format!("1: not everything came to rest; unacknowledged {:?}", world.bus.unacknowledged()));
        return;
    }
    // The last events leave.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut ends = BTreeMap::new();
    for run in runs {
        if let Some(view) = handle.show(run).await.unwrap() {
            world.count(if view.state == "completed" { "completed" } else { "compensated" });
            if promised.lock().unwrap().cancels.contains(&run) && view.state != "compensated" {
                world.wrong(format!("22: run {run} was cancelled and is {}", view.state));
            }
            ends.insert(run, (view.saga, view.state));
        }
    }
    effects(world, &ends);
    events(world, &ends);
}

/// 4a, 4b: what stands fits the end.
fn effects(world: &World, ends: &BTreeMap<RunId, (String, String)>) {
    let services = world.services.lock().unwrap();
    for ((run, step), effect) in &services.effects {
        if effect.done > 1 {
            world.wrong(format!("8: {step} of run {run} was done {} times", effect.done));
        }
        let Some((_, state)) = ends.get(&run.parse().unwrap()) else {
            world.wrong(format!("14: {step} was done for run {run}, which nobody asked for"));
            continue;
        };
        let stands = effect.done - effect.undone;
        // `note` has no undo: where it is in doubt it may stand.
        let may_stand = step == "note" && state == "compensated" && stands <= 1;
        if stands != u32::from(state == "completed") && !may_stand {
            world.wrong(format!("4: run {run} ended {state} and {step} stands {stands} times"));
        }
    }
    for (run, (saga, state)) in ends {
        let steps: &[&str] = if saga == "order" { &["reserve", "charge", "ship"] } else { &["note"] };
        for step in steps.iter().filter(|_| state == "completed") {
            if !services.effects.contains_key(&(run.to_string(), (*step).to_owned())) {
                world.wrong(format!("4b: run {run} ended completed without {step}"));
            }
        }
    }
}

/// 13: every event of every run, the first copies in its order.
fn events(world: &World, ends: &BTreeMap<RunId, (String, String)>) {
    let mut told: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for event in world.bus.events() {
        if let Some(run) = event.extensions.get("sagarun") {
            let told = told.entry(run.clone()).or_default();
            let one = (event.event_type.to_string(), event.id.clone());
            if !told.contains(&one) {
                told.push(one);
            }
        }
    }
    for (run, (saga, state)) in ends {
        let announced: &[&str] = match (saga.as_str(), state.as_str()) {
            ("order", "completed") => &["order.shipped.v1", "order.fulfilled.v1"],
            ("order", _) => &["order.rejected.v1"],
            (_, "completed") => &["order.noted.v1"],
            _ => &[],
        };
        let found: Vec<&str> =
            told.get(&run.to_string()).into_iter().flatten().map(|(kind, _)| kind.as_str()).collect();
        if found != announced {
            world.wrong(format!("13: run {run} of {saga} ended {state} and told {found:?}"));
        }
    }
}

/// What needs no process.
pub fn at_the_end(world: &World, promised: &Promised) {
    dead_letters(world, promised);
    inbox(world);
    let services = world.services.lock().unwrap();
    let mut by_effect: BTreeMap<(&str, &str, Direction), Vec<&Seen>> = BTreeMap::new();
    let mut by_run: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for call in &services.calls {
        by_effect.entry((&call.run, &call.step, call.direction)).or_default().push(call);
        by_run.entry(&call.run).or_default().insert((&call.trace, &call.correlation));
    }
    definitions(world, &services.calls);
    for (run, traces) in by_run {
        if traces.len() > 1 {
            world.wrong(format!("20: run {run} has {} traces or correlation ids", traces.len()));
        }
    }
    for ((run, step, direction), calls) in &by_effect {
        let keys: BTreeSet<&str> = calls.iter().map(|call| call.key.as_str()).collect();
        if keys.len() > 1 {
            world.wrong(format!("8: {step} {} of run {run} had {} keys", direction.as_str(), keys.len()));
        }
        for pair in calls.windows(2) {
            pace(world, run, step, pair[0], pair[1]);
        }
    }
    locks(world, &services.calls);
}

/// 17: every call of a run, in whatever life, is of the version that it began with.
fn definitions(world: &World, calls: &[Seen]) {
    let mut versions: BTreeMap<&str, &str> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.step != "note") {
        let version = call.target.split('/').nth(1).unwrap_or_default();
        let first = *versions.entry(&call.run).or_insert(version);
        if first != version {
            world.wrong(format!(
                "17: run {} began with {first} and calls {} in life {}",
                call.run, call.target, call.life
            ));
        }
        if version == "v2" && call.life < world.upgraded_in {
            world.wrong(format!("17: run {} has a version that is not there yet", call.run));
        }
    }
    world.counts("runs of the second version", versions.values().filter(|version| **version == "v2").count());
}

/// 11: a repeat waits for its back-off and for what the service asked for. Over a restart an attempt that
/// was cut off is repeated at once.
fn pace(world: &World, run: &str, step: &str, first: &Seen, second: &Seen) {
    let Some((answered, asked)) = first.answered else { return };
    if first.life != second.life || world.rates.jump > 0 {
        return;
    }
    let waited = second.sent.since(answered).0;
    if waited < asked.max(500) {
        world
            .wrong(format!("11: {step} of run {run} was repeated after {waited} ms where {} were due", asked.max(500)));
    }
}

/// 16: what is no event, or cannot start what it should, is put aside with its reason.
fn dead_letters(world: &World, promised: &Promised) {
    let letters = world.bus.dead_letters();
    for sequence in &promised.poison {
        if !letters.iter().any(|letter| letter.sequence == *sequence && letter.reason == "invalid_event") {
            world.wrong(format!("16: message {sequence} is no event and was not put aside"));
        }
    }
    for id in promised.conflicts.iter().filter(|id| promised.events.contains_key(*id)) {
        let aside = letters.iter().any(|letter| {
            let named = letter.raw.headers.iter().any(|(name, value)| name == "ce-id" && value == id);
            named && letter.reason == "key_conflict"
        });
        if !aside {
            world.wrong(format!("16: event {id} has a key with other input and was not put aside"));
        }
    }
    for letter in &letters {
        if letter.reason != "invalid_event" && letter.reason != "key_conflict" {
            world.wrong(format!("16: put aside for {}: {}", letter.reason, letter.detail));
        }
    }
}

/// 23: an acknowledged event leaves no open mark, and no gap in the stream (issue 3).
fn inbox(world: &World) {
    let journal = world.journal();
    for (sequence, raw) in (1..).zip(world.bus.messages()) {
        let Ok(event) = backstitch::bus::wire::decode(&raw) else { continue };
        if event.event_type.as_str() != ORDER || world.bus.unacknowledged().contains(&sequence) {
            continue;
        }
        let key = EventKey { source: event.source.clone(), id: event.id.clone() };
        let position = StreamPosition { stream: "EVENTS".into(), created: 1, consumer: "backstitch".into(), sequence };
        let state = journal.inbox(Some(&position), &key);
        if state != InboxState::Complete {
            world.wrong(format!("23: event {} is acknowledged, and the inbox says {state:?}", event.id));
        }
    }
}

/// One run at a time for each customer: no call of another one between a run's first and its last.
fn locks(world: &World, calls: &[Seen]) {
    let mut customers: BTreeMap<u64, Vec<(String, usize, usize)>> = BTreeMap::new();
    for order in 0..40 {
        let run = super::story::run_of(order).to_string();
        let mut places = calls.iter().enumerate().filter(|(_, call)| call.run == run).map(|(at, _)| at);
        if let Some(first) = places.next() {
            let last = places.next_back().unwrap_or(first);
            customers.entry(order % 4).or_default().push((run, first, last));
        }
    }
    for mut spans in customers.into_values() {
        spans.sort_by_key(|(_, first, _)| *first);
        for pair in spans.windows(2) {
            if pair[1].1 < pair[0].2 {
                world.wrong(format!("the lock: run {} began before run {} was over", pair[1].0, pair[0].0));
            }
        }
    }
}
