//! The bus as the coordinator sees it: NATS in memory, and a look at the disk whenever something is
//! published or acknowledged.

use std::sync::Arc;
use std::time::Duration;

use backstitch::bus::{Acknowledge, Backlog, Bus, DeadLetter, Delivery, Error, NoEvent, Published, Status};
use backstitch::envelope::Event;
use backstitch::id::{EventType, RunId, SagaName};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::world::World;

/// The event that starts both sagas.
pub const ORDER: &str = "order.placed.v1";

/// The run that an order has, and the one that looks at each event.
pub fn runs_of(event: &Event) -> [RunId; 2] {
    let order = event.data.to_value()["orderId"].as_str().unwrap_or_default().to_owned();
    [
        RunId::keyed(&SagaName::parse("order").unwrap(), &order),
        RunId::keyed(&SagaName::parse("audit").unwrap(), &format!("{}#{}", event.source, event.id)),
    ]
}

pub struct Watched(pub Arc<World>);

struct WatchedAck {
    world: Arc<World>,
    event: Result<Event, NoEvent>,
    sequence: u64,
    inner: Box<dyn Acknowledge>,
}

impl Acknowledge for WatchedAck {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        let letters = self.world.bus.dead_letters();
        let aside = letters.iter().any(|letter| letter.sequence == self.sequence);
        let missing = match &self.event {
            Ok(event) if event.data.to_value().get("orderId").is_some_and(serde_json::Value::is_string) => {
                let durable = |run: &RunId| !self.world.durable(*run).is_empty();
                let order = runs_of(event);
                // One whose key has other input is put aside, and the second target goes on all the same.
                (!durable(&order[0])).then_some("its order").or((!durable(&order[1])).then_some("its audit"))
            }
            Ok(_) | Err(_) => (!aside).then_some("its dead letter"),
        };
        if let Some(missing) = missing {
            self.world.wrong(format!("15: event {} was acknowledged before {missing} was durable", self.sequence));
        }
        self.inner.ack()
    }

    fn later(self: Box<Self>, pause: Duration) -> BoxFuture<'static, ()> {
        self.inner.later(pause)
    }
}

impl Bus for Watched {
    fn publish(&self, events: Vec<Event>) -> BoxFuture<'static, Vec<Result<Published, Error>>> {
        for event in &events {
            if let Some(run) = event.extensions.get("sagarun")
                && !self.0.durable(run.parse().unwrap()).contains(&event.id)
            {
                self.0.wrong(format!("9: {} of run {run} left before it was durable", event.event_type));
            }
        }
        self.0.bus.publish(events)
    }

    fn next(&self, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            let deliveries = self.0.bus.next(max).await;
            let watched = |mut delivery: Delivery| {
                let (event, sequence) = (delivery.event.clone(), delivery.sequence);
                let inner = std::mem::replace(&mut delivery.ack, Box::new(Nothing));
                delivery.ack = Box::new(WatchedAck { world: Arc::clone(&self.0), event, sequence, inner });
                delivery
            };
            deliveries.into_iter().map(watched).collect()
        })
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'static, Result<Published, Error>> {
        self.0.bus.dead_letter(letter)
    }

    fn backlog(&self) -> Backlog {
        self.0.bus.backlog()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.0.bus.status()
    }

    fn subscribe(&self, types: Vec<EventType>) {
        self.0.bus.subscribe(types);
    }
}

/// Stands in while an answer is wrapped.
struct Nothing;

impl Acknowledge for Nothing {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn later(self: Box<Self>, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
