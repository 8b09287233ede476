//! Finds a nats-server program that is new enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::exit::{Code, Failure};

/// Where `scripts/get-nats-server` puts one.
const TOOLS: &str = ".tools/bin";
/// Names a program outright.
const VARIABLE: &str = "BACKSTITCH_NATS_SERVER";

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub version: String,
}

/// Finds a program: the one that `BACKSTITCH_NATS_SERVER` names, else the first on the PATH or in
/// `.tools/bin` (of the working directory, or of a folder above this program) that is new enough.
///
/// # Errors
/// With what was found and how to get one.
pub fn find() -> Result<Program, Failure> {
    choose(&candidates(), version_of)
}

fn candidates() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return vec![named.into()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(TOOLS.into());
    if let Ok(program) = std::env::current_exe() {
        folders.extend(program.ancestors().skip(1).map(|folder| folder.join(TOOLS)));
    }
    folders.into_iter().map(|folder| folder.join("nats-server")).filter(|program| program.is_file()).collect()
}

fn choose(candidates: &[PathBuf], version_of: impl Fn(&Path) -> Option<String>) -> Result<Program, Failure> {
    let mut refused = Vec::new();
    for path in candidates {
        match version_of(path) {
            Some(version) if is_new_enough(&version) => return Ok(Program { path: path.clone(), version }),
            Some(version) => refused.push(format!("{} is {version}, too old", path.display())),
            None => refused.push(format!("{} does not run", path.display())),
        }
    }
    let found = if refused.is_empty() { "none is on the PATH".to_owned() } else { refused.join("; ") };
    Err(Failure::new(Code::Failed, format!("no nats-server that can be used: {found}")).help(
        "run scripts/get-nats-server (it puts one into .tools/bin), install nats-server 2.12.7, 2.14.0 or later, or name a running one with --nats URL",
    ))
}

/// Asks a program: `nats-server: v2.15.1`.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("nats-server: ")?.trim_start_matches('v');
    Some(version.split_whitespace().next()?.to_owned())
}

/// True from 2.12.7 in 2.12 and from 2.14.0: those before have known security holes. What is running is
/// checked once more by the bus; here it is about the choice among several.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
        (Some(2), Some(12), Some(patch)) => patch >= 7,
        (Some(2), Some(minor), Some(_)) => minor >= 14,
        (Some(major), Some(_), Some(_)) => major > 2,
        _ => false, // a pre-release, or no version at all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let rows = [
            ("the floor of 2.12", "2.12.7", true),
            ("below it", "2.12.6", false),
            ("2.13 has the holes", "2.13.9", false),
            ("2.14", "2.14.0", true),
            ("a pre-release", "2.14.0-RC.1", false),
            ("Debian 12", "2.9.10", false),
            ("a later major", "3.0.0", true),
            ("no version", "dev", false),
        ];
        for (why, version, good) in rows {
            assert_eq!(is_new_enough(version), good, "{why}: {version}");
        }
    }

    #[test]
    fn the_first_that_is_new_enough_is_taken() {
        let candidates = ["/usr/bin/nats-server", ".tools/bin/nats-server"].map(PathBuf::from);
        let version_of = |path: &Path| Some(if path.starts_with("/usr") { "2.9.10" } else { "2.15.1" }.to_owned());
        assert_eq!(choose(&candidates, version_of).unwrap().path, candidates[1]);
        let failure = choose(&candidates[..1], version_of).unwrap_err();
        assert!(failure.message.contains("/usr/bin/nats-server is 2.9.10, too old"), "{}", failure.message);
        assert!(choose(&[], version_of).unwrap_err().message.contains("none is on the PATH"));
    }
}
