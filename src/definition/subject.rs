//! The nats `with`: a subject that is asked, and the data of the request.

use super::call::Placement;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::CallTemplate;
use super::yaml::Yaml;
use crate::service::Protocol;

impl Loader<'_> {
    pub(super) fn nats(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let with = self.reader.mapping(place.with, "`with`", &["subject", "data"], &[])?;
        let node = self.reader.required(with, "`with`", "subject", "write `subject: stock.reserve`")?;
        let subject = self.reader.text_template(node, "a subject", place.roots, place.at)?;
        let Yaml::Scalar(scalar) = &node.value else { return None };
        let whole = subject.pattern('x');
        let stray = subject.literals().into_iter().find_map(|(offset, literal)| {
            let at = literal.find(|c: char| !(c.is_ascii_graphic() && c != '*' && c != '>'))?;
            Some((offset + at, literal[at..].chars().next()?))
        });
        let wrong = match stray {
            Some((at, c)) => {
                Some((at..at + c.len_utf8(), format!("`{}` cannot stand in a subject that is asked", c.escape_debug())))
            }
            None if whole.split('.').any(str::is_empty) => {
                Some((0..scalar.text.len(), "a token of a subject is empty".to_owned()))
            }
            None => None,
        };
        if let Some((at, message)) = wrong {
            let span = self.reader.inside(node, &scalar.text, at.start, at.end);
            self.reader
                .find(Finding::new("S050", span, message).help("write tokens with dots between: `stock.reserve`"));
            return None;
        }
        let data = match with.get("data") {
            Some(node) => Some(self.reader.template(node, place.roots, place.at)?),
            None => None,
        };
        Some(CallTemplate {
            service: place.service.clone(),
            protocol: Protocol::Nats,
            method: "REQUEST".to_owned(),
            reads: false,
            path: subject,
            query: Vec::new(),
            headers: Vec::new(),
            body: data,
        })
    }
}
