//! Proofs of many leaves of one tree.

use super::proof::MerkleProof;
use crate::error::{Error, Result};
use crate::storage::HugePages;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::subtree::tree::leaves::Leaves;
use crate::subtree::tree::levels::MerkleLevels;
use crate::types::Hash;

/// Proofs of several leaves of one tree, in one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManyProofs {
    height: usize,
    leaves: Vec<(u64, Hash)>,
    siblings: Vec<Hash>,
}

impl ManyProofs {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether none was asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Proof number `number` in the order of the indexes that were given, copied.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<MerkleProof> {
        let (index, leaf) = *self.leaves.get(number)?;
        let start = number * self.height;
        let siblings = self.siblings.get(start..start + self.height)?.to_vec();
        Some(MerkleProof { leaf, index, siblings })
    }

    /// All siblings, proof after proof, each as long as the tree is high, lowest first.
    #[must_use]
    pub fn siblings(&self) -> &[Hash] {
        &self.siblings
    }
}

impl MerkleLevels {
    /// The proofs of several leaves, in the order of `indexes`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf, [`Error::OutOfMemory`].
    pub fn proofs(&self, indexes: &[usize]) -> Result<ManyProofs> {
        let height = self.height() as usize;
        // A height is below 64 and indexes lie in memory, so this cannot wrap.
        let mut siblings = reserved_vec("proofs", indexes.len().saturating_mul(height))?;
        let mut leaves = reserved_vec("proofs", indexes.len())?;
        for &index in indexes {
            siblings.extend(self.siblings(index)?);
            leaves.push((index as u64, self.leaves()[index]));
        }
        Ok(ManyProofs { height, leaves, siblings })
    }
}

/// The proofs of several leaves of a tree whose levels are not kept: they are computed once, for
/// all of the proofs.
///
/// ```
/// use blocktier::subtree::{merkle, proofs_many};
/// let leaves = [[1u8; 32], [2; 32], [3; 32]];
/// let proofs = proofs_many(&leaves[..], &[2, 0])?;
/// let root = merkle::root(&leaves[..])?;
/// assert!(proofs.get(0).is_some_and(|proof| proof.leaf == [3; 32] && proof.verify(&root, 3)));
/// # Ok::<(), blocktier::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] without leaves or for an index past the last one, before anything is
/// computed; [`Error::OutOfMemory`].
pub fn proofs_many<L: Leaves + ?Sized>(leaves: &L, indexes: &[usize]) -> Result<ManyProofs> {
    let count = leaves.count();
    if let Some(wrong) = indexes.iter().find(|index| **index >= count) {
        return Err(Error::InvalidArgument(format!("leaf {wrong} of a tree of {count} leaves")));
    }
    MerkleLevels::in_memory(leaves, HugePages::Transparent)?.proofs(indexes)
}
