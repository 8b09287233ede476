//! The demonstration is the end-to-end test: it ends well only if every run ended as announced.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{alone, program};

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .arg("demo")
        .env("TMPDIR", folder)
        .env("BACKSTITCH_JAEGER_URL", "http://127.0.0.1:1")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    command
}

/// No process that was named is there, and neither is the temporary folder.
fn check_nothing_is_left(said: &str, folder: &Path) {
    let pids: Vec<&str> = said.split("(pid ").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(pids.len() >= 2, "{pids:?}");
    for pid in pids {
        // One that has ended and that nobody has waited for has no program any more.
        assert!(std::fs::read_link(format!("/proc/{pid}/exe")).is_err(), "process {pid} still runs");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "the temporary folder is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn demonstration_ends_as_announced_and_leaves_nothing_behind() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["all 5 runs ended as announced", "duplicate effects: 0", "SIGKILL", "compensated"] {
        assert!(said.contains(expected), "`{expected}` is missing in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    check_nothing_is_left(&said, folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demonstration_leaves_nothing_behind() {
    let _alone = alone().await;
    // The last one is right behind the SIGKILL, when nobody but the demonstration can stop the nats-server.
    for moment in ["services ", "1. ", "SIGKILL"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let is_moment = line.trim_start().starts_with(moment);
            said = said + &line + "\n";
            if is_moment {
                kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            }
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
        if moment != "services " {
            check_nothing_is_left(&said, folder.path());
        }
        let left = Command::new("pgrep").args(["-f", &folder.path().display().to_string()]).output();
        if let Ok(left) = left {
            assert_eq!(String::from_utf8_lossy(&left.stdout), "", "processes of this demonstration are left");
        }
    }
}
