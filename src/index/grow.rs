//! How a shard grows: its first page, rebuilds while the page grows, splits after that.
//!
//! Every step takes the memory it needs first, prepares what readers do not see yet, and only then
//! opens a write section; where memory is refused, nothing has changed.
//!
//! A page grows only if that can help: when most of it is in use. A page that is far from full and
//! yet has no room for a key holds many keys of equal hash bits, and those go to the stash.

use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;

use super::bucket::{Bucket, SLOTS, Scalar};
use super::directory::Leaf;
use super::guard::ShardGuard;
use super::home::Home;
use super::packed::Packed;
use super::page::{Entry, Page};
use super::shard::bump;
use super::sizing::{STARTER_BUCKETS, next_buckets};
use super::slot::{self, TAG_BITS};
use crate::{Error, Result};

/// Below this share of used slots a page does not grow.
const USED_MIN: (usize, usize) = (3, 4);
/// A split must leave at least this share of the keys on either side.
const SIDE_MIN: usize = 8;

/// A page prepared in memory of its own, and what did not fit.
struct Scratch {
    buckets: Vec<Bucket>,
    side: Vec<AtomicU16>,
    subtree: Vec<AtomicU16>,
    leftover: Vec<Entry>,
}

impl Scratch {
    fn new(buckets: usize) -> Result<Self> {
        Ok(Self {
            buckets: zeroed(buckets)?,
            side: zeroed(buckets * SLOTS)?,
            subtree: zeroed(buckets * SLOTS)?,
            leftover: Vec::new(),
        })
    }

    fn page(&self) -> Page<'_> {
        Page { buckets: &self.buckets, side: Some(&self.side), subtree: Some(&self.subtree) }
    }
}

fn zeroed<T: Default>(len: usize) -> Result<Vec<T>> {
    let mut items = Vec::new();
    items.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        what: "index rebuild",
        bytes: (len * size_of::<T>()) as u64,
        available: u64::MAX,
    })?;
    items.resize_with(len, T::default);
    Ok(items)
}

