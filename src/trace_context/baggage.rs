//! `baggage`: names and values that travel with a trace (<https://www.w3.org/TR/baggage/>). Others may
//! write anything into it, so only the names that the configuration lists go on.

use std::sync::Arc;

/// The list that every propagator takes at least (section 3.3.2); a longer one is cut at a whole member.
const BYTES_MAX: usize = 8_192;
const MEMBERS_MAX: usize = 64;

/// Keeps the members that are allowed, in their order, with their properties.
#[must_use]
pub fn allowed(baggage: &str, names: &[String]) -> Option<Arc<str>> {
    let mut kept = String::new();
    let members = baggage.split(',').map(|member| member.trim_matches([' ', '\t']));
    for member in members.filter(|member| is_member(member, names)).take(MEMBERS_MAX) {
        if kept.len() + member.len() + 1 > BYTES_MAX {
            break;
        }
        if !kept.is_empty() {
            kept.push(',');
        }
        kept.push_str(member);
    }
    (!kept.is_empty()).then(|| kept.into())
}

fn is_member(member: &str, names: &[String]) -> bool {
    let Some((name, value)) = member.split_once('=') else { return false };
    let name = name.trim_matches([' ', '\t']);
    // Section 3.2: printable ASCII, percent-encoded beyond it.
    let printable = value.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t');
    printable && names.iter().any(|allowed| allowed == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_goes_on() {
        let names = ["tenant".to_owned(), "plan".to_owned()];
        let long = format!("tenant={},plan=1", "x".repeat(8_190));
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("one of two", "tenant=7,password=secret", Some("tenant=7")),
            ("both, with a property", " tenant = 7;p=1 , plan=gold", Some("tenant = 7;p=1,plan=gold")),
            ("none", "user=1", None),
            ("a name that begins alike", "tenants=1", None),
            ("no member at all", "tenant", None),
            ("not ASCII", "tenant=\u{e4}", None),
            ("too long for us", &long, None),
        ];
        for (why, baggage, expected) in rows {
            assert_eq!(allowed(baggage, &names).as_deref(), *expected, "{why}");
        }
        assert_eq!(allowed("tenant=7", &[]), None, "nothing is listed by default");
    }
}
