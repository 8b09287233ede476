//! What users copy is what is tested: the commands of the README are run against a running
//! Backstitch, its saga is loaded, the files that it names are there. What needs a program that this
//! machine lacks is skipped with the reason.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rig::{Rig, program, run_of};
use crate::skip::skip;

/// One fenced block: what stands behind the fence, and its text.
struct Block {
    info: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => open = Some(Block { info: info.to_owned(), text: String::new() }),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// Runs a shell line and says why it did not succeed.
fn attempt(line: &str, folder: &Path, environment: &[(&str, String)]) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`sh` cannot be run here ({error})"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
    Err(format!("`{line}` fails: {last}"))
}

/// Returns a Python that has the package `nats-py`: this machine's own, else one in a virtual environment
/// of the target directory, which is made once.
fn python_with_nats() -> Result<PathBuf, String> {
    if attempt("python3 -c 'import nats'", root(), &[]).is_ok() {
        return Ok("python3".into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-py");
    let python = folder.join("bin/python");
    let has_it = format!("{} -c 'import nats'", python.display());
    if attempt(&has_it, root(), &[]).is_err() {
        attempt(&format!("python3 -m venv {}", folder.display()), root(), &[])?;
        let install = format!("{} -m pip install --quiet --retries 1 --timeout 10 nats-py", python.display());
        attempt(&install, root(), &[])?;
        attempt(&has_it, root(), &[])?;
    }
    Ok(python)
}

/// Says why a block's program cannot be run here, if it cannot.
fn missing(info: &str) -> Option<String> {
    match info {
        "sh nats" => attempt("nats --version", root(), &[]).err(),
        "python" => python_with_nats().err(),
        "sh compose" => attempt("docker compose version && docker info", root(), &[]).err(),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_do_what_the_readme_says() {
    let readme = readme();
    let blocks = blocks(&readme);
    let mut rig = Rig::prepare("readme", &[], "data", "").await;
    let saga = blocks.iter().find(|block| block.info == "yaml").expect("the README shows a saga");
    assert_eq!(saga.text.lines().count(), 10, "a saga of ten lines");
    std::fs::write(rig.workspace.path().join("sagas/small-order.yaml"), &saga.text).unwrap();
    rig.orchestrator.start().await.unwrap();

    let path = std::env::var("PATH").unwrap_or_default();
    let environment = [
        ("PATH", format!("{}:{path}", program().parent().unwrap().display())),
        ("BACKSTITCH_URL", rig.orchestrator.client.url().to_owned()),
        ("NATS_URL", rig.nats.url()),
    ];
    let here = |text: &str| {
        text.replace("http://127.0.0.1:7070", rig.orchestrator.client.url())
            .replace("nats://127.0.0.1:4222", &rig.nats.url())
    };
    let mut ran = 0;
    for block in &blocks {
        if let Some(reason) = missing(&block.info) {
            skip(&format!("README, `{}`", block.text.lines().next().unwrap_or_default()), &reason);
            continue;
        }
        match block.info.as_str() {
            "sh" | "sh nats" => {
                for line in block.text.lines() {
                    if let Some(target) = line.strip_prefix("make ") {
                        // `make test` runs this test; what the targets do is run by it and by .ci/run.
                        let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
                        assert!(makefile.contains(&format!("\n{target}:")), "no target `{target}`");
                        continue;
                    }
                    attempt(&here(line), rig.workspace.path(), &environment).unwrap();
                    ran += 1;
                }
            }
            "sh background" => {
                // The rig runs both; what is written here must at least be a command line that they take.
                for line in block.text.lines() {
                    let words: Vec<&str> = line.split(' ').collect();
                    let help = attempt(&format!("{} {} --help", words[0], words[1]), root(), &environment).unwrap();
                    let options = words.iter().filter(|word| word.starts_with("--"));
                    options.for_each(|option| assert!(help.contains(option), "`{line}`: no option {option}"));
                }
            }
            "sh compose" => {
                for line in block.text.lines() {
                    attempt(line, root(), &[]).unwrap();
                }
            }
            "python" => {
                let file = rig.workspace.path().join("publish.py");
                std::fs::write(&file, here(&block.text)).unwrap();
                let python = python_with_nats().unwrap();
                let line = format!("{} {}", python.display(), file.display());
                attempt(&line, rig.workspace.path(), &environment).unwrap();
                ran += 1;
            }
            "yaml" | "text" => {}
            other => panic!("a block of kind `{other}`: say here how it is tested"),
        }
    }
    assert!(ran >= 5, "{ran} commands were run");
    for order in ["R-1", "R-5"] {
        assert_eq!(rig.ended(run_of(order)).await.state, "completed", "{order}");
    }
    rig.stop().await;
}

#[test]
fn files_and_folders_that_it_names_are_there() {
    let readme = readme();
    let mut named: Vec<PathBuf> = Vec::new();
    for word in readme.split(['`', '(', ')', ' ', '\n']) {
        let is_path = word.contains('/')
            && !word.contains("://")
            && ["docs/", "sagas/", "schemas/", "tests/", "scripts/"].iter().any(|folder| word.starts_with(folder));
        if is_path {
            named.push(root().join(word.trim_end_matches(['.', ',', ':', ';'])));
        }
    }
    assert!(named.len() >= 3, "{named:?}");
    for path in named {
        assert!(path.exists(), "{} is not there", path.display());
    }
    let map = readme.split("## Map of `src/`").nth(1).expect("the README has a map");
    for folder in std::fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap()) {
        let name = folder.file_name().into_string().unwrap();
        if folder.path().is_dir() {
            assert!(map.contains(&format!("{name}/")), "src/{name}/ is missing on the map");
        }
    }
}

#[test]
fn compose_file_is_accepted_by_an_engine() {
    if !root().join("docker-compose.yml").exists() {
        return skip("docker compose", "there is no docker-compose.yml");
    }
    if let Err(reason) = attempt("docker compose version", root(), &[]) {
        return skip("docker compose config", &reason);
    }
    attempt("docker compose config --quiet", root(), &[]).unwrap();
}

#[test]
fn every_guarantee_names_a_test_that_is_there() {
    let text = std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let mut count = 0;
    for word in text.split('`').filter(|word| word.contains(".rs::")) {
        let (file, name) = word.split_once("::").unwrap();
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {name}(")), "`{file}` has no test `{name}`");
        count += 1;
    }
    assert!(count >= 10, "{count} tests are named");
}
