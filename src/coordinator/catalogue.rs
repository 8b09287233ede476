//! The loaded sagas: many versions side by side, the newest one for new runs unless a rollout shares them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::rollout::{Rollout, WHOLE, place_of_event};
use crate::definition::{EventTrigger, SagaDefinition, WebhookTrigger};
use crate::id::{EventType, SagaName, ServiceName};
use crate::payload::Payload;

/// What is wrong with a document: JSON pointer and message.
pub type Violations = Vec<(String, String)>;

/// Says whether an input fits a saga's `input: {schema}`.
pub type InputCheck = Arc<dyn Fn(&Payload) -> Result<(), Violations> + Send + Sync>;

/// One loaded saga.
#[derive(Clone)]
pub struct Entry {
    pub definition: Arc<SagaDefinition>,
    /// None: any input.
    pub input: Option<InputCheck>,
}

/// Every loaded saga.
#[derive(Clone, Default)]
pub struct Catalogue {
    sagas: BTreeMap<SagaName, BTreeMap<u32, Entry>>,
    rollouts: BTreeMap<SagaName, Rollout>,
    /// By the type's name without version; of the versions that starts may take.
    by_event: BTreeMap<String, Vec<(Entry, usize)>>,
    by_webhook: BTreeMap<ServiceName, Vec<(Entry, usize)>>,
}

/// The sagas that are loaded at present; a reload puts others in their place.
pub struct Active(RwLock<Arc<Catalogue>>);

impl Active {
    pub fn new(catalogue: Catalogue) -> Self {
        Self(RwLock::new(Arc::new(catalogue)))
    }

    /// Returns the present ones, to be worked with for one event or request.
    pub fn get(&self) -> Arc<Catalogue> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other sagas in the place of those; rollouts stay.
    pub fn replace(&self, catalogue: Catalogue) {
        let mut active = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *active = Arc::new(catalogue.with_rollouts(active.rollouts.clone()));
    }

    /// Begins or ends a rollout; returns what counts now.
    pub fn roll_out(&self, saga: &SagaName, rollout: Option<Rollout>) -> Arc<Catalogue> {
        let mut active = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut rollouts = active.rollouts.clone();
        match rollout {
            Some(rollout) => rollouts.insert(saga.clone(), rollout),
            None => rollouts.remove(saga),
        };
        *active = Arc::new(Catalogue::clone(&active).with_rollouts(rollouts));
        Arc::clone(&active)
    }
}

impl Catalogue {
    /// Makes a catalogue. Without a rollout only the newest version of a saga is started by events.
    ///
    /// # Errors
    /// Two files that define the same version of the same saga.
    pub fn new(entries: Vec<Entry>) -> Result<Self, String> {
        let mut sagas: BTreeMap<SagaName, BTreeMap<u32, Entry>> = BTreeMap::new();
        for entry in entries {
            let definition = &entry.definition;
            let versions = sagas.entry(definition.name.clone()).or_default();
            if let Some(other) = versions.get(&definition.version) {
                return Err(format!(
                    "saga `{}` version {} is defined in {} and in {}; give one of them another version",
                    definition.name, definition.version, other.definition.file, definition.file
                ));
            }
            versions.insert(definition.version, entry);
        }
        Ok(Self { sagas, ..Self::default() }.with_rollouts(BTreeMap::new()))
    }

    /// Returns the same sagas with these rollouts.
    #[must_use]
    pub fn with_rollouts(mut self, rollouts: BTreeMap<SagaName, Rollout>) -> Self {
        self.rollouts = rollouts;
        let mut by_event: BTreeMap<String, Vec<(Entry, usize)>> = BTreeMap::new();
        let mut by_webhook: BTreeMap<ServiceName, Vec<(Entry, usize)>> = BTreeMap::new();
        for entry in self.sagas.keys().flat_map(|name| self.startable(name)) {
            for (at, trigger) in entry.definition.triggers.iter().enumerate() {
                by_event.entry(trigger.event.name().to_owned()).or_default().push((entry.clone(), at));
            }
            for (at, trigger) in entry.definition.webhooks.iter().enumerate() {
                by_webhook.entry(trigger.webhook.clone()).or_default().push((entry.clone(), at));
            }
        }
        self.by_event = by_event;
        self.by_webhook = by_webhook;
        self
    }

    /// Returns the rollouts by saga.
    #[must_use]
    pub fn rollouts(&self) -> &BTreeMap<SagaName, Rollout> {
        &self.rollouts
    }

    /// Returns the loaded versions of a saga, ascending.
    #[must_use]
    pub fn versions(&self, name: &SagaName) -> Vec<u32> {
        self.sagas.get(name).into_iter().flat_map(|versions| versions.keys().copied()).collect()
    }

    /// Returns the version that a start takes which names none, by its place among a hundred.
    #[must_use]
    pub fn pick(&self, name: &SagaName, place: u8) -> Option<&Entry> {
        let versions = self.sagas.get(name)?;
        let rolled_out = self.rollouts.get(name).and_then(|rollout| rollout.pick(versions, place));
        rolled_out.or_else(|| versions.values().next_back())
    }

    /// Returns how many of a hundred starts take a version.
    #[must_use]
    pub fn share(&self, name: &SagaName, version: u32) -> u8 {
        let taken = |place: &u8| self.pick(name, *place).is_some_and(|entry| entry.definition.version == version);
        u8::try_from((0..WHOLE).filter(taken).count()).unwrap_or(WHOLE)
    }

