//! Shows a run as it happens: one line for each fact, with the time since the run began. Reads the
//! history again and again, so that a restart of the orchestrator in between is only a pause.

use owo_colors::OwoColorize;

use crate::cli::client::Client;
use crate::coordinator::view::{HistoryEntry, RunView};
use crate::id::RunId;

/// Follows one run.
pub struct Story<'a> {
    client: &'a Client,
    run: RunId,
    /// Names of the facts shown so far.
    pub facts: Vec<String>,
    began_ms: Option<i64>,
}

impl<'a> Story<'a> {
    /// Follows a run that need not exist yet.
    #[must_use]
    pub fn new(client: &'a Client, run: RunId) -> Self {
        Self { client, run, facts: Vec::new(), began_ms: None }
    }

    /// Shows what is new, and returns the run when it can be read.
    pub async fn look(&mut self) -> Option<RunView> {
        let view = self.client.run(self.run).await.ok()?;
        // Read after the view, so that an ended run's last fact is among them.
        let history = self.client.history(self.run).await.ok()?;
        for entry in history.iter().skip(self.facts.len()) {
            self.show(entry);
        }
        self.facts.extend(history.into_iter().skip(self.facts.len()).map(|entry| entry.fact));
        Some(view)
    }

    fn show(&mut self, entry: &HistoryEntry) {
        let at_ms = entry.at.parse::<jiff::Timestamp>().map_or(0, |at| at.as_millisecond());
        let since_ms = at_ms.saturating_sub(*self.began_ms.get_or_insert(at_ms)).max(0);
        let time = format!("{:>4}.{:03} s", since_ms / 1_000, since_ms % 1_000);
        let text = &entry.text;
        match entry.fact.as_str() {
            "attempt_interrupted" | "settling_began" | "parked" | "check_started" | "check_ended" => {
                anstream::println!("  {}  {}", time.dimmed(), text.yellow());
            }
            "undo_began" | "undo_started" | "undo_ended" => {
                anstream::println!("  {}  {}", time.dimmed(), text.magenta());
            }
            "step_ended" | "event_emitted" => anstream::println!("  {}  {}", time.dimmed(), text.green()),
            "lock_wanted" | "lock_granted" => anstream::println!("  {}  {}", time.dimmed(), text.dimmed()),
            "run_ended" => anstream::println!("  {}  {}", time.dimmed(), text.bold()),
            _ => anstream::println!("  {}  {}", time.dimmed(), text),
        }
    }

    /// Returns how often a fact has been shown.
    #[must_use]
    pub fn count(&self, fact: &str) -> usize {
        self.facts.iter().filter(|name| *name == fact).count()
    }
}
