//! The grpc `with`: a method of the service's descriptors, its message as JSON, and metadata.

use super::call::Placement;
use super::diagnostic::Finding;
use super::file::Loader;
use super::model::CallTemplate;
use super::reader::listed;
use super::yaml::{Node, Yaml};
use crate::expression::{PathPiece, TextTemplate, suggest};
use crate::protobuf::Fields;
use crate::service::Protocol;

impl Loader<'_> {
    pub(super) fn grpc(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let with = self.reader.mapping(place.with, "`with`", &["method", "message", "metadata"], &[])?;
        let help = "write the method's full name: `method: tracking.v1.Tracking/Announce`";
        let node = self.reader.required(with, "`with`", "method", help)?;
        let name = self.reader.literal(node, "`method`")?.trim_start_matches('/');
        let of_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let whole =
            name.split_once('/').is_some_and(|(service, method)| service.split('.').all(of_name) && of_name(method));
        if !whole {
            let finding = Finding::new("S052", node.span.clone(), format!("`{name}` is no full name of a method"));
            self.reader.find(finding.help("write package, service and method: `tracking.v1.Tracking/Announce`"));
            return None;
        }
        if let Some(found) = self.method_of(&place.service, name) {
            match found {
                Ok(fields) => {
                    if let Some(message) = with.get("message") {
                        self.fields(message, &fields);
                    }
                }
                Err((message, near)) => {
                    let help = near.map_or_else(
                        || "correct the name, or the descriptor".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    self.reader.find(Finding::new("S029", node.span.clone(), message).help(help));
                    return None;
                }
            }
        }
        let headers = match with.get("metadata") {
            Some(node) => self.headers(node, place.roots, place.at)?,
            None => Vec::new(),
        };
        let body = match with.get("message") {
            Some(node) => Some(self.reader.template(node, place.roots, place.at)?),
            None => None,
        };
        Some(CallTemplate {
            service: place.service.clone(),
            protocol: Protocol::Grpc,
            method: "POST".to_owned(),
            reads: false,
            path: TextTemplate::path([PathPiece::Literal(format!("/{name}"))]),
            query: Vec::new(),
            headers,
            body,
        })
    }

    /// Holds the members that are written out against the message's fields.
    fn fields(&mut self, node: &Node, fields: &Fields) {
        match &node.value {
            Yaml::Scalar(_) => {}
            Yaml::Sequence(items) => items.iter().for_each(|item| self.fields(item, fields)),
            Yaml::Mapping(entries) => {
                for entry in entries {
                    match fields.field(&entry.key) {
                        Ok(inner) => self.fields(&entry.value, &inner),
                        Err(names) => {
                            let names: Vec<&str> = names.iter().map(String::as_str).collect();
                            let help = match suggest(&entry.key, names.iter().copied()) {
                                Some(near) => format!("did you mean `{near}`?"),
                                None => format!("it has {}", listed(&names)),
                            };
                            let message = format!("the message has no field `{}`", entry.key);
                            self.reader.find(Finding::new("S080", entry.key_span.clone(), message).help(help));
                        }
                    }
                }
            }
        }
    }
}
