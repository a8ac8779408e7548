//! What a probe yields: the locations that may hold the key.

use super::location::Location;

/// Odd, so no version of a stable shard.
const NO_VERSION: u64 = u64::MAX;

/// The locations of all slots that match a key, as they were in one state of its shard.
///
/// Empty means that the key is absent. Otherwise each location is a "maybe" that the caller
/// confirms against the record's key. More than one is rare (a few in ten million probes).
///
/// ```
/// use blocktier::index::Candidates;
/// assert!(Candidates::none().is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Candidates {
    version: u64,
    first: Option<Location>,
    /// All beyond the first. Boxed twice: a probe returns this struct by value, and this field is
    /// empty.
    #[expect(clippy::box_collection, reason = "one word instead of three in every result")]
    rest: Option<Box<Vec<Location>>>,
}

impl Candidates {
    /// No candidates, of no particular state.
    #[must_use]
    pub const fn none() -> Self {
        Self::at(NO_VERSION)
    }

    #[inline(always)]
    pub(super) const fn at(version: u64) -> Self {
        Self { version, first: None, rest: None }
    }

    #[inline(always)]
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether no slot matched.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many slots matched.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_deref().map_or(0, Vec::len)
    }

    /// The locations, in no particular order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Location> + '_ {
        let rest = self.rest.as_deref().map_or(&[][..], Vec::as_slice);
        self.first.iter().chain(rest).copied()
    }

    /// Whether `location` is among them.
    #[must_use]
    pub fn contains(&self, location: Location) -> bool {
        self.iter().any(|candidate| candidate == location)
    }

    #[inline(always)]
    pub(super) fn push(&mut self, location: Location) {
        if self.first.is_none() {
            self.first = Some(location);
        } else {
            self.push_rest(location);
        }
    }

    #[cold]
    fn push_rest(&mut self, location: Location) {
        self.rest.get_or_insert_default().push(location);
    }

    /// Whether both hold the same locations, in whatever order.
    pub(super) fn same_locations(&self, other: &Self) -> bool {
        if self.rest.is_none() && other.rest.is_none() {
            return self.first == other.first;
        }
        let sorted = |candidates: &Self| {
            let mut locations: Vec<_> = candidates.iter().collect();
            locations.sort_unstable();
            locations
        };
        sorted(self) == sorted(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(units: &[u64]) -> Candidates {
        let mut candidates = Candidates::at(2);
        for &unit in units {
            candidates.push(Location::new(unit).unwrap());
        }
        candidates
    }

    #[test]
    fn any_number_is_kept() {
        for count in 0..9 {
            let units: Vec<u64> = (1..=count).collect();
            let all = candidates(&units);
            assert_eq!(all.iter().map(Location::units).collect::<Vec<_>>(), units);
            assert_eq!(all.len() as u64, count);
            assert_eq!(all.is_empty(), count == 0);
            assert_eq!(all.contains(Location::new(6).unwrap()), count >= 6);
        }
    }

    #[test]
    fn sets_are_compared_without_order() {
        let many = [1, 2, 3, 4, 5, 6];
        let turned = [6, 5, 4, 3, 2, 1];
        assert!(candidates(&many).same_locations(&candidates(&turned)));
        assert!(!candidates(&many).same_locations(&candidates(&turned[1..])));
        assert!(!candidates(&[1, 1, 2]).same_locations(&candidates(&[1, 2, 2])));
        assert!(candidates(&[]).same_locations(&Candidates::none()));
        assert!(!candidates(&[7]).same_locations(&Candidates::none()));
        assert!(!candidates(&[7]).same_locations(&candidates(&[8])));
        assert!(!candidates(&[7]).same_locations(&candidates(&[7, 7])));
    }

    #[test]
    fn a_result_is_three_words() {
        assert_eq!(size_of::<Candidates>(), 24);
    }
}
