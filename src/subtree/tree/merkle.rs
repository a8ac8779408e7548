//! Merkle roots by Bitcoin's rule: an odd last hash of any level is paired with itself.
//!
//! Several levels are computed at once, in blocks of 512 leaves that stay in the first-level cache;
//! the lowest level is hashed from where the leaves lie, between the other fields of nodes. A block
//! yields the 16 hashes five levels up, so that no level is too narrow for wide kernels; they are
//! the leaves of the next round. A block begins at an even place of each of its levels, so only the
//! last block can end odd, and pairs its last hash with itself as the whole level would.
//!
//! Memory: one hash per 32 leaves. Threads: large inputs are spread over rayon's global pool, which
//! has as many threads as there are processors (or as RAYON_NUM_THREADS says).

use rayon::prelude::*;

use super::leaves::{Leaves, ReplacedFirst};
use crate::error::{Error, Result};
use crate::hash::{HashPairs, Sha256d, sha256d_pair};
use crate::subtree::nodes::node::Node;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::types::Hash;

/// Levels above the leaves of a block that are computed while it is in cache.
pub(in crate::subtree) const BLOCK_LEVELS: usize = 5;
pub(in crate::subtree) const BLOCK_LEAVES: usize = 512;
/// Hashes that a full block leaves for the next round.
const BLOCK_ROOTS: usize = BLOCK_LEAVES >> BLOCK_LEVELS;

/// Blocks from which on the work is spread over threads.
pub(in crate::subtree) const PARALLEL_BLOCKS: usize = 8;

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
    let kernel = Sha256d::selected();
    let count = leaves.count();
    if count == 0 {
        return Err(Error::InvalidArgument("a tree without leaves has no root".into()));
    }
    if count <= BLOCK_LEAVES {
        return Ok(fold_whole(kernel, leaves, count));
    }
    let roots = count.div_ceil(BLOCK_LEAVES / BLOCK_ROOTS);
    let mut above = reserved_vec::<Hash>("roots of blocks of leaves", roots)?;
    above.resize(roots, [0; 32]);
    let fold = |(block, roots): (usize, &mut [Hash])| {
        let start = block * BLOCK_LEAVES;
        fold_block(kernel, leaves, start, BLOCK_LEAVES.min(count - start), roots);
    };
    if count >= PARALLEL_BLOCKS * BLOCK_LEAVES {
        above.par_chunks_mut(BLOCK_ROOTS).enumerate().for_each(fold);
    } else {
        above.chunks_mut(BLOCK_ROOTS).enumerate().for_each(fold);
    }
    root(&above[..])
}

/// The root of each of `trees`, on all threads: small trees side by side, large ones also within.
///
/// ```
/// use blocktier::subtree::merkle;
/// let (one, other) = ([[1u8; 32], [2; 32], [3; 32]], [[4u8; 32]]);
/// let roots = merkle::roots(&[&one[..], &other[..]])?;
/// assert_eq!(roots, [merkle::root(&one[..])?, [4; 32]]);
/// # Ok::<(), blocktier::Error>(())
/// ```
///
/// # Errors
///
/// As [`root`], for any of the trees.
pub fn roots<L: Leaves + ?Sized>(trees: &[&L]) -> Result<Vec<Hash>> {
    if let Some(empty) = trees.iter().position(|leaves| leaves.count() == 0) {
        let text = format!("tree {empty} of {} has no leaves and no root", trees.len());
        return Err(Error::InvalidArgument(text));
    }
    let mut roots = reserved_vec::<Hash>("roots of trees", trees.len())?;
    roots.resize(trees.len(), [0; 32]);
    let leaves = trees.iter().fold(0usize, |sum, leaves| sum.saturating_add(leaves.count()));
    let place = |(out, leaves): (&mut Hash, &&L)| -> Result<()> {
        *out = root(*leaves)?;
        Ok(())
    };
    if leaves >= PARALLEL_BLOCKS * BLOCK_LEAVES {
        roots.par_iter_mut().zip(trees).try_for_each(place)?;
    } else {
        roots.iter_mut().zip(trees).try_for_each(place)?;
    }
    Ok(roots)
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

pub(in crate::subtree) fn check_shape(
    subtrees: usize,
    height: u32,
    last_leaves: u64,
) -> Result<()> {
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

/// The root of a tree of at most 512 leaves.
fn fold_whole<L: Leaves + ?Sized>(kernel: Sha256d, leaves: &L, count: usize) -> Hash {
    if count == 1 {
        return *leaves.leaf(0);
    }
    let mut first = [[0u8; 32]; BLOCK_LEAVES / 2];
    let mut second = [[0u8; 32]; BLOCK_LEAVES / 4];
    let (mut from, mut to) = (&mut first[..], &mut second[..]);
    let mut width = count.div_ceil(2);
    hash_leaves(kernel, leaves, 0, count, &mut from[..width]);
    while width > 1 {
        let parents = width.div_ceil(2);
        hash_level(kernel, &from[..width], &mut to[..parents]);
        std::mem::swap(&mut from, &mut to);
        width = parents;
    }
    from[0]
}

/// The hashes five levels above a run of at most 512 leaves of a larger tree.
fn fold_block<L: Leaves + ?Sized>(
    kernel: Sha256d,
    leaves: &L,
    start: usize,
    count: usize,
    roots: &mut [Hash],
) {
    let mut first = [[0u8; 32]; BLOCK_LEAVES / 2];
    let mut second = [[0u8; 32]; BLOCK_LEAVES / 4];
    let (mut from, mut to) = (&mut first[..], &mut second[..]);
    let mut width = count.div_ceil(2);
    hash_leaves(kernel, leaves, start, count, &mut from[..width]);
    for _ in 2..BLOCK_LEVELS {
        let parents = width.div_ceil(2);
        hash_level(kernel, &from[..width], &mut to[..parents]);
        std::mem::swap(&mut from, &mut to);
        width = parents;
    }
    hash_level(kernel, &from[..width], roots);
}

/// The first level above at most 512 leaves, read from where they lie if they do so evenly.
fn hash_leaves<L: Leaves + ?Sized>(
    kernel: Sha256d,
    leaves: &L,
    start: usize,
    count: usize,
    out: &mut [Hash],
) {
    let Some(pairs) = leaves.pairs(start, count) else {
        let mut copy = [[0u8; 32]; BLOCK_LEAVES];
        leaves.copy_into(start, &mut copy[..count]);
        return hash_level(kernel, &copy[..count], out);
    };
    let (paired, odd) = out.split_at_mut(pairs.count());
    kernel.hash_pairs(&pairs, paired);
    if let [odd] = odd {
        let last = leaves.leaf(start + count - 1);
        *odd = kernel.hash_pair(last, last);
    }
}

/// One level from the one below it. `out` has half as many hashes as `level`, rounded up.
pub(in crate::subtree) fn hash_level(kernel: Sha256d, level: &[Hash], out: &mut [Hash]) {
    let pairs = HashPairs::of_hashes(level);
    let (paired, odd) = out.split_at_mut(pairs.count());
    kernel.hash_pairs(&pairs, paired);
    if let ([odd], [.., last]) = (odd, level) {
        *odd = kernel.hash_pair(last, last);
    }
}
