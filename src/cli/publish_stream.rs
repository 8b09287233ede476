//! Many events from a file or stdin: one JSON document a line, sent in batches, in order, with progress and a
//! summary. Run again with the same input it publishes nothing twice: the ids are the events' own, else made
//! of the line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use uuid::Uuid;

use super::client::{Accepted, Client, ClientError, Violation};
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output};

/// Events in one request: as many as the bus stores in one atomic batch.
const BATCH_LEN: usize = 256;
/// Bytes in one request, below the API's 1 MiB by default.
const BATCH_BYTES: usize = 768 * 1_024;
/// A longer line is no event that a server would take.
const LINE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// Refused lines that the summary names; the rest is counted.
const SHOWN_MAX: usize = 100;
/// First and longest pause while NATS or the API is away.
const AGAIN_PAUSE: Duration = Duration::from_millis(200);
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the progress is told.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// What is published.
pub struct Plan {
    /// Set: each line is data of this type. None: each line is a CloudEvent.
    pub event_type: Option<String>,
    /// `-`, or a file.
    pub input: String,
    pub source: Option<String>,
    pub correlation_id: Option<String>,
    /// JSON pointers into the data.
    pub key_at: Option<String>,
    pub id_at: Option<String>,
    /// How long the API or NATS may be away.
    pub patience: Duration,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    lines: u64,
    published: u64,
    /// Of those, what the bus had already.
    duplicates: u64,
    refused: u64,
    seconds: f64,
    per_second: u64,
    /// The first hundred.
    errors: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    line: u64,
    errors: Vec<Violation>,
}

/// A line ready to be sent.
struct Ready {
    line: u64,
    event: String,
}

/// Publishes every line.
pub async fn run(plan: Plan, client: &Client, output: Output) -> Outcome {
    let input: Box<dyn AsyncBufRead + Unpin + Send> = if plan.input == "-" {
        Box::new(BufReader::new(tokio::io::stdin()))
    } else {
        let path = plan.input.strip_prefix('@').unwrap_or(&plan.input);
        let file = tokio::fs::File::open(path).await;
        Box::new(BufReader::new(file.map_err(|error| Failure::bad_input(format!("cannot read {path}: {error}")))?))
    };
    let mut work =
        Work { plan: &plan, client, summary: Summary::default(), began: Instant::now(), told: Instant::now() };
    let result = work.all(input).await;
    let summary = work.finish();
    if output.is_json() {
        output::json(&summary)?;
    } else {
        for refused in &summary.errors {
            for error in &refused.errors {
                let place = if error.pointer.is_empty() { "/" } else { &error.pointer };
                output::line(format!("line {}: {place}: {}", refused.line, error.detail))?;
            }
        }
        output::line(format!(
            "{} lines: {} published ({} of them known already), {} refused, {:.1} s, {}/s",
            summary.lines, summary.published, summary.duplicates, summary.refused, summary.seconds, summary.per_second
        ))?;
    }
    result?;
    if summary.refused == 0 { Ok(()) } else { Err(Failure::said(Code::BadInput)) }
}

struct Work<'a> {
    plan: &'a Plan,
    client: &'a Client,
    summary: Summary,
    began: Instant,
    told: Instant,
}

