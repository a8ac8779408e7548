//! Changes to kept levels: leaves replaced, appended, removed. Only the hashes that a change
//! reaches are computed anew.

use rayon::prelude::*;

use super::leaves::Leaves;
use super::levels::MerkleLevels;
use super::merkle::{BLOCK_LEAVES, PARALLEL_BLOCKS, hash_level};
use crate::error::{Error, Result};
use crate::hash::Sha256d;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::types::Hash;

impl MerkleLevels {
    /// Replaces several leaves, each a number and its new hash; of several for one leaf the last
    /// one counts. Hashes above more than one of them are computed once.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf, [`Error::OutOfMemory`]; nothing
    /// is changed.
    pub fn set_leaves(&mut self, changes: &[(usize, Hash)]) -> Result<()> {
        for (index, _) in changes {
            self.check_index(*index)?;
        }
        let mut places = reserved_vec("changed leaves", changes.len())?;
        places.extend(changes.iter().map(|(index, _)| *index));
        for (index, hash) in changes {
            self.hashes[*index] = *hash;
        }
        places.sort_unstable();
        let kernel = Sha256d::selected();
        let mut level = self.lowest();
        while level.width > 1 {
            for place in &mut places {
                *place /= 2;
            }
            places.dedup();
            let above = level.above();
            for &place in &places {
                let left = &self.hashes[level.start + 2 * place];
                let right = &self.hashes[level.start + (2 * place + 1).min(level.width - 1)];
                self.hashes[above.start + place] = kernel.hash_pair(left, right);
            }
            level = above;
        }
        Ok(())
    }

    /// Appends `leaves`.
    ///
    /// ```
    /// use blocktier::subtree::{LevelsMemory, MerkleLevels, merkle};
    /// let leaves = [[1u8; 32], [2; 32], [3; 32]];
    /// let mut levels = MerkleLevels::with_capacity(&leaves[..1], 3, LevelsMemory::Heap)?;
    /// levels.append(&leaves[1..])?;
    /// assert_eq!(levels.root(), merkle::root(&leaves[..])?);
    /// assert!(levels.append(&leaves[..1]).is_err(), "there is no more room");
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when they do not all fit; nothing is changed.
    pub fn append<L: Leaves + ?Sized>(&mut self, leaves: &L) -> Result<()> {
        let (from, count) = (self.leaves, leaves.count());
        if count > self.capacity - from {
            return Err(Error::InvalidArgument(format!(
                "{count} leaves do not fit: {from} of {} in use",
                self.capacity
            )));
        }
        if count > 0 {
            leaves.copy_into(0, &mut self.hashes[from..from + count]);
            self.leaves = from + count;
            self.recompute_from(from);
        }
        Ok(())
    }

    /// Removes leaf `index` and moves the later ones up, as removing a node does.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf or the only leaf; nothing is
    /// changed.
    pub fn remove(&mut self, index: usize) -> Result<()> {
        self.check_index(index)?;
        if self.leaves == 1 {
            return Err(last_leaf());
        }
        self.hashes.copy_within(index + 1..self.leaves, index);
        self.leaves -= 1;
        self.recompute_from(index.min(self.leaves - 1));
        Ok(())
    }

    /// Keeps the first `length` leaves.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for 0 or more leaves than there are; nothing is changed.
    pub fn truncate(&mut self, length: usize) -> Result<()> {
        if length == 0 {
            return Err(last_leaf());
        }
        self.check_index(length - 1)?;
        if length < self.leaves {
            self.leaves = length;
            self.recompute_from(length - 1);
        }
        Ok(())
    }

    /// Compares the leaves with those they were made of: their number and every hash.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] naming the first leaf that differs, or both numbers.
    pub fn check_current<L: Leaves + ?Sized>(&self, leaves: &L) -> Result<()> {
        let count = leaves.count();
        if count != self.leaves {
            let text = format!("stale levels: of {} leaves, not {count}", self.leaves);
            return Err(Error::InvalidArgument(text));
        }
        let differs = |index: &usize| self.hashes[*index] != *leaves.leaf(*index);
        match (0..count).find(differs) {
            None => Ok(()),
            Some(index) => {
                let text = format!("stale levels: leaf {index} has been changed since");
                Err(Error::InvalidArgument(text))
            }
        }
    }

    /// Computes what lies above the leaves from `first` on. The leaves before it are those that
    /// the levels were computed for, and `first` is a leaf: the last hash of a level, whose partner
    /// may have come or gone, is then among those computed.
    fn recompute_from(&mut self, first: usize) {
        let kernel = Sha256d::selected();
        let (mut level, mut first) = (self.lowest(), first);
        while level.width > 1 {
            let above = level.above();
            first /= 2;
            let (below, parents) = self.hashes.split_at_mut(above.start);
            let below = &below[level.start + 2 * first..level.start + level.width];
            let parents = &mut parents[first..above.width];
            if below.len() >= PARALLEL_BLOCKS * BLOCK_LEAVES {
                let runs = below.par_chunks(BLOCK_LEAVES);
                runs.zip(parents.par_chunks_mut(BLOCK_LEAVES / 2))
                    .for_each(|(below, parents)| hash_level(kernel, below, parents));
            } else {
                hash_level(kernel, below, parents);
            }
            level = above;
        }
    }
}

fn last_leaf() -> Error {
    Error::InvalidArgument("a tree keeps at least one leaf".into())
}
