//! The loaded sagas: many versions side by side, the newest one for new runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::definition::{EventTrigger, SagaDefinition};
use crate::id::{EventType, SagaName};
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
    /// By the type's name without version.
    by_event: BTreeMap<String, Vec<(Entry, usize)>>,
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

    pub fn replace(&self, catalogue: Catalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }
}

impl Catalogue {
    /// Makes a catalogue. Only the newest version of a saga is started by events.
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
        let mut by_event: BTreeMap<String, Vec<(Entry, usize)>> = BTreeMap::new();
        for newest in sagas.values().filter_map(|versions| versions.values().next_back()) {
            for (at, trigger) in newest.definition.triggers.iter().enumerate() {
                by_event.entry(trigger.event.name().to_owned()).or_default().push((newest.clone(), at));
            }
        }
        Ok(Self { sagas, by_event })
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

    /// Returns what an event type starts, whatever version of it a trigger names: of each saga the triggers of
    /// the version that is nearest, the event's own, else a newer one (older events are upcast), else an older.
    pub fn triggered_by(&self, event: &EventType) -> impl Iterator<Item = (&Entry, &EventTrigger)> {
        let all = || {
            let named = self.by_event.get(event.name()).into_iter().flatten();
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

    /// Returns every event type that starts something.
    #[must_use]
    pub fn event_types(&self) -> Vec<EventType> {
        let triggers = self.by_event.values().flatten().map(|(entry, at)| &entry.definition.triggers[*at].event);
        let mut types: Vec<EventType> = triggers.cloned().collect();
        types.sort();
        types.dedup();
        types
    }

    /// Returns the newest version of every saga.
    pub fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.sagas.values().filter_map(|versions| versions.values().next_back())
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
