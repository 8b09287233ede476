//! Publishes what runs emit: stored with the run's transition, sent in per-run order, noted as published
//! after the bus has it. A repeat after a crash carries the same id.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::SystemClock;
use super::notices::PutAside;
use super::run::OutboxEvent;
use super::shard::Shared;
use crate::bus::{self, Bus, DeadLetter, RawMessage, wire};
use crate::envelope::Event;
use crate::failpoint;
use crate::journal::{Change, OutboxEntry};
use crate::planted;
use crate::time::Clock;

/// Events in one publish: one server takes batches of this size without a pause for their acks.
const BATCH_MAX: usize = 256;
/// Wait after NATS did not take an event; the bus has waited inside already.
const PAUSE: Duration = Duration::from_millis(500);

/// Publishes until the sender has gone.
pub async fn work(
    mut entries: mpsc::UnboundedReceiver<OutboxEntry>,
    bus: Arc<dyn Bus>,
    shared: Arc<Shared>,
    waiting: Arc<AtomicUsize>,
) {
    let mut queue: VecDeque<OutboxEntry> = VecDeque::new();
    loop {
        if queue.is_empty() {
            match entries.recv().await {
                Some(entry) => queue.push_back(entry),
                None => return,
            }
        }
        while queue.len() < BATCH_MAX
            && let Ok(entry) = entries.try_recv()
        {
            queue.push_back(entry);
        }
        waiting.store(queue.len() + entries.len(), Ordering::Relaxed);
        if planted::is("outbox_out_of_order") {
            queue.make_contiguous().reverse();
        }
        failpoint::hit("outbox.before_publish");
        let sent = send(&queue, bus.as_ref(), &shared).await;
        let sent = if planted::is("outbox_counts_what_did_not_leave") { queue.len() } else { sent };
        failpoint::hit("outbox.published");
        let published: Vec<Change> =
            queue.drain(..sent).map(|entry| Change::Published { run: entry.run, number: entry.number }).collect();
        waiting.store(queue.len() + entries.len(), Ordering::Relaxed);
        if sent == 0 {
            tokio::time::sleep(PAUSE).await;
        } else {
            // Not awaited: an entry that is published twice carries the same id.
            let noted = shared.journal.commit(published);
            drop(tokio::spawn(async move {
                if noted.await.is_ok() {
                    failpoint::hit("outbox.noted");
                }
            }));
        }
    }
}

/// Sends what stands in front of the queue; returns how many entries are through.
async fn send(queue: &VecDeque<OutboxEntry>, bus: &dyn Bus, shared: &Shared) -> usize {
    let mut events = Vec::new();
    for entry in queue.iter().take(BATCH_MAX) {
        match serde_json::from_slice::<OutboxEvent>(&entry.event) {
            Ok(OutboxEvent { event, dead: None }) => events.push(event),
            Ok(OutboxEvent { event, dead: Some(why) }) => {
                if !events.is_empty() {
                    break; // the ones in front first: order is per run
                }
                return usize::from(put_aside((bus, shared), entry, Some(&event), "invalid_data", &why).await);
            }
            Err(error) => {
                if !events.is_empty() {
                    break;
                }
                let why = format!("an outbox entry does not read: {error}");
                return usize::from(put_aside((bus, shared), entry, None, "unreadable_outbox_entry", &why).await);
            }
        }
    }
    let mut sent = 0;
    for result in bus.publish(events.clone()).await {
        match result {
            Ok(_) => sent += 1,
            Err(bus::Error::Unavailable(_)) => break,
            Err(bus::Error::Refused(why)) => {
                tracing::error!(error = why, "the bus refuses an emitted event; it goes to dead letters");
                sent +=
                    usize::from(put_aside((bus, shared), &queue[sent], events.get(sent), "refused_by_bus", &why).await);
                break;
            }
        }
    }
    sent
}

async fn put_aside(
    (bus, shared): (&dyn Bus, &Shared),
    entry: &OutboxEntry,
    event: Option<&Event>,
    reason: &'static str,
    detail: &str,
) -> bool {
    let now = SystemClock.now();
    // As it would have been published, so that it can be once its data is corrected.
    let mut raw = match event {
        Some(event) => wire::encode(event),
        None => {
            RawMessage { subject: "events.unreadable".to_owned(), headers: Vec::new(), payload: entry.event.clone() }
        }
    };
    raw.headers.push(("Saga-Run".to_owned(), entry.run.to_string()));
    let subject = raw.subject.clone();
    let letter = DeadLetter {
        raw,
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        pointers: Vec::new(),
        consumer: "outbox".to_owned(),
        stream: "outbox".to_owned(),
        sequence: entry.number,
        attempts: 1,
        first_at: now,
        last_at: now,
    };
    let taken = bus.dead_letter(letter).await.is_ok();
    if taken {
        shared.metrics.dead_letter(reason);
        let put_aside = PutAside {
            reason,
            detail,
            subject: &subject,
            stream: "outbox",
            sequence: entry.number,
            correlation_id: event.and_then(|event| event.correlation_id.as_deref()),
            trace: event.and_then(|event| event.trace.as_ref()),
        };
        shared.notices.put_aside(&put_aside, now);
    }
    taken
}
