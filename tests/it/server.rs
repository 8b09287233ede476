//! A real nats-server for a test: on free ports of the loopback, with a JetStream store of its own that
//! syncs every write, stopped by its pid. `scripts/get-nats-server` says which program is run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server starts in about 50 ms; a minute allows for a machine busy with compiling.
const READY_WAIT: Duration = Duration::from_secs(60);

/// How a server is configured.
pub struct Setup {
    /// `sync_interval: always`, which `durability: strict` asks for.
    pub sync_always: bool,
    /// More lines for the server's configuration file.
    pub more: &'static str,
}

/// One server. Dropping it kills the process and removes the store.
pub struct NatsServer {
    setup: Setup,
    /// Where its store lies, if not beside its configuration.
    store: Option<PathBuf>,
    dir: TempDir,
    /// Client and monitoring port, kept over restarts; 0 before the first start.
    ports: (u16, u16),
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl NatsServer {
    /// Starts a server with `sync_interval: always`.
    pub fn start() -> Self {
        Self::start_with(Setup { sync_always: true, more: "" })
    }

    /// Starts a server as the setup says.
    pub fn start_with(setup: Setup) -> Self {
        Self::start_in(setup, None)
    }

    /// Starts a server whose store lies in a given directory.
    pub fn start_in(setup: Setup, store: Option<PathBuf>) -> Self {
        let dir = tempfile::Builder::new().prefix("backstitch-nats").tempdir().unwrap();
        let mut server = Self { setup, store, dir, ports: (0, 0), child: None, log: Arc::default() };
        server.start_again();
        server
    }

    /// Returns the address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.0)
    }

    /// Returns the address of the monitoring endpoint.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.1)
    }

    /// Kills the server with SIGKILL; the store and the ports stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the server's process without ending it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Removes all that a stopped server has stored.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "wipe is for a server that was killed");
        std::fs::remove_dir_all(self.store()).unwrap();
    }

    /// Starts a killed server again on the same ports and store, and waits until it is ready.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        // -1 asks the server to take a free port; it writes which one into its ports file.
        let port = |port: u16| if port == 0 { "-1".to_owned() } else { port.to_string() };
        let sync = if self.setup.sync_always { "always" } else { "2m" };
        let config = format!(
            "listen: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\nports_file_dir: {:?}\njetstream {{ store_dir: {:?}, sync_interval: {sync} }}\n{}\n",
            port(self.ports.0),
            port(self.ports.1),
            self.dir.path(),
            self.store(),
            self.setup.more,
        );
        let file = self.dir.path().join("nats.conf");
        std::fs::write(&file, config).unwrap();

        let mut child = Command::new(program())
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, is_ready) = mpsc::channel();
        let (log, lines) = (self.log.clone(), BufReader::new(child.stderr.take().unwrap()));
        // Reads to the end, so that the server never waits for a full pipe; ends with the process.
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if line.contains("Server is ready") {
                    let _ = ready.send(());
                }
                log.lock().unwrap().push(line);
            }
        });
        let pid = child.id();
        self.child = Some(child);
        if is_ready.recv_timeout(READY_WAIT).is_err() {
            panic!("nats-server did not become ready; it said:\n{}", self.log.lock().unwrap().join("\n"));
        }
        if self.ports == (0, 0) {
            self.ports = read_ports(&self.dir.path().join(format!("nats-server_{pid}.ports")));
        }
    }

    fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.dir.path().join("jetstream"))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the server runs"))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the program, fetched at most once per test run.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/get-nats-server");
        let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    })
}

/// Reads `{"nats": ["nats://127.0.0.1:1"], "monitoring": ["http://127.0.0.1:2"]}`. The server writes the
/// file a moment after it says that it is ready.
fn read_ports(file: &Path) -> (u16, u16) {
    let deadline = std::time::Instant::now() + READY_WAIT;
    let port = |ports: &serde_json::Value, name: &str| -> Option<u16> {
        ports[name][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    };
    loop {
        let ports = std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if let (Some(client), Some(monitor)) = (port(&ports, "nats"), port(&ports, "monitoring")) {
            return (client, monitor);
        }
        assert!(std::time::Instant::now() < deadline, "no ports in {}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn connects(url: &str) -> bool {
        TcpStream::connect(url.rsplit_once("//").unwrap().1).is_ok()
    }

    #[test]
    fn starts_stops_and_starts_again_on_the_same_ports() {
        let mut server = NatsServer::start();
        let (url, monitor_url) = (server.url(), server.monitor_url());
        assert!(connects(&url) && connects(&monitor_url));
        server.freeze();
        server.thaw();
        server.kill();
        assert!(!connects(&url));
        server.wipe();
        server.start_again();
        assert_eq!((server.url(), server.monitor_url()), (url.clone(), monitor_url));
        assert!(connects(&url));
    }
}
