//! How answers are printed: for people with colours on a terminal (`NO_COLOR` is honoured), or as JSON for
//! programs. Nothing here panics when the reader has gone.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use serde::Serialize;

/// For whom an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs: one JSON document, or one per line where there is no end.
    Json,
}

/// `--output` of a command.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Output {
    /// For people, or JSON for programs.
    #[arg(long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

impl Output {
    /// True where JSON is wanted.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

/// Prints one line.
///
/// # Errors
/// When stdout cannot be written.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{text}")
}

/// Prints a value as indented JSON.
///
/// # Errors
/// When stdout cannot be written.
pub fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a value as one line of JSON, at once.
///
/// # Errors
/// When stdout cannot be written.
pub fn json_line<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(value).map_err(io::Error::other)?)?;
    stdout.flush()
}

/// Makes a table with a head: columns apart by space, wrapped on a terminal, unwrapped in a file.
#[must_use]
pub fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let arrangement =
        if io::stdout().is_terminal() { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
    table.set_header(head.iter().map(|cell| cell.to_string()));
    table
}

/// Prints a table without white space around its lines.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_table(table: &Table) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    for row in table.to_string().lines() {
        writeln!(stdout, "{}", row.strip_prefix(' ').unwrap_or(row).trim_end())?;
    }
    Ok(())
}

/// Returns the colour of a state or status; none for those that need no attention.
fn colour(state: &str) -> Option<Color> {
    match state {
        "completed" | "done" | "ok" => Some(Color::Green),
        "compensated" | "undone" | "compensating" | "undoing" | "settling" | "undo_skipped" | "refused" => {
            Some(Color::Yellow)
        }
        "parked" | "unknown" | "undo_failed" | "failed" => Some(Color::Red),
        "running" | "waiting" => Some(Color::Cyan),
        _ => None,
    }
}

/// Returns a state or status in its colour, for a line.
#[must_use]
pub fn coloured(state: &str) -> String {
    match colour(state) {
        Some(Color::Green) => state.green().to_string(),
        Some(Color::Yellow) => state.yellow().to_string(),
        Some(Color::Red) => state.red().to_string(),
        Some(_) => state.cyan().to_string(),
        None => state.to_owned(),
    }
}

/// Returns a table's cell in the colour of a state; the text may say more than the state. Escape codes in
/// the text itself would count as its width.
#[must_use]
pub fn state_cell(state: &str, text: impl std::fmt::Display) -> Cell {
    let cell = Cell::new(text);
    match colour(state) {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}
