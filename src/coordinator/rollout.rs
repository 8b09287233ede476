//! Which version of a saga a start takes that names none: the newest, or for a share of the starts the one
//! that a rollout names. Kept in the journal; what chooses is the start's own identity, so a start that comes
//! twice chooses the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Entry};
use super::handle::Handle;
use super::view::RolloutView;
use crate::id::{RunId, SagaName};
use crate::journal::Change;
use crate::problem::Problem;

/// What the journal keeps a saga's rollout under.
const SETTING: &str = "rollout/";
/// A share is a whole number of these.
pub const WHOLE: u8 = 100;

/// A share of the starts for one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub version: u32,
    /// 0 to 100.
    pub percent: u8,
    /// RFC 3339.
    pub since: String,
    /// Who says that they did it; nobody checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Why a rollout is not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RolloutError {
    #[error("no saga `{saga}`{hint}")]
    UnknownSaga { saga: String, hint: String },
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{}", .0.title)]
    Journal(Problem),
}

/// Reads what the journal has kept. One that does not read is left out, and said.
pub(super) fn recovered(settings: &BTreeMap<Arc<str>, Arc<str>>) -> BTreeMap<SagaName, Rollout> {
    let mut all = BTreeMap::new();
    for (name, value) in settings {
        let Some(saga) = name.strip_prefix(SETTING) else { continue };
        match (SagaName::parse(saga), serde_json::from_str(value)) {
            (Ok(saga), Ok(rollout)) => drop(all.insert(saga, rollout)),
            _ => tracing::error!(saga, value = &**value, "a rollout does not read; the newest version is started"),
        }
    }
    all
}

/// Returns the place of a start among a hundred: the same for the same run.
pub(super) fn place_of(run: RunId) -> u8 {
    let bytes = run.0.as_bytes();
    let number = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]); // random in every kind of id
    u8::try_from(number % u32::from(WHOLE)).unwrap_or_default()
}

/// Returns the place of an event's start of a saga. Its run's key is worked out by a version, so it cannot be
/// what chooses the version.
pub(super) fn place_of_event(saga: &SagaName, source: &str, id: &str) -> u8 {
    place_of(RunId::keyed(saga, &format!("{source}#{id}")))
}

impl Rollout {
    /// Returns the version for a place among a hundred, where both are loaded.
    pub(super) fn pick<'a>(&self, versions: &'a BTreeMap<u32, Entry>, place: u8) -> Option<&'a Entry> {
        let named = versions.get(&self.version)?;
        let other = versions.iter().rev().find(|(version, _)| **version != self.version).map(|(_, entry)| entry);
        Some(if place < self.percent { named } else { other.unwrap_or(named) })
    }
}

impl Handle {
    /// Shows a saga's rollout; none when every start takes the newest version.
    ///
    /// # Errors
    /// [`RolloutError::UnknownSaga`].
    pub fn rollout(&self, saga: &str) -> Result<Option<RolloutView>, RolloutError> {
        let catalogue = self.0.catalogue.get();
        let name = known(&catalogue, saga)?;
        Ok(catalogue.rollouts().get(&name).map(|rollout| view(&catalogue, &name, rollout)))
    }

    /// Checks a rollout without beginning it.
    ///
    /// # Errors
    /// As [`Handle::roll_out`].
    pub fn check_rollout(&self, saga: &str, version: u32, percent: u8) -> Result<SagaName, RolloutError> {
        let catalogue = self.0.catalogue.get();
        let name = known(&catalogue, saga)?;
        if percent > WHOLE {
            return Err(RolloutError::Bad(format!("percent is {percent}; it goes from 0 to {WHOLE}")));
        }
        let loaded = catalogue.versions(&name);
        if !loaded.contains(&version) {
            let loaded: Vec<String> = loaded.iter().map(u32::to_string).collect();
            let loaded = loaded.join(", ");
            return Err(RolloutError::Conflict(format!(
                "version {version} of {name} is not loaded; there are: {loaded}"
            )));
        }
        if loaded.len() == 1 {
            let why =
                format!("version {version} is the only one of {name} that is loaded: there is no other to share with");
            return Err(RolloutError::Conflict(why));
        }
        Ok(name)
    }

    /// Lets a share of a saga's starts take a version; the others take the newest of the other versions.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`RolloutError`].
    pub async fn roll_out(
        &self,
        saga: &str,
        version: u32,
        percent: u8,
        by: Option<&str>,
    ) -> Result<RolloutView, RolloutError> {
        let name = self.check_rollout(saga, version, percent)?;
        let since = self.0.shared.clock.now().to_string();
        let rollout = Rollout { version, percent, since, by: by.map(str::to_owned) };
        self.keep_rollout(&name, Some(&rollout)).await?;
        let catalogue = self.0.catalogue.roll_out(&name, Some(rollout.clone()));
        // The other version may be started by other events.
        self.subscribe();
        Ok(view(&catalogue, &name, &rollout))
    }

    /// Ends a rollout: every start takes the newest version. Durable when it returns.
    ///
    /// # Errors
    /// [`RolloutError`]; a conflict when there is none.
    pub async fn end_rollout(&self, saga: &str) -> Result<(), RolloutError> {
        let name = known(&self.0.catalogue.get(), saga)?;
        if !self.0.catalogue.get().rollouts().contains_key(&name) {
            return Err(RolloutError::Conflict(format!("{name} has no rollout: every start takes the newest version")));
        }
        self.keep_rollout(&name, None).await?;
        self.0.catalogue.roll_out(&name, None);
        self.subscribe();
        Ok(())
    }

    async fn keep_rollout(&self, saga: &SagaName, rollout: Option<&Rollout>) -> Result<(), RolloutError> {
        let value = rollout.and_then(|rollout| serde_json::to_string(rollout).ok()).map(Arc::from);
        let setting = Change::Setting { name: format!("{SETTING}{saga}").into(), value };
        let kept = self.journal().commit(vec![setting]).await;
        kept.map(drop).map_err(|error| {
            RolloutError::Journal(Problem::new("journal", "the rollout cannot be stored").detail(error.to_string()))
        })
    }
}

fn known(catalogue: &Catalogue, saga: &str) -> Result<SagaName, RolloutError> {
    let name = SagaName::parse(saga).ok().filter(|name| catalogue.find(name, None).is_some());
    name.ok_or_else(|| RolloutError::UnknownSaga { saga: saga.to_owned(), hint: catalogue.hint(saga) })
}

fn view(catalogue: &Catalogue, saga: &SagaName, rollout: &Rollout) -> RolloutView {
    let Rollout { version, percent, since, by } = rollout.clone();
    let loaded = catalogue.versions(saga);
    RolloutView {
        saga: saga.to_string(),
        version,
        percent,
        others: loaded.iter().rev().find(|other| **other != version).copied(),
        loaded: loaded.contains(&version),
        since,
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_evenly_and_stay() {
        let saga = SagaName::parse("order").unwrap();
        let mut counts = [0_u32; WHOLE as usize];
        for number in 0..100_000 {
            let run = RunId::keyed(&saga, &format!("A-{number}"));
            assert_eq!(place_of(run), place_of(run));
            counts[usize::from(place_of(run))] += 1;
        }
        // 1,000 each; seven standard deviations.
        assert!(counts.iter().all(|count| (780..1_220).contains(count)), "{counts:?}");
        assert_eq!(place_of_event(&saga, "/shop", "1"), place_of(RunId::keyed(&saga, "/shop#1")));
    }
}
