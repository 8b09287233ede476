//! Signatures of webhooks: the Standard Webhooks scheme (standardwebhooks.com, specification 1.0), symmetric.
//! What is signed is `ID.TIMESTAMP.BODY`, byte for byte; the key is Base64 behind `whsec_`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::envelope::base64;
use crate::time::Timestamp;

/// How far a timestamp may be from now when a signature is checked.
pub const TOLERANCE_S: u64 = 300;
/// The specification asks for 24 to 64 bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

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

/// HMAC-SHA-256 (RFC 2104) over several parts in a row.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is one");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let rows = [("too short", "whsec_TWFu", false), ("no Base64", "whsec_*", false), ("empty", "", false)];
        for (why, text, good) in rows {
            assert_eq!(Key::parse(text).is_ok(), good, "{why}");
        }
        assert_eq!(format!("{:?}", Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()), "Key(…)");
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "published with the Standard Webhooks libraries"
        );
    }

    /// RFC 4231, test cases 2 and 6: a key longer than a block.
    #[test]
    fn hmac_of_the_rfc() {
        let hex = |mac: [u8; 32]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex(mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let mac = hmac_sha256(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(mac), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
