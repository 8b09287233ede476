//! `backstitch fmt`: saga files in their normal form. A file is written only where its text reads the same
//! afterwards; it is replaced as a whole or not at all.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::exit::{Code, Failure, Outcome};
use super::output;
use crate::definition::{FILE_BYTES_MAX, Style, Unformatted, format, render_all};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Saga files, or folders of them; `-` formats stdin to stdout [default: ./sagas].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Writes nothing; fails where a file is not in normal form.
    #[arg(long)]
    check: bool,
}

/// What happened to one file.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Kept,
    /// Written, or with `--check` would be.
    Changed,
    /// It has mistakes that have been shown, or no normal form.
    Refused,
}

pub fn run(args: &Args) -> Outcome {
    if args.paths == [Path::new("-")] {
        return stdin(args.check);
    }
    let default = [PathBuf::from("sagas")];
    let paths: &[PathBuf] = if args.paths.is_empty() { &default } else { &args.paths };
    let (mut changed, mut refused, mut kept) = (0, 0, 0);
    for path in paths {
        for file in files(path)? {
            match one(&file, args.check)? {
                Done::Kept => kept += 1,
                Done::Changed => {
                    changed += 1;
                    output::line(file.display())?;
                }
                Done::Refused => refused += 1,
            }
        }
    }
    if refused > 0 {
        return Err(Failure::said(Code::BadInput));
    }
    if args.check && changed > 0 {
        let message = format!("{changed} of {} files are not in normal form", changed + kept);
        return Err(Failure::new(Code::Failed, message).help("write them: backstitch fmt"));
    }
    Ok(())
}

/// Returns a file, or the saga files of a folder by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::bad_input(format!("cannot read {}: {error}", path.display()))
            .help("name saga files, or a folder of them")
    };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_saga = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_saga && !hidden && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn one(path: &Path, check: bool) -> Result<Done, Failure> {
    let shown = path.display().to_string();
    let unreadable = |error: io::Error| Failure::bad_input(format!("cannot read {shown}: {error}"));
    let text = read(fs::File::open(path).map_err(unreadable)?).map_err(unreadable)?;
    match format(&shown, &text) {
        Ok(formatted) if formatted == text => Ok(Done::Kept),
        Ok(_) if check => Ok(Done::Changed),
        Ok(formatted) => {
            let cannot = |error: io::Error| Failure::new(Code::Failed, format!("cannot write {shown}: {error}"));
            replace(path, &formatted).map_err(cannot)?;
            Ok(Done::Changed)
        }
        Err(refusal) => {
            refused(&shown, &text, &refusal);
            Ok(Done::Refused)
        }
    }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn refused(file: &str, text: &str, refusal: &Unformatted) {
    match refusal {
        Unformatted::Mistakes(found) => anstream::eprintln!("{}", render_all(found, text, Style::Coloured)),
        Unformatted::Differs => anstream::eprintln!("{file}: {refusal}; please report it with the file"),
    }
}

fn stdin(check: bool) -> Outcome {
    let text = read(io::stdin().lock()).map_err(|error| Failure::bad_input(format!("cannot read stdin: {error}")))?;
    match format("(stdin)", &text) {
        Ok(formatted) if check => {
            let fine = formatted == text;
            if fine { Ok(()) } else { Err(Failure::new(Code::Failed, "stdin is not in normal form")) }
        }
        Ok(formatted) => Ok(io::stdout().lock().write_all(formatted.as_bytes())?),
        Err(refusal) => {
            refused("(stdin)", &text, &refusal);
            Err(Failure::said(Code::BadInput))
        }
    }
}

/// Puts a new text in a file's place: all of it or nothing, with the file's permissions.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Through a link to the file itself, which is what is replaced.
    let path = fs::canonicalize(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&beside, text)
        .and_then(|()| fs::set_permissions(&beside, fs::metadata(&path)?.permissions()))
        .and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_or_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let check = |text: &str, only_check: bool| {
            fs::write(&path, text).unwrap();
            let done = one(&path, only_check).unwrap();
            (done, fs::read_to_string(&path).unwrap())
        };
        assert_eq!(check("saga:  a\n", false), (Done::Changed, "saga: a\n".to_owned()));
        assert_eq!(check("saga:  a\n", true), (Done::Changed, "saga:  a\n".to_owned()), "only checked");
        assert_eq!(check("saga: a\n", false), (Done::Kept, "saga: a\n".to_owned()));
        assert_eq!(check("saga: [\n", false), (Done::Refused, "saga: [\n".to_owned()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
