//! A Merkle tree with all its levels kept: a proof reads one hash per level, and a changed leaf
//! recomputes only its path.
//!
//! One array, level after level, leaves first, root last: 64 bytes per leaf of the capacity in all.
//! The capacity says where a level begins, so that leaves come and go without moving it. By
//! Bitcoin's rule an odd last hash of a level is paired with itself; it is not stored twice.
//!
//! Threads: shared reads or one writer, by the rules of borrowing. Building spreads over rayon's
//! pool, in blocks that stay in cache for five levels (see [`merkle`](crate::subtree::merkle)).

use std::path::Path;

use rayon::prelude::*;

use super::leaves::Leaves;
use super::merkle::{BLOCK_LEAVES, BLOCK_LEVELS, PARALLEL_BLOCKS, hash_level, height_of};
use crate::error::{Error, Result};
use crate::hash::{Sha256d, sha256d_pair};
use crate::storage::{HugePages, MappingOptions};
use crate::subtree::nodes::plain_array::PlainArray;
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
    pub(in crate::subtree) hashes: PlainArray<Hash>,
    pub(in crate::subtree) capacity: usize,
    pub(in crate::subtree) leaves: usize,
}

/// Where levels are kept.
#[derive(Debug, Clone, Copy)]
pub enum LevelsMemory<'a> {
    /// The heap.
    Heap,
    /// Anonymous pages, huge ones if asked for, where the levels fill some; the heap below that.
    Pages(HugePages),
    /// An unlinked file in this directory.
    File(&'a Path, &'a MappingOptions),
}

/// The place of one level in the array.
#[derive(Clone, Copy)]
pub(in crate::subtree) struct Level {
    pub(in crate::subtree) start: usize,
    /// Hashes of this level at full capacity.
    room: usize,
    /// Hashes that it has.
    pub(in crate::subtree) width: usize,
}

impl Level {
    pub(in crate::subtree) fn above(self) -> Self {
        Self {
            start: self.start + self.room,
            room: self.room.div_ceil(2),
            width: self.width.div_ceil(2),
        }
    }
}

impl MerkleLevels {
    /// Builds all levels over `leaves` on the heap.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without leaves, [`Error::OutOfMemory`].
    pub fn heap<L: Leaves + ?Sized>(leaves: &L) -> Result<Self> {
        Self::with_capacity(leaves, leaves.count(), LevelsMemory::Heap)
    }

    /// Builds all levels over `leaves` in RAM: anonymous pages, huge ones if asked for, where the
    /// levels fill some; the heap below that.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap).
    pub fn in_memory<L: Leaves + ?Sized>(leaves: &L, huge_pages: HugePages) -> Result<Self> {
        Self::with_capacity(leaves, leaves.count(), LevelsMemory::Pages(huge_pages))
    }

    /// Builds all levels over `leaves` in an unlinked file in `dir`.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap) and [`NodeArray::mapped`](crate::subtree::NodeArray::mapped).
    pub fn mapped<L: Leaves + ?Sized>(
        dir: &Path,
        leaves: &L,
        options: &MappingOptions,
    ) -> Result<Self> {
        Self::with_capacity(leaves, leaves.count(), LevelsMemory::File(dir, options))
    }

    /// Builds all levels over `leaves` with room for `capacity` of them, which never grows.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without leaves or with more than `capacity`; as
    /// [`heap`](Self::heap) and [`NodeArray::mapped`](crate::subtree::NodeArray::mapped).
    pub fn with_capacity<L: Leaves + ?Sized>(
        leaves: &L,
        capacity: usize,
        memory: LevelsMemory<'_>,
    ) -> Result<Self> {
        let count = leaves.count();
        if count == 0 {
            return Err(Error::InvalidArgument("a tree without leaves has no levels".into()));
        }
        if count > capacity {
            let text = format!("{count} leaves in levels with room for {capacity}");
            return Err(Error::InvalidArgument(text));
        }
        let all = hashes_of(capacity)?;
        let hashes = match memory {
            LevelsMemory::Pages(huge_pages) if all >= ANONYMOUS_HASHES => {
                PlainArray::anonymous(WHAT, all, huge_pages)?
            }
            LevelsMemory::Heap | LevelsMemory::Pages(_) => PlainArray::heap(WHAT, all)?,
            LevelsMemory::File(dir, options) => PlainArray::in_file(WHAT, dir, all, options)?,
        };
        Ok(Self::build(hashes, capacity, leaves))
    }

