//! Trees that no other list of leaves has the root of (CVE-2012-2459).
//!
//! Bitcoin's rule pairs the odd last hash of a level with itself. So a list whose last leaves are
//! repeated can have the root of the list without the repetition. Such a list shows by two equal
//! hashes in one pair, on some level.

use super::leaves::Leaves;
use super::levels::MerkleLevels;
use crate::error::{Error, Result};
use crate::storage::HugePages;
use crate::types::Hash;

/// A pair of equal hashes, which is what another list of leaves could have brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EqualPair {
    /// 0 for leaves.
    pub level: u32,
    /// The place of the left one in its level.
    pub place: u64,
}

impl EqualPair {
    /// The leaves below the two hashes, of a tree of `leaves`: first, end.
    #[must_use]
    pub fn leaves(&self, leaves: u64) -> std::ops::Range<u64> {
        let at = |place: u64| place.checked_shl(self.level).unwrap_or(u64::MAX).min(leaves);
        at(self.place)..at(self.place + 2)
    }
}

impl MerkleLevels {
    /// The first pair of equal hashes, lowest level first; none in a tree whose root no other list
    /// of leaves has (short of a collision of sha256d).
    #[must_use]
    pub fn equal_pair(&self) -> Option<EqualPair> {
        let (mut level, mut number) = (self.lowest(), 0);
        while level.width > 1 {
            let hashes = &self.hashes[level.start..level.start + level.width];
            let (pairs, _) = hashes.as_chunks::<2>();
            if let Some(place) = pairs.iter().position(|[left, right]| left == right) {
                return Some(EqualPair { level: number, place: 2 * place as u64 });
            }
            (level, number) = (level.above(), number + 1);
        }
        None
    }
}

/// The root of `leaves`, if no other list of leaves has it.
///
/// ```
/// use blocktier::subtree::{merkle, unique_root};
/// let leaves = [[1u8; 32], [2; 32], [3; 32]];
/// assert_eq!(unique_root(&leaves[..])?, merkle::root(&leaves[..])?);
/// // The same root, and a transaction twice.
/// let repeated = [[1u8; 32], [2; 32], [3; 32], [3; 32]];
/// assert_eq!(merkle::root(&repeated[..])?, merkle::root(&leaves[..])?);
/// assert!(unique_root(&repeated[..]).is_err());
/// # Ok::<(), blocktier::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] naming the leaves, or without any; [`Error::OutOfMemory`].
pub fn unique_root<L: Leaves + ?Sized>(leaves: &L) -> Result<Hash> {
    let levels = MerkleLevels::in_memory(leaves, HugePages::Transparent)?;
    let Some(pair) = levels.equal_pair() else { return Ok(levels.root()) };
    let count = levels.len() as u64;
    let (range, half) = (pair.leaves(count), 1 << pair.level);
    Err(Error::InvalidArgument(format!(
        "not the only list of leaves with this root (CVE-2012-2459): of {count} leaves, {} to {} \
         hash to the same as {} to {}",
        range.start,
        range.start + half - 1,
        range.start + half,
        range.end - 1
    )))
}
