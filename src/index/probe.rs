//! Reading without a lock.

use std::hint::select_unpredictable;

use super::Index;
use super::bucket::{Kernel, Operation, SLOTS, Scalar};
use super::candidates::Candidates;
use super::directory::Leaf;
use super::home::{Home, other_bucket, shard_of};
use super::location::Location;
use super::page::{Page, Spot};
use super::shard::Header;
use super::slot;
use super::stash::Stash;
use crate::hash::keyed::KeyHash;

/// Reads a key's candidates in one state of the shard.
pub(super) struct Probe<'a> {
    pub index: &'a Index,
    pub h: KeyHash,
}

impl Operation for Probe<'_> {
    type Output = Candidates;

    #[inline(always)]
    fn run<K: Kernel>(self, k: K) -> Candidates {
        let shard = shard_of(self.h);
        let header = &self.index.headers[shard];
        let mut found = Candidates::at(header.version_before_read());
        self.index.collect(k, shard, Home::of(self.h), &mut found);
        if header.is_still(found.version()) { found } else { self.again() }
    }
}

impl Probe<'_> {
    /// A writer came between: the same until none does, off the straight way.
    #[cold]
    #[inline(never)]
    fn again(self) -> Candidates {
        let shard = shard_of(self.h);
        let header = &self.index.headers[shard];
        loop {
            let mut found = Candidates::at(header.version_before_read());
            self.index.collect(Scalar, shard, Home::of(self.h), &mut found);
            if header.is_still(found.version()) {
                return found;
            }
        }
    }
}

/// Reads a key's candidates under the shard's lock.
pub(super) struct Collect<'a> {
    pub index: &'a Index,
    pub shard: usize,
    pub home: Home,
}

impl Operation for Collect<'_> {
    type Output = Candidates;

    #[inline(always)]
    fn run<K: Kernel>(self, k: K) -> Candidates {
        let header = &self.index.headers[self.shard];
        let mut found = Candidates::at(header.version_under_lock());
        self.index.collect(k, self.shard, self.home, &mut found);
        found
    }
}

/// Where an entry was found.
pub(super) enum Found {
    Page(Leaf, Spot),
    Stash(usize),
}

impl Index {
    /// Adds the locations of all slots that match `home`.
    #[inline(always)]
    fn collect<K: Kernel>(&self, k: K, shard: usize, home: Home, found: &mut Candidates) {
        let page = self.directory.page(&self.arena, shard, home);
        if !page.is_none() {
            let buckets = page.buckets(&self.arena);
            let primary = home.primary(buckets.len());
            let first = &buckets[primary];
            let scan = k.scan(first, home.primary_word());
            // Whether the bucket overflowed is a coin that no processor predicts, so both cases run
            // the same instructions: without overflow the second look is at the first line again.
            let other = other_bucket(home.tag, primary, buckets.len());
            let second = &buckets[select_unpredictable(scan.overflowed, other, primary)];
            let other_matches = k.scan(second, home.secondary_word()).matches;
            let mut matches =
                scan.matches | select_unpredictable(scan.overflowed, other_matches << SLOTS, 0);
            while matches != 0 {
                let i = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                let bucket = if i < SLOTS { first } else { second };
                // Empty only if a writer emptied it just now: the version will tell.
                if let Some(location) = slot::location(bucket.load(i % SLOTS)) {
                    found.push(location);
                }
            }
        }
        if self.headers[shard].stash_entries() != 0 {
            self.collect_stash(shard, home, found);
        }
    }

    #[cold]
    fn collect_stash(&self, shard: usize, home: Home, found: &mut Candidates) {
        for location in self.stash(shard).matches(home) {
            found.push(location);
        }
    }

    pub(super) fn stash(&self, shard: usize) -> Stash<'_> {
        Stash::of(&self.headers[shard], &self.arena)
    }

    /// The page of a leaf, its side array too if it still grows.
    pub(super) fn view(&self, header: &Header, leaf: &Leaf) -> Page<'_> {
        let grows = leaf.page.units() < header.frame_buckets();
        Page {
            buckets: leaf.page.buckets(&self.arena),
            side: grows.then(|| leaf.page.side(&self.arena)),
            subtree: (!leaf.subtree.is_none()).then(|| leaf.subtree.subtree(&self.arena)),
        }
    }

    /// The slot or stash entry with exactly this place and location.
    pub(super) fn find(&self, shard: usize, home: Home, location: Location) -> Option<Found> {
        let leaf = self.directory.leaf(&self.arena, shard, home);
        if !leaf.page.is_none() {
            let page = self.view(&self.headers[shard], &leaf);
            if let Some(spot) = page.find(home, location) {
                return Some(Found::Page(leaf, spot));
            }
        }
        self.stash(shard).find(home, location).map(Found::Stash)
    }

    /// The subtree index of what `find` found.
    pub(super) fn subtree_index_of(&self, shard: usize, found: &Found) -> Option<u16> {
        match found {
            Found::Page(leaf, spot) => self.view(&self.headers[shard], leaf).subtree_index(*spot),
            Found::Stash(i) => self.stash(shard).get(*i).map(|entry| entry.subtree),
        }
    }
}
