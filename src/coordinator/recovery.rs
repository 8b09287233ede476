//! Open runs come back: facts from the journal make the states, and every attempt that was in flight
//! counts as cut off.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::run::Run;
use super::spans::Spans;
use crate::definition::{self, SagaDefinition, ServiceInfo};
use crate::id::{Fingerprint, RunId, ServiceName};
use crate::journal::OpenRun;
use crate::planted;
use crate::saga::{self, Fact, LockState, SagaState};
use crate::time::Timestamp;

/// Definitions by fingerprint: the loaded ones, and those that only runs in flight use.
pub struct Definitions {
    known: BTreeMap<Fingerprint, Arc<SagaDefinition>>,
    sources: BTreeMap<Fingerprint, Arc<str>>,
    /// The configuration's services: a stored definition's steps take their timeouts.
    services: BTreeMap<ServiceName, ServiceInfo>,
}

impl Definitions {
    pub fn new(
        loaded: impl Iterator<Item = Arc<SagaDefinition>>,
        sources: BTreeMap<Fingerprint, Arc<str>>,
        services: BTreeMap<ServiceName, ServiceInfo>,
    ) -> Self {
        Self { known: loaded.map(|definition| (definition.fingerprint, definition)).collect(), sources, services }
    }

    /// True for a definition that is loaded or stored.
    pub fn knows(&self, fingerprint: Fingerprint) -> bool {
        self.known.contains_key(&fingerprint) || self.sources.contains_key(&fingerprint)
    }

    /// Adds definitions that were loaded later, and the services as they are by then.
    pub fn add(&mut self, loaded: Vec<Arc<SagaDefinition>>, services: BTreeMap<ServiceName, ServiceInfo>) {
        self.known.extend(loaded.into_iter().map(|definition| (definition.fingerprint, definition)));
        self.services = services;
    }

    /// Finds a definition, reading a stored one anew when it is not loaded.
    ///
    /// # Errors
    /// One line: what is missing or does not read.
    pub fn get(&mut self, fingerprint: Fingerprint) -> Result<Arc<SagaDefinition>, String> {
        if let Some(known) = self.known.get(&fingerprint) {
            return Ok(Arc::clone(known));
        }
        let source = self
            .sources
            .get(&fingerprint)
            .ok_or_else(|| format!("its saga definition {fingerprint} is not in the journal"))?;
        let definition = definition::reload_with("(journal)", source, &self.services).map_err(|found| {
            let first = found.first().map(|found| found.message.clone()).unwrap_or_default();
            format!("its saga definition {fingerprint} does not load any more: {first}")
        })?;
        let definition = Arc::new(definition);
        self.known.insert(fingerprint, Arc::clone(&definition));
        Ok(definition)
    }

    /// The definition itself, but for the mistake that is planted here.
    fn newest_if_planted(&self, own: Arc<SagaDefinition>) -> Arc<SagaDefinition> {
        if !planted::is("restart_takes_the_newest_definition") {
            return own;
        }
        let versions = self.known.values().filter(|known| known.name == own.name);
        versions.max_by_key(|known| known.version).map_or(own, Arc::clone)
    }
}

/// True for a run that undoes a child: it needs the child's state.
pub fn undoes_a_child(open: &OpenRun) -> bool {
    let first = open.facts.first().and_then(|(_, bytes)| saga::decode(bytes).ok());
    matches!(first, Some(Fact::RunStarted(begun)) if begun.undo_of.is_some())
}

/// Rebuilds a run from its facts, owned under the next epoch. `bases` finds the children that are undone.
///
/// # Errors
/// One line that says what does not read; the run stays in the journal as it is.
pub fn rebuild<'a>(
    definitions: &mut Definitions,
    open: OpenRun,
    spans: &Spans,
    spans_since: Timestamp,
    bases: impl Fn(RunId) -> Option<&'a SagaState>,
) -> Result<Run, String> {
    let epoch = open.epoch + u64::from(!planted::is("epoch_stands_still"));
    let base = |child| bases(child).cloned();
    replay(
        |fingerprint| definitions.get(fingerprint).map(|own| definitions.newest_if_planted(own)),
        open.facts,
        epoch,
        base,
        |run, fact, launched_at, at| {
            if at >= spans_since {
                spans.record_again(run, fact, launched_at, at);
            }
        },
    )
}

/// Applies stored facts in order and shows each, with the run as it is behind it and the time at which
/// the attempt that it may end had left. `find` finds the definitions that it had, `base` the child that a run
/// undoes.
///
/// # Errors
/// One line that says what does not read.
pub fn replay(
    mut find: impl FnMut(Fingerprint) -> Result<Arc<SagaDefinition>, String>,
    facts: impl IntoIterator<Item = (Timestamp, bytes::Bytes)>,
    epoch: u64,
    base: impl Fn(RunId) -> Option<SagaState>,
    mut each: impl FnMut(&Run, Fact, Option<Timestamp>, Timestamp),
) -> Result<Run, String> {
    let mut facts = facts.into_iter();
    let (at, first) = facts.next().ok_or("it has no facts")?;
    let first = saga::decode(&first).map_err(|error| error.to_string())?;
    let Fact::RunStarted(begun) = &first else {
        return Err("its first fact is not its start".to_owned());
    };
    let definition = find(begun.definition)?;
    let mut state = match begun.undo_of {
        None => saga::begin(&definition, begun, at),
        Some(child) => {
            let base =
                base(child).ok_or_else(|| format!("the child run {child} that it undoes cannot be read back"))?;
            saga::begin_undo(&definition, begun, &base, at)
        }
    };
    saga::evolve(&definition, &mut state, &first, at);
    let mut run = Run::new(definition, state, epoch);
    each(&run, first, None, at);
    for (at, bytes) in facts {
        let fact = saga::decode(&bytes).map_err(|error| error.to_string())?;
        if let Fact::Migrated { definition, .. } = &fact {
            run.definition = find(*definition)?;
        }
        let launched_at = fact_step(&fact).map(|step| run.state.step(step).launched_at);
        saga::evolve(&run.definition, &mut run.state, &fact, at);
        each(&run, fact, launched_at, at);
    }
    Ok(run)
}

/// Returns the step of a fact that ends an attempt.
pub fn fact_step(fact: &Fact) -> Option<saga::StepAt> {
    match fact {
        Fact::AttemptEnded { step, .. } | Fact::AttemptInterrupted { step, .. } => Some(*step),
        _ => None,
    }
}

/// Returns the order in which runs queue for locks again: holders first, then by start.
pub fn lock_order(run: &Run) -> (bool, Timestamp) {
    (!matches!(run.state.lock, LockState::Held { .. }), run.state.started_at)
}
