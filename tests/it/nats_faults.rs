//! NATS goes wrong under load: killed and started again, frozen, its stream deleted, its store wiped. Runs
//! that were accepted meanwhile end, their events are told once and in order, and intake comes back by
//! itself.

use std::time::Duration;

use async_nats::jetstream;
use backstitch::cli::client::StartBody;

use crate::checker::{self, Ends};
use crate::counted::count;
use crate::load::publish;
use crate::rig::{Rig, SAGA, alone, order, run_of, until};

/// Longer than the client's own wait for an answer (5 s), so that a frozen server is noticed.
const FROZEN: Duration = Duration::from_secs(7);

/// What is done to NATS.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Killed,
    Frozen,
    StreamDeleted,
    Wiped,
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_goes_wrong_and_every_accepted_run_ends() {
    let _alone = alone().await;
    for trouble in [Trouble::Killed, Trouble::Frozen, Trouble::StreamDeleted, Trouble::Wiped] {
        let mut rig = Rig::start("nats-faults", &["--delay-ms", "40"]).await;
        begin(&mut rig, trouble).await;
        let orders: Vec<String> = (0..20).map(|number| format!("N-{number}")).collect();
        for id in &orders {
            let body = StartBody { input: order(id), key: Some(id.clone()), ..StartBody::default() };
            // A start needs no NATS.
            rig.orchestrator.client.start(SAGA, &body, None).await.unwrap();
        }
        let mut ends = Ends::new();
        for id in &orders {
            ends.insert(id.clone(), (run_of(id), rig.ended(run_of(id)).await.state));
        }
        over(&mut rig, trouble).await;
        until("ready again", async || rig.orchestrator.client.readiness().await.ok()?.ready.then_some(())).await;
        for number in 0..5 {
            let id = format!("M-{number}");
            publish(&rig, &id, order(&id).text()).await;
            ends.insert(id.clone(), (run_of(&id), rig.ended(run_of(&id)).await.state));
        }
        assert!(ends.values().all(|(_, end)| end == "completed"), "{trouble:?}: {ends:?}");
        assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new(), "{trouble:?}");
        count(&format!("NATS {trouble:?}: {} runs ended and told", ends.len()));
        rig.stop().await;
    }
}

async fn begin(rig: &mut Rig, trouble: Trouble) {
    match trouble {
        Trouble::Killed => rig.nats.kill(),
        Trouble::Frozen => rig.nats.freeze(),
        Trouble::StreamDeleted => {
            let client = async_nats::connect(rig.nats.url()).await.unwrap();
            jetstream::new(client).delete_stream("EVENTS").await.unwrap();
        }
        Trouble::Wiped => {
            rig.nats.kill();
            rig.nats.wipe();
        }
    }
}

async fn over(rig: &mut Rig, trouble: Trouble) {
    match trouble {
        Trouble::Killed | Trouble::Wiped => rig.nats.start_again(),
        Trouble::Frozen => {
            tokio::time::sleep(FROZEN).await;
            rig.nats.thaw();
        }
        Trouble::StreamDeleted => {}
    }
}
