//! Orders for a process that may die at any moment: half of them started through the API, again and again
//! until there is an answer, as a client would; half of them published to NATS by somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use backstitch::cli::client::StartBody;
use backstitch::id::RunId;
use backstitch::payload::Payload;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::checker::Ends;
use crate::rig::{EVENT, LONG, Rig, SAGA, run_of};

/// Pause of a client that got no answer.
const AGAIN: Duration = Duration::from_millis(20);

/// What was acknowledged, by order.
#[derive(Default)]
pub struct Load {
    acknowledged: Arc<Mutex<BTreeMap<String, RunId>>>,
    clients: JoinSet<()>,
    number: usize,
    ends: Ends,
    /// Messages that were published and are no events.
    pub poison: u64,
}

/// An order whose data take some room, so that few of them fill a generation of the journal.
pub fn order_of(id: &str, bytes: usize) -> Payload {
    Payload::of(&json!({
        "orderId": id,
        "lines": [{"sku": "needle", "qty": 2, "price": 450}],
        "note": "n".repeat(bytes),
    }))
}

impl Load {
    /// Sends so many orders of that size and one message that is no event; does not wait for them.
    pub async fn send(&mut self, rig: &Rig, name: &str, count: usize, bytes: usize) {
        for _ in 0..count {
            let id = format!("{name}-{:04}", self.number);
            self.number += 1;
            let acknowledged = Arc::clone(&self.acknowledged);
            if self.number.is_multiple_of(2) {
                publish(rig, &id, order_of(&id, bytes).text()).await;
                acknowledged.lock().await.insert(id.clone(), run_of(&id));
                continue;
            }
            let client = rig.orchestrator.client.clone();
            self.clients.spawn(async move {
                let body = StartBody { input: order_of(&id, bytes), key: Some(id.clone()), ..StartBody::default() };
                let deadline = Instant::now() + LONG;
                loop {
                    match client.start(SAGA, &body, None).await {
                        Ok(answer) => {
                            acknowledged.lock().await.insert(id, answer.id);
                            return;
                        }
                        Err(error) => assert!(Instant::now() < deadline, "{id} cannot be started: {error}"),
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        publish(rig, &format!("poison-{}", self.number), "no JSON").await;
        self.poison += 1;
    }

    /// Waits until every order is acknowledged and every run at rest; returns all ends so far.
    pub async fn ended(&mut self, rig: &Rig) -> &Ends {
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        for (order, run) in self.acknowledged.lock().await.iter() {
            if !self.ends.contains_key(order) {
                assert_eq!(*run, run_of(order), "one run for one key");
                let end = rig.ended(*run).await.state;
                self.ends.insert(order.clone(), (*run, end));
            }
        }
        &self.ends
    }
}

impl Load {
    /// Waits until every order is acknowledged; returns them as if all had completed, for the checker to
    /// compare with services and stream. For journals whose retention is so short that runs are gone.
    pub async fn all_completed(&mut self) -> Ends {
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        let acknowledged = self.acknowledged.lock().await;
        acknowledged.iter().map(|(order, run)| (order.clone(), (*run, "completed".to_owned()))).collect()
    }
}

/// Publishes as a foreign client does, and waits for the server's acknowledgement.
pub async fn publish(rig: &Rig, id: &str, data: &str) {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [("specversion", "1.0"), ("id", id), ("source", "/load"), ("type", EVENT)] {
        headers.insert(format!("ce-{name}").as_str(), value);
    }
    let client = async_nats::connect(rig.nats.url()).await.unwrap();
    let bus = jetstream::new(client);
    let sent = bus.publish_with_headers(format!("events.{EVENT}"), headers, data.to_owned().into()).await.unwrap();
    sent.await.unwrap();
}
