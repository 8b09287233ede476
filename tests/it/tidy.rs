//! Rules of the tree that a machine can check. Each message says what to write instead.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file. Most stay under 400; one that grows past this holds a second idea.
const LINES_MAX: usize = 900;

/// Returns every Rust file below a folder of the repository, in order.
pub fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the path as messages show it, from the repository's root.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string()
}

/// Returns the numbered lines of a file that are compiled into the product: no comments, and nothing
/// that stands behind `#[cfg(test)]`.
pub fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("#![cfg(test)]") {
            return Vec::new();
        }
        if !trimmed.starts_with("#[cfg(test)]") {
            if !trimmed.starts_with("//") {
                kept.push((at + 1, line));
            }
            continue;
        }
        // The item behind the attribute ends with its line, or with the brace at its own indentation.
        let indent = line.len() - trimmed.len();
        let close = format!("{}}}", " ".repeat(indent));
        let item = lines.by_ref().find(|(_, line)| !line.trim_start().starts_with("#["));
        if item.is_some_and(|(_, line)| line.trim_end().ends_with('{')) {
            lines.by_ref().find(|(_, line)| *line == close);
        }
    }
    kept
}

/// True for a file that holds tests only: by its name, or because it or a folder above it is declared
/// behind `#[cfg(test)]`.
pub fn is_test_file(path: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules = path.ancestors().take_while(|ancestor| *ancestor != source && ancestor.starts_with(&source));
    modules.into_iter().any(|module| {
        let name = module.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = module.parent().unwrap_or(module);
        let owners = [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs")];
        name == "tests"
            || owners
                .iter()
                .filter_map(|owner| fs::read_to_string(owner).ok())
                .any(|owner| is_declared_for_tests(&owner, name))
    })
}

/// True if a text has `mod NAME;` behind `#[cfg(test)]`.
fn is_declared_for_tests(owner: &str, name: &str) -> bool {
    let product = product_lines(owner);
    let declared =
        |line: &str| line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ") == format!("mod {name};");
    owner.lines().any(declared) && !product.iter().any(|(_, line)| declared(line))
}

fn report(findings: &[String]) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut findings = Vec::new();
    for path in rust_files("src").iter().chain(&rust_files("tests")) {
        if !fs::read_to_string(path).unwrap().starts_with("//!") {
            findings.push(format!("{}:1: begin with `//!`: what the file is for, in one to five lines", shown(path)));
        }
    }
    report(&findings);
}

#[test]
fn no_file_holds_two_ideas() {
    let mut findings = Vec::new();
    for path in rust_files("src").iter().chain(&rust_files("tests")) {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines, {LINES_MAX} at most: give the second idea a file", shown(path)));
        }
    }
    report(&findings);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two halves, so that this file does not find itself.
    let banned = [
        (concat!("to", "do!("), "write it, or leave the name out until it exists"),
        (concat!("unimpl", "emented!("), "write it, or leave the name out until it exists"),
        (concat!("db", "g!("), "use tracing, or remove it"),
        (concat!("#[ig", "nore"), "a test that cannot run here calls `skip` with the reason"),
        (concat!("allow(dead", "_code)"), "remove what nobody uses"),
        (concat!("FIX", "ME"), "repair it, or open an issue and say what holds until then"),
        (concat!("/ro", "ot/"), "no path of one machine"),
        (concat!("/ho", "me/"), "no path of one machine"),
        (concat!("/Us", "ers/"), "no path of one machine"),
    ];
    let mut findings = Vec::new();
    for path in rust_files("src").iter().chain(&rust_files("tests")) {
        for (at, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            for (word, instead) in banned.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(format!("{}:{}: `{word}`: {instead}", shown(path), at + 1));
            }
        }
    }
    report(&findings);
}

#[test]
fn the_product_does_not_unwrap() {
    let mut findings = Vec::new();
    for path in rust_files("src").iter().filter(|path| !is_test_file(path)) {
        let text = fs::read_to_string(path).unwrap();
        for (at, _) in product_lines(&text).into_iter().filter(|(_, line)| line.contains(".unwrap()")) {
            findings.push(format!("{}:{at}: `.unwrap()`: use `?`, or `expect` with the reason it holds", shown(path)));
        }
    }
    report(&findings);
}

#[test]
fn product_lines_leave_tests_out() {
    let text =
        "//! x\nuse a;\n#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nfn g() {}\n#[cfg(test)]\nmod more;\nfn h() {}\n";
    let kept: Vec<&str> = product_lines(text).into_iter().map(|(_, line)| line).collect();
    assert_eq!(kept, ["use a;", "fn g() {}", "fn h() {}"]);
    assert!(is_declared_for_tests(text, "more"));
    assert!(!is_declared_for_tests("mod more;\n", "more") && !is_declared_for_tests(text, "other"));
}
