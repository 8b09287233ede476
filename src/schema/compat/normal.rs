//! Schemas → clauses: for each kind of value the alternatives of which one has to hold. What is not taken
//! apart (or would give too many alternatives) stays as an opaque keyword, so that nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::clause::{At, Bound, Clause, Contains, Kind, Members, Opaque, Term, Terms};
use super::document::{Documents, Id};
use super::number::Num;
use super::value::is_format;

/// Alternatives of one schema that are looked at one by one; twenty choices of two would be a million.
const CLAUSES_MAX: usize = 64;

pub(super) type Clauses<'a> = Rc<Vec<Clause<'a>>>;

/// Both documents, and what was worked out of them.
pub(super) struct Normal<'a> {
    pub docs: Documents<'a>,
    /// Values of terms that splitting made.
    pub made: Vec<Rc<Value>>,
    of_term: BTreeMap<(Kind, Term), Clauses<'a>>,
    of_terms: BTreeMap<(Kind, Terms), Clauses<'a>>,
    own: BTreeMap<(Kind, Id), Option<Rc<Clause<'a>>>>,
    /// Being worked out: a reference back to here goes in a circle without going into the data.
    open: BTreeSet<(Kind, Term)>,
}

/// The keywords for how much of it there is.
pub(super) fn size_keywords(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Text => Some(("minLength", "maxLength")),
        Kind::Array => Some(("minItems", "maxItems")),
        Kind::Object => Some(("minProperties", "maxProperties")),
        Kind::Null | Kind::Boolean | Kind::Number => None,
    }
}

fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| match Num::of(value)? {
        Num::Whole(whole) => u64::try_from(whole).ok(),
        Num::Real(_) => None,
    })
}

impl<'a> Normal<'a> {
    pub(super) fn new(docs: Documents<'a>) -> Self {
        Self {
            docs,
            made: Vec::new(),
            of_term: BTreeMap::new(),
            of_terms: BTreeMap::new(),
            own: BTreeMap::new(),
            open: BTreeSet::new(),
        }
    }

    /// Returns a term for a value.
    pub(super) fn value_term(&mut self, value: Rc<Value>) -> Term {
        self.made.push(value);
        Term::Value(self.made.len() - 1)
    }

