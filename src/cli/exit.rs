//! How a command ends: exit codes that scripts may rely on, and failures that say what to do next.

use std::process::ExitCode;

/// What the process answers to its caller. A contract: codes are added, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// It was done.
    Ok = 0,
    /// It was tried and refused or failed; a run that was waited for did not complete.
    Failed = 1,
    /// The input is wrong: a file with diagnostics, data that breaks its schema, a bad option.
    BadInput = 2,
    /// The API or NATS cannot be reached, or takes no work.
    Unreachable = 3,
    /// Another process holds the data directory.
    InUse = 4,
    /// The journal is damaged.
    Damaged = 5,
    /// The time to wait was over before the run ended.
    TimedOut = 6,
    /// A second SIGINT or SIGTERM cut the drain short.
    Interrupted = 130,
}

/// Code, name and meaning of every exit code, for `--help` and the documentation.
pub const CODES: &[(Code, &str)] = &[
    (Code::Ok, "done"),
    (Code::Failed, "tried and refused or failed; with --wait: the run was compensated or parked"),
    (Code::BadInput, "the input is wrong: a file with diagnostics, data that breaks its schema, a bad option"),
    (Code::Unreachable, "the API or NATS cannot be reached, or takes no work at the moment"),
    (Code::InUse, "another process holds the data directory"),
    (Code::Damaged, "the journal is damaged; nothing was changed"),
    (Code::TimedOut, "the time to wait was over before the run ended"),
    (Code::Interrupted, "a second SIGINT or SIGTERM cut the drain short"),
];

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    /// What failed, on what.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    /// Printed already (diagnostics on stdout, a view of the run): nothing more is said on stderr.
    pub said: bool,
}

impl Failure {
    /// Makes a failure with a code and one line.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, said: false }
    }

    /// Makes a failure of which everything has been printed.
    #[must_use]
    pub fn said(code: Code) -> Self {
        Self { code, message: String::new(), help: None, said: true }
    }

    /// Makes a failure of bad input.
    #[must_use]
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Code::BadInput, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<std::io::Error> for Failure {
    /// For writes to stdout. A reader that has gone (`| head`) is the reader's business, no failure.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::said(Code::Ok),
            _ => Self::new(Code::Failed, format!("cannot write the answer: {error}")),
        }
    }
}

/// What every command returns.
pub type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.said), (Code::Ok, true));
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!((failure.code, failure.said), (Code::Failed, false));
    }

    #[test]
    fn codes_are_frozen() {
        let numbers: Vec<u8> = CODES.iter().map(|(code, _)| *code as u8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 130]);
    }
}
