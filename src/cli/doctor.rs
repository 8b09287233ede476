//! `backstitch doctor`: looks at everything that a process needs and says what to do about the rest.

use std::path::Path;
use std::time::Duration;

use comfy_table::Cell;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::Connection;
use super::client::Client;
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output, state_cell, table};
use super::serve::Files;
use crate::app::{Finding, load};
use crate::config::Config;

/// What answers at all answers within this on a network of its own.
const WAIT: Duration = Duration::from_secs(3);
/// The greeting of a NATS server has about 500 bytes.
const GREETING_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works without; good to know.
    Note,
    Failed,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Check {
    fn new(name: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { name, state, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

pub async fn run(args: Args) -> Outcome {
    let mut checks = Vec::new();
    let config = match super::config::load(args.files.config.as_deref()) {
        Ok((config, file)) => {
            let file = file.map_or_else(|| "built-in defaults".to_owned(), |file| file.display().to_string());
            checks.push(Check::new("configuration", State::Ok, format!("{file}, {} services", config.services.len())));
            Some(config)
        }
        Err(findings) => {
            checks.push(mistakes("configuration", &findings, "backstitch config check"));
            None
        }
    };
    checks.push(match load::load(config.as_ref(), &args.files.sources()) {
        Ok(loaded) => {
            let (sagas, types) = (loaded.catalogue.all().count(), loaded.registry.types().count());
            Check::new("sagas", State::Ok, format!("{sagas} sagas, {types} event types"))
        }
        Err(findings) => mistakes("sagas", &findings, "backstitch validate"),
    });
    checks.push(match tokio::task::spawn_blocking(super::nats_program::find).await {
        Ok(Ok(program)) => {
            Check::new("nats-server", State::Ok, format!("{} {}, for dev", program.path.display(), program.version))
        }
        Ok(Err(failure)) => Check::new("nats-server", State::Note, failure.message)
            .help("only `backstitch dev` needs the program: scripts/get-nats-server fetches one"),
        Err(error) => Check::new("nats-server", State::Failed, error.to_string()),
    });
    let config = config.unwrap_or_default();
    checks.push(data(&config.journal.path, config.journal.free_bytes_min));
    checks.push(nats(&config).await);
    checks.push(sync(&config).await);
    checks.push(collector(&config).await);
    checks.push(api(&args.connection).await);

    if args.output.is_json() {
        output::json(&checks)?;
    } else {
        let mut rows = table(&["", "WHAT", "FOUND"]);
        for check in &checks {
            let (word, state) = match check.state {
                State::Ok => ("ok", "ok"),
                State::Note => ("note", "refused"),
                State::Failed => ("failed", "failed"),
            };
            let help = check.help.as_ref().map_or_else(String::new, |help| format!("\n→ {help}"));
            rows.add_row([
                state_cell(state, word),
                Cell::new(check.name),
                Cell::new(format_args!("{}{help}", check.message)),
            ]);
        }
        output::print_table(&rows)?;
    }
    if checks.iter().any(|check| check.state == State::Failed) { Err(Failure::said(Code::Failed)) } else { Ok(()) }
}

fn mistakes(name: &'static str, findings: &[Finding], command: &str) -> Check {
    let count = findings.iter().filter(|finding| finding.is_error()).count();
    Check::new(name, State::Failed, format!("{count} mistakes")).help(format!("see them with `{command}`"))
}

fn data(path: &Path, free_bytes_min: u64) -> Check {
    let shown = path.display();
    if !path.exists() {
        return Check::new("data", State::Ok, format!("{shown} is not there yet; the first start makes it"));
    }
    let holder = std::fs::File::open(path.join("lock")).ok().and_then(|lock| {
        let held = matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
        held.then(|| std::fs::read_to_string(path.join("lock")).unwrap_or_default())
    });
    let holder = holder.map_or_else(String::new, |pid| format!(", used by process {}", pid.trim()));
    match rustix::fs::statvfs(path) {
        Err(error) => Check::new("data", State::Failed, format!("{shown}: {error}")),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let message = format!("{shown}, {} MiB free{holder}", free >> 20);
            if free < free_bytes_min {
                return Check::new("data", State::Failed, message)
                    .help("no new work is taken below `journal.free_bytes_min`; make room");
            }
            Check::new("data", State::Ok, message)
        }
    }
}

/// Returns host and port of the first of several addresses.
fn first_address(url: &str, port: u16) -> Option<String> {
    let rest = url.split(',').next()?.trim().split("//").nth(1)?;
    let host = rest.rsplit('@').next()?.split('/').next()?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:{port}") })
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    match tokio::time::timeout(WAIT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {} s", WAIT.as_secs())),
    }
}

/// Reads a server's greeting: `INFO {"version": "2.15.1", "jetstream": true, …}`.
async fn nats(config: &Config) -> Check {
    let Some(address) = first_address(&config.nats.url, 4222) else {
        return Check::new("nats", State::Failed, "`nats.url` has no host");
    };
    let stream = match connect(&address).await {
        Ok(stream) => stream,
        Err(error) => {
            return Check::new("nats", State::Note, format!("cannot reach {error}"))
                .help("`backstitch dev` brings its own; `serve` waits for one");
        }
    };
    let mut line = String::new();
    let mut greeting = BufReader::new(tokio::io::AsyncReadExt::take(stream, GREETING_BYTES_MAX));
    let _ = tokio::time::timeout(WAIT, greeting.read_line(&mut line)).await;
    let info: serde_json::Value =
        line.strip_prefix("INFO ").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    match (info["version"].as_str(), info["jetstream"].as_bool()) {
        (Some(version), Some(true)) => Check::new("nats", State::Ok, format!("{address}, {version} with JetStream")),
        (Some(version), _) => Check::new("nats", State::Failed, format!("{address}, {version} without JetStream"))
            .help("start it with a `jetstream` block or --jetstream"),
        _ => Check::new("nats", State::Failed, format!("{address} is no NATS server")),
    }
}

async fn sync(config: &Config) -> Check {
    const NAME: &str = "nats sync";
    let Some(url) = &config.nats.monitor_url else {
        return Check::new(NAME, State::Note, "`nats.monitor_url` is empty: not asked");
    };
    let asked = match Client::new(url, None) {
        Ok(client) => tokio::time::timeout(WAIT, client.get::<serde_json::Value>("/jsz?config=true")).await,
        Err(error) => return Check::new(NAME, State::Failed, error.to_string()),
    };
    match asked {
        Ok(Ok(page)) if page["config"]["sync_always"] == true => {
            Check::new(NAME, State::Ok, format!("{url}: each write is synced before it is acknowledged"))
        }
        Ok(Ok(_)) => {
            Check::new(NAME, State::Failed, format!("{url}: acknowledged events can be lost when the power fails"))
                .help("set `sync_interval: always` in the server's `jetstream` block")
        }
        Ok(Err(error)) => Check::new(NAME, State::Note, error.to_string()),
        Err(_) => Check::new(NAME, State::Note, format!("{url}: no answer")),
    }
}

async fn collector(config: &Config) -> Check {
    let Some(endpoint) = &config.telemetry.otlp else { return Check::new("traces", State::Note, "off") };
    let Some(address) = first_address(endpoint, 4317) else {
        return Check::new("traces", State::Failed, format!("{endpoint} has no host"));
    };
    match connect(&address).await {
        Ok(_) => Check::new("traces", State::Ok, format!("{endpoint} takes connections")),
        Err(error) => Check::new("traces", State::Note, format!("nobody at {error}"))
            .help("spans are dropped and counted; start Jaeger, or set `telemetry.otlp: off`"),
    }
}

async fn api(connection: &Connection) -> Check {
    let readiness = match connection.client() {
        Ok(client) => client.readiness().await.map_err(|error| error.to_string()),
        Err(failure) => Err(failure.message),
    };
    match readiness {
        Ok(readiness) if readiness.ready => Check::new("api", State::Ok, format!("{} takes work", connection.url)),
        Ok(readiness) => {
            let wrong = readiness.parts.iter().filter(|(_, part)| !part.ready);
            let wrong: Vec<String> = wrong.map(|(name, part)| format!("{name}: {}", part.message)).collect();
            Check::new("api", State::Failed, wrong.join("; "))
        }
        Err(error) => Check::new("api", State::Note, error).help("start it with `backstitch dev`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let rows = [
            ("plain", "nats://127.0.0.1:4222", Some("127.0.0.1:4222")),
            ("no port", "nats://nats", Some("nats:4222")),
            ("several", "nats://a:1, nats://b:2", Some("a:1")),
            ("with a password", "nats://u:p@a:1", Some("a:1")),
            ("IPv6", "nats://[::1]:4222", Some("[::1]:4222")),
            ("a path", "http://a:4317/v1", Some("a:4317")),
            ("no scheme", "a:1", None),
        ];
        for (why, url, expected) in rows {
            assert_eq!(first_address(url, 4222).as_deref(), expected, "{why}");
        }
    }
}
