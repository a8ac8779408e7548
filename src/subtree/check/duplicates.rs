//! Finding equal hashes in bounded memory, in time that grows with their number alone, whoever
//! chose them.
//!
//! Every hash is hashed again under a secret of the call, which sends equal ones to one of many
//! parts and spreads all others evenly. A part is small enough for a table in the processor's
//! cache. What the table holds of a hash are 32 bits of that second hash: a match is compared whole
//! before it counts.
//!
//! Memory: 8 bytes per hash, and at most 32 for each hash of a part while it is looked at (16 where
//! somebody has made a part large, by many equal hashes).

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::hash::keyed::KeyedHasher;
use crate::subtree::nodes::plain_array::{PlainArray, reserved_vec};
use crate::subtree::tree::leaves::Leaves;
use crate::types::Hash;

/// From so many on the work is shared by all processors.
const PARALLEL_HASHES: usize = 1 << 15;
/// Hashes that are sent to their parts at a time; what is noted of them stays on the stack.
const CHUNK: usize = 1 << 13;
/// Hashes of a part, about.
const PART: usize = 1 << 11;
const MAX_PARTS: usize = 1 << 10;

/// What was found. Of several of a kind, the one whose first number is the least.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::subtree) struct Repetitions {
    /// A leaf that equals an earlier one, and that one.
    pub leaf: Option<(usize, usize)>,
    /// A listed hash that is no leaf.
    pub missing: Option<usize>,
    /// A listed hash that equals an earlier one, and that one.
    pub listed: Option<(usize, usize)>,
}

impl Repetitions {
    /// Looks at all leaves and all of the `listed` hashes.
    pub fn find<L: Leaves + ?Sized>(leaves: &L, listed: &[Hash]) -> Result<Self> {
        Self::find_with(&KeyedHasher::random()?, leaves, listed)
    }

    fn find_with<L: Leaves + ?Sized>(
        hasher: &KeyedHasher,
        leaves: &L,
        listed: &[Hash],
    ) -> Result<Self> {
        let parts = (leaves.count() / PART).next_power_of_two().min(MAX_PARTS);
        let leaves = &Grouped::new(hasher, leaves, parts)?;
        let listed =
            if listed.is_empty() { None } else { Some(Grouped::new(hasher, listed, parts)?) };
        let examine = |table: &mut Table, part| Self::in_part(table, leaves, listed.as_ref(), part);
        if leaves.hashes.count() < PARALLEL_HASHES {
            let mut table = Table::default();
            return (0..parts)
                .try_fold(Self::default(), |found, part| Ok(found.or(examine(&mut table, part)?)));
        }
        let found = (0..parts).into_par_iter().map_init(Table::default, examine);
        found.try_reduce(Self::default, |a, b| Ok(a.or(b)))
    }

    fn in_part<L: Leaves + ?Sized>(
        table: &mut Table,
        leaves: &Grouped<'_, L>,
        listed: Option<&Grouped<'_, [Hash]>>,
        part: usize,
    ) -> Result<Self> {
        let mut found = Self::default();
        table.reset(leaves.count(part))?;
        for &entry in leaves.part(part) {
            let earlier = table.insert(entry, leaves.hashes, leaves.hash(entry));
            found.leaf = least(found.leaf, earlier.map(|earlier| (number(entry), earlier)));
        }
        let Some(listed) = listed else { return Ok(found) };
        for &entry in listed.part(part) {
            if table.find(entry, leaves.hashes, listed.hash(entry)).is_err() {
                found.missing = least(found.missing, Some(number(entry)));
            }
        }
        table.reset(listed.count(part))?;
        for &entry in listed.part(part) {
            let earlier = table.insert(entry, listed.hashes, listed.hash(entry));
            found.listed = least(found.listed, earlier.map(|earlier| (number(entry), earlier)));
        }
        Ok(found)
    }

