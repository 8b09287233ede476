//! Which instance of a step or of a list: inside a `for` there is one for each item.

use std::borrow::Cow;
use std::fmt::Write;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::definition::{BlockIndex, FOR_DEPTH_MAX, ROOT, SagaDefinition, StepIndex};

const NONE: u32 = u32::MAX;

/// The item in each `for` around, from outside, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Items([u32; FOR_DEPTH_MAX]);

impl Items {
    /// Outside any `for`.
    pub const OUTSIDE: Self = Self([NONE; FOR_DEPTH_MAX]);

    /// Returns the items in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied().take_while(|item| *item != NONE)
    }

    /// Returns the item of one level.
    #[must_use]
    pub fn get(&self, level: u8) -> Option<u32> {
        self.0.get(usize::from(level)).copied().filter(|item| *item != NONE)
    }

    /// Returns the items of the outermost levels.
    #[must_use]
    pub fn outer(mut self, levels: u8) -> Self {
        self.0.iter_mut().skip(usize::from(levels)).for_each(|item| *item = NONE);
        self
    }

    /// Returns the same with one more level.
    #[must_use]
    pub fn inner(mut self, item: u32) -> Self {
        if let Some(free) = self.0.iter_mut().find(|item| **item == NONE) {
            *free = item;
        }
        self
    }
}

/// A step as a run meets it. Stored as its index, or as a list of the index and the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepAt {
    pub step: StepIndex,
    pub items: Items,
}

/// A list of steps as a run meets it. Stored like a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockAt {
    pub block: BlockIndex,
    pub items: Items,
}

impl From<StepIndex> for StepAt {
    fn from(step: StepIndex) -> Self {
        Self { step, items: Items::OUTSIDE }
    }
}

impl BlockAt {
    /// The top level.
    pub const ROOT: Self = Self { block: ROOT, items: Items::OUTSIDE };

    /// Returns the step that owns the list; none for the top level.
    #[must_use]
    pub fn owner(self, definition: &SagaDefinition) -> Option<StepAt> {
        let step = definition.block(self.block).owner?;
        Some(StepAt { step, items: self.items.outer(definition.step(step).items) })
    }

    /// Returns the n-th step of the list.
    #[must_use]
    pub fn nth(self, definition: &SagaDefinition, position: u32) -> Option<StepAt> {
        let step = *definition.block(self.block).steps.get(position as usize)?;
        Some(StepAt { step, items: self.items })
    }
}

impl StepAt {
    /// Returns the list that the step stands in.
    #[must_use]
    pub fn block(self, definition: &SagaDefinition) -> BlockAt {
        BlockAt { block: definition.step(self.step).block, items: self.items }
    }

    /// Returns one of the lists that the step owns; the `do` of a `for` needs its item.
    #[must_use]
    pub fn part(self, block: BlockIndex) -> BlockAt {
        BlockAt { block, items: self.items }
    }

    /// Returns the steps around, innermost first.
    pub fn around(self, definition: &SagaDefinition) -> impl Iterator<Item = StepAt> {
        std::iter::successors(self.block(definition).owner(definition), move |at| {
            at.block(definition).owner(definition)
        })
    }

    /// Returns where the instances of the step begin in the order of instances.
    #[must_use]
    pub fn items_from(self) -> Self {
        Self { step: self.step, items: Items([0; FOR_DEPTH_MAX]) }
    }

    /// Returns the path with item indexes: `lines[3]/send`.
    #[must_use]
    pub fn path(self, definition: &SagaDefinition) -> Cow<'_, str> {
        let path = &*definition.step(self.step).path;
        if self.items == Items::OUTSIDE {
            return Cow::Borrowed(path);
        }
        let mut out = String::with_capacity(path.len() + 8);
        let mut items = self.items.iter();
        for (at, piece) in path.split("[]").enumerate() {
            if at > 0 {
                match items.next() {
                    Some(item) => {
                        let _ = write!(out, "[{item}]");
                    }
                    None => out.push_str("[]"),
                }
            }
            out.push_str(piece);
        }
        Cow::Owned(out)
    }

    /// Returns a number that differs between instances, for spreading retries.
    #[must_use]
    pub fn number(self) -> u32 {
        self.items.iter().fold(self.step, |hash, item| hash.wrapping_mul(31).wrapping_add(item + 1))
    }
}

fn write<S: Serializer>(index: u32, items: &Items, serializer: S) -> Result<S::Ok, S::Error> {
    if *items == Items::OUTSIDE {
        return serializer.serialize_u32(index);
    }
    let mut list = serializer.serialize_seq(None)?;
    list.serialize_element(&index)?;
    for item in items.iter() {
        list.serialize_element(&item)?;
    }
    list.end()
}

struct Place;

impl<'de> Visitor<'de> for Place {
    type Value = (u32, Items);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an index, or a list of an index and the items")
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<Self::Value, E> {
        Ok((u32::try_from(index).map_err(E::custom)?, Items::OUTSIDE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let index = list.next_element()?.ok_or_else(|| A::Error::custom("the index is missing"))?;
        let (mut items, mut depth) = (Items::OUTSIDE, 0);
        while let Some(item) = list.next_element::<u32>()? {
            depth += 1;
            if item == NONE || depth > FOR_DEPTH_MAX {
                return Err(A::Error::custom("items nest deeper than a file can say"));
            }
            items = items.inner(item);
        }
        Ok((index, items))
    }
}

impl Serialize for StepAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.step, &self.items, serializer)
    }
}

impl<'de> Deserialize<'de> for StepAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (step, items) = deserializer.deserialize_any(Place)?;
        Ok(Self { step, items })
    }
}

impl Serialize for BlockAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(self.block, &self.items, serializer)
    }
}

impl<'de> Deserialize<'de> for BlockAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (block, items) = deserializer.deserialize_any(Place)?;
        Ok(Self { block, items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_as_number_or_list() {
        for (why, at, stored) in [
            ("outside", StepAt::from(3), "3"),
            ("an item", StepAt { step: 3, items: Items::OUTSIDE.inner(7) }, "[3,7]"),
            ("an item of an item", StepAt { step: 3, items: Items::OUTSIDE.inner(7).inner(0) }, "[3,7,0]"),
        ] {
            assert_eq!(serde_json::to_string(&at).unwrap(), stored, "{why}");
            assert_eq!(serde_json::from_str::<StepAt>(stored).unwrap(), at, "{why}");
        }
        for wrong in ["[]", "[1,1,1,1,1,1]", "-1", "[1,4294967295]", "\"3\""] {
            assert!(serde_json::from_str::<StepAt>(wrong).is_err(), "{wrong}");
        }
    }
}
