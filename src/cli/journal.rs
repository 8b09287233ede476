//! `backstitch journal`: verify, back up, restore and export a journal that no process uses.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};
use crate::journal::{self, Error, sled_store};

#[derive(Debug, clap::Args)]
pub struct Place {
    /// The data directory [default: `journal.path` of the configuration].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// Writes every record as one line of JSON.
    Export {
        /// The file to write [default: stdout].
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

pub fn run(command: Command) -> Outcome {
    match command {
        Command::Verify(place) => {
            let report = sled_store::verify(&place.directory()?).map_err(failure)?;
            if place.output.is_json() {
                output::json(&report)?
            } else {
                output::line(&report)?
            }
            if report.is_whole() { Ok(()) } else { Err(Failure::said(Code::Damaged)) }
        }
        Command::Backup { to, place } => {
            let report = sled_store::backup(&place.directory()?, &to).map_err(failure)?;
            print(&report, place.output)
        }
        Command::Restore { from, place } => {
            let data = place.directory()?;
            let report = sled_store::restore(&from, &data).map_err(failure)?;
            if let Some(before) = &report.before {
                // The store of dev's nats-server lies in the data directory and is no part of the journal.
                let (stayed, wanted) = (before.join("nats"), data.join("nats"));
                if stayed.is_dir() {
                    fs::rename(&stayed, &wanted).map_err(|error| {
                        Failure::new(Code::Failed, format!("cannot move {} back: {error}", stayed.display()))
                            .help(format!("the journal is restored; move it to {} yourself", wanted.display()))
                    })?;
                }
            }
            print(&report, place.output)
        }
        Command::Export { to, place } => export(to, &place),
    }
}

fn print<T: serde::Serialize + std::fmt::Display>(report: &T, output: Output) -> Outcome {
    if output.is_json() {
        output::json(report)?
    } else {
        output::line(report)?
    }
    Ok(())
}

fn export(to: Option<PathBuf>, place: &Place) -> Outcome {
    let data = place.directory()?;
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

fn failure(error: journal::Error) -> Failure {
    let code = match &error {
        Error::Locked { .. } => Code::InUse,
        Error::Damaged { .. } | Error::BehindHead { .. } => Code::Damaged,
        Error::Refused { .. } => Code::BadInput,
        _ => Code::Failed,
    };
    Failure::new(code, error.to_string())
}
