//! Merkle proofs: that a leaf is at a place in a tree of a known size and root.
//!
//! A proof carries the leaf, its index and the siblings. What it is checked against, the root and
//! the number of leaves, must come from the checker's own trusted source: with the number of leaves
//! fixed, an inner node cannot pass for a leaf and no index beyond the last leaf is accepted.

use crate::error::{Error, Result};
use crate::hash::sha256d_pair;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::subtree::tree::levels::MerkleLevels;
use crate::subtree::tree::merkle::{block_root, check_shape, height_of, root_padded};
use crate::types::Hash;

/// Hashes `leaf` up through `siblings`; the bits of `index`, lowest first, say on which side it
/// stands.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if `index` needs more levels than there are siblings.
pub fn fold_proof(leaf: &Hash, index: u64, siblings: &[Hash]) -> Result<Hash> {
    let levels = u32::try_from(siblings.len()).unwrap_or(u32::MAX);
    if index.checked_shr(levels).unwrap_or(0) != 0 {
        return Err(Error::InvalidArgument(format!("index {index} in a proof of {levels} levels")));
    }
    let fold = |(hash, index): (Hash, u64), sibling: &Hash| {
        let parent = match index & 1 {
            0 => sha256d_pair(&hash, sibling),
            _ => sha256d_pair(sibling, &hash),
        };
        (parent, index >> 1)
    };
    Ok(siblings.iter().fold((*leaf, index), fold).0)
}

/// How a block is cut into subtrees: the roots, of `2^height` leaves each but the last.
#[derive(Debug, Clone, Copy)]
pub struct BlockShape<'a> {
    /// Root of each subtree, the first with the coinbase transaction's id in place, none of them
    /// lifted.
    pub roots: &'a [Hash],
    /// Height of every subtree but the last.
    pub height: u32,
    /// Leaves of the last subtree.
    pub last_leaves: u64,
}

impl BlockShape<'_> {
    /// The block's Merkle root.
    ///
    /// # Errors
    ///
    /// As [`block_root`].
    pub fn root(&self) -> Result<Hash> {
        block_root(self.roots, self.height, self.last_leaves)
    }

    /// Transactions in the block.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an impossible shape.
    pub fn leaves(&self) -> Result<u64> {
        check_shape(self.roots.len(), self.height, self.last_leaves)?;
        let full = (self.roots.len() as u64 - 1).checked_mul(1 << self.height);
        full.and_then(|full| full.checked_add(self.last_leaves))
            .ok_or_else(|| Error::InvalidArgument("a block of more than 2^64 transactions".into()))
    }
}

/// A leaf, its index, and the siblings on its way to the root, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleProof {
    /// The leaf: a transaction id.
    pub leaf: Hash,
    /// Its index among the leaves.
    pub index: u64,
    /// The siblings, lowest first.
    pub siblings: Vec<Hash>,
}

impl MerkleProof {
    /// The proof of leaf `index` of one tree.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an index past the last leaf.
    pub fn in_tree(levels: &MerkleLevels, index: usize) -> Result<Self> {
        let siblings = levels.proof(index)?;
        Ok(Self { leaf: levels.leaves()[index], index: index as u64, siblings })
    }

    /// The proof of leaf `index` of subtree number `subtree` up to the block's Merkle root: through
    /// the subtree, the lift of a short last one, and the tree over the roots.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an impossible shape or index, or if `levels` is not the tree
    /// whose root the block lists (as when the coinbase placeholder was not replaced).
    pub fn in_block(
        block: &BlockShape<'_>,
        subtree: usize,
        levels: &MerkleLevels,
        index: usize,
    ) -> Result<Self> {
        block.leaves()?;
        check_subtree(block, subtree, levels)?;
        let mut proof = Self::in_tree(levels, index)?;
        if block.roots.len() == 1 {
            return Ok(proof);
        }
        let mut roots = reserved_vec("roots of subtrees", block.roots.len())?;
        roots.extend_from_slice(block.roots);
        if let Some(last) = roots.last_mut() {
            *last = root_padded(last, block.last_leaves, block.height)?;
        }
        let mut lifted = levels.root();
        for _ in levels.height()..block.height {
            proof.siblings.push(lifted);
            lifted = sha256d_pair(&lifted, &lifted);
        }
        proof.siblings.extend(MerkleLevels::heap(&roots[..])?.siblings(subtree)?);
        proof.index |= (subtree as u64) << block.height;
        Ok(proof)
    }

    /// The root that this proof leads to.
    ///
    /// # Errors
    ///
    /// As [`fold_proof`].
    pub fn root(&self) -> Result<Hash> {
        fold_proof(&self.leaf, self.index, &self.siblings)
    }

    /// Whether this proves its leaf in a tree of `leaves` leaves with that `root`. Both come from
    /// the checker's own source, never from whoever made the proof.
    #[must_use]
    pub fn verify(&self, root: &Hash, leaves: u64) -> bool {
        self.index < leaves
            && self.siblings.len() as u64 == u64::from(height_of(leaves))
            && self.root().is_ok_and(|own| own == *root)
    }
}

fn check_subtree(block: &BlockShape<'_>, subtree: usize, levels: &MerkleLevels) -> Result<()> {
    let wrong = |what: String| Err(Error::InvalidArgument(what));
    let Some(root) = block.roots.get(subtree) else {
        return wrong(format!("subtree {subtree} of a block of {}", block.roots.len()));
    };
    let is_last = subtree + 1 == block.roots.len();
    let expected = if is_last { block.last_leaves } else { 1 << block.height };
    if levels.len() as u64 != expected {
        return wrong(format!("subtree {subtree} has {expected} leaves, not {}", levels.len()));
    }
    if levels.root() != *root {
        return wrong(format!(
            "the block lists another root for subtree {subtree} than its levels have; \
             is the coinbase placeholder replaced?"
        ));
    }
    Ok(())
}
