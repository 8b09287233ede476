//! `backstitch migrate`: runs in flight to another version of their saga.

use serde_json::json;

use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};
use super::runs::parse_run;
use super::{Connection, client};
use crate::coordinator::view::{MigrationPage, MigrationView};
use crate::id::RunId;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Args {
    /// The run's id.
    #[arg(value_parser = parse_run, group = "which")]
    run: Option<RunId>,
    /// Every open run of this saga that is on another version.
    #[arg(long, value_name = "SAGA", group = "which")]
    all: Option<String>,
    /// The version to move to; it must be loaded.
    #[arg(long, value_name = "VERSION")]
    to: u32,
    /// Only says which could move, and why not.
    #[arg(long)]
    check: bool,
    /// Steps that a run has met may be undone in another way there.
    #[arg(long)]
    new_undo: bool,
    /// Who does it; kept in the run's history.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Moves runs, or says which could move. Fails when one could not.
pub async fn run(args: Args) -> Outcome {
    let client = args.connection.client()?;
    let mut body = json!({ "to": args.to, "check": args.check, "new_undo": args.new_undo, "by": args.by });
    let mut left = 0;
    let mut told = |view: &MigrationView| -> Result<(), Failure> {
        left += usize::from(!view.reasons.is_empty());
        if args.output.is_json() {
            output::json(view)?;
            return Ok(());
        }
        let MigrationView { run, saga, from, to, moved, reasons } = view;
        let what = match (reasons.is_empty(), moved) {
            (true, true) => "moved".to_owned(),
            (true, false) => "can move".to_owned(),
            (false, _) => format!("cannot move: {}", reasons.join("; ")),
        };
        output::line(format!("{run} {saga} v{from} -> v{to}: {what}"))?;
        Ok(())
    };
    if let Some(run) = args.run {
        let view: MigrationView = client.tell(&format!("/api/v1/runs/{run}/migrate"), &body).await?;
        told(&view)?;
    }
    if let Some(saga) = &args.all {
        let target = format!("/api/v1/sagas/{}/migrate", client::encode(saga));
        loop {
            let page: MigrationPage = client.tell(&target, &body).await?;
            page.runs.iter().try_for_each(&mut told)?;
            let Some(cursor) = page.cursor else { break };
            body["cursor"] = json!(cursor);
        }
    }
    if left > 0 {
        return Err(Failure::new(Code::Failed, format!("{left} cannot move")));
    }
    Ok(())
}
