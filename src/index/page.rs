//! A page as a writer sees it: buckets, and the arrays that move along with their slots.
//!
//! Used under the shard's lock on pages that readers see, and without any on scratch pages that a
//! rebuild prepares. In the first case `section` opens a write section right before the first
//! store; searches come before it.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use super::bucket::{Bucket, Kernel, SLOTS};
use super::home::{Home, other_bucket};
use super::kick;
use super::location::Location;
use super::slot::{SECONDARY, is_empty, is_secondary, tag};

#[derive(Copy, Clone)]
pub(super) struct Page<'a> {
    pub buckets: &'a [Bucket],
    /// The 16 bucket bits of each slot, while the page still grows.
    pub side: Option<&'a [AtomicU16]>,
    /// The subtree index of each slot, once one was set.
    pub subtree: Option<&'a [AtomicU16]>,
}

/// A slot of a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub bucket: usize,
    pub slot: usize,
}

impl Spot {
    #[inline(always)]
    fn index(self) -> usize {
        self.bucket * SLOTS + self.slot
    }
}

/// All that a page knows about one key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub home: Home,
    pub location: Location,
    pub subtree: u16,
}

impl<'a> Page<'a> {
    pub fn slots(&self) -> usize {
        self.buckets.len() * SLOTS
    }

    /// Puts an entry into its primary bucket, its alternate, or where kicks make room. False when
    /// there is no room; nothing has changed then.
    #[inline(always)]
    pub fn place<K: Kernel, S>(&self, k: K, entry: Entry, section: impl FnOnce() -> S) -> bool {
        let home = entry.home;
        let primary = home.primary(self.buckets.len());
        let empty = k.scan(&self.buckets[primary], 0).empty;
        if empty != 0 {
            let spot = Spot { bucket: primary, slot: empty.trailing_zeros() as usize };
            let _section = section();
            self.put(spot, home.primary_word(), entry);
            return true;
        }
        let alternate = other_bucket(home.tag, primary, self.buckets.len());
        let empty = k.scan(&self.buckets[alternate], 0).empty;
        if empty != 0 {
            let spot = Spot { bucket: alternate, slot: empty.trailing_zeros() as usize };
            let _section = section();
            self.buckets[primary].set_overflowed(true);
            self.put(spot, home.secondary_word(), entry);
            return true;
        }
        let Some(path) = kick::find_path(k, self.buckets, primary, alternate) else {
            return false;
        };
        let _section = section();
        let spot = self.free(&path);
        if spot.bucket == primary {
            self.put(spot, home.primary_word(), entry);
        } else {
            self.buckets[primary].set_overflowed(true);
            self.put(spot, home.secondary_word(), entry);
        }
        true
    }

    #[inline(always)]
    fn put(&self, spot: Spot, word: u64, entry: Entry) {
        if let Some(side) = self.side {
            side[spot.index()].store(entry.home.bucket_bits, Relaxed);
        }
        if let Some(subtree) = self.subtree {
            subtree[spot.index()].store(entry.subtree, Relaxed);
        }
        self.buckets[spot.bucket].store(spot.slot, word | entry.location.units());
    }

    /// Moves the occupants of a path one step each; its first slot is free then.
    fn free(&self, path: &kick::Path) -> Spot {
        let spots = path.spots();
        for pair in spots.windows(2).rev() {
            self.shift(pair[0], pair[1]);
        }
        spots[0]
    }

    /// Moves a slot to its key's other bucket.
    pub fn shift(&self, from: Spot, to: Spot) {
        let word = self.word(from);
        debug_assert_eq!(
            other_bucket(tag(word), from.bucket, self.buckets.len()),
            to.bucket,
            "a slot moves between its two buckets only"
        );
        if !is_secondary(word) {
            self.buckets[from.bucket].set_overflowed(true);
        }
        for array in [self.side, self.subtree].into_iter().flatten() {
            array[to.index()].store(array[from.index()].load(Relaxed), Relaxed);
        }
        self.buckets[to.bucket].store(to.slot, word ^ SECONDARY);
        self.clear(from);
    }

    /// The word of a slot, without the bucket's overflow bit.
    pub fn word(&self, spot: Spot) -> u64 {
        self.buckets[spot.bucket].load(spot.slot) & !super::slot::OVERFLOW
    }

    /// Empties a slot. What the arrays hold for it means nothing until the next entry.
    pub fn clear(&self, spot: Spot) {
        self.buckets[spot.bucket].store(spot.slot, 0);
    }

    /// The slot that holds `location` for the key at `home`.
    pub fn find(&self, home: Home, location: Location) -> Option<Spot> {
        let primary = home.primary(self.buckets.len());
        let word = home.primary_word() | location.units();
        if let Some(slot) = self.buckets[primary].position(word) {
            return Some(Spot { bucket: primary, slot });
        }
        if !self.buckets[primary].is_overflowed() {
            return None;
        }
        let bucket = other_bucket(home.tag, primary, self.buckets.len());
        let slot = self.buckets[bucket].position(home.secondary_word() | location.units())?;
        Some(Spot { bucket, slot })
    }

    /// The subtree index of a slot; none when a reader's arrays do not fit together (a writer
    /// was between the reader's two loads; the version will tell).
    pub fn subtree_index(&self, spot: Spot) -> Option<u16> {
        match self.subtree {
            Some(subtree) => subtree.get(spot.index()).map(|index| index.load(Relaxed)),
            None => Some(0),
        }
    }

