//! Sagas and schemas: files → what the coordinator runs on, or every mistake in all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::files;
use super::finding::{DEFINED_TWICE, Finding, SERVICE_CLASH};
use crate::config::Config;
use crate::coordinator::{Catalogue, Entry, EventSchemas, InputCheck, Refusal, Violations};
use crate::definition::{
    self, Diagnostic, Environment, InlineService, InputSchema, SagaDefinition, SchemaCatalogue, ServiceInfo, Severity,
    Style,
};
use crate::id::{EventType, ServiceName};
use crate::payload::Payload;
use crate::schema::{NoWay, Registry, Schema};
use crate::service::{Service, ServiceUrl};

/// Where the files lie.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Folders or files.
    pub sagas: Vec<PathBuf>,
    /// None: there are none.
    pub schemas: Option<PathBuf>,
}

/// Everything that was loaded.
pub struct Loaded {
    pub catalogue: Catalogue,
    pub registry: Registry,
    /// The configuration's and the saga files' own.
    pub services: BTreeMap<ServiceName, Service>,
    pub warnings: Vec<Finding>,
}

/// The registry that is loaded at present, as the definition and the coordinator ask it; a reload puts another
/// one in its place.
pub struct Schemas(RwLock<Registry>);

impl Schemas {
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(RwLock::new(registry))
    }

    /// Returns the present one; cheap.
    #[must_use]
    pub fn get(&self) -> Registry {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, registry: Registry) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = registry;
    }
}

impl SchemaCatalogue for Schemas {
    fn knows(&self, event: &EventType) -> bool {
        self.get().knows(event)
    }
    fn all(&self) -> Vec<EventType> {
        self.get().types().cloned().collect()
    }
    fn schema(&self, event: &EventType) -> Option<Payload> {
        self.get().get(event).map(|entry| entry.source.clone())
    }
}

impl EventSchemas for Schemas {
    fn check(&self, event: &EventType, data: &Payload) -> Result<(), Refusal> {
        let registry = self.get();
        if !registry.knows(event) {
            let hint = registry.nearest(event.as_str()).map(|near| format!("; did you mean `{near}`?"));
            return Err(Refusal::UnknownType { hint: hint.unwrap_or_default() });
        }
        registry.validate(event, data).map_err(|violations| Refusal::Invalid(pairs(violations)))
    }

    fn convert(&self, event: &EventType, data: &Payload, to: &EventType) -> Result<Payload, Refusal> {
        self.get().convert(event, data, to.version()).map_err(|why| match why {
            NoWay::Invalid { violations, .. } => Refusal::Invalid(pairs(violations)),
            NoWay::NoPath { .. } | NoWay::Failed { .. } | NoWay::InvalidResult { .. } => Refusal::NoWay {
                reason: why.reason(),
                line: why.to_string(),
                violations: pairs(why.violations().to_vec()),
            },
        })
    }
}

fn pairs(violations: Vec<crate::schema::Violation>) -> Violations {
    violations.into_iter().map(|violation| (violation.pointer, violation.message)).collect()
}

/// Loads schemas, then sagas. Without a configuration (it has mistakes of its own) services that a saga
/// names are taken as they are.
///
/// # Errors
/// Every mistake in every file, and the warnings among them.
pub fn load(config: Option<&Config>, sources: &Sources) -> Result<Loaded, Vec<Finding>> {
    let mut findings = Vec::new();
    let registry = schemas(sources, &mut findings);
    sagas(config, sources, registry, findings)
}

/// As [`load`], with schemas that are at hand; the folder is not looked at.
///
/// # Errors
/// As [`load`].
pub fn load_with(config: Option<&Config>, sources: &Sources, registry: Registry) -> Result<Loaded, Vec<Finding>> {
    sagas(config, sources, Some(registry), Vec::new())
}

fn sagas(
    config: Option<&Config>,
    sources: &Sources,
    registry: Option<Registry>,
    mut findings: Vec<Finding>,
) -> Result<Loaded, Vec<Finding>> {
    let services = config.map(|config| config.services.clone()).unwrap_or_default();
    let known = timeouts(&services);
    let lookup = Schemas::new(registry.clone().unwrap_or_default());
    let webhooks = config.map(|config| config.webhooks.keys().cloned().collect()).unwrap_or_default();
    let environment = Environment { services: &known, schemas: &lookup, webhooks: &webhooks };
    // What cannot be looked up would be reported as unknown in every file: one mistake is enough.
    let whole = config.is_some() && registry.is_some();
    let mut texts = Vec::new();
    for path in &sources.sagas {
        match files::sagas(path) {
            Ok(found) => texts.extend(found),
            Err(found) => findings.extend(found),
        }
    }
    super::children::resolve_pivots(&mut texts);
    let mut definitions = Vec::new();
    for (file, text) in texts {
        definitions.extend(saga(&file, &text, &environment, whole, &mut findings));
    }
    // With a file that cannot be read, what it defines would be called unknown elsewhere.
    if !findings.iter().any(Finding::is_error) {
        super::children::check(&definitions, &mut findings);
    }
    let services = with_inline(services, &definitions, &mut findings);
    let registry = lookup.get();
    let entries = entries(definitions, &registry, &mut findings);
    let catalogue = match Catalogue::new(entries) {
        Ok(catalogue) => catalogue,
        Err(message) => {
            findings.push(Finding::of_file("sagas", DEFINED_TWICE, message, None));
            Catalogue::default()
        }
    };
    if findings.iter().any(Finding::is_error) {
        return Err(findings);
    }
    Ok(Loaded { catalogue, registry, services, warnings: findings })
}

