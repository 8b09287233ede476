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
/// The shim's own: the call's answer makes its caller panic.
const PANIC: i32 = 0;

/// How calls fail, and what the process says before it ends.
#[derive(Debug, Default)]
struct Row {
    call: &'static str,
    errno: i32,
    /// Calls that still work.
    after: u32,
    /// Of files with this in their path; empty: all of the data directory.
    path: &'static str,
    /// Of this size at least.
    bytes_min: u32,
    /// How long a failing call takes.
    delay_ms: u32,
    said: &'static str,
}

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
    let rows = [
        Row { call: "fdatasync", errno: EIO, after: 9, said: "a sync failed", ..Row::default() },
        Row { call: "fdatasync", errno: EIO, after: 60, said: "sync", ..Row::default() },
        Row { call: "pwrite64", errno: EIO, after: 40, said: "write", ..Row::default() },
        Row { call: "pwrite64", errno: EIO, after: 41, said: "write", ..Row::default() },
        Row { call: "pwrite64", errno: ENOSPC, after: 60, said: "write", ..Row::default() },
        Row { call: "pwrite64", errno: EIO, after: 3, path: "/HEAD", said: "write", ..Row::default() },
        Row { call: "pwrite64", errno: EIO, path: "/db", said: "cannot open", ..Row::default() },
        // sled tells nobody of these: an error in a buffer that was full, and a panic in a thread of its own.
        Row {
            call: "pwrite64",
            errno: EIO,
            after: 2,
            bytes_min: 500_000,
            delay_ms: 50,
            said: "a write failed",
            ..Row::default()
        },
        Row { call: "pwrite64", errno: PANIC, after: 40, path: "/db", said: "sled gave up: range", ..Row::default() },
    ];
    for row in rows {
        let mut rig = Rig::prepare("io-errors", &["--delay-ms", "20"], "data", "").await;
        // Streams are there before the trouble begins.
        rig.orchestrator.start().await.unwrap();
        rig.orchestrator.stop().await;
        let data = rig.workspace.path().join("data").display().to_string();
        let path = if row.path.is_empty() { &data } else { row.path };
        rig.orchestrator.set_environment(&[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAIL_IO_CALL", row.call),
            ("FAIL_IO_ERRNO", &row.errno.to_string()),
            ("FAIL_IO_AFTER", &row.after.to_string()),
            ("FAIL_IO_PATH", path),
            ("FAIL_IO_BYTES_MIN", &row.bytes_min.to_string()),
            ("FAIL_IO_DELAY_MS", &row.delay_ms.to_string()),
        ]);
        rig.orchestrator.spawn().unwrap();
        // Large orders where large writes are to fail.
        let order_bytes = if row.bytes_min > 0 { 100_000 } else { 100 };
        let mut load = Load::default();
        let deadline = Instant::now() + LONG;
        while !rig.orchestrator.has_ended() {
            load.send(&rig, "E", 4, order_bytes).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(Instant::now() < deadline, "{row:?}: the process goes on\n{}", rig.orchestrator.log_end());
        }
        let status = rig.orchestrator.ended().await.unwrap();
        assert_eq!(status.code(), Some(1), "{row:?}: {status}\n{}", rig.orchestrator.log_end());
        let log = rig.orchestrator.log();
        let last = log.lines().rev().find(|line| line.starts_with("error")).unwrap_or_default();
        assert!(last.contains(row.said), "{row:?}: it says `{last}`");
        assert!(!log.contains("panicked"), "{row:?}: a panic's text was shown\n{}", rig.orchestrator.log_end());

        rig.orchestrator.set_environment(&[]);
        rig.orchestrator.start().await.unwrap();
        let ends = load.ended(&rig).await.clone();
        assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new(), "{row:?}");
        let Row { call, errno, after, .. } = row;
        count(&format!(
            "{call} fails with {errno} after {after} calls: ended by itself; {} runs ended after it",
            ends.len()
        ));
        rig.stop().await;
    }
}
