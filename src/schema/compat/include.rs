//! Whether every document of the writer's schema fits the reader's. Alternatives are held against each other
//! clause by clause; a pair that is met again inside itself is taken to hold, as its documents are finite.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::Profile;
use super::clause::{At, Clause, Kind, Term, Terms};
use super::document::{Documents, Id, Origin};
use super::gap::{Gap, Outcome, Place, Proof, short};
use super::normal::{Clauses, Normal, is_contradiction, term_at};
use super::number::equal;
use super::same::Same;
use super::value::{member_terms, scalar_fits};

/// Pairs of schemas and clauses looked at; a thousand properties take a few thousand.
const WORK_MAX: u32 = 200_000;
/// Schemas inside each other; every one takes some KiB of a stack of 2 MiB.
const DEPTH_MAX: usize = 80;
/// Times that a clause is cut in two to find alternatives for both halves.
const SPLITS_MAX: u32 = 6;

pub(super) struct Checker<'a> {
    pub normal: Normal<'a>,
    pub profile: Profile,
    same: Same,
    work: u32,
    known: BTreeMap<(Terms, Terms), Outcome>,
    /// Pairs being compared, with how far out they stand.
    trail: BTreeMap<(Terms, Terms), usize>,
    /// The outermost pair that was taken to hold.
    assumed: usize,
    living: BTreeMap<(Kind, Terms), Clauses<'a>>,
    emptying: BTreeSet<Terms>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(docs: Documents<'a>, profile: Profile) -> Self {
        Self {
            normal: Normal::new(docs),
            profile,
            same: Same::default(),
            work: 0,
            known: BTreeMap::new(),
            trail: BTreeMap::new(),
            assumed: usize::MAX,
            living: BTreeMap::new(),
            emptying: BTreeSet::new(),
        }
    }

    pub(super) fn docs(&self) -> &Documents<'a> {
        &self.normal.docs
    }

    pub(super) fn same(&mut self, a: &Term, b: &Term) -> bool {
        self.same.terms(&mut self.normal.docs, a, b)
    }

    /// Counts work; false when it is used up.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.work += 1;
        self.work <= WORK_MAX
    }

    pub(super) fn gap(&self, rule: &'static str, writer: Place, reader: Place, message: impl Into<String>) -> Gap {
        Gap { rule, path: String::new(), writer, reader, message: message.into(), of_profile: false }
    }

    /// Says whether what fits all of `writer` fits all of `reader`.
    pub(super) fn within(&mut self, writer: &Terms, reader: &Terms) -> Outcome {
        let mut rest = Terms::new();
        for term in reader {
            let mut held = false;
            for own in writer {
                held = held || self.same(own, term);
            }
            if !held {
                rest.push(term.clone());
            }
        }
        if rest.is_empty() {
            return Outcome::yes();
        }
        if !self.may_go_on() || self.trail.len() > DEPTH_MAX {
            return self.too_much(writer, reader);
        }
        let key = (writer.clone(), rest);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if let Some(depth) = self.trail.get(&key) {
            self.assumed = self.assumed.min(*depth);
            return Outcome::yes();
        }
        let depth = self.trail.len();
        self.trail.insert(key.clone(), depth);
        let outside = std::mem::replace(&mut self.assumed, usize::MAX);
        let outcome = self.kinds(&key.0, &key.1);
        self.trail.remove(&key);
        let assumed = self.assumed;
        self.assumed = outside.min(if assumed < depth { assumed } else { usize::MAX });
        // What holds only if a pair further out holds is not known yet.
        if !outcome.is_yes() || assumed >= depth {
            self.known.insert(key, outcome.clone());
        }
        outcome
    }

    fn too_much(&self, writer: &Terms, reader: &Terms) -> Outcome {
        let places = self.places(writer, reader);
        let gap = self.gap(
            "too_much_to_compare",
            places.0,
            places.1,
            "the schemas are too deep or too large to be compared here",
        );
        Outcome::of(Proof::Unsure, gap)
    }

    pub(super) fn places(&self, writer: &[Term], reader: &[Term]) -> (Place, Place) {
        (self.docs().place_of_terms(writer, Origin::Writer), self.docs().place_of_terms(reader, Origin::Reader))
    }

    fn kinds(&mut self, writer: &Terms, reader: &Terms) -> Outcome {
        let mut outcome = Outcome::yes();
        let (mut missing, mut certain) = (Vec::new(), false);
        for kind in Kind::ALL {
            let from = self.living(kind, writer);
            if from.is_empty() {
                continue;
            }
            let to = self.normal.clauses(kind, reader);
            if to.is_empty() {
                missing.push(kind);
                certain |= from.iter().any(|clause| clause.opaque.is_empty());
                continue;
            }
            for clause in from.iter() {
                outcome.and(self.clause_within(clause, &to, (writer, reader), 0));
            }
        }
        if !missing.is_empty() {
            let words: Vec<&str> = missing.iter().map(|kind| kind.word()).collect();
            let message = format!("{} can no longer be there", words.join(", "));
            let gap = self.typed_gap(writer, reader, message);
            outcome.and(Outcome::of(if certain { Proof::No } else { Proof::Unsure }, gap));
        }
        outcome
    }

    fn typed_gap(&self, writer: &Terms, reader: &Terms, message: String) -> Gap {
        let place = |terms: &Terms, origin| {
            let ids = || terms.iter().filter_map(term_at).filter(|id| self.docs().origin(*id) == origin);
            let typed = ["type", "enum", "const", "oneOf", "anyOf", "not"].into_iter().find_map(|keyword| {
                ids().find(|id| self.docs().keyword(*id, keyword).is_some()).map(|id| At { id, keyword })
            });
            match typed {
                Some(at) => self.docs().place(at),
                None => self.docs().place_of_terms(terms, origin),
            }
        };
        self.gap("type_narrowed", place(writer, Origin::Writer), place(reader, Origin::Reader), message)
    }

    /// Says whether a clause fits one of several, or each part of it one of them.
    pub(super) fn clause_within(
        &mut self,
        from: &Clause<'a>,
        to: &[Clause<'a>],
        (writer, reader): (&Terms, &Terms),
        splits: u32,
    ) -> Outcome {
        if let Some(values) = &from.values {
            return self.counted(from, &values.clone(), (writer, reader));
        }
        if !self.may_go_on() {
            return self.too_much(writer, reader);
        }
        let mut nearest: Option<Outcome> = None;
        for clause in to {
            let outcome = self.clause_in(from, clause);
            if outcome.is_yes() {
                return outcome;
            }
            if nearest.as_ref().is_none_or(|nearest| outcome.gaps.len() < nearest.gaps.len()) {
                nearest = Some(outcome);
            }
        }
        let Some(nearest) = nearest else { return Outcome::yes() };
        if to.len() == 1 {
            return nearest;
        }
        if splits < SPLITS_MAX
            && let Some(parts) = self.split(from, to)
        {
            let mut whole = Outcome::yes();
            for part in parts {
                if !self.dead(&part) {
                    whole.and(self.clause_within(&part, to, (writer, reader), splits + 1));
                }
            }
            return whole;
        }
        let (old, new) = self.places(writer, reader);
        let message = format!("no alternative takes every {} that could be there", from.kind.word());
        let mut outcome = Outcome::of(Proof::Unsure, self.gap("no_alternative", old, new, message));
        outcome.gaps.extend(nearest.gaps.into_iter().filter(|gap| !gap.of_profile).take(3));
        outcome
    }

    /// Holds values one by one against the reader.
    fn counted(&mut self, from: &Clause<'a>, values: &[Rc<Value>], (writer, reader): (&Terms, &Terms)) -> Outcome {
        let (mut refused, mut unsure) = (Vec::new(), Vec::new());
        for value in values {
            let there = self.normal.fits(value, writer);
            if there == Some(false) {
                continue;
            }
            match (self.normal.fits(value, reader), there) {
                (Some(true), _) => {}
                (Some(false), Some(true)) => refused.push(value),
                _ => unsure.push(value),
            }
        }
        let all = |values: &[&Rc<Value>]| values.iter().map(|value| short(value)).collect::<Vec<_>>().join(", ");
        let (old, new) = self.places(writer, reader);
        let old = from.values_at.map_or(old, |at| self.docs().place(at));
        let new = self.value_place(reader).unwrap_or(new);
        match (refused.is_empty(), unsure.is_empty()) {
            (true, true) => Outcome::yes(),
            (false, _) => {
                let message = format!("{} can no longer be there", all(&refused));
                Outcome::of(Proof::No, self.gap("value_removed", old, new, message))
            }
            (true, false) => {
                let message = format!("whether {} can be there was not found out", all(&unsure));
                Outcome::of(Proof::Unsure, self.gap("value_removed", old, new, message))
            }
        }
    }

    fn value_place(&self, terms: &Terms) -> Option<Place> {
        let ids = terms.iter().filter_map(term_at).filter(|id| self.docs().origin(*id) == Origin::Reader);
        let mut at = ids.flat_map(|id| ["enum", "const", "type"].map(|keyword| At { id, keyword }));
        at.find(|at| self.docs().keyword(at.id, at.keyword).is_some()).map(|at| self.docs().place(at))
    }

    /// Says whether a clause fits another one.
    fn clause_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let mut outcome = Outcome::yes();
        if let (Some(_), Some(at)) = (&to.values, to.values_at) {
            outcome.and(self.values_in(from, to, at));
        }
        for (value, at) in &to.not_values {
            let held =
                from.not_values.iter().any(|(own, _)| equal(own, value)) || scalar_fits(from, value) == Some(false);
            if !held {
                let message = format!("{} can no longer be there", short(value));
                let gap = self.gap("value_excluded", Place::default(), self.docs().place(*at), message);
                let certain = matches!(**value, Value::Number(_) | Value::String(_));
                outcome.and(Outcome::of(if certain { Proof::No } else { Proof::Unsure }, gap));
            }
        }
        match from.kind {
            // Their values are counted.
            Kind::Null | Kind::Boolean => {}
            Kind::Number => outcome.and(self.number_in(from, to)),
            Kind::Text => outcome.and(self.text_in(from, to)),
            Kind::Array => outcome.and(self.items_in(from, to)),
            Kind::Object => outcome.and(self.members_in(from, to)),
        }
        for other in to.outside.clone() {
            outcome.and(self.kept_outside(from, other));
        }
        for wanted in &to.opaque {
            let mut held = false;
            for own in &from.opaque {
                held = held
                    || own.negated == wanted.negated
                        && own.at.keyword == wanted.at.keyword
                        && (self.same(&Term::Is(own.at.id), &Term::Is(wanted.at.id))
                            || self.same_value(own.at, wanted.at));
            }
            if !held {
                let message = format!("`{}` is not compared here", wanted.at.keyword.trim_start_matches('$'));
                let gap = self.gap("not_compared", Place::default(), self.docs().place(wanted.at), message);
                outcome.and(Outcome::of(Proof::Unsure, gap));
            }
        }
        if from.opaque.is_empty() { outcome } else { outcome.unsure() }
    }

    /// True for keywords without subschemas that have the same value.
    fn same_value(&self, a: At, b: At) -> bool {
        ["pattern", "format", "multipleOf", "uniqueItems"].contains(&a.keyword)
            && matches!((self.docs().keyword(a.id, a.keyword), self.docs().keyword(b.id, b.keyword)), (Some(a), Some(b)) if equal(a, b))
    }

    fn values_in(&mut self, from: &Clause<'a>, to: &Clause<'a>, at: At) -> Outcome {
        let listed = to.values.as_deref().unwrap_or_default();
        if let Some(values) = super::scalars::few_numbers(from)
            && values.iter().all(|value| listed.iter().any(|one| equal(one, value)))
        {
            return Outcome::yes();
        }
        let message = format!("only certain values of kind {} can be there", from.kind.word());
        Outcome::of(Proof::No, self.gap("enum_added", Place::default(), self.docs().place(at), message))
    }

    /// Says whether a clause stays out of another branch of the reader's `oneOf`.
    fn kept_outside(&mut self, from: &Clause<'a>, other: Id) -> Outcome {
        let clauses = self.normal.clauses(from.kind, &[Term::Is(other)]);
        if clauses.iter().all(|clause| self.dead(&from.and(clause))) {
            return Outcome::yes();
        }
        for own in &from.outside {
            if self.within(&vec![Term::Is(other)], &vec![Term::Is(*own)]).is_yes() {
                return Outcome::yes();
            }
        }
        let overlaps = clauses.iter().any(|clause| self.clause_in(from, clause).is_yes());
        let message = "it may fit several branches of `oneOf`, of which only one is allowed";
        let gap = self.gap("branches_overlap", Place::default(), self.docs().place_of(other), message);
        Outcome::of(if overlaps { Proof::No } else { Proof::Unsure }, gap)
    }

    /// Returns the alternatives that some value fits, as far as can be seen.
    pub(super) fn living(&mut self, kind: Kind, terms: &Terms) -> Clauses<'a> {
        if let Some(known) = self.living.get(&(kind, terms.clone())) {
            return Rc::clone(known);
        }
        let all = self.normal.clauses(kind, terms);
        let dead: Vec<bool> = all.iter().map(|clause| self.dead(clause)).collect();
        let kept = if dead.contains(&true) {
            Rc::new(all.iter().zip(&dead).filter(|(_, dead)| !**dead).map(|(clause, _)| clause.clone()).collect())
        } else {
            all
        };
        self.living.insert((kind, terms.clone()), Rc::clone(&kept));
        kept
    }

    /// True where nothing fits all terms.
    pub(super) fn is_empty(&mut self, terms: &Terms) -> bool {
        if terms.is_empty() {
            return false;
        }
        if terms.contains(&Term::Never) {
            return true;
        }
        if self.emptying.len() > DEPTH_MAX || !self.emptying.insert(terms.clone()) {
            return false; // not known, so nothing is concluded
        }
        let empty = Kind::ALL.iter().all(|kind| self.living(*kind, terms).is_empty());
        self.emptying.remove(terms);
        empty
    }

    /// True where it is plain that no value fits a clause.
    pub(super) fn dead(&mut self, clause: &Clause<'a>) -> bool {
        if is_contradiction(clause) {
            return true;
        }
        if let (Some(values), Kind::Number | Kind::Text) = (&clause.values, clause.kind) {
            let excluded = |value: &Value| clause.not_values.iter().any(|(not, _)| equal(not, value));
            return values.iter().all(|value| excluded(value) || scalar_fits(clause, value) == Some(false));
        }
        match clause.kind {
            Kind::Null | Kind::Boolean | Kind::Number | Kind::Text => false,
            Kind::Array => {
                let needed = usize::try_from(clause.size.min).unwrap_or(usize::MAX).min(clause.first.len() + 1);
                (0..needed).any(|at| self.is_empty(clause.item(at)))
            }
            Kind::Object => {
                if clause.size.max.is_some_and(|max| max < clause.required.len() as u64) {
                    return true;
                }
                let names: Vec<&str> = clause.required.keys().copied().collect();
                names.into_iter().any(|name| {
                    let terms = self.member(clause, name).0;
                    self.is_empty(&terms)
                })
            }
        }
    }

    /// Returns what a member has to fit; false beside it if a pattern cannot be read.
    pub(super) fn member(&mut self, clause: &Clause<'a>, name: &str) -> (Terms, bool) {
        let (terms, sure) = member_terms(clause, name);
        let mut terms: Terms = terms.into_iter().collect();
        if !clause.names.is_empty() && self.normal.fits(&Value::from(name), &clause.names) == Some(false) {
            terms = vec![Term::Never];
        }
        (terms, sure)
    }
}