    fn or(self, other: Self) -> Self {
        Self {
            leaf: least(self.leaf, other.leaf),
            missing: least(self.missing, other.missing),
            listed: least(self.listed, other.listed),
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What is noted of a hash: 32 bits of its keyed hash, then its number in 32 bits.
type Entry = u64;

/// No entry: there are fewer hashes than this number.
const EMPTY: Entry = Entry::MAX;

const fn number(entry: Entry) -> usize {
    entry as u32 as usize
}

const fn tag(entry: Entry) -> u64 {
    entry >> 32
}

/// Hashes by part: one chunk after the other, in each the entries of one part after the other. So a
/// part's entries are in the order of their numbers.
struct Grouped<'a, L: ?Sized> {
    hashes: &'a L,
    entries: PlainArray<Entry>,
    /// For each chunk: where each part begins in it, and where the last one ends.
    bounds: Vec<u16>,
    parts: usize,
}

impl<'a, L: Leaves + ?Sized> Grouped<'a, L> {
    fn new(hasher: &KeyedHasher, hashes: &'a L, parts: usize) -> Result<Self> {
        let count = hashes.count();
        if count >= u32::MAX as usize {
            let text = format!("{count} hashes to compare; fewer than {} can be", u32::MAX);
            return Err(Error::InvalidArgument(text));
        }
        let mut entries = PlainArray::heap("hashes by part", count)?;
        let width = parts + 1;
        let mut bounds = reserved_vec("bounds of parts", count.div_ceil(CHUNK) * width)?;
        bounds.resize(count.div_ceil(CHUNK) * width, 0);
        let group = |(chunk, (entries, bounds)): (usize, (&mut [Entry], &mut [u16]))| {
            group_chunk(hasher, hashes, chunk * CHUNK, entries, bounds);
        };
        if count < PARALLEL_HASHES {
            entries.chunks_mut(CHUNK).zip(bounds.chunks_mut(width)).enumerate().for_each(group);
        } else {
            let entries = entries.par_chunks_mut(CHUNK);
            entries.zip(bounds.par_chunks_mut(width)).enumerate().for_each(group);
        }
        Ok(Self { hashes, entries, bounds, parts })
    }

    /// The ranges of a part's entries.
    fn ranges(&self, part: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.bounds.chunks(self.parts + 1).enumerate().map(move |(chunk, bounds)| {
            let at = |bound: u16| chunk * CHUNK + usize::from(bound);
            at(bounds[part])..at(bounds[part + 1])
        })
    }

    fn count(&self, part: usize) -> usize {
        self.ranges(part).map(|range| range.len()).sum()
    }

    fn part(&self, part: usize) -> impl Iterator<Item = &Entry> {
        self.ranges(part).flat_map(|range| &self.entries[range])
    }

    fn hash(&self, entry: Entry) -> &Hash {
        self.hashes.leaf(number(entry))
    }
}

/// Puts the entries of a chunk, whose first hash is number `first`, in the order of their parts.
fn group_chunk<L: Leaves + ?Sized>(
    hasher: &KeyedHasher,
    hashes: &L,
    first: usize,
    entries: &mut [Entry],
    bounds: &mut [u16],
) {
    let parts = bounds.len() - 1;
    // The part in the upper half, the tag in the lower one.
    let mut noted = [0u64; CHUNK];
    let noted = &mut noted[..entries.len()];
    let mut next = [0u16; MAX_PARTS];
    for (place, noted) in noted.iter_mut().enumerate() {
        let hash = hasher.hash32(hashes.leaf(first + place));
        let part = hash.hi & (parts as u64 - 1);
        next[part as usize] += 1;
        *noted = part << 32 | u64::from(hash.lo as u32);
    }
    let mut end = 0;
    for (bound, next) in bounds.iter_mut().zip(&mut next[..parts]) {
        *bound = end;
        end += *next;
        *next = *bound;
    }
    bounds[parts] = end;
    for (place, noted) in noted.iter().enumerate() {
        let next = &mut next[(noted >> 32) as usize];
        entries[usize::from(*next)] = noted << 32 | (first + place) as u64;
        *next += 1;
    }
}

/// Entries by tag.
#[derive(Default)]
struct Table {
    slots: Vec<Entry>,
}

impl Table {
    /// Empties it, with room for `count` entries.
    fn reset(&mut self, count: usize) -> Result<()> {
        self.slots.clear();
        // The emptier, the fewer branches are mispredicted; a part that is too large for the cache,
        // as one of many equal hashes is, gains nothing by that.
        let slots = if count > CHUNK { 2 * count } else { 4 * count + 1 };
        self.slots.try_reserve(slots).map_err(|_| Error::OutOfMemory {
            what: "table of hashes",
            bytes: (slots * size_of::<Entry>()) as u64,
            available: u64::MAX,
        })?;
        self.slots.resize(slots, EMPTY);
        Ok(())
    }

    /// The number of the entry that has this hash among `hashes`, or the slot where it belongs.
    fn find<L: Leaves + ?Sized>(
        &self,
        entry: Entry,
        hashes: &L,
        hash: &Hash,
    ) -> Result<usize, usize> {
        let mut slot = ((u128::from(tag(entry)) * self.slots.len() as u128) >> 32) as usize;
        loop {
            let there = self.slots[slot];
            if there == EMPTY {
                return Err(slot);
            }
            if tag(there) == tag(entry) && hashes.leaf(number(there)) == hash {
                return Ok(number(there));
            }
            slot += 1;
            if slot == self.slots.len() {
                slot = 0;
            }
        }
    }

    /// Inserts the entry, or returns the number of the one that has its hash already.
    fn insert<L: Leaves + ?Sized>(
        &mut self,
        entry: Entry,
        hashes: &L,
        hash: &Hash,
    ) -> Option<usize> {
        match self.find(entry, hashes, hash) {
            Ok(earlier) => Some(earlier),
            Err(slot) => {
                self.slots[slot] = entry;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The same by a map.
    fn expected(leaves: &[Hash], listed: &[Hash]) -> Repetitions {
        let repetition = |hashes: &[Hash]| {
            let mut seen = HashMap::new();
            hashes.iter().enumerate().find_map(|(number, hash)| {
                seen.insert(*hash, number).map(|earlier| (number, earlier))
            })
        };
        let all: std::collections::HashSet<_> = leaves.iter().collect();
        Repetitions {
            leaf: repetition(leaves),
            missing: listed.iter().position(|hash| !all.contains(hash)),
            listed: repetition(listed),
        }
    }

    fn check(leaves: &[Hash], listed: &[Hash]) {
        let found = Repetitions::find(leaves, listed).unwrap();
        assert_eq!(found, expected(leaves, listed), "{} leaves", leaves.len());
    }

    /// Hashes that differ in one place, as somebody would choose them.
    fn alike(count: usize, place: usize) -> Vec<Hash> {
        let hash = |number: usize| {
            let mut hash = [7; 32];
            hash[place..place + 4].copy_from_slice(&(number as u32).to_le_bytes());
            hash
        };
        (0..count).map(hash).collect()
    }

    #[test]
    fn counts_around_every_bound() {
        let bounds = [1, 2, CHUNK, 2 * PART, PARALLEL_HASHES, 5 * PARALLEL_HASHES];
        for count in bounds.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]) {
            let mut leaves = alike(count.max(1), count % 29);
            check(&leaves, &[]);
            let listed = [leaves[count / 2], leaves[count / 3], [1; 32]];
            check(&leaves, &listed);
            check(&leaves, &listed[..1]);
            let last = leaves.len() - 1;
            leaves[last] = leaves[0];
            leaves[last / 2] = leaves[last / 3];
            check(&leaves, &listed[1..]);
        }
    }

    #[test]
    fn all_equal_is_one_part_and_takes_no_longer() {
        for count in [1, 2, CHUNK + 1, 3 * PARALLEL_HASHES] {
            let leaves = vec![[9; 32]; count];
            check(&leaves, &leaves);
            check(&leaves, &[[9; 32], [8; 32]]);
        }
    }

    /// Equal tags and parts, which a secret hash does not give but once in a while: every hash is
    /// compared whole.
    #[test]
    fn equal_tags_are_told_apart() {
        let hashes = &alike(1000, 5)[..];
        let mut table = Table::default();
        table.reset(hashes.len()).unwrap();
        for tag in [0, 1, u64::from(u32::MAX)] {
            table.reset(hashes.len()).unwrap();
            let entry = |number: usize| tag << 32 | number as u64;
            for (number, hash) in hashes.iter().enumerate() {
                assert_eq!(table.insert(entry(number), hashes, hash), None);
            }
            for (number, hash) in hashes.iter().enumerate() {
                assert_eq!(table.insert(entry(0), hashes, hash), Some(number));
            }
            assert!(table.find(entry(0), hashes, &[1; 32]).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn as_a_map_finds_them(
            secret: [u64; 8],
            numbers in vec(0u32..20_000, 1..20_000),
            chosen in vec(0usize..30_000, 0..50),
            place in 0usize..28,
        ) {
            let all = alike(30_000, place);
            let leaves: Vec<Hash> = numbers.iter().map(|number| all[*number as usize]).collect();
            let listed: Vec<Hash> = chosen.iter().map(|number| all[*number]).collect();
            let hasher = KeyedHasher::from_secret(secret);
            let found = Repetitions::find_with(&hasher, &leaves[..], &listed).unwrap();
            prop_assert_eq!(found, expected(&leaves, &listed));
        }
    }
}
