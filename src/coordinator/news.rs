//! Tells whoever watches what has become durable. Costs nothing while nobody does.

use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::describe;
use super::run::Run;
use super::view::RunNews;
use crate::id::RunId;
use crate::saga::Fact;
use crate::time::Timestamp;

/// Entries a slow watcher may lag behind before it misses some: a second of a busy process.
const LAG_MAX: usize = 16_384;

pub struct News(broadcast::Sender<RunNews>);

impl News {
    pub fn new() -> Self {
        Self(broadcast::channel(LAG_MAX).0)
    }

    /// Publishes the facts of one transition.
    pub fn publish(&self, run: &Run, facts: &[Fact], at: Timestamp) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let begun = &run.state.begun;
        let first = run.state.facts - facts.len() as u64;
        for (behind, fact) in (0_u64..).zip(facts) {
            let news = RunNews {
                run: begun.run,
                saga: begun.saga.to_string(),
                key: begun.key.clone(),
                state: run.state.state().as_str().to_owned(),
                entry: describe::entry(&run.definition, first + behind, at, fact),
            };
            let _ = self.0.send(news);
        }
    }

    /// Follows one run or all of them.
    pub fn watch(&self, run: Option<RunId>) -> BoxStream<'static, RunNews> {
        BroadcastStream::new(self.0.subscribe())
            .filter_map(move |news| async move { news.ok().filter(|news| run.is_none_or(|run| run == news.run)) })
            .boxed()
    }
}
