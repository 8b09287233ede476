//! What users copy is what is tested: the commands of the README, and the compose file.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::skip::skip;

/// Runs a command in the repository and says why it did not succeed.
fn attempt(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{program}` cannot be run here ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned();
    Err(format!("`{program} {}` fails: {last}", arguments.join(" ")))
}

#[test]
fn compose_file_is_accepted_by_an_engine() {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml").exists() {
        return skip("docker compose", "there is no docker-compose.yml");
    }
    if let Err(reason) = attempt("docker", &["compose", "version"]) {
        return skip("docker compose config", &reason);
    }
    attempt("docker", &["compose", "config", "--quiet"]).unwrap();
}
