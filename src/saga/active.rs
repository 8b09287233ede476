//! A small sorted set: a run that waits has one step in it, and there are many runs.

use smallvec::SmallVec;

use super::at::StepAt;

/// Steps in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Active(SmallVec<[StepAt; 1]>);

impl Active {
    /// Adds a step that is not there.
    pub fn insert(&mut self, step: StepAt) {
        if let Err(at) = self.0.binary_search(&step) {
            self.0.insert(at, step);
        }
    }

    /// Takes a step away; a set that has become small gives its memory back.
    pub fn remove(&mut self, step: &StepAt) {
        if let Ok(at) = self.0.binary_search(step) {
            self.0.remove(at);
            if self.0.len() <= 1 {
                self.0.shrink_to_fit();
            }
        }
    }

    /// Goes through them in order.
    pub fn iter(&self) -> std::slice::Iter<'_, StepAt> {
        self.0.iter()
    }

    /// Returns the first.
    #[must_use]
    pub fn first(&self) -> Option<&StepAt> {
        self.0.first()
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Active {
    type Item = &'a StepAt;
    type IntoIter = std::slice::Iter<'a, StepAt>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stay_sorted_and_single() {
        let mut active = Active::default();
        for step in [3, 1, 2, 3, 1] {
            active.insert(StepAt::from(step));
        }
        assert_eq!(active.iter().map(|at| at.step).collect::<Vec<_>>(), [1, 2, 3]);
        active.remove(&StepAt::from(2));
        active.remove(&StepAt::from(7));
        active.remove(&StepAt::from(1));
        assert_eq!((active.len(), active.first().copied()), (1, Some(StepAt::from(3))));
    }
}
