//! `backstitch schema`: the schemas of a folder, listed, checked, compared, and written down for others.

mod check;
mod diff;
mod docs;
mod published;

use std::path::{Path, PathBuf};

use super::exit::{Failure, Outcome};
use super::output::{self, Output};
use crate::api::{TypeView, type_view};
use crate::app::{Finding, files};
use crate::schema::Registry;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Lists the event types of a folder of schemas, with their versions.
    List(ListArgs),
    /// Checks schemas, examples, upcasters, and how versions get along. Starts nothing.
    Check(check::Args),
    /// Says what two schemas do not agree in, and whether that is compatible.
    Diff(diff::Args),
    /// Writes an AsyncAPI document and a catalogue of all events.
    Docs(docs::Args),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Folder {
    /// Folder of the schemas [default: ./schemas].
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> PathBuf {
        self.schemas.clone().unwrap_or_else(|| PathBuf::from("schemas"))
    }
}

/// Runs a command.
///
/// # Errors
/// [`Failure`].
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::List(args) => list(&args),
        Command::Check(args) => check::run(args).await,
        Command::Diff(args) => diff::run(&args),
        Command::Docs(args) => docs::run(&args),
    }
}

/// Reads a folder.
///
/// # Errors
/// Every mistake in every file.
fn load(folder: &Path) -> Result<Registry, Vec<Finding>> {
    let texts = files::schemas(folder)?;
    Registry::load(texts).map_err(|found| found.into_iter().map(Finding::from).collect())
}

/// As [`load`]; mistakes are told on stderr.
fn load_or_tell(folder: &Path) -> Result<Registry, Failure> {
    load(folder).map_err(|findings| {
        for finding in &findings {
            anstream::eprintln!("{}\n", finding.rendered);
        }
        super::diagnostics::summary(&findings);
        Failure::said(super::exit::Code::BadInput)
    })
}

fn list(args: &ListArgs) -> Outcome {
    let registry = load_or_tell(&args.folder.path())?;
    let types: Vec<TypeView> = registry.names().into_iter().map(|name| type_view(&registry, name)).collect();
    if args.output.is_json() {
        output::json(&types)?;
        return Ok(());
    }
    let mut table = output::table(&["type", "versions", "compatibility", "profile", "upcasters"]);
    for one in &types {
        let versions: Vec<String> = one.versions.iter().map(|version| format!("v{version}")).collect();
        let files: Vec<&str> = one.upcasters.iter().map(|file| file.rsplit('/').next().unwrap_or(file)).collect();
        table.add_row([&one.name, &versions.join(" "), &one.compatibility, &one.profile, &files.join(" ")]);
    }
    output::print_table(&table)?;
    Ok(())
}
