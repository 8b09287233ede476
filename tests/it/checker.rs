//! One checker for tests of the whole process: reads the services' ledger, the stream and the API, and
//! says what does not fit together. It knows the saga that the rig runs, and nothing of the core.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream;
use backstitch::cli::demo::report::{by_order, duplicates};
use backstitch::cli::participant::{Report, Service};
use backstitch::id::RunId;
use backstitch::request::Direction;
use futures_util::{StreamExt, TryStreamExt};

use crate::rig::{Rig, until};

/// What each run came to: order → (run, end).
pub type Ends = BTreeMap<String, (RunId, String)>;

/// Says what is wrong; empty when all is well.
pub async fn wrong(rig: &Rig, ends: &Ends) -> Vec<String> {
    // The outbox may still be at it: what is missing now is looked for again.
    let told = until("every end is told", async || {
        let told = told(rig).await;
        ends.values().all(|(run, end)| told.get(run).is_some_and(|told| *told == announced(end))).then_some(told)
    })
    .await;
    let ledger = rig.participants.ledger().await.unwrap();
    let mut wrong = duplicates(&ledger);
    wrong.extend(effects(&ledger, ends));
    wrong.extend(keys(&ledger));
    wrong.extend(traces(&ledger));
    wrong.extend(history(rig, ends).await);
    for (run, kinds) in told {
        if !ends.values().any(|(known, _)| *known == run) {
            wrong.push(format!("13: {kinds:?} was told of run {run}, which nobody started"));
        }
    }
    wrong
}

/// What a run of the rig's saga tells when it has ended so.
fn announced(end: &str) -> &'static [&'static str] {
    match end {
        "completed" => &["events.order.shipped.v1", "events.order.fulfilled.v1"],
        "compensated" => &["events.order.rejected.v1"],
        _ => &[],
    }
}

/// 4a, 4b: what stands with the services fits the ends.
fn effects(ledger: &Report, ends: &Ends) -> Vec<String> {
    let orders = by_order(ledger);
    let mut wrong = Vec::new();
    for (order, (_, end)) in ends {
        let effects = orders.get(order).map(|line| line.effects.clone()).unwrap_or_default();
        for service in Service::ALL {
            let (done, undone) = effects.get(&service).copied().unwrap_or_default();
            let stands = i64::from(done) - i64::from(undone);
            if stands != i64::from(end == "completed") {
                wrong.push(format!("4: order {order} ended {end}, and {} stands {stands} times", service.as_str()));
            }
        }
    }
    let unknown = orders.keys().filter(|order| !ends.contains_key(*order));
    wrong.extend(unknown.map(|order| format!("4: the services know order {order}, which nobody started")));
    wrong
}

/// 8: one key for each (run, step, direction), over all lives; no key for two of them.
pub fn keys(ledger: &Report) -> Vec<String> {
    let mut by_effect: BTreeMap<(&str, &str, Direction), BTreeSet<&str>> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for arrival in ledger.arrivals.iter().filter(|arrival| arrival.direction != Direction::Check) {
        let key = arrival.key.as_deref().expect("every call carries a key");
        by_effect.entry((&arrival.run, &arrival.step, arrival.direction)).or_default().insert(key);
        by_key.entry(key).or_default().insert((&arrival.run, &arrival.step));
    }
    let changed = by_effect.iter().filter(|(_, keys)| keys.len() > 1);
    let shared = by_key.iter().filter(|(_, effects)| effects.len() > 1);
    changed
        .map(|((run, step, _), _)| format!("8: the key of {step} of run {run} changed over a restart"))
        .chain(shared.map(|(key, effects)| format!("8: {effects:?} share the key {key}")))
        .collect()
}

/// 20: one trace and one correlation id for each run, over all lives.
pub fn traces(ledger: &Report) -> Vec<String> {
    let mut by_run: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for arrival in &ledger.arrivals {
        let trace = arrival.traceparent.as_deref().and_then(|text| text.get(3..35)).expect("every call has a trace");
        let correlation = arrival.correlation_id.as_deref().expect("every call has a correlation id");
        by_run.entry(&arrival.run).or_default().insert((trace, correlation));
    }
    let broken = by_run.iter().filter(|(_, pairs)| pairs.len() > 1);
    broken.map(|(run, _)| format!("20: the trace of run {run} broke over a restart")).collect()
}

/// 10: the history that the API reads from the journal is gapless and says the same end as the run.
async fn history(rig: &Rig, ends: &Ends) -> Vec<String> {
    let mut wrong = Vec::new();
    for (order, (run, end)) in ends {
        // Runs whose retention has passed have none: stream and services tell of them.
        let Ok(view) = rig.orchestrator.client.run(*run).await else { continue };
        let Ok(history) = rig.orchestrator.client.history(*run).await else { continue };
        if view.state != *end {
            wrong.push(format!("2: order {order} ended {end} and is {}", view.state));
        }
        if history.is_empty() || !history.iter().zip(0..).all(|(entry, n)| entry.sequence == n) {
            wrong.push(format!("10: the history of order {order} has gaps"));
        }
    }
    wrong
}

/// 13: what the stream holds of each run, the first copies in order.
async fn told(rig: &Rig) -> BTreeMap<RunId, Vec<String>> {
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("EVENTS").await.unwrap();
    let count = stream.cached_info().state.messages;
    let config = jetstream::consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let all: Vec<_> = messages.take(usize::try_from(count).unwrap()).try_collect().await.unwrap();
    let mut told: BTreeMap<RunId, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in all {
        let header = |name: &str| {
            message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str().to_owned())
        };
        let Some(run) = header("ce-sagarun") else { continue };
        if seen.insert(header("ce-id")) {
            told.entry(run.parse().unwrap()).or_default().push(message.subject.to_string());
        }
    }
    told
}

/// Returns how many messages were put aside, by reason.
pub async fn dead_letters(rig: &Rig) -> u64 {
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    jetstream::new(client).get_stream("DEAD_LETTERS").await.unwrap().cached_info().state.messages
}
