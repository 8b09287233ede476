//! Findings in files: for people with caret and help, as JSON, or as annotations of a GitHub workflow.

use clap::ValueEnum;
use serde::Serialize;

use super::exit::{Code, Failure, Outcome};
use super::output;

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// With the line, a caret and help.
    #[default]
    Human,
    /// One JSON array.
    Json,
    /// Workflow commands that GitHub shows beside the lines.
    Github,
}

/// One finding as programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub code: String,
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub help: Option<String>,
    /// How people see it.
    #[serde(skip)]
    pub rendered: String,
}

impl From<crate::config::Diagnostic> for Finding {
    fn from(found: crate::config::Diagnostic) -> Self {
        Self {
            rendered: found.to_string(),
            code: found.code.to_owned(),
            file: found.file,
            line: found.line,
            column: found.column,
            message: found.message,
            help: Some(found.help),
        }
    }
}

impl Finding {
    /// Writes the finding as a workflow command.
    fn github(&self) -> String {
        let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
        let help = self.help.as_deref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
        format!(
            "::error file={},line={},col={},title={}::{}",
            property(&self.file),
            self.line.max(1),
            self.column.max(1),
            property(&self.code),
            escape(&format!("{}{help}", self.message))
        )
    }
}

/// Prints findings to stdout and turns them into an outcome: exit code 2 if there are any.
///
/// # Errors
/// [`Code::BadInput`] when there are findings; all has been said then.
pub fn report(findings: &[Finding], format: Format) -> Outcome {
    match format {
        Format::Json => output::json(findings)?,
        Format::Github => {
            for finding in findings {
                output::line(finding.github())?;
            }
        }
        Format::Human => {
            for finding in findings {
                output::line(&finding.rendered)?;
                output::line("")?;
            }
        }
    }
    match findings.len() {
        0 => Ok(()),
        count => {
            if format == Format::Human {
                let s = if count == 1 { "" } else { "s" };
                anstream::eprintln!("{count} mistake{s} found");
            }
            Err(Failure::said(Code::BadInput))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_escaped() {
        let finding = Finding {
            code: "S014".into(),
            file: "sagas/a,b:c.yaml".into(),
            line: 0,
            column: 0,
            message: "100% wrong".into(),
            help: Some("write\nthis".into()),
            rendered: String::new(),
        };
        assert_eq!(
            finding.github(),
            "::error file=sagas/a%2Cb%3Ac.yaml,line=1,col=1,title=S014::100%25 wrong%0Ahelp: write%0Athis"
        );
    }
}
