//! From shard and key to page.
//!
//! ```text
//! roots: shard 0: [base page 0][1]..  shard 1: [..]..          one word each
//!                      |       |
//!                      |       page (depth 0)
//!                      subdirectory, depth 2: [00][01][10][11] page words by low tag bits,
//!                                             [00][01][10][11] words of their subtree indexes
//! ```
//!
//! The base page comes from bits of the hash that nothing else uses. A base page that was split has
//! a subdirectory, which doubles when a page of its full depth splits (extendible hashing); a page
//! of lesser depth stands in it several times. Readers follow one or two words; each names memory
//! that stays valid and says itself how long it is.
//!
//! A base page that was split too often is built anew (`rehash`). Its root then leads to a
//! directory by the hash bits that choosing the base page has left, whose entries are as roots:
//! pages that have all tag bits before them, or subdirectories. Readers follow three words then.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::SHARDS;
use super::arena::Arena;
use super::bucket::prefetch;
use super::home::Home;
use super::packed::Packed;
use crate::{Error, Result};

/// A directory by hash has at most this log2 of entries.
const HASH_DEPTH_MAX: u32 = 24;
/// Base pages per shard whose roots stay in the second cache: 32 KiB each.
const ROOTS_IN_CACHE: u32 = 4;

pub(super) struct Directory {
    /// `SHARDS * base_pages` page words, then as many words of subtree indexes.
    words: Vec<AtomicU64>,
    base_pages: u32,
}

/// A page and where the directory refers to it. Valid under the shard's lock.
#[derive(Copy, Clone, Debug)]
pub(super) struct Leaf {
    root: usize,
    /// Entry of the root's directory by hash; 0 without one.
    entry: usize,
    /// Low tag bits of the keys of this page.
    prefix: usize,
    /// Depth of the subdirectory, 0 for none.
    pub global_depth: u32,
    /// `NONE` when the shard has no page yet.
    pub page: Packed,
    /// `NONE` when no subtree index was set in this page.
    pub subtree: Packed,
}

impl Leaf {
    /// The same place with another page and subtree indexes.
    pub fn with(self, page: Packed, subtree: Packed) -> Self {
        Self { page, subtree, ..self }
    }

    /// Position of the base page among all.
    #[cfg(test)]
    pub fn root(&self) -> usize {
        self.root
    }

    /// Entry of the root's directory by hash.
    #[cfg(test)]
    pub fn entry(&self) -> usize {
        self.entry
    }
}

impl Directory {
    /// A directory without pages.
    pub fn new(arena: &Arena, base_pages: u64) -> Result<Self> {
        let too_many = || Error::OutOfMemory {
            what: "index directory",
            bytes: base_pages.saturating_mul(2 * 8 * SHARDS as u64),
            available: u64::MAX,
        };
        let base_pages = u32::try_from(base_pages).map_err(|_| too_many())?;
        let len = (base_pages as usize).checked_mul(2 * SHARDS).ok_or_else(too_many)?;
        arena.charge((len * size_of::<AtomicU64>()) as u64)?;
        let mut words = Vec::new();
        words.try_reserve_exact(len).map_err(|_| too_many())?;
        words.resize_with(len, AtomicU64::default);
        Ok(Self { words, base_pages })
    }

    /// Gives every base page its memory: `pages` yields one word for each.
    pub fn fill(&self, pages: impl Iterator<Item = Packed>) {
        for (word, page) in self.words[..self.words.len() / 2].iter().zip(pages) {
            word.store(page.raw(), Release);
        }
    }

    /// Base pages per shard.
    #[inline(always)]
    pub fn base_pages(&self) -> u32 {
        self.base_pages
    }

    /// The root of a key, and the bits by which a directory by hash tells keys apart, from the
    /// highest on.
    #[inline(always)]
    fn root(&self, shard: usize, home: Home) -> (usize, u32) {
        let product = u64::from(home.base_bits) * u64::from(self.base_pages);
        // The lower half, and what is below `base_pages`.
        (shard * self.base_pages as usize + (product >> 32) as usize, product as u32)
    }

    /// The root of a key.
    pub fn root_of(&self, shard: usize, home: Home) -> usize {
        self.root(shard, home).0
    }

    /// The entry of a key in a directory by hash of `depth`, from 1.
    pub fn entry_of(&self, home: Home, depth: u32) -> usize {
        entry_of(self.root(0, home).1, depth)
    }

    /// Most entries that a directory by hash can tell apart, as their log2.
    pub fn hash_depth_max(&self) -> u32 {
        self.base_pages.leading_zeros().min(HASH_DEPTH_MAX)
    }

