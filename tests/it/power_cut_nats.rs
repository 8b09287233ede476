//! Power cuts of NATS' store, configured as `durability: strict` asks for: every event that was acknowledged
//! must be in the stream of a server on the copied image. The control, with NATS' own default, must be seen
//! to lose: it is why `strict` looks at the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;

use crate::counted::count;
use crate::power_cut_journal::{Image, rounds};
use crate::rig::until;
use crate::server::{NatsServer, Setup};
use crate::skip::skip;

/// Acknowledgements between two cuts.
const ACKS: u64 = 200;
/// Events on their way at once.
const IN_FLIGHT: usize = 16;

/// Publishes until it is told to stop; `acknowledged` is the highest sequence whose PubAck has come.
async fn publish(url: String, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(Duration::from_secs(60)));
    let bus = jetstream::new(options.connect(url).await.unwrap());
    let events = futures_util::stream::repeat(()).take_while(|()| std::future::ready(!stop.load(Ordering::Relaxed)));
    events
        .for_each_concurrent(IN_FLIGHT, |()| async {
            let payload = vec![b'e'; 400];
            if let Ok(sent) = bus.publish("events.a.v1", payload.into()).await
                && let Ok(ack) = sent.await
            {
                acknowledged.fetch_max(ack.sequence, Ordering::SeqCst);
            }
        })
        .await;
}

/// Makes so many cuts; returns for each what was acknowledged and what the copy holds.
async fn cuts(sync_always: bool, count: usize) -> Option<Vec<(u64, u64)>> {
    let dir = tempfile::tempdir().unwrap();
    let image = match Image::make(dir.path()) {
        Ok(image) => image,
        Err(reason) => {
            skip("power cuts of NATS", &format!("no loop-mounted file system can be made here: {reason}"));
            return None;
        }
    };
    let setup = || Setup { sync_always, more: "" };
    let server = NatsServer::start_in(setup(), Some(image.mount.join("nats")));
    let bus = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events.>".into()], ..stream::Config::default() };
    bus.create_stream(config).await.unwrap();
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let publisher = tokio::spawn(publish(server.url(), Arc::clone(&acknowledged), Arc::clone(&stop)));
    let mut results = Vec::new();
    for _ in 0..count {
        let goal = acknowledged.load(Ordering::SeqCst) + ACKS;
        until("events are acknowledged", async || (acknowledged.load(Ordering::SeqCst) >= goal).then_some(())).await;
        // What has come back by the moment at which the server stops was promised.
        let promised = acknowledged.load(Ordering::SeqCst);
        server.freeze();
        let copy = image.cut(dir.path()).unwrap();
        let after = NatsServer::start_in(setup(), Some(copy.mount.join("nats")));
        let bus = jetstream::new(async_nats::connect(after.url()).await.unwrap());
        let kept = match bus.get_stream("EVENTS").await {
            Ok(stream) => {
                let state = &stream.cached_info().state;
                assert!(state.messages <= state.last_sequence);
                state.messages
            }
            Err(_) => 0,
        };
        results.push((promised, kept));
        drop(bus);
        drop(after);
        drop(copy);
        server.thaw();
    }
    stop.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
    drop(bus);
    drop(server);
    Some(results)
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_of_nats_lose_no_acknowledged_event() {
    let Some(results) = cuts(true, 10 * rounds(1)).await else { return };
    let lost: Vec<_> = results.iter().filter(|(promised, kept)| kept < promised).collect();
    let events: u64 = results.iter().map(|(promised, _)| promised).sum();
    count(&format!(
        "{} power cuts of NATS, {events} acknowledged events looked at, {} cuts with a loss",
        results.len(),
        lost.len()
    ));
    assert!(lost.is_empty(), "(acknowledged, kept): {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_default_of_nats_power_cuts_are_seen_to_lose() {
    let Some(results) = cuts(false, 2).await else { return };
    let lost = results.iter().filter(|(promised, kept)| kept < promised).count();
    count(&format!("control with NATS' default: {lost} of {} cuts show a loss: {results:?}", results.len()));
    assert!(lost > 0, "no cut showed a loss: the rig proves nothing here");
}
