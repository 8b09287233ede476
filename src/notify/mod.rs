//! Tells people over a webhook that Slack and what is compatible with it understand: `{"text": "…"}`, one
//! POST for several notices. What could not be delivered after a few tries is given up and counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::secret::Secret;

/// A chat service answers within a second.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one message: over a minute, which covers a restart on the other side.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Where people are told. Its address is a secret: whoever has it can write there.
#[derive(Clone)]
pub struct Webhook {
    url: Secret<String>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    first_pause: Duration,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook")
    }
}

impl Webhook {
    /// Makes a webhook of an http or https address.
    ///
    /// # Errors
    /// One line that does not repeat the address.
    pub fn new(url: Secret<String>) -> Result<Arc<Self>, String> {
        let uri: Uri = url.expose().parse().map_err(|_| "it is no address".to_owned())?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it is no http or https address".to_owned());
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(TIMEOUT));
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Arc::new(Self { url, client, first_pause: FIRST_PAUSE }))
    }

    /// Sends one message, trying again for about a minute.
    ///
    /// # Errors
    /// One line: what the other side said at last.
    pub async fn tell(&self, text: &str) -> Result<(), String> {
        let body = serde_json::json!({ "text": text }).to_string();
        let mut pause = self.first_pause;
        for _ in 1..TRIES {
            match self.post(&body).await {
                Ok(()) => return Ok(()),
                // It will not like the same words better next time.
                Err((Again::No, why)) => return Err(why),
                Err((Again::Yes, _)) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        self.post(&body).await.map_err(|(_, why)| why)
    }

    async fn post(&self, body: &str) -> Result<(), (Again, String)> {
        let uri: Uri = self.url.expose().parse().map_err(|_| (Again::No, "it is no address".to_owned()))?;
        let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
            Err(_) => Err((Again::Yes, "no answer in time".to_owned())),
            Ok(Err(error)) => Err((Again::Yes, error.to_string())),
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let again = if status.is_server_error() || status.as_u16() == 429 { Again::Yes } else { Again::No };
                Err((again, format!("it answers {status}")))
            }
        }
    }
}

enum Again {
    Yes,
    No,
}

/// Escapes what a chat service would read as markup (Slack: `&`, `<` and `>`), and keeps it to one line.
#[must_use]
pub fn escaped(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markup() {
        let rows = [
            ("a link", "<http://evil|click>", "&lt;http://evil|click&gt;"),
            ("everybody", "<!channel> & co", "&lt;!channel&gt; &amp; co"),
            ("a second line", "a\nb", "a b"),
        ];
        for (why, text, expected) in rows {
            assert_eq!(escaped(text), expected, "{why}");
        }
    }

    #[test]
    fn addresses() {
        for (why, url, good) in
            [("https", "https://h/x", true), ("no scheme", "h/x", false), ("file", "file:///x", false)]
        {
            let made = Webhook::new(Secret::new(url.to_owned()));
            assert_eq!(made.is_ok(), good, "{why}");
            assert!(!format!("{made:?}").contains(url), "{why}: an address is a secret");
        }
    }
}
