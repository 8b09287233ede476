//! `backstitch journal`: verify, back up, restore, export and import. A journal that a process holds is read by that
//! process: it is asked through its API.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;

use super::Connection;
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};
use crate::journal::sled_store::BackupReport;
use crate::journal::{self, Error, sled_store};

/// Reading a journal of 10 GiB and writing it again takes some minutes on a slow disk.
const TOOL_WAIT: Duration = Duration::from_secs(3_600);

#[derive(Debug, clap::Args)]
pub struct Place {
    /// The data directory [default: `journal.path` of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Reads everything and says what is damaged, run by run; changes nothing.
    Verify(Place),
    /// Copies the journal into a directory that does not exist yet.
    Backup {
        /// The new directory.
        to: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Puts a backup in the journal's place; what was there is kept beside it.
    Restore {
        /// The backup.
        from: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Makes a journal of an export, in a directory that does not exist yet or is empty.
    Import {
        /// The export; `-` for stdin.
        from: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Writes every record as one line of JSON.
    Export {
        /// The file to write [default: stdout].
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Verify(place) => {
            let report = match sled_store::verify(&place.directory()?) {
                Err(locked @ Error::Locked { .. }) => {
                    let asked = place.ask("verify", &serde_json::json!({})).await;
                    asked.map_err(|failed| not_there(locked, failed))?
                }
                other => other.map_err(failure)?,
            };
            print(&report, place.output)?;
            if report.is_whole() { Ok(()) } else { Err(Failure::said(Code::Damaged)) }
        }
        Command::Backup { to, place } => {
            let data = place.directory()?;
            let report = match sled_store::backup(&data, &to) {
                Err(locked @ Error::Locked { .. }) => {
                    back_up_in_use(&data, to, &place).await.map_err(|failed| not_there(locked, failed))?
                }
                other => other.map_err(failure)?,
            };
            print(&report, place.output)
        }
        Command::Restore { from, place } => {
            let data = place.directory()?;
            let report = sled_store::restore(&from, &data).map_err(failure)?;
            if let Some(before) = &report.before {
                // The store of dev's nats-server and the backups lie in the data directory and are no part of
                // the journal.
                for beside in ["nats", "backups"] {
                    let (stayed, wanted) = (before.join(beside), data.join(beside));
                    if stayed.is_dir() {
                        fs::rename(&stayed, &wanted).map_err(|error| {
                            Failure::new(Code::Failed, format!("cannot move {} back: {error}", stayed.display()))
                                .help(format!("the journal is restored; move it to {} yourself", wanted.display()))
                        })?;
                    }
                }
            }
            print(&report, place.output)
        }
        Command::Import { from, place } => {
            let data = place.directory()?;
            let mut text: Box<dyn BufRead> = if from.as_os_str() == "-" {
                Box::new(std::io::stdin().lock())
            } else {
                let file = File::open(&from)
                    .map_err(|error| Failure::bad_input(format!("cannot open {}: {error}", from.display())))?;
                Box::new(BufReader::new(file))
            };
            let report = sled_store::import(&from, &mut text, &data).map_err(failure)?;
            print(&report, place.output)
        }
        Command::Export { to, place } => export(to, &place).await,
    }
}

/// Has the process that holds the journal write a backup, and moves it to where it is wanted.
async fn back_up_in_use(data: &Path, to: PathBuf, place: &Place) -> Result<BackupReport, Failure> {
    if to.exists() {
        let why = format!("{}: it is there already; name a directory that does not exist", to.display());
        return Err(Failure::new(Code::BadInput, why));
    }
    let name = format!("cli-{}", uuid::Uuid::now_v7().simple());
    let report: BackupReport = place.ask("backup", &serde_json::json!({ "name": name })).await?;
    let made = data.join("backups").join(name);
    if fs::rename(&made, &to).is_ok() {
        return Ok(BackupReport { to, ..report });
    }
    // Another file system: copied, read again, then removed here.
    let moved = sled_store::restore(&made, &to).map_err(failure)?;
    fs::remove_dir_all(&made).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot remove {}: {error}", made.display()))
            .help(format!("the backup is whole at {}; remove the first copy yourself", to.display()))
    })?;
    Ok(BackupReport { from: data.to_owned(), ..moved })
}

fn print<T: serde::Serialize + std::fmt::Display>(report: &T, output: Output) -> Outcome {
    if output.is_json() {
        output::json(report)?
    } else {
        output::line(report)?
    }
    Ok(())
}

async fn export(to: Option<PathBuf>, place: &Place) -> Outcome {
    let data = place.directory()?;
    if matches!(sled_store::is_in_use(&data), Ok(true)) {
        return export_in_use(to, place).await;
    }
    let Some(to) = to else {
        let mut out = Watched { inner: BufWriter::new(std::io::stdout().lock()), gone: false };
        let exported = sled_store::export(&data, &mut out).map(|_| out.flush().is_ok());
        // The journal tells a failed write in its own words; a reader that has gone is no failure.
        return match exported {
            _ if out.gone => Ok(()),
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Code::Failed, "cannot write the answer")),
            Err(error) => Err(failure(error)),
        };
    };
    let cannot = |error: std::io::Error| Failure::new(Code::Failed, format!("cannot write {}: {error}", to.display()));
    let mut out = BufWriter::new(File::create_new(&to).map_err(cannot)?);
    let lines = sled_store::export(&data, &mut out).map_err(failure)?;
    out.into_inner().map_err(|error| cannot(error.into_error()))?.sync_all().map_err(cannot)?;
    if place.output.is_json() {
        output::json(&serde_json::json!({ "to": to, "lines": lines }))?;
    } else {
        output::line(format!("wrote {lines} records to {}", to.display()))?;
    }
    Ok(())
}

