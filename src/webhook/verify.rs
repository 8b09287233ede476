//! Signatures of webhooks: HMAC-SHA-256 over the body's bytes as they came, compared in constant time.

use subtle::ConstantTimeEq;

use super::{Headers, Scheme};
use crate::signature::{self, Key, TOLERANCE_S, hmac_sha256};
use crate::time::Timestamp;

/// A shorter secret is guessed.
const SECRET_BYTES_MIN: usize = 8;
/// While a secret is exchanged a sender signs with two; more signatures are somebody's try.
const SIGNATURES_MAX: usize = 8;

/// Checks signatures; its secrets are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    secrets: Vec<Secret>,
    scheme: Scheme,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Standard(Key),
    /// Used as it is.
    Text(Vec<u8>),
}

/// Why text is no secret of a scheme. Repeats nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    Key(#[from] signature::KeyError),
    #[error("a secret has {SECRET_BYTES_MIN} bytes or more")]
    Short,
}

/// Why a delivery is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the header `{0}` is missing, or there twice")]
    Missing(&'static str),
    #[error("the timestamp is no whole number of seconds")]
    Timestamp,
    #[error("the timestamp is more than {TOLERANCE_S} s from now")]
    TooFar,
    #[error("no signature fits")]
    Signature,
}

impl From<signature::Refused> for Refused {
    fn from(refused: signature::Refused) -> Self {
        match refused {
            signature::Refused::Timestamp => Self::Timestamp,
            signature::Refused::TooFar => Self::TooFar,
            signature::Refused::Signature => Self::Signature,
        }
    }
}

impl Verifier {
    /// Makes a verifier that takes what is signed with any of the secrets.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn new<'s>(scheme: Scheme, secrets: impl IntoIterator<Item = &'s str>) -> Result<Self, SecretError> {
        let secret = |text: &str| match scheme {
            Scheme::Standard => Ok(Secret::Standard(Key::parse(text)?)),
            Scheme::Github | Scheme::Stripe | Scheme::Slack if text.len() < SECRET_BYTES_MIN => Err(SecretError::Short),
            Scheme::Github | Scheme::Stripe | Scheme::Slack => Ok(Secret::Text(text.as_bytes().to_vec())),
        };
        Ok(Self { secrets: secrets.into_iter().map(secret).collect::<Result<_, _>>()?, scheme })
    }

    /// Takes what is signed with the other's secrets as well; the scheme is this one's.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.secrets.extend(other.secrets);
        self
    }

    /// Checks a delivery.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, headers: &dyn Headers, body: &[u8], now: Timestamp) -> Result<(), Refused> {
        let needed = |name: &'static str| headers.text(name).ok_or(Refused::Missing(name));
        match self.scheme {
            Scheme::Standard => {
                let [id, timestamp, signatures] = standard(headers)?;
                self.with_any(|secret| match secret {
                    Secret::Standard(key) => Ok(key.verify(id, timestamp, signatures, body, now)?),
                    Secret::Text(_) => Err(Refused::Signature),
                })
            }
            Scheme::Github => {
                let given = needed("x-hub-signature-256")?.strip_prefix("sha256=").ok_or(Refused::Signature)?;
                self.fits(&[body], std::iter::once(given))
            }
            Scheme::Stripe => {
                let header = needed("stripe-signature")?;
                let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
                let (_, at) = parts().find(|(name, _)| *name == "t").ok_or(Refused::Timestamp)?;
                near(at, now)?;
                let given = parts().filter(|(name, _)| *name == "v1").map(|(_, given)| given);
                self.fits(&[at.as_bytes(), b".", body], given)
            }
            Scheme::Slack => {
                let at = needed("x-slack-request-timestamp")?;
                near(at, now)?;
                let given = needed("x-slack-signature")?.strip_prefix("v0=").ok_or(Refused::Signature)?;
                self.fits(&[b"v0:", at.as_bytes(), b":", body], std::iter::once(given))
            }
        }
    }

    /// Checks signatures in hexadecimal of the parts in a row.
    fn fits<'g>(&self, signed: &[&[u8]], given: impl Iterator<Item = &'g str>) -> Result<(), Refused> {
        let given: Vec<[u8; 32]> = given.take(SIGNATURES_MAX).filter_map(unhex).collect();
        self.with_any(|secret| {
            let Secret::Text(secret) = secret else { return Err(Refused::Signature) };
            let expected = hmac_sha256(secret, signed);
            // Each is compared, whichever fits.
            let fits = given.iter().fold(false, |fits, given| fits | bool::from(given.ct_eq(&expected)));
            if fits { Ok(()) } else { Err(Refused::Signature) }
        })
    }

    fn with_any(&self, check: impl Fn(&Secret) -> Result<(), Refused>) -> Result<(), Refused> {
        self.secrets.iter().map(check).reduce(|one, other| one.or(other)).unwrap_or(Err(Refused::Signature))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({:?}, …)", self.scheme)
    }
}

/// Returns id, timestamp and signatures of the Standard Webhooks scheme.
pub(super) fn standard(headers: &dyn Headers) -> Result<[&str; 3], Refused> {
    const NAMES: [[&str; 3]; 2] =
        [["webhook-id", "webhook-timestamp", "webhook-signature"], ["svix-id", "svix-timestamp", "svix-signature"]];
    let all = |names: [&'static str; 3]| {
        let [id, timestamp, signatures] = names.map(|name| headers.text(name).ok_or(Refused::Missing(name)));
        Ok([id?, timestamp?, signatures?])
    };
    let [own, svix] = NAMES.map(all);
    own.or_else(|missing| svix.map_err(|_: Refused| missing))
}

