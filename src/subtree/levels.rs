//! A Merkle tree with all its levels kept: a proof reads one hash per level, and a changed leaf
//! recomputes only its path.
//!
//! One array, level after level, leaves first, root last: 64 bytes per leaf in all. By Bitcoin's
//! rule an odd last hash of a level is paired with itself; it is not stored twice.
//!
//! Threads: shared reads or one writer, by the rules of borrowing. Building spreads over rayon's
//! pool, in blocks that stay in cache for five levels (see [`merkle`](super::merkle)).

use std::path::Path;

use rayon::prelude::*;

use super::leaves::Leaves;
use super::merkle::{BLOCK_LEAVES, BLOCK_LEVELS, PARALLEL_BLOCKS, hash_level, height_of};
use super::plain_array::PlainArray;
use crate::error::{Error, Result};
use crate::hash::{Sha256d, sha256d_pair};
use crate::storage::{HugePages, MappingOptions};
use crate::types::Hash;

const WHAT: &str = "Merkle levels";

/// Hashes from which on levels in RAM get pages of their own: 4 MiB of them, two huge pages.
const ANONYMOUS_HASHES: usize = (4 << 20) / size_of::<Hash>();

/// The kept levels of one tree.
///
/// ```
/// use blocktier::subtree::{MerkleLevels, fold_proof};
/// let mut levels = MerkleLevels::heap(&[[1u8; 32], [2; 32], [3; 32]][..])?;
/// levels.set_leaf(0, [9; 32])?;
/// let siblings = levels.proof(2)?;
/// assert_eq!(fold_proof(&[3; 32], 2, &siblings)?, levels.root());
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug)]
pub struct MerkleLevels {
    hashes: PlainArray<Hash>,
    leaves: usize,
}

/// The place of one level in the array.
#[derive(Clone, Copy)]
struct Level {
    start: usize,
    width: usize,
}

impl Level {
    fn above(self) -> Self {
        Self { start: self.start + self.width, width: self.width.div_ceil(2) }
    }
}

impl MerkleLevels {
    /// Builds all levels over `leaves` on the heap.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without leaves, [`Error::OutOfMemory`].
    pub fn heap<L: Leaves + ?Sized>(leaves: &L) -> Result<Self> {
        let hashes = PlainArray::heap(WHAT, hashes_of(leaves.count())?)?;
        Ok(Self::build(hashes, leaves))
    }

    /// Builds all levels over `leaves` in RAM: anonymous pages, huge ones if asked for, where the
    /// levels fill some; the heap below that.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap).
    pub fn in_memory<L: Leaves + ?Sized>(leaves: &L, huge_pages: HugePages) -> Result<Self> {
        let count = hashes_of(leaves.count())?;
        if count < ANONYMOUS_HASHES {
            return Self::heap(leaves);
        }
        Ok(Self::build(PlainArray::anonymous(WHAT, count, huge_pages)?, leaves))
    }

    /// Builds all levels over `leaves` in an unlinked file in `dir`.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap) and [`NodeArray::mapped`](super::NodeArray::mapped).
    pub fn mapped<L: Leaves + ?Sized>(
        dir: &Path,
        leaves: &L,
        options: &MappingOptions,
    ) -> Result<Self> {
        let hashes = PlainArray::in_file(WHAT, dir, hashes_of(leaves.count())?, options)?;
        Ok(Self::build(hashes, leaves))
    }

    fn build<L: Leaves + ?Sized>(mut hashes: PlainArray<Hash>, leaves: &L) -> Self {
        let kernel = Sha256d::selected();
        let count = leaves.count();
        let (mut level, mut above) = hashes.split_at_mut(count);
        if count < PARALLEL_BLOCKS * BLOCK_LEAVES {
            leaves.copy_into(0, level);
        } else {
            (level, above) = build_blocks(kernel, level, above, |block, leaves_of_block| {
                leaves.copy_into(block * BLOCK_LEAVES, leaves_of_block);
            });
        }
        while level.len() >= PARALLEL_BLOCKS * BLOCK_LEAVES {
            (level, above) = build_blocks(kernel, level, above, |_, _| ());
        }
        while level.len() > 1 {
            let (parents, rest) = above.split_at_mut(level.len().div_ceil(2));
            hash_level(kernel, level, parents);
            (level, above) = (parents, rest);
        }
        Self { hashes, leaves: count }
    }

