//! One word that says where a piece of the arena is and how large.
//!
//! ```text
//! 63..............48 47...........................6 5.........0
//! units - 1 (16)     address / 64                   depth (6)
//! ```
//!
//! Readers take address and size from one atomic load, so that the two always fit, whatever a
//! writer does meanwhile. 0 is "nothing there". What a word refers to follows from where it stands:
//!
//! | stands in | refers to | units | depth |
//! |---|---|---|---|
//! | directory root | a page | buckets | 0 |
//! | directory root | a subdirectory | 1 | log2 of its pages, from 1 |
//! | directory root | a directory by hash | 2 | log2 of its entries, from 1 |
//! | directory by hash | as a directory root, but no directory by hash | | |
//! | subdirectory | a page | buckets | tag bits that splits have used, from 1 |
//! | beside a page's word | its subtree indexes | buckets | 0 |
//! | shard header | the stash | 1 | log2 of its entries |
#![expect(unsafe_code, reason = "turns stored addresses of the arena back into slices")]

use std::sync::atomic::{AtomicU16, AtomicU64};

use super::arena::Arena;
use super::bucket::{Bucket, SLOTS};
use crate::{Error, Result};

const DEPTH_MASK: u64 = 63;
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1 - DEPTH_MASK;
/// Tells a directory by hash from a subdirectory.
const HASH_DIRECTORY_UNITS: usize = 2;
/// Bytes of the side array per bucket: 16 bucket bits per slot.
const SIDE_BYTES: usize = SLOTS * size_of::<u16>();

/// A reference into the arena as one word; made only here, from an allocation of its kind.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed(u64);

impl Packed {
    pub const NONE: Self = Self(0);

    /// Memory for a page of `buckets`, all empty.
    pub fn new_page(arena: &Arena, buckets: usize, depth: u32) -> Result<Self> {
        Self::allocate(arena, size_of::<Bucket>() * buckets, buckets, depth)
    }

    /// Memory for a small page of `buckets` and its side array.
    pub fn new_page_with_side(arena: &Arena, buckets: usize) -> Result<Self> {
        Self::allocate(arena, (size_of::<Bucket>() + SIDE_BYTES) * buckets, buckets, 0)
    }

    /// Memory for a subdirectory of `1 << depth` pages.
    pub fn new_directory(arena: &Arena, depth: u32) -> Result<Self> {
        Self::allocate(arena, (2 * size_of::<u64>()) << depth, 1, depth)
    }

    /// Memory for a directory by hash of `1 << depth` entries.
    pub fn new_hash_directory(arena: &Arena, depth: u32) -> Result<Self> {
        Self::allocate(arena, (2 * size_of::<u64>()) << depth, HASH_DIRECTORY_UNITS, depth)
    }

    /// Memory for the subtree indexes of a page of `buckets`, all 0.
    pub fn new_subtree(arena: &Arena, buckets: usize) -> Result<Self> {
        Self::allocate(arena, Self::subtree_bytes(buckets), buckets, 0)
    }

    /// Memory for a stash of `1 << depth` entries.
    pub fn new_stash(arena: &Arena, depth: u32) -> Result<Self> {
        Self::allocate(arena, (2 * size_of::<u64>()) << depth, 1, depth)
    }

    /// Bytes of the subtree indexes of a page of `buckets`.
    pub const fn subtree_bytes(buckets: usize) -> usize {
        SLOTS * size_of::<u16>() * buckets
    }

    /// `count` pages of `buckets` each, side by side, in one piece of memory.
    pub fn new_pages(
        arena: &Arena,
        count: usize,
        buckets: usize,
    ) -> Result<impl Iterator<Item = Self>> {
        let stride = size_of::<Bucket>() * buckets;
        let first = Self::allocate(arena, stride.saturating_mul(count), buckets, 0)?;
        Ok((0..count).map(move |i| Self(first.0 + (i * stride) as u64)))
    }

    fn allocate(arena: &Arena, bytes: usize, units: usize, depth: u32) -> Result<Self> {
        let address = arena.allocate(bytes)?.as_ptr().expose_provenance() as u64;
        debug_assert!((1..=1 << 16).contains(&units) && u64::from(depth) <= DEPTH_MASK);
        if (address + bytes as u64) >> ADDRESS_BITS != 0 || address & DEPTH_MASK != 0 {
            return Err(Error::Unsupported(format!("memory at addresses like {address:#x}")));
        }
        Ok(Self((units as u64 - 1) << ADDRESS_BITS | address | u64::from(depth)))
    }

