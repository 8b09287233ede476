//! What functions take and what they yield.

use jaq_core::load::parse::Term;

use super::{Infer, real};
use crate::schema::shape::{Fields, Kinds, Shape};

const LIST: Kinds = Kinds::ARRAY;
const LISTED: Kinds = Kinds::ARRAY.or(Kinds::OBJECT);
const TEXT: Kinds = Kinds::STRING;
const NUMBER: Kinds = Kinds::NUMBER;

/// Returns the kinds of `.` that a function works on.
fn takes(name: &str, args: usize) -> Kinds {
    match (name, args) {
        ("length", 0) => Kinds::ALL.without(Kinds::BOOLEAN),
        ("utf8bytelength" | "ascii_downcase" | "ascii_upcase" | "trim" | "ltrim" | "rtrim" | "explode", 0)
        | ("split" | "startswith" | "endswith", 1)
        | ("@base64d" | "fromjson" | "fromdate", 0) => TEXT,
        ("implode" | "sort" | "unique" | "transpose" | "flatten" | "min" | "max" | "first" | "last", 0)
        | ("join" | "sort_by" | "group_by" | "unique_by" | "min_by" | "max_by" | "flatten" | "nth", 1) => LIST,
        ("map" | "map_values" | "has" | "with_entries", 1)
        | ("add" | "any" | "all" | "keys" | "keys_unsorted" | "to_entries", 0)
        | ("any" | "all", 1) => LISTED,
        ("from_entries", 0) => LISTED,
        ("floor" | "ceil" | "round" | "sqrt" | "abs" | "todate", 0) => NUMBER,
        ("tonumber", 0) => TEXT.or(NUMBER),
        ("toboolean", 0) => TEXT.or(Kinds::BOOLEAN),
        ("index" | "rindex" | "indices", 1) => TEXT.or(LIST).or(Kinds::NULL),
        ("reverse", 0) => TEXT.or(LIST).or(Kinds::NULL),
        _ => Kinds::ALL,
    }
}

impl<'s> Infer<'s, '_> {
    pub(super) fn call(&mut self, name: &'s str, args: &[Term<&'s str>], dot: &Shape, guarded: bool) -> Shape {
        let kinds = takes(name, args.len());
        let real = real(dot);
        if !real.meets(kinds) && !dot.is_impossible() {
            let message = format!("`{name}` takes {kinds}; this is {real}");
            let help = match name {
                "sort_by" | "map" if real.meets(TEXT) => Some("`split` makes a list of text".to_owned()),
                _ => None,
            };
            self.mistake("X014", self.span(name), message, help);
        }
        // Functions that look at each item hand it to their argument as `.`.
        let item = if dot.kinds.without(Kinds::NULL) == Kinds::ARRAY { dot.items() } else { Shape::any() };
        let each = |infer: &mut Self| match args {
            [arg] => infer.term(arg, &item, guarded),
            _ => Shape::any(),
        };
        match (name, args) {
            ("null", []) => Shape::of(Kinds::NULL),
            ("true" | "false", []) => Shape::of(Kinds::BOOLEAN),
            ("map", [_]) => Shape::list(each(self)),
            ("sort_by" | "unique_by", [_]) => {
                each(self);
                dot.clone().limited(LIST)
            }
            ("min_by" | "max_by", [_]) => {
                each(self);
                item.or_null()
            }
            ("group_by", [_]) => {
                each(self);
                Shape::list(Shape::list(item))
            }
            ("any" | "all", [_]) => {
                each(self);
                Shape::of(Kinds::BOOLEAN)
            }
            ("map_values", [_]) => {
                each(self);
                Shape::of(dot.kinds.and(LISTED))
            }
            ("select", [condition]) => {
                self.term(condition, dot, true);
                dot.clone()
            }
            ("first" | "last", [arg]) => self.term(arg, dot, guarded),
            ("limit", [count, arg]) => {
                self.term(count, dot, guarded);
                self.term(arg, dot, guarded)
            }
            ("add", []) => Shape::of(item.kinds).or_null(),
            ("min" | "max" | "first" | "last", []) => item.or_null(),
            ("sort" | "unique", []) => dot.clone().limited(LIST),
            ("reverse", []) => dot.clone(),
            ("flatten", _) | ("keys" | "keys_unsorted" | "explode" | "transpose", []) => Shape::of(LIST),
            ("split", [arg]) => {
                self.term(arg, dot, guarded);
                Shape::list(Shape::of(TEXT))
            }
            ("join", [arg]) => {
                self.term(arg, dot, guarded);
                Shape::of(TEXT)
            }
            ("ltrimstr" | "rtrimstr", [arg]) => {
                // What is no text stays as it is.
                self.term(arg, dot, guarded);
                Shape::of(dot.kinds)
            }
            ("to_entries", []) => Shape::list(Shape::object(Fields::built([
                ("key".to_owned(), Shape::any()),
                ("value".to_owned(), Shape::any()),
            ]))),
            ("from_entries", []) | ("with_entries", [_]) => Shape::of(Kinds::OBJECT),
            (
                "length" | "utf8bytelength" | "floor" | "ceil" | "round" | "sqrt" | "abs" | "tonumber" | "fromdate",
                [],
            ) => Shape::of(NUMBER),
            ("index" | "rindex", [arg]) => {
                self.term(arg, dot, guarded);
                Shape::of(NUMBER).or_null()
            }
            ("not" | "any" | "all" | "toboolean", []) => Shape::of(Kinds::BOOLEAN),
            ("has" | "in" | "contains" | "inside" | "startswith" | "endswith" | "isempty", [arg]) => {
                self.term(arg, dot, guarded);
                Shape::of(Kinds::BOOLEAN)
            }
            ("type", []) => Shape::words(["null", "boolean", "number", "string", "array", "object"]),
            (
                "tostring" | "tojson" | "todate" | "implode" | "ascii_downcase" | "ascii_upcase" | "trim" | "ltrim"
                | "rtrim" | "@base64" | "@base64d" | "@json" | "@text" | "@uri",
                [],
            ) => Shape::of(TEXT),
            ("strings", []) => dot.clone().limited(TEXT),
            ("numbers", []) => dot.clone().limited(NUMBER),
            ("arrays", []) => dot.clone().limited(LIST),
            ("objects", []) => dot.clone().limited(Kinds::OBJECT),
            ("values", []) => dot.clone().limited(Kinds::ALL.without(Kinds::NULL)),
            ("with_entries", _) | ("del" | "getpath" | "setpath", _) => {
                args.iter().for_each(|arg| drop(self.quiet(arg, dot)));
                Shape::any()
            }
            (_, args) => {
                args.iter().for_each(|arg| drop(self.quiet(arg, &Shape::any())));
                Shape::any()
            }
        }
    }
}