    /// How many leaves there are; at least one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.leaves
    }

    /// Never: a tree has a leaf.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// Levels between leaf and root: the length of every proof.
    #[must_use]
    pub fn height(&self) -> u32 {
        height_of(self.leaves as u64)
    }

    /// Whether the levels are in an unlinked file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.hashes.is_in_file()
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.hashes.last().copied().unwrap_or_default()
    }

    /// The leaves.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.hashes[..self.leaves]
    }

    /// The siblings on the way from leaf `index` to the root, lowest first. The odd last hash of a
    /// level is its own sibling.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf.
    pub fn siblings(&self, index: usize) -> Result<impl Iterator<Item = &Hash>> {
        self.check_index(index)?;
        let path = self.path(index);
        Ok(path.map(|(level, place)| &self.hashes[level.start + (place ^ 1).min(level.width - 1)]))
    }

    /// The siblings as a vector; see [`siblings`](Self::siblings).
    ///
    /// # Errors
    ///
    /// As [`siblings`](Self::siblings).
    pub fn proof(&self, index: usize) -> Result<Vec<Hash>> {
        Ok(self.siblings(index)?.copied().collect())
    }

    /// Replaces leaf `index` and recomputes its path: one hash per level.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf; nothing is changed.
    pub fn set_leaf(&mut self, index: usize, hash: Hash) -> Result<()> {
        self.check_index(index)?;
        self.hashes[index] = hash;
        let path = self.path(index);
        for (level, place) in path {
            let left = &self.hashes[level.start + (place & !1)];
            let right = &self.hashes[level.start + (place | 1).min(level.width - 1)];
            let parent = sha256d_pair(left, right);
            self.hashes[level.above().start + place / 2] = parent;
        }
        Ok(())
    }

    fn check_index(&self, index: usize) -> Result<()> {
        if index < self.leaves {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!("leaf {index} of a tree of {} leaves", self.leaves)))
    }

    /// Each level below the root with the place in it that leads to leaf `index`.
    fn path(&self, index: usize) -> impl Iterator<Item = (Level, usize)> + use<> {
        let mut next = (Level { start: 0, width: self.leaves }, index);
        std::iter::from_fn(move || {
            let (level, place) = next;
            next = (level.above(), place / 2);
            (level.width > 1).then_some((level, place))
        })
    }
}

/// Computes the five levels above `level`, block by block on all threads, into the front of
/// `above`; `fill` is given each block of `level` first, with its number. Returns the highest of
/// the levels and what is left of `above`.
fn build_blocks<'a>(
    kernel: Sha256d,
    level: &'a mut [Hash],
    above: &'a mut [Hash],
    fill: impl Fn(usize, &mut [Hash]) + Sync,
) -> (&'a mut [Hash], &'a mut [Hash]) {
    let width = level.len();
    let (first, above) = above.split_at_mut(width.div_ceil(2));
    let (second, above) = above.split_at_mut(width.div_ceil(4));
    let (third, above) = above.split_at_mut(width.div_ceil(8));
    let (fourth, above) = above.split_at_mut(width.div_ceil(16));
    let (fifth, above) = above.split_at_mut(width.div_ceil(1 << BLOCK_LEVELS));
    let blocks = (
        level.par_chunks_mut(BLOCK_LEAVES),
        first.par_chunks_mut(BLOCK_LEAVES / 2),
        second.par_chunks_mut(BLOCK_LEAVES / 4),
        third.par_chunks_mut(BLOCK_LEAVES / 8),
        fourth.par_chunks_mut(BLOCK_LEAVES / 16),
        fifth.par_chunks_mut(BLOCK_LEAVES >> BLOCK_LEVELS),
    );
    blocks.into_par_iter().enumerate().for_each(|(block, levels)| {
        fill(block, levels.0);
        hash_level(kernel, levels.0, levels.1);
        hash_level(kernel, levels.1, levels.2);
        hash_level(kernel, levels.2, levels.3);
        hash_level(kernel, levels.3, levels.4);
        hash_level(kernel, levels.4, levels.5);
    });
    (fifth, above)
}

/// Hashes of all levels of a tree of `leaves` leaves; 0 without leaves.
fn hashes_of(leaves: usize) -> Result<usize> {
    if leaves == 0 {
        return Err(Error::InvalidArgument("a tree without leaves has no levels".into()));
    }
    let mut level = Level { start: 0, width: leaves };
    while level.width > 1 {
        level = level.above();
    }
    Ok(level.start + 1)
}
