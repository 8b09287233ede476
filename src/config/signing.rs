//! `secret` and `secret_before` of what is signed: while one takes the other's place, both count.

use super::diagnostic::VALUE;
use super::reader::Reader;
use super::yaml::Node;

/// Reads the two, the present one first; `secret_before` may be empty. A bad one is noted, and repeated nowhere.
pub(super) fn secrets<T, E: std::fmt::Display>(
    reader: &mut Reader<'_>,
    present: Option<(String, Node)>,
    before: Option<(String, Node)>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let given = present.map(|given| (given, false)).into_iter().chain(before.map(|given| (given, true)));
    let mut secrets = Vec::new();
    for ((path, node), may_be_empty) in given {
        let Some(secret) = reader.secret_of(&node, &path) else { continue };
        if may_be_empty && secret.expose().is_empty() {
            continue;
        }
        match parse(secret.expose()) {
            Ok(secret) => secrets.push(secret),
            Err(error) => {
                reader.note(&node.place, VALUE, format!("`{path}` is no signing secret"), error.to_string());
            }
        }
    }
    secrets
}
