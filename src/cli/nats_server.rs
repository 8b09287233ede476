//! A nats-server of our own for `backstitch dev`: on loopback, every write synced, stopped by its pid. One
//! that outlived us (we were killed) is found by its pid file and stopped at the next start.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::exit::{Code, Failure};
use super::nats_program::{self, Program};

/// A server is ready in about 50 ms; a large store or a busy machine takes longer.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How often a starting or stopping server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A server writes its store's state when it stops; then it is killed, which loses nothing: every write is synced.
const STOP_WAIT: Duration = Duration::from_secs(10);
/// Another program may take a port between our look and the server's start.
const STARTS_MAX: usize = 5;
/// Where clients look first; taken if it is free.
const PORT_FIRST: u16 = 4222;
/// What the last lines of a log are worth when a start fails.
const LOG_LINES_SHOWN: usize = 10;

/// A running server, stopped when dropped.
pub struct NatsServer {
    program: Program,
    folder: PathBuf,
    port: u16,
    monitor_port: u16,
    child: Child,
    /// The pid of a server that was found and stopped.
    left_over: Option<i32>,
    /// Held while this process lives: nobody else may take our server for a left-over one.
    _lock: Arc<File>,
}

impl NatsServer {
    /// Starts a server with its store in a folder, first stopping one that was left there, and waits until
    /// it takes connections. Blocks.
    ///
    /// # Errors
    /// Without a usable program, or with the end of the server's log.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        let program = nats_program::find()?;
        let cannot = |error: io::Error| {
            Failure::new(Code::Failed, format!("cannot use {} for nats-server: {error}", folder.display()))
        };
        fs::create_dir_all(folder).map_err(cannot)?;
        let folder = folder.canonicalize().map_err(cannot)?;
        let lock = Arc::new(lock(&folder)?);
        let left_over = stop_left_over(&folder);
        let before = read_ports(&folder.join("nats.conf"));
        let mut failure = None;
        for round in 0..STARTS_MAX {
            // The ports of last time, so that clients find it again; then the usual one; then any.
            let wanted =
                if round == 0 { before.map_or([PORT_FIRST, 0], |(port, monitor)| [port, monitor]) } else { [0, 0] };
            let [port, monitor_port] = free_ports(wanted).map_err(cannot)?;
            write_config(&folder, port, monitor_port).map_err(cannot)?;
            let child = spawn(&program, &folder).map_err(|error| {
                Failure::new(Code::Failed, format!("cannot start {}: {error}", program.path.display()))
            })?;
            let (program, folder, _lock) = (program.clone(), folder.clone(), lock.clone());
            let mut server = Self { program, folder, port, monitor_port, child, left_over, _lock };
            match server.wait_until_ready() {
                Ok(()) => return Ok(server),
                Err(why) => failure = Some(why),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::new(Code::Failed, "nats-server was not started")))
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the address of the monitoring endpoint.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// Returns what runs, for the announcement.
    #[must_use]
    pub fn describe(&self) -> String {
        let left_over = self.left_over.map_or_else(String::new, |pid| {
            format!("; an earlier one (pid {pid}) had been left behind and was stopped")
        });
        format!("our own, pid {}, in {}{left_over}", self.child.id(), self.folder.display())
    }

