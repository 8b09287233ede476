//! Logs: fixed sentences with fields, on standard error; text for people, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use super::{Error, Settings};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

/// Installs the process's subscriber.
pub(super) fn install(settings: &Settings) -> Result<(), Error> {
    let targets: Targets = settings.log.parse().map_err(|error: tracing_subscriber::filter::ParseError| {
        Error::Log { log: settings.log.clone(), reason: error.to_string() }
    })?;
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    // Fails when a subscriber is there already, as in tests.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
    Ok(())
}
