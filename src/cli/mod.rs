//! The command line: options to calls, failures to exit codes. `docs/cli.md` is its reference.

pub mod bench;
pub mod client;
mod config;
mod dead_letters;
pub mod demo;
mod diagnostics;
mod doctor;
mod events;
pub mod exit;
mod fmt;
mod graph;
mod health;
mod input;
mod journal;
mod locks;
mod migrate;
mod nats_program;
mod nats_server;
mod operate;
mod output;
pub mod participant;
mod publish;
mod publish_stream;
mod rollout;
mod runs;
mod schema;
mod serve;
mod server_events;
mod show;
mod timeline;
mod trace;
mod validate;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use owo_colors::OwoColorize;

pub use self::server_events::ServerEvent;

use self::client::{Client, URL_DEFAULT};
use self::exit::{CODES, Code, Failure, Outcome};
use self::output::Output;

/// Backstitch: an event bus and saga orchestrator in one program.
#[derive(Debug, Parser)]
#[command(name = "backstitch", version, max_term_width = 110, after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Jaeger's own web page on this machine.
const JAEGER_DEFAULT: &str = "http://127.0.0.1:16686";

/// How a command reaches the API.
#[derive(Debug, Clone, clap::Args)]
struct Connection {
    /// The API's address.
    #[arg(long, env = "BACKSTITCH_URL", default_value = URL_DEFAULT, value_name = "URL")]
    url: String,
    /// The API's token.
    #[arg(long, env = "BACKSTITCH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

impl Connection {
    fn client(&self) -> Result<Client, Failure> {
        // An empty variable is an unset one: `BACKSTITCH_TOKEN= backstitch list`.
        Ok(Client::new(&self.url, self.token.as_deref().filter(|token| !token.is_empty()))?)
    }
}

#[derive(Debug, clap::Args)]
struct Listing {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs Backstitch.
    Serve(serve::ServeArgs),
    /// Runs Backstitch with a nats-server of its own, for development.
    Dev(serve::DevArgs),
    /// Checks saga files, schemas and the configuration; starts nothing.
    Validate(validate::Args),
    /// Writes saga files in their normal form; keeps comments, never changes the meaning.
    Fmt(fmt::Args),
    /// Draws a saga, or what is undone when it fails at a step.
    Graph(graph::Args),
    /// Checks the configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Lists, checks, compares and documents schemas.
    #[command(subcommand)]
    Schema(schema::Command),
    /// Lets a running Backstitch load schemas, sagas and configuration anew (as SIGHUP does).
    Reload(Listing),

    /// Publishes an event.
    Publish(publish::Args),
    /// Starts a run of a saga.
    Start(runs::StartArgs),
    /// Lists runs, newest first.
    List(runs::ListArgs),
    /// Shows a run.
    Show(runs::ShowArgs),
    /// Follows one run, or all of them.
    Watch(runs::WatchArgs),
    /// Shows what has happened in a run, fact by fact.
    History(runs::RunArgs),
    /// Shows everything under one correlation id: events, runs, calls, across sagas.
    Trace(trace::Args),
    /// Lists the loaded sagas.
    Sagas(Listing),
    /// Lets a share of a saga's starts take one of its versions; shows it, ends it.
    Rollout(rollout::Args),
    /// Moves runs in flight to another version of their saga, or says which could move.
    Migrate(migrate::Args),
    /// Lists the semantic locks: who holds them, who waits; takes one from a run at rest.
    Locks(locks::Args),

    /// Settles a run, then undoes what it did.
    Cancel(operate::CancelArgs),
    /// Lets attempts in flight end and nothing new leave.
    Pause(operate::Args),
    /// Lets a paused run go on.
    Resume(operate::Args),
    /// Tries again what a run is parked at, with fresh counters; ends a wait for a retry.
    Retry(operate::RetryArgs),
    /// Passes over the undo (or the step after the pivot) that a run is parked at.
    Skip(operate::Args),
    /// Tells a parked run what really happened.
    Resolve(operate::ResolveArgs),
    /// Answers a step that asks a person.
    Answer(operate::AnswerArgs),

    /// Reads along, replays, and shows who gets events over HTTP.
    #[command(subcommand)]
    Events(events::Command),
    /// Looks at what was put aside, gives it again, drops it.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),

