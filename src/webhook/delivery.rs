//! One delivery as sagas see it: an event with an id that stays over all attempts, so that each starts a run once.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::verify::standard;
use super::{Headers, Scheme, Webhook};
use crate::id::ServiceName;
use crate::payload::Payload;

/// A verified delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Over all attempts the same.
    pub id: String,
    /// `/webhooks/NAME`
    pub source: String,
    /// `$event`
    pub event: Payload,
    /// `$event.data`
    pub data: Payload,
}

/// A sender that asks whether somebody is here, and wants these words back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello(pub String);

/// Longer ids are hashed: they are part of keys.
const ID_BYTES_MAX: usize = 256;

/// `$event`, its members in the order in which people read them.
#[derive(Serialize)]
struct Event<'d> {
    specversion: &'d str,
    id: &'d str,
    source: &'d str,
    r#type: &'d str,
    headers: BTreeMap<&'d str, &'d str>,
    data: &'d Payload,
}

/// Reads `application/x-www-form-urlencoded`: an object of text, of lists where a name is repeated.
#[must_use]
pub fn form(body: &[u8]) -> Payload {
    let mut fields: Map<String, Value> = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        let value = Value::from(value.into_owned());
        match fields.get_mut(name.as_ref()) {
            None => drop(fields.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Payload::of(&Value::Object(fields))
}

impl Webhook {
    /// Makes the event of a verified delivery. What differs between two attempts (times, counts) is no part of it:
    /// the second attempt must be the same start as the first.
    #[must_use]
    pub fn delivery(&self, name: &ServiceName, headers: &dyn Headers, body: &[u8], data: Payload) -> Delivery {
        let id = self.id(headers, body, &data);
        let source = format!("/webhooks/{name}");
        let told = self.headers.iter().filter_map(|name| Some((name.as_str(), headers.text(name)?)));
        let event = Event {
            specversion: "1.0",
            id: &id,
            source: &source,
            r#type: "webhook",
            headers: told.collect(),
            data: &data,
        };
        let event = Payload::of(&event);
        Delivery { id, source, event, data }
    }

    /// Returns which delivery it is: by the scheme's own id, else by its content.
    fn id(&self, headers: &dyn Headers, body: &[u8], data: &Payload) -> String {
        let member = |name: &str| data.to_value().get(name).and_then(Value::as_str).map(str::to_owned);
        let own = match self.scheme {
            Scheme::Standard => standard(headers).ok().map(|[id, ..]| id.to_owned()),
            Scheme::Github => headers.text("x-github-delivery").map(str::to_owned),
            Scheme::Stripe => member("id"),
            Scheme::Slack => member("event_id"),
        };
        let fits = |id: &String| (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control);
        own.clone().filter(fits).unwrap_or_else(|| {
            // Slack signs its timestamp, and two commands with the same words are two.
            let at = headers.text("x-slack-request-timestamp").filter(|_| self.scheme == Scheme::Slack);
            let hash = Sha256::new().chain_update(at.unwrap_or_default()).chain_update(own.unwrap_or_default());
            let hash = hash.chain_update(body).finalize();
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        })
    }

    /// Finds the question of Slack's Events API whether an address is really meant.
    #[must_use]
    pub fn hello(&self, data: &Payload) -> Option<Hello> {
        let data = data.to_value();
        let asked = self.scheme == Scheme::Slack && data.get("type")? == "url_verification";
        asked.then(|| data.get("challenge")?.as_str().map(|words| Hello(words.to_owned())))?
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SCHEMES, Verifier};
    use super::*;
    use serde_json::json;

    fn webhook(scheme: Scheme) -> Webhook {
        let verifier = Verifier::new(scheme, []).unwrap();
        Webhook { scheme, verifier, headers: vec!["x-github-event".to_owned()] }
    }

    fn made(scheme: Scheme, headers: &[(&str, &str)], body: &str) -> Delivery {
        let headers: BTreeMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let data = Payload::parse(body).unwrap();
        webhook(scheme).delivery(&ServiceName::parse("shop").unwrap(), &headers, body.as_bytes(), data)
    }

    #[test]
    fn ids_are_the_schemes_own_or_the_content() {
        let standard = [("webhook-id", "msg_1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,x")];
        let svix = [("svix-id", "msg_2"), ("svix-timestamp", "1"), ("svix-signature", "v1,x")];
        let (long, line) = ("x".repeat(300), "a\nb");
        let hash = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        type Row<'r> = (&'r str, Scheme, Vec<(&'r str, &'r str)>, &'r str, &'r str);
        let rows: Vec<Row<'_>> = vec![
            ("standard", Scheme::Standard, standard.to_vec(), "{}", "msg_1"),
            ("svix", Scheme::Standard, svix.to_vec(), "{}", "msg_2"),
            ("github", Scheme::Github, vec![("x-github-delivery", "72d3162e")], "{}", "72d3162e"),
            ("github without", Scheme::Github, vec![], "{}", hash),
            ("stripe", Scheme::Stripe, vec![], r#"{"id":"evt_1"}"#, "evt_1"),
            ("stripe without", Scheme::Stripe, vec![], "{}", hash),
            ("slack event", Scheme::Slack, vec![], r#"{"event_id":"Ev1"}"#, "Ev1"),
        ];
        for (why, scheme, headers, body, expected) in rows {
            assert_eq!(made(scheme, &headers, body).id, expected, "{why}");
        }
        let own = |id: &str| made(Scheme::Github, &[("x-github-delivery", id)], "{}").id;
        for id in [long.as_str(), line] {
            assert!(own(id) != hash && own(id).starts_with("sha256:") && own(id) == own(id), "not fit for a key: {id}");
        }
        let command = |at| made(Scheme::Slack, &[("x-slack-request-timestamp", at)], "{}").id;
        assert!(command("1") == command("1") && command("1") != command("2"), "two commands with the same words");
        assert_eq!(SCHEMES.len(), 5, "each has a row");
    }

    #[test]
    fn an_event_has_what_stays() {
        let headers = [("x-github-delivery", "1"), ("x-github-event", "push"), ("x-other", "secret")];
        let delivery = made(Scheme::Github, &headers, r#"{"ref":"main"}"#);
        let expected = json!({
            "specversion": "1.0", "id": "1", "source": "/webhooks/shop", "type": "webhook",
            "headers": { "x-github-event": "push" }, "data": { "ref": "main" },
        });
        assert_eq!(delivery.event.to_value(), expected);
        let long = made(Scheme::Github, &[], r#"{"sum":12345678901234567890.10}"#);
        assert!(long.event.text().contains("12345678901234567890.10"), "digits stay: {}", long.event.text());
    }

    #[test]
    fn forms_are_objects_of_text() {
        let read = |body: &str| form(body.as_bytes()).to_value();
        assert_eq!(read("a=1&b=x+y&a=2&a=%C3%A9"), json!({ "a": ["1", "2", "é"], "b": "x y" }));
        assert_eq!(read("=&flag"), json!({ "": "", "flag": "" }));
        assert_eq!(read(""), json!({}));
    }

    #[test]
    fn slack_asks_first() {
        let asked = Payload::of(&json!({ "type": "url_verification", "challenge": "3eZbrw1a" }));
        assert_eq!(webhook(Scheme::Slack).hello(&asked), Some(Hello("3eZbrw1a".to_owned())));
        assert_eq!(webhook(Scheme::Stripe).hello(&asked), None);
        assert_eq!(webhook(Scheme::Slack).hello(&Payload::of(&json!({ "type": "event_callback" }))), None);
        assert_eq!(webhook(Scheme::Slack).hello(&Payload::of(&json!([1]))), None);
    }
}