    /// Returns the alternatives for values of a kind that fit all terms.
    pub(super) fn clauses(&mut self, kind: Kind, terms: &[Term]) -> Clauses<'a> {
        match terms {
            [] => return Rc::new(vec![Clause::any(kind)]),
            [term] => return self.of(kind, term),
            _ => {}
        }
        if let Some(known) = self.of_terms.get(&(kind, terms.to_vec())) {
            return Rc::clone(known);
        }
        let mut all = vec![Clause::any(kind)];
        for term in terms {
            let of_term = self.of(kind, term);
            all = self.product(&all, &of_term, term);
        }
        let all = Rc::new(all);
        self.of_terms.insert((kind, terms.to_vec()), Rc::clone(&all));
        all
    }

    fn of(&mut self, kind: Kind, term: &Term) -> Clauses<'a> {
        let key = (kind, term.clone());
        if let Some(known) = self.of_term.get(&key) {
            return Rc::clone(known);
        }
        if !self.open.insert(key.clone()) {
            return Rc::new(vec![unknown(kind, term)]);
        }
        let clauses = Rc::new(match term {
            Term::Is(id) => self.positive(kind, *id),
            Term::Not(id) => self.negative(kind, *id),
            Term::Kind(only) if *only == kind => vec![Clause::any(kind)],
            Term::Kind(_) | Term::Never => Vec::new(),
            Term::Value(at) => {
                let value = Rc::clone(&self.made[*at]);
                if Kind::of(&value) == kind { vec![Clause::counted(kind, vec![value], None)] } else { Vec::new() }
            }
        });
        self.open.remove(&key);
        self.of_term.insert(key, Rc::clone(&clauses));
        clauses
    }

    /// Returns every pair of alternatives that can hold together; keeps `term` whole where there are too many.
    fn product(&mut self, a: &[Clause<'a>], b: &[Clause<'a>], term: &Term) -> Vec<Clause<'a>> {
        if a.len() * b.len() > CLAUSES_MAX {
            let kind = a[0].kind;
            return self.product(a, &[unknown(kind, term)], term);
        }
        let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
        let both = pairs.map(|(a, b)| {
            if a.is_any() {
                b.clone()
            } else if b.is_any() {
                a.clone()
            } else {
                a.and(b)
            }
        });
        both.filter(|both| !is_contradiction(both)).collect()
    }

    fn positive(&mut self, kind: Kind, id: Id) -> Vec<Clause<'a>> {
        let schema = self.docs.schema(id);
        match schema {
            Value::Bool(true) => return vec![Clause::any(kind)],
            Value::Bool(false) => return Vec::new(),
            Value::Object(_) => {}
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => return vec![Clause::any(kind)],
        }
        let here = Term::Is(id);
        let Some(own) = self.own(kind, id) else { return Vec::new() };
        let mut all = vec![own.as_ref().clone()];
        if let Some(reference) = self.docs.keyword(id, "$ref") {
            let target = reference.as_str().and_then(|reference| self.docs.resolve(id, reference));
            let of_target = match target {
                Some(target) => self.of(kind, &Term::Is(target)),
                None => Rc::new(vec![opaque(kind, id, "$ref", false)]),
            };
            all = self.product(&all, &of_target, &here);
        }
        for child in self.docs.list(id, "allOf").unwrap_or_default() {
            let of_child = self.of(kind, &Term::Is(child));
            all = self.product(&all, &of_child, &Term::Is(child));
        }
        if let Some(children) = self.docs.list(id, "anyOf") {
            let any: Vec<Clause<'a>> =
                children.iter().flat_map(|child| self.of(kind, &Term::Is(*child)).as_ref().clone()).collect();
            all = self.alternatives(&all, any, kind, id, "anyOf");
        }
        if let Some(children) = self.docs.list(id, "oneOf") {
            let mut one = Vec::new();
            for child in &children {
                for clause in self.of(kind, &Term::Is(*child)).iter() {
                    let mut clause = clause.clone();
                    clause.outside.extend(children.iter().filter(|other| *other != child));
                    one.push(clause);
                }
            }
            all = self.alternatives(&all, one, kind, id, "oneOf");
        }
        if let Some(child) = self.docs.child(id, "not") {
            let none = self.of(kind, &Term::Not(child)).as_ref().clone();
            all = self.alternatives(&all, none, kind, id, "not");
        }
        if let Some(condition) = self.docs.child(id, "if") {
            let (then, other) = (self.docs.child(id, "then"), self.docs.child(id, "else"));
            if then.is_some() || other.is_some() {
                let mut either = self.guarded(kind, &Term::Is(condition), then.map(Term::Is));
                either.extend(self.guarded(kind, &Term::Not(condition), other.map(Term::Is)));
                all = self.alternatives(&all, either, kind, id, "if");
            }
        }
        all
    }

    /// Returns what fits a condition and what follows of it.
    fn guarded(&mut self, kind: Kind, condition: &Term, then: Option<Term>) -> Vec<Clause<'a>> {
        let first = self.of(kind, condition);
        match then {
            None => first.as_ref().clone(),
            Some(then) => {
                let second = self.of(kind, &then);
                self.product(&first, &second, &then)
            }
        }
    }

    fn alternatives(
        &mut self,
        all: &[Clause<'a>],
        more: Vec<Clause<'a>>,
        kind: Kind,
        id: Id,
        keyword: &'static str,
    ) -> Vec<Clause<'a>> {
        // An alternative that takes everything makes the others idle, unless they exclude each other.
        let more = match more.iter().find(|clause| clause.is_any()) {
            Some(any) => vec![any.clone()],
            None => more,
        };
        if all.len() * more.len() > CLAUSES_MAX {
            return self.product(all, &[opaque(kind, id, keyword, false)], &Term::Never);
        }
        self.product(all, &more, &Term::Never)
    }

    /// Returns what the schema itself asks of a kind, without its branches; none: nothing of the kind fits.
    pub(super) fn own(&mut self, kind: Kind, id: Id) -> Option<Rc<Clause<'a>>> {
        if let Some(known) = self.own.get(&(kind, id)) {
            return known.clone();
        }
        let own = self.make_own(kind, id).map(Rc::new);
        self.own.insert((kind, id), own.clone());
        own
    }

    fn make_own(&mut self, kind: Kind, id: Id) -> Option<Clause<'a>> {
        let at = |keyword| At { id, keyword };
        let types = self.docs.keyword(id, "type").map(|types| type_fits(types, kind));
        if types.is_some_and(|(fits, _)| !fits) {
            return None;
        }
        let mut own = Clause::any(kind);
        if let Some(types) = self.docs.keyword(id, "type") {
            let (fits, whole) = type_fits(types, kind);
            if !fits {
                return None;
            }
            own.whole = whole.then_some(at("type"));
        }
        for keyword in ["enum", "const"] {
            let Some(value) = self.docs.keyword(id, keyword) else { continue };
            let values = match (keyword, value) {
                ("enum", Value::Array(values)) => values.as_slice(),
                ("enum", _) => continue,
                _ => std::slice::from_ref(value),
            };
            let of_kind: Vec<_> = values.iter().filter(|value| Kind::of(value) == kind).cloned().map(Rc::new).collect();
            if of_kind.is_empty() {
                return None;
            }
            let counted = Clause::counted(kind, of_kind, Some(at(keyword)));
            own = own.and(&counted);
        }
        self.range(kind, id, &mut own);
        match kind {
            Kind::Null | Kind::Boolean | Kind::Number => {}
            Kind::Text => {
                if let Some(pattern) = self.docs.keyword(id, "pattern").and_then(Value::as_str) {
                    own.patterns.push((pattern, at("pattern")));
                }
                let format = self.docs.keyword(id, "format").and_then(Value::as_str);
                own.formats.extend(format.filter(|format| is_format(format)).map(|format| (format, at("format"))));
            }
            Kind::Array => self.items(id, &mut own),
            Kind::Object => self.members(id, &mut own),
        }
        if self.docs.keyword(id, "$dynamicRef").or_else(|| self.docs.keyword(id, "$recursiveRef")).is_some() {
            own.opaque.push(Opaque { at: at("$dynamicRef"), negated: false });
        }
        (!is_contradiction(&own)).then_some(own)
    }

    fn range(&self, kind: Kind, id: Id, own: &mut Clause<'a>) {
        let at = |keyword| At { id, keyword };
        let number = |keyword| self.docs.keyword(id, keyword).and_then(Num::of);
        if kind == Kind::Number {
            let flag = |keyword| self.docs.keyword(id, keyword) == Some(&Value::Bool(true)); // draft 4
            for (keyword, strict) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
                let loose = number(keyword).map(|limit| Bound { limit, exclusive: flag(strict), at: at(keyword) });
                let tight = number(strict).map(|limit| Bound { limit, exclusive: true, at: at(strict) });
                for bound in loose.into_iter().chain(tight) {
                    let mut one = Clause::any(kind);
                    if keyword == "minimum" {
                        one.lower = Some(bound)
                    } else {
                        one.upper = Some(bound)
                    }
                    *own = own.and(&one);
                }
            }
            own.steps.extend(number("multipleOf").map(|step| (step, at("multipleOf"))));
        }
        if let Some((min, max)) = size_keywords(kind) {
            if let Some(min_value) = self.docs.keyword(id, min).and_then(count).filter(|min| *min > 0) {
                (own.size.min, own.size.min_at) = (min_value, Some(at(min)));
            }
            if let Some(max_value) = self.docs.keyword(id, max).and_then(count) {
                (own.size.max, own.size.max_at) = (Some(max_value), Some(at(max)));
            }
        }
    }

    /// True where other keywords of the schema say which members and items `unevaluated…` leaves.
    fn has_branches(&self, id: Id) -> bool {
        ["$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "contains"]
            .iter()
            .any(|keyword| self.docs.keyword(id, keyword).is_some())
    }

    fn items(&mut self, id: Id, own: &mut Clause<'a>) {
        let at = |keyword| At { id, keyword };
        let is = |child: Id| vec![Term::Is(child)];
        let mut more = "additionalItems";
        if let Some(first) = self.docs.list(id, "prefixItems") {
            own.first = first.into_iter().map(is).collect();
            more = "items";
        } else if let Some(first) = self.docs.list(id, "items") {
            own.first = first.into_iter().map(is).collect(); // draft 7
        } else if let Some(child) = self.docs.child(id, "items") {
            own.rest = is(child);
            own.listed = Some(at("items"));
        }
        if own.rest.is_empty()
            && own.listed.is_none()
            && let Some(rest) = self.docs.child(id, more)
            && (more == "items" || !own.first.is_empty())
        {
            own.rest = is(rest);
        }
        if let Some(child) = self.docs.child(id, "unevaluatedItems")
            && own.rest.is_empty()
        {
            if self.has_branches(id) {
                own.opaque.push(Opaque { at: at("unevaluatedItems"), negated: false });
            } else {
                own.rest = is(child);
            }
        }
        if self.docs.keyword(id, "uniqueItems") == Some(&Value::Bool(true)) {
            own.unique = Some(at("uniqueItems"));
        }
        if let Some(child) = self.docs.child(id, "contains") {
            let min = self.docs.keyword(id, "minContains").and_then(count).unwrap_or(1);
            let max = self.docs.keyword(id, "maxContains").and_then(count);
            if min > 0 || max.is_some() {
                own.contains.push(Contains { item: Term::Is(child), min, max, at: at("contains") });
            }
            if min > own.size.min {
                (own.size.min, own.size.min_at) = (min, Some(at("contains")));
            }
        }
    }

    fn members(&mut self, id: Id, own: &mut Clause<'a>) {
        let at = |keyword| At { id, keyword };
        let named: BTreeMap<&str, Term> =
            self.docs.map(id, "properties").into_iter().map(|(name, child)| (name, Term::Is(child))).collect();
        let patterns: Vec<(&str, Term)> = self
            .docs
            .map(id, "patternProperties")
            .into_iter()
            .map(|(pattern, child)| (pattern, Term::Is(child)))
            .collect();
        let mut others = self.docs.child(id, "additionalProperties").map(Term::Is);
        if let Some(child) = self.docs.child(id, "unevaluatedProperties")
            && others.is_none()
        {
            if self.has_branches(id) {
                own.opaque.push(Opaque { at: at("unevaluatedProperties"), negated: false });
            } else {
                others = Some(Term::Is(child));
            }
        }
        if !named.is_empty() || !patterns.is_empty() || others.is_some() {
            own.members.push(Members { named, patterns, others, at: id });
        }
        let texts = |value: &'a Value| -> Vec<&'a str> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        if let Some(names) = self.docs.keyword(id, "required") {
            own.required.extend(texts(names).into_iter().map(|name| (name, at("required"))));
        }
        if let Some(child) = self.docs.child(id, "propertyNames") {
            own.names = vec![Term::Is(child)];
        }
        for keyword in ["dependentRequired", "dependencies"] {
            let lists = self.docs.keyword(id, keyword).and_then(Value::as_object).into_iter().flatten();
            let lists = lists.filter(|(_, names)| names.is_array());
            own.dependent.extend(lists.map(|(name, names)| (name.as_str(), texts(names), at(keyword))));
        }
        for keyword in ["dependentSchemas", "dependencies"] {
            let schemas = self.docs.map(id, keyword).into_iter();
            own.dependent_schemas.extend(schemas.map(|(name, child)| (name, Term::Is(child), at(keyword))));
        }
    }

    /// Returns the values of a kind that break the schema: those that break one of its keywords.
    fn negative(&mut self, kind: Kind, id: Id) -> Vec<Clause<'a>> {
        match self.docs.schema(id) {
            Value::Bool(false) => return vec![Clause::any(kind)],
            Value::Object(_) => {}
            Value::Bool(true) | Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Vec::new();
            }
        }
        let mut out: Vec<Clause<'a>> = Vec::new();
        if let Some(reference) = self.docs.keyword(id, "$ref") {
            match reference.as_str().and_then(|reference| self.docs.resolve(id, reference)) {
                Some(target) => out.extend(self.of(kind, &Term::Not(target)).iter().cloned()),
                None => out.push(opaque(kind, id, "$ref", true)),
            }
        }
        if let Some(types) = self.docs.keyword(id, "type") {
            match type_fits(types, kind) {
                (false, _) => return vec![Clause::any(kind)],
                (true, true) => out.push(Clause { broken: true, ..Clause::any(kind) }),
                (true, false) => {}
            }
        }
        let Some(own) = self.own(kind, id) else {
            // `enum` or `const` without a value of the kind, or bounds that leave nothing.
            return vec![Clause::any(kind)];
        };
        if let (Some(values), Some(at)) = (&own.values, own.values_at) {
            let mut rest = Clause::any(kind);
            match &mut rest.values {
                Some(all) => all.retain(|value| !values.contains(value)),
                None => rest.not_values.extend(values.iter().map(|value| (Rc::clone(value), at))),
            }
            out.push(rest);
        }
        out.extend(broken_range(kind, &own));
        out.extend(self.broken_parts(kind, &own));
        for child in self.docs.list(id, "allOf").unwrap_or_default() {
            out.extend(self.of(kind, &Term::Not(child)).iter().cloned());
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(children) = self.docs.list(id, keyword) else { continue };
            let mut none = vec![Clause::any(kind)];
            for child in children {
                let outside = self.of(kind, &Term::Not(child));
                none = self.product(&none, &outside, &Term::Not(child));
            }
            out.extend(none);
            if keyword == "oneOf" {
                out.push(opaque(kind, id, "oneOf", true)); // fits several
            }
        }
        if let Some(child) = self.docs.child(id, "not") {
            out.extend(self.of(kind, &Term::Is(child)).iter().cloned());
        }
        if let Some(condition) = self.docs.child(id, "if") {
            if let Some(then) = self.docs.child(id, "then") {
                out.extend(self.guarded(kind, &Term::Is(condition), Some(Term::Not(then))));
            }
            if let Some(other) = self.docs.child(id, "else") {
                out.extend(self.guarded(kind, &Term::Not(condition), Some(Term::Not(other))));
            }
        }
        out.retain(|clause| !is_contradiction(clause));
        if out.iter().any(Clause::is_any) {
            return vec![Clause::any(kind)];
        }
        if out.len() > CLAUSES_MAX {
            return vec![unknown(kind, &Term::Not(id))];
        }
        out
    }

    /// Returns what breaks a pattern, a format, items or members.
    fn broken_parts(&mut self, kind: Kind, own: &Clause<'a>) -> Vec<Clause<'a>> {
        let any = || Clause::any(kind);
        let negated = |at: At| Clause { opaque: vec![Opaque { at, negated: true }], ..Clause::any(kind) };
        let mut out = Vec::new();
        out.extend(own.patterns.iter().map(|(_, at)| negated(*at)));
        out.extend(own.formats.iter().map(|(_, at)| negated(*at)));
        out.extend(own.opaque.iter().map(|opaque| negated(opaque.at)));
        for (at, terms) in own.first.iter().enumerate() {
            for not in terms.iter().filter_map(inverse) {
                let mut clause = any();
                clause.size.min = at as u64 + 1;
                clause.first = vec![Vec::new(); at];
                clause.first.push(vec![not]);
                out.push(clause);
            }
        }
        for not in own.rest.iter().filter_map(inverse) {
            let mut clause = any();
            match (own.first.is_empty(), own.listed) {
                (true, Some(at)) => {
                    clause.contains.push(Contains { item: not, min: 1, max: None, at });
                    (clause.size.min, clause.size.min_at) = (1, Some(At { id: at.id, keyword: "contains" }));
                }
                _ => clause
                    .opaque
                    .extend(term_at(&not).map(|id| Opaque { at: At { id, keyword: "items" }, negated: true })),
            }
            out.push(clause);
        }
        out.extend(own.unique.map(negated));
        for contains in &own.contains {
            match (contains.min, contains.max, inverse(&contains.item)) {
                (1, None, Some(not)) => out.push(Clause { rest: vec![not], ..any() }),
                _ => out.push(negated(contains.at)),
            }
        }
        for name in own.required.keys() {
            out.push(Clause { members: vec![member(name, Term::Never, own.required[name].id)], ..any() });
        }
        for members in &own.members {
            for (name, term) in &members.named {
                if let Some(not) = inverse(term) {
                    let mut clause = Clause { members: vec![member(name, not, members.at)], ..any() };
                    clause.required.insert(name, At { id: members.at, keyword: "properties" });
                    out.push(clause);
                }
            }
            if !members.patterns.is_empty() {
                out.push(negated(At { id: members.at, keyword: "patternProperties" }));
            }
            if members.others.is_some() {
                out.push(negated(At { id: members.at, keyword: "additionalProperties" }));
            }
        }
        if !own.names.is_empty() {
            out.extend(term_at(&own.names[0]).map(|id| negated(At { id, keyword: "propertyNames" })));
        }
        for (name, needed, at) in &own.dependent {
            for other in needed {
                let mut clause = Clause { members: vec![member(other, Term::Never, at.id)], ..any() };
                clause.required.insert(name, *at);
                out.push(clause);
            }
        }
        for (name, term, at) in &own.dependent_schemas {
            if let Some(not) = inverse(term) {
                let mut present = any();
                present.required.insert(name, *at);
                let outside = self.of(kind, &not);
                out.extend(self.product(&[present], &outside, &not));
            }
        }
        out
    }
}

