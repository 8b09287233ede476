//! Signatures of webhooks: the Standard Webhooks scheme (standardwebhooks.com, specification 1.0), symmetric.
//! What is signed is `ID.TIMESTAMP.BODY`, byte for byte; the key is Base64 behind `whsec_`.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::envelope::base64;
use crate::time::Timestamp;

/// How far a timestamp may be from now when a signature is checked.
pub const TOLERANCE_S: u64 = 300;
/// The specification asks for 24 to 64 bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// SHA-256 works on blocks of this size (RFC 2104).
const BLOCK: usize = 64;

/// A key for signing; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

/// Why text is no key. Repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing secret is `whsec_` and 24 to 64 bytes in Base64; make one with: echo whsec_$(openssl rand -base64 32)"
)]
pub struct KeyError;

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the timestamp is no whole number of seconds")]
    Timestamp,
    #[error("the timestamp is more than 300 s from now")]
    TooFar,
    #[error("no signature fits")]
    Signature,
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = base64::decode(text.strip_prefix("whsec_").unwrap_or(text)).ok_or(KeyError)?;
        if KEY_BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(KeyError) }
    }

    /// Signs a message: the value of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        format!("v1,{}", base64::encode(&self.mac(id, &at_s.to_string(), body)))
    }

    /// Checks a signature header, which may hold several, in constant time for each.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Refused> {
        let at_s: u64 = timestamp.parse().map_err(|_| Refused::Timestamp)?;
        if at_s.abs_diff(now.0 / 1_000) > TOLERANCE_S {
            return Err(Refused::TooFar);
        }
        let expected = self.mac(id, timestamp, body);
        let fits = |signature: &str| {
            let bytes = signature.strip_prefix("v1,").and_then(base64::decode);
            bytes.is_some_and(|bytes| bool::from(bytes.ct_eq(&expected)))
        };
        if signatures.split(' ').any(fits) { Ok(()) } else { Err(Refused::Signature) }
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.0, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// HMAC-SHA-256 (RFC 2104) over several parts in a row. The key has at most one block.
fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK];
    block[..key.len()].copy_from_slice(key);
    let hash = |pad: u8, parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(block.map(|byte| byte ^ pad));
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    };
    let inner = hash(0x36, parts);
    hash(0x5c, &[&inner])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let path = format!("{}/tests/vectors/webhooks/vectors.json", env!("CARGO_MANIFEST_DIR"));
        let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut counts = [0, 0];
        for vector in all["vectors"].as_array().unwrap() {
            if vector["scheme"] != "standard-webhooks" {
                continue;
            }
            let header = |name: &str| {
                let value = &vector["headers"][format!("webhook-{name}")];
                let value = value.as_str().or_else(|| vector["headers"][format!("svix-{name}")].as_str());
                value.unwrap_or_default().to_owned()
            };
            let key = Key::parse(vector["secret"].as_str().unwrap()).unwrap();
            let body = vector["payload"].as_str().unwrap().as_bytes();
            let now = Timestamp(vector["now"].as_u64().unwrap() * 1_000);
            let (id, at) = (header("id"), header("timestamp"));
            let taken = key.verify(&id, &at, &header("signature"), body, now);
            let valid = vector["valid"].as_bool().unwrap();
            assert_eq!(taken.is_ok(), valid, "{vector}: {taken:?}");
            if valid {
                let signed = key.sign(&id, at.parse().unwrap(), body);
                assert!(header("signature").split(' ').any(|one| one == signed), "{vector}");
            }
            counts[usize::from(valid)] += 1;
        }
        assert_eq!(counts, [6, 3], "refused and taken");
    }

    #[test]
    fn keys_and_the_rfc() {
        let rows = [("too short", "whsec_TWFu", false), ("no Base64", "whsec_*", false), ("empty", "", false)];
        for (why, text, good) in rows {
            assert_eq!(Key::parse(text).is_ok(), good, "{why}");
        }
        assert_eq!(format!("{:?}", Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()), "Key(…)");
        // RFC 4231, test case 2.
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let text: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