/// Passes on what the process that holds the journal exports.
async fn export_in_use(to: Option<PathBuf>, place: &Place) -> Outcome {
    let mut answer = place.connection.client()?.pieces("/api/v1/journal/export").await?;
    let cannot = |error: std::io::Error| Failure::new(Code::Failed, format!("cannot write the export: {error}"));
    let mut out: Box<dyn Write> = match &to {
        Some(to) => Box::new(BufWriter::new(File::create_new(to).map_err(cannot)?)),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    while let Some(piece) = answer.next().await {
        match out.write_all(&piece?) {
            // A reader that has gone is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(cannot)?,
        }
    }
    out.flush().map_err(cannot)
}

/// Remembers that the reader has gone.
struct Watched<W> {
    inner: W,
    gone: bool,
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes).inspect_err(|error| self.gone |= error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush().inspect_err(|error| self.gone |= error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl Place {
    /// Asks the process that holds the journal.
    async fn ask<T: serde::de::DeserializeOwned>(&self, tool: &str, body: &serde_json::Value) -> Result<T, Failure> {
        let client = self.connection.client()?;
        Ok(client.ask(&format!("/api/v1/journal/{tool}"), body, TOOL_WAIT).await?)
    }

    fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        match super::config::load(self.config.as_deref()) {
            Ok((config, _)) => Ok(config.journal.path),
            Err(_) => Err(Failure::bad_input("the configuration has mistakes")
                .help("see them with `backstitch config check`, or name the data directory with --data")),
        }
    }
}

/// The process that holds the journal could not be asked: it is the lock that stands in the way.
fn not_there(locked: Error, failed: Failure) -> Failure {
    if failed.code != Code::Unreachable {
        return failed;
    }
    failure(locked)
        .help(format!("it can do it itself, but {}; name its address with --url, or stop it", failed.message))
}

fn failure(error: journal::Error) -> Failure {
    let code = match &error {
        Error::Locked { .. } => Code::InUse,
        Error::Damaged { .. } | Error::BehindHead { .. } => Code::Damaged,
        Error::Refused { .. } => Code::BadInput,
        _ => Code::Failed,
    };
    Failure::new(code, error.to_string())
}
