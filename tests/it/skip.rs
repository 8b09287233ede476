//! What cannot run here says so, with the reason, where it is not lost: the runner hides what a passing
//! test prints, so the line also goes to `skipped.txt` in the target directory, which `make test` and
//! `.ci/run` show at their end.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Notes that a test (or a part of it) did not run.
pub fn skip(what: &str, reason: &str) {
    let line = format!("SKIPPED: {what}: {reason}");
    println!("{line}");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the temporary directory is in the target");
    let mut file = OpenOptions::new().create(true).append(true).open(target.join("skipped.txt")).unwrap();
    writeln!(file, "{line}").unwrap();
}