/// Returns the other side of a condition on a subschema.
pub(super) fn inverse(term: &Term) -> Option<Term> {
    match term {
        Term::Is(id) => Some(Term::Not(*id)),
        Term::Not(id) => Some(Term::Is(*id)),
        Term::Kind(_) | Term::Value(_) | Term::Never => None,
    }
}

pub(super) fn term_at(term: &Term) -> Option<Id> {
    match term {
        Term::Is(id) | Term::Not(id) => Some(*id),
        Term::Kind(_) | Term::Value(_) | Term::Never => None,
    }
}

fn member<'a>(name: &'a str, term: Term, at: Id) -> Members<'a> {
    Members { named: BTreeMap::from([(name, term)]), patterns: Vec::new(), others: None, at }
}

/// Returns the ranges outside of a clause's own.
fn broken_range<'a>(kind: Kind, own: &Clause<'a>) -> Vec<Clause<'a>> {
    let mut out = Vec::new();
    let turned = |bound: Bound| Bound { exclusive: !bound.exclusive, ..bound };
    if let Some(bound) = own.lower {
        out.push(Clause { upper: Some(turned(bound)), ..Clause::any(kind) });
    }
    if let Some(bound) = own.upper {
        out.push(Clause { lower: Some(turned(bound)), ..Clause::any(kind) });
    }
    for (_, at) in &own.steps {
        out.push(Clause { opaque: vec![Opaque { at: *at, negated: true }], ..Clause::any(kind) });
    }
    if own.size.min > 0 {
        let mut clause = Clause::any(kind);
        (clause.size.max, clause.size.max_at) = (Some(own.size.min - 1), own.size.min_at);
        // `contains` raises the minimum as well, and is turned around for itself.
        if own.size.min_at.is_none_or(|at| at.keyword != "contains") {
            out.push(clause);
        }
    }
    if let Some(max) = own.size.max {
        let mut clause = Clause::any(kind);
        (clause.size.min, clause.size.min_at) = (max.saturating_add(1), own.size.max_at);
        out.push(clause);
    }
    out
}

