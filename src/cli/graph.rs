//! `backstitch graph`: a saga as a picture, or what is undone when it fails at a step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::diagnostics::{self, report};
use super::exit::{Failure, Outcome};
use super::output;
use crate::app::{Sources, load};
use crate::definition::{SagaDefinition, graph};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A saga file, or the name of a saga in the folder.
    saga: String,
    /// How it is drawn.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// What is undone, and in which order, when the run fails at this step.
    #[arg(long, value_name = "STEP")]
    undo_from: Option<String>,
    /// Folder of the sagas [default: ./sagas].
    #[arg(long, value_name = "DIR")]
    sagas: Option<PathBuf>,
    /// Folder of the schemas [default: ./schemas].
    #[arg(long, value_name = "DIR")]
    schemas: Option<PathBuf>,
    /// The configuration, for the services' names [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// Mermaid, which many pages draw; an undo plan as text.
    #[default]
    Auto,
    Mermaid,
    /// Graphviz.
    Dot,
    Svg,
    /// An undo plan as numbered lines.
    Text,
}

pub fn run(args: &Args) -> Outcome {
    let saga = saga(args)?;
    let Some(step) = &args.undo_from else {
        return match args.format {
            Format::Text => Err(Failure::bad_input("only an undo plan can be text").help("add --undo-from STEP")),
            format => draw(&graph::flow(&saga), format),
        };
    };
    let Some(index) = saga.find(step) else {
        let ids: Vec<&str> = saga.steps.iter().map(|step| step.id.as_str()).collect();
        let help = match crate::expression::suggest(step, ids.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("it has {}", ids.join(", ")),
        };
        return Err(Failure::bad_input(format!("saga {} has no step {step}", saga.name)).help(help));
    };
    match (graph::plan(&saga, index), args.format) {
        (Err(why), _) => Ok(output::line(why)?),
        (Ok(plan), Format::Auto | Format::Text) => {
            Ok(output::line(format!("undo from {step}:\n{}", plan.text().trim_end()))?)
        }
        (Ok(plan), format) => draw(&plan.graph(step), format),
    }
}

fn draw(graph: &graph::Graph, format: Format) -> Outcome {
    let text = match format {
        Format::Auto | Format::Mermaid | Format::Text => graph::mermaid(graph),
        Format::Dot => graph::dot(graph),
        Format::Svg => graph::svg(graph),
    };
    Ok(output::line(text.trim_end())?)
}

/// Loads the one file that is named, or the folder and finds the newest version of the name in it.
fn saga(args: &Args) -> Result<Arc<SagaDefinition>, Failure> {
    let path = Path::new(&args.saga);
    let is_path = path.is_file() || args.saga.contains(['/', '\\', '.']);
    let folder = args.sagas.clone().unwrap_or_else(|| PathBuf::from("sagas"));
    let sagas = vec![if is_path { path.to_owned() } else { folder.clone() }];
    let sources = Sources { sagas, schemas: load::folder_or_none(args.schemas.as_deref(), "schemas") };
    let config = super::config::load(args.config.as_deref()).ok().map(|(config, _)| config);
    let loaded = match load::load(config.as_ref(), &sources) {
        Ok(loaded) => loaded,
        Err(findings) => {
            report(&findings, diagnostics::Format::Human, None)?;
            return Err(Failure::bad_input("nothing could be loaded"));
        }
    };
    let found = loaded.catalogue.all().filter(|entry| is_path || entry.definition.name.as_str() == args.saga);
    let newest = found.max_by_key(|entry| entry.definition.version).map(|entry| entry.definition.clone());
    newest.ok_or_else(|| {
        let names: Vec<String> = loaded.catalogue.all().map(|entry| entry.definition.name.to_string()).collect();
        let help = match crate::expression::suggest(&args.saga, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there is {}", names.join(", ")),
        };
        Failure::bad_input(format!("there is no saga {} in {}", args.saga, folder.display())).help(help)
    })
}
