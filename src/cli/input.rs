//! JSON given on the command line: as text, from `@FILE`, or `-` for stdin.

use std::io::Read;

use super::exit::Failure;
use crate::payload::Payload;

/// The API takes 1 MiB unless configured otherwise; this keeps a wrong file from filling the memory.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads the JSON that an option names.
///
/// # Errors
/// [`Failure`] with the option's name, and line and column of what is not JSON.
pub fn json(option: &str, given: &str) -> Result<Payload, Failure> {
    let (text, place) = match given.strip_prefix('@') {
        Some(file) => (read(std::fs::File::open(file), file)?, file),
        None if given == "-" => (read(Ok(std::io::stdin()), "stdin")?, "stdin"),
        None => (given.to_owned(), option),
    };
    let refused = |error: serde_json::Error| {
        Failure::bad_input(format!("{place} is not JSON: {error}"))
            .help(format!("{option} takes JSON, @FILE or -; quote it for your shell: {option} '{{\"id\": \"A-1\"}}'"))
    };
    serde_json::from_str::<serde_json::Value>(&text).map_err(refused)?;
    Payload::parse(text).map_err(refused)
}

fn read(source: std::io::Result<impl Read>, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let result = source.and_then(|source| source.take(BYTES_MAX + 1).read_to_string(&mut text));
    match result {
        Err(error) => Err(Failure::bad_input(format!("cannot read {name}: {error}"))),
        Ok(_) if text.len() as u64 > BYTES_MAX => {
            Err(Failure::bad_input(format!("{name} has more than {BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_from_text_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.json");
        std::fs::write(&file, "{\"a\": 1}\n").unwrap();
        let rows: &[(&str, String, Option<&str>)] = &[
            ("text", "{\"a\": 1}".into(), Some("{\"a\": 1}")),
            ("a file", format!("@{}", file.display()), Some("{\"a\": 1}")),
            ("no JSON", "{a: 1}".into(), None),
            ("a missing file", "@nowhere.json".into(), None),
        ];
        for (why, given, expected) in rows {
            let text = json("--data", given).ok().map(|payload| payload.text().trim().to_owned());
            assert_eq!(text.as_deref(), *expected, "{why}");
        }
    }
}
