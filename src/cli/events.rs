//! `backstitch events`: read along, give events again; and who gets them over HTTP.

use std::time::Duration;

use futures_util::StreamExt;
use owo_colors::OwoColorize;

use super::Connection;
use super::client::ByBody;
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};
use crate::events::replay::{Replay, Request};
use crate::id::EventType;

/// How often the progress of a replay is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Prints events as they come, one line of JSON each, until it is stopped.
    Tail(TailArgs),
    /// Gives events once more to one target, at a bounded rate.
    Replay(ReplayArgs),
    /// Lists replays with their progress.
    Replays(Plain),
    /// Ends a replay.
    CancelReplay(NamedArgs),
    /// Lists subscriptions.
    Subscriptions(Plain),
    /// Lets a disabled subscription go on where it was.
    Enable(NamedArgs),
    /// Stops a subscription; its events wait.
    Disable(NamedArgs),
}

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// Event types with their versions; none for all.
    #[arg(value_name = "TYPE")]
    types: Vec<EventType>,
    /// Where to begin: now, start, a place (`streamsequence`), RFC 3339, or a duration back from now.
    #[arg(long, default_value = "now", value_name = "PLACE")]
    from: String,
    /// Only events with this partition key.
    #[arg(long)]
    key: Option<String>,
    /// Only events with this correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// End after so many.
    #[arg(long)]
    limit: Option<usize>,
    /// End with what there is, instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Who gets them: `sagas` (those whose trigger says `on_replay: run`), or a subscription.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// Event types; none for all.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Only events with this partition key.
    #[arg(long)]
    key: Option<String>,
    /// Only events with this correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// The first: start, a place, RFC 3339, or a duration back from now.
    #[arg(long, default_value = "start", value_name = "PLACE")]
    from: String,
    /// The last: now, a place, RFC 3339, or a duration back from now.
    #[arg(long, default_value = "now", value_name = "PLACE")]
    until: String,
    /// How fast: 100/s, 600/m, 5000/h.
    #[arg(long, default_value = "100/s")]
    rate: String,
    /// Return at once; the replay goes on.
    #[arg(long)]
    no_wait: bool,
    /// Who asks for it, for the audit.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct NamedArgs {
    /// The replay's id, or the subscription's name.
    name: String,
    /// Who does it, for the audit.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Tail(args) => tail(args).await,
        Command::Replay(args) => replay(args).await,
        Command::Replays(args) => replays(args).await,
        Command::CancelReplay(args) => {
            let target = format!("/api/v1/replays/{}/cancel", super::client::encode(&args.name));
            let replay: Replay = args.connection.client()?.tell(&target, &ByBody { by: args.by }).await?;
            print_replay(&replay, args.output)
        }
        Command::Subscriptions(args) => subscriptions(args).await,
        Command::Enable(args) => switch(args, "enable").await,
        Command::Disable(args) => switch(args, "disable").await,
    }
}

async fn tail(args: TailArgs) -> Outcome {
    let types: Vec<&str> = args.types.iter().map(EventType::as_str).collect();
    let asked = serde_json::json!({
        "type": Some(types.join(",")).filter(|types| !types.is_empty()),
        "key": args.key, "correlation_id": args.correlation_id,
    });
    let client = args.connection.client()?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    if args.no_follow {
        let mut from = args.from;
        while left > 0 {
            let mut asked = asked.clone();
            (asked["from"], asked["limit"]) = (from.clone().into(), left.min(1_000).into());
            let page = client.events(&asked).await?;
            for event in &page.events {
                output::json_line(event)?;
            }
            left -= page.events.len();
            if page.events.is_empty() {
                break;
            }
            from = page.next.to_string();
        }
        return Ok(());
    }
    let mut asked = asked;
    (asked["from"], asked["follow"]) = (args.from.into(), true.into());
    let mut lines = std::pin::pin!(client.follow_events(&asked).await?);
    while left > 0 {
        match lines.next().await {
            Some(line) => output::line(line?)?,
            None => return Err(Failure::new(Code::Unreachable, "the stream ended: the process stops")),
        }
        left -= 1;
    }
    Ok(())
}

async fn replay(args: ReplayArgs) -> Outcome {
    let client = args.connection.client()?;
    let request = Request {
        target: args.to,
        types: args.types,
        key: args.key,
        correlation_id: args.correlation_id,
        from: Some(args.from),
        to: Some(args.until),
        rate: Some(args.rate),
        by: args.by,
    };
    let mut replay: Replay = client.tell("/api/v1/replays", &request).await?;
    if args.no_wait {
        return print_replay(&replay, args.output);
    }
    let mut shown = u64::MAX;
    while !replay.has_ended() {
        if replay.next != shown && !args.output.is_json() {
            anstream::eprintln!("{}", progress(&replay));
            shown = replay.next;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
        replay = client.get(&format!("/api/v1/replays/{}", replay.id)).await?;
    }
    print_replay(&replay, args.output)?;
    if replay.state == "done" { Ok(()) } else { Err(Failure::said(Code::Failed)) }
}

fn progress(replay: &Replay) -> String {
    let all = (replay.to + 1).saturating_sub(replay.from).max(1);
    let through = replay.next.saturating_sub(replay.from).min(all);
    format!("replay {}: {}% of {} to {}, {} given", replay.id, through * 100 / all, replay.from, replay.to, replay.sent)
}

fn print_replay(replay: &Replay, output: Output) -> Outcome {
    if output.is_json() {
        output::json(replay)?;
        return Ok(());
    }
    let reason = replay.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let skipped = if replay.skipped > 0 { format!(", {} were no events", replay.skipped) } else { String::new() };
    output::line(format!("{} to {}: {}{reason}{skipped}", progress(replay), replay.target, replay.state.bold()))?;
    Ok(())
}

async fn replays(args: Plain) -> Outcome {
    let all: Vec<Replay> = args.connection.client()?.get("/api/v1/replays").await?;
    if args.output.is_json() {
        output::json(&all)?;
        return Ok(());
    }
    if all.is_empty() {
        output::line("no replays")?;
    }
    all.iter().try_for_each(|replay| print_replay(replay, args.output))
}

async fn subscriptions(args: Plain) -> Outcome {
    let all: Vec<crate::events::subscription::SubscriptionView> =
        args.connection.client()?.get("/api/v1/subscriptions").await?;
    if args.output.is_json() {
        output::json(&all)?;
        return Ok(());
    }
    let head = ["NAME", "STATE", "NEXT", "WAITING", "DELIVERED", "FAILED", "PUT ASIDE", "URL", "REASON"];
    let mut table = output::table(&head);
    for one in &all {
        table.add_row([
            one.name.clone(),
            one.state.clone(),
            one.next.to_string(),
            one.waiting.to_string(),
            one.delivered.to_string(),
            one.failed_attempts.to_string(),
            one.put_aside.to_string(),
            one.url.clone(),
            one.reason.clone().unwrap_or_default(),
        ]);
    }
    output::print_table(&table)?;
    Ok(())
}

async fn switch(args: NamedArgs, action: &str) -> Outcome {
    let target = format!("/api/v1/subscriptions/{}/{action}", super::client::encode(&args.name));
    let view: crate::events::subscription::SubscriptionView =
        args.connection.client()?.tell(&target, &ByBody { by: args.by }).await?;
    if args.output.is_json() {
        output::json(&view)?;
    } else {
        output::line(format!("{action}d: subscription {}", view.name))?;
    }
    Ok(())
}
