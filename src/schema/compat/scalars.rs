//! Numbers and texts: whether the range, the steps, the lengths, patterns and formats of one clause lie
//! within those of another.

use std::rc::Rc;

use serde_json::Value;

use super::Profile;
use super::clause::{At, Clause, Kind};
use super::gap::{Outcome, Place, Proof};
use super::include::Checker;
use super::normal::{first_whole, last_whole};
use super::number::Num;
use super::pattern;
use super::value::format_within;

/// A range of whole numbers up to this long is counted.
const FEW: i128 = 256;

/// Returns the values of a short range of whole numbers.
pub(super) fn few_numbers(clause: &Clause<'_>) -> Option<Vec<Rc<Value>>> {
    clause.whole?;
    let (Num::Whole(from), Num::Whole(to)) = (first_whole(&clause.lower?), last_whole(&clause.upper?)) else {
        return None;
    };
    (to.checked_sub(from)? <= FEW).then(|| (from..=to).map(|whole| Rc::new(Num::Whole(whole).to_value())).collect())
}

impl<'a> Checker<'a> {
    fn narrowed(
        &self,
        rule: &'static str,
        writer: Option<At>,
        reader: impl Into<Option<At>>,
        message: String,
    ) -> Outcome {
        let place = |at: Option<At>| at.map_or_else(Place::default, |at| self.docs().place(at));
        Outcome::of(Proof::No, self.gap(rule, place(writer), place(reader.into()), message))
    }

    pub(super) fn number_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let mut outcome = Outcome::yes();
        let whole = from.whole.is_some() || from.steps.iter().any(|(step, _)| step.is_whole());
        if let Some(bound) = to.lower {
            let held = from.lower.is_some_and(|own| {
                let (own_from, to_from) =
                    if whole { (first_whole(&own), first_whole(&bound)) } else { (own.limit, bound.limit) };
                own_from > to_from || (own_from == to_from && (whole || own.exclusive || !bound.exclusive))
            });
            if !held {
                let message = "lower numbers can no longer be there".to_owned();
                outcome.and(self.narrowed("minimum_raised", from.lower.map(|own| own.at), bound.at, message));
            }
        }
        if let Some(bound) = to.upper {
            let held = from.upper.is_some_and(|own| {
                let (own_to, to_to) =
                    if whole { (last_whole(&own), last_whole(&bound)) } else { (own.limit, bound.limit) };
                own_to < to_to || (own_to == to_to && (whole || own.exclusive || !bound.exclusive))
            });
            if !held {
                let message = "higher numbers can no longer be there".to_owned();
                outcome.and(self.narrowed("maximum_lowered", from.upper.map(|own| own.at), bound.at, message));
            }
        }
        if let Some(at) = to.whole
            && !whole
        {
            let message = "numbers with a fraction can no longer be there".to_owned();
            outcome.and(self.narrowed("type_narrowed", None, at, message));
        }
        if to.broken && !from.broken {
            let gap =
                self.gap("value_excluded", Place::default(), Place::default(), "whole numbers can no longer be there");
            outcome.and(Outcome::of(Proof::No, gap));
        }
        for (step, at) in &to.steps {
            let held = from.steps.iter().any(|(own, _)| own.is_multiple_of(*step))
                || (whole && Num::Whole(1).is_multiple_of(*step));
            if !held {
                let own = from.steps.first().map(|(_, at)| *at);
                let message = "other multiples can no longer be there".to_owned();
                outcome.and(self.narrowed("multiple_of_narrowed", own, *at, message));
            }
        }
        outcome
    }

    /// Lengths, items and members are counted alike.
    pub(super) fn size_in(&mut self, from: &Clause<'a>, to: &Clause<'a>, least: u64, most: Option<u64>) -> Outcome {
        let (what, less, more) = match from.kind {
            Kind::Text => ("texts", "shorter", "longer"),
            Kind::Array => ("lists", "shorter", "longer"),
            _ => ("objects", "smaller", "larger"),
        };
        let rules = match from.kind {
            Kind::Text => ("min_length_raised", "max_length_lowered"),
            Kind::Array => ("min_items_raised", "max_items_lowered"),
            _ => ("min_properties_raised", "max_properties_lowered"),
        };
        let mut outcome = Outcome::yes();
        // `contains` has its own rule.
        if to.size.min > least && to.size.min_at.is_none_or(|at| at.keyword != "contains") {
            let message = format!("{less} {what} can no longer be there");
            outcome.and(self.narrowed(rules.0, from.size.min_at, to.size.min_at, message));
        }
        if to.size.max.is_some_and(|max| most.is_none_or(|most| most > max)) {
            let message = format!("{more} {what} can no longer be there");
            outcome.and(self.narrowed(rules.1, from.size.max_at, to.size.max_at, message));
        }
        outcome
    }

    pub(super) fn text_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let mut outcome = self.size_in(from, to, from.size.min, from.size.max);
        for (pattern, at) in &to.patterns {
            outcome.and(self.pattern_in(from, pattern, *at, self.profile));
        }
        for (format, at) in &to.formats {
            if from.formats.iter().any(|(own, _)| format_within(own, format)) {
                continue;
            }
            let own = from.formats.first().map(|(_, at)| *at);
            let message = format!("texts that are no {format} can no longer be there");
            let narrowed = self.narrowed("format_added", own, *at, message);
            // A pattern may give such texts only.
            outcome.and(if from.patterns.is_empty() { narrowed } else { narrowed.unsure() });
        }
        outcome
    }

    /// Says whether every text of a clause has a match of a pattern.
    pub(super) fn pattern_in(&mut self, from: &Clause<'a>, wanted: &str, at: At, profile: Profile) -> Outcome {
        if from.patterns.iter().any(|(own, _)| *own == wanted) {
            return Outcome::yes();
        }
        let own = from.patterns.first().map(|(_, at)| *at);
        let rule = if own.is_some() { "pattern_changed" } else { "pattern_added" };
        let narrowed = |this: &Self, proof| {
            let message = "texts that the pattern refuses can no longer be there".to_owned();
            Outcome { proof, ..this.narrowed(rule, own, at, message) }
        };
        if profile == Profile::Strict {
            let mut outcome = narrowed(self, Proof::No);
            outcome.gaps[0].of_profile = true;
            return outcome;
        }
        let owns: Vec<&str> = from.patterns.iter().map(|(own, _)| *own).collect();
        match pattern::within(&owns, wanted) {
            pattern::Within::Yes => Outcome::yes(),
            // The text that shows it may have another length or format than there is.
            pattern::Within::No(_) if from.size.min == 0 && from.size.max.is_none() && from.formats.is_empty() => {
                narrowed(self, Proof::No)
            }
            pattern::Within::No(_) | pattern::Within::Unsure => narrowed(self, Proof::Unsure),
        }
    }
}
