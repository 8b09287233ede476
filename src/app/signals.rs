//! SIGHUP; SIGTERM and SIGINT, counted: the first asks for an orderly stop, the second for one at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGHUP, which asks for everything to be loaded anew.
///
/// # Errors
/// When the system refuses the handler.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Both signals as one.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen; from here on neither ends the process by itself.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
