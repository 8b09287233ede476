//! The real program for a test: `backstitch dev` in a folder of its own, on free ports, with its own
//! nats-server; stopped by its pid. What a test asks for is told in one line each.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use backstitch::cli::client::{Answer, Client};
use http::{HeaderName, HeaderValue, Method};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::server;

/// A start takes a second; a minute allows for a machine busy with compiling.
pub const WAIT: Duration = Duration::from_secs(60);

/// One step that sets a value; started by an event or by hand.
const QUICK: &str = "\
saga: quick
version: 1
on:
  - event: thing.happened.v1
    key: ${ $event.data.id }
    input: ${ $event.data }
input: { schema: thing.happened.v1 }
steps:
  - id: note
    set: { id: \"${ $input.id }\" }
output: { id: \"${ $steps.note.output.id }\" }
";
/// Waits for an hour.
const SLOW: &str = "\
saga: slow
version: 1
steps:
  - id: nap
    wait: 1h
";
const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["id", "size"],
  "properties": { "id": { "type": "string" }, "size": { "type": "integer" } }
}"#;

/// A folder with sagas, schemas and a configuration.
pub struct Workspace(pub TempDir);

impl Workspace {
    /// Makes a folder with the sagas `quick` and `slow`.
    pub fn new() -> Self {
        let workspace = Self(tempfile::Builder::new().prefix("backstitch-it").tempdir().unwrap());
        workspace.write("sagas/quick.yaml", QUICK);
        workspace.write("sagas/slow.yaml", SLOW);
        workspace.write("schemas/thing.happened/v1.json", SCHEMA);
        workspace.write("backstitch.yaml", "telemetry: { otlp: off }\n");
        workspace
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Prepares the program to be run in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstitch"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for variable in ["BACKSTITCH_TOKEN", "BACKSTITCH_URL", "NATS_URL", "BACKSTITCH_LISTEN", "BACKSTITCH_DATA"] {
            command.env_remove(variable);
        }
        command.env("BACKSTITCH_NATS_SERVER", server::program());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program to its end: exit code, stdout, stderr.
    pub fn told(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

/// `backstitch dev`, running. Dropping it kills it and what it started.
pub struct Dev {
    child: Child,
    /// What it said when it took requests.
    pub announcement: Value,
    pub client: Client,
    log: PathBuf,
}

impl Dev {
    /// Starts it and waits for its announcement.
    pub fn start(workspace: &Workspace, options: &[&str]) -> Self {
        let mut arguments = vec!["dev", "--listen", "127.0.0.1:0", "--output", "json"];
        arguments.extend(options);
        Self::spawn(workspace.command(&arguments), workspace.path())
    }

    /// Starts a prepared command and waits for its announcement.
    pub fn spawn(mut command: Command, folder: &Path) -> Self {
        let log = folder.join("process.log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, first) = mpsc::channel();
        // Ends with the process, whose stdout it reads.
        std::thread::spawn(move || {
            if let Some(Ok(line)) = lines.next() {
                let _ = told.send(line);
            }
            lines.for_each(drop);
        });
        let line = first.recv_timeout(WAIT).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("no announcement; it said:\n{}", std::fs::read_to_string(&log).unwrap());
        });
        let announcement: Value = serde_json::from_str(&line).unwrap();
        let client = Client::new(announcement["api"].as_str().unwrap(), None).unwrap();
        Self { child, announcement, client, log }
    }

    pub fn url(&self) -> String {
        self.announcement["api"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = std::time::Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it does not end; it said:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it in order.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a request; headers as `name: value`.
    pub async fn ask(&self, method: &str, target: &str, headers: &[&str], body: Option<&str>) -> Answer {
        let headers: Vec<(HeaderName, HeaderValue)> = headers
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let body = body.map(|body| body.to_owned().into());
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), target, &headers, body, WAIT).await.unwrap()
    }

    /// Sends a request; returns the status and the JSON answer.
    pub async fn json(&self, method: &str, target: &str, body: Option<&str>) -> (u16, Value) {
        let answer = self.ask(method, target, &[], body).await;
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// Waits until the metrics page has each of these lines.
    pub async fn until_figures(&self, lines: &[&str]) {
        let deadline = std::time::Instant::now() + WAIT;
        loop {
            let answer = self.ask("GET", "/metrics", &[], None).await;
            let page = String::from_utf8_lossy(&answer.body).into_owned();
            let missing = lines.iter().find(|line| !page.lines().any(|found| found == **line));
            let Some(missing) = missing else { return };
            assert!(std::time::Instant::now() < deadline, "`{missing}` is not in\n{page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a run is in a state.
    pub async fn until(&self, run: &str, state: &str) -> Value {
        let deadline = std::time::Instant::now() + WAIT;
        loop {
            let (_, view) = self.json("GET", &format!("/api/v1/runs/{run}"), None).await;
            if view["state"] == state {
                return view;
            }
            assert!(std::time::Instant::now() < deadline, "{run} does not become {state}: {view}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // In order, so that its nats-server goes with it.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = std::time::Instant::now() + WAIT;
            while let Ok(None) = self.child.try_wait() {
                if std::time::Instant::now() > deadline {
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
