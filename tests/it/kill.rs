//! SIGKILL under load. Every start that was acknowledged must come to its announced end, and no business
//! object may carry an effect twice, whatever was in flight. A control whose services ignore keys must
//! fail the same check: it shows that the kills hit something.
//!
//! A kill does not lose what the kernel has taken, so this says nothing about power cuts; those have a
//! test of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstitch::cli::client::{Client, StartBody};
use backstitch::cli::demo::report::{by_order, duplicates};
use backstitch::cli::participant::{Fault, Report, Rule, Service};
use backstitch::id::RunId;
use backstitch::request::Direction;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::checker;
use crate::counted::count;
use crate::rig::{LONG, Rig, SAGA, alone, order, run_of};

/// A kill with fewer calls under way does not count.
const IN_FLIGHT_MIN: u64 = 8;
/// How long a call takes: long against the time in which eight of them get under way.
const DELAY_MS: &str = "250";
/// The longest life behind the moment at which enough calls are under way: some calls get their answer,
/// some do not, and the work lasts for all the kills.
const LIFE_MS_MAX: u64 = 400;

/// What one bout of killing gave.
struct Bout {
    /// Calls under way at each kill that counts.
    kills: Vec<u64>,
    /// Acknowledged runs by order.
    acknowledged: BTreeMap<String, RunId>,
    ends: BTreeMap<String, String>,
    ledger: Report,
}

/// Every fifth order is refused by payments. Not by shipping: a refusal of the pivot behind an attempt that
/// was cut off leaves the run parked, as it must.
fn is_refused(number: usize) -> bool {
    number.is_multiple_of(5)
}

async fn bout(name: &str, options: &[&str], runs: usize, kills: usize) -> Bout {
    let options: Vec<&str> = ["--delay-ms", DELAY_MS].iter().chain(options).copied().collect();
    let mut rig = Rig::start(name, &options).await;
    let orders: Vec<String> = (0..runs).map(|number| format!("K-{number:03}")).collect();
    for (number, order) in orders.iter().enumerate() {
        let rule = |service, fault, times| Rule {
            service: Some(service),
            order: Some(order.clone()),
            run: None,
            step: None,
            direction: Some(Direction::Forward),
            times,
            fault,
        };
        if is_refused(number) {
            let fault = Fault::Refuse { status: 422, problem: "card_declined".into(), title: "declined".into() };
            rig.participants.fault(&rule(Service::Payments, fault, None)).await.unwrap();
        }
        if number % 7 == 1 {
            rig.participants.fault(&rule(Service::Payments, Fault::LoseReply, Some(1))).await.unwrap();
        }
    }

    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let starters = start_all(&rig.orchestrator.client, &orders, acknowledged.clone());
    let mut counted = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    while counted.len() < kills {
        let Some(in_flight) = life(&rig, &mut seed).await else { break };
        rig.orchestrator.kill().await;
        if in_flight >= IN_FLIGHT_MIN {
            counted.push(in_flight);
        }
        rig.orchestrator.start().await.unwrap();
    }
    starters.join_all().await;
    let acknowledged = acknowledged.lock().await.clone();
    let mut ends = BTreeMap::new();
    for (order, run) in &acknowledged {
        ends.insert(order.clone(), rig.ended(*run).await.state);
    }
    let ledger = rig.participants.ledger().await.unwrap();
    rig.stop().await;
    Bout { kills: counted, acknowledged, ends, ledger }
}

