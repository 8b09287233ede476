//! A full outage with 10,000 runs in flight: the service they wait for, NATS and the process itself go away,
//! and come back. Every run ends, nothing is done twice.

use std::time::{Duration, Instant};

use backstitch::cli::client::{Client, StartBody};
use backstitch::cli::demo::report::duplicates;
use backstitch::cli::participant::Service;
use backstitch::coordinator::view::RunFilter;
use futures_util::StreamExt;

use crate::counted::count;
use crate::rig::{LONG, Rig, alone, order};

/// `OUTAGE_RUNS=…` for another number.
const RUNS: usize = 10_000;
/// Starts on their way at once.
const IN_FLIGHT: usize = 64;

const SAGA: &str = r#"
saga: many
version: 1
defaults:
  timeout: 5s
  retry: { attempts: forever, delay: 2s, factor: 2, max_delay: 8s, jitter: full }
steps:
  - id: reserve
    call: inventory
    with: { method: POST, path: /reservations, body: { orderId: "${ $input.orderId }" } }
    compensate: { with: { method: DELETE, path: "/reservations/${ $forward.key }" } }
  - id: ship
    call: shipping
    with: { method: POST, path: /shipments, body: { orderId: "${ $input.orderId }" } }
    pivot: true
"#;

async fn open_runs(client: &Client) -> u64 {
    let sagas = client.sagas().await.unwrap_or_default();
    sagas.iter().filter(|saga| saga.name == "many").flat_map(|saga| saga.open_runs.values()).sum()
}

async fn wait_for(what: &str, rig: &Rig, wait: Duration, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < wait, "{what}: not within {wait:?}\n{}", rig.orchestrator.log_end());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_runs_outlive_a_full_outage() {
    let _alone = alone().await;
    let runs = std::env::var("OUTAGE_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let mut rig = Rig::prepare("outage", &[], "data", "").await;
    std::fs::write(rig.workspace.path().join("sagas/many.yaml"), SAGA).unwrap();
    rig.orchestrator.start().await.unwrap();
    rig.participants.down(Service::Shipping).await.unwrap();

    let begun = Instant::now();
    let client = &rig.orchestrator.client;
    futures_util::stream::iter(0..runs)
        .for_each_concurrent(IN_FLIGHT, |number| async move {
            let id = format!("O-{number}");
            let body = StartBody { input: order(&id), key: Some(id), ..StartBody::default() };
            client.start("many", &body, None).await.unwrap();
        })
        .await;
    let started = begun.elapsed();
    let wanted = runs as u64;
    wait_for("every first call has come", &rig, LONG, async || {
        rig.participants.counters().await.unwrap().calls >= wanted
    })
    .await;
    assert_eq!(open_runs(&rig.orchestrator.client).await, wanted, "all of them wait for shipping");

    // Everything is gone at once, and stays away for a while.
    rig.nats.kill();
    rig.orchestrator.kill().await;
    rig.participants.down(Service::Inventory).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    rig.nats.start_again();
    let begun = Instant::now();
    rig.orchestrator.start().await.unwrap();
    let ready = begun.elapsed();
    assert_eq!(open_runs(&rig.orchestrator.client).await, wanted, "all of them are there again");
    rig.participants.up(Service::Inventory).await.unwrap();
    rig.participants.up(Service::Shipping).await.unwrap();
    let recovered =
        wait_for("all have ended", &rig, LONG * 2, async || open_runs(&rig.orchestrator.client).await == 0).await;

    let ledger = rig.participants.ledger().await.unwrap();
    assert_eq!(duplicates(&ledger), Vec::<String>::new());
    let stand = ledger.effects.iter().filter(|effect| effect.done == 1 && effect.undone == 0).count();
    assert_eq!(stand, 2 * runs, "a reservation and a shipment for each");
    let (mut completed, mut cursor) = (0, None);
    loop {
        let filter = RunFilter {
            saga: Some("many".to_owned()),
            state: Some("completed".to_owned()),
            limit: Some(1_000),
            cursor,
            ..RunFilter::default()
        };
        let page = rig.orchestrator.client.runs(&filter).await.unwrap();
        completed += page.runs.len();
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(completed, runs);
    count(&format!(
        "{runs} runs in flight: started in {:.1} s, ready {:.1} s after the outage, all completed {:.1} s later",
        started.as_secs_f64(),
        ready.as_secs_f64(),
        recovered.as_secs_f64()
    ));
    rig.stop().await;
}
