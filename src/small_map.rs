//! A sorted map that costs little while it is small: most runs have met few steps, and there are many runs.
//! A leaf of a `BTreeMap` has room for eleven entries from the first one on.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::RangeFrom;

/// Entries up to which they lie in one list.
const FEW_MAX: usize = 8;

/// Keys with their values, in the order of the keys.
#[derive(Debug, Clone)]
pub struct SmallMap<K, V>(Kept<K, V>);

#[derive(Debug, Clone)]
enum Kept<K, V> {
    /// Sorted by key.
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self(Kept::Few(Vec::new()))
    }
}

impl<K: Ord, V> SmallMap<K, V> {
    /// Returns a key's value.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Kept::Few(list) => list.binary_search_by(|(other, _)| other.cmp(key)).ok().map(|at| &list[at].1),
            Kept::Many(map) => map.get(key),
        }
    }

    /// Returns a key's value, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.0 {
            Kept::Few(list) => list.binary_search_by(|(other, _)| other.cmp(key)).ok().map(|at| &mut list[at].1),
            Kept::Many(map) => map.get_mut(key),
        }
    }

    /// True when the key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Puts a value under a key, in the place of one that is there.
    pub fn insert(&mut self, key: K, value: V) {
        if let Kept::Few(list) = &mut self.0 {
            match list.binary_search_by(|(other, _)| other.cmp(&key)) {
                Ok(at) => {
                    list[at].1 = value;
                    return;
                }
                Err(at) if list.len() < FEW_MAX => {
                    if list.len() == list.capacity() {
                        list.reserve_exact(list.len().max(1));
                    }
                    list.insert(at, (key, value));
                    return;
                }
                Err(_) => self.0 = Kept::Many(std::mem::take(list).into_iter().collect()),
            }
        }
        if let Kept::Many(map) = &mut self.0 {
            map.insert(key, value);
        }
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Few(list) => list.len(),
            Kept::Many(map) => map.len(),
        }
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes through all entries in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        match &self.0 {
            Kept::Few(list) => Iter::Few(list.iter()),
            Kept::Many(map) => Iter::Many(map.range::<K, _>(..)),
        }
    }

    /// Goes through the entries from a key on.
    #[must_use]
    pub fn range(&self, range: RangeFrom<K>) -> Iter<'_, K, V> {
        match &self.0 {
            Kept::Few(list) => Iter::Few(list[list.partition_point(|(key, _)| *key < range.start)..].iter()),
            Kept::Many(map) => Iter::Many(map.range(range)),
        }
    }

    /// Goes through the values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Goes through the keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Gives the values in the order of their keys.
    #[must_use]
    pub fn into_values(self) -> Vec<V> {
        match self.0 {
            Kept::Few(list) => list.into_iter().map(|(_, value)| value).collect(),
            Kept::Many(map) => map.into_values().collect(),
        }
    }
}

impl<K: Ord, V> Extend<(K, V)> for SmallMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        entries.into_iter().for_each(|(key, value)| self.insert(key, value));
    }
}

impl<K: Ord + Copy, V: Default> SmallMap<K, V> {
    /// Returns a key's value, to be changed; one that is not there is put there empty.
    ///
    /// # Panics
    /// Never: what was put there is there.
    pub fn or_default(&mut self, key: K) -> &mut V {
        if !self.contains_key(&key) {
            self.insert(key, V::default());
        }
        self.get_mut(&key).expect("it was put there")
    }
}

/// Entries in order.
#[derive(Debug)]
pub enum Iter<'a, K, V> {
    Few(std::slice::Iter<'a, (K, V)>),
    Many(btree_map::Range<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(list) => list.next().map(|(key, value)| (key, value)),
            Self::Many(map) => map.next(),
        }
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a SmallMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_map_that_the_library_has(entries in prop::collection::vec((0_u32..24, any::<u8>()), 0..40), from in 0_u32..24) {
            let (mut small, mut map) = (SmallMap::default(), BTreeMap::new());
            for (key, value) in entries {
                if value % 5 == 0 {
                    *small.or_default(key) ^= value;
                    *map.entry(key).or_default() ^= value;
                } else {
                    small.insert(key, value);
                    map.insert(key, value);
                }
                prop_assert_eq!(small.len(), map.len());
            }
            prop_assert!(small.iter().eq(map.iter()));
            prop_assert!(small.range(from..).eq(map.range(from..)));
            prop_assert!(small.keys().eq(map.keys()));
            prop_assert_eq!(small.clone().into_values(), map.values().copied().collect::<Vec<_>>());
            for key in 0..24 {
                prop_assert_eq!(small.get(&key), map.get(&key));
                prop_assert_eq!(small.get_mut(&key), map.get_mut(&key));
            }
        }
    }

    #[test]
    fn few_entries_take_no_more_room_than_they_need() {
        let mut map = SmallMap::default();
        let room = |map: &SmallMap<u32, u32>| match &map.0 {
            Kept::Few(list) => list.capacity(),
            Kept::Many(_) => usize::MAX,
        };
        let rooms: Vec<_> = (0..=8_u32)
            .map(|key| {
                map.insert(key, key);
                room(&map)
            })
            .collect();
        assert_eq!(rooms, [1, 2, 4, 4, 8, 8, 8, 8, usize::MAX]);
    }
}
