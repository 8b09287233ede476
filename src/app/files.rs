//! Saga and schema files on disk → texts with the paths that messages show. Bounded; in the order of
//! their names, so that two starts see the same.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::finding::{Finding, UNREADABLE};

/// As much as a saga file may have, and far more than a schema needs.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// `schemas/TYPE/examples/FILE` is three deep; a loop of links would go on for ever.
const DEPTH_MAX: usize = 8;
/// Beyond it somebody has named the wrong folder.
const FILES_MAX: usize = 20_000;

/// A file's path as shown, and its text.
pub type Text = (String, String);

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let file = path.display().to_string();
    Finding::of_file(
        &file,
        UNREADABLE,
        format!("cannot read {file}: {error}"),
        Some("name a file or folder that can be read"),
    )
}

/// Reads the saga files of a folder (`*.yaml`, `*.yml`, not below it), or one file.
///
/// # Errors
/// What cannot be read; also a path that is not there.
pub fn sagas(path: &Path) -> Result<Vec<Text>, Vec<Finding>> {
    let is_saga = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut files = Vec::new();
    if path.is_dir() {
        files.extend(entries(path)?.into_iter().filter(|path| is_saga(path) && path.is_file()));
    } else {
        files.push(path.to_owned());
    }
    read_all(&files)
}

/// Reads the schemas, examples, upcasters and policies of a folder and all folders below it.
///
/// # Errors
/// As [`sagas`].
pub fn schemas(folder: &Path) -> Result<Vec<Text>, Vec<Finding>> {
    let mut files = Vec::new();
    walk(folder, 0, &mut files)?;
    read_all(&files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Vec<Finding>> {
    let refuse = |what: String| {
        let file = folder.display().to_string();
        Err(vec![Finding::of_file(&file, UNREADABLE, what, Some("name the folder of the schemas with --schemas"))])
    };
    if depth > DEPTH_MAX {
        return refuse(format!("folders are nested deeper than {DEPTH_MAX}"));
    }
    for path in entries(folder)? {
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if is_schema_file(&path) {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return refuse(format!("there are more than {FILES_MAX} files"));
        }
    }
    Ok(())
}

/// JSON, upcasters and policies; a README may lie beside them.
fn is_schema_file(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| extension == "json" || extension == "jq";
    path.extension().is_some_and(known)
        || path.file_name().is_some_and(|name| name == "policy.yaml" || name == "policy.yml")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Vec<Finding>> {
    let read = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<PathBuf>>>());
    let mut paths = read.map_err(|error| vec![unreadable(folder, &error)])?;
    // Editors leave hidden files behind.
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Text>, Vec<Finding>> {
    let (mut texts, mut findings) = (Vec::new(), Vec::new());
    for path in files {
        match read(path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(error) => findings.push(unreadable(path, &error)),
        }
    }
    if findings.is_empty() { Ok(texts) } else { Err(findings) }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_the_order_of_names() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sagas/b.yaml", "b"),
            ("sagas/a.yml", "a"),
            ("sagas/.c.yaml.swp", "hidden"),
            ("sagas/readme.md", "no saga"),
            ("sagas/old/d.yaml", "below"),
            ("schemas/order.placed/v1.json", "{}"),
            ("schemas/order.placed/examples/v1.json", "1"),
            ("schemas/order.placed/v2.from-v1.jq", "."),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let texts = |found: Result<Vec<Text>, Vec<Finding>>| -> Vec<String> {
            found.unwrap().into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(sagas(&root.path().join("sagas"))), ["a", "b"]);
        assert_eq!(texts(sagas(&root.path().join("sagas/old/d.yaml"))), ["below"]);
        assert_eq!(texts(schemas(&root.path().join("schemas"))), ["1", "{}", "."]);
        assert_eq!(sagas(&root.path().join("nowhere")).unwrap_err()[0].code, UNREADABLE);

        fs::write(root.path().join("sagas/large.yaml"), "x".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        fs::write(root.path().join("sagas/text.yaml"), [0xff]).unwrap();
        let findings = sagas(&root.path().join("sagas")).unwrap_err();
        assert_eq!(findings.len(), 2, "both are told: {findings:?}");
    }
}
