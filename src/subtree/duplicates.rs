//! Finding equal hashes in bounded memory and time, whoever chose the hashes.
//!
//! Leaves are sorted by their first eight bytes, then by the rest: n log n comparisons at worst for
//! every input, where a hash table keyed by the (chosen) hashes could be made quadratic. 16 bytes
//! per leaf.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::leaves::Leaves;
use super::plain_array::reserved_vec;
use crate::error::{Error, Result};
use crate::types::Hash;

const PARALLEL_LEAVES: usize = 1 << 15;

/// The leaves in sorted order, by number.
pub(super) struct SortedLeaves<'a, L: ?Sized> {
    leaves: &'a L,
    /// First eight bytes and number of each leaf.
    order: Vec<(u64, u32)>,
}

impl<'a, L: Leaves + ?Sized> SortedLeaves<'a, L> {
    pub(super) fn new(leaves: &'a L) -> Result<Self> {
        let count = u32::try_from(leaves.count())
            .map_err(|_| Error::InvalidArgument("more than 2^32 leaves in one subtree".into()))?;
        let mut order = reserved_vec("sorted leaves", count as usize)?;
        order.extend((0..count).map(|number| (prefix(leaves.leaf(number as usize)), number)));
        if order.len() >= PARALLEL_LEAVES {
            order.par_sort_unstable();
        } else {
            order.sort_unstable();
        }
        // Equal prefixes are rare unless somebody made them; only those look at the whole hashes.
        for run in order.chunk_by_mut(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
            run.sort_unstable_by(|a, b| {
                leaves.leaf(a.1 as usize).cmp(leaves.leaf(b.1 as usize)).then(a.1.cmp(&b.1))
            });
        }
        Ok(Self { leaves, order })
    }

    /// The first leaf that repeats an earlier one, with the one that it repeats.
    pub(super) fn first_duplicate(&self) -> Option<(usize, usize)> {
        let repeats = self.order.windows(2).filter_map(|pair| {
            let ((prefix_a, a), (prefix_b, b)) = (pair[0], pair[1]);
            let equal = prefix_a == prefix_b
                && self.leaves.leaf(a as usize) == self.leaves.leaf(b as usize);
            equal.then_some((b as usize, a as usize))
        });
        repeats.min()
    }

    pub(super) fn contains(&self, hash: &Hash) -> bool {
        let wanted = prefix(hash);
        let compare = |&(prefix, number): &(u64, u32)| -> Ordering {
            prefix.cmp(&wanted).then_with(|| self.leaves.leaf(number as usize).cmp(hash))
        };
        self.order.binary_search_by(compare).is_ok()
    }
}

fn prefix(hash: &Hash) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_earliest_repetition_also_among_equal_prefixes() {
        let mut leaves: Vec<Hash> =
            (0..100u8).map(|i| std::array::from_fn(|j| if j < 31 { 7 } else { i })).collect();
        assert_eq!(SortedLeaves::new(&leaves[..]).unwrap().first_duplicate(), None);
        leaves[90] = leaves[3];
        leaves[40] = leaves[80];
        leaves[95] = leaves[3];
        let sorted = SortedLeaves::new(&leaves[..]).unwrap();
        assert_eq!(sorted.first_duplicate(), Some((80, 40)));
        assert!(sorted.contains(&leaves[3]) && sorted.contains(&leaves[99]));
        assert!(!sorted.contains(&[7; 32].map(|byte| byte + 1)));
    }

    #[test]
    fn many_leaves_are_sorted_in_parallel_to_the_same_answer() {
        let mut leaves: Vec<Hash> = (0..3 * PARALLEL_LEAVES as u64)
            .map(|i| {
                let mut hash = [0; 32];
                hash[..8].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
                hash
            })
            .collect();
        assert_eq!(SortedLeaves::new(&leaves[..]).unwrap().first_duplicate(), None);
        leaves[70_000] = leaves[12];
        let sorted = SortedLeaves::new(&leaves[..]).unwrap();
        assert_eq!(sorted.first_duplicate(), Some((70_000, 12)));
    }
}
