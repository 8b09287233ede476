//! A disk that refuses: writes and syncs fail from some call on. The process ends by itself and says why;
//! what it had acknowledged is there when it is started on a disk that works again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::checker;
use crate::counted::count;
use crate::load::Load;
use crate::rig::{LONG, Rig, alone};
use crate::skip::skip;

/// Errors as the kernel counts them: input/output error, no space left on device.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Compiles the shim; the error says what is missing.
fn shim(dir: &Path) -> Result<std::path::PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/shim/fail_io.c");
    let library = dir.join("fail_io.so");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .map_err(|error| format!("cc cannot be run ({error})"))?;
    if output.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_ends_the_process_and_loses_nothing() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let library = match shim(dir.path()) {
        Ok(library) => library,
        Err(reason) => return skip("write and sync errors", &format!("the shim cannot be compiled: {reason}")),
    };
    let rows: &[(&str, i32, u32, &str)] = &[
        // call, error, calls that still work, what is said
        ("fdatasync", EIO, 9, "a sync failed"),
        ("fdatasync", EIO, 60, "sync"),
        ("pwrite64", EIO, 40, "write"),
        ("pwrite64", EIO, 41, "write"),
        ("pwrite64", ENOSPC, 60, "write"),
    ];
    for (call, errno, after, said) in rows {
        let mut rig = Rig::prepare("io-errors", &["--delay-ms", "20"], "data", "").await;
        // Streams are there before the trouble begins.
        rig.orchestrator.start().await.unwrap();
        rig.orchestrator.stop().await;
        let data = rig.workspace.path().join("data").display().to_string();
        rig.orchestrator.set_environment(&[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAIL_IO_CALL", call),
            ("FAIL_IO_ERRNO", &errno.to_string()),
            ("FAIL_IO_AFTER", &after.to_string()),
            ("FAIL_IO_BELOW", &data),
        ]);
        rig.orchestrator.spawn().unwrap();
        let mut load = Load::default();
        let deadline = Instant::now() + LONG;
        while !rig.orchestrator.has_ended() {
            load.send(&rig, "E", 4, 100).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(Instant::now() < deadline, "{call} {errno}: the process goes on\n{}", rig.orchestrator.log_end());
        }
        let status = rig.orchestrator.ended().await.unwrap();
        assert_eq!(status.code(), Some(1), "{call} {errno}: {status}\n{}", rig.orchestrator.log_end());
        let log = rig.orchestrator.log();
        let last = log.lines().rev().find(|line| line.starts_with("error")).unwrap_or_default();
        assert!(last.contains(said), "{call} {errno}: it says `{last}`");
        assert!(!log.contains("panicked"), "{call} {errno}: a panic's text was shown\n{}", rig.orchestrator.log_end());

        rig.orchestrator.set_environment(&[]);
        rig.orchestrator.start().await.unwrap();
        let ends = load.ended(&rig).await.clone();
        assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new(), "{call} {errno}");
        count(&format!(
            "{call} fails with {errno} after {after} calls: ended by itself; {} runs ended after it",
            ends.len()
        ));
        rig.stop().await;
    }
}
