//! The demonstration is the end-to-end test: it ends well only if every run ended as announced.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{alone, program};

#[tokio::test(flavor = "multi_thread")]
async fn demonstration_ends_as_announced_and_leaves_nothing_behind() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program())
        .arg("demo")
        .env("TMPDIR", folder.path())
        .env("BACKSTITCH_JAEGER_URL", "http://127.0.0.1:1")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["all 5 runs ended as announced", "duplicate effects: 0", "SIGKILL", "compensated"] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    let pids: Vec<&str> = said.split("(pid ").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(pids.len() >= 4, "{pids:?}");
    for pid in pids {
        assert!(!Path::new("/proc").join(pid).join("exe").exists(), "process {pid} still runs");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary folder is removed");
}
