//! Moving runs in flight to another version of their saga: one, or all of a saga, with a check before.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::catalogue::Entry;
use super::handle::{Handle, OperateError};
use super::shard::Message;
use super::view::{MigrationPage, MigrationView, RunFilter};
use crate::id::{RunId, SagaName};
use crate::payload::Payload;
use crate::saga::{Input, Migration};

/// Runs looked at in one go.
const PAGE_LEN: usize = 200;

/// Where runs are to move.
#[derive(Debug, Clone)]
pub struct MigrateRequest {
    pub to: u32,
    /// Only says what would be.
    pub check: bool,
    /// The undos of steps that a run has met may be other ones.
    pub new_undo: bool,
    /// Who wants it; kept in the run's history.
    pub by: Option<String>,
}

impl Handle {
    /// Moves a run to another loaded version of its saga, in one journaled step; or says whether it could.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`OperateError`]; that a run cannot move is no error here, the reasons are in the answer.
    pub async fn migrate(&self, run: RunId, request: &MigrateRequest) -> Result<MigrationView, OperateError> {
        let view = self.show(run).await.map_err(|problem| OperateError::Unavailable { reason: problem.title })?;
        let view = view.ok_or(OperateError::NoRun(run))?;
        let saga = SagaName::parse(&view.saga).map_err(|error| OperateError::Conflict(error.to_string()))?;
        let entry = self.version(&saga, request.to)?;
        let answer = |moved, reasons| MigrationView {
            run,
            saga: view.saga.clone(),
            from: view.version,
            to: request.to,
            moved,
            reasons,
        };
        let wanted = Box::new(Migration {
            to: Arc::clone(&entry.definition),
            new_undo: request.new_undo,
            by: request.by.clone(),
        });
        let (reply, obstacles) = oneshot::channel();
        self.0.router.send(run, Message::Obstacles { run, wanted: wanted.clone(), reply });
        // Dropped for a run that is not open.
        let ended = || vec!["the run has ended".to_owned()];
        let mut reasons = obstacles.await.unwrap_or_else(|_| ended());
        reasons.extend(unfit(&entry, &view.input));
        if request.check || !reasons.is_empty() {
            return Ok(answer(false, reasons));
        }
        let (reply, moved) = oneshot::channel();
        self.0.router.send(run, Message::Input { run, input: Input::Migrate(wanted), reply: Some(reply) });
        match moved.await {
            Ok(Ok(_)) => Ok(answer(true, Vec::new())),
            // It has moved on since it was looked at.
            Ok(Err(rejected)) => Ok(answer(false, vec![rejected.to_string()])),
            Err(_) => Ok(answer(false, ended())),
        }
    }

    /// Moves the open runs of a saga that are on other versions, a page at a time, or says which could.
    ///
    /// # Errors
    /// As [`Handle::migrate`]; a conflict for a cursor that is none.
    pub async fn migrate_all(
        &self,
        saga: &str,
        cursor: Option<String>,
        request: &MigrateRequest,
    ) -> Result<MigrationPage, OperateError> {
        let name = SagaName::parse(saga).map_err(|error| OperateError::Conflict(error.to_string()))?;
        self.version(&name, request.to)?;
        let filter = RunFilter { saga: Some(saga.to_owned()), limit: Some(PAGE_LEN), cursor, ..RunFilter::default() };
        let page = self.list(filter).await.map_err(|problem| OperateError::Conflict(problem.title))?;
        let is_open = |state: &str| !matches!(state, "completed" | "compensated");
        // Finished ones come behind the open ones: they end it.
        let all_open = page.runs.iter().all(|run| is_open(&run.state));
        let mut runs = Vec::new();
        for run in page.runs.iter().filter(|run| is_open(&run.state) && run.version != request.to) {
            match self.migrate(run.id, request).await {
                Ok(view) => runs.push(view),
                Err(OperateError::NoRun(_)) => {} // it has ended and gone
                Err(error) => return Err(error),
            }
        }
        Ok(MigrationPage { runs, cursor: page.cursor.filter(|_| all_open) })
    }

    fn version(&self, saga: &SagaName, version: u32) -> Result<Entry, OperateError> {
        let catalogue = self.0.catalogue.get();
        catalogue.find(saga, Some(version)).cloned().ok_or_else(|| {
            let loaded: Vec<String> = catalogue.versions(saga).iter().map(u32::to_string).collect();
            let there_are =
                if loaded.is_empty() { "none is".to_owned() } else { format!("there are: {}", loaded.join(", ")) };
            OperateError::Conflict(format!("migrate: version {version} of {saga} is not loaded; {there_are}"))
        })
    }
}

/// Says what is wrong with a run's input by another version's schema.
fn unfit(entry: &Entry, input: &Payload) -> Vec<String> {
    let violations = entry.input.as_ref().and_then(|check| check(input).err()).unwrap_or_default();
    let version = entry.definition.version;
    violations.iter().map(|(at, why)| format!("its input does not fit version {version}: {at}: {why}")).collect()
}
