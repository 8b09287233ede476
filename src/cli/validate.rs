//! `backstitch validate`: every mistake in saga files, schemas and the configuration, without starting anything.

use std::path::PathBuf;

use super::diagnostics::{Deny, Format, report};
use super::exit::{Failure, Outcome};
use super::output;
use crate::app::{Sources, load};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Saga files, or folders of them [default: ./sagas].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder of the schemas [default: ./schemas].
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
    /// The configuration, for the services' names [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Takes warnings for mistakes.
    #[arg(long, value_enum, value_name = "WHAT")]
    deny: Option<Deny>,
    /// For people, programs, a GitHub workflow, or a code scanner.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub fn run(args: &Args) -> Outcome {
    let sagas = match args.paths.as_slice() {
        [] => load::folder_or_none(None, "sagas").into_iter().collect(),
        named => named.to_vec(),
    };
    if sagas.is_empty() {
        return Err(Failure::bad_input("there is no folder ./sagas").help("name saga files: backstitch validate PATH…"));
    }
    let sources = Sources { sagas, schemas: load::folder_or_none(args.schemas.as_deref(), "schemas") };
    let (config, mut findings) = match super::config::load(args.config.as_deref()) {
        Ok((config, _)) => (Some(config), Vec::new()),
        Err(findings) => (None, findings),
    };
    match load::load(config.as_ref(), &sources) {
        Ok(loaded) => {
            findings.extend(loaded.warnings);
            report(&findings, args.output, args.deny)?;
            if args.output == Format::Human {
                let sagas: Vec<String> = loaded
                    .catalogue
                    .all()
                    .map(|entry| format!("{} v{}", entry.definition.name, entry.definition.version))
                    .collect();
                let types = loaded.registry.types().count();
                output::line(format!("no mistakes: {}; {types} event types", sagas.join(", ")))?;
            }
            Ok(())
        }
        Err(found) => {
            findings.extend(found);
            report(&findings, args.output, args.deny)
        }
    }
}
