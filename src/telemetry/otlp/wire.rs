//! Protocol buffers, as far as OTLP needs them (<https://protobuf.dev/programming-guides/encoding/>).
//! Field numbers here are below 16, so that a tag is one byte.

/// The wire types that are used.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

pub fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Returns how many bytes a varint takes.
pub const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

pub fn tag(to: &mut Vec<u8>, field: u8, kind: Kind) {
    debug_assert!(field < 16, "a tag is one byte");
    to.push(field << 3 | kind as u8);
}

/// Returns how many bytes a field of so many bytes takes with its tag and length.
pub const fn bytes_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

pub fn bytes_field(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    tag(to, field, Kind::Bytes);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// An empty text is what an absent one means.
pub fn text_field(to: &mut Vec<u8>, field: u8, text: &str) {
    if !text.is_empty() {
        bytes_field(to, field, text.as_bytes());
    }
}

pub fn varint_field(to: &mut Vec<u8>, field: u8, value: u64) {
    tag(to, field, Kind::Varint);
    varint(to, value);
}

pub fn fixed64_field(to: &mut Vec<u8>, field: u8, value: u64) {
    tag(to, field, Kind::Fixed64);
    to.extend_from_slice(&value.to_le_bytes());
}

/// Writes a field whose content is written by `content`; for messages, whose length is not known before.
pub fn message_field(to: &mut Vec<u8>, field: u8, content: impl FnOnce(&mut Vec<u8>)) {
    tag(to, field, Kind::Bytes);
    let at = to.len();
    // Room for lengths below 128, which most have; a longer one moves the content.
    to.push(0);
    content(to);
    let len = to.len() - at - 1;
    if len < 0x80 {
        to[at] = len as u8;
    } else {
        let mut length = Vec::with_capacity(5);
        varint(&mut length, len as u64);
        to.splice(at..=at, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        let rows: &[(u64, &[u8])] = &[(0, &[0]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])];
        for (value, bytes) in rows {
            let mut written = Vec::new();
            varint(&mut written, *value);
            assert_eq!(written, *bytes, "{value}");
        }
        for value in [0, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut written = Vec::new();
            varint(&mut written, value);
            assert_eq!(written.len(), varint_len(value), "{value}");
        }
    }

    #[test]
    fn a_long_message_moves_over() {
        for len in [0, 127, 128, 20_000] {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            message_field(&mut one, 3, |to| to.extend(vec![7; len]));
            bytes_field(&mut other, 3, &vec![7; len]);
            assert_eq!(one, other, "{len}");
            assert_eq!(one.len(), bytes_len(len), "{len}");
        }
    }
}
