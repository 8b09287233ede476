//! `tracestate`: what other tracing systems put into a trace. Checked by the grammar of the W3C's
//! level 2 (section 3.3) and passed on as it came; a wrong one is left out, and the trace goes on without it.

use std::sync::Arc;

/// Members of a list; more make the list wrong (section 3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Longest key and longest value (sections 3.3.1.3.1 and 3.3.1.3.2).
const PART_BYTES_MAX: usize = 256;
/// What is passed on at least (section 3.3.1.5), and here also at most: it is stored with every run.
const BYTES_MAX: usize = 512;
/// Where a list is too long, members longer than this go first (section 3.3.1.5).
const LONG_MEMBER_BYTES: usize = 128;

/// Reads the values of all `tracestate` headers, in their order, as one list.
#[must_use]
pub fn parse<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Arc<str>> {
    let mut members: Vec<&str> = Vec::new();
    for member in headers.into_iter().flat_map(|header| header.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        // Empty members are allowed and mean nothing.
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let known = members.iter().any(|known| known.split_once('=').is_some_and(|(known, _)| known == key));
        if !is_key(key) || !is_value(value) || known || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push(member);
    }
    shorten(&mut members);
    (!members.is_empty()).then(|| members.join(",").into())
}

fn is_key(key: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    key.len() <= PART_BYTES_MAX
        && key.bytes().next().is_some_and(letter)
        && key.bytes().all(|b| letter(b) || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@'))
}

fn is_value(value: &str) -> bool {
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b',' && b != b'=';
    !value.is_empty() && value.len() <= PART_BYTES_MAX && value.bytes().all(printable)
}

/// Removes whole members until the list is short enough: long ones first, then from the end.
fn shorten(members: &mut Vec<&str>) {
    let bytes = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while bytes(members) > BYTES_MAX {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER_BYTES);
        members.remove(long.unwrap_or(members.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let key = |length: usize| format!("{}=1", "z".repeat(length));
        let many = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        let long = format!("a=1,b={},c=3,d={}", "x".repeat(256), "y".repeat(256));
        let short = format!("a=1,b={},c=3", "x".repeat(256));
        let rows: &[(&str, &[&str], Option<&str>)] = &[
            // why, headers, passed on
            ("one", &["a=1"], Some("a=1")),
            ("several headers are one list", &["a=1", "b=2,c=3"], Some("a=1,b=2,c=3")),
            ("white space around members", &["a=1 \t , \t b=2"], Some("a=1,b=2")),
            ("empty members", &["", ",a=1,,"], Some("a=1")),
            ("nothing", &[""], None),
            ("a key twice", &["a=1", "a=2"], None),
            ("white space in a key", &["a =1"], None),
            ("upper case in a key", &["A=1"], None),
            ("a dot in a key", &["a.b=1"], None),
            ("an at sign in a key", &["a@b@c=1"], Some("a@b@c=1")),
            ("an at sign in front", &["@a=1"], None),
            ("a longest key", &[&key(256)], Some(&key(256))),
            ("a key that is too long", &[&key(257)], None),
            ("no value", &["a=,b=2"], None),
            ("an equals sign in a value", &["a=b=c"], None),
            ("not ASCII", &["a=\u{e4}"], None),
            ("32 members", &[&many(32)], Some(&many(32))),
            ("33 members", &[&many(33)], None),
            ("too long: the last long member goes", &[&long], Some(&short)),
        ];
        for (why, headers, expected) in rows {
            assert_eq!(parse(headers.iter().copied()).as_deref(), *expected, "{why}");
        }
    }
}
