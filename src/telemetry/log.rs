//! Logs: fixed sentences with fields, on standard error; text for people, JSON for machines.

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use super::{Error, Settings};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

/// Installs the process's subscriber: the log, and the layer that turns spans of `tracing` into OTLP.
/// The two filter apart: a log level that hides a span must not take it from its trace.
pub(super) fn install(settings: &Settings, tracer: SdkTracer) -> Result<(), Error> {
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
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).with(traces(tracer)).try_init();
    Ok(())
}

/// The layer that turns the shell's own spans into OTLP, whatever the log level. A request's `tracing` span
/// is for log lines only: its span in the trace is built with the answer, as what it hangs from is known then.
pub(super) fn traces<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(
            Targets::new()
                .with_target("backstitch", Level::INFO)
                .with_target("backstitch::api::span", LevelFilter::OFF),
        )
}
