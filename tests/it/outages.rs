//! What happens when something that we need is away: NATS at the start or for a while, space on the disk,
//! the data directory itself. Nothing acknowledged is lost, the state is said clearly, work resumes.

use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use backstitch::cli::client::{ClientError, EventOptions, StartBody};
use backstitch::cli::demo::processes::{Lifetime, Orchestrator};
use backstitch::id::RunId;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::Method;

use crate::rig::{EVENT, Rig, SAGA, alone, order, program, run_of, until};
use crate::skip::skip;

/// How long NATS is away: long enough for every wait inside the client to have run out.
const AWAY: Duration = Duration::from_secs(30);

async fn start(rig: &Rig, id: &str) -> Result<RunId, ClientError> {
    let body = StartBody { input: order(id), key: Some(id.to_owned()), ..StartBody::default() };
    rig.orchestrator.client.start(SAGA, &body, None).await.map(|answer| answer.id)
}

/// Publishes through the API; returns status, `Retry-After` and body.
async fn publish(rig: &Rig, id: &str) -> (u16, Option<String>, String) {
    let body = Bytes::from(order(id).text().to_owned());
    let target = format!("/api/v1/events/{EVENT}");
    let answer =
        rig.orchestrator.client.request(Method::POST, &target, &[], Some(body), Duration::from_secs(60)).await.unwrap();
    let retry_after = answer.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status.as_u16(), retry_after, String::from_utf8_lossy(&answer.body).into_owned())
}

/// Returns the subjects of all events that the stream holds for an order.
async fn events_of(rig: &Rig, order: &str) -> Vec<String> {
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    let stream = jetstream::new(client).get_stream("EVENTS").await.unwrap();
    let count = stream.cached_info().state.messages;
    let config = jetstream::consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let all: Vec<_> =
        futures_util::StreamExt::take(messages, usize::try_from(count).unwrap()).try_collect().await.unwrap();
    let of_order =
        all.iter().filter(|message| String::from_utf8_lossy(&message.payload).contains(&format!("\"{order}\"")));
    of_order.map(|message| message.subject.to_string()).collect()
}

async fn is_said(rig: &Rig, part: &str) -> Option<String> {
    let readiness = rig.orchestrator.client.readiness().await.ok()?;
    let part = readiness.parts.get(part)?;
    (!readiness.ready && !part.ready).then(|| part.message.clone())
}