/// Says whether `type` lets a kind through, and whether only its whole numbers.
pub(super) fn type_fits(types: &Value, kind: Kind) -> (bool, bool) {
    let listed: Vec<&str> = match types {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return (true, false),
    };
    let whole_only = kind == Kind::Number && !listed.contains(&"number");
    let fits = listed.contains(&kind.word()) || (whole_only && listed.contains(&"integer"));
    (fits, fits && whole_only)
}

fn opaque<'a>(kind: Kind, id: Id, keyword: &'static str, negated: bool) -> Clause<'a> {
    Clause { opaque: vec![Opaque { at: At { id, keyword }, negated }], ..Clause::any(kind) }
}

/// Returns the clause that stands for a term as a whole.
fn unknown<'a>(kind: Kind, term: &Term) -> Clause<'a> {
    match term {
        Term::Is(id) => opaque(kind, *id, "$self", false),
        Term::Not(id) => opaque(kind, *id, "$self", true),
        Term::Kind(_) | Term::Value(_) | Term::Never => Clause::any(kind),
    }
}

/// True where a look at the bounds shows that nothing fits.
pub(super) fn is_contradiction(clause: &Clause<'_>) -> bool {
    if clause.values.as_ref().is_some_and(Vec::is_empty) || (clause.broken && clause.whole.is_some()) {
        return true;
    }
    if clause.size.max.is_some_and(|max| max < clause.size.min) {
        return true;
    }
    if let (Some(lower), Some(upper)) = (clause.lower, clause.upper) {
        let (mut from, mut to) = (lower.limit, upper.limit);
        if clause.whole.is_some() {
            (from, to) = whole_range(&lower, &upper);
            return from > to;
        }
        return from > to || (from == to && (lower.exclusive || upper.exclusive));
    }
    false
}

/// Returns the first and the last whole number in a range.
pub(super) fn whole_range(lower: &Bound, upper: &Bound) -> (Num, Num) {
    (first_whole(lower), last_whole(upper))
}

pub(super) fn first_whole(lower: &Bound) -> Num {
    let from = lower.limit.ceil();
    if lower.exclusive && from == lower.limit { from.plus(1) } else { from }
}

pub(super) fn last_whole(upper: &Bound) -> Num {
    let to = upper.limit.floor();
    if upper.exclusive && to == upper.limit { to.plus(-1) } else { to }
}