    fn build<L: Leaves + ?Sized>(
        mut hashes: PlainArray<Hash>,
        capacity: usize,
        leaves: &L,
    ) -> Self {
        let kernel = Sha256d::selected();
        let count = leaves.count();
        let (mut room, mut above) = (capacity, &mut hashes[..]);
        let mut level = take_level(&mut above, capacity, count);
        if count < PARALLEL_BLOCKS * BLOCK_LEAVES {
            leaves.copy_into(0, level);
        } else {
            level = build_blocks(kernel, level, &mut room, &mut above, |block, leaves_of_block| {
                leaves.copy_into(block * BLOCK_LEAVES, leaves_of_block);
            });
        }
        while level.len() >= PARALLEL_BLOCKS * BLOCK_LEAVES {
            level = build_blocks(kernel, level, &mut room, &mut above, |_, _| ());
        }
        while level.len() > 1 {
            room = room.div_ceil(2);
            let parents = take_level(&mut above, room, level.len().div_ceil(2));
            hash_level(kernel, level, parents);
            level = parents;
        }
        Self { hashes, capacity, leaves: count }
    }

    /// How many leaves there are; at least one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.leaves
    }

    /// How many leaves there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
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
        let mut level = self.lowest();
        while level.width > 1 {
            level = level.above();
        }
        self.hashes[level.start]
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

    /// The level of the leaves.
    pub(in crate::subtree) const fn lowest(&self) -> Level {
        Level { start: 0, room: self.capacity, width: self.leaves }
    }

    pub(in crate::subtree) fn check_index(&self, index: usize) -> Result<()> {
        if index < self.leaves {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!("leaf {index} of a tree of {} leaves", self.leaves)))
    }

    /// Each level below the root with the place in it that leads to leaf `index`.
    fn path(&self, index: usize) -> impl Iterator<Item = (Level, usize)> + use<> {
        let mut next = (self.lowest(), index);
        std::iter::from_fn(move || {
            let (level, place) = next;
            next = (level.above(), place / 2);
            (level.width > 1).then_some((level, place))
        })
    }
}

/// Cuts the memory of a level, `room` hashes, off the front of `above` and returns those in use.
fn take_level<'a>(above: &mut &'a mut [Hash], room: usize, width: usize) -> &'a mut [Hash] {
    let (level, rest) = std::mem::take(above).split_at_mut(room);
    *above = rest;
    &mut level[..width]
}

/// Computes the five levels above `level`, block by block on all threads, into the front of
/// `above`; `fill` is given each block of `level` first, with its number. `room` is that of `level`
/// and becomes that of the highest of the levels, which is returned.
fn build_blocks<'a>(
    kernel: Sha256d,
    level: &mut [Hash],
    room: &mut usize,
    above: &mut &'a mut [Hash],
    fill: impl Fn(usize, &mut [Hash]) + Sync,
) -> &'a mut [Hash] {
    let mut width = level.len();
    let mut next = || {
        (*room, width) = (room.div_ceil(2), width.div_ceil(2));
        take_level(above, *room, width)
    };
    let (first, second, third, fourth, fifth) = (next(), next(), next(), next(), next());
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
    fifth
}

/// Hashes of all levels of a tree with room for `capacity` leaves, at least one.
fn hashes_of(capacity: usize) -> Result<usize> {
    // The levels above the leaves have fewer hashes than those and one for each odd level.
    if capacity > usize::MAX / 4 {
        let text = format!("levels with room for {capacity} leaves");
        return Err(Error::InvalidArgument(text));
    }
    let mut level = Level { start: 0, room: capacity, width: capacity };
    while level.width > 1 {
        level = level.above();
    }
    Ok(level.start + 1)
}
