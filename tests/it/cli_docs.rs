//! The pages about API and commands name everything that there is.

use std::fs;
use std::path::Path;
use std::process::Command;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_backstitch")).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_is_described() {
    let (page, help) = (page("cli.md"), help(&["--help"]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut count = 0;
    for command in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = command.split_whitespace().next().unwrap();
        assert!(name == "help" || page.contains(&format!("`backstitch {name}")), "docs/cli.md does not name `{name}`");
        count += 1;
    }
    assert!(count > 20, "only {count} commands were found in:\n{help}");
}

#[test]
fn every_exit_code_is_described_in_the_same_words() {
    let (page, help) = (page("cli.md"), help(&["--help"]));
    for (code, meaning) in backstitch::cli::exit::CODES {
        let row = format!("| {} | {meaning} |", *code as u8);
        assert!(page.contains(&row), "docs/cli.md lacks: {row}");
        // The terminal's width may break the line.
        let words: Vec<&str> = meaning.split_whitespace().collect();
        assert!(help.split_whitespace().collect::<Vec<_>>().windows(words.len()).any(|found| found == words), "{row}");
    }
}

#[test]
fn every_route_is_described() {
    let page = page("api.md");
    for (path, method) in backstitch::api::described_routes() {
        let row = format!("| `{} {path}` |", method.to_uppercase());
        assert!(page.contains(&row), "docs/api.md lacks: {row}");
    }
}
