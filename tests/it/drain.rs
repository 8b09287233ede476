//! SIGTERM: what is under way ends, nothing is cut off, what has not ended goes on in the next life.

use std::time::Duration;

use crate::checker;
use crate::load::Load;
use crate::rig::{Rig, alone, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_nothing_off_and_the_next_life_goes_on() {
    const ORDERS: usize = 40;
    const IN_FLIGHT_MIN: u64 = 8;
    let _alone = alone().await;
    let mut rig = Rig::start("drain", &["--delay-ms", "300"]).await;
    let mut load = Load::default();
    load.send(&rig, "D", ORDERS, 10).await;
    until("calls are under way", async || {
        (rig.participants.counters().await.unwrap().in_flight >= IN_FLIGHT_MIN).then_some(())
    })
    .await;
    let status = rig.orchestrator.stop().await;
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", rig.orchestrator.log_end());
    assert_eq!(rig.participants.counters().await.unwrap().in_flight, 0, "a call was cut off");
    // Nothing new leaves while nobody is there.
    let before = rig.participants.counters().await.unwrap().calls;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rig.participants.counters().await.unwrap().calls, before);

    rig.orchestrator.start().await.unwrap();
    let ends = load.ended(&rig).await.clone();
    assert_eq!(checker::wrong(&rig, &ends).await, Vec::<String>::new());
    let ledger = rig.participants.ledger().await.unwrap();
    let keys: std::collections::BTreeSet<_> = ledger.arrivals.iter().map(|arrival| arrival.key.clone()).collect();
    assert_eq!(keys.len(), ledger.arrivals.len(), "a call was sent twice, so a drain had cut it off");
    rig.stop().await;
}
