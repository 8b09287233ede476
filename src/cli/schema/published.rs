//! A set of schemas that was published before: a folder, a revision in Git, or another Backstitch.

use std::path::Path;
use std::process::Command;

use crate::api::{TypeView, VersionView};
use crate::app::Finding;
use crate::cli::client::Client;
use crate::cli::exit::{Code, Failure};
use crate::schema::Registry;

/// As many files as a folder of schemas may have.
const FILES_MAX: usize = 20_000;

/// Reads what `--against` names. `folder` is the folder of the schemas at hand: where a revision is looked for.
///
/// # Errors
/// What cannot be read, or has mistakes.
pub async fn read(named: &str, folder: &Path) -> Result<Registry, Failure> {
    let files = if let Some(revision) = named.strip_prefix("git:") {
        of_revision(revision, folder)?
    } else if named.starts_with("http://") || named.starts_with("https://") {
        of_server(named).await?
    } else {
        return super::load_or_tell(Path::new(named));
    };
    Registry::load(files).map_err(|found| {
        for finding in found {
            anstream::eprintln!("{}\n", Finding::from(finding).rendered);
        }
        Failure::bad_input(format!("the schemas of {named} have mistakes of their own"))
    })
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let ran = Command::new("git").current_dir(folder).args(arguments).output();
    let output = ran.map_err(|error| Failure::new(Code::Failed, format!("cannot run git: {error}")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::bad_input(format!("git {}: {why}", arguments.join(" ")))
            .help("name a revision of the repository that the schemas lie in: --against git:main"));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::bad_input("git answered what is no text"))
}

fn of_revision(revision: &str, folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    if revision.is_empty() || revision.starts_with('-') {
        return Err(Failure::bad_input(format!("`git:{revision}` names no revision")).help("write --against git:main"));
    }
    let listed = git(folder, &["ls-tree", "-r", "-z", "--name-only", revision, "."])?;
    let names: Vec<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    if names.len() > FILES_MAX {
        return Err(Failure::bad_input(format!("{revision} has more than {FILES_MAX} files there")));
    }
    let is_ours =
        |name: &&&str| [".json", ".jq", "/policy.yaml", "/policy.yml"].iter().any(|ending| name.ends_with(ending));
    names
        .iter()
        .filter(is_ours)
        .map(|name| Ok((format!("git:{revision}/{name}"), git(folder, &["show", &format!("{revision}:./{name}")])?)))
        .collect()
}

async fn of_server(url: &str) -> Result<Vec<(String, String)>, Failure> {
    let token = std::env::var("BACKSTITCH_TOKEN").ok().filter(|token| !token.is_empty());
    let client = Client::new(url, token.as_deref())?;
    let types: Vec<TypeView> = client.get("/api/v1/schemas").await?;
    let mut files = Vec::new();
    for one in types {
        for version in &one.versions {
            // Names of types need no escaping in a path: letters, digits, `.`, `_` and `-`.
            let view: VersionView = client.get(&format!("/api/v1/schemas/{}/v{version}", one.name)).await?;
            files.push((format!("{url}/{}/v{version}.json", one.name), view.schema.to_string()));
        }
    }
    Ok(files)
}
