//! What took how long in a run, as bars: one for each attempt, wait and parking, on one scale. Made of the
//! history as the API gives it, so that it shows runs of any version.

use owo_colors::OwoColorize;

use crate::coordinator::view::HistoryEntry;

/// Columns of the scale: with a label and figures beside it, within 80.
const WIDTH: usize = 36;
/// Bars that are shown; a run with more has its first and its last ones.
const BARS_MAX: usize = 60;

/// One attempt, wait or parking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// `charge`, `charge undo`, `charge check`, `nap waits`, `parked`
    pub label: String,
    /// From 1; 0 for what is no attempt.
    pub attempt: u32,
    pub began_ms: i64,
    /// None: it goes on.
    pub ended_ms: Option<i64>,
    /// For people: `done, answer 201`.
    pub outcome: String,
}

/// Returns the bars of a history, in the order in which they began.
#[must_use]
pub fn bars(history: &[HistoryEntry]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for entry in history {
        let Some(at) = millis(&entry.at) else { continue };
        let text = entry.text.as_str();
        match entry.fact.as_str() {
            "step_started" | "attempt_started" | "undo_started" => {
                if let Some((label, attempt, _)) = attempt(text) {
                    bars.push(Bar { label, attempt, began_ms: at, ended_ms: None, outcome: String::new() });
                }
            }
            "check_started" => {
                let label = format!("{} check", before(text, ": asks"));
                bars.push(Bar { label, attempt: 1, began_ms: at, ended_ms: None, outcome: String::new() });
            }
            "attempt_ended" | "attempt_interrupted" => {
                if let Some((label, _, outcome)) = attempt(text) {
                    end(&mut bars, &label, at, &outcome);
                }
            }
            "wait_started" => {
                let label = format!("{} waits", before(text, ": waits"));
                bars.push(Bar { label, attempt: 0, began_ms: at, ended_ms: None, outcome: String::new() });
            }
            "step_ended" | "step_withdrawn" => {
                end(&mut bars, &format!("{} waits", before(text, ": ")), at, text.rsplit(": ").next().unwrap_or(""));
            }
            "parked" => {
                let (label, outcome) = ("parked".to_owned(), String::new());
                bars.push(Bar { label, attempt: 0, began_ms: at, ended_ms: None, outcome });
            }
            "operator_acted" => end(&mut bars, "parked", at, text),
            _ => {}
        }
    }
    bars
}

fn end(bars: &mut [Bar], label: &str, at: i64, outcome: &str) {
    if let Some(bar) = bars.iter_mut().rev().find(|bar| bar.label == label && bar.ended_ms.is_none()) {
        bar.ended_ms = Some(at);
        bar.outcome = outcome.to_owned();
    }
}

fn before<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or(text, |(before, _)| before)
}

