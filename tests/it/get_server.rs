//! The scripts that get a server where nothing can be fetched: which program they take, and what they say.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What the scripts need beside a shell.
const TOOLS: [&str; 11] = ["sh", "sed", "head", "tail", "cut", "cat", "mkdir", "rm", "mv", "chmod", "dirname"];

fn stub(path: &Path, says: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A copy of the scripts in a tree of its own, with a PATH that has neither Python nor Go.
fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let scripts = tree.path().join("scripts");
    std::fs::create_dir_all(&scripts).unwrap();
    for script in ["get-nats-server", "get-jaeger"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
        std::fs::copy(from, scripts.join(script)).unwrap();
    }
    let bin = tree.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for tool in TOOLS {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(tool))
            .find(|path| path.is_file());
        symlink(found.unwrap_or_else(|| panic!("no {tool} in the PATH")), bin.join(tool)).unwrap();
    }
    tree
}

fn run(tree: &TempDir, script: &str, options: &[&str]) -> (bool, String, String) {
    let output = Command::new(tree.path().join("bin/sh"))
        .arg(tree.path().join("scripts").join(script))
        .args(options)
        .env("PATH", tree.path().join("bin"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn versions_of_nats_decide() {
    /// Why, what the one in the PATH says, what the one in .tools/bin says, which is taken.
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        ("the PATH comes first", Some("nats-server: v2.15.1"), Some("nats-server: v2.15.1"), Some("bin/nats-server")),
        ("the least of 2.12", Some("nats-server: v2.12.7"), None, Some("bin/nats-server")),
        (
            "Debian's is too old",
            Some("nats-server: v2.9.10"),
            Some("nats-server: v2.14.0"),
            Some(".tools/bin/nats-server"),
        ),
        ("2.13 is no release", Some("nats-server: v2.13.9"), None, None),
        ("a pre-release", Some("nats-server: v2.14.0-RC.1"), None, None),
        ("another program", Some("hello"), None, None),
        ("the next major version", Some("nats-server: v3.0.0"), None, Some("bin/nats-server")),
        ("none", None, None, None),
    ];
    for (why, in_path, in_tools, expected) in rows {
        let tree = tree();
        for (says, place) in [(in_path, "bin/nats-server"), (in_tools, ".tools/bin/nats-server")] {
            if let Some(says) = says {
                stub(&tree.path().join(place), says);
            }
        }
        let (success, out, err) = run(&tree, "get-nats-server", &[]);
        match expected {
            Some(place) => assert_eq!(out, format!("{}\n", tree.path().join(place).display()), "{why}: {err}"),
            None => {
                assert!(!success && out.is_empty(), "{why}: {out}{err}");
                assert!(err.contains("apt-get install python3-venv") && err.contains("install Go"), "{why}: {err}");
            }
        }
    }
}

#[test]
fn a_python_without_venv_is_no_end() {
    let tree = tree();
    stub(&tree.path().join("bin/python3"), "no module named venv'; exit 1; echo '");
    let (success, _, err) = run(&tree, "get-nats-server", &[]);
    assert!(!success);
    assert!(err.contains("python3-venv") && err.contains("no Go here"), "{err}");
    let left: Vec<_> = std::fs::read_dir(tree.path().join(".tools")).unwrap().collect();
    assert!(left.is_empty(), "temporary files are removed: {left:?}");
}

#[test]
fn versions_of_jaeger_decide() {
    let says = |version: &str| format!(r#"{{"gitCommit":"","gitVersion":"{version}","buildDate":""}}"#);
    /// Why, what the one in the PATH says, what the one in .tools/bin says, which is taken.
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        ("the PATH comes first", Some("v1.76.0"), Some("v1.76.0"), Some("bin/jaeger-all-in-one")),
        ("the least of 1", Some("v1.50.0"), None, Some("bin/jaeger-all-in-one")),
        ("too old", Some("v1.49.0"), Some("v1.62.0"), Some(".tools/bin/jaeger-all-in-one")),
        ("version 2 has another command line", Some("v2.1.0"), None, None),
        ("no version", Some("hello"), None, None),
        ("none", None, None, None),
    ];
    for (why, in_path, in_tools, expected) in rows {
        for options in [&[][..], &["--find"]] {
            let tree = tree();
            for (version, place) in [(in_path, "bin/jaeger-all-in-one"), (in_tools, ".tools/bin/jaeger-all-in-one")] {
                if let Some(version) = version {
                    stub(&tree.path().join(place), &says(version));
                }
            }
            let (success, out, err) = run(&tree, "get-jaeger", options);
            match expected {
                Some(place) => assert_eq!(out, format!("{}\n", tree.path().join(place).display()), "{why}: {err}"),
                None => {
                    assert!(!success && out.is_empty(), "{why}: {out}{err}");
                    let advice = if options.is_empty() { "install Go" } else { "without --find one is built" };
                    assert!(err.contains(advice), "{why}: {err}");
                }
            }
        }
    }
}
