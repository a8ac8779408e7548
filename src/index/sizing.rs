//! How large pages are.
//!
//! With a hint, a shard has as many pages of at most 256 buckets as the hint needs at a load of
//! 0.85; shards and pages above the mean use the room up to about 0.97, and the few beyond split.
//!
//! Without one (or with a small one) a shard has one growing page: a starter of 8 buckets, then a
//! quarter, half, and all of a frame. The frame's size is staggered log-uniformly over the shards,
//! from 128 up to 256 buckets, so that at every number of entries the shards are spread evenly
//! between "just grown" and "full", and neither memory nor work comes in waves.

use super::SHARDS;
use super::bucket::SLOTS;

pub(super) const PAGE_BUCKETS_MAX: usize = 256;
pub(super) const STARTER_BUCKETS: usize = 8;
/// Hints that need less per shard than this start small and grow.
const PRESIZED_BUCKETS_MIN: u64 = 32;

/// Pages of an index that knows how many entries to expect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Presized {
    pub base_pages: u64,
    pub buckets: usize,
}

/// The pages per shard for a hint; none when the index shall grow.
pub(super) fn presized(expected_entries: u64) -> Option<Presized> {
    let slots_at_load = u128::from(expected_entries) * 20 / 17;
    let per_bucket = (SHARDS * SLOTS) as u128;
    // Rounded to the nearest; at most 2^64 * 20/17 / 2^15.
    let buckets = ((slots_at_load + per_bucket / 2) / per_bucket) as u64;
    if buckets < PRESIZED_BUCKETS_MIN {
        return None;
    }
    let base_pages = buckets.div_ceil(PAGE_BUCKETS_MAX as u64);
    Some(Presized { base_pages, buckets: (buckets / base_pages) as usize })
}

/// The full page size of a growing shard, in buckets.
pub(super) fn frame_buckets(shard: usize) -> usize {
    let octave = shard as f64 / SHARDS as f64;
    // 128..=255: far inside of what a usize and a float hold exactly.
    (128.0 * octave.exp2()).round().min(PAGE_BUCKETS_MAX as f64) as usize
}

/// The next size of a growing page of `buckets` with `frame` buckets at most.
pub(super) fn next_buckets(buckets: usize, frame: usize) -> usize {
    [frame / 4, frame / 2].into_iter().find(|&stage| stage > buckets).unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_give_the_load_or_a_little_more() {
        for expected in [1_000_000u64, 2_000_000, 10_000_000, 12_345_678, 1 << 30, 1 << 37] {
            let Presized { base_pages, buckets } = presized(expected).unwrap();
            assert!(buckets <= PAGE_BUCKETS_MAX);
            let slots = base_pages * (SHARDS * buckets * SLOTS) as u64;
            let load = expected as f64 / slots as f64;
            assert!((0.835..0.865).contains(&load), "{expected}: {load}");
        }
        assert_eq!(presized(0), None);
        assert_eq!(presized(800_000), None);
        assert!(presized(u64::MAX).is_some());
    }

    #[test]
    fn frames_are_staggered_over_an_octave() {
        assert_eq!((frame_buckets(0), frame_buckets(2048), frame_buckets(4095)), (128, 181, 256));
        let below = (0..SHARDS).filter(|&shard| frame_buckets(shard) < 181).count();
        assert!((2000..2100).contains(&below), "{below}");
    }

    /// A side array lies behind the buckets within the frame: 80 of 64 bytes per bucket.
    #[test]
    fn growing_pages_leave_room_for_their_side_array() {
        for shard in 0..SHARDS {
            let frame = frame_buckets(shard);
            let mut buckets = STARTER_BUCKETS;
            for _ in 0..2 {
                let next = next_buckets(buckets, frame);
                assert!(next > buckets && next * 80 <= frame * 64);
                buckets = next;
            }
            assert_eq!(next_buckets(buckets, frame), frame);
        }
    }
}