    /// Starts the server again if it has ended; its ports and its store stay. Tells what it did.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn keep_alive(&mut self) -> io::Result<Option<String>> {
        match self.child.try_wait()? {
            None => Ok(None),
            Some(status) => {
                self.child = spawn(&self.program, &self.folder)?;
                Ok(Some(format!("nats-server had ended ({status}) and was started again, pid {}", self.child.id())))
            }
        }
    }

    /// Ends the server at once. Loses nothing: it syncs every write before it acknowledges.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("nats-server ended at once ({status})")));
            }
            // Open ports could be another program's; the file is written by this process when it listens.
            if self.folder.join(format!("nats-server_{}.ports", self.child.id())).exists() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed("nats-server does not become ready"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let log = self.folder.join("nats.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
        Failure::new(Code::Failed, format!("{what}; the end of its log:\n  {end}"))
            .help(format!("its whole log is {}", log.display()))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + STOP_WAIT;
            while matches!(self.child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let _ = fs::remove_file(self.folder.join("nats.pid"));
    }
}

fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let cannot = |error: io::Error| Failure::new(Code::Failed, format!("cannot lock {}: {error}", path.display()));
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => fs::write(&path, std::process::id().to_string()).map_err(cannot)?,
        Err(TryLockError::WouldBlock) => return Err(super::serve::in_use(folder, &path)),
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    Ok(file)
}

fn spawn(program: &Program, folder: &Path) -> io::Result<Child> {
    // Left there by servers that were killed: a later one may have the same pid.
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            fs::remove_file(path)?;
        }
    }
    let log = File::create(folder.join("nats.log"))?;
    let child = Command::new(&program.path)
        .arg("--config")
        .arg(folder.join("nats.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at the terminal is for us; the server is stopped after the drain.
        .process_group(0)
        .spawn()?;
    fs::write(folder.join("nats.pid"), child.id().to_string())?;
    Ok(child)
}

fn write_config(folder: &Path, port: u16, monitor_port: u16) -> io::Result<()> {
    let text = format!(
        "# Written by `backstitch dev` at each start.\n\
         listen: \"127.0.0.1:{port}\"\n\
         http: \"127.0.0.1:{monitor_port}\"\n\
         ports_file_dir: {folder:?}\n\
         jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
        folder.join("jetstream")
    );
    fs::write(folder.join("nats.conf"), text)
}

/// Reads the ports of the last start out of its configuration.
fn read_ports(config: &Path) -> Option<(u16, u16)> {
    let text = fs::read_to_string(config).ok()?;
    let port = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().trim_matches('"').rsplit_once(':')?.1.parse().ok()
    };
    Some((port("listen:")?, port("http:")?))
}

/// Returns two ports of the loopback that are free now: the wanted ones where they are, 0 being any.
fn free_ports(wanted: [u16; 2]) -> io::Result<[u16; 2]> {
    let bind = |port: u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
    };
    // Both are held until both are known, so that they differ.
    let listeners = [bind(wanted[0])?, bind(wanted[1])?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}

/// Stops the server that a pid file names, if that process was started with this folder's configuration,
/// as we start it: a pid may long belong to somebody else. Returns its pid if it was stopped.
pub fn stop_left_over(folder: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(folder.join("nats.pid")).ok()?.trim().parse().ok()?;
    let config = folder.canonicalize().ok()?.join("nats.conf");
    let is_ours = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).take(2).collect();
        words == [b"--config".as_slice(), config.as_os_str().as_encoded_bytes()]
    };
    let pid_of = Pid::from_raw(pid).filter(|_| is_ours())?;
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = kill_process(pid_of, signal);
        let deadline = Instant::now() + STOP_WAIT;
        while is_ours() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        if !is_ours() {
            break;
        }
    }
    Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_back_and_taken_again_if_free() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_ports(&folder.path().join("nats.conf")), None);
        write_config(folder.path(), 4322, 8322).unwrap();
        assert_eq!(read_ports(&folder.path().join("nats.conf")), Some((4322, 8322)));

        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().unwrap().port();
        let [first, second] = free_ports([taken, 0]).unwrap();
        assert!(first != second && first != 0 && second != 0);
    }

    #[test]
    fn a_foreign_process_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        // A process with that pid lives, and is no nats-server of this folder: this test itself.
        fs::write(folder.path().join("nats.pid"), std::process::id().to_string()).unwrap();
        assert_eq!(stop_left_over(folder.path()), None);
        fs::write(folder.path().join("nats.pid"), "no number").unwrap();
        assert_eq!(stop_left_over(folder.path()), None);
    }
}