    /// The word as a directory stores it.
    #[inline(always)]
    pub fn from_raw(word: u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub fn raw(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub fn depth(self) -> u32 {
        // 6 bits.
        (self.0 & DEPTH_MASK) as u32
    }

    /// Whether a root's word of a depth other than 0 refers to a directory by hash.
    #[inline(always)]
    pub fn is_by_hash(self) -> bool {
        self.units() == HASH_DIRECTORY_UNITS
    }

    #[inline(always)]
    pub fn units(self) -> usize {
        (self.0 >> ADDRESS_BITS) as usize + 1
    }

    /// The same piece after another split.
    pub fn with_depth(self, depth: u32) -> Self {
        Self(self.0 & !DEPTH_MASK | u64::from(depth))
    }

    /// The same piece with more of its buckets in use. The caller knows that it has them.
    pub fn with_units(self, units: usize) -> Self {
        Self(self.0 & (ADDRESS_MASK | DEPTH_MASK) | (units as u64 - 1) << ADDRESS_BITS)
    }

    /// The buckets of a page.
    #[inline(always)]
    pub fn buckets(self, arena: &Arena) -> &[Bucket] {
        self.slice(arena, 0, self.units())
    }

    /// The side array of a page that has one: the bucket bits of each slot.
    pub fn side(self, arena: &Arena) -> &[AtomicU16] {
        self.slice(arena, size_of::<Bucket>() * self.units(), SLOTS * self.units())
    }

    /// The page words of a subdirectory, or the words of a directory by hash, then the words of
    /// their subtree indexes.
    #[inline(always)]
    pub fn directory(self, arena: &Arena) -> &[AtomicU64] {
        self.slice(arena, 0, 2 << self.depth())
    }

    /// Subtree indexes, one per slot.
    pub fn subtree(self, arena: &Arena) -> &[AtomicU16] {
        self.slice(arena, 0, SLOTS * self.units())
    }

    /// Stash entries, two words each.
    pub fn stash(self, arena: &Arena) -> &[AtomicU64] {
        self.slice(arena, 0, 2 << self.depth())
    }

    /// `items` behind `offset_bytes`; only for words that are not `NONE`.
    #[inline(always)]
    fn slice<T>(self, _arena: &Arena, offset_bytes: usize, items: usize) -> &[T] {
        debug_assert!(!self.is_none());
        let address = (self.0 & ADDRESS_MASK) as usize + offset_bytes;
        let start: *const T = std::ptr::with_exposed_provenance(address);
        // SAFETY: words come from `allocate` alone and stay with the index that made them, so the
        // memory is there as long as the arena is borrowed; size and offset are those of its kind.
        // Items are atomics, for which zeroed memory and any later content are valid.
        unsafe { std::slice::from_raw_parts(start, items) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn words_keep_address_size_and_depth_apart() {
        let arena = Arena::prepared_by(None, None, false);
        let page = Packed::new_page(&arena, 256, 5).unwrap();
        assert_eq!((page.units(), page.depth(), page.buckets(&arena).len()), (256, 5, 256));
        let deeper = page.with_depth(24).with_units(17);
        assert_eq!((deeper.units(), deeper.depth()), (17, 24));
        assert_eq!(deeper.buckets(&arena).as_ptr(), page.buckets(&arena).as_ptr());
        assert!(!page.is_none() && Packed::NONE.is_none());
        let directory = Packed::new_directory(&arena, 3).unwrap();
        assert_eq!(directory.directory(&arena).len(), 16);
        assert_eq!(Packed::new_stash(&arena, 2).unwrap().stash(&arena).len(), 8);
        assert_eq!(Packed::new_subtree(&arena, 3).unwrap().subtree(&arena).len(), 24);
    }

    #[test]
    fn pieces_do_not_overlap() {
        let arena = Arena::prepared_by(None, None, false);
        let small = Packed::new_page_with_side(&arena, 8).unwrap();
        let next = Packed::new_page(&arena, 8, 0).unwrap();
        let pages: Vec<_> = Packed::new_pages(&arena, 3, 5).unwrap().collect();
        small.side(&arena)[63].store(7, Relaxed);
        small.buckets(&arena)[7].store(7, 9);
        let others = pages.iter().chain([&next]);
        assert!(others.flat_map(|page| page.buckets(&arena)).all(|b| b.words().all(|w| w == 0)));
        let starts: Vec<_> =
            pages.iter().map(|page| page.buckets(&arena).as_ptr() as usize).collect();
        assert_eq!((starts[1] - starts[0], starts[2] - starts[1]), (320, 320));
    }
}
