//! The processes that the demonstration, the benchmark and the tests put together: the three services,
//! and an orchestrator that can be killed and started again. Each is stopped by its pid.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::client::{Answer, Client, ClientError};
use crate::cli::exit::{Code, Failure};
use crate::cli::participant::{Addresses, Report, Rule, Service, Summary};
use crate::request::Direction;

/// A process is ready within a second; a minute allows for a machine that is busy compiling.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How often a starting orchestrator is asked.
const READY_POLL: Duration = Duration::from_millis(20);
/// A drain waits for calls in flight; those of the demonstration end within their 3 s.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// Lines of a process's log that are shown when it fails.
const LOG_LINES_SHOWN: usize = 20;

fn failed(message: impl Into<String>) -> Failure {
    Failure::new(Code::Failed, message)
}

/// Sends SIGTERM, waits, and kills what does not end.
async fn stop_child(child: &mut Child) -> Option<ExitStatus> {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(STOP_WAIT, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            let _ = child.kill().await;
            None
        }
    }
}

/// The three services, running.
pub struct Participants {
    child: Child,
    pub addresses: Addresses,
    control: Client,
}

/// Which arrivals to wait for; what is absent fits everything.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Wanted<'a> {
    pub run: Option<&'a str>,
    pub order: Option<&'a str>,
    pub step: Option<&'a str>,
    pub direction: Option<Direction>,
    pub count: usize,
}

/// Figures of the services.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub struct Counters {
    pub calls: u64,
    /// Came and not yet answered.
    pub in_flight: u64,
}

/// Whether processes end with the one that started them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    Bound,
    /// Left running by `--stay`.
    Own,
}

impl Participants {
    /// Starts `PROGRAM participant OPTIONS…` and waits for its addresses.
    ///
    /// # Errors
    /// When it cannot be started or does not say where it listens.
    pub async fn start(program: &Path, options: &[&str], lifetime: Lifetime) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.arg("participant").args(options).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // Its own group: a Ctrl-C at the terminal reaches this process only, which stops the others in order.
        command.process_group(0);
        match lifetime {
            Lifetime::Bound => command.arg("--with-stdin").stdin(Stdio::piped()).kill_on_drop(true),
            Lifetime::Own => command.stdin(Stdio::null()),
        };
        let mut child =
            command.spawn().map_err(|error| failed(format!("cannot start {}: {error}", program.display())))?;
        let mut lines =
            BufReader::new(child.stdout.take().ok_or_else(|| failed("the services have no output"))?).lines();
        let line = match tokio::time::timeout(READY_WAIT, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            _ => return Err(failed("the services do not say where they listen")),
        };
        let addresses: Addresses =
            serde_json::from_str(&line).map_err(|error| failed(format!("cannot read `{line}`: {error}")))?;
        let control = Client::new(&format!("http://{}", addresses.control), None)?;
        Ok(Self { child, addresses, control })
    }

    async fn post(&self, target: &str, body: &impl Serialize, wait: Duration) -> Result<Answer, ClientError> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        self.control.request(Method::POST, target, &[], Some(body), wait).await
    }

    async fn told(&self, target: &str, body: &impl Serialize) -> Result<(), Failure> {
        let answer = self.post(target, body, READY_WAIT).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(failed(format!("the services refuse {target}: {}", String::from_utf8_lossy(&answer.body))))
    }

    /// Tells the services to do something wrong.
    ///
    /// # Errors
    /// When they cannot be reached.
    pub async fn fault(&self, rule: &Rule) -> Result<(), Failure> {
        self.told("/faults", rule).await
    }

    /// Closes a service's port.
    ///
    /// # Errors
    /// When the services cannot be reached.
    pub async fn down(&self, service: Service) -> Result<(), Failure> {
        self.told("/down", &json!({"service": service})).await
    }

    /// Opens a service's port again.
    ///
    /// # Errors
    /// When the services cannot be reached.
    pub async fn up(&self, service: Service) -> Result<(), Failure> {
        self.told("/up", &json!({"service": service})).await
    }

    /// Waits until so many arrivals fit.
    ///
    /// # Errors
    /// When the time is over first.
    pub async fn wait(&self, wanted: &Wanted<'_>, timeout: Duration) -> Result<(), Failure> {
        let mut body = serde_json::to_value(wanted).unwrap_or_default();
        body["timeout_ms"] = Value::from(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let answer = self.post("/wait", &body, timeout + READY_WAIT).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(failed(format!("the services saw no such call within {} s: {body}", timeout.as_secs())))
    }

    /// Reads the ledger.
    ///
    /// # Errors
    /// When the services cannot be reached.
    pub async fn ledger(&self) -> Result<Report, Failure> {
        Ok(self.control.get("/ledger").await?)
    }

    /// Reads what a ledger of any length amounts to.
    ///
    /// # Errors
    /// When the services cannot be reached.
    pub async fn ledger_summary(&self) -> Result<Summary, Failure> {
        Ok(self.control.get("/ledger/summary").await?)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// When the services cannot be reached.
    pub async fn counters(&self) -> Result<Counters, Failure> {
        Ok(self.control.get("/counters").await?)
    }

    /// Returns a service's address.
    #[must_use]
    pub fn address(&self, service: Service) -> SocketAddr {
        match service {
            Service::Inventory => self.addresses.inventory,
            Service::Payments => self.addresses.payments,
            Service::Shipping => self.addresses.shipping,
        }
    }

    /// Ends the services.
    pub async fn stop(mut self) {
        stop_child(&mut self.child).await;
    }
}

/// `backstitch dev` or `serve` as a child, on one port over all its lives.
pub struct Orchestrator {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    /// What it says; kept over its lives.
    log: PathBuf,
    child: Option<Child>,
    pub client: Client,
    lifetime: Lifetime,
    environment: Vec<(String, String)>,
}

/// Returns a port of the loopback that is free at the moment.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<u16, Failure> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| failed(format!("no free port on 127.0.0.1: {error}")))
}

