//! `backstitch publish`: one event from the command line.

use owo_colors::OwoColorize;

use super::Connection;
use super::client::EventOptions;
use super::exit::Outcome;
use super::output::{self, Output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event type with its version, for example order.placed.v2.
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data: JSON, @FILE, or - for stdin.
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: String,
    /// The partition key: events with the same key keep their order.
    #[arg(long)]
    key: Option<String>,
    /// Ties the event to others.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Who says it, as a URI reference.
    #[arg(long, value_name = "URI")]
    source: Option<String>,
    /// The event's id; the same id again (with the same source) is the same event.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn run(args: Args) -> Outcome {
    let data = super::input::json("--data", &args.data)?;
    let options = EventOptions { key: args.key, correlation_id: args.correlation_id, id: args.id, source: args.source };
    let accepted = args.connection.client()?.publish(&args.event_type, &data, &options).await?;
    if args.output.is_json() {
        output::json(&accepted)?;
    } else {
        let again = if accepted.duplicate { ", which the bus had already" } else { "" };
        output::line(format!("published {} as number {}{again}", accepted.id.bold(), accepted.sequence))?;
    }
    Ok(())
}