impl Work<'_> {
    async fn all(&mut self, mut input: Box<dyn AsyncBufRead + Unpin + Send>) -> Result<(), Failure> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let mut line = Vec::new();
            let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await;
            let read =
                read.map_err(|error| Failure::bad_input(format!("{} cannot be read: {error}", self.plan.input)))?;
            if read == 0 {
                break;
            }
            if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                let line = self.summary.lines + 1;
                return Err(Failure::bad_input(format!("line {line} has more than {LINE_BYTES_MAX} bytes")));
            }
            self.summary.lines += 1;
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match event(self.plan, self.summary.lines, line) {
                Ok(event) => {
                    if batch.len() == BATCH_LEN || (bytes + event.len() > BATCH_BYTES && !batch.is_empty()) {
                        self.send(std::mem::take(&mut batch)).await?;
                        bytes = 0;
                    }
                    bytes += event.len() + 1;
                    batch.push(Ready { line: self.summary.lines, event });
                }
                Err(detail) => self.refuse(self.summary.lines, vec![Violation { pointer: String::new(), detail }]),
            }
        }
        self.send(batch).await
    }

    /// Sends a batch until it is taken, without the events that are refused.
    async fn send(&mut self, mut batch: Vec<Ready>) -> Result<(), Failure> {
        let (since, mut pause) = (Instant::now(), AGAIN_PAUSE);
        while !batch.is_empty() {
            let events: Vec<&str> = batch.iter().map(|ready| ready.event.as_str()).collect();
            match self.client.publish_batch(&events).await {
                Ok(accepted) => {
                    let known = |accepted: &&Accepted| accepted.duplicate;
                    self.summary.duplicates += accepted.iter().filter(known).count() as u64;
                    self.summary.published += accepted.len() as u64;
                    batch.clear();
                }
                Err(error) => {
                    let refused = error.problem().map(|problem| by_event(&problem.errors)).unwrap_or_default();
                    if !refused.is_empty() {
                        self.take_out(&mut batch, refused);
                    } else if is_passing(&error) && since.elapsed() < self.plan.patience {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(AGAIN_PAUSE_MAX);
                    } else {
                        let first = batch.first().map_or(0, |ready| ready.line);
                        let mut failure = Failure::from(error);
                        failure.message = format!("from line {first} on nothing is published: {}", failure.message);
                        failure.help = Some("run it again with the same input: what was published is known".to_owned());
                        return Err(failure);
                    }
                }
            }
            self.progress();
        }
        Ok(())
    }

    fn take_out(&mut self, batch: &mut Vec<Ready>, mut refused: BTreeMap<usize, Vec<Violation>>) {
        let mut index = 0;
        let out: BTreeSet<usize> = refused.keys().copied().collect();
        let mut lines = Vec::new();
        batch.retain(|ready| {
            let stays = !out.contains(&index);
            if !stays {
                lines.push((ready.line, refused.remove(&index).unwrap_or_default()));
            }
            index += 1;
            stays
        });
        for (line, errors) in lines {
            self.refuse(line, errors);
        }
    }

    fn refuse(&mut self, line: u64, errors: Vec<Violation>) {
        self.summary.refused += 1;
        if self.summary.errors.len() < SHOWN_MAX {
            self.summary.errors.push(Refused { line, errors });
        }
    }

    fn progress(&mut self) {
        if self.told.elapsed() >= PROGRESS_PAUSE {
            self.told = Instant::now();
            let Summary { published, refused, .. } = self.summary;
            anstream::eprintln!(
                "{published} published, {refused} refused, {}/s",
                rate(published, self.began.elapsed())
            );
        }
    }

    fn finish(&mut self) -> Summary {
        let mut summary = std::mem::take(&mut self.summary);
        summary.seconds = self.began.elapsed().as_secs_f64();
        summary.per_second = rate(summary.published, self.began.elapsed());
        summary
    }
}

fn rate(count: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000) / millis
}

/// True for what goes away by itself.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } => true,
        ClientError::Answered(problem) => matches!(problem.status, 408 | 429 | 500..=599),
        ClientError::BadUrl(_) | ClientError::Unreadable { .. } => false,
    }
}

/// Sorts errors by the event that their pointers begin with.
fn by_event(errors: &[Violation]) -> BTreeMap<usize, Vec<Violation>> {
    let mut by_event: BTreeMap<usize, Vec<Violation>> = BTreeMap::new();
    for error in errors {
        let Some(rest) = error.pointer.strip_prefix('/') else { continue };
        let (index, pointer) = rest.split_once('/').map_or((rest, String::new()), |(i, p)| (i, format!("/{p}")));
        if let Ok(index) = index.parse::<usize>() {
            by_event.entry(index).or_default().push(Violation { pointer, detail: error.detail.clone() });
        }
    }
    by_event
}

