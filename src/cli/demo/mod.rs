//! `backstitch demo`: the product in a minute. Starts everything that it needs, sends five orders
//! through trouble, shows what happens, and ends well only if every run ended as announced.

pub mod processes;
pub mod report;
pub mod scenes;
mod story;
pub mod workspace;

use std::path::Path;
use std::time::{Duration, Instant};

use owo_colors::OwoColorize;
use serde_json::json;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use self::processes::{Lifetime, Orchestrator, Participants, Wanted};
use self::scenes::{SCENES, Scene, Trouble};
use self::story::Story;
use self::workspace::Workspace;
use super::client::EventOptions;
use super::exit::{Code, Failure, Outcome};
use super::participant::Service;
use crate::coordinator::view::RunView;
use crate::id::{RunId, SagaName};
use crate::payload::Payload;

/// The saga of the demonstration.
pub const SAGA: &str = "order-fulfilment";
/// The event that starts it.
const EVENT: &str = "order.placed.v2";
/// A run takes a few seconds; longer means that something is wrong.
const RUN_WAIT: Duration = Duration::from_secs(60);
/// How often a run is looked at; short enough to look live.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Options of `backstitch demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave everything running at the end, and say where it is and how to stop it.
    #[arg(long)]
    stay: bool,
    /// Use a NATS server that runs already.
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Where Jaeger's page is, for the links.
    #[arg(long, env = "BACKSTITCH_JAEGER_URL", default_value = super::JAEGER_DEFAULT, value_name = "URL")]
    jaeger: String,
}

/// Everything that runs while the demonstration does.
struct Stage {
    participants: Participants,
    orchestrator: Orchestrator,
}

/// Shows the product.
///
/// # Errors
/// When something cannot be started, or a run did not end as announced.
pub async fn run(args: Args) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot find this program itself: {error}")))?;
    let lifetime = if args.stay { Lifetime::Own } else { Lifetime::Bound };
    // From here on an interruption is remembered, and met where everything can be stopped in order.
    let mut interruption = Interruption::listen()?;

    anstream::println!("{}", "Backstitch demo".bold());
    let participants = Participants::start(&program, &[], lifetime).await?;
    let at = &participants.addresses;
    anstream::println!(
        "services      inventory {}, payments {}, shipping {} (pid {})",
        at.inventory,
        at.payments,
        at.shipping,
        at.pid
    );
    let mut workspace = Workspace::create("demo", at, "")
        .map_err(|error| Failure::new(Code::Failed, format!("cannot make a temporary folder: {error}")))?;
    let mut stage = match prepare(&program, workspace.path(), &args, lifetime) {
        Ok(orchestrator) => Stage { participants, orchestrator },
        Err(failure) => {
            participants.stop().await;
            return Err(failure);
        }
    };

    let outcome = tokio::select! {
        outcome = show(&mut stage, &args) => outcome,
        () = interruption.wait() => Err(Failure::new(Code::Interrupted, "interrupted; everything is stopped")),
    };
    if args.stay && outcome.is_ok() {
        workspace.keep();
        said_where(&stage, workspace.path());
        return outcome;
    }
    stage.orchestrator.stop().await;
    stage.participants.stop().await;
    // An interruption right behind the SIGKILL leaves the killed orchestrator's nats-server with nobody to stop it.
    if let Ok(folder) = workspace.path().join("data/nats").canonicalize() {
        super::nats_server::stop_left_over(&folder);
    }
    outcome
}

fn prepare(program: &Path, folder: &Path, args: &Args, lifetime: Lifetime) -> Result<Orchestrator, Failure> {
    let mut options = vec!["--data", "data"];
    if let Some(nats) = &args.nats {
        options.extend(["--nats", nats]);
    }
    Orchestrator::prepare(program, folder, "dev", &options, lifetime)
}

/// Ctrl-C or SIGTERM.
struct Interruption {
    interrupt: Signals,
    terminate: Signals,
}

