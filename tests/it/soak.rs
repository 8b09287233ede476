//! `make soak HOURS=…`: half of the load that this machine takes, with a fault every 30 s, for hours. Watches
//! memory and the journal's size, and looks at every effect at the end. Does nothing in an ordinary run.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use backstitch::cli::participant::Service;

use crate::counted::count;
use crate::load::Load;
use crate::rig::{Rig, alone};

/// Seconds between two faults.
const FAULT_EVERY: Duration = Duration::from_secs(30);
/// How long the load that the machine takes is looked for.
const LOOK: Duration = Duration::from_secs(15);
/// What the journal may keep; it is looked at with the present generation and the one being removed.
const RETENTION_BYTES: u64 = 64 << 20;
/// Growth that is still noise: caches fill, the allocator keeps pages.
const MEMORY_NOISE_KIB: u64 = 64 << 10;

/// Resident memory of the orchestrator, in KiB.
fn memory_kib(rig: &Rig) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.orchestrator.pid()?)).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok())
}

fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.map(|path| if path.is_dir() { bytes_below(&path) } else { size(&path) }).sum()
}

/// One fault; returns its name.
async fn fault(rig: &mut Rig, number: usize) -> &'static str {
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    match number % 5 {
        0 => {
            rig.nats.kill();
            pause(5).await;
            rig.nats.start_again();
            "NATS killed"
        }
        1 => {
            rig.orchestrator.kill().await;
            rig.orchestrator.start().await.unwrap();
            "orchestrator killed"
        }
        2 => {
            rig.participants.down(Service::Payments).await.unwrap();
            pause(1).await;
            rig.participants.up(Service::Payments).await.unwrap();
            "payments away"
        }
        3 => {
            rig.nats.freeze();
            pause(7).await;
            rig.nats.thaw();
            "NATS frozen"
        }
        _ => {
            assert!(rig.orchestrator.stop().await.is_some_and(|status| status.success()));
            rig.orchestrator.start().await.unwrap();
            "orchestrator drained and started"
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_load_with_faults_for_hours() {
    let Ok(minutes) = std::env::var("SOAK_MINUTES") else { return };
    let length = Duration::from_secs_f64(60.0 * minutes.parse::<f64>().expect("SOAK_MINUTES is a number"));
    let _alone = alone().await;
    let config = format!("journal: {{ generation_bytes: 4194304, retention_bytes: {RETENTION_BYTES} }}\n");
    let mut rig = Rig::prepare("soak", &["--delay-ms", "5"], "data", &config).await;
    rig.orchestrator.start().await.unwrap();
    let mut load = Load::default();
    let begun = Instant::now();
    let mut orders = 0;
    while begun.elapsed() < LOOK {
        load.send(&rig, "L", 40, 200).await;
        load.all_completed().await;
        orders += 40;
    }
    let rate = orders as f64 / begun.elapsed().as_secs_f64() / 2.0;
    println!("soak: half load is {rate:.0} orders a second, for {minutes} minutes");

    let (begun, mut last_fault, mut faults, mut sent) = (Instant::now(), Instant::now(), 0, 0.0);
    let (mut memory, mut journal_max, mut keys_max) = ([0_u64; 2], 0, 0);
    while begun.elapsed() < length {
        if last_fault.elapsed() >= FAULT_EVERY {
            let name = fault(&mut rig, faults).await;
            faults += 1;
            last_fault = Instant::now();
            println!("soak: {:4.0} s: {name}; journal {} MiB", begun.elapsed().as_secs_f64(), journal_max >> 20);
        }
        let due = begun.elapsed().as_secs_f64() * rate - sent;
        if due >= 10.0 {
            load.send(&rig, "S", 10, 200).await;
            sent += 10.0;
        }
        let half = usize::from(begun.elapsed() > length / 2);
        memory[half] = memory[half].max(memory_kib(&rig).unwrap_or_default());
        let data = rig.workspace.path().join("data");
        let keys = bytes_below(&data.join("keys"));
        journal_max = journal_max.max(bytes_below(&data).saturating_sub(keys));
        keys_max = keys_max.max(keys);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ends = load.all_completed().await;
    let stream = async || {
        let client = async_nats::connect(rig.nats.url()).await.unwrap();
        jetstream::new(client).get_stream("EVENTS").await.unwrap().cached_info().state.messages
    };
    // Half of the orders came as events; each run tells two more.
    let told = ends.len() as u64 * 5 / 2;
    crate::rig::until("every end is told", async || (stream().await >= told).then_some(())).await;
    let ledger = rig.participants.ledger_summary().await.unwrap();
    assert_eq!(ledger.duplicates, Vec::<String>::new());
    let wanted = 3 * ends.len() as u64;
    assert_eq!((ledger.standing, ledger.effects), (wanted, wanted), "every order is reserved, paid and shipped once");
    count(&format!(
        "soak: {} orders, {faults} faults; memory at most {} MiB in the first half, {} MiB in the second; journal at most {} MiB, keys of finished runs {} MiB",
        ends.len(),
        memory[0] >> 10,
        memory[1] >> 10,
        journal_max >> 20,
        keys_max >> 20
    ));
    assert!(memory[1] <= memory[0] + memory[0] / 4 + MEMORY_NOISE_KIB, "memory grows: {memory:?} KiB");
    assert!(journal_max <= 2 * RETENTION_BYTES, "the journal grows: {journal_max} bytes");
    // 40 bytes each with filter and half-filled pages 43, and up to twice that while files are merged.
    assert!(keys_max <= 100 * ends.len() as u64 + (1 << 20), "keys take {keys_max} bytes");
    rig.stop().await;
}
