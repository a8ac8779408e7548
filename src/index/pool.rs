//! Pages and arrays of subtree indexes that nothing leads to any more, for others of their size.
//!
//! A reader that noted its shard's version before they were given up may still look at them. What
//! it sees is another page's, or none's; its version has moved, and it starts again.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use parking_lot::Mutex;

use super::arena::Arena;
use super::packed::Packed;
use crate::Result;

#[derive(Default)]
pub(super) struct Pool {
    spare: Mutex<Spare>,
}

/// By size, in buckets.
#[derive(Default)]
struct Spare {
    pages: BTreeMap<usize, Vec<Packed>>,
    subtrees: BTreeMap<usize, Vec<Packed>>,
}

impl Pool {
    /// A page of `buckets`, all empty.
    pub fn page(&self, arena: &Arena, buckets: usize, depth: u32) -> Result<Packed> {
        let spare = self.spare.lock().pages.get_mut(&buckets).and_then(Vec::pop);
        let Some(page) = spare else { return Packed::new_page(arena, buckets, depth) };
        // Who sees a store below sees also that the version moved of the shard that gave it up.
        fence(Release);
        for bucket in page.buckets(arena) {
            bucket.clear();
        }
        Ok(page.with_depth(depth))
    }

    /// An array of subtree indexes for a page of `buckets`, all 0.
    pub fn subtree(&self, arena: &Arena, buckets: usize) -> Result<Packed> {
        let spare = self.spare.lock().subtrees.get_mut(&buckets).and_then(Vec::pop);
        let Some(subtree) = spare else { return Packed::new_subtree(arena, buckets) };
        fence(Release);
        for index in subtree.subtree(arena) {
            index.store(0, Relaxed);
        }
        Ok(subtree)
    }

    /// Takes a page and its subtree indexes, either of which may be none, to which nothing that
    /// begins from now on is led.
    pub fn give(&self, page: Packed, subtree: Packed) {
        let mut spare = self.spare.lock();
        if !page.is_none() {
            keep(spare.pages.entry(page.units()).or_default(), page);
        }
        if !subtree.is_none() {
            keep(spare.subtrees.entry(subtree.units()).or_default(), subtree);
        }
    }

    /// Pages that are there to be used.
    #[cfg(test)]
    pub fn pages(&self) -> usize {
        self.spare.lock().pages.values().map(Vec::len).sum()
    }
}

/// Without memory for the list the piece is not used again; the arena has it until its end.
fn keep(list: &mut Vec<Packed>, piece: Packed) {
    if list.try_reserve(1).is_ok() {
        list.push(piece);
    }
}
