//! One mistake in one file, whatever kind of file it is.

use serde::Serialize;

/// What is wrong, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `docs/diagnostics.md` lists them.
    pub code: String,
    /// `error` or `warning`
    pub severity: &'static str,
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 with line 0.
    pub column: usize,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// As people see it, with the line and a caret.
    #[serde(skip)]
    pub rendered: String,
}

/// A file or folder cannot be read.
pub const UNREADABLE: &str = "F001";
/// Two files define the same version of the same saga.
pub const DEFINED_TWICE: &str = "F002";
/// A schema or an example is wrong.
pub const SCHEMA: &str = "F003";
/// Two places give the same service name to different addresses.
pub const SERVICE_CLASH: &str = "F004";

impl Finding {
    /// Makes a finding about a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, code: &str, message: impl Into<String>, help: Option<&str>) -> Self {
        let message = message.into();
        let help_line = help.map_or_else(String::new, |help| format!("\n  help: {help}"));
        Self {
            rendered: format!("error[{code}]: {message}\n  --> {file}{help_line}"),
            code: code.to_owned(),
            severity: "error",
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            help: help.map(str::to_owned),
        }
    }

    /// True unless it is only a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }
}

impl From<crate::config::Diagnostic> for Finding {
    fn from(found: crate::config::Diagnostic) -> Self {
        Self {
            rendered: found.to_string(),
            code: found.code.to_owned(),
            severity: "error",
            file: found.file,
            line: found.line,
            column: found.column,
            message: found.message,
            help: Some(found.help),
        }
    }
}

impl From<crate::schema::Finding> for Finding {
    fn from(found: crate::schema::Finding) -> Self {
        let message =
            if found.pointer.is_empty() { found.message } else { format!("at {}: {}", found.pointer, found.message) };
        Self::of_file(&found.path, SCHEMA, message, None)
    }
}