/// Takes `charge undo: attempt 2 done, answer 200` apart.
fn attempt(text: &str) -> Option<(String, u32, String)> {
    let (label, rest) = text.split_once(": attempt ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let outcome = rest[digits..].trim_start_matches([':', ' ']);
    Some((label.to_owned(), rest[..digits].parse().ok()?, outcome.to_owned()))
}

/// Reads RFC 3339.
#[must_use]
pub fn millis(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

/// Returns a time span for people: `12 ms`, `3.4 s`, `2 m 5 s`, `26 h 3 m`.
#[must_use]
pub fn span(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} m {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// Returns the lines of the bars from one moment to another. What goes on reaches to the end.
#[must_use]
pub fn lines(bars: &[Bar], from_ms: i64, to_ms: i64) -> Vec<String> {
    let whole = (to_ms - from_ms).max(1);
    let column = |at: i64| usize::try_from((at - from_ms).clamp(0, whole) * WIDTH as i64 / whole).unwrap_or(0);
    let title = |bar: &Bar| {
        if bar.attempt > 1 { format!("{} #{}", bar.label, bar.attempt) } else { bar.label.clone() }
    };
    let widest = bars.iter().map(|bar| title(bar).chars().count()).max().unwrap_or(0).min(24);
    let line = |bar: &Bar| {
        let begin = column(bar.began_ms).min(WIDTH - 1);
        let end = column(bar.ended_ms.unwrap_or(to_ms)).max(begin + 1).min(WIDTH);
        let blocks = (if bar.ended_ms.is_some() { "█" } else { "░" }).repeat(end - begin);
        let blocks = match bar.label.as_str() {
            "parked" => blocks.red().to_string(),
            label if label.ends_with(" undo") => blocks.yellow().to_string(),
            label if label.ends_with(" waits") => blocks.dimmed().to_string(),
            _ if bar.outcome.starts_with("done") => blocks.green().to_string(),
            _ if bar.ended_ms.is_none() => blocks.cyan().to_string(),
            _ => blocks.red().to_string(),
        };
        let took = bar.ended_ms.map_or_else(|| "goes on".to_owned(), |ended| span(ended - bar.began_ms));
        let (left, right) = (" ".repeat(begin), " ".repeat(WIDTH - end));
        let outcome: String = bar.outcome.chars().take(60).collect();
        format!("{:<widest$} │{left}{blocks}{right}│ {took:>9}  {}", title(bar), outcome.dimmed())
    };
    if bars.len() <= BARS_MAX {
        return bars.iter().map(line).collect();
    }
    let (first, last) = (&bars[..BARS_MAX / 2], &bars[bars.len() - BARS_MAX / 2..]);
    let between = format!("… {} more: backstitch history RUN", bars.len() - BARS_MAX);
    first.iter().map(line).chain([between]).chain(last.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn history(rows: &[(i64, &str, &str)]) -> Vec<HistoryEntry> {
        let entry = |(sequence, (ms, fact, text)): (u64, &(i64, &str, &str))| HistoryEntry {
            sequence,
            at: jiff::Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap().to_string(),
            fact: (*fact).to_owned(),
            data: Payload::null(),
            text: (*text).to_owned(),
        };
        (0..).zip(rows).map(entry).collect()
    }

    #[test]
    fn a_run_that_was_undone_and_parked() {
        let history = history(&[
            (0, "run_started", "run of order v2 started"),
            (0, "step_started", "reserve: attempt 1: POST /r at inventory"),
            (10, "attempt_ended", "reserve: attempt 1 no effect: refused, next in 80ms"),
            (90, "attempt_started", "reserve: attempt 2"),
            (100, "attempt_ended", "reserve: attempt 2 done, answer 201"),
            (100, "wait_started", "nap: waits until 2023-11-14T22:13:20.200Z"),
            (200, "step_ended", "nap: done"),
            (200, "check_started", "charge: asks whether it happened: GET /c"),
            (210, "attempt_ended", "charge check: attempt 1 done, answer 200"),
            (210, "undo_started", "reserve undo: attempt 1: DELETE /r at inventory"),
            (300, "attempt_ended", "reserve undo: attempt 1 effect unknown: timeout"),
            (300, "parked", "parked at reserve: used up"),
        ]);
        let bars = bars(&history);
        let seen: Vec<(&str, u32, Option<i64>)> = bars
            .iter()
            .map(|bar| (bar.label.as_str(), bar.attempt, bar.ended_ms.map(|ended| ended - bar.began_ms)))
            .collect();
        let expected = [
            ("reserve", 1, Some(10)),
            ("reserve", 2, Some(10)),
            ("nap waits", 0, Some(100)),
            ("charge check", 1, Some(10)),
            ("reserve undo", 1, Some(90)),
            ("parked", 0, None),
        ];
        assert_eq!(seen, expected);
        let from = millis(&history[0].at).unwrap();
        let text: Vec<String> =
            lines(&bars, from, from + 400).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        let expected = [
            "reserve      │█                                   │     10 ms  no effect: refused, next in 80ms",
            "reserve #2   │        █                           │     10 ms  done, answer 201",
            "nap waits    │         █████████                  │    100 ms  done",
            "charge check │                  █                 │     10 ms  done, answer 200",
            "reserve undo │                  █████████         │     90 ms  effect unknown: timeout",
            "parked       │                           ░░░░░░░░░│   goes on  ",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn spans_for_people() {
        let rows = [(7, "7 ms"), (1_234, "1.2 s"), (125_000, "2 m 5 s"), (93_780_000, "26 h 3 m"), (0, "0 ms")];
        for (ms, expected) in rows {
            assert_eq!(span(ms), expected);
        }
    }
}