impl Interruption {
    fn listen() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::new(Code::Failed, format!("cannot listen to signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(cannot)?,
            terminate: signal(SignalKind::terminate()).map_err(cannot)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn show(stage: &mut Stage, args: &Args) -> Outcome {
    stage.orchestrator.start().await?;
    anstream::println!(
        "orchestrator  {} (pid {})",
        stage.orchestrator.client.url(),
        stage.orchestrator.pid().unwrap_or_default()
    );
    let mut runs = Vec::new();
    let mut wrong = Vec::new();
    for (at, scene) in SCENES.iter().enumerate() {
        anstream::println!();
        anstream::println!("{} {}", format!("{}. {}:", at + 1, scene.order).bold(), scene.title.bold());
        anstream::println!("   {}", scene.announced.dimmed());
        let (view, findings) = play(stage, scene).await?;
        for finding in &findings {
            anstream::println!("  {} {finding}", "not as announced:".red().bold());
        }
        wrong.extend(findings);
        runs.push(view);
    }
    tell_end(stage, args, &runs, wrong).await
}

/// Plays one scene to its end; returns the run and what is not as announced.
async fn play(stage: &mut Stage, scene: &Scene) -> Result<(RunView, Vec<String>), Failure> {
    if let Some(rule) = scene.fault() {
        stage.participants.fault(&rule).await?;
    }
    if let Trouble::Down { .. } = scene.trouble {
        stage.participants.down(Service::Inventory).await?;
    }
    let saga = SagaName::parse(SAGA).map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let run = RunId::keyed(&saga, scene.order);
    let options = EventOptions { key: Some(scene.order.to_owned()), ..EventOptions::default() };
    stage.orchestrator.client.publish(EVENT, &order(scene.order), &options).await?;
    let client = stage.orchestrator.client.clone();
    let mut story = Story::new(&client, run);
    if scene.trouble == Trouble::Killed {
        kill_and_start_again(stage, scene, &mut story).await?;
    }
    let deadline = Instant::now() + RUN_WAIT;
    let mut is_down = matches!(scene.trouble, Trouble::Down { .. });
    loop {
        let view = story.look().await;
        if let Trouble::Down { failed_attempts } = scene.trouble
            && is_down
            && story.count("attempt_ended") >= failed_attempts
        {
            stage.participants.up(Service::Inventory).await?;
            anstream::println!("  {}", "inventory is back".cyan());
            is_down = false;
        }
        if let Some(view) = view.filter(|view| matches!(view.state.as_str(), "completed" | "compensated" | "parked")) {
            let ledger = stage.participants.ledger().await?;
            let mut orders = report::by_order(&ledger);
            let line = orders.remove(scene.order).unwrap_or_default();
            for arrival in ledger.arrivals.iter().filter(|arrival| arrival.order.as_deref() == Some(scene.order)) {
                let outcome = serde_json::to_value(arrival.outcome).unwrap_or_default();
                let seen = format!(
                    "{:<9} saw {} {} → {}",
                    arrival.service.as_str(),
                    arrival.method,
                    arrival.target,
                    outcome.as_str().unwrap_or_default().replace('_', " ")
                );
                anstream::println!("             {}", seen.blue());
            }
            let findings = scene.check(&view, &story.facts, &line);
            return Ok((view, findings));
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                Code::Failed,
                format!(
                    "order {} does not come to an end; the orchestrator says:\n{}",
                    scene.order,
                    stage.orchestrator.log_end()
                ),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the data of an order.
fn order(id: &str) -> Payload {
    Payload::of(&json!({
        "orderId": id,
        "lines": [{"sku": "needle", "qty": 2, "price": 450}, {"sku": "thread", "qty": 1, "price": 1_290}],
    }))
}

/// Kills the orchestrator while the services hold its call, and starts it again.
async fn kill_and_start_again(stage: &mut Stage, scene: &Scene, story: &mut Story<'_>) -> Result<(), Failure> {
    let wanted = Wanted {
        order: Some(scene.order),
        step: Some("charge"),
        direction: Some(crate::request::Direction::Forward),
        count: 1,
        ..Wanted::default()
    };
    stage.participants.wait(&wanted, RUN_WAIT).await?;
    story.look().await;
    let pid = stage.orchestrator.pid().unwrap_or_default();
    stage.orchestrator.kill().await;
    anstream::println!(
        "  {}",
        format!("SIGKILL to the orchestrator (pid {pid}): `charge` has arrived, its answer has not left").red()
    );
    stage.orchestrator.start().await?;
    let pid = stage.orchestrator.pid().unwrap_or_default();
    anstream::println!("  {}", format!("the orchestrator is started again (pid {pid})").cyan());
    Ok(())
}

async fn tell_end(stage: &Stage, args: &Args, runs: &[RunView], mut wrong: Vec<String>) -> Outcome {
    let ledger = stage.participants.ledger().await?;
    anstream::println!();
    anstream::println!("{}", "Runs".bold());
    anstream::println!("{}", report::runs_table(runs));
    anstream::println!("{}", "What the services remember".bold());
    anstream::println!("{}", report::ledger_table(&report::by_order(&ledger)));
    let duplicates = report::duplicates(&ledger);
    anstream::println!("duplicate effects: {}", duplicates.len());
    wrong.extend(duplicates);
    tell_traces(&args.jaeger, runs).await;

    if wrong.is_empty() {
        anstream::println!("{}", format!("all {} runs ended as announced", runs.len()).green().bold());
        return Ok(());
    }
    for finding in &wrong {
        anstream::eprintln!("{} {finding}", "not as announced:".red().bold());
    }
    Err(Failure::new(Code::Failed, format!("{} thing(s) are not as announced", wrong.len())))
}

async fn tell_traces(jaeger: &str, runs: &[RunView]) {
    let reachable = match super::client::Client::new(jaeger, None) {
        Ok(client) => client.request(http::Method::GET, "/", &[], None, Duration::from_secs(2)).await.is_ok(),
        Err(_) => false,
    };
    if !reachable {
        anstream::println!("traces: no Jaeger at {jaeger} (docker compose up -d jaeger, or set BACKSTITCH_JAEGER_URL)");
        return;
    }
    for run in runs {
        anstream::println!("trace of {}: {jaeger}/trace/{}", run.key.as_deref().unwrap_or("-"), run.trace_id);
    }
}

fn said_where(stage: &Stage, folder: &Path) {
    let orchestrator = stage.orchestrator.pid().unwrap_or_default();
    let services = stage.participants.addresses.pid;
    anstream::println!("everything goes on running:");
    anstream::println!("  API       {}", stage.orchestrator.client.url());
    anstream::println!("  ledger    http://{}/ledger", stage.participants.addresses.control);
    anstream::println!("  data      {}", folder.display());
    anstream::println!("  stop it:  kill {orchestrator} {services}");
}
