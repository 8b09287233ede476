//! Runs that were not sampled and end badly: their spans are made afterwards from the journal, so that
//! the trace that somebody will ask for is there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, Weak};

use tokio::sync::mpsc;

use super::recovery;
use super::run::{Move, Run};
use super::shard::Shared;
use crate::id::RunId;
use crate::saga::{Fact, SagaState};

/// Runs waiting to be told. More at once means that something is badly wrong for all of them: the first
/// thousand show it, the others are counted as dropped.
const QUEUE_LEN: usize = 1_024;

/// The queue, and which open runs are told live from here on.
pub struct Late {
    queue: mpsc::Sender<RunId>,
    told: Mutex<BTreeSet<RunId>>,
}

impl Late {
    pub fn new() -> (Self, mpsc::Receiver<RunId>) {
        let (queue, waiting) = mpsc::channel(QUEUE_LEN);
        (Self { queue, told: Mutex::default() }, waiting)
    }

    /// Looks at a move of a run that is not sampled. True when the run has been told already, so that
    /// this move is to be told like one of a sampled run.
    pub fn takes_over(&self, run: &Run, moved: &Move) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = if run.state.end.is_some() { told.remove(&run.id()) } else { told.contains(&run.id()) };
        let bad = |fact: &Fact| matches!(fact, Fact::Parked { .. } | Fact::RunEnded { completed: false, .. });
        if !known && moved.facts.iter().any(bad) && self.queue.try_send(run.id()).is_ok() && run.state.end.is_none() {
            told.insert(run.id());
        }
        known
    }
}

/// Tells the runs that come, until the coordinator has gone.
pub async fn work(mut waiting: mpsc::Receiver<RunId>, shared: Weak<Shared>) {
    while let Some(run) = waiting.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        let told = tokio::task::spawn_blocking(move || tell(run, &shared)).await;
        if let Ok(Err(why)) = told {
            tracing::warn!(%run, error = why, "the spans of a run that ended badly could not be made afterwards");
        }
    }
}

/// Reads a run's facts and makes the span of each.
fn tell(run: RunId, shared: &Shared) -> Result<(), String> {
    let facts = shared.journal.history(run).map_err(|error| error.to_string())?;
    let base = |child| base(shared, child);
    recovery::replay(
        |fingerprint| shared.definition(fingerprint),
        facts,
        0,
        base,
        |run, fact, launched_at, at| {
            shared.spans.tell_one(run, fact, launched_at, at);
        },
    )
    .map(drop)
}

/// Reads back the child that a run undoes.
pub fn base(shared: &Shared, child: RunId) -> Option<SagaState> {
    let facts = shared.journal.history(child).ok()?;
    // What undoes a child is no child that is undone.
    let find = |fingerprint| shared.definition(fingerprint);
    recovery::replay(find, facts, 0, |_| None, |_, _, _, _| {}).ok().map(|run| run.state)
}