    pub fn set_subtree_index(&self, spot: Spot, index: u16) {
        if let Some(place) = self.subtree.and_then(|subtree| subtree.get(spot.index())) {
            place.store(index, Relaxed);
        }
    }

    /// All occupied slots with their words.
    pub fn occupied(&self) -> impl Iterator<Item = (Spot, u64)> + 'a {
        self.buckets.iter().enumerate().flat_map(|(bucket, words)| {
            words
                .words()
                .enumerate()
                .filter(|&(_, word)| !is_empty(word))
                .map(move |(slot, word)| (Spot { bucket, slot }, word))
        })
    }

    /// The bucket bits of a slot of a page with a side array.
    pub fn bucket_bits(&self, spot: Spot) -> Option<u16> {
        self.side.map(|side| side[spot.index()].load(Relaxed))
    }

    /// Copies one slot to the same place of another page of this size.
    pub fn copy_slot(&self, spot: Spot, to: &Self) {
        if let (Some(from), Some(to)) = (self.subtree, to.subtree) {
            to[spot.index()].store(from[spot.index()].load(Relaxed), Relaxed);
        }
        to.buckets[spot.bucket].store(spot.slot, self.word(spot));
    }

    /// Copies everything from a page of this size.
    pub fn copy_all(&self, from: &Page<'_>) {
        for (to, from) in self.buckets.iter().zip(from.buckets) {
            to.copy_from(from);
        }
        for (to, from) in [(self.side, from.side), (self.subtree, from.subtree)] {
            for (to, from) in to.into_iter().flatten().zip(from.into_iter().flatten()) {
                to.store(from.load(Relaxed), Relaxed);
            }
        }
    }

    /// Brings slots home where there is room now, and sets the overflow bits anew.
    pub fn settle(&self) {
        for bucket in self.buckets {
            bucket.set_overflowed(false);
        }
        for (spot, word) in self.occupied().filter(|&(_, word)| is_secondary(word)) {
            let bucket = other_bucket(tag(word), spot.bucket, self.buckets.len());
            match self.buckets[bucket].words().position(is_empty) {
                Some(slot) => self.shift(spot, Spot { bucket, slot }),
                None => self.buckets[bucket].set_overflowed(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::Scalar;
    use super::*;

    pub(in crate::index) struct Memory {
        buckets: Vec<Bucket>,
        side: Vec<AtomicU16>,
        subtree: Vec<AtomicU16>,
    }

    impl Memory {
        fn new(buckets: usize) -> Self {
            let array = || (0..buckets * SLOTS).map(|_| AtomicU16::new(0)).collect();
            Self {
                buckets: (0..buckets).map(|_| Bucket::default()).collect(),
                side: array(),
                subtree: array(),
            }
        }
        fn page(&self) -> Page<'_> {
            Page { buckets: &self.buckets, side: Some(&self.side), subtree: Some(&self.subtree) }
        }
    }

    fn entry(i: u64) -> Entry {
        let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Entry {
            home: Home {
                tag: (mixed >> 40) as u32,
                bucket_bits: (mixed >> 16) as u16,
                base_bits: 0,
            },
            location: Location::new(i).unwrap(),
            subtree: (i % 65_521) as u16,
        }
    }

    fn check_all(page: &Page<'_>, entries: impl Iterator<Item = u64>) -> usize {
        entries
            .map(|i| {
                let entry = entry(i);
                let spot = page.find(entry.home, entry.location).expect("found");
                assert_eq!(page.subtree_index(spot), Some(entry.subtree));
                assert_eq!(page.bucket_bits(spot), Some(entry.home.bucket_bits));
            })
            .count()
    }

    /// Kicks fill a page nearly to the brim, and side and subtree arrays follow every move.
    #[test]
    fn a_page_fills_and_loses_nothing() {
        for buckets in [1, 8, 35, 128, 181, 256] {
            let memory = Memory::new(buckets);
            let page = memory.page();
            let fit = (1..).take_while(|&i| page.place(Scalar, entry(i), || ())).count();
            let load = fit as f64 / page.slots() as f64;
            assert!(load > if buckets < 32 { 0.8 } else { 0.96 }, "{buckets} buckets: {load}");
            assert_eq!(check_all(&page, 1..=fit as u64), page.occupied().count());
        }
    }

    #[test]
    fn settling_brings_slots_home() {
        let memory = Memory::new(128);
        let page = memory.page();
        let fit = (1..).take_while(|&i| page.place(Scalar, entry(i), || ())).count() as u64;
        for i in (1..=fit).filter(|i| i % 2 == 0) {
            page.clear(page.find(entry(i).home, entry(i).location).unwrap());
        }
        let away = || page.occupied().filter(|&(_, word)| is_secondary(word)).count();
        let before = away();
        page.settle();
        assert!(away() * 4 < before, "{before} before, {} after", away());
        let overflowed = page.buckets.iter().filter(|bucket| bucket.is_overflowed()).count();
        assert!(overflowed <= away());
        check_all(&page, (1..=fit).filter(|i| i % 2 == 1));
    }

    #[test]
    fn an_absent_location_is_not_found() {
        let memory = Memory::new(8);
        let page = memory.page();
        assert!(page.place(Scalar, entry(1), || ()));
        assert_eq!(page.find(entry(1).home, entry(2).location), None);
        assert_eq!(page.find(entry(2).home, entry(1).location), None);
    }
}
