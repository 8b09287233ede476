//! Reads triggers by webhooks.

use super::diagnostic::Finding;
use super::file::{Loader, Outside};
use super::model::WebhookTrigger;
use super::reader::{At, Map};
use super::yaml::Node;
use crate::expression::{Root, suggest};
use crate::id::ServiceName;

impl Loader<'_> {
    /// Reads an entry of `on` with `webhook`.
    pub(super) fn webhook(&mut self, map: Map<'_>) -> Option<WebhookTrigger> {
        let without = |key: &str| matches!(key, "event" | "every" | "cron" | "timezone" | "catch_up" | "on_replay");
        for entry in map.entries.iter().filter(|entry| without(&entry.key)) {
            let message = format!("`{}` has no meaning on a trigger by a webhook", entry.key);
            let help = "an entry of `on` has one of `event`, `webhook`, `every` and `cron`; beside `webhook` stand `when`, `key` and `input`";
            self.reader.find(Finding::new("S016", entry.key_span.clone(), message).help(help));
        }
        let webhook = map.get("webhook").and_then(|node| self.webhook_name(node));
        let roots = &[Root::Event];
        let when = map.get("when").and_then(|node| self.reader.expression(node, roots, At::Outside));
        let key = map.get("key").and_then(|node| self.reader.text_template(node, "`key`", roots, At::Outside));
        let input = map.get("input").and_then(|node| self.reader.template(node, roots, At::Outside));
        Some(WebhookTrigger { webhook: webhook?, when, key, input })
    }

    fn webhook_name(&mut self, node: &Node) -> Option<ServiceName> {
        let name = self.reader.parsed(node, "a webhook", "S010", ServiceName::parse)?;
        let known = self.environment.webhooks;
        if self.outside == Outside::Known && !known.contains(&name) {
            let near = suggest(name.as_str(), known.iter().map(ServiceName::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to the configuration: `webhooks: {{ {name}: {{ scheme, secret }} }}`"),
            };
            let message = format!("the configuration has no webhook `{name}`");
            self.reader.find(Finding::new("S017", node.span.clone(), message).help(help));
            return None;
        }
        Some(name)
    }
}
