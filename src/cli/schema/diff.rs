//! `backstitch schema diff A B`: two schemas, each a file or a loaded version, and what of it is compatible.

use std::path::Path;

use clap::ValueEnum;
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::Value;

use super::Folder;
use crate::cli::exit::{Code, Failure, Outcome};
use crate::cli::output::{self, Output};
use crate::id::EventType;
use crate::schema::compat::{Direction, Profile, Report, Verdict, check};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The old schema: a file, or a version such as order.placed.v1.
    #[arg(value_name = "OLD")]
    old: String,
    /// The new schema.
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    folder: Folder,
    /// How much a schema that leaves something open lets through [default: the type's policy, else lenient].
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Option<ProfileName>,
    /// Which way they have to get along, for the exit code.
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    compatibility: Way,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    /// A new optional property is compatible.
    Lenient,
    /// What was not forbidden may have been there.
    Strict,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The new version reads old documents.
    #[default]
    Backward,
    /// The old version reads new documents.
    Forward,
    /// Both.
    Full,
}

#[derive(Serialize)]
struct Differences {
    /// Of the way that was asked for.
    verdict: Verdict,
    compatible: bool,
    profile: Profile,
    backward: Report,
    forward: Report,
}

pub fn run(args: &Args) -> Outcome {
    let (old, policy) = read(&args.old, &args.folder)?;
    let (new, _) = read(&args.new, &args.folder)?;
    let profile = match args.profile {
        Some(ProfileName::Lenient) => Profile::Lenient,
        Some(ProfileName::Strict) => Profile::Strict,
        None => policy.unwrap_or_default(),
    };
    let backward = check(&old, &new, Direction::Backward, profile);
    let forward = check(&old, &new, Direction::Forward, profile);
    let verdict = match args.compatibility {
        Way::Backward => backward.verdict,
        Way::Forward => forward.verdict,
        Way::Full => backward.verdict.max(forward.verdict),
    };
    let compatible = verdict == Verdict::Compatible;
    if args.output.is_json() {
        output::json(&Differences { verdict, compatible, profile, backward, forward })?;
    } else {
        for report in [&backward, &forward] {
            print(report, &args.old, &args.new)?;
        }
    }
    if compatible { Ok(()) } else { Err(Failure::said(Code::Failed)) }
}

/// Reads a schema, and the profile of its type's policy where it has one.
fn read(named: &str, folder: &Folder) -> Result<(Value, Option<Profile>), Failure> {
    let path = Path::new(named);
    if path.exists() || path.extension().is_some_and(|extension| extension == "json") {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::bad_input(format!("cannot read {named}: {error}")))?;
        let schema = serde_json::from_str::<Value>(&text)
            .map_err(|error| Failure::bad_input(format!("{named} is no JSON: {error}")))?;
        if !schema.is_object() && !schema.is_boolean() {
            return Err(Failure::bad_input(format!("{named} is no JSON Schema: a schema is an object, true or false")));
        }
        return Ok((schema, None));
    }
    let event_type = EventType::parse(named).map_err(|error| {
        Failure::bad_input(error.to_string()).help("name a file, or a version such as order.placed.v1")
    })?;
    let registry = super::load_or_tell(&folder.path())?;
    let Some(entry) = registry.get(&event_type) else {
        let hint = registry.nearest(named).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Failure::bad_input(format!("no schema for {named}{hint}"))
            .help("`backstitch schema list` shows what there is"));
    };
    Ok((entry.source.to_value(), Some(registry.policy(event_type.name()).profile)))
}

/// Prints one direction for people.
pub fn print(report: &Report, old: &str, new: &str) -> std::io::Result<()> {
    let who = match report.direction {
        Direction::Backward => format!("{new} reads what {old} wrote"),
        Direction::Forward => format!("{old} reads what {new} writes"),
    };
    let verdict = match report.verdict {
        Verdict::Compatible => "compatible".green().to_string(),
        Verdict::CannotTell => "cannot tell".yellow().to_string(),
        Verdict::Incompatible => "incompatible".red().to_string(),
    };
    output::line(format!("{:<9} {verdict}: {who}", report.direction.as_str()))?;
    for difference in &report.differences {
        output::line(describe(difference))?;
    }
    if let Some(example) = &report.example {
        output::line(format!("  a document that shows it: {example}"))?;
    }
    Ok(())
}

/// Returns a difference as a few lines.
pub fn describe(difference: &crate::schema::compat::Difference) -> String {
    let place = |side: &crate::schema::compat::Side| match (side.pointer.as_str(), side.text.as_str()) {
        ("", "") => "(nothing)".to_owned(),
        ("", text) => format!("#  {text}"),
        (pointer, text) => format!("#{pointer}  {text}"),
    };
    let data = if difference.path.is_empty() { "(the whole)" } else { &difference.path };
    format!(
        "  [{}] {}: {}\n    old   {}\n    new   {}\n    help  {}",
        difference.rule,
        data,
        difference.message,
        place(&difference.old),
        place(&difference.new),
        difference.help
    )
}
