//! Webhooks that come in: who signed one ([`verify`]), and the event that it becomes ([`delivery`]).

mod delivery;
mod verify;

pub use self::delivery::{Delivery, Hello, form};
pub use self::verify::{Refused, SecretError, Verifier};

/// How a sender signs, and where it writes which delivery it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Standard Webhooks, symmetric (standardwebhooks.com); also under Svix' names of the headers.
    Standard,
    /// `X-Hub-Signature-256` (docs.github.com, "Validating webhook deliveries").
    Github,
    /// `Stripe-Signature`, scheme v1 (docs.stripe.com, "Verify webhook signatures manually").
    Stripe,
    /// `X-Slack-Signature`, version v0 (docs.slack.dev, "Verifying requests from Slack").
    Slack,
}

/// Every scheme by the words that the configuration has for it.
pub const SCHEMES: [(&str, Scheme); 5] = [
    ("standard", Scheme::Standard),
    // By its whole name.
    ("standard-webhooks", Scheme::Standard),
    ("github", Scheme::Github),
    ("stripe", Scheme::Stripe),
    ("slack", Scheme::Slack),
];

/// One configured webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub scheme: Scheme,
    pub verifier: Verifier,
    /// Headers that sagas may read, in lower case. No scheme's signature covers them.
    pub headers: Vec<String>,
}

/// A request's headers.
pub trait Headers {
    /// Returns a header's text by its name in lower case; none if it is missing, repeated or no text.
    fn text(&self, name: &str) -> Option<&str>;
}
