//! The soap `with`: the action, and the content of the envelope's body as an object.

use super::call::Placement;
use super::file::Loader;
use super::model::CallTemplate;
use super::yaml::{Node, Scalar, Yaml};
use crate::expression::TextTemplate;
use crate::service::Protocol;

impl Loader<'_> {
    pub(super) fn soap(&mut self, place: &Placement<'_>) -> Option<CallTemplate> {
        let with = self.reader.mapping(place.with, "`with`", &["action", "body"], &[])?;
        let node = self.reader.required(with, "`with`", "action", "write the SOAPAction: `action: urn:pay/Charge`")?;
        let Yaml::Scalar(scalar) = &node.value else {
            self.reader.shape(node, "text");
            return None;
        };
        // The header's value is a quoted string.
        let quoted = Scalar { text: format!("\"{}\"", scalar.text), plain: false };
        let quoted = Node { span: node.span.clone(), value: Yaml::Scalar(quoted) };
        let action = self.reader.text_template(&quoted, "an action", place.roots, place.at)?;
        let body = match with.get("body") {
            Some(node) => Some(self.reader.template(node, place.roots, place.at)?),
            None => None,
        };
        Some(CallTemplate {
            service: place.service.clone(),
            protocol: Protocol::Soap,
            method: "POST".to_owned(),
            reads: false,
            path: TextTemplate::path([]),
            query: Vec::new(),
            headers: vec![("soapaction".to_owned(), action)],
            body,
        })
    }
}
