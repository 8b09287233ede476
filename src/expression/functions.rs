//! The functions that expressions have, and why well-known others are left out.

/// Functions by name and number of arguments. Left out on purpose: definitions, everything that
/// recurses or generates without a bound, the clock, the environment, input, output and `halt`, and
/// regular expressions, whose cost no budget here can count.
pub(super) const FUNCTIONS: &[(&str, usize)] = &[
    ("@base64", 0),
    ("@base64d", 0),
    ("@json", 0),
    ("@text", 0),
    ("@uri", 0),
    ("abs", 0),
    ("add", 0),
    ("add", 1),
    ("all", 0),
    ("all", 1),
    ("all", 2),
    ("any", 0),
    ("any", 1),
    ("any", 2),
    ("arrays", 0),
    ("ascii_downcase", 0),
    ("ascii_upcase", 0),
    ("booleans", 0),
    ("ceil", 0),
    ("contains", 1),
    ("del", 1),
    ("empty", 0),
    ("endswith", 1),
    ("error", 0),
    ("error", 1),
    ("explode", 0),
    ("false", 0),
    ("first", 0),
    ("first", 1),
    ("flatten", 0),
    ("flatten", 1),
    ("floor", 0),
    ("from_entries", 0),
    ("fromdate", 0),
    ("fromjson", 0),
    ("getpath", 1),
    ("group_by", 1),
    ("has", 1),
    ("implode", 0),
    ("in", 1),
    ("index", 1),
    ("indices", 1),
    ("inside", 1),
    ("isempty", 1),
    ("iterables", 0),
    ("join", 1),
    ("keys", 0),
    ("keys_unsorted", 0),
    ("last", 0),
    ("last", 1),
    ("length", 0),
    ("limit", 2),
    ("ltrim", 0),
    ("ltrimstr", 1),
    ("map", 1),
    ("map_values", 1),
    ("max", 0),
    ("max_by", 1),
    ("min", 0),
    ("min_by", 1),
    ("not", 0),
    ("nth", 1),
    ("null", 0),
    ("nulls", 0),
    ("numbers", 0),
    ("objects", 0),
    ("reverse", 0),
    ("rindex", 1),
    ("round", 0),
    ("rtrim", 0),
    ("rtrimstr", 1),
    ("scalars", 0),
    ("select", 1),
    ("setpath", 2),
    ("sort", 0),
    ("sort_by", 1),
    ("split", 1),
    ("sqrt", 0),
    ("startswith", 1),
    ("strings", 0),
    ("to_entries", 0),
    ("toboolean", 0),
    ("todate", 0),
    ("tojson", 0),
    ("tonumber", 0),
    ("tostring", 0),
    ("transpose", 0),
    ("trim", 0),
    ("true", 0),
    ("type", 0),
    ("unique", 0),
    ("unique_by", 1),
    ("utf8bytelength", 0),
    ("values", 0),
    ("with_entries", 1),
];

/// Says why a well-known function of jq is left out.
pub(super) fn left_out(name: &str) -> Option<&'static str> {
    Some(match name {
        "now" | "localtime" | "gmtime" | "mktime" | "strftime" | "strflocaltime" | "strptime" => {
            "expressions see no clock: a retry and an undo have to find what the first attempt found"
        }
        "env" | "input" | "inputs" | "input_filename" | "get_search_list" => {
            "expressions see nothing but their variables; what differs between environments is configuration"
        }
        "halt" | "halt_error" | "debug" | "stderr" => "an expression only yields a value; error(…) stops it",
        "range" | "repeat" | "while" | "until" | "recurse" | "walk" | "paths" | "combinations" => {
            "expressions have no loop that could be without end; use map(…), reduce or [.[] | …]"
        }
        "test" | "match" | "capture" | "scan" | "sub" | "gsub" | "splits" => {
            "there are no regular expressions; use startswith, endswith, contains, split or ltrimstr"
        }
        _ => return None,
    })
}
