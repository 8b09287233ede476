//! What is wrong with a configuration, where, and what to write instead.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::yaml::Place;

/// One finding. All of them are reported at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `C001` … `C010`; `docs/configuration.md` lists them.
    pub code: &'static str,
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What the caret underlines, in characters.
    pub width: usize,
    /// The line's text; empty when the file as a whole is meant.
    pub source: String,
    pub message: String,
    pub help: String,
}

/// The file cannot be read, or is too large.
pub const UNREADABLE: &str = "C001";
/// No YAML, or YAML that we do not take: aliases, tags, several documents.
pub const SYNTAX: &str = "C002";
pub const DUPLICATE_KEY: &str = "C003";
pub const UNKNOWN_KEY: &str = "C004";
/// A mapping where a text belongs, or the other way round.
pub const SHAPE: &str = "C005";
pub const VALUE: &str = "C006";
/// `${env:NAME}` without a default, and the variable is not set.
pub const ENVIRONMENT: &str = "C007";
/// `${secret:PATH}` that cannot be read.
pub const SECRET: &str = "C008";
/// `${secret:PATH}` where the value would be shown.
pub const SECRET_PLACE: &str = "C009";
/// The API listens beyond loopback without a token.
pub const TOKEN_NEEDED: &str = "C010";

impl Diagnostic {
    pub(super) fn at(place: &Place, code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            file: place.source.name.clone(),
            line: place.line,
            column: place.column,
            width: place.width,
            source: place.source.text.lines().nth(place.line.wrapping_sub(1)).unwrap_or_default().to_owned(),
            message: message.into(),
            help: help.into(),
        }
    }

    pub(super) fn of_file(file: &str, code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            file: file.to_owned(),
            line: 0,
            column: 0,
            width: 0,
            source: String::new(),
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// The finding with its line, a caret and the help, as saga files show theirs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |chars: usize| self.source.char_indices().nth(chars).map_or(self.source.len(), |(at, _)| at);
        let start = self.column.saturating_sub(1);
        let title = Level::ERROR.primary_title(self.message.as_str()).id(self.code);
        let help = Level::HELP.message(self.help.as_str());
        let group = if self.line == 0 {
            title.element(help)
        } else {
            let caret = AnnotationKind::Primary.span(bytes(start)..bytes(start + self.width));
            let line = Snippet::source(self.source.as_str()).line_start(self.line).path(self.file.as_str());
            title.element(line.fold(false).annotation(caret)).element(help)
        };
        f.write_str(&Renderer::plain().render(&[group]))
    }
}
impl std::error::Error for Diagnostic {}
