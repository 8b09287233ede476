//! `backstitch rollout`: a share of a saga's starts for one of its versions.

use serde_json::json;

use super::exit::Outcome;
use super::output::{self, Output};
use super::{Connection, client};
use crate::coordinator::view::RolloutView;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The saga's name.
    saga: String,
    /// The version that takes the share; the other starts take the newest of the other versions.
    #[arg(long, requires = "percent", conflicts_with = "end")]
    version: Option<u32>,
    /// Of a hundred starts that name no version, so many take it: 0 to 100.
    #[arg(long, requires = "version")]
    percent: Option<u8>,
    /// Ends the rollout: every start takes the newest version.
    #[arg(long)]
    end: bool,
    /// Who does it; kept in the audit.
    #[arg(long)]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Begins, shows or ends a rollout.
pub async fn run(args: Args) -> Outcome {
    let client = args.connection.client()?;
    let target = format!("/api/v1/sagas/{}/rollout", client::encode(&args.saga));
    if args.end {
        client.command(&format!("{target}/end"), &json!({ "by": args.by })).await?;
        if args.output.is_json() {
            output::json(&json!({ "saga": args.saga, "rollout": null }))?;
        } else {
            output::line(format!("{}: every start takes the newest version", args.saga))?;
        }
        return Ok(());
    }
    let view: RolloutView = match (args.version, args.percent) {
        (Some(version), Some(percent)) => {
            client.tell(&target, &json!({ "version": version, "percent": percent, "by": args.by })).await?
        }
        _ => client.get(&target).await?,
    };
    if args.output.is_json() {
        output::json(&view)?;
        return Ok(());
    }
    let RolloutView { saga, version, percent, others, loaded, since, by } = view;
    let rest = others.map_or_else(String::new, |others| format!(", the others v{others}"));
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    output::line(format!("{saga}: {percent} of 100 starts take v{version}{rest} (since {since}{by})"))?;
    if !loaded {
        output::line(format!("v{version} is not loaded: every start takes the newest version"))?;
    }
    Ok(())
}
