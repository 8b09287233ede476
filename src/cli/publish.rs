//! `backstitch publish`: one event from the command line, or a stream of them.

use owo_colors::OwoColorize;

use super::Connection;
use super::client::EventOptions;
use super::exit::{Failure, Outcome};
use super::output::{self, Output};
use super::publish_stream::{self, Plan};
use crate::time::Span;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event type with its version, for example order.placed.v2. Without it each line of --stream is a CloudEvent.
    #[arg(value_name = "TYPE", required_unless_present = "stream")]
    event_type: Option<String>,
    /// The event's data: JSON, @FILE, or - for stdin.
    #[arg(long, value_name = "JSON|@FILE|-", required_unless_present = "stream", requires = "event_type")]
    data: Option<String>,
    /// Many events: a file, or - for stdin, with one JSON document a line; data of TYPE, or whole CloudEvents.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["data", "key", "id"])]
    stream: Option<String>,
    /// With --stream and TYPE: a JSON pointer to the partition key in the data.
    #[arg(long, value_name = "POINTER", requires_all = ["stream", "event_type"])]
    key_at: Option<String>,
    /// With --stream and TYPE: a JSON pointer to the event's id in the data; else an id is made of the line.
    #[arg(long, value_name = "POINTER", requires_all = ["stream", "event_type"])]
    id_at: Option<String>,
    /// With --stream: how long NATS or the API may be away.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::runs::parse_span)]
    patience: Span,
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
    let client = args.connection.client()?;
    if let Some(input) = args.stream {
        let plan = Plan {
            event_type: args.event_type,
            input,
            source: args.source,
            correlation_id: args.correlation_id,
            key_at: args.key_at,
            id_at: args.id_at,
            patience: args.patience.to_std(),
        };
        return publish_stream::run(plan, &client, args.output).await;
    }
    let (Some(event_type), Some(data)) = (args.event_type, args.data) else {
        return Err(Failure::bad_input("name a TYPE and give its --data, or a --stream"));
    };
    let data = super::input::json("--data", &data)?;
    let options = EventOptions { key: args.key, correlation_id: args.correlation_id, id: args.id, source: args.source };
    let accepted = client.publish(&event_type, &data, &options).await?;
    if args.output.is_json() {
        output::json(&accepted)?;
    } else {
        let again = if accepted.duplicate { ", which the bus had already" } else { "" };
        output::line(format!("published {} as number {}{again}", accepted.id.bold(), accepted.sequence))?;
    }
    Ok(())
}
