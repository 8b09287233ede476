//! `backstitch dead-letters`: look at what was put aside, give it again, drop it.

use owo_colors::OwoColorize;

use super::Connection;
use super::client::{ByBody, RedriveBody, SomeLettersBody};
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};
use crate::events::filter::LetterFilter;
use crate::events::view::{Done, LetterView};

/// A detail in a table longer than this is cut; `show` has it whole.
const DETAIL_CHARS: usize = 80;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Lists dead letters, oldest first.
    List(ListArgs),
    /// Shows a dead letter with its original message.
    Show(ShowArgs),
    /// Gives dead letters to their consumer again: one, or all that fit.
    Redrive(RedriveArgs),
    /// Removes dead letters for good: one, or all that fit.
    Drop(DropArgs),
    /// Tells what was done to dead letters, and by whom.
    Audit(AuditArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Who could not take it.
    #[arg(long)]
    consumer: Option<String>,
    /// Why, in one word: invalid_data, unknown_type, delivery_failed …
    #[arg(long)]
    reason: Option<String>,
    /// The event type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The partition key.
    #[arg(long)]
    key: Option<String>,
    /// Put aside at or after: a duration back from now, or RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Put aside before.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    fn given(self) -> LetterFilter {
        let Self { consumer, reason, event_type, key, since, until } = self;
        LetterFilter { consumer, reason, event_type, key, since, until }
    }
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// From the list before.
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The letter's number, from the list.
    sequence: u64,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct RedriveArgs {
    /// The letter's number, from the list; none for all that fit the filter.
    sequence: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// All of them, where neither a number nor a filter is given.
    #[arg(long)]
    all: bool,
    /// Other data in place of the event's own (with a number).
    #[arg(long = "as", value_name = "JSON|@FILE|-")]
    corrected: Option<String>,
    /// Who does it, for the audit.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct DropArgs {
    /// The letter's number, from the list; none for all that fit the filter.
    sequence: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Who does it, for the audit.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// The place to begin at.
    #[arg(long, default_value_t = 1)]
    from: u64,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Redrive(args) => redrive(args).await,
        Command::Drop(args) => drop_letters(args).await,
        Command::Audit(args) => audit(args).await,
    }
}

async fn list(args: ListArgs) -> Outcome {
    let client = args.connection.client()?;
    let page = client.dead_letters(&args.filter.given(), args.cursor.as_deref(), args.limit).await?;
    if args.output.is_json() {
        output::json(&page)?;
        return Ok(());
    }
    if page.letters.is_empty() {
        output::line("no dead letters")?;
        return Ok(());
    }
    let mut table = output::table(&["NUMBER", "PUT ASIDE", "REASON", "SUBJECT", "CONSUMER", "TRIED", "KEY", "DETAIL"]);
    for letter in &page.letters {
        let detail: String = letter.detail.chars().take(DETAIL_CHARS).map(plain).collect();
        let key = letter.key.clone().unwrap_or_default();
        let cells = [
            letter.sequence.to_string(),
            letter.put_aside_at.clone(),
            letter.reason.clone(),
            letter.subject.clone(),
            letter.consumer.clone(),
            letter.attempts.to_string(),
            key,
            detail,
        ];
        table.add_row(cells.map(|cell| cell.chars().map(plain).collect::<String>()));
    }
    output::print_table(&table)?;
    if let Some(cursor) = page.cursor {
        output::line(format!("more with --cursor {cursor}"))?;
    }
    Ok(())
}