async fn is_ready(rig: &Rig) -> Option<()> {
    rig.orchestrator.client.readiness().await.ok()?.ready.then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_away_at_the_start() {
    let _alone = alone().await;
    let mut rig = Rig::prepare("nats-at-start", &[], "data", "").await;
    rig.nats.kill();
    rig.orchestrator.spawn().unwrap();
    let message = until("readiness names NATS", async || is_said(&rig, "nats").await).await;
    assert!(message.contains("127.0.0.1"), "the message names the address: {message}");

    // Starts are accepted by the journal; events need the bus.
    start(&rig, "S-1").await.unwrap();
    let (status, retry_after, body) = publish(&rig, "S-2").await;
    assert_eq!((status, retry_after.is_some()), (503, true), "{body}");

    rig.nats.start_again();
    until("ready when NATS is there", async || is_ready(&rig).await).await;
    assert_eq!(rig.ended(run_of("S-1")).await.state, "completed");
    assert_eq!(publish(&rig, "S-2").await.0, 202);
    assert_eq!(rig.ended(run_of("S-2")).await.state, "completed");
    until("the end of S-1 is told", async || {
        events_of(&rig, "S-1").await.iter().any(|subject| subject == "events.order.fulfilled.v1").then_some(())
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_away_for_a_while() {
    let _alone = alone().await;
    let mut rig = Rig::start("nats-away", &["--delay-ms", "100"]).await;
    let options = EventOptions { key: Some("W-0".to_owned()), ..EventOptions::default() };
    rig.orchestrator.client.publish(EVENT, &order("W-0"), &options).await.unwrap();
    until("the run of W-0", async || rig.orchestrator.client.run(run_of("W-0")).await.ok()).await;
    rig.nats.kill();
    let away = Instant::now();
    let message = until("readiness names NATS", async || is_said(&rig, "nats").await).await;
    assert!(message.contains("127.0.0.1"), "the message names the address: {message}");
    for number in 1..=10 {
        start(&rig, &format!("W-{number}")).await.unwrap();
    }
    assert_eq!(publish(&rig, "W-11").await.0, 503);
    // The outage is as long as it is meant to be, whatever happened meanwhile.
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;
    rig.nats.start_again();
    until("ready when NATS is back", async || is_ready(&rig).await).await;
    for number in 0..=10 {
        let id = format!("W-{number}");
        assert_eq!(rig.ended(run_of(&id)).await.state, "completed", "{id}");
        let told = until("its end is told", async || {
            let mut subjects = events_of(&rig, &id).await;
            subjects.retain(|subject| subject != &format!("events.{EVENT}"));
            (subjects.len() >= 2).then_some(subjects)
        })
        .await;
        assert_eq!(told, ["events.order.shipped.v1", "events.order.fulfilled.v1"], "{id}: once each, in order");
    }
    assert!(rig.orchestrator.client.run(run_of("W-11")).await.is_err(), "what was answered 503 is not done");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_on_the_same_data_is_refused() {
    let mut rig = Rig::start("second-process", &[]).await;
    let pid = rig.orchestrator.pid().unwrap();
    let data = rig.workspace.path().join("data");
    let nats_url = rig.nats.url();
    let options = ["--data", data.to_str().unwrap(), "--nats", &nats_url];
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(rig.workspace.path().join("backstitch.yaml"), folder.path().join("backstitch.yaml")).unwrap();
    let mut second = Orchestrator::prepare(program(), folder.path(), "dev", &options, Lifetime::Bound).unwrap();
    second.spawn().unwrap();
    let status = second.ended().await.unwrap();
    assert_eq!(status.code(), Some(4), "{}", second.log());
    assert!(second.log().contains(&pid.to_string()), "the holder's pid {pid} is named: {}", second.log());
    assert!(rig.orchestrator.client.readiness().await.unwrap().ready, "the first one goes on");
    rig.orchestrator.stop().await;
    rig.participants.stop().await;
}

/// A file system of its own that is small enough to fill.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("mount cannot be run ({error})"))?;
        if !output.status.success() {
            return Err(format!("no tmpfs can be mounted ({})", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    let _alone = alone().await;
    let disk = match SmallDisk::mount("64m") {
        Ok(disk) => disk,
        Err(reason) => return skip("disk full", &reason),
    };
    let data = disk.0.path().join("data");
    let config = "journal: { free_bytes_min: 6291456 }\n";
    let mut rig = Rig::prepare("disk-full", &["--delay-ms", "20"], data.to_str().unwrap(), config).await;
    rig.orchestrator.start().await.unwrap();
    start(&rig, "D-0").await.unwrap();
    assert_eq!(rig.ended(run_of("D-0")).await.state, "completed");

    // Takes what is free but for 5 MiB: below the limit for new work, enough for what is running.
    let free = rustix::fs::statvfs(disk.0.path()).map(|stat| stat.f_bavail * stat.f_frsize).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0_u8; usize::try_from(free - (5 << 20)).unwrap()]).unwrap();
    let mut acknowledged = vec!["D-0".to_owned()];
    let mut number = 0;
    let reason = until("intake stops", async || {
        number += 1;
        let id = format!("D-{number}");
        match start(&rig, &id).await {
            Ok(_) => {
                acknowledged.push(id);
                None
            }
            Err(error) => Some(error),
        }
    })
    .await;
    assert_eq!(reason.problem().map(|problem| problem.status), Some(503), "{reason}");
    assert!(reason.to_string().contains("disk"), "the reason is said: {reason}");
    until("readiness says it", async || {
        let readiness = rig.orchestrator.client.readiness().await.ok()?;
        (!readiness.ready).then_some(())
    })
    .await;

    std::fs::remove_file(&ballast).unwrap();
    until("work is taken again", async || start(&rig, "D-last").await.ok()).await;
    acknowledged.push("D-last".to_owned());
    until("ready again", async || is_ready(&rig).await).await;
    for id in &acknowledged {
        assert_eq!(rig.ended(run_of(id)).await.state, "completed", "{id} was acknowledged");
    }
    rig.stop().await;
}