    /// Returns the versions that starts may take: one, or the two of a rollout.
    fn startable(&self, name: &SagaName) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = [0, WHOLE - 1].iter().filter_map(|place| self.pick(name, *place)).collect();
        entries.dedup_by_key(|entry| entry.definition.version);
        entries
    }

    /// Finds a saga; without a version the newest.
    #[must_use]
    pub fn find(&self, name: &SagaName, version: Option<u32>) -> Option<&Entry> {
        let versions = self.sagas.get(name)?;
        match version {
            Some(version) => versions.get(&version),
            None => versions.values().next_back(),
        }
    }

    /// Returns what an event starts, whatever version of its type a trigger names: of each saga the triggers of
    /// the version that is nearest, the event's own, else a newer one (older events are upcast), else an older.
    /// Which version of the saga it is, the event's source and id decide where there is a rollout.
    pub fn triggered_by<'a>(
        &'a self,
        event: &EventType,
        (source, id): (&'a str, &'a str),
    ) -> impl Iterator<Item = (&'a Entry, &'a EventTrigger)> + use<'a> {
        let picked = move |(entry, _): &&(Entry, usize)| self.is_picked(entry, source, id);
        let of_type = self.by_event.get(event.name());
        let all = move || {
            let named = of_type.into_iter().flatten().filter(picked);
            named.map(|(entry, at)| (entry, &entry.definition.triggers[*at]))
        };
        let wanted = event.version();
        let distance = move |version: u32| (version < wanted, version.abs_diff(wanted));
        let mut nearest: BTreeMap<&SagaName, (bool, u32)> = BTreeMap::new();
        for (entry, trigger) in all() {
            let here = distance(trigger.event.version());
            let best = nearest.entry(&entry.definition.name).or_insert(here);
            *best = here.min(*best);
        }
        all().filter(move |(entry, trigger)| {
            nearest.get(&entry.definition.name) == Some(&distance(trigger.event.version()))
        })
    }

    /// Returns what a delivery of a webhook starts. Which version of a saga it is, the delivery's source and id
    /// decide where there is a rollout.
    pub fn triggered_by_webhook<'a>(
        &'a self,
        webhook: &ServiceName,
        (source, id): (&'a str, &'a str),
    ) -> impl Iterator<Item = (&'a Entry, &'a WebhookTrigger)> + use<'a> {
        let named = self.by_webhook.get(webhook).into_iter().flatten();
        let picked = named.filter(move |(entry, _)| self.is_picked(entry, source, id));
        picked.map(|(entry, at)| (entry, &entry.definition.webhooks[*at]))
    }

    /// True for the version of its saga that this event starts.
    fn is_picked(&self, entry: &Entry, source: &str, id: &str) -> bool {
        let SagaDefinition { name, version, .. } = &*entry.definition;
        !self.rollouts.contains_key(name)
            || self.pick(name, place_of_event(name, source, id)).is_some_and(|one| one.definition.version == *version)
    }

    /// Returns every event type that starts something.
    #[must_use]
    pub fn event_types(&self) -> Vec<EventType> {
        let triggers = self.by_event.values().flatten().map(|(entry, at)| &entry.definition.triggers[*at].event);
        let mut types: Vec<EventType> = triggers.cloned().collect();
        types.sort();
        types.dedup();
        types
    }

    /// Returns of every saga the version that the clock starts: the one that most starts take. A moment is one
    /// run, so there is nothing to share.
    pub fn by_clock(&self) -> impl Iterator<Item = &Entry> {
        self.sagas.keys().filter_map(|name| self.pick(name, WHOLE / 2))
    }

    /// Returns every loaded saga by name, newest version first.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.sagas.values().flat_map(|versions| versions.values().rev())
    }

    /// Returns a name close to a wrong one.
    #[must_use]
    pub fn hint(&self, wrong: &str) -> String {
        let near = self
            .sagas
            .keys()
            .map(|name| (strsim::jaro_winkler(name.as_str(), wrong), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((_, name)) => format!("; did you mean `{name}`?"),
            None => String::new(),
        }
    }
}

/// What events must look like: the schema registry, as the coordinator asks it.
pub trait EventSchemas: Send + Sync + 'static {
    /// Checks an event's data.
    ///
    /// # Errors
    /// [`Refusal`].
    fn check(&self, event: &EventType, data: &Payload) -> Result<(), Refusal>;

    /// Returns an event's data as a consumer of another version sees it; validated.
    ///
    /// # Errors
    /// [`Refusal`].
    fn convert(&self, event: &EventType, data: &Payload, to: &EventType) -> Result<Payload, Refusal>;
}

/// Why an event's data is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No schema for the type, with a hint at one that is near.
    UnknownType {
        hint: String,
    },
    Invalid(Violations),
    /// It cannot become what a consumer reads; `reason` is the word for dead letters.
    NoWay {
        reason: String,
        line: String,
        violations: Violations,
    },
}

impl Refusal {
    /// Returns one line for people.
    #[must_use]
    pub fn line(&self, event: &EventType) -> String {
        match self {
            Self::UnknownType { hint } => format!("no schema for {event}{hint}"),
            Self::NoWay { line, .. } => line.clone(),
            Self::Invalid(violations) => {
                let all: Vec<String> = violations
                    .iter()
                    .map(|(pointer, message)| {
                        let place = if pointer.is_empty() { "(root)" } else { pointer };
                        format!("{place}: {message}")
                    })
                    .collect();
                all.join("; ")
            }
        }
    }
}
