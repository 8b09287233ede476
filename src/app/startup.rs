//! What a process says of itself when it takes requests: for people one block, for programs one object.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::load::Loaded;
use crate::bus;
use crate::config::Config;
use crate::id::RunId;

/// Addresses, what was proved of NATS, what is loaded, what goes on.
#[derive(Debug, Clone, Serialize)]
pub struct Announcement {
    pub version: &'static str,
    pub pid: u32,
    /// `http://127.0.0.1:7070`
    pub api: String,
    /// A token is needed.
    pub token: bool,
    pub nats_url: String,
    #[serde(serialize_with = "status")]
    pub nats: bus::Status,
    /// Set where the server belongs to this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_nats: Option<String>,
    pub journal: String,
    /// What was repaired or read when the journal was opened.
    pub notes: Vec<String>,
    /// `order-fulfilment v2`, with what starts it.
    pub sagas: Vec<(String, Vec<String>)>,
    pub event_types: usize,
    pub services: usize,
    pub traces: Option<String>,
    pub runs_resumed: usize,
    /// Runs that could not be read back, with the reason.
    pub runs_set_aside: Vec<(String, String)>,
}

fn status<S: serde::Serializer>(status: &bus::Status, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!({ "ready": status.ready, "message": status.message }).serialize(serializer)
}

impl Announcement {
    pub(super) fn new(config: &Config, address: SocketAddr, loaded: &Loaded, notes: Vec<String>) -> Self {
        let sagas = loaded.catalogue.all().map(|entry| {
            let definition = &entry.definition;
            let events = definition.triggers.iter().map(|trigger| trigger.event.to_string());
            let webhooks = definition.webhooks.iter().map(|trigger| format!("/webhooks/{}", trigger.webhook));
            (format!("{} v{}", definition.name, definition.version), events.chain(webhooks).collect())
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            api: format!("http://{address}"),
            token: config.api.token.is_some(),
            nats_url: bus::Options::new(config.nats.url.clone()).shown_url(),
            nats: bus::Status::default(),
            own_nats: None,
            journal: config.journal.path.display().to_string(),
            notes,
            sagas: sagas.collect(),
            event_types: loaded.registry.types().count(),
            services: loaded.services.len(),
            traces: config.telemetry.otlp.clone(),
            runs_resumed: 0,
            runs_set_aside: Vec::new(),
        }
    }

    pub(super) fn runs(&mut self, resumed: usize, set_aside: &[(RunId, String)]) {
        self.runs_resumed = resumed;
        self.runs_set_aside = set_aside.iter().map(|(run, why)| (run.to_string(), why.clone())).collect();
    }
}

impl fmt::Display for Announcement {
    /// One block, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token { "a token is needed" } else { "no token: this machine only" };
        writeln!(f, "Backstitch {} (pid {})", self.version, self.pid)?;
        writeln!(f, "  api       {} ({token})", self.api)?;
        if self.nats.ready {
            writeln!(f, "  nats      {}", self.nats.message)?;
        } else {
            writeln!(f, "  nats      NOT READY at {}: {}", self.nats_url, self.nats.message)?;
        }
        if let Some(own) = &self.own_nats {
            writeln!(f, "            {own}")?;
        }
        writeln!(f, "  journal   {}, {} open runs go on", self.journal, self.runs_resumed)?;
        for note in &self.notes {
            writeln!(f, "            {note}")?;
        }
        for (run, why) in &self.runs_set_aside {
            writeln!(f, "            run {run} is set aside: {why}")?;
        }
        for (at, (saga, events)) in self.sagas.iter().enumerate() {
            let name = if at == 0 { "sagas" } else { "" };
            let events =
                if events.is_empty() { "started by hand".to_owned() } else { format!("on {}", events.join(", ")) };
            writeln!(f, "  {name:<9} {saga}, {events}")?;
        }
        if self.sagas.is_empty() {
            writeln!(f, "  sagas     none")?;
        }
        writeln!(f, "  schemas   {} event types; {} services", self.event_types, self.services)?;
        write!(f, "  traces    {}", self.traces.as_deref().unwrap_or("off"))
    }
}
