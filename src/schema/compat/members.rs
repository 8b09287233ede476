//! Objects: whether the members of one clause, by name, by pattern and all others, fit those of another.
//! Here the profiles differ: what a document may hold beyond what its schema names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Profile;
use super::clause::{At, Clause, Kind, Members, Term, Terms};
use super::gap::{Outcome, Place, Proof};
use super::include::Checker;
use super::normal::term_at;
use super::value::{is_covered, member_terms};

/// Combinations of what unnamed members may be; several `patternProperties` under several `allOf` multiply.
const COMBINATIONS_MAX: usize = 64;

/// Returns a name as a part of a JSON pointer.
fn part(name: &str) -> String {
    format!("/{}", super::super::compile::escaped(name))
}

impl<'a> Checker<'a> {
    pub(super) fn members_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let least = from.size.min.max(from.required.len() as u64);
        let most = self.members_max(from);
        let mut outcome = self.size_in(from, to, least, most);
        for (name, at) in &to.required {
            if !from.required.contains_key(name) {
                let message = format!("`{name}` must be there, which it need not have been");
                let own = from.members.first().map_or_else(Place::default, |own| self.docs().place_of(own.at));
                let gap = self.gap("property_required", own, self.docs().place(*at), message);
                outcome.and(Outcome::of(Proof::No, gap).below(&part(name)));
            }
        }
        let names: BTreeSet<&'a str> =
            from.members.iter().chain(&to.members).flat_map(|members| members.named.keys().copied()).collect();
        for name in names {
            outcome.and(self.named(from, to, name).below(&part(name)));
        }
        for members in &to.members {
            outcome.and(self.unnamed(from, members));
        }
        outcome.and(self.names_in(from, to));
        outcome.and(self.dependent_in(from, to));
        outcome
    }

    /// True for a condition that everything fits.
    fn is_trivial(&self, term: &Term) -> bool {
        match term {
            Term::Is(id) => match self.docs().schema(*id) {
                Value::Bool(all) => *all,
                Value::Object(members) => members.is_empty(),
                Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
            },
            Term::Not(_) | Term::Kind(_) | Term::Value(_) | Term::Never => false,
        }
    }

    /// True where a clause says nothing of a name, neither by itself nor by a pattern, and lets it be there.
    fn is_undeclared(&self, clause: &Clause<'a>, name: &str) -> bool {
        let covered = |members: &Members<'a>| members.patterns.iter().any(|(pattern, _)| is_covered(pattern, name));
        !clause.names_member(name)
            && !clause.required.contains_key(name)
            && !clause.members.iter().any(covered)
            && clause.members.iter().all(|members| members.others.as_ref().is_none_or(|term| self.is_trivial(term)))
    }

    fn named(&mut self, from: &Clause<'a>, to: &Clause<'a>, name: &'a str) -> Outcome {
        if to.names_member(name) && self.is_undeclared(from, name) {
            match self.profile {
                // Who has not declared a name does not write it.
                Profile::Lenient => return Outcome::yes(),
                Profile::Strict => {
                    let own = from.members.first().map_or_else(Place::default, |own| self.docs().place_of(own.at));
                    let reader = to.members.iter().find_map(|members| members.named.get(name)).and_then(term_at);
                    let place = reader.map_or_else(Place::default, |id| self.docs().place_of(id));
                    let message = format!("`{name}` could be there already, with any value");
                    let mut gap = self.gap("property_added_to_open_content", own, place, message);
                    gap.of_profile = true;
                    return Outcome::of(Proof::No, gap);
                }
            }
        }
        let (writer, _) = self.member(from, name);
        if self.is_empty(&writer) {
            return Outcome::yes();
        }
        if self.profile == Profile::Strict && from.names_member(name) && !to.names_member(name) {
            let patterned = || to.members.iter().flat_map(|members| &members.patterns);
            let open =
                to.members.iter().all(|members| members.others.as_ref().is_none_or(|term| self.is_trivial(term)));
            if open && patterned().next().is_some() && !patterned().any(|(pattern, _)| is_covered(pattern, name)) {
                let writer = self.places(&writer, &[]).0;
                let reader = to.members.first().map_or_else(Place::default, |to| self.docs().place_of(to.at));
                let message = format!("`{name}` is no longer described, not by a pattern either");
                let mut gap = self.gap("property_removed_not_covered", writer, reader, message);
                gap.of_profile = true;
                return Outcome::of(Proof::No, gap);
            }
        }
        let mut outcome = Outcome::yes();
        match self.normal.fits(&Value::from(name), &to.names) {
            Some(true) => {}
            answer => {
                let places = self.places(&writer, &to.names);
                let message = format!("a member `{name}` can no longer be there");
                let gap = self.gap("property_names_narrowed", places.0, places.1, message);
                outcome.and(Outcome::of(if answer.is_some() { Proof::No } else { Proof::Unsure }, gap));
            }
        }
        let (terms, sure) = member_terms(to, name);
        let reader: Terms = terms.into_iter().collect();
        if self.is_empty(&reader) {
            let places = self.places(&writer, &[]);
            let closing = to.members.iter().find(|members| !members.named.contains_key(name));
            let place =
                closing.map(|members| self.docs().place(At { id: members.at, keyword: "additionalProperties" }));
            let place = place.unwrap_or_else(|| self.places(&[], &reader).1);
            let message = format!("`{name}` can no longer be there");
            outcome.and(Outcome::of(Proof::No, self.gap("property_refused", places.0, place, message)));
            return outcome;
        }
        let fits = self.within(&writer, &reader);
        outcome.and(if sure { fits } else { fits.unsure() });
        if !sure {
            let gap = self.gap("not_compared", Place::default(), Place::default(), "a pattern that cannot be read");
            outcome.and(Outcome::of(Proof::Unsure, gap));
        }
        outcome
    }

    /// Holds members that nobody names against the reader's patterns and its word on all others.
    fn unnamed(&mut self, from: &Clause<'a>, to: &Members<'a>) -> Outcome {
        let mut outcome = Outcome::yes();
        let classes = to.patterns.iter().map(|(pattern, term)| (Some(*pattern), term, "patternProperties"));
        let others = to.others.iter().map(|term| (None, term, "additionalProperties"));
        let hidden: Vec<&str> = to.patterns.iter().map(|(pattern, _)| *pattern).collect();
        for (pattern, term, keyword) in classes.chain(others) {
            let reader = vec![term.clone()];
            let refused = self.is_empty(&reader);
            let Some(options) = options(from, pattern, &hidden) else {
                let gap = self.gap("too_much_to_compare", Place::default(), Place::default(), "too many patterns");
                outcome.and(Outcome::of(Proof::Unsure, gap));
                continue;
            };
            for writer in options {
                if self.is_empty(&writer) {
                    continue;
                }
                let mut fits = if refused {
                    let own = self.places(&writer, &[]).0;
                    let place = self.docs().place(At { id: to.at, keyword });
                    let message = "members that the schema does not name can no longer be there";
                    Outcome::of(Proof::No, self.gap("additional_properties_refused", own, place, message))
                } else {
                    self.within(&writer, &reader)
                };
                if !from.names.is_empty() || pattern.is_some() {
                    fits = fits.unsure(); // there may be no such name
                }
                outcome.and(fits.below("/*"));
            }
        }
        outcome
    }

    /// True where only named members can be there.
    fn is_closed(&mut self, clause: &Clause<'a>) -> bool {
        let closing: Vec<Terms> = clause
            .members
            .iter()
            .filter(|members| members.patterns.is_empty())
            .filter_map(|members| members.others.clone().map(|term| vec![term]))
            .collect();
        closing.iter().any(|others| self.is_empty(others))
    }

    /// Returns how many members there can be.
    fn members_max(&mut self, clause: &Clause<'a>) -> Option<u64> {
        if !self.is_closed(clause) {
            return clause.size.max;
        }
        let names: BTreeSet<&'a str> =
            clause.members.iter().flat_map(|members| members.named.keys().copied()).collect();
        let mut count = 0;
        for name in names {
            let terms = self.member(clause, name).0;
            count += u64::from(!self.is_empty(&terms));
        }
        Some(clause.size.max.map_or(count, |max| max.min(count)))
    }

    /// Holds names against the reader's `propertyNames`; those that the writer names are looked at with them.
    fn names_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        if to.names.is_empty() || self.is_closed(from) {
            return Outcome::yes();
        }
        let mut names = from.names.clone();
        names.push(Term::Kind(Kind::Text));
        names.sort();
        // Names are compared by what is allowed, in both profiles.
        let profile = std::mem::replace(&mut self.profile, Profile::Lenient);
        let mut outcome = Outcome::yes();
        let reader = self.normal.clauses(Kind::Text, &to.names);
        for clause in self.living(Kind::Text, &names).iter() {
            let fits = self.clause_within(clause, &reader, (&names, &to.names), 0);
            if !fits.is_yes() {
                let places = self.places(&from.names, &to.names);
                let message = "members with other names can no longer be there";
                let gap = self.gap("property_names_narrowed", places.0, places.1, message);
                outcome.and(Outcome::of(fits.proof, gap));
            }
        }
        self.profile = profile;
        outcome
    }

    fn dependent_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let mut outcome = Outcome::yes();
        for (name, needed, at) in &to.dependent {
            if self.never_there(from, to, name) {
                continue;
            }
            let implied = implied(from, name);
            for other in needed.iter().filter(|other| !implied.contains(*other)) {
                let own = from.dependent.iter().find(|(own, ..)| own == name);
                let own = own.map_or_else(Place::default, |(.., at)| self.docs().place(*at));
                let message = format!("with `{name}` there, `{other}` must be there too, which it need not have been");
                let gap = self.gap("dependent_property_required", own, self.docs().place(*at), message);
                outcome.and(Outcome::of(Proof::No, gap).below(&part(other)));
            }
        }
        for (name, term, at) in &to.dependent_schemas {
            if self.never_there(from, to, name) {
                continue;
            }
            let mut present = from.clone();
            present.required.insert(name, *at);
            let mut own: Terms = Vec::new();
            for (other, term, _) in &from.dependent_schemas {
                if other == name {
                    own.push(term.clone());
                }
            }
            let reader = vec![term.clone()];
            let clauses = self.normal.clauses(Kind::Object, &reader);
            let held = own.iter().any(|own| self.same(own, term));
            if !held {
                let narrowed =
                    own.iter().flat_map(|own| self.normal.clauses(Kind::Object, std::slice::from_ref(own)).to_vec());
                let narrowed: Vec<Clause<'a>> = narrowed.map(|clause| present.and(&clause)).collect();
                let from = if narrowed.is_empty() { vec![present] } else { narrowed };
                for clause in &from {
                    if !self.dead(clause) {
                        outcome.and(self.clause_within(clause, &clauses, (&own, &reader), 0));
                    }
                }
            }
        }
        outcome
    }

    /// True where a member of a name cannot be, or is taken not to be, in a writer's document.
    fn never_there(&mut self, from: &Clause<'a>, to: &Clause<'a>, name: &str) -> bool {
        let terms = self.member(from, name).0;
        self.is_empty(&terms)
            || (self.profile == Profile::Lenient && to.names_member(name) && self.is_undeclared(from, name))
    }
}

