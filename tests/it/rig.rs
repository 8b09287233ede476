//! The whole product for one test: a nats-server, the three services, and `backstitch dev` as a child.
//! Each test has its own; those that load the machine run one at a time.

use std::path::Path;
use std::time::{Duration, Instant};

use backstitch::cli::demo::processes::{Lifetime, Orchestrator, Participants};
use backstitch::cli::demo::workspace::Workspace;
use backstitch::coordinator::view::RunView;
use backstitch::id::{RunId, SagaName};
use backstitch::payload::Payload;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::server::NatsServer;

/// The saga that these tests run.
pub const SAGA: &str = "order-fulfilment";
/// The event that starts it.
pub const EVENT: &str = "order.placed.v2";
/// Far more than anything here takes; a test that waits so long has found something.
pub const LONG: Duration = Duration::from_secs(120);
/// How often something is looked at that gives no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The binary under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_backstitch"))
}

/// Waits for the machine: tests that kill, fill or measure do not run side by side.
pub async fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

pub struct Rig {
    pub nats: NatsServer,
    pub participants: Participants,
    pub orchestrator: Orchestrator,
    pub workspace: Workspace,
}

impl Rig {
    /// Prepares everything; the orchestrator is not started yet.
    pub async fn prepare(name: &str, participant_options: &[&str], data: &str, more_config: &str) -> Self {
        let nats = NatsServer::start();
        let participants = Participants::start(program(), participant_options, Lifetime::Bound).await.unwrap();
        let more = format!("{more_config}nats: {{ monitor_url: \"{}\" }}\n", nats.monitor_url());
        let workspace = Workspace::create(name, &participants.addresses, &more).unwrap();
        let options = ["--data", data, "--nats", &nats.url()];
        let orchestrator =
            Orchestrator::prepare(program(), workspace.path(), "dev", &options, Lifetime::Bound).unwrap();
        Self { nats, participants, orchestrator, workspace }
    }

    /// Starts everything and waits until it takes work.
    pub async fn start(name: &str, participant_options: &[&str]) -> Self {
        let mut rig = Self::prepare(name, participant_options, "data", "").await;
        rig.orchestrator.start().await.unwrap();
        rig
    }

    /// Waits until a run has come to rest, however often the orchestrator is away.
    pub async fn ended(&self, run: RunId) -> RunView {
        let deadline = Instant::now() + LONG;
        loop {
            let view = self.orchestrator.client.run(run).await;
            if let Ok(view) = &view
                && matches!(view.state.as_str(), "completed" | "compensated" | "parked")
            {
                return view.clone();
            }
            assert!(Instant::now() < deadline, "run {run} does not end: {view:?}\n{}", self.orchestrator.log_end());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends everything in order; a drop would kill it.
    pub async fn stop(mut self) {
        let status = self.orchestrator.stop().await;
        assert!(status.is_some_and(|status| status.success()), "a drain ends well: {status:?}");
        self.participants.stop().await;
    }
}

/// Waits until something holds.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {LONG:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The data of an order: its event's and its run's input.
pub fn order(id: &str) -> Payload {
    Payload::of(&json!({
        "orderId": id,
        "lines": [{"sku": "needle", "qty": 2, "price": 450}, {"sku": "thread", "qty": 1, "price": 1_290}],
    }))
}

/// The run that an order has, however it is started.
pub fn run_of(order: &str) -> RunId {
    RunId::keyed(&SagaName::parse(SAGA).unwrap(), order)
}
