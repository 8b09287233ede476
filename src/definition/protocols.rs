//! Keys of a call that not every protocol has.

use super::diagnostic::Finding;
use super::file::Loader;
use super::model::KeyPlace;
use super::point::of_step;
use super::yaml::Node;
use crate::service::Protocol;

impl Loader<'_> {
    /// Refuses what a call's protocol has no place for.
    pub(super) fn protocol_rules(&mut self, tree: &Node) {
        for (index, step) in self.steps.iter().enumerate() {
            let Some(call) = step.action.call() else { continue };
            let place = &step.idempotency.place;
            let (key, message, help) = match (call.protocol, place) {
                (Protocol::Http, _) => continue,
                (Protocol::Graphql, KeyPlace::Body(_)) => (
                    "idempotency",
                    "the key has no place in a graphql request",
                    "give it to a variable: `${ $step.key }`",
                ),
                (Protocol::Nats | Protocol::Grpc, KeyPlace::Query(_)) => {
                    ("idempotency", "such a call has no query", "use `header`, or `body`")
                }
                _ if step.paginate.is_some() => (
                    "paginate",
                    "only lists over http come in pages that are fetched here",
                    "ask for one page in each step",
                ),
                _ => continue,
            };
            let span = of_step(tree, step.id.as_str(), key).unwrap_or_else(|| self.places[index].id.clone());
            self.reader.findings.push(Finding::new("S027", span, message).help(help));
        }
    }
}