/// Returns the names that are there whenever one is.
fn implied<'a>(clause: &Clause<'a>, name: &'a str) -> BTreeSet<&'a str> {
    let mut there: BTreeSet<&'a str> = clause.required.keys().copied().collect();
    there.insert(name);
    loop {
        let more: Vec<&'a str> = clause
            .dependent
            .iter()
            .filter(|(name, ..)| there.contains(name))
            .flat_map(|(_, needed, _)| needed.iter().copied())
            .filter(|name| !there.contains(name))
            .collect();
        if more.is_empty() {
            return there;
        }
        there.extend(more);
    }
}

/// Returns what members that no schema names may have to fit, one entry for each possibility: those whose
/// name has a match of a pattern, or those without a match of any hidden one.
fn options(from: &Clause<'_>, pattern: Option<&str>, hidden: &[&str]) -> Option<Vec<Terms>> {
    let mut all = vec![Terms::new()];
    for members in &from.members {
        let by_pattern = members.patterns.iter().find(|(own, _)| pattern == Some(*own));
        let mut choices: Vec<Option<Term>> = Vec::new();
        match by_pattern {
            Some((_, term)) => choices.push(Some(term.clone())),
            None => {
                let may_match = members.patterns.iter().filter(|(own, _)| pattern.is_some() || !hidden.contains(own));
                choices.extend(may_match.map(|(_, term)| Some(term.clone())));
                choices.push(members.others.clone());
            }
        }
        if all.len() * choices.len() > COMBINATIONS_MAX {
            return None;
        }
        all = all
            .iter()
            .flat_map(|terms| choices.iter().map(move |choice| super::clause::joined(terms, choice.as_slice())))
            .collect();
    }
    Some(all)
}
