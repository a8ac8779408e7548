//! Where a record lies, as a slot stores it.

use std::num::NonZeroU64;

/// The place of a record within its lane: 38 bits in units of 16 bytes, never 0.
///
/// ```
/// use blocktier::index::Location;
/// let location = Location::new(3).unwrap();
/// assert_eq!(location.units(), 3);
/// assert_eq!(Location::new(0), None);
/// assert_eq!(Location::new(1 << 38), None);
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location(NonZeroU64);

impl Location {
    /// Bits of a location.
    pub const BITS: u32 = 38;

    /// The location at `units` times 16 bytes; none for 0 and from 2^38 on.
    #[inline]
    #[must_use]
    pub const fn new(units: u64) -> Option<Self> {
        match NonZeroU64::new(units) {
            Some(value) if units >> Self::BITS == 0 => Some(Self(value)),
            _ => None,
        }
    }

    /// The distance from the start of the lane, in units of 16 bytes.
    #[inline]
    #[must_use]
    pub const fn units(self) -> u64 {
        self.0.get()
    }
}
