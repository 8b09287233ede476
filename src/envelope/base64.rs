//! Base64 (RFC 4648 section 4, with padding): bytes in JSON, of CloudEvents and of JetStream's own answers.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let six = (word >> (18 - 6 * index)) as usize & 63;
            text.push(if index <= group.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

/// Decodes text with its padding; none for anything else.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| -> Option<u32> {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let plain = text.trim_end_matches('=');
    if text.len() - plain.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(plain.len() * 3 / 4);
    for group in plain.as_bytes().chunks(4) {
        let mut word = 0;
        for byte in group {
            word = word << 6 | value(*byte)?;
        }
        word <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let rows: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"M", "TQ=="),
            (b"Ma", "TWE="),
            (b"Man", "TWFu"),
            (b"{ \"xyz\": 123 }", "eyAieHl6IjogMTIzIH0="),
            (b"\xff\xfe\x00", "//4A"),
        ];
        for (bytes, text) in rows {
            assert_eq!(encode(bytes), *text);
            assert_eq!(decode(text).as_deref(), Some(*bytes), "{text}");
        }
        for wrong in ["TWE", "T===", "TW-u", "TWE=TWE=", "TQ=A"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