/// Makes the CloudEvent of a line.
fn event(plan: &Plan, number: u64, line: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(line).map_err(|error| format!("no UTF-8: {error}"))?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    // The same line at the same place is the same event, whenever it is sent.
    let made = || Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{number}\n{text}").as_bytes()).to_string();
    let string = |text: &str| serde_json::value::to_raw_value(text).map_err(|error| error.to_string());
    let mut members: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    match &plan.event_type {
        None => {
            members =
                serde_json::from_str(text).map_err(|_| "no JSON object: one CloudEvent a line, or name a TYPE")?;
            if !members.contains_key("id") {
                members.insert("id".to_owned(), string(&made())?);
            }
            if !members.contains_key("specversion") {
                members.insert("specversion".to_owned(), string("1.0")?);
            }
        }
        Some(event_type) => {
            let data: Option<serde_json::Value> =
                (plan.key_at.is_some() || plan.id_at.is_some()).then(|| serde_json::from_str(text).unwrap_or_default());
            let at = |pointer: &Option<String>, what: &str| -> Result<Option<String>, String> {
                let Some(pointer) = pointer else { return Ok(None) };
                match data.as_ref().and_then(|data| data.pointer(pointer)) {
                    Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
                    Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                        Ok(Some(value.to_string()))
                    }
                    _ => Err(format!("there is no text or number at {pointer} for the {what}")),
                }
            };
            let id = at(&plan.id_at, "id")?.unwrap_or_else(made);
            let key = at(&plan.key_at, "key")?;
            let rows = [("specversion", Some("1.0".to_owned())), ("type", Some(event_type.clone())), ("id", Some(id))];
            for (name, value) in rows.into_iter().chain([("partitionkey", key)]) {
                if let Some(value) = value {
                    members.insert(name.to_owned(), string(&value)?);
                }
            }
            members.insert("data".to_owned(), raw.to_owned());
        }
    }
    for (name, value) in [("source", &plan.source), ("correlationid", &plan.correlation_id)] {
        if let Some(value) = value {
            members.entry(name.to_owned()).or_insert(string(value)?);
        }
    }
    members.entry("source".to_owned()).or_insert(string("/backstitch/cli")?);
    serde_json::to_string(&members).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(event_type: Option<&str>) -> Plan {
        Plan {
            event_type: event_type.map(str::to_owned),
            input: "-".to_owned(),
            source: None,
            correlation_id: Some("c".to_owned()),
            key_at: event_type.map(|_| "/order/id".to_owned()),
            id_at: None,
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn lines_become_events() {
        let read = |plan: &Plan, number, line: &str| {
            event(plan, number, line.as_bytes()).map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap())
        };
        let data = plan(Some("a.v1"));
        let made = read(&data, 1, r#"{"order":{"id":7},"n":1.10}"#).unwrap();
        assert_eq!((made["partitionkey"].as_str(), made["type"].as_str()), (Some("7"), Some("a.v1")));
        assert_eq!(made["source"], "/backstitch/cli");
        assert!(event(&data, 1, br#"{"order":{"id":7},"n":1.10}"#).unwrap().contains("1.10"), "digits are kept");
        let again = read(&data, 1, r#"{"order":{"id":7},"n":1.10}"#).unwrap();
        let elsewhere = read(&data, 2, r#"{"order":{"id":7},"n":1.10}"#).unwrap();
        assert!(made["id"] == again["id"] && made["id"] != elsewhere["id"], "the same line is the same event");
        let whole = plan(None);
        let kept = read(&whole, 1, r#"{"type":"a.v1","id":"mine","source":"/s","correlationid":"own"}"#).unwrap();
        assert_eq!((kept["id"].as_str(), kept["correlationid"].as_str()), (Some("mine"), Some("own")));
        for (why, plan, line) in [
            ("no JSON", &data, "{"),
            ("no key", &data, "{}"),
            ("a key that is an object", &data, r#"{"order":{"id":{}}}"#),
            ("no object", &whole, "7"),
        ] {
            assert!(event(plan, 1, line.as_bytes()).is_err(), "{why}");
        }
    }

    #[test]
    fn errors_go_to_their_events() {
        let error = |pointer: &str| Violation { pointer: pointer.to_owned(), detail: "d".to_owned() };
        let sorted = by_event(&[error("/3/a/b"), error("/0"), error("/3"), error(""), error("/x/y")]);
        let places: Vec<(usize, Vec<&str>)> = sorted
            .iter()
            .map(|(index, errors)| (*index, errors.iter().map(|error| error.pointer.as_str()).collect()))
            .collect();
        assert_eq!(places, [(0, vec![""]), (3, vec!["/a/b", ""])]);
    }
}