    /// Where the words of a root, or of an entry of its directory by hash, are: that of the page or
    /// subdirectory, and that of the page's subtree indexes. Under the shard's lock.
    fn cell<'a>(&'a self, arena: &'a Arena, root: usize, entry: usize) -> [&'a AtomicU64; 2] {
        let word = Self::load(&self.words[root]);
        if word.depth() != 0 && word.is_by_hash() {
            let entries = word.directory(arena);
            [&entries[entry], &entries[(1 << word.depth()) + entry]]
        } else {
            [&self.words[root], &self.words[self.words.len() / 2 + root]]
        }
    }

    #[inline(always)]
    fn load(word: &AtomicU64) -> Packed {
        Packed::from_raw(word.load(Acquire))
    }

    /// The page of a key, for readers.
    #[inline(always)]
    pub fn page(&self, arena: &Arena, shard: usize, home: Home) -> Packed {
        let (root, bits) = self.root(shard, home);
        let mut word = Self::load(&self.words[root]);
        if word.depth() == 0 {
            return word;
        }
        if word.is_by_hash() {
            word = Self::load(&word.directory(arena)[entry_of(bits, word.depth())]);
            if word.depth() == 0 {
                return word;
            }
        }
        let prefix = home.tag as usize & ((1 << word.depth()) - 1);
        Self::load(&word.directory(arena)[prefix])
    }

    /// Starts to bring near what `page` reads: the roots where there are many of them, which no
    /// cache holds, otherwise the key's entry of a subdirectory, if there is one.
    #[inline(always)]
    pub fn prefetch(&self, arena: &Arena, shard: usize, home: Home) {
        let (root, bits) = self.root(shard, home);
        if self.base_pages > ROOTS_IN_CACHE {
            prefetch(&self.words[root]);
            return;
        }
        let word = Self::load(&self.words[root]);
        if word.depth() != 0 {
            let entry = if word.is_by_hash() {
                entry_of(bits, word.depth())
            } else {
                home.tag as usize & ((1 << word.depth()) - 1)
            };
            prefetch(&word.directory(arena)[entry]);
        }
    }

    /// The page of a key with its arrays. A reader's view may mix two states.
    #[inline(always)]
    pub fn leaf(&self, arena: &Arena, shard: usize, home: Home) -> Leaf {
        let (root, bits) = self.root(shard, home);
        let word = Self::load(&self.words[root]);
        let by_hash = word.depth() != 0 && word.is_by_hash();
        let entry = if by_hash { entry_of(bits, word.depth()) } else { 0 };
        self.leaf_at(arena, (root, word), entry, home.tag as usize)
    }

    /// The leaf of a tag below `word`, which was read from the root and says how long its directory
    /// is: for a reader it may be another one by now.
    #[inline(always)]
    fn leaf_at(
        &self,
        arena: &Arena,
        (root, mut word): (usize, Packed),
        entry: usize,
        tag: usize,
    ) -> Leaf {
        let mut beside = &self.words[self.words.len() / 2 + root];
        if word.depth() != 0 && word.is_by_hash() {
            let entries = word.directory(arena);
            beside = &entries[(1 << word.depth()) + entry];
            word = Self::load(&entries[entry]);
        }
        let depth = word.depth();
        if depth == 0 {
            let subtree = Self::load(beside);
            return Leaf { root, entry, prefix: 0, global_depth: 0, page: word, subtree };
        }
        let entries = word.directory(arena);
        let prefix = tag & ((1 << depth) - 1);
        let page = Self::load(&entries[prefix]);
        let subtree = Self::load(&entries[(1 << depth) + prefix]);
        let prefix = prefix & ((1 << page.depth()) - 1);
        Leaf { root, entry, prefix, global_depth: depth, page, subtree }
    }

    /// Replaces page and subtree words of a leaf. In a write section.
    pub fn replace(&self, arena: &Arena, leaf: &Leaf, page: Packed, subtree: Packed) {
        let [word, beside] = self.cell(arena, leaf.root, leaf.entry);
        if leaf.global_depth == 0 {
            beside.store(subtree.raw(), Release);
            word.store(page.raw(), Release);
            return;
        }
        let entries = Self::load(word).directory(arena);
        store(entries, leaf.global_depth, leaf.prefix, page, subtree);
    }

    /// The subdirectory that a split of this leaf needs in addition, if any, filled.
    pub fn prepare_split(&self, arena: &Arena, leaf: &Leaf) -> Result<Option<Packed>> {
        let depth = leaf.global_depth;
        if leaf.page.depth() < depth {
            return Ok(None);
        }
        let doubled = Packed::new_directory(arena, depth + 1)?;
        let to = doubled.directory(arena);
        let old = 1usize << depth;
        let word = Self::load(self.cell(arena, leaf.root, leaf.entry)[0]);
        for i in 0..old * 2 {
            let (page, subtree) = if depth == 0 {
                (leaf.page, leaf.subtree)
            } else {
                let from = word.directory(arena);
                (Self::load(&from[i % old]), Self::load(&from[old + i % old]))
            };
            to[i].store(page.raw(), Release);
            to[old * 2 + i].store(subtree.raw(), Release);
        }
        Ok(Some(doubled))
    }

    /// Puts two pages in the place of a leaf's one: `low` for keys whose next tag bit is 0. In a
    /// write section.
    pub fn split(
        &self,
        arena: &Arena,
        leaf: &Leaf,
        doubled: Option<Packed>,
        low: (Packed, Packed),
        high: (Packed, Packed),
    ) {
        let word = self.cell(arena, leaf.root, leaf.entry)[0];
        let directory = doubled.unwrap_or_else(|| Self::load(word));
        let (entries, depth) = (directory.directory(arena), directory.depth());
        store(entries, depth, leaf.prefix, low.0, low.1);
        store(entries, depth, leaf.prefix | 1 << leaf.page.depth(), high.0, high.1);
        word.store(directory.raw(), Release);
    }

    /// log2 of the entries of a root's directory by hash; 0 without one.
    #[cfg(test)]
    pub fn hash_depth(&self, root: usize) -> u32 {
        let word = Self::load(&self.words[root]);
        if word.depth() != 0 && word.is_by_hash() { word.depth() } else { 0 }
    }

    /// The roots of a shard.
    pub fn roots(&self, shard: usize) -> Range<usize> {
        let base_pages = self.base_pages as usize;
        shard * base_pages..(shard + 1) * base_pages
    }

    /// Calls `f` with each page of a shard once. Under the shard's lock.
    #[cfg(test)]
    pub fn for_each_leaf(&self, arena: &Arena, shard: usize, mut f: impl FnMut(Leaf)) {
        for root in self.roots(shard) {
            self.for_each_leaf_of(arena, root, &mut f);
        }
    }

    /// Calls `f` with each page of a root once. Under the shard's lock.
    pub fn for_each_leaf_of(&self, arena: &Arena, root: usize, mut f: impl FnMut(Leaf)) {
        let word = Self::load(&self.words[root]);
        let by_hash = word.depth() != 0 && word.is_by_hash();
        for entry in 0..if by_hash { 1 << word.depth() } else { 1 } {
            let depth = Self::load(self.cell(arena, root, entry)[0]).depth();
            for tag in 0..1 << depth {
                let leaf = self.leaf_at(arena, (root, word), entry, tag);
                if leaf.prefix == tag && !leaf.page.is_none() {
                    f(leaf);
                }
            }
        }
    }

    /// Puts a directory by hash in the place of all that a root led to. In a write section.
    pub fn replace_root(&self, root: usize, by_hash: Packed) {
        self.words[self.words.len() / 2 + root].store(Packed::NONE.raw(), Release);
        self.words[root].store(by_hash.raw(), Release);
    }
}

