//! Saga files: text with spans → diagnostics, all at once → a validated model with a fingerprint.
//! Knows nothing of runs.

mod cached;
mod call;
mod codes;
mod diagnostic;
mod expressions;
mod file;
mod format;
#[cfg(test)]
mod fuzz;
pub mod graph;
mod graphql;
mod grpc;
mod hooked;
mod kinds;
pub mod language;
mod locate;
pub mod model;
mod nested;
mod operation;
mod outcome;
mod outline;
mod point;
mod policy;
mod protocols;
mod reader;
#[cfg(test)]
mod robust;
mod rounds;
mod rules;
pub mod schedule;
mod scheduled;
mod soap;
mod step;
mod subject;
#[cfg(test)]
mod tests;
mod types;
mod waiting;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use codes::CODES;
pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity, Style, render_all};
pub use format::{Unformatted, format};
pub use model::*;
pub use outline::{Outline, outline, with_pivots};
pub use point::at_step;
pub use step::{NEST_DEPTH_MAX, STEPS_MAX};
pub use yaml::{DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX};

use crate::id::{EventType, ServiceName};
use crate::openapi::OpenApi;
use crate::payload::Payload;
use crate::protobuf::Descriptors;
use crate::service::Protocol;
use crate::time::Span;

/// What a file may name that is defined elsewhere.
pub struct Environment<'a> {
    /// `services:` of the configuration.
    pub services: &'a BTreeMap<ServiceName, ServiceInfo>,
    pub schemas: &'a dyn SchemaCatalogue,
    /// `webhooks:` of the configuration.
    pub webhooks: &'a BTreeSet<ServiceName>,
}

/// What the definition needs to know of a configured service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceInfo {
    /// One attempt, unless the step says otherwise.
    pub timeout: Option<Span>,
    pub protocol: Protocol,
    /// What it says of its answers.
    pub openapi: Option<Arc<OpenApi>>,
    pub descriptor: Option<Arc<Descriptors>>,
}

/// Knows the event types that have a schema.
pub trait SchemaCatalogue {
    /// True if the type has a schema.
    fn knows(&self, event: &EventType) -> bool;
    /// Returns every type that has one, for "did you mean".
    fn all(&self) -> Vec<EventType>;
    /// Returns a type's schema, for what follows from it; none: nothing does.
    fn schema(&self, event: &EventType) -> Option<Payload>;
}

impl SchemaCatalogue for BTreeSet<EventType> {
    fn knows(&self, event: &EventType) -> bool {
        self.contains(event)
    }
    fn all(&self) -> Vec<EventType> {
        self.iter().cloned().collect()
    }
    fn schema(&self, _: &EventType) -> Option<Payload> {
        None
    }
}

impl SchemaCatalogue for crate::schema::Registry {
    fn knows(&self, event: &EventType) -> bool {
        self.knows(event)
    }
    fn all(&self) -> Vec<EventType> {
        self.types().cloned().collect()
    }
    fn schema(&self, event: &EventType) -> Option<Payload> {
        self.get(event).map(|entry| entry.source.clone())
    }
}

/// A file that loads, with what its author should still know.
#[derive(Debug)]
pub struct Loaded {
    pub definition: SagaDefinition,
    pub warnings: Vec<Diagnostic>,
}

/// Loads a saga file.
///
/// # Errors
/// Every finding in the file, warnings too, in the order of the text.
pub fn load(file: &str, text: &str, environment: &Environment<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    read(file, text, environment, file::Outside::Known)
}

/// Loads the stored definition of a run in flight: services and event types that have gone since are
/// no error. Without the configuration's services at hand their timeouts are not known; see
/// [`reload_with`].
///
/// # Errors
/// As [`load`], for a text that this release does not understand.
pub fn reload(file: &str, text: &str) -> Result<SagaDefinition, Vec<Diagnostic>> {
    reload_with(file, text, &BTreeMap::new())
}

/// Loads the stored definition of a run in flight with the timeouts of the services that still exist.
///
/// # Errors
/// As [`reload`].
pub fn reload_with(
    file: &str,
    text: &str,
    services: &BTreeMap<ServiceName, ServiceInfo>,
) -> Result<SagaDefinition, Vec<Diagnostic>> {
    let environment = Environment { services, schemas: &BTreeSet::new(), webhooks: &BTreeSet::new() };
    read(file, text, &environment, file::Outside::Any).map(|loaded| loaded.definition)
}

fn read(
    file: &str,
    text: &str,
    environment: &Environment<'_>,
    outside: file::Outside,
) -> Result<Loaded, Vec<Diagnostic>> {
    let (definition, findings) = file::read(file, text, environment, outside);
    let diagnostics = diagnostic::placed(file, text, findings);
    match definition {
        Some(definition) => Ok(Loaded { definition, warnings: diagnostics }),
        None => Err(diagnostics),
    }
}
