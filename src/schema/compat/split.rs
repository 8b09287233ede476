//! Cuts a clause into parts that together are the whole, along what the reader's alternatives differ in: a
//! bound, a length, the value or kind of a member, its being there.

use std::rc::Rc;

use serde_json::Value;

use super::clause::{At, Bound, Clause, Kind, Members, Term, Terms};
use super::include::Checker;

/// Values of one member that are looked at one by one.
const VALUES_MAX: usize = 16;

impl<'a> Checker<'a> {
    /// Returns the parts; none where no cut is known.
    pub(super) fn split(&mut self, from: &Clause<'a>, to: &[Clause<'a>]) -> Option<Vec<Clause<'a>>> {
        match from.kind {
            Kind::Null | Kind::Boolean => None,
            Kind::Number => split_number(from, to),
            Kind::Text | Kind::Array => split_size(from, to),
            Kind::Object => split_size(from, to).or_else(|| self.split_member(from, to)),
        }
    }

    fn split_member(&mut self, from: &Clause<'a>, to: &[Clause<'a>]) -> Option<Vec<Clause<'a>>> {
        let mut names: Vec<(&'a str, At)> = Vec::new();
        for clause in to {
            let required = clause.required.iter().map(|(name, at)| (*name, *at));
            let named = clause.members.iter().flat_map(|members| {
                members.named.keys().map(|name| (*name, At { id: members.at, keyword: "properties" }))
            });
            for (name, at) in named.chain(required) {
                if !names.iter().any(|(known, _)| *known == name) {
                    names.push((name, at));
                }
            }
        }
        // First the members that are always there: their values tell the alternatives apart most often.
        names.sort_by_key(|(name, _)| !from.required.contains_key(name));
        for (name, at) in &names {
            if let Some(parts) = self.split_values(from, name, *at) {
                return Some(parts);
            }
        }
        for (name, at) in &names {
            if !from.required.contains_key(name) && to.iter().any(|clause| clause.required.contains_key(name)) {
                let terms = self.member(from, name).0;
                if !self.is_empty(&terms) {
                    return Some(vec![with_member(from, name, Term::Never, *at), present(from, name, *at)]);
                }
            }
        }
        None
    }

    /// Cuts along a member's values, or its kinds.
    fn split_values(&mut self, from: &Clause<'a>, name: &'a str, at: At) -> Option<Vec<Clause<'a>>> {
        let terms: Terms = self.member(from, name).0;
        if terms.is_empty() {
            return None;
        }
        let mut values: Option<Vec<Rc<Value>>> = Some(Vec::new());
        let mut kinds = Vec::new();
        for kind in Kind::ALL {
            let clauses = self.living(kind, &terms);
            if clauses.is_empty() {
                continue;
            }
            kinds.push(kind);
            for clause in clauses.iter() {
                match (&mut values, &clause.values) {
                    (Some(all), Some(of_clause)) => all.extend(of_clause.iter().cloned()),
                    _ => values = None,
                }
            }
        }
        let choices: Vec<Term> = match values {
            Some(values) if (2..=VALUES_MAX).contains(&values.len()) => {
                values.into_iter().map(|value| self.normal.value_term(value)).collect()
            }
            _ if kinds.len() > 1 => kinds.into_iter().map(Term::Kind).collect(),
            _ => return None,
        };
        let mut parts: Vec<Clause<'a>> =
            choices.into_iter().map(|choice| with_member(&present(from, name, at), name, choice, at)).collect();
        if !from.required.contains_key(name) {
            parts.push(with_member(from, name, Term::Never, at));
        }
        Some(parts)
    }
}

fn present<'a>(from: &Clause<'a>, name: &'a str, at: At) -> Clause<'a> {
    let mut clause = from.clone();
    clause.required.entry(name).or_insert(at);
    clause
}

fn with_member<'a>(from: &Clause<'a>, name: &'a str, term: Term, at: At) -> Clause<'a> {
    let mut clause = from.clone();
    let named = std::collections::BTreeMap::from([(name, term)]);
    clause.members.push(Members { named, patterns: Vec::new(), others: None, at: at.id });
    clause
}

fn split_number<'a>(from: &Clause<'a>, to: &[Clause<'a>]) -> Option<Vec<Clause<'a>>> {
    let inside = |limit| {
        from.lower.is_none_or(|lower| lower.limit < limit) && from.upper.is_none_or(|upper| upper.limit > limit)
    };
    for clause in to {
        for (bound, is_lower) in clause.lower.map(|b| (b, true)).into_iter().chain(clause.upper.map(|b| (b, false))) {
            if inside(bound.limit) {
                // What is cut off below ends where the other part begins.
                let other = Bound { exclusive: !bound.exclusive, ..bound };
                let (lower, upper) = if is_lower { (bound, other) } else { (other, bound) };
                return Some(vec![
                    Clause { upper: Some(upper), ..from.clone() },
                    Clause { lower: Some(lower), ..from.clone() },
                ]);
            }
        }
    }
    let whole = to.iter().find_map(|clause| clause.whole);
    match whole {
        Some(at) if from.whole.is_none() && !from.broken => {
            Some(vec![Clause { whole: Some(at), ..from.clone() }, Clause { broken: true, ..from.clone() }])
        }
        _ => None,
    }
}

fn split_size<'a>(from: &Clause<'a>, to: &[Clause<'a>]) -> Option<Vec<Clause<'a>>> {
    // The first size of the upper part, and where it is written.
    let cuts = to.iter().flat_map(|clause| {
        let min = Some((clause.size.min, clause.size.min_at)).filter(|(min, _)| *min > 0);
        let max = clause.size.max.and_then(|max| max.checked_add(1)).map(|next| (next, clause.size.max_at));
        min.into_iter().chain(max)
    });
    for (cut, at) in cuts {
        if cut > from.size.min && from.size.max.is_none_or(|max| cut <= max) {
            let (mut below, mut above) = (from.clone(), from.clone());
            (below.size.max, below.size.max_at) = (Some(cut - 1), at);
            (above.size.min, above.size.min_at) = (cut, at);
            return Some(vec![below, above]);
        }
    }
    None
}