/// Starts every order through the API, 64 runs in flight; a start that gets no answer is sent again with
/// the same key, as a client would.
fn start_all(client: &Client, orders: &[String], acknowledged: Arc<Mutex<BTreeMap<String, RunId>>>) -> JoinSet<()> {
    let places = Arc::new(Semaphore::new(64));
    let mut starters = JoinSet::new();
    for id in orders {
        let (client, places, acknowledged, id) = (client.clone(), places.clone(), acknowledged.clone(), id.clone());
        starters.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let body = StartBody { input: order(&id), key: Some(id.clone()), ..StartBody::default() };
            let deadline = Instant::now() + LONG;
            loop {
                assert!(Instant::now() < deadline, "{id} cannot be started");
                match client.start(SAGA, &body, None).await {
                    Ok(answer) => {
                        acknowledged.lock().await.insert(id.clone(), answer.id);
                        break;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            // Holds its place until the run has ended.
            let run = run_of(&id);
            while !client
                .run(run)
                .await
                .is_ok_and(|run| matches!(run.state.as_str(), "completed" | "compensated" | "parked"))
            {
                if Instant::now() > deadline {
                    return; // the test says which run it is
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    starters
}

/// Lets the orchestrator live until enough calls are under way and a little longer; returns how many are,
/// none when the work is over.
async fn life(rig: &Rig, seed: &mut u64) -> Option<u64> {
    let under_way = async |least: u64, wait: Duration| {
        let deadline = Instant::now() + wait;
        loop {
            let in_flight = rig.participants.counters().await.unwrap().in_flight;
            if in_flight >= least {
                return Some(in_flight);
            }
            if Instant::now() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    under_way(IN_FLIGHT_MIN, Duration::from_secs(20)).await?;
    // A multiplicative generator: the lives differ, and they are the same in every run of the test.
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    tokio::time::sleep(Duration::from_millis((*seed >> 33) % LIFE_MS_MAX)).await;
    under_way(IN_FLIGHT_MIN, Duration::from_secs(20)).await
}

/// Says what is wrong with the effects: duplicates, and objects that do not fit the run's end.
fn wrong_effects(bout: &Bout) -> Vec<String> {
    let mut wrong = duplicates(&bout.ledger);
    let orders = by_order(&bout.ledger);
    for (order, end) in &bout.ends {
        let effects = orders.get(order).map(|line| line.effects.clone()).unwrap_or_default();
        for service in Service::ALL {
            let (done, undone) = effects.get(&service).copied().unwrap_or_default();
            let stands = i64::from(done) - i64::from(undone);
            if stands != i64::from(end == "completed") {
                wrong.push(format!("order {order} ended {end}, and {} stands {stands} times", service.as_str()));
            }
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_start_ends_whatever_is_killed() {
    const RUNS: usize = 200;
    const KILLS: usize = 20;
    let _alone = alone().await;
    let bout = bout("kill", &[], RUNS, KILLS).await;

    count(&format!("kills with calls in flight: {:?}", bout.kills));
    assert!(bout.kills.len() >= KILLS, "only {} kills with {IN_FLIGHT_MIN} calls in flight", bout.kills.len());
    assert_eq!(bout.acknowledged.len(), RUNS, "every start was acknowledged in the end");
    for (order, run) in &bout.acknowledged {
        assert_eq!(*run, run_of(order), "one run for one key");
        let number: usize = order[2..].parse().unwrap();
        let announced = if is_refused(number) { "compensated" } else { "completed" };
        assert_eq!(bout.ends[order], announced, "order {order}");
    }
    let orders = by_order(&bout.ledger);
    let repeated = bout.ledger.arrivals.len() - orders.values().map(|line| line.keys + line.checks).sum::<usize>();
    let most = orders.values().map(|line| line.arrivals_per_key_max).max().unwrap_or_default();
    println!("{} arrivals, {repeated} of them repeats of a key, at most {most} of one", bout.ledger.arrivals.len());
    assert!(repeated > 0, "no kill hit a call: the test shows nothing");
    assert_eq!(wrong_effects(&bout), Vec::<String>::new());
    assert_eq!(checker::keys(&bout.ledger), Vec::<String>::new());
    assert_eq!(checker::traces(&bout.ledger), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_services_that_ignore_keys_fail_the_check() {
    let _alone = alone().await;
    let bout = bout("kill-control", &["--ignore-keys"], 64, 4).await;
    assert!(bout.kills.len() >= 4, "{:?}", bout.kills);
    let wrong = wrong_effects(&bout);
    println!("the control finds {} wrong effects, as it must", wrong.len());
    assert!(!duplicates(&bout.ledger).is_empty(), "services that ignore keys must be found out");
}
