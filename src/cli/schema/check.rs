//! `backstitch schema check`: for a person and for CI. Files, examples and upcasters; how versions get along;
//! what has changed since a published set; which sagas that would break.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Folder, diff, published};
use crate::app::{Finding, Sources, load};
use crate::cli::diagnostics::{Format, report};
use crate::cli::exit::{Code, Failure, Outcome};
use crate::cli::output;
use crate::schema::compat::Verdict;
use crate::schema::{Comparison, Registry, compare_versions};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the schemas [default: ./schemas].
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// What was published before: a folder, `git:REV`, or the address of a Backstitch. A published version must
    /// go on to get along with itself, and may not go.
    #[arg(long, value_name = "DIR|git:REV|URL")]
    against: Option<String>,
    /// Also tell which sagas the schemas would break; with --against: which they break that were whole before.
    #[arg(long)]
    used_by: bool,
    /// Saga files for --used-by, or folders of them [default: ./sagas].
    #[arg(long, value_name = "PATH")]
    sagas: Vec<PathBuf>,
    /// The configuration, for the services that sagas name [default: ./backstitch.yaml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For people, programs, or a GitHub workflow.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Outcomes<'a> {
    compatible: bool,
    types: usize,
    versions: usize,
    comparisons: Vec<&'a Comparison>,
    findings: &'a [Finding],
}

pub async fn run(args: Args) -> Outcome {
    let folder = args.dir.clone().unwrap_or_else(|| args.folder.path());
    let registry = match super::load(&folder) {
        Ok(registry) => registry,
        Err(findings) => return told(&args, &findings, &[], &Registry::default()),
    };
    let mut comparisons = compare_versions(&registry).comparisons;
    let mut findings = Vec::new();
    let mut before = None;
    if let Some(against) = &args.against {
        let old = published::read(against, &folder).await?;
        comparisons.extend(registry.against(&old));
        findings.extend(old_versions_gone(&registry, &old, against, &folder));
        before = Some(old);
    }
    findings.extend(comparisons.iter().filter(|comparison| !comparison.holds()).map(finding));
    if args.used_by {
        findings.extend(broken_sagas(&args, &registry, before)?);
    }
    told(&args, &findings, &comparisons, &registry)
}

fn told(args: &Args, findings: &[Finding], comparisons: &[Comparison], registry: &Registry) -> Outcome {
    let (types, versions) = (registry.names().len(), registry.types().count());
    if args.output == Format::Json {
        let compatible = !findings.iter().any(Finding::is_error);
        output::json(&Outcomes { compatible, types, versions, comparisons: comparisons.iter().collect(), findings })?;
        return if compatible { Ok(()) } else { Err(Failure::said(Code::BadInput)) };
    }
    if args.output == Format::Human {
        for comparison in comparisons.iter().filter(|comparison| comparison.holds()) {
            output::line(line(comparison))?;
        }
    }
    report(findings, args.output, None)?;
    if args.output == Format::Human {
        output::line(format!("no mistakes: {types} event types in {versions} versions get along"))?;
    }
    Ok(())
}

/// Says in one line that two versions get along.
fn line(comparison: &Comparison) -> String {
    let Comparison { name, old, new, report, bridged_by, .. } = comparison;
    let direction = report.direction.as_str();
    match bridged_by {
        Some(file) => format!("{name} v{old} to v{new}, {direction}: bridged by {file}"),
        None => format!("{name} v{old} to v{new}, {direction}: compatible"),
    }
}

fn finding(comparison: &Comparison) -> Finding {
    let Comparison { name, old, new, file, report, .. } = comparison;
    let rule = report.differences.first().map_or("not_compared", |difference| difference.rule);
    let says = match report.verdict {
        Verdict::Incompatible => "is not",
        Verdict::CannotTell => "may not be",
        Verdict::Compatible => "is",
    };
    let subject = if old == new {
        format!(
            "{name} v{new} was published and has changed: it {says} {} compatible with what it was",
            report.direction.as_str()
        )
    } else {
        format!("{name} v{new} {says} {} compatible with v{old}", report.direction.as_str())
    };
    let mut rendered = format!("error[{rule}]: {subject}\n  --> {file}");
    for difference in &report.differences {
        rendered = format!("{rendered}\n{}", diff::describe(difference));
    }
    if let Some(example) = &report.example {
        rendered = format!("{rendered}\n  a document that shows it: {example}");
    }
    let reasons: Vec<String> = report
        .differences
        .iter()
        .map(|difference| format!("[{}] {} {}", difference.rule, difference.path, difference.message))
        .collect();
    let help = report.differences.first().map(|difference| difference.help.clone());
    Finding {
        code: rule.to_owned(),
        severity: "error",
        file: file.clone(),
        line: 0,
        column: 0,
        message: format!("{subject}: {}", reasons.join("; ")),
        help,
        rendered,
    }
}

fn old_versions_gone(registry: &Registry, old: &Registry, against: &str, folder: &Path) -> Vec<Finding> {
    let gone = registry.gone_since(old);
    gone.into_iter()
        .map(|event_type| {
            let file = folder.join(event_type.name()).join(format!("v{}.json", event_type.version()));
            let message = format!("{event_type} is in {against}, and not here any more");
            let help = "events of it may still be in the stream: keep the file while they are read";
            Finding::of_file(&file.display().to_string(), "version_removed", message, Some(help))
        })
        .collect()
}

/// Returns what the sagas' expressions and triggers find wrong in the schemas.
fn broken_sagas(args: &Args, registry: &Registry, before: Option<Registry>) -> Result<Vec<Finding>, Failure> {
    let sagas = match args.sagas.as_slice() {
        [] => load::folder_or_none(None, "sagas").into_iter().collect(),
        named => named.to_vec(),
    };
    if sagas.is_empty() {
        return Err(Failure::bad_input("there is no folder ./sagas").help("name saga files with --sagas"));
    }
    let config = match crate::cli::config::load(args.config.as_deref()) {
        Ok((config, _)) => config,
        Err(findings) => {
            report(&findings, args.output, None)?;
            return Err(Failure::said(Code::BadInput));
        }
    };
    let sources = Sources { sagas, schemas: None };
    let found = |registry: Registry| match load::load_with(Some(&config), &sources, registry) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    };
    let now = found(registry.clone());
    let known = before.map(found).unwrap_or_default();
    let is_new = |finding: &Finding| !known.iter().any(|one| one.rendered == finding.rendered);
    Ok(now.into_iter().filter(|finding| finding.is_error() && is_new(finding)).collect())
}