/// A message may hold anything; a terminal must not act upon it.
fn plain(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

async fn show(args: ShowArgs) -> Outcome {
    let letter = args.connection.client()?.dead_letter(args.sequence).await?;
    if args.output.is_json() {
        output::json(&letter)?;
        return Ok(());
    }
    print_letter(&letter)
}

fn print_letter(letter: &LetterView) -> Outcome {
    let clean = |text: &str| text.chars().map(plain).collect::<String>();
    let row = |name: &str, value: &str| output::line(format!("{:<14} {}", format!("{name}:").bold(), clean(value)));
    row("dead letter", &letter.sequence.to_string())?;
    row("reason", &letter.reason)?;
    row("detail", &letter.detail)?;
    for pointer in &letter.pointers {
        row("at", pointer)?;
    }
    row("consumer", &letter.consumer)?;
    row("subject", &letter.subject)?;
    row("original", &format!("{} of {}", letter.stream_sequence, letter.stream))?;
    row("tried", &format!("{} times, {} to {}", letter.attempts, letter.first_at, letter.last_at))?;
    row("put aside", &letter.put_aside_at)?;
    let rest = [("id", &letter.id), ("source", &letter.source), ("key", &letter.key)];
    for (name, value) in rest.into_iter().chain([("correlation", &letter.correlation_id)]) {
        if let Some(value) = value {
            row(name, value)?;
        }
    }
    let Some(original) = &letter.original else { return Ok(()) };
    for (name, value) in &original.headers {
        row("header", &format!("{name}: {value}"))?;
    }
    match (&original.json, &original.text, &original.base64) {
        (Some(json), _, _) => output::line(clean(json.text()))?,
        (None, Some(text), _) => output::line(clean(text))?,
        (None, None, Some(base64)) => output::line(format!("{} bytes in Base64: {base64}", letter.bytes))?,
        (None, None, None) => {}
    }
    Ok(())
}

async fn redrive(args: RedriveArgs) -> Outcome {
    let filter = args.filter.given();
    let data = args.corrected.as_deref().map(|given| super::input::json("--as", given)).transpose()?;
    let client = args.connection.client()?;
    let done = match args.sequence {
        Some(sequence) => client.redrive(sequence, &RedriveBody { data, by: args.by }).await?,
        None if data.is_some() => return Err(Failure::bad_input("--as goes with the number of one dead letter")),
        None if filter.is_empty() && !args.all => {
            return Err(Failure::bad_input("say which: a number, a filter such as --reason, or --all"));
        }
        None => client.redrive_all(&SomeLettersBody { filter, by: args.by }).await?,
    };
    told("redriven", &done, args.output)
}

async fn drop_letters(args: DropArgs) -> Outcome {
    let filter = args.filter.given();
    let client = args.connection.client()?;
    let done = match args.sequence {
        Some(sequence) => client.drop_letter(sequence, &ByBody { by: args.by }).await?,
        None if filter.is_empty() => {
            return Err(Failure::bad_input("say which: a number, or a filter such as --reason"));
        }
        None => client.drop_all(&SomeLettersBody { filter, by: args.by }).await?,
    };
    told("dropped", &done, args.output)
}

/// Says what was done; fails when something was left.
fn told(what: &str, done: &Done, output: Output) -> Outcome {
    if output.is_json() {
        output::json(done)?;
    } else {
        let more = if done.more { "; there are more: repeat it" } else { "" };
        output::line(format!("{what} {}, left {}{more}", done.done.len(), done.left.len()))?;
        for left in &done.left {
            output::line(format!("  {}: {}", left.sequence, left.reason))?;
        }
    }
    if done.left.is_empty() { Ok(()) } else { Err(Failure::said(Code::Failed)) }
}

async fn audit(args: AuditArgs) -> Outcome {
    let page = args.connection.client()?.audit(args.from).await?;
    if args.output.is_json() {
        output::json(&page)?;
        return Ok(());
    }
    let mut table = output::table(&["AT", "BY", "DID", "LETTER", "ABOUT"]);
    for entry in &page.entries {
        let letter = entry.letter.map(|letter| letter.to_string()).unwrap_or_default();
        let by: String = entry.by.clone().unwrap_or_default().chars().map(plain).collect();
        table.add_row([entry.at.clone(), by, entry.action.clone(), letter, entry.about.to_string()]);
    }
    output::print_table(&table)?;
    output::line(format!("more with --from {}", page.next))?;
    Ok(())
}