impl ShardGuard<'_> {
    /// Whether the page is the small first one, which has memory of its own.
    pub(super) fn is_starter(&self, leaf: &Leaf) -> bool {
        leaf.page.units() == STARTER_BUCKETS && STARTER_BUCKETS < self.header.frame_buckets()
    }

    /// Gives the shard its first page.
    pub(super) fn start(&mut self, leaf: &Leaf) -> Result<()> {
        let page = Packed::new_page_with_side(&self.index.arena, STARTER_BUCKETS)?;
        {
            let _section = self.header.begin_write();
            self.index.directory.replace(&self.index.arena, leaf, page, Packed::NONE);
        }
        bump(&self.header.pages);
        Ok(())
    }

    /// Makes a page larger. False when that is no use and the stash has to help.
    pub(super) fn make_room(&mut self, leaf: &Leaf) -> Result<bool> {
        let page = self.index.view(self.header, leaf);
        let used = page.occupied().count();
        if used * USED_MIN.1 < page.slots() * USED_MIN.0 {
            return Ok(false);
        }
        if page.side.is_some() {
            self.rebuild(leaf)?;
        } else if !self.split(leaf, used)? {
            return Ok(false);
        }
        self.empty_stash();
        Ok(true)
    }

    /// Rebuilds a growing page into its next size, from tags and side array.
    fn rebuild(&mut self, leaf: &Leaf) -> Result<()> {
        let arena = &self.index.arena;
        let frame = self.header.frame_buckets();
        let old = self.index.view(self.header, leaf);
        let mut buckets = next_buckets(leaf.page.units(), frame);
        let mut scratch = fill_scratch(&old, buckets)?;
        while !scratch.leftover.is_empty() && buckets < frame {
            buckets = next_buckets(buckets, frame);
            scratch = fill_scratch(&old, buckets)?;
        }
        // Memory first: a frame for a starter that moves out, its subtree indexes, the stash.
        let starter = self.is_starter(leaf);
        let room = if starter { Packed::new_page(arena, frame, 0)? } else { leaf.page };
        let mut subtree = leaf.subtree;
        if starter && !subtree.is_none() {
            subtree = Packed::new_subtree(arena, frame)?;
        }
        let stash = self.index.stash(self.shard);
        if !scratch.leftover.is_empty() {
            stash.reserve(scratch.leftover.len())?;
        }
        let grown = leaf.with(room.with_units(buckets), subtree);
        {
            let _section = self.header.begin_write();
            self.index.view(self.header, &grown).copy_all(&scratch.page());
            self.index.directory.replace(arena, leaf, grown.page, grown.subtree);
            for &entry in &scratch.leftover {
                stash.push(entry);
            }
        }
        if starter && !subtree.is_none() {
            self.index.count_subtree(frame);
        }
        bump(&self.header.rebuilds);
        Ok(())
    }

    /// Splits a full-size page with `used` slots in use on its next tag bit. False when it cannot.
    fn split(&mut self, leaf: &Leaf, used: usize) -> Result<bool> {
        let arena = &self.index.arena;
        let depth = leaf.page.depth();
        let page = self.index.view(self.header, leaf);
        let goes_high = |word: u64| slot::tag(word) >> depth & 1 == 1;
        let high_count = page.occupied().filter(|&(_, word)| goes_high(word)).count();
        if depth == TAG_BITS || high_count.min(used - high_count) * SIDE_MIN < used {
            return Ok(false);
        }
        let buckets = leaf.page.units();
        let doubled = self.index.directory.prepare_split(arena, leaf)?;
        let subtree = match leaf.subtree {
            Packed::NONE => Packed::NONE,
            _ => self.index.pool.subtree(arena, buckets)?,
        };
        let high = match self.index.pool.page(arena, buckets, depth + 1) {
            Ok(high) => high,
            Err(error) => {
                self.index.pool.give(Packed::NONE, subtree);
                return Err(error);
            }
        };
        let high_leaf = leaf.with(high, subtree);
        let high_page = self.index.view(self.header, &high_leaf);
        for (spot, _) in page.occupied().filter(|&(_, word)| goes_high(word)) {
            page.copy_slot(spot, &high_page);
        }
        high_page.settle();
        {
            let _section = self.header.begin_write();
            for (spot, _) in page.occupied().filter(|&(_, word)| goes_high(word)) {
                page.clear(spot);
            }
            page.settle();
            let low = (leaf.page.with_depth(depth + 1), leaf.subtree);
            self.index.directory.split(arena, leaf, doubled, low, (high, subtree));
        }
        if !subtree.is_none() {
            self.index.count_subtree(buckets);
        }
        bump(&self.header.pages);
        bump(&self.header.splits);
        self.header.depth_max.fetch_max(depth + 1, Relaxed);
        if let (Some(rehasher), true) = (&self.index.rehasher, depth + 1 > self.index.splits) {
            rehasher.ring();
        }
        Ok(true)
    }

    /// Moves stash entries into pages that have room for them now.
    pub(super) fn empty_stash(&mut self) {
        if self.header.is_recording() {
            // What leaves it would have to be noted; while it has entries, nothing is rehashed.
            return;
        }
        let stash = self.index.stash(self.shard);
        // From the end: removing puts the last entry, which was looked at, in the place of another.
        for i in (0..stash.len()).rev() {
            let Some(entry) = stash.get(i) else { continue };
            let leaf = self.index.directory.leaf(&self.index.arena, self.shard, entry.home);
            if leaf.page.is_none() || (entry.subtree != 0 && leaf.subtree.is_none()) {
                continue;
            }
            let page = self.index.view(self.header, &leaf);
            // Removed and placed in one section: readers see it in one of the two places.
            let section = || {
                let section = self.header.begin_write();
                stash.remove(i);
                section
            };
            let _ = page.place(Scalar, entry, section);
        }
    }
}

/// All entries of a growing page in a new one of `buckets`.
fn fill_scratch(old: &Page<'_>, buckets: usize) -> Result<Scratch> {
    let mut scratch = Scratch::new(buckets)?;
    for (spot, word) in old.occupied() {
        let (Some(location), Some(bucket_bits)) = (slot::location(word), old.bucket_bits(spot))
        else {
            continue;
        };
        let entry = Entry {
            home: Home { tag: slot::tag(word), bucket_bits, base_bits: 0 },
            location,
            subtree: old.subtree_index(spot).unwrap_or(0),
        };
        if !scratch.page().place(Scalar, entry, || ()) {
            scratch.leftover.try_reserve(1).map_err(|_| Error::OutOfMemory {
                what: "index rebuild",
                bytes: size_of::<Entry>() as u64,
                available: u64::MAX,
            })?;
            scratch.leftover.push(entry);
        }
    }
    Ok(scratch)
}
