//! Findings in files: for people with caret and help, as JSON, or as annotations of a GitHub workflow.

use clap::ValueEnum;

use super::exit::{Code, Failure, Outcome};
use super::output;
use crate::app::Finding;

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

/// Writes a finding as a workflow command.
fn github(finding: &Finding) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let help = finding.help.as_deref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
    format!(
        "::{} file={},line={},col={},title={}::{}",
        finding.severity,
        property(&finding.file),
        finding.line.max(1),
        finding.column.max(1),
        property(&finding.code),
        escape(&format!("{}{help}", finding.message))
    )
}

/// Prints findings to stdout and turns them into an outcome: exit code 2 if there are errors among them.
///
/// # Errors
/// [`Code::BadInput`] when there are errors; all has been said then.
pub fn report(findings: &[Finding], format: Format) -> Outcome {
    match format {
        Format::Json => output::json(findings)?,
        Format::Github => {
            for finding in findings {
                output::line(github(finding))?;
            }
        }
        Format::Human => {
            for finding in findings {
                output::line(&finding.rendered)?;
                output::line("")?;
            }
        }
    }
    if !findings.iter().any(Finding::is_error) {
        return Ok(());
    }
    if format == Format::Human {
        summary(findings);
    }
    Err(Failure::said(Code::BadInput))
}

/// Says on stderr how many mistakes there are.
pub fn summary(findings: &[Finding]) {
    let count = findings.iter().filter(|finding| finding.is_error()).count();
    let s = if count == 1 { "" } else { "s" };
    anstream::eprintln!("{count} mistake{s} found");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_escaped() {
        let finding = Finding {
            code: "S014".into(),
            severity: "error",
            file: "sagas/a,b:c.yaml".into(),
            line: 0,
            column: 0,
            message: "100% wrong".into(),
            help: Some("write\nthis".into()),
            rendered: String::new(),
        };
        assert_eq!(
            github(&finding),
            "::error file=sagas/a%2Cb%3Ac.yaml,line=1,col=1,title=S014::100%25 wrong%0Ahelp: write%0Athis"
        );
    }
}