    /// Verifies, backs up, restores or exports the journal.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Looks at everything that a process needs.
    Doctor(doctor::Args),
    /// Asks whether Backstitch is alive; for containers.
    Healthcheck(health::Args),
    /// Shows the product in a minute.
    Demo(demo::Args),
    /// Measures runs at several numbers in flight.
    Bench {
        #[command(flatten)]
        args: bench::Args,
        #[command(flatten)]
        output: Output,
    },
    /// Runs the demonstration's services.
    #[command(hide = true)]
    Participant(participant::Args),
    /// Prints completions for a shell.
    Completions { shell: clap_complete::Shell },
}

fn exit_codes() -> String {
    let rows = CODES.iter().map(|(code, meaning)| format!("  {:>3}  {meaning}", *code as u8));
    format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

/// Reads the command line, does what it says, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, mistakes to stderr; a reader that has gone is no matter.
            let _ = error.print();
            return if error.use_stderr() { Code::BadInput.into() } else { Code::Ok.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Failure::new(Code::Failed, format!("cannot start threads: {error}"))),
    };
    let outcome = runtime.block_on(run(cli.command));
    // A read of stdin that never ends must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => Code::Ok.into(),
        Err(failure) => tell(&failure),
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Serve(args) => serve::serve(args).await,
        Command::Dev(args) => serve::dev(args).await,
        Command::Validate(args) => validate::run(&args),
        Command::Fmt(args) => fmt::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Schema(command) => schema::run(command).await,
        Command::Reload(args) => reload(args).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Start(args) => runs::start(args).await,
        Command::List(args) => runs::list(args).await,
        Command::Show(args) => runs::show(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Watch(args) => runs::watch(args).await,
        Command::History(args) => runs::history(args).await,
        Command::Sagas(args) => sagas(args).await,
        Command::Rollout(args) => rollout::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Locks(args) => locks::run(args).await,
        Command::Cancel(args) => operate::cancel(args).await,
        Command::Pause(args) => operate::plain("pause", args).await,
        Command::Resume(args) => operate::plain("resume", args).await,
        Command::Retry(args) => operate::retry(args).await,
        Command::Skip(args) => operate::plain("skip", args).await,
        Command::Resolve(args) => operate::resolve(args).await,
        Command::Events(command) => events::run(command).await,
        Command::Answer(args) => operate::answer(args).await,
        Command::DeadLetters(command) => dead_letters::run(command).await,
        Command::Journal(command) => journal::run(command).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Healthcheck(args) => health::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Bench { args, output } => {
            let output = if output.is_json() { bench::Output::Json } else { bench::Output::Text };
            bench::run(args, output).await
        }
        Command::Participant(args) => participant::run(args).await,
        Command::Completions { shell } => completions(shell),
    }
}

async fn reload(args: Listing) -> Outcome {
    let reloaded = args.connection.client()?.reload().await?;
    if args.output.is_json() {
        output::json(&reloaded)?;
        return Ok(());
    }
    let crate::api::Reloaded { sagas, event_types, services, warnings, restart_needed } = &reloaded;
    output::line(format!("loaded anew: {}; {event_types} event types; {services} services", sagas.join(", ")))?;
    for warning in warnings {
        output::line(format!("warning[{}]: {}:{}: {}", warning.code, warning.file, warning.line, warning.message))?;
    }
    if !restart_needed.is_empty() {
        output::line(format!("changed, and read at the next start only: {}", restart_needed.join(", ")))?;
    }
    Ok(())
}

async fn sagas(args: Listing) -> Outcome {
    let sagas = args.connection.client()?.sagas().await?;
    if args.output.is_json() {
        output::json(&sagas)?
    } else {
        show::sagas(&sagas)?
    }
    Ok(())
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "backstitch", &mut text);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &text)?;
    Ok(())
}

/// Says on stderr what failed and what to do next; returns the exit code.
fn tell(failure: &Failure) -> ExitCode {
    if !failure.said {
        anstream::eprintln!("{} {}", "error:".red().bold(), failure.message);
        if let Some(help) = &failure.help {
            anstream::eprintln!("{} {help}", " help:".cyan().bold());
        }
    }
    failure.code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_lines() {
        let run = "62e7b8b3-17f5-5744-8f71-b8115137432f";
        let rows: &[(&str, &str, bool)] = &[
            ("start and wait with the default", "start order --input {} --wait", true),
            ("start and wait for a time", "start order --wait 2m --key A-1", true),
            ("a time without unit", "start order --wait 2", false),
            ("resolve says which", &format!("resolve {run} --done --output {{}}"), true),
            ("resolve says neither", &format!("resolve {run}"), false),
            ("resolve says both", &format!("resolve {run} --done --not-done"), false),
            ("no run id", "show A-1", false),
            ("watch all", "watch", true),
            ("publish without data", "publish order.placed.v2", false),
            ("publish from stdin", "publish order.placed.v2 --data -", true),
            ("a format that is none", "list --output yaml", false),
            ("publish a stream", "publish --stream events.ndjson", true),
            ("publish a stream of data", "publish order.placed.v2 --stream - --key-at /orderId", true),
            ("data and a stream", "publish order.placed.v2 --stream - --data {}", false),
            ("neither", "publish", false),
            ("tail all", "events tail --from 1h", true),
            ("replay to nobody", "events replay", false),
            ("redrive one", "dead-letters redrive 7 --as {}", true),
            ("redrive by filter", "dead-letters redrive --reason invalid_data --since 1h", true),
            ("a number that is none", "dead-letters show A-1", false),
            ("an unknown command", "frobnicate", false),
        ];
        for (why, line, good) in rows {
            let result = Cli::try_parse_from(std::iter::once("backstitch").chain(line.split(' ')));
            assert_eq!(result.is_ok(), *good, "{why}: {line}");
        }
    }

    #[test]
    fn a_token_is_not_shown_in_help() {
        let help = Cli::command().find_subcommand_mut("list").unwrap().render_long_help().to_string();
        assert!(help.contains("BACKSTITCH_TOKEN") && !help.contains("BACKSTITCH_TOKEN="), "{help}");
    }
}
