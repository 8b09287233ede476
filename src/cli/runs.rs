//! Commands about runs: start, list, show, history, watch.

use futures_util::StreamExt;
use owo_colors::OwoColorize;

use super::Connection;
use super::client::{Client, ClientError, StartBody};
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output, coloured};
use super::show;
use crate::coordinator::view::{RunFilter, RunNews, RunView};
use crate::id::RunId;
use crate::time::Span;

/// Reads a run's id.
pub fn parse_run(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|_| {
        "a run's id is a UUID such as 62e7b8b3-17f5-5744-8f71-b8115137432f; `backstitch list` shows them".to_owned()
    })
}

/// Reads a duration.
pub fn parse_span(text: &str) -> Result<Span, String> {
    Span::parse(text).map_err(|error| error.to_string())
}

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// The saga's name.
    saga: String,
    /// The run's input: JSON, @FILE, or - for stdin.
    #[arg(long, default_value = "null", value_name = "JSON|@FILE|-")]
    input: String,
    /// One run per saga and key: the same key again gives the first run.
    #[arg(long)]
    key: Option<String>,
    /// Ties this run to others; its own id if left out.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// A version other than the newest.
    #[arg(long, value_name = "N")]
    saga_version: Option<u32>,
    /// Wait until the run has ended or parked, at most this long (30s if no time is given, at most 5m).
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", value_parser = parse_span, value_name = "TIME")]
    wait: Option<Span>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn start(args: StartArgs) -> Outcome {
    let input = super::input::json("--input", &args.input)?;
    let client = args.connection.client()?;
    let body = StartBody { input, key: args.key, correlation_id: args.correlation_id, version: args.saga_version };
    let started = client.start(&args.saga, &body, args.wait.map(Span::to_std)).await?;
    match started.run {
        None if args.output.is_json() => {
            output::json(&serde_json::json!({ "id": started.id, "created": started.created }))?
        }
        None => {
            let what = if started.created { "started" } else { "this key has a run already:" };
            output::line(format!("{what} {}", started.id.bold()))?;
            output::line(format!("follow it with: backstitch watch {}", started.id))?;
        }
        Some(run) => {
            print_run(&run, args.output)?;
            return ended_well(&run);
        }
    }
    Ok(())
}

/// Turns the end of a run that was waited for into an exit code.
fn ended_well(run: &RunView) -> Outcome {
    match run.state.as_str() {
        "completed" => Ok(()),
        "compensated" | "parked" => Err(Failure::said(Code::Failed)),
        _ => Err(Failure::new(Code::TimedOut, format!("run {} is still {}", run.id, run.state))
            .help(format!("follow it with: backstitch watch {}", run.id))),
    }
}

fn print_run(run: &RunView, output: Output) -> Outcome {
    if output.is_json() {
        output::json(run)?
    } else {
        show::run(run)?
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Runs of this saga.
    #[arg(long)]
    saga: Option<String>,
    /// running, waiting, paused, settling, compensating, parked, completed or compensated.
    #[arg(long)]
    state: Option<String>,
    /// Runs of this correlation id.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Runs with this key.
    #[arg(long)]
    key: Option<String>,
    /// Started at or after: a duration back from now (1h) or RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Runs on one page, 1 to 1000.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// From the page before.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn list(args: ListArgs) -> Outcome {
    let filter = RunFilter {
        saga: args.saga,
        state: args.state,
        correlation_id: args.correlation_id,
        key: args.key,
        since: args.since,
        limit: Some(args.limit),
        cursor: args.cursor,
    };
    let page = args.connection.client()?.runs(&filter).await?;
    if args.output.is_json() {
        output::json(&page)?
    } else {
        show::page(&page)?
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The run's id.
    #[arg(value_parser = parse_run)]
    run: RunId,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Where Jaeger's page is, for the link.
    #[arg(long, env = "BACKSTITCH_JAEGER_URL", default_value = super::JAEGER_DEFAULT, value_name = "URL")]
    jaeger: String,
}

pub async fn show(args: ShowArgs) -> Outcome {
    let ShowArgs { run: RunArgs { run, connection, output }, jaeger } = args;
    let client = connection.client()?;
    let view = client.run(run).await?;
    if output.is_json() {
        return print_run(&view, output);
    }
    show::run(&view)?;
    show::timeline(&view, &client.history(run).await?)?;
    show::trace_links(&view, &jaeger)?;
    Ok(())
}

pub async fn history(args: RunArgs) -> Outcome {
    let history = args.connection.client()?.history(args.run).await?;
    if args.output.is_json() {
        output::json(&history)?;
        return Ok(());
    }
    for entry in &history {
        output::line(format!("{:>4}  {}  {}", entry.sequence, show::time(&entry.at).dimmed(), entry.text))?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// One run, from its first fact to its end; none: all runs from now on.
    #[arg(value_parser = parse_run)]
    run: Option<RunId>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn watch(args: WatchArgs) -> Outcome {
    let client = args.connection.client()?;
    let mut events = std::pin::pin!(client.stream(args.run).await?);
    while let Some(event) = events.next().await {
        let event = event?;
        match event.name.as_str() {
            "fact" => {
                let news: RunNews = read(&client, &event.data)?;
                if args.output.is_json() { output::json_line(&news)? } else { print_news(&news, args.run.is_some())? }
            }
            "end" => {
                let run: RunView = read(&client, &event.data)?;
                if args.output.is_json() {
                    output::json_line(&run)?
                } else {
                    output::line(coloured(&run.state).bold())?
                }
                return Ok(());
            }
            _ => {} // of a later version
        }
    }
    Err(Failure::new(Code::Unreachable, "the stream has ended: Backstitch is stopping")
        .help("start it again and repeat the command; nothing of the run is lost"))
}

fn read<T: serde::de::DeserializeOwned>(client: &Client, data: &str) -> Result<T, Failure> {
    serde_json::from_str(data)
        .map_err(|error| ClientError::Unreadable { url: client.url().to_owned(), reason: error.to_string() }.into())
}

fn print_news(news: &RunNews, one_run: bool) -> std::io::Result<()> {
    let at = show::time(&news.entry.at);
    let at = at.dimmed();
    if one_run {
        return output::line(format!("{at}  {:<12}  {}", coloured(&news.state), news.entry.text));
    }
    let run = news.key.clone().unwrap_or_else(|| news.run.to_string());
    output::line(format!("{at}  {}/{run}  {:<12}  {}", news.saga, coloured(&news.state), news.entry.text))
}