impl Orchestrator {
    /// Prepares `PROGRAM COMMAND --listen 127.0.0.1:PORT OPTIONS…` in a folder with `sagas/`, `schemas/`
    /// and `backstitch.yaml`. Nothing is started yet.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn prepare(
        program: &Path,
        folder: &Path,
        command: &str,
        options: &[&str],
        lifetime: Lifetime,
    ) -> Result<Self, Failure> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let client = Client::new(&format!("http://{listen}"), None)?;
        let mut arguments = vec![command.to_owned(), "--listen".to_owned(), listen];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        Ok(Self {
            program: program.to_owned(),
            arguments,
            folder: folder.to_owned(),
            log: folder.join("orchestrator.log"),
            child: None,
            client,
            lifetime,
            environment: Vec::new(),
        })
    }

    /// Gives the further lives of the process these environment variables beside the ones they inherit.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Starts the process without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&mut self) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| failed(format!("cannot start {}: {error}", self.program.display()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(self.lifetime == Lifetime::Bound);
        self.child = Some(command.spawn().map_err(cannot)?);
        Ok(())
    }

    /// Starts the process and waits until it takes work.
    ///
    /// # Errors
    /// With the end of its log when it ends or does not become ready.
    pub async fn start(&mut self) -> Result<(), Failure> {
        self.spawn()?;
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Err(failed(format!("the orchestrator ended ({status}); it said:\n{}", self.log_end())));
            }
            if self.client.readiness().await.is_ok_and(|readiness| readiness.ready) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed(format!("the orchestrator does not become ready; it said:\n{}", self.log_end())));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Returns the process's pid while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Returns the last lines of what it said.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Returns all that it said, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the process with SIGKILL: nothing of it runs when this returns.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Waits for a process that ends by itself.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        child.wait().await.ok()
    }

    /// True when the process has ended, whoever ended it.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the process with SIGTERM, which drains it.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        stop_child(&mut child).await
    }
}
