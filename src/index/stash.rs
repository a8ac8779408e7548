//! Entries of a shard that no page could take: a list, searched from end to end.
//!
//! It stays empty unless hashes are equal in tag and bucket many times over, which nobody can bring
//! about without the index's secret. It is here so that even then nothing is lost. A probe of a
//! shard without a stash pays one comparison for it.
//!
//! An entry is two words: a slot word (tag and location), and the rest of the key's place:
//!
//! ```text
//! 63.............48 47...................16 15.............0
//! subtree index     base bits               bucket bits
//! ```
//!
//! Entries that were left over when a small page grew have no base bits (0): such a page never knew
//! them. So entries are told apart without them, and a shard that has any is not rehashed.
//!
//! Writes happen under the shard's lock in write sections, reads race with them like all others.

use std::sync::atomic::Ordering::Relaxed;

use super::arena::Arena;
use super::home::Home;
use super::location::Location;
use super::packed::Packed;
use super::page::Entry;
use super::shard::Header;
use super::slot;
use crate::Result;

const FIRST_DEPTH: u32 = 3;
const SUBTREE_SHIFT: u32 = 48;

pub(super) struct Stash<'a> {
    header: &'a Header,
    arena: &'a Arena,
}

impl<'a> Stash<'a> {
    pub fn of(header: &'a Header, arena: &'a Arena) -> Self {
        Self { header, arena }
    }

    /// Entries as readers may look at: never more than there is memory for.
    pub fn len(&self) -> usize {
        let memory = self.header.stash();
        if memory.is_none() { 0 } else { self.header.stash_entries().min(1 << memory.depth()) }
    }

    /// The entry at `i`, below `len`. A racing reader may get a mixture, or none.
    pub fn get(&self, i: usize) -> Option<Entry> {
        let words = self.header.stash().stash(self.arena);
        let word = words.get(2 * i)?.load(Relaxed);
        let rest = words.get(2 * i + 1)?.load(Relaxed);
        Some(Entry {
            home: Home {
                tag: slot::tag(word),
                // 16 and 32 bits after the shifts.
                bucket_bits: rest as u16,
                base_bits: (rest >> 16) as u32,
            },
            location: slot::location(word)?,
            subtree: (rest >> SUBTREE_SHIFT) as u16,
        })
    }

    /// The locations stored for `home`.
    pub fn matches(&self, home: Home) -> impl Iterator<Item = Location> + '_ {
        (0..self.len())
            .filter_map(|i| self.get(i))
            .filter(move |entry| same_place(entry.home, home))
            .map(|entry| entry.location)
    }

    pub fn find(&self, home: Home, location: Location) -> Option<usize> {
        (0..self.len()).find(|&i| {
            self.get(i)
                .is_some_and(|entry| same_place(entry.home, home) && entry.location == location)
        })
    }

    /// Makes sure that `more` entries fit. Under the lock; may open a write section.
    pub fn reserve(&self, more: usize) -> Result<()> {
        let memory = self.header.stash();
        let needed = (self.len() + more).next_power_of_two().trailing_zeros().max(FIRST_DEPTH);
        if !memory.is_none() && memory.depth() >= needed {
            return Ok(());
        }
        let larger = Packed::new_stash(self.arena, needed)?;
        if !memory.is_none() {
            let (to, from) = (larger.stash(self.arena), memory.stash(self.arena));
            for (to, from) in to.iter().zip(from) {
                to.store(from.load(Relaxed), Relaxed);
            }
        }
        let _section = self.header.begin_write();
        self.header.set_stash(larger);
        Ok(())
    }

    /// Adds an entry that `reserve` made room for. In a write section.
    pub fn push(&self, entry: Entry) {
        let i = self.len();
        self.set(i, entry);
        self.header.set_stash_entries(i + 1);
    }

    /// Overwrites the entry at `i`. In a write section.
    pub fn set(&self, i: usize, entry: Entry) {
        let words = self.header.stash().stash(self.arena);
        let rest = u64::from(entry.home.bucket_bits)
            | u64::from(entry.home.base_bits) << 16
            | u64::from(entry.subtree) << SUBTREE_SHIFT;
        words[2 * i].store(entry.home.primary_word() | entry.location.units(), Relaxed);
        words[2 * i + 1].store(rest, Relaxed);
    }

    /// Removes the entry at `i`; the last one takes its place. In a write section.
    pub fn remove(&self, i: usize) {
        let last = self.len() - 1;
        if let (true, Some(entry)) = (i != last, self.get(last)) {
            self.set(i, entry);
        }
        self.header.set_stash_entries(last);
    }
}

/// Whether two keys are the same as far as pages tell; more may match than are meant.
fn same_place(a: Home, b: Home) -> bool {
    (a.tag, a.bucket_bits) == (b.tag, b.bucket_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: u64) -> Entry {
        let home =
            Home { tag: i as u32 & 0xff_ffff, bucket_bits: i as u16, base_bits: !(i as u32) };
        Entry { home, location: Location::new(i + 1).unwrap(), subtree: (i * 7) as u16 }
    }

    #[test]
    fn entries_survive_growth_and_removal() {
        let (arena, header) = (Arena::prepared_by(None, None, false), Header::new(128));
        let stash = Stash::of(&header, &arena);
        let _lock = header.lock();
        for i in 0..1_000 {
            stash.reserve(1).unwrap();
            let _section = header.begin_write();
            stash.push(entry(i));
        }
        for i in (0..1_000).step_by(3) {
            let at = stash.find(entry(i).home, entry(i).location).unwrap();
            let _section = header.begin_write();
            stash.remove(at);
        }
        assert_eq!(stash.len(), 666);
        for i in 0..1_000 {
            let found = stash.find(entry(i).home, entry(i).location);
            assert_eq!(found.is_some(), i % 3 != 0, "{i}");
            assert!(found.is_none_or(|at| stash.get(at) == Some(entry(i))));
            assert_eq!(stash.matches(entry(i).home).count(), usize::from(i % 3 != 0));
        }
    }
}
