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
    #[value(alias = "text")]
    Human,
    /// One JSON array.
    Json,
    /// Workflow commands that GitHub shows beside the lines.
    Github,
    /// SARIF 2.1.0, which code scanners read.
    Sarif,
}

/// What is taken for a mistake beside mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Deny {
    Warnings,
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

/// Returns findings as SARIF 2.1.0 (OASIS, section 3): one run, a rule for each code, a place for each result.
fn sarif(findings: &[Finding]) -> serde_json::Value {
    use serde_json::json;
    let rule = |(code, meaning, remedy): &(&str, &str, &str)| json!({ "id": code, "shortDescription": { "text": meaning }, "help": { "text": remedy } });
    let result = |finding: &Finding| {
        let help = finding.help.as_deref().map_or_else(String::new, |help| format!(" ({help})"));
        json!({
            "ruleId": finding.code,
            "level": finding.severity,
            "message": { "text": format!("{}{help}", finding.message) },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": finding.file.trim_start_matches("./") },
                "region": { "startLine": finding.line.max(1), "startColumn": finding.column.max(1) },
            } }],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "backstitch",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": crate::definition::CODES.iter().map(rule).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// Prints findings to stdout and turns them into an outcome: exit code 2 if there are errors among them, or
/// warnings where these are denied.
///
/// # Errors
/// [`Code::BadInput`] when there are errors; all has been said then.
pub fn report(findings: &[Finding], format: Format, deny: Option<Deny>) -> Outcome {
    match format {
        Format::Sarif => output::json(&sarif(findings))?,
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
    let refused = |finding: &Finding| finding.is_error() || deny == Some(Deny::Warnings);
    if !findings.iter().any(refused) {
        return Ok(());
    }
    if format == Format::Human {
        summary(findings);
        if !findings.iter().any(Finding::is_error) {
            anstream::eprintln!("warnings are denied");
        }
    }
    Err(Failure::said(Code::BadInput))
}

/// Says on stderr how many mistakes there are, and apart from them how many warnings.
pub fn summary(findings: &[Finding]) {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = findings.len() - errors;
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(counted(errors, "mistake"));
    }
    if warnings > 0 {
        parts.push(counted(warnings, "warning"));
    }
    anstream::eprintln!("{} found", parts.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, severity: &'static str) -> Finding {
        Finding {
            code: code.into(),
            severity,
            file: "sagas/a.yaml".into(),
            line: 3,
            column: 7,
            message: "wrong".into(),
            help: None,
            rendered: String::new(),
        }
    }

    #[test]
    fn warnings_are_mistakes_only_where_they_are_denied() {
        let rows: &[(&str, &[&'static str], Option<Deny>, bool)] = &[
            ("nothing", &[], Some(Deny::Warnings), true),
            ("a warning", &["warning"], None, true),
            ("a warning, denied", &["warning"], Some(Deny::Warnings), false),
            ("a mistake", &["warning", "error"], None, false),
        ];
        for (why, severities, deny, fine) in rows {
            let findings: Vec<Finding> = severities.iter().map(|severity| finding("S070", severity)).collect();
            assert_eq!(report(&findings, Format::Json, *deny).is_ok(), *fine, "{why}");
        }
    }

    #[test]
    fn sarif_names_rule_and_place() {
        let document = sarif(&[finding("S070", "warning")]);
        let result = &document["runs"][0]["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&"S070".into(), &"warning".into()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "sagas/a.yaml");
        assert_eq!(place["region"], serde_json::json!({ "startLine": 3, "startColumn": 7 }));
        let rules = document["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
        assert!(rules.iter().any(|rule| rule["id"] == "S070"));
    }

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
