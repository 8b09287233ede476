//! Schemas, sagas and configuration loaded anew while the process runs. Everything is read and checked first:
//! a set with a mistake changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::finding::Finding;
use super::load::{self, Schemas, Sources};
use crate::api::{Mistake, Reloaded, Webhooks};
use crate::config::Config;
use crate::connector::Services;
use crate::coordinator::Handle;
use crate::id::ServiceName;
use crate::service::Service;

/// Reads the configuration with what the command line adds to it.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, Vec<Finding>> + Send + Sync>;

/// What counts at present.
pub struct Current {
    pub config: Config,
    /// The configuration's and the saga files' own.
    pub services: BTreeMap<ServiceName, Service>,
}

/// What is loaded from where, and who works with it.
pub struct Reload {
    pub sources: Sources,
    pub read_config: ReadConfig,
    /// Held while one reload is at work.
    pub current: Mutex<Current>,
    pub schemas: Arc<Schemas>,
    pub connector: Services,
    pub webhooks: Arc<Webhooks>,
    pub handle: Handle,
}

fn mistake(finding: Finding) -> Mistake {
    let Finding { code, file, line, column, message, help, .. } = finding;
    Mistake { code, file, line, column, message, help }
}

/// Returns the sections that differ and are read at the start only.
fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("nats", old.nats != new.nats),
        ("journal", old.journal != new.journal),
        ("api", old.api != new.api),
        ("telemetry", old.telemetry != new.telemetry),
        ("notify", old.notify != new.notify),
        ("runs", old.runs != new.runs),
        ("subscriptions", old.subscriptions != new.subscriptions),
        ("outboxes", old.outboxes != new.outboxes),
    ];
    sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

impl Reload {
    /// Loads everything anew. Runs that have begun keep their definitions.
    ///
    /// # Errors
    /// Every mistake with its place; then what was loaded stays active.
    pub async fn run(&self) -> Result<Reloaded, Vec<Mistake>> {
        let mut current = self.current.lock().await;
        let result = self.load(&mut current).await;
        match &result {
            Ok(reloaded) => tracing::info!(
                sagas = reloaded.sagas.len(),
                event_types = reloaded.event_types,
                restart_needed = ?reloaded.restart_needed,
                "schemas, sagas and services were loaded anew"
            ),
            Err(findings) => {
                for Finding { code, file, line, column, message, .. } in findings {
                    tracing::error!(code, file, line, column, "{message}");
                }
                tracing::error!(mistakes = findings.len(), "nothing was loaded anew; what was loaded stays active");
            }
        }
        result.map_err(|findings| findings.into_iter().map(mistake).collect())
    }

    async fn load(&self, current: &mut Current) -> Result<Reloaded, Vec<Finding>> {
        let config = (self.read_config)()?;
        let loaded = load::load(Some(&config), &self.sources)?;
        let refused = |what: String| vec![Finding::of_file("reload", super::finding::UNREADABLE, what, None)];
        // What can be refused comes first: a service whose certificates do not read, for example.
        Services::new(loaded.services.clone()).map_err(|error| refused(error.to_string()))?;
        let sagas =
            loaded.catalogue.all().map(|entry| format!("{} v{}", entry.definition.name, entry.definition.version));
        let reloaded = Reloaded {
            sagas: sagas.collect(),
            event_types: loaded.registry.types().count(),
            services: loaded.services.len(),
            warnings: loaded.warnings.into_iter().map(mistake).collect(),
            restart_needed: restart_needed(&current.config, &config),
        };
        // The schemas first: an event of a new saga's type finds its schema.
        let before = self.schemas.get();
        self.schemas.replace(loaded.registry);
        if let Err(problem) = self.handle.replace(loaded.catalogue, load::timeouts(&loaded.services)).await {
            self.schemas.replace(before);
            return Err(refused(problem.title));
        }
        for (name, service) in &loaded.services {
            // One that has not changed keeps its connections and what its circuit knows.
            if current.services.get(name) != Some(service) {
                self.connector.add(name.clone(), service.clone()).map_err(|error| refused(error.to_string()))?;
            }
        }
        self.webhooks.replace(config.webhooks);
        // What needs a restart stays as it is until then, and is said again at the next reload.
        current.services.extend(loaded.services);
        current.config.services = config.services;
        Ok(reloaded)
    }
}
