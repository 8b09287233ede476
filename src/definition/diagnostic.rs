//! What is wrong with a file: where, why, and what to write instead. For people with a caret, for
//! programs as JSON.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::locate::floor;

/// More than a person reads; a hostile file could have as many as bytes.
pub const DIAGNOSTICS_MAX: usize = 200;

/// Of a longer line only the surroundings of the finding are shown.
const LINE_BYTES_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warning,
}

/// A finding before it knows its file.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub code: &'static str,
    pub severity: Severity,
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Finding {
    pub(super) fn new(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// One finding in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// `S…` for the file, `X…` for expressions: `docs/diagnostics.md` has them all.
    pub code: &'static str,
    pub severity: Severity,
    pub file: String,
    /// Bytes of the file.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// One line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {} [{}]", self.file, self.line, self.column, self.message, self.code)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl Diagnostic {
    /// Renders it with the line and a caret; `source` is the file's text.
    #[must_use]
    pub fn render(&self, source: &str, style: Style) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        // Only the line it begins in: a snippet costs what its text costs, and a caret under one line says
        // more than a bracket around fifty.
        let at = floor(source, self.span.start);
        let mut start = source[..at].rfind('\n').map_or(0, |found| found + 1);
        let mut end = source[at..].find('\n').map_or(source.len(), |found| at + found);
        let cut = end - start > LINE_BYTES_MAX;
        if cut {
            start = floor(source, at.saturating_sub(LINE_BYTES_MAX / 4).max(start));
            end = floor(source, (at + LINE_BYTES_MAX / 2).min(end));
        }
        let line = &source[start..end];
        let to = floor(source, self.span.end).clamp(at, end);
        let mut snippet = Snippet::source(line)
            .line_start(self.line)
            .fold(false)
            .annotation(AnnotationKind::Primary.span(at - start..to - start));
        if !cut {
            snippet = snippet.path(self.file.as_str());
        }
        let title = level.primary_title(self.message.as_str()).id(self.code);
        let mut group = if cut {
            title.element(Origin::path(self.file.as_str()).line(self.line).char_column(self.column)).element(snippet)
        } else {
            title.element(snippet)
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        renderer.render(&[group])
    }
}

/// How a diagnostic is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

/// Renders findings one below the other, with an empty line between them.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic], source: &str, style: Style) -> String {
    diagnostics.iter().map(|diagnostic| diagnostic.render(source, style)).collect::<Vec<_>>().join("\n\n")
}

/// Places findings in a file, in the order of the text, at most [`DIAGNOSTICS_MAX`].
pub(super) fn placed(file: &str, text: &str, mut findings: Vec<Finding>) -> Vec<Diagnostic> {
    findings.sort_by(|a, b| (a.span.start, a.code, a.span.end).cmp(&(b.span.start, b.code, b.span.end)));
    findings.dedup_by(|a, b| a.code == b.code && a.span == b.span && a.message == b.message);
    findings.truncate(DIAGNOSTICS_MAX);
    let (mut line, mut line_start, mut seen) = (1, 0, 0);
    findings
        .into_iter()
        .map(|finding| {
            let start = floor(text, finding.span.start);
            let end = floor(text, finding.span.end).max(start);
            for (at, byte) in text.as_bytes()[seen..start].iter().enumerate() {
                if *byte == b'\n' {
                    line += 1;
                    line_start = seen + at + 1;
                }
            }
            seen = start;
            Diagnostic {
                code: finding.code,
                severity: finding.severity,
                file: file.to_owned(),
                span: start..end,
                line,
                column: 1 + text[line_start..start].chars().count(),
                message: one_line(finding.message),
                help: finding.help.map(one_line),
            }
        })
        .collect()
}

/// Makes text from a file safe for a line of a log or a terminal.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}
