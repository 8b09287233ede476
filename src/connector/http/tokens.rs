//! OAuth 2.0 client credentials (RFC 6749, section 4.4): one token for all calls to a service, fetched when it is first
//! needed, and again before it ends or when the service takes it no more.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Endpoint;
use crate::connector::sign_in::basic;
use crate::id::ServiceName;
use crate::secret::Secret;
use crate::service::{ClientCredentials, Service};

/// A token is a few KiB at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where the answer does not say how long it holds, which it should.
const LIFE: Duration = Duration::from_secs(300);
/// A token is not used in the last part of its life: clocks differ, and a call takes its time.
const MARGIN_MAX: Duration = Duration::from_secs(60);
/// Of what the server says of a refusal.
const WORDS_MAX: usize = 200;

/// The token of one service.
pub(in crate::connector) struct Tokens {
    endpoint: Endpoint,
    host: HeaderValue,
    sign_in: HeaderValue,
    form: String,
    /// Locked while one is fetched: whoever needs it waits for that one.
    held: Mutex<Option<Held>>,
}

struct Held {
    authorization: HeaderValue,
    until: Instant,
}

/// What a call signs in with.
pub(in crate::connector) struct Token {
    pub authorization: HeaderValue,
    /// Fetched for this call: if it is not taken, another one will not be either.
    pub fresh: bool,
}

impl Tokens {
    /// Prepares; nothing is fetched yet. Network, certificates and the time for a connection are those of the service.
    ///
    /// # Errors
    /// One line about what cannot be sent.
    pub(in crate::connector) fn new(
        name: &ServiceName,
        service: &Service,
        credentials: &ClientCredentials,
    ) -> Result<Self, String> {
        let ClientCredentials { token_url, client_id, client_secret, scopes } = credentials;
        let server = Service {
            network: service.network,
            connect_timeout: service.connect_timeout,
            ca: service.ca.clone(),
            sockets_max: 1,
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..Service::at(token_url.clone())
        };
        // RFC 6749, section 2.3.1: both are encoded before they become user and password.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let secret = Secret::new(encoded(client_secret.expose()));
        let mut sign_in = HeaderValue::from_str(&basic(&encoded(client_id), &secret)?)
            .map_err(|_| "`auth.oauth2` holds what no header can carry".to_owned())?;
        sign_in.set_sensitive(true);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        let host = token_url.authority().parse().map_err(|_| "the token server's name cannot be sent".to_owned())?;
        let endpoint = Endpoint::new(name.clone(), server)?;
        Ok(Self { endpoint, host, sign_in, form: form.finish(), held: Mutex::new(None) })
    }

    /// Returns a token that holds, fetched where there is none.
    ///
    /// # Errors
    /// One line; it repeats no secret.
    pub(in crate::connector) async fn get(&self) -> Result<Token, String> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.until) {
            return Ok(Token { authorization: held.authorization.clone(), fresh: false });
        }
        let url = &self.endpoint.service.url;
        let fetched = self.fetch().await.map_err(|reason| format!("no token from {url}: {reason}"))?;
        let authorization = fetched.authorization.clone();
        *held = Some(fetched);
        Ok(Token { authorization, fresh: true })
    }

    /// Forgets a token that the service did not take. True where another one may be taken.
    pub(in crate::connector) async fn not_taken(&self, token: &Token) -> bool {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.authorization == token.authorization) {
            *held = None;
        }
        !token.fresh
    }

    async fn fetch(&self) -> Result<Held, String> {
        let began = Instant::now();
        let base = self.endpoint.service.url.base();
        let request = Request::post(if base.is_empty() { "/" } else { base })
            .header(HOST, self.host.clone())
            .header(AUTHORIZATION, self.sign_in.clone())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(USER_AGENT, concat!("backstitch/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(self.form.clone())))
            .map_err(|error| error.to_string())?;
        let raw = self.endpoint.exchange(request, &AtomicBool::new(false)).await.map_err(|(_, reason)| reason)?;
        let answer: Value = serde_json::from_slice(&raw.body).unwrap_or_default();
        if raw.status != StatusCode::OK {
            return Err(format!("it answers {}{}", raw.status.as_u16(), refusal(&answer)));
        }
        let (authorization, life) = granted(&answer)?;
        Ok(Held { authorization, until: began + life - MARGIN_MAX.min(life / 10) })
    }
}

/// RFC 6749, section 5.2.
fn refusal(answer: &Value) -> String {
    let words = ["error", "error_description"].map(|name| answer[name].as_str().unwrap_or_default());
    let words: String = words.iter().filter(|word| !word.is_empty()).map(|word| format!(": {word}")).collect();
    words.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}

/// RFC 6749, section 5.1.
fn granted(answer: &Value) -> Result<(HeaderValue, Duration), String> {
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or("its answer holds no `access_token`")?;
    match answer["token_type"].as_str() {
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        _ => return Err("its answer is no token of the type `Bearer`".to_owned()),
    }
    let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "its token holds what no header can carry".to_owned())?;
    authorization.set_sensitive(true);
    // Some servers write the number as text.
    let seconds = &answer["expires_in"];
    let seconds = seconds.as_u64().or_else(|| seconds.as_str()?.parse().ok());
    // A day is long enough for anything that is asked for again by itself.
    let life = seconds.map_or(LIFE, |seconds| Duration::from_secs(seconds.min(86_400)));
    Ok((authorization, life))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers() {
        let rows = [
            ("a token", json!({"access_token": "t", "token_type": "Bearer", "expires_in": 60}), Ok(60)),
            ("in lower case, as text", json!({"access_token": "t", "token_type": "bearer", "expires_in": "9"}), Ok(9)),
            ("for how long is not said", json!({"access_token": "t", "token_type": "Bearer"}), Ok(300)),
            ("for ever", json!({"access_token": "t", "token_type": "Bearer", "expires_in": u64::MAX}), Ok(86_400)),
            ("none", json!({"token_type": "Bearer"}), Err("no `access_token`")),
            ("no JSON", Value::Null, Err("no `access_token`")),
            ("another type", json!({"access_token": "t", "token_type": "mac"}), Err("`Bearer`")),
            ("a line break", json!({"access_token": "a\nb", "token_type": "Bearer"}), Err("no header can carry")),
        ];
        for (why, answer, expected) in rows {
            match (granted(&answer), expected) {
                (Ok((authorization, life)), Ok(seconds)) => {
                    assert_eq!((authorization.to_str().unwrap(), life.as_secs()), ("Bearer t", seconds), "{why}");
                    assert!(authorization.is_sensitive(), "{why}");
                }
                (Err(found), Err(part)) => assert!(found.contains(part), "{why}: {found}"),
                (found, _) => panic!("{why}: {found:?}"),
            }
        }
        let refused = json!({"error": "invalid_client", "error_description": format!("no\n{}", "x".repeat(500))});
        let told = refusal(&refused);
        assert!(told.starts_with(": invalid_client: nox") && told.len() == WORDS_MAX, "{told}");
        assert_eq!(refusal(&Value::Null), "");
    }
}