fn near(timestamp: &str, now: Timestamp) -> Result<(), Refused> {
    let at_s: u64 = timestamp.parse().map_err(|_| Refused::Timestamp)?;
    if at_s.abs_diff(now.0 / 1_000) > TOLERANCE_S { Err(Refused::TooFar) } else { Ok(()) }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMES;
    use super::*;
    use std::collections::BTreeMap;

    impl Headers for BTreeMap<String, String> {
        fn text(&self, name: &str) -> Option<&str> {
            self.get(name).map(String::as_str)
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn published_vectors() {
        let path = format!("{}/tests/vectors/webhooks/vectors.json", env!("CARGO_MANIFEST_DIR"));
        let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut counts: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
        for vector in all["vectors"].as_array().unwrap() {
            let word = vector["scheme"].as_str().unwrap();
            let (word, scheme) = SCHEMES.into_iter().find(|(name, _)| *name == word).unwrap();
            let given = vector["headers"].as_object().unwrap();
            let headers: BTreeMap<String, String> = given
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned()))
                .collect();
            let body = vector["payload"].as_str().unwrap().as_bytes();
            let now = Timestamp(vector["now"].as_u64().unwrap_or_default() * 1_000);
            let secret = vector["secret"].as_str().unwrap();
            let valid = vector["valid"].as_bool().unwrap();
            counts.entry(word).or_default()[usize::from(valid)] += 1;
            // While secrets are exchanged, either place of the right one will do; a wrong one alone does not.
            let other = match scheme {
                Scheme::Standard => "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                Scheme::Github | Scheme::Stripe | Scheme::Slack => "another secret",
            };
            for secrets in [vec![secret], vec![other, secret], vec![secret, other]] {
                let taken = Verifier::new(scheme, secrets).unwrap().verify(&headers, body, now);
                assert_eq!(taken.is_ok(), valid, "{vector}: {taken:?}");
            }
            let wrong = Verifier::new(scheme, [other]).unwrap().verify(&headers, body, now);
            assert!(wrong.is_err(), "{vector}");
            if valid {
                let changed = [body, b" "].concat();
                let taken = Verifier::new(scheme, [secret]).unwrap().verify(&headers, &changed, now);
                assert_eq!(taken, Err(Refused::Signature), "{vector}");
            }
        }
        let expected = [("github", [2, 3]), ("slack", [0, 1]), ("standard-webhooks", [6, 3]), ("stripe", [2, 1])];
        assert_eq!(counts, expected.into(), "refused and taken");
    }

    #[test]
    fn what_is_missing_or_far_is_named() {
        let stripe = |value: &str| headers(&[("stripe-signature", value)]);
        let slack = |at: &str, value: &str| headers(&[("x-slack-request-timestamp", at), ("x-slack-signature", value)]);
        let hex = "0".repeat(64);
        let many = format!("t=1000{}", ",v1=00".repeat(10_000));
        let rows: Vec<(&str, Scheme, BTreeMap<String, String>, Refused)> = vec![
            ("github without", Scheme::Github, headers(&[]), Refused::Missing("x-hub-signature-256")),
            ("github, SHA-1", Scheme::Github, headers(&[("x-hub-signature-256", "sha1=00")]), Refused::Signature),
            ("stripe without", Scheme::Stripe, headers(&[]), Refused::Missing("stripe-signature")),
            ("stripe, no time", Scheme::Stripe, stripe("v1=00"), Refused::Timestamp),
            ("stripe, time in words", Scheme::Stripe, stripe("t=now,v1=00"), Refused::Timestamp),
            ("stripe, ahead", Scheme::Stripe, stripe("t=1301,v1=00"), Refused::TooFar),
            ("stripe, v0 alone", Scheme::Stripe, stripe(&format!("t=1000,v0={hex}")), Refused::Signature),
            ("stripe, thousands of signatures", Scheme::Stripe, stripe(&many), Refused::Signature),
            ("slack without", Scheme::Slack, headers(&[]), Refused::Missing("x-slack-request-timestamp")),
            ("slack, too old", Scheme::Slack, slack("699", "v0=00"), Refused::TooFar),
            ("slack, another version", Scheme::Slack, slack("1000", "v1=00"), Refused::Signature),
            ("slack, multibyte", Scheme::Slack, slack("1000", &format!("v0={}", "é".repeat(32))), Refused::Signature),
        ];
        for (why, scheme, headers, refused) in rows {
            let verifier = Verifier::new(scheme, ["a secret of some length"]).unwrap();
            assert_eq!(verifier.verify(&headers, b"{}", Timestamp(1_000_000)), Err(refused), "{why}");
            assert!(!format!("{verifier:?}").contains("length"), "{why}");
        }
        assert_eq!(Verifier::new(Scheme::Github, ["short"]), Err(SecretError::Short));
        assert!(Verifier::new(Scheme::Standard, ["no Base64 of 24 bytes"]).is_err());
        assert_eq!(unhex(&"0f".repeat(32)), Some([15; 32]));
        let nobody = Verifier::new(Scheme::Github, []).unwrap();
        let signed = headers(&[("x-hub-signature-256", &format!("sha256={hex}"))]);
        assert_eq!(nobody.verify(&signed, b"", Timestamp(0)), Err(Refused::Signature));
    }
}