fn schemas(sources: &Sources, findings: &mut Vec<Finding>) -> Option<Registry> {
    let texts = match sources.schemas.as_deref().map_or_else(|| Ok(Vec::new()), files::schemas) {
        Ok(texts) => texts,
        Err(found) => {
            findings.extend(found);
            return None;
        }
    };
    match Registry::load(texts) {
        Ok(registry) => Some(registry),
        Err(found) => {
            findings.extend(found.into_iter().map(Finding::from));
            None
        }
    }
}

fn saga(
    file: &str,
    text: &str,
    environment: &Environment<'_>,
    whole: bool,
    findings: &mut Vec<Finding>,
) -> Option<SagaDefinition> {
    let loaded = if whole {
        definition::load(file, text, environment).map(|loaded| (loaded.definition, loaded.warnings))
    } else {
        definition::reload_with(file, text, environment.services).map(|definition| (definition, Vec::new()))
    };
    let (definition, found) = match loaded {
        Ok((definition, warnings)) => (Some(definition), warnings),
        Err(found) => (None, found),
    };
    findings.extend(found.into_iter().map(|found| told(found, text)));
    definition
}

/// Turns what a definition says about its file into what is told about any file.
pub(super) fn told(found: Diagnostic, text: &str) -> Finding {
    Finding {
        rendered: found.render(text, Style::Coloured),
        code: found.code.to_owned(),
        severity: match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        file: found.file,
        line: found.line,
        column: found.column,
        message: found.message,
        help: found.help,
    }
}

/// Adds the saga files' own services. Calls carry a service's name alone, so one name is one address.
fn with_inline(
    mut services: BTreeMap<ServiceName, Service>,
    definitions: &[SagaDefinition],
    findings: &mut Vec<Finding>,
) -> BTreeMap<ServiceName, Service> {
    let mut owners: BTreeMap<&ServiceName, &SagaDefinition> = BTreeMap::new();
    for definition in definitions {
        for (name, inline) in &definition.services {
            let other =
                owners.get(name).filter(|other| other.services.get(name).is_some_and(|known| known.url != inline.url));
            if let Some(other) = other {
                let message = format!("service `{name}` is {} here, and another address in {}", inline.url, other.file);
                let help = Some("give one of them another name, or put it into the configuration");
                findings.push(Finding::of_file(&definition.file, SERVICE_CLASH, message, help));
                continue;
            }
            match ServiceUrl::parse(&inline.url) {
                Ok(url) => {
                    let service = inline_service(url, inline);
                    services.entry(name.clone()).or_insert(service);
                    owners.insert(name, definition);
                }
                Err(error) => {
                    let message = format!("service `{name}`: {error}");
                    findings.push(Finding::of_file(&definition.file, SERVICE_CLASH, message, None));
                }
            }
        }
    }
    services
}

fn entries(definitions: Vec<SagaDefinition>, registry: &Registry, findings: &mut Vec<Finding>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for definition in definitions {
        match input_check(&definition, registry) {
            Ok(input) => entries.push(Entry { definition: Arc::new(definition), input }),
            Err(found) => findings.extend(found.into_iter().map(|mut finding| {
                finding.path.clone_from(&definition.file);
                finding.pointer = format!("/input/schema{}", finding.pointer);
                Finding::from(finding)
            })),
        }
    }
    entries
}

fn input_check(
    definition: &SagaDefinition,
    registry: &Registry,
) -> Result<Option<InputCheck>, Vec<crate::schema::Finding>> {
    Ok(match &definition.input_schema {
        None => None,
        Some(InputSchema::Event(event_type)) => {
            let (registry, event_type) = (registry.clone(), event_type.clone());
            Some(Arc::new(move |input: &Payload| registry.validate(&event_type, input).map_err(pairs)))
        }
        Some(InputSchema::Inline(source)) => {
            let schema = Schema::compile(source)?;
            Some(Arc::new(move |input: &Payload| schema.validate(input).map_err(pairs)))
        }
    })
}

/// Returns what definitions need to know of the services.
#[must_use]
pub fn timeouts(services: &BTreeMap<ServiceName, Service>) -> BTreeMap<ServiceName, ServiceInfo> {
    services.iter().map(|(name, service)| (name.clone(), info(service))).collect()
}

fn inline_service(url: ServiceUrl, inline: &InlineService) -> Service {
    Service { timeout: inline.timeout, protocol: inline.protocol, ..Service::at(url) }
}

fn info(service: &Service) -> ServiceInfo {
    ServiceInfo {
        timeout: service.timeout,
        protocol: service.protocol,
        openapi: service.openapi.clone(),
        descriptor: service.descriptor.clone(),
    }
}

/// Returns the services that only stored definitions of open runs still name.
pub fn stored_services<'a>(
    sources: impl Iterator<Item = &'a Arc<str>>,
    services: &BTreeMap<ServiceName, Service>,
) -> BTreeMap<ServiceName, Service> {
    let mut more = BTreeMap::new();
    for source in sources.filter(|source| source.contains("services:")) {
        let Ok(definition) = definition::reload("(journal)", source) else { continue };
        for (name, inline) in definition.services {
            if let (false, Ok(url)) = (services.contains_key(&name), ServiceUrl::parse(&inline.url)) {
                more.insert(name, inline_service(url, &inline));
            }
        }
    }
    more
}

/// Returns a folder if it is there; one that was named outright must be.
#[must_use]
pub fn folder_or_none(named: Option<&Path>, default: &str) -> Option<PathBuf> {
    match named {
        Some(named) => Some(named.to_owned()),
        None => Some(PathBuf::from(default)).filter(|folder| folder.exists()),
    }
}
