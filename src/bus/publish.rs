//! Publishing with acknowledgement, in order, exactly as often as it takes. One event is a request; several
//! are an atomic batch, which the server stores together, in order, with one sync. Publishers that meet share
//! a batch: while one is being synced the next one gathers, and nobody waits for a timer. Whatever goes wrong
//! with a batch, its events are then sent one at a time with the same ids, so that no later event of a
//! publisher overtakes an earlier one.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::jetstream::Shared;
use super::send::{Outgoing, batch, one, ready};
use super::{Error, Published};

/// Events in one atomic batch. With each write synced the rate grows with it (64: 3,000/s, 256: 8,000/s on a
/// busy machine); the server's limit is 1,000.
const BATCH_LEN: usize = 256;
/// Bytes in one atomic batch: the server keeps it in memory until it is complete.
const BATCH_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Batches under way at a time; the server gives up above 50 per stream.
pub(super) const BATCHES_MAX: usize = 16;

/// Batches gathered from several publishers that are under way at a time: one is synced, one is on its way.
pub(super) const WORKERS: usize = 2;
/// Publishers waiting for a worker; more wait in their own call.
pub(super) const JOBS_LEN: usize = 1_024;

/// What one publisher wants sent.
pub(super) struct Job {
    messages: Vec<Outgoing>,
    reply: oneshot::Sender<Vec<Result<Published, Error>>>,
}

/// Hands messages for the EVENTS stream to the workers; after the first failure the rest repeats its error.
pub(super) async fn publish(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    messages: Vec<Result<Outgoing, Error>>,
) -> Vec<Result<Published, Error>> {
    let total = messages.len();
    let (mut good, mut failed) = (Vec::with_capacity(total), None);
    for message in messages {
        match message {
            Ok(message) => good.push(message),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let mut results = if good.is_empty() { Vec::new() } else { hand_over(shared, jobs, good).await };
    if let Some(Err(error)) = results.iter().find(|result| result.is_err()) {
        failed = Some(error.clone());
    }
    if let Some(error) = failed {
        results.resize(total, Err(error));
    }
    results
}

impl Job {
    /// Returns its messages and their bytes.
    fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.messages.iter().map(|message| message.bytes).sum())
    }
}

async fn hand_over(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    messages: Vec<Outgoing>,
) -> Vec<Result<Published, Error>> {
    if let Err(error) = ready(shared).await {
        return vec![Err(error)];
    }
    let (reply, answer) = oneshot::channel();
    let closed = || vec![Err(Error::Unavailable("the bus is closed".to_owned()))];
    if jobs.send(Job { messages, reply }).await.is_err() {
        return closed();
    }
    answer.await.unwrap_or_else(|_| closed())
}

/// Takes what publishers have handed over, as much as fits a batch, until the bus is dropped.
pub(super) async fn work(shared: Arc<Shared>, jobs: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>) {
    loop {
        let mut taken = Vec::new();
        {
            let mut jobs = jobs.lock().await;
            let Some(first) = jobs.recv().await else { return };
            let mut size = first.size();
            taken.push(first);
            while size.0 < BATCH_LEN
                && size.1 < BATCH_BYTES_MAX
                && let Ok(job) = jobs.try_recv()
            {
                let (messages, bytes) = job.size();
                size = (size.0 + messages, size.1 + bytes);
                taken.push(job);
            }
        }
        together(&shared, taken).await;
    }
}

/// Publishes jobs of several publishers in one batch if that goes, else each by itself.
async fn together(shared: &Shared, jobs: Vec<Job>) {
    let all: Vec<&Outgoing> = jobs.iter().flat_map(|job| &job.messages).collect();
    let bytes: usize = all.iter().map(|message| message.bytes).sum();
    // The last one may have made it larger than was meant.
    if jobs.len() > 1
        && all.len() <= 2 * BATCH_LEN
        && bytes <= 2 * BATCH_BYTES_MAX
        && let Some(published) = batch(shared, &all).await
    {
        let mut published = published.into_iter().map(Ok);
        for job in jobs {
            let results = published.by_ref().take(job.messages.len()).collect();
            let _ = job.reply.send(results); // a publisher that went away needs no answer
        }
        return;
    }
    let alone = jobs.into_iter().map(|job| async move {
        let messages: Vec<&Outgoing> = job.messages.iter().collect();
        let _ = job.reply.send(in_order(shared, &messages).await);
    });
    futures_util::future::join_all(alone).await;
}

/// Publishes in order; the last result is the first error, if there is one.
async fn in_order(shared: &Shared, messages: &[&Outgoing]) -> Vec<Result<Published, Error>> {
    let mut results: Vec<Result<Published, Error>> = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(batch_len(rest));
        rest = behind;
        let batched = if chunk.len() > 1 { batch(shared, chunk).await } else { None };
        if let Some(published) = batched {
            results.extend(published.into_iter().map(Ok));
            continue;
        }
        for message in chunk {
            results.push(one(shared, message).await);
            if results.last().is_some_and(Result::is_err) {
                return results;
            }
        }
    }
    results
}

/// Returns how many of the messages go into the next batch, at least one.
fn batch_len(messages: &[&Outgoing]) -> usize {
    let mut bytes = 0;
    let fits = messages.iter().take(BATCH_LEN).take_while(|message| {
        bytes += message.bytes;
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;

    #[test]
    fn batches_are_bounded() {
        let message = |bytes: usize| {
            let mut message = Outgoing::new(wire::raw("events.a.v1", &[], b"")).unwrap();
            message.bytes = bytes;
            message
        };
        let rows: &[(&str, Vec<usize>, usize)] = &[
            ("few", vec![100; 3], 3),
            ("many", vec![100; 1_000], BATCH_LEN),
            ("large ones", vec![BATCH_BYTES_MAX / 2; 5], 2),
            ("one above the bound still goes", vec![BATCH_BYTES_MAX + 1, 1], 1),
        ];
        for (why, sizes, expected) in rows {
            let messages: Vec<Outgoing> = sizes.iter().map(|bytes| message(*bytes)).collect();
            let messages: Vec<&Outgoing> = messages.iter().collect();
            assert_eq!(batch_len(&messages), *expected, "{why}");
        }
    }
}
