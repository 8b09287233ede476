//! `backstitch serve` and `backstitch dev`: the process itself; dev brings its own nats-server.

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics;
use super::exit::{Code, Failure, Outcome};
use super::nats_server::NatsServer;
use super::output::{self, Output};
use super::runs::parse_span;
use crate::app::{self, Announcement, Cause, Plan, Sources};
use crate::config::{Config, Durability};
use crate::time::Span;

/// How often dev looks whether its nats-server still runs.
const NATS_LOOK: Duration = Duration::from_secs(1);

/// Where a process finds its files.
#[derive(Debug, Clone, clap::Args)]
pub struct Files {
    /// Folder of the saga files, or one file; may be given several times [default: ./sagas].
    #[arg(long, value_name = "PATH")]
    pub sagas: Vec<PathBuf>,
    /// Folder of the schemas [default: ./schemas].
    #[arg(long, value_name = "DIR")]
    pub schemas: Option<PathBuf>,
    /// The configuration [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Files {
    /// Returns where sagas and schemas lie: what was named, else the usual folders where they exist.
    pub fn sources(&self) -> Sources {
        let sagas = match self.sagas.as_slice() {
            [] => app::load::folder_or_none(None, "sagas").into_iter().collect(),
            named => named.to_vec(),
        };
        Sources { sagas, schemas: app::load::folder_or_none(self.schemas.as_deref(), "schemas") }
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    #[command(flatten)]
    files: Files,
    /// Address and port of the API; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of a NATS server.
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// The monitoring address of that server, where it is read whether every write is synced.
    #[arg(long, value_name = "URL")]
    nats_monitor: Option<String>,
    /// Time for attempts in flight when told to stop.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_span)]
    drain: Span,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub struct DevArgs {
    #[command(flatten)]
    common: Common,
    /// Begin anew: remove what the data directory holds.
    #[arg(long)]
    fresh: bool,
}

pub async fn serve(args: ServeArgs) -> Outcome {
    let config = args.common.config()?;
    run(config, args.common, None).await
}

pub async fn dev(args: DevArgs) -> Outcome {
    let mut config = args.common.config()?;
    let data = config.journal.path.clone();
    if args.fresh {
        remove_data(&data)?;
    }
    if let Some(url) = &args.common.nats {
        tracing::debug!(url, "using a server that runs already");
        if args.common.nats_monitor.is_none() {
            // Somebody else's server, of which nothing is known: said at start, not refused, in dev.
            config.nats.durability = Durability::TrustServer;
        }
        return run(config, args.common, None).await;
    }
    // Told before a server is started for nothing; read again when all else stands.
    if let Err(findings) = app::load::load(Some(&config), &args.common.files.sources()) {
        return Err(mistakes(&findings));
    }
    let folder = data.join("nats");
    let server = tokio::task::spawn_blocking(move || NatsServer::start(&folder)).await;
    let mut server = server.map_err(|error| Failure::new(Code::Failed, error.to_string()))??;
    config.nats.url = server.url();
    config.nats.monitor_url = Some(server.monitor_url());
    let outcome = {
        let running = std::pin::pin!(run(config, args.common, Some(server.describe())));
        let watching = async {
            let mut ticks = tokio::time::interval(NATS_LOOK);
            loop {
                ticks.tick().await;
                match server.keep_alive() {
                    Ok(None) => {}
                    Ok(Some(what)) => tracing::warn!("{what}"),
                    Err(error) => tracing::error!(%error, "nats-server has ended and cannot be started again"),
                }
            }
        };
        tokio::select! {
            outcome = running => outcome,
            () = watching => Ok(()),
        }
    };
    if outcome.as_ref().is_err_and(|failure| failure.code == Code::Interrupted) {
        server.kill();
    }
    // Stopping waits for the server's last writes.
    let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    outcome
}

impl Common {
    fn config(&self) -> Result<Config, Failure> {
        self.read().map_err(|findings| mistakes(&findings))
    }

    fn read(&self) -> Result<Config, Vec<app::Finding>> {
        let (mut config, _) = super::config::load(self.files.config.as_deref())?;
        if let Some(listen) = self.listen {
            config.api.listen = listen;
        }
        if let Some(data) = &self.data {
            config.journal.path.clone_from(data);
        }
        if let Some(nats) = &self.nats {
            config.nats.url.clone_from(nats);
        }
        if self.nats_monitor.is_some() {
            config.nats.monitor_url.clone_from(&self.nats_monitor);
        }
        Ok(config)
    }
}

/// Tells mistakes on stderr: stdout is for the announcement.
fn mistakes(findings: &[app::Finding]) -> Failure {
    for finding in findings {
        anstream::eprintln!("{}\n", finding.rendered);
    }
    diagnostics::summary(findings);
    Failure::said(Code::BadInput)
}

async fn run(config: Config, args: Common, own_nats: Option<String>) -> Outcome {
    let json = args.output.is_json();
    // `dev` has a server of its own in the place of the one that the file names.
    let (again, asked, started) = (args.clone(), args.config()?.nats, config.nats.clone());
    let read_config = move || {
        let mut config = again.read()?;
        if config.nats == asked {
            config.nats = started.clone();
        }
        Ok(config)
    };
    let announce = move |announcement: &Announcement| {
        // Nobody may be reading; the process goes on all the same.
        let _ = if json { output::json_line(announcement) } else { output::line(announcement) };
    };
    let plan = Plan {
        config,
        sources: args.files.sources(),
        read_config: Box::new(read_config),
        drain: args.drain.to_std(),
        own_nats,
        announce: Box::new(announce),
    };
    app::run(plan).await.map_err(|error| {
        if let app::Error::Files(findings) = &error {
            return mistakes(findings);
        }
        let code = match error.cause() {
            Cause::Input => Code::BadInput,
            Cause::InUse => Code::InUse,
            Cause::Damaged => Code::Damaged,
            Cause::Failed => Code::Failed,
            Cause::Interrupted => Code::Interrupted,
        };
        let failure = Failure::new(code, error.to_string());
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    })
}

/// Removes what `dev` and the journal put into a data directory, and nothing else that may lie there.
fn remove_data(data: &Path) -> Outcome {
    const OURS: [&str; 3] = ["HEAD", "generations", "nats"];
    if !data.exists() {
        return Ok(());
    }
    let cannot = |what: &Path, error: std::io::Error| {
        Failure::new(Code::Failed, format!("cannot remove {}: {error}", what.display()))
    };
    let lock = data.join("lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&lock);
    let file = file.map_err(|error| cannot(&lock, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(data, &lock)),
        Err(TryLockError::Error(error)) => return Err(cannot(&lock, error)),
    }
    super::nats_server::stop_left_over(&data.join("nats"));
    for name in OURS {
        let path = data.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the failure that names the holder of a lock file.
pub fn in_use(data: &Path, lock: &Path) -> Failure {
    let holder = fs::read_to_string(lock).unwrap_or_default();
    let holder = if holder.trim().is_empty() { "another" } else { holder.trim() };
    Failure::new(Code::InUse, format!("process {holder} holds the data directory {}", data.display()))
        .help("stop that process, or choose another directory with --data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_removes_our_own_and_leaves_the_rest() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        fs::create_dir_all(data.join("generations/00000001")).unwrap();
        fs::create_dir_all(data.join("nats/jetstream")).unwrap();
        for file in ["HEAD", "holiday.jpg", "generations/00000001/db"] {
            fs::write(data.join(file), "x").unwrap();
        }
        remove_data(data).unwrap();
        let mut left: Vec<String> =
            fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["holiday.jpg", "lock"]);
        remove_data(&data.join("nowhere")).unwrap();
    }

    #[test]
    fn fresh_is_refused_while_another_process_holds_the_directory() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("lock"), "4711\n").unwrap();
        fs::write(data.path().join("HEAD"), "x").unwrap();
        let held = File::open(data.path().join("lock")).unwrap();
        held.lock().unwrap();
        let failure = remove_data(data.path()).unwrap_err();
        assert_eq!(failure.code, Code::InUse);
        assert!(failure.message.contains("process 4711 holds"), "{}", failure.message);
        assert!(data.path().join("HEAD").exists());
    }
}
