//! Which bits of a key's hash say where the key belongs.
//!
//! ```text
//! lo  63........52 51...................28 27..............12 11..........0
//!     shard (12)   tag (24)                bucket bits (16)   unused
//! hi  63.............................32 31...............................0
//!     base bits (32)                    unused
//! ```
//!
//! Base bits times the number of base pages: the upper half says which base page, the lower half
//! is left for directories by hash (`directory`).
//!
//! A page of `n` buckets gives a key two of them: the primary from the bucket bits, and the
//! alternate, `(T(tag) - primary) mod n`. The same formula leads back, for every `n`, so a slot
//! that knows its tag and its bucket knows the other bucket too.

use super::SHARDS;
use super::slot::{SECONDARY, TAG_BITS, TAG_SHIFT};
use crate::hash::keyed::KeyHash;

/// The shard of a key, in `0..SHARDS`.
#[inline]
#[must_use]
pub fn shard_of(h: KeyHash) -> usize {
    (h.lo >> (64 - SHARDS.trailing_zeros())) as usize
}

/// A key's place within its shard, for pages of any size: all that the index ever tells keys by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub tag: u32,
    pub bucket_bits: u16,
    pub base_bits: u32,
}

impl Home {
    #[inline(always)]
    pub fn of(h: KeyHash) -> Self {
        Self {
            tag: (h.lo >> 28) as u32 & ((1 << TAG_BITS) - 1),
            // The low 16 bits of what is left.
            bucket_bits: (h.lo >> 12) as u16,
            base_bits: (h.hi >> 32) as u32,
        }
    }

    /// The key's primary bucket in a page of `buckets`.
    #[inline(always)]
    pub fn primary(self, buckets: usize) -> usize {
        (usize::from(self.bucket_bits) * buckets) >> 16
    }

    /// The slot word in the primary bucket, without a location.
    #[inline(always)]
    pub fn primary_word(self) -> u64 {
        u64::from(self.tag) << TAG_SHIFT
    }

    /// The slot word in the alternate bucket, without a location.
    #[inline(always)]
    pub fn secondary_word(self) -> u64 {
        self.primary_word() | SECONDARY
    }
}

/// The other bucket of a key with `tag` that has `bucket` in a page of `buckets`.
#[inline(always)]
pub(super) fn other_bucket(tag: u32, bucket: usize, buckets: usize) -> usize {
    // An odd factor carries every tag bit into the upper ones, also where a split fixed low bits.
    let mixed = u64::from(tag.wrapping_mul(0x9e37_79b1));
    let turn = ((mixed * buckets as u64) >> 32) as usize;
    if turn >= bucket { turn - bucket } else { turn + buckets - bucket }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_their_bits() {
        let ones = Home::of(KeyHash { hi: u64::MAX, lo: u64::MAX });
        assert_eq!((ones.tag, ones.bucket_bits, ones.base_bits), (0xff_ffff, 0xffff, u32::MAX));
        assert_eq!(shard_of(KeyHash { hi: 0, lo: u64::MAX }), SHARDS - 1);
        let shard_only = KeyHash { hi: 0, lo: 0xfff << 52 };
        assert_eq!(Home::of(shard_only), Home { tag: 0, bucket_bits: 0, base_bits: 0 });
        assert_eq!(ones.primary(7), 6);
    }

    #[test]
    fn the_other_bucket_of_the_other_bucket_is_the_first() {
        for buckets in [1, 2, 3, 8, 35, 128, 181, 255, 256] {
            for tag in (0..1 << 24).step_by(4_099) {
                for bucket in 0..buckets {
                    let other = other_bucket(tag, bucket, buckets);
                    assert!(other < buckets);
                    assert_eq!(other_bucket(tag, other, buckets), bucket);
                }
            }
        }
    }

    /// The alternates of one bucket spread over the page, whatever low tag bits splits have fixed.
    #[test]
    fn alternates_spread() {
        for fixed_bits in [0, 4, 10] {
            let mut counts = vec![0u32; 181];
            for i in 0..18_100u32 {
                let tag = ((i.wrapping_mul(0x2c1b_3c6d) >> 8) << fixed_bits) & 0xff_ffff | 1;
                counts[other_bucket(tag, 77, 181)] += 1;
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*min > 40 && *max < 180, "fixed {fixed_bits}: {min}..{max}, mean 100");
        }
    }
}
