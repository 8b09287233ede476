//! Arrays: whether the items of one clause, place by place and behind, fit those of another.

use super::Profile;
use super::clause::{Clause, Contains, Terms};
use super::gap::{Outcome, Place, Proof};
use super::include::Checker;

/// Places compared one by one; longer tuples are compared up to here and said to be too long.
const FIRST_MAX: usize = 256;

impl<'a> Checker<'a> {
    pub(super) fn items_in(&mut self, from: &Clause<'a>, to: &Clause<'a>) -> Outcome {
        let most = self.items_max(from);
        let mut outcome = self.size_in(from, to, from.size.min, most);
        if let Some(at) = to.unique
            && from.unique.is_none()
            && most.is_none_or(|most| most > 1)
        {
            let message = "lists with equal items can no longer be there";
            let gap = self.gap("unique_items_added", Place::default(), self.docs().place(at), message);
            outcome.and(Outcome::of(Proof::No, gap));
        }
        if self.profile == Profile::Strict
            && let Some(listed) = from.listed.filter(|_| from.first.is_empty())
            && let Some(first) = to.first.first()
        {
            let places = self.places(&[], first);
            let message = "a list of equal items has become one with places of their own";
            let mut gap = self.gap("list_became_tuple", self.docs().place(listed), places.1, message);
            gap.of_profile = true;
            outcome.and(Outcome::of(Proof::No, gap));
        }
        let length = from.first.len().max(to.first.len());
        for at in 0..length.min(FIRST_MAX) {
            if most.is_none_or(|most| most > at as u64) {
                let item = self.within(from.item(at), to.item(at));
                outcome.and(item.below(&format!("/{at}")));
            }
        }
        if length > FIRST_MAX {
            let gap = self.gap("too_much_to_compare", Place::default(), Place::default(), "the tuple is too long");
            outcome.and(Outcome::of(Proof::Unsure, gap));
        }
        if most.is_none_or(|most| most > length as u64) {
            outcome.and(self.within(&from.rest, &to.rest).below("/*"));
        }
        for contains in &to.contains {
            outcome.and(self.contained(from, contains, most));
        }
        outcome
    }

    /// Returns how many items there can be.
    fn items_max(&mut self, clause: &Clause<'a>) -> Option<u64> {
        let closed = (0..=clause.first.len()).find(|at| self.is_empty(&clause.item(*at).clone()));
        match (clause.size.max, closed) {
            (Some(max), Some(closed)) => Some(max.min(closed as u64)),
            (max, closed) => max.or(closed.map(|closed| closed as u64)),
        }
    }

    fn contained(&mut self, from: &Clause<'a>, wanted: &Contains, most: Option<u64>) -> Outcome {
        let item: Terms = vec![wanted.item.clone()];
        let mut enough = wanted.min == 0;
        let mut few = wanted.max.is_none_or(|max| most.is_some_and(|most| most <= max));
        for own in &from.contains {
            let inner = self.within(&vec![own.item.clone()], &item).is_yes();
            enough = enough || (own.min >= wanted.min && inner);
            let outer = wanted.max.is_some_and(|max| own.max.is_some_and(|own| own <= max));
            few = few || (outer && self.within(&item, &vec![own.item.clone()]).is_yes());
        }
        if !enough {
            // Items that are surely there and fit.
            let mut sure = 0;
            let places = usize::try_from(from.size.min).unwrap_or(usize::MAX).min(from.first.len());
            for at in 0..places {
                sure += u64::from(self.within(from.item(at), &item).is_yes());
            }
            if from.size.min > places as u64 && self.within(&from.rest, &item).is_yes() {
                sure += from.size.min - places as u64;
            }
            enough = sure >= wanted.min;
        }
        if enough && few {
            return Outcome::yes();
        }
        let message = "lists without such an item can no longer be there";
        let gap = self.gap("contains_narrowed", Place::default(), self.docs().place(wanted.at), message);
        Outcome::of(Proof::Unsure, gap)
    }
}