/// The entry of a directory by hash of `depth`, from 1, for a key's bits.
#[inline(always)]
fn entry_of(bits: u32, depth: u32) -> usize {
    (bits >> (32 - depth)) as usize
}

/// Sets all entries of a subdirectory whose low bits are those of a page.
fn store(entries: &[AtomicU64], depth: u32, prefix: usize, page: Packed, subtree: Packed) {
    for i in (prefix..1 << depth).step_by(1 << page.depth()) {
        entries[(1 << depth) + i].store(subtree.raw(), Release);
        entries[i].store(page.raw(), Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(tag: u32) -> Home {
        Home { tag, bucket_bits: 0, base_bits: 0 }
    }

    /// Splits one base page down to depth 5 on one side: every tag leads to the page whose low bits
    /// it has, and the neighbours stay as they were.
    #[test]
    fn splits_lead_each_tag_to_its_page() {
        let arena = Arena::prepared_by(None, None, false);
        let directory = Directory::new(&arena, 1).unwrap();
        directory.fill(Packed::new_pages(&arena, SHARDS, 1).unwrap());
        let untouched = directory.page(&arena, 8, home(0)).raw();
        for tag in [0, 0, 1, 0, 3, 0] {
            let leaf = directory.leaf(&arena, 7, home(tag));
            let depth = leaf.page.depth() + 1;
            let doubled = directory.prepare_split(&arena, &leaf).unwrap();
            assert_eq!(doubled.is_some(), depth > leaf.global_depth);
            let low = leaf.page.with_depth(depth);
            let high = Packed::new_page(&arena, 1, depth).unwrap();
            let subtree = Packed::new_subtree(&arena, 1).unwrap();
            directory.split(&arena, &leaf, doubled, (low, leaf.subtree), (high, subtree));
        }
        let mut seen = Vec::new();
        directory.for_each_leaf(&arena, 7, |leaf| seen.push((leaf.page.raw(), leaf.prefix)));
        assert_eq!(seen.len(), 7);
        for tag in 0..64u32 {
            let leaf = directory.leaf(&arena, 7, home(tag));
            assert_eq!(leaf.page, directory.page(&arena, 7, home(tag)));
            assert_eq!(tag as usize & ((1 << leaf.page.depth()) - 1), leaf.prefix);
            assert!(seen.contains(&(leaf.page.raw(), leaf.prefix)));
            assert_eq!(leaf.subtree.is_none(), leaf.prefix == 0);
        }
        assert_eq!(directory.page(&arena, 8, home(0)).raw(), untouched);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let arena = Arena::prepared_by(None, None, false);
        assert!(matches!(Directory::new(&arena, 1 << 40), Err(Error::OutOfMemory { .. })));
        assert_eq!(arena.reserved_bytes(), 0);
    }
}
