//! Merkle roots by Bitcoin's rule: an odd last hash of any level is paired with itself.
//!
//! A root without kept levels is computed in blocks of 512 leaves that stay in the first-level
//! cache; the roots of the blocks are the leaves of the next round. A short last block is lifted to
//! the height of the others, which is the same as pairing its hash with itself on each missing
//! level.
//!
//! Memory: one hash per 512 leaves. Threads: large inputs are spread over rayon's global pool.

use rayon::prelude::*;

use super::leaves::{Leaves, ReplacedFirst};
use super::node::Node;
use super::plain_array::reserved_vec;
use crate::error::{Error, Result};
use crate::hash::{sha256d_64_many, sha256d_pair};
use crate::types::Hash;

const BLOCK_HEIGHT: u32 = 9;
const BLOCK_LEAVES: usize = 1 << BLOCK_HEIGHT;

/// Blocks (or runs of as many hashes of a level) from which on the work is spread over threads.
const PARALLEL_BLOCKS: usize = 8;

/// The tallest tree a height may name; leaf counts are 64-bit.
pub const MAX_HEIGHT: u32 = 63;

/// The height of a tree of `leaves` leaves: levels between leaf and root, 0 for one leaf (and for
/// none).
#[must_use]
pub fn height_of(leaves: u64) -> u32 {
    leaves.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1)
}

/// The root of `leaves`.
///
/// ```
/// use blocktier::{hash::sha256d_pair, subtree::merkle};
/// let leaves = [[1u8; 32], [2; 32], [3; 32]];
/// let left = sha256d_pair(&leaves[0], &leaves[1]);
/// let right = sha256d_pair(&leaves[2], &leaves[2]);
/// assert_eq!(merkle::root(&leaves[..])?, sha256d_pair(&left, &right));
/// # Ok::<(), blocktier::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] without leaves, [`Error::OutOfMemory`].
pub fn root<L: Leaves + ?Sized>(leaves: &L) -> Result<Hash> {
    let count = leaves.count();
    if count == 0 {
        return Err(Error::InvalidArgument("a tree without leaves has no root".into()));
    }
    if count <= BLOCK_LEAVES {
        return Ok(fold_block(leaves, 0, count, height_of(count as u64)));
    }
    let blocks = count.div_ceil(BLOCK_LEAVES);
    let mut roots = reserved_vec::<Hash>("roots of blocks of leaves", blocks)?;
    roots.resize(blocks, [0; 32]);
    let fold = |(block, root): (usize, &mut Hash)| {
        let start = block * BLOCK_LEAVES;
        *root = fold_block(leaves, start, BLOCK_LEAVES.min(count - start), BLOCK_HEIGHT);
    };
    if blocks >= PARALLEL_BLOCKS {
        roots.par_iter_mut().enumerate().for_each(fold);
    } else {
        roots.iter_mut().enumerate().for_each(fold);
    }
    root(&roots[..])
}

/// The root of the hashes of `nodes`.
///
/// # Errors
///
/// As [`root`].
pub fn root_of_nodes(nodes: &[Node]) -> Result<Hash> {
    root(nodes)
}

/// The root of `leaves` with leaf 0 (the coinbase placeholder) replaced by the coinbase
/// transaction's id.
///
/// # Errors
///
/// As [`root`].
pub fn root_with_coinbase<L: Leaves + ?Sized>(leaves: &L, coinbase: &Hash) -> Result<Hash> {
    root(&ReplacedFirst { leaves, first: *coinbase })
}

/// Lifts the `root` of `leaves` leaves to `height`: sha256d(r ‖ r) for each missing level.
///
/// # Errors
///
/// [`Error::InvalidArgument`] without leaves, or if the tree is taller than `height`, or `height`
/// is above [`MAX_HEIGHT`].
pub fn root_padded(root: &Hash, leaves: u64, height: u32) -> Result<Hash> {
    let own = height_of(leaves);
    if leaves == 0 || own > height || height > MAX_HEIGHT {
        return Err(Error::InvalidArgument(format!(
            "a root over {leaves} leaves (height {own}) cannot be lifted to height {height}"
        )));
    }
    Ok((own..height).fold(*root, |root, _| sha256d_pair(&root, &root)))
}

/// The Merkle root of a block from the roots of its subtrees. All but the last have `2^height`
/// leaves, the last has `last_leaves`; the first root is that with the coinbase transaction's id in
/// place.
///
/// A single subtree's root is the block's; of several, a shorter last one is lifted to `height`
/// first.
///
/// # Errors
///
/// [`Error::InvalidArgument`] without roots, or if `last_leaves` is 0 or above `2^height`.
pub fn block_root(subtree_roots: &[Hash], height: u32, last_leaves: u64) -> Result<Hash> {
    check_shape(subtree_roots.len(), height, last_leaves)?;
    match subtree_roots {
        [only] => Ok(*only),
        [full @ .., last] => {
            let mut roots = reserved_vec("roots of subtrees", subtree_roots.len())?;
            roots.extend_from_slice(full);
            roots.push(root_padded(last, last_leaves, height)?);
            root(&roots[..])
        }
        [] => Err(Error::InvalidArgument("a block without subtrees has no root".into())),
    }
}

pub(super) fn check_shape(subtrees: usize, height: u32, last_leaves: u64) -> Result<()> {
    if subtrees == 0 {
        return Err(Error::InvalidArgument("a block without subtrees has no root".into()));
    }
    if height > MAX_HEIGHT || last_leaves == 0 || last_leaves > 1 << height {
        return Err(Error::InvalidArgument(format!(
            "a last subtree of {last_leaves} leaves among subtrees of height {height}"
        )));
    }
    Ok(())
}

/// The hash `levels` above a run of at most 512 leaves.
fn fold_block<L: Leaves + ?Sized>(leaves: &L, start: usize, count: usize, levels: u32) -> Hash {
    let mut first = [[0u8; 32]; BLOCK_LEAVES];
    let mut second = [[0u8; 32]; BLOCK_LEAVES / 2];
    leaves.copy_into(start, &mut first[..count]);
    let (mut from, mut to) = (&mut first[..], &mut second[..]);
    let mut width = count;
    for _ in 0..levels {
        let parents = width.div_ceil(2);
        hash_level(&from[..width], &mut to[..parents]);
        std::mem::swap(&mut from, &mut to);
        width = parents;
    }
    from[0]
}

/// One level from the one below it. `out` has half as many hashes as `level`, rounded up.
pub(super) fn hash_level(level: &[Hash], out: &mut [Hash]) {
    let pairs = level.as_flattened().as_chunks::<64>().0;
    sha256d_64_many(pairs, &mut out[..pairs.len()]);
    if let (Some(last), Some(out)) = (level.last(), out.get_mut(pairs.len())) {
        *out = sha256d_pair(last, last);
    }
}

/// As [`hash_level`], spread over threads if the level is wide.
pub(super) fn hash_wide_level(level: &[Hash], out: &mut [Hash]) {
    if level.len() < PARALLEL_BLOCKS * BLOCK_LEAVES {
        return hash_level(level, out);
    }
    // An even run of the level makes whole parents, so that only the very last run can end odd.
    level
        .par_chunks(BLOCK_LEAVES)
        .zip(out.par_chunks_mut(BLOCK_LEAVES / 2))
        .for_each(|(level, out)| hash_level(level, out));
}
