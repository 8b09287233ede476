//! `backstitch config check`.

use std::path::{Path, PathBuf};

use super::diagnostics::{Format, report};
use super::exit::Outcome;
use super::output;
use crate::app::Finding;
use crate::config::Config;

/// Read from the working directory where it is there.
pub const FILE_DEFAULT: &str = "backstitch.yaml";

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Reads the configuration and tells every mistake in it. Opens nothing.
    Check {
        /// The configuration; ./backstitch.yaml if it is there.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// For people, programs, or a GitHub workflow.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: Format,
    },
}

pub fn run(command: &Command) -> Outcome {
    let Command::Check { config, output } = command;
    match load(config.as_deref()) {
        Ok((config, file)) => {
            if *output == Format::Human {
                let file = file.map_or_else(|| "the built-in defaults".to_owned(), |file| file.display().to_string());
                output::line(format!("{file}: no mistakes; {} services", config.services.len()))?;
                return Ok(());
            }
            report(&[], *output, None)
        }
        Err(findings) => report(&findings, *output, None),
    }
}

/// Reads a configuration: the named file, else the one in the working directory, else the defaults.
pub fn load(file: Option<&Path>) -> Result<(Config, Option<PathBuf>), Vec<Finding>> {
    let file = match file {
        Some(file) => Some(file.to_owned()),
        None => Some(PathBuf::from(FILE_DEFAULT)).filter(|file| file.exists()),
    };
    match Config::load(file.as_deref()) {
        Ok(config) => Ok((config, file)),
        Err(found) => Err(found.into_iter().map(Finding::from).collect()),
    }
}
