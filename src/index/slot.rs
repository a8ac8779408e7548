//! The 64-bit slot.
//!
//! ```text
//! 63        62         61..................38 37.......................0
//! overflow  secondary  tag (24)               location (38), 0 = empty
//! ```
//!
//! The overflow bit belongs to the bucket and is kept in its slot 0: some key whose primary is this
//! bucket may live in its alternate. It may be stale (set without such a key) until the page is
//! split or rebuilt; it is never missing. Without it a slot is 0 exactly when it is empty.

use super::location::Location;

pub(super) const TAG_BITS: u32 = 24;
pub(super) const TAG_SHIFT: u32 = Location::BITS;
pub(super) const LOCATION_MASK: u64 = (1 << Location::BITS) - 1;
/// The key lives in its alternate bucket.
pub(super) const SECONDARY: u64 = 1 << 62;
pub(super) const OVERFLOW: u64 = 1 << 63;
/// What a probe compares: the tag, and in which of its two buckets the key lives.
pub(super) const MATCH_MASK: u64 = ((1 << TAG_BITS) - 1) << TAG_SHIFT | SECONDARY;

const _: () = assert!(LOCATION_MASK ^ MATCH_MASK ^ OVERFLOW == u64::MAX);

#[inline(always)]
pub(super) fn location(word: u64) -> Option<Location> {
    Location::new(word & LOCATION_MASK)
}

#[inline(always)]
pub(super) fn tag(word: u64) -> u32 {
    // 24 bits after the mask.
    (word >> TAG_SHIFT) as u32 & ((1 << TAG_BITS) - 1)
}

#[inline(always)]
pub(super) fn is_empty(word: u64) -> bool {
    word & LOCATION_MASK == 0
}

#[inline(always)]
pub(super) fn is_secondary(word: u64) -> bool {
    word & SECONDARY != 0
}
