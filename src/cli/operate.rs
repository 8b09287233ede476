//! The operator's commands to a run: cancel, pause, resume, retry, skip, resolve; and a person's answer.

use serde_json::{Value, json};

use super::Connection;
use super::exit::{Failure, Outcome};
use super::output::{self, Format, Output, coloured};
use super::runs::parse_run;
use crate::coordinator::view::RunView;
use crate::id::RunId;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's id.
    #[arg(value_parser = parse_run)]
    run: RunId,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    #[command(flatten)]
    common: Args,
    /// Why; kept in the run's history.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    #[command(flatten)]
    common: Args,
    /// Under a new idempotency key; refused while the old outcome is unknown.
    #[arg(long)]
    new_key: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("found").required(true))]
pub struct ResolveArgs {
    /// The run's id.
    #[arg(value_parser = parse_run)]
    run: RunId,
    /// It did happen.
    #[arg(long, group = "found")]
    done: bool,
    /// It did not happen.
    #[arg(long, group = "found")]
    not_done: bool,
    /// What the step gave, as JSON (with --done); or the format of the answer, human or json.
    #[arg(long, value_name = "JSON|FORMAT")]
    output: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct AnswerArgs {
    #[command(flatten)]
    common: Args,
    /// The path of the step that asks; `show` names it.
    #[arg(long)]
    step: String,
    /// Who answers; kept in the run's history.
    #[arg(long)]
    by: String,
    /// The answer, as its form wants it.
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: String,
}

/// Answers a step that asks a person.
pub async fn answer(args: AnswerArgs) -> Outcome {
    let answer = super::input::json("--data", &args.data)?.to_value();
    let body = json!({ "step": args.step, "by": args.by, "answer": answer });
    give(args.common, "answer", body).await
}

/// Gives a command without options.
pub async fn plain(command: &str, args: Args) -> Outcome {
    give(args, command, json!({})).await
}

pub async fn cancel(args: CancelArgs) -> Outcome {
    let body = args.reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    give(args.common, "cancel", body).await
}

pub async fn retry(args: RetryArgs) -> Outcome {
    let body = if args.new_key { json!({ "new_key": true }) } else { json!({}) };
    give(args.common, "retry", body).await
}

pub async fn resolve(args: ResolveArgs) -> Outcome {
    let (value, format) = split_output(&args.output)?;
    let mut body = json!({ "done": args.done });
    if let Some(value) = value {
        if args.not_done {
            return Err(Failure::bad_input("--output with a value goes with --done only"));
        }
        body["output"] = value;
    }
    let common = Args { run: args.run, connection: args.connection, output: Output { format } };
    give(common, "resolve", body).await
}

/// `--output` is two things here: `json` and `human` name the answer's format, all else is the step's
/// output. Neither word is JSON, so they cannot be confused.
fn split_output(given: &[String]) -> Result<(Option<Value>, Format), Failure> {
    let (mut value, mut format) = (None, Format::Human);
    for text in given {
        match text.as_str() {
            "json" => format = Format::Json,
            "human" => format = Format::Human,
            text => value = Some(super::input::json("--output", text)?.to_value()),
        }
    }
    Ok((value, format))
}

async fn give(args: Args, command: &str, body: Value) -> Outcome {
    let run: RunView = args.connection.client()?.operate(args.run, command, &body).await?;
    if args.output.is_json() {
        output::json(&run)?;
    } else {
        output::line(format!("{command}: run {} is {} ({})", run.id, coloured(&run.state), run.phase))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_a_value_or_a_format() {
        type Row<'a> = (&'a str, &'a [&'a str], Option<(Option<Value>, Format)>);
        let rows: &[Row] = &[
            ("nothing", &[], Some((None, Format::Human))),
            ("the format", &["json"], Some((None, Format::Json))),
            ("a value", &["{\"a\":1}"], Some((Some(json!({"a": 1})), Format::Human))),
            ("both", &["\"json\"", "json"], Some((Some(json!("json")), Format::Json))),
            ("neither", &["yaml"], None),
        ];
        for (why, given, expected) in rows {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(split_output(&given).ok(), *expected, "{why}");
        }
    }
}
