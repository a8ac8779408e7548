//! Hashes at even distances in memory, to be taken in pairs: 64-byte inputs, a level of a Merkle
//! tree, or the hashes of nodes with other fields between them, which are read where they lie.

use crate::types::Hash;

const HASH: usize = size_of::<Hash>();

/// Pairs of hashes. Hash `i` starts at byte `i * stride`; pair `i` is hashes `2i` and `2i + 1`, an
/// odd last hash belongs to none.
///
/// ```
/// use blocktier::hash::HashPairs;
/// let nodes = [[1u8; 48], [2; 48], [3; 48]];
/// let pairs = HashPairs::with_stride(nodes.as_flattened(), 48);
/// assert_eq!(pairs.count(), 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HashPairs<'a> {
    /// Ends with the last hash or behind it.
    bytes: &'a [u8],
    stride: usize,
    count: usize,
}

impl<'a> HashPairs<'a> {
    /// Hashes side by side.
    #[must_use]
    pub const fn of_hashes(hashes: &'a [Hash]) -> Self {
        Self { bytes: hashes.as_flattened(), stride: HASH, count: hashes.len() / 2 }
    }

    /// 64-byte inputs, each of them a pair.
    #[must_use]
    pub const fn of_inputs(inputs: &'a [[u8; 64]]) -> Self {
        Self { bytes: inputs.as_flattened(), stride: HASH, count: inputs.len() }
    }

    /// The hashes that begin at every `stride` bytes, as far as they are whole.
    ///
    /// # Panics
    ///
    /// If `stride` is below 32: hashes would overlap.
    #[must_use]
    pub const fn with_stride(bytes: &'a [u8], stride: usize) -> Self {
        assert!(stride >= HASH, "hashes overlap");
        let count = match bytes.len().checked_sub(HASH) {
            // The last hash has number `before_last / stride`.
            Some(before_last) => (before_last / stride).div_ceil(2),
            None => 0,
        };
        Self { bytes, stride, count }
    }

    /// How many pairs there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    #[cfg(any(all(target_arch = "x86_64", not(miri)), test))]
    pub(super) const fn stride(&self) -> usize {
        self.stride
    }

    /// The first `count` pairs, and the others.
    pub(in crate::hash) fn split_at(&self, count: usize) -> (Self, Self) {
        assert!(count <= self.count, "as many pairs as there are");
        // With a wide stride the last pair may end before the next one's place.
        let middle = (2 * count * self.stride).min(self.bytes.len());
        let (first, rest) = self.bytes.split_at(middle);
        let (left, right) = (count, self.count - count);
        (Self { bytes: first, count: left, ..*self }, Self { bytes: rest, count: right, ..*self })
    }

    /// The bytes from the first hash of pair `first` to the last one of pair `first + count - 1`.
    #[inline(always)]
    pub(super) fn run(&self, first: usize, count: usize) -> &'a [u8] {
        let start = 2 * first * self.stride;
        &self.bytes[start..start + (2 * count - 1) * self.stride + HASH]
    }

    /// Both hashes of pair `index`.
    #[inline(always)]
    pub(in crate::hash) fn pair(&self, index: usize) -> (&'a Hash, &'a Hash) {
        let run = self.run(index, 1);
        match (run.first_chunk(), run.last_chunk()) {
            (Some(left), Some(right)) => (left, right),
            _ => unreachable!("a run holds whole hashes"),
        }
    }

    /// Pair `index` as one input.
    pub(in crate::hash) fn input(&self, index: usize) -> [u8; 64] {
        let (left, right) = self.pair(index);
        let mut input = [0; 64];
        input[..HASH].copy_from_slice(left);
        input[HASH..].copy_from_slice(right);
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_counts_when_it_is_whole() {
        let bytes = [0u8; 200];
        // Hashes begin at 0, 48, 96, 144: the fourth ends at 176.
        for (length, count) in [(0, 0), (31, 0), (32, 0), (79, 0), (80, 1), (175, 1), (176, 2)] {
            let pairs = HashPairs::with_stride(&bytes[..length], 48);
            assert_eq!(pairs.count(), count, "{length} bytes");
        }
    }

    #[test]
    fn parts_have_the_pairs_of_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for stride in [32, 33, 48] {
            let pairs = HashPairs::with_stride(&bytes, stride);
            for middle in 0..=pairs.count() {
                let (left, right) = pairs.split_at(middle);
                assert_eq!((left.count(), right.count()), (middle, pairs.count() - middle));
                for index in 0..pairs.count() {
                    let at = 2 * index * stride;
                    let input = match index.checked_sub(middle) {
                        Some(index) => right.input(index),
                        None => left.input(index),
                    };
                    assert_eq!(input[..32], bytes[at..at + 32]);
                    assert_eq!(input[32..], bytes[at + stride..at + stride + 32]);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "hashes overlap")]
    fn a_stride_below_a_hash_is_refused() {
        let _ = HashPairs::with_stride(&[0; 100], 31);
    }
}
