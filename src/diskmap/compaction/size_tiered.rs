//! Size-tiered: merge runs of similar size, the smallest first; everything when too much space is
//! taken.

use super::strategy::{Choice, CompactionStrategy, Offer};

/// The parameters. Nonsense is put right when they are set: a ratio that is no number or negative
/// is the default's, widths are at least 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeTiered {
    size_ratio: f64,
    min_merge_width: usize,
    max_merge_width: usize,
    space_percent: u64,
    target_bytes: u64,
}

const SIZE_RATIO: f64 = 1.0;
/// Fewer runs than this are no merge.
const WIDTH_MIN: usize = 2;

impl Default for SizeTiered {
    fn default() -> Self {
        Self {
            size_ratio: SIZE_RATIO,
            min_merge_width: 4,
            max_merge_width: usize::MAX,
            space_percent: 200,
            target_bytes: 64 << 20,
        }
    }
}

impl SizeTiered {
    /// A run is similar to the next smaller one if it is at most `1 + ratio` times as large.
    #[must_use]
    pub const fn with_size_ratio(mut self, ratio: f64) -> Self {
        self.size_ratio = if ratio.is_finite() && ratio >= 0.0 { ratio } else { SIZE_RATIO };
        self
    }

    /// Fewer similar runs than this are left alone.
    #[must_use]
    pub fn with_min_merge_width(mut self, runs: usize) -> Self {
        self.min_merge_width = runs.max(WIDTH_MIN);
        self
    }

    /// More runs than this are not chosen at once; `usize::MAX` is no limit.
    #[must_use]
    pub fn with_max_merge_width(mut self, runs: usize) -> Self {
        self.max_merge_width = runs.max(WIDTH_MIN);
        self
    }

    /// How much more space than needed may be taken, in percent of what is needed.
    #[must_use]
    pub const fn with_space_percent(mut self, percent: u64) -> Self {
        self.space_percent = percent;
        self
    }

    /// Bytes that are merged in one piece; at least one run is.
    #[must_use]
    pub fn with_target_bytes(mut self, bytes: u64) -> Self {
        self.target_bytes = bytes.max(1);
        self
    }

    /// Bytes that may be taken where `largest` are needed.
    fn allowed(&self, largest: u64) -> u128 {
        let percent = u128::from(self.space_percent) + 100;
        u128::from(largest).saturating_mul(percent) / 100
    }

    fn is_similar(&self, smaller: u64, larger: u64) -> bool {
        // Exact enough: sizes beyond 2^53 differ by less than any ratio in use.
        smaller == 0 || larger as f64 <= smaller as f64 * (1.0 + self.size_ratio)
    }
}

impl CompactionStrategy for SizeTiered {
    fn name(&self) -> &'static str {
        "SizeTiered"
    }

    fn wants_space(&self, total: u64, largest: u64) -> bool {
        let percent = u128::from(self.space_percent) + 100;
        u128::from(total) * 100 >= u128::from(largest).saturating_mul(percent)
    }

    fn choose(&self, offer: &Offer<'_>) -> Choice {
        if offer.sizes.is_empty() || (offer.sizes.len() == 1 && !offer.alone) {
            return Choice::Nothing;
        }
        let mut sorted: Vec<usize> = (0..offer.sizes.len()).collect();
        sorted.sort_by_key(|run| offer.sizes[*run]);
        if self.wants_space(offer.total, offer.largest) {
            sorted.truncate(self.max_merge_width);
            return Choice::Space(sorted);
        }
        let similar = sorted
            .windows(2)
            .take_while(|pair| self.is_similar(offer.sizes[pair[0]], offer.sizes[pair[1]]))
            .count();
        sorted.truncate((similar + 1).min(self.max_merge_width));
        if sorted.len() < self.min_merge_width {
            return Choice::Nothing;
        }
        Choice::Similar(sorted)
    }

    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64 {
        if offer.sizes.is_empty() || (offer.sizes.len() == 1 && !offer.alone) {
            return 0;
        }
        let excess = u128::from(offer.total).saturating_sub(self.allowed(offer.largest));
        u64::try_from(excess).unwrap_or(u64::MAX)
    }

    fn target_bytes(&self) -> u64 {
        self.target_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn tiered() -> SizeTiered {
        SizeTiered {
            size_ratio: 1.0,
            min_merge_width: 4,
            max_merge_width: usize::MAX,
            space_percent: u64::MAX,
            target_bytes: 64 << 20,
        }
    }

    fn choose(strategy: SizeTiered, sizes: &[u64]) -> Choice {
        strategy.choose(&Offer::overlapping(sizes))
    }

    fn pending(strategy: SizeTiered, sizes: &[u64]) -> u64 {
        strategy.pending_compaction_bytes(&Offer::overlapping(sizes))
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let expected = SizeTiered { space_percent: 200, ..tiered() };
        assert_eq!(SizeTiered::default(), expected);
        assert_eq!(SizeTiered::default().name(), "SizeTiered");
        assert_eq!(SizeTiered::default().target_bytes(), 64 << 20);
    }

    #[test]
    fn nothing_and_a_single_run_are_left_alone() {
        for strategy in [tiered(), tiered().with_space_percent(0)] {
            assert_eq!(choose(strategy, &[]), Choice::Nothing);
            assert_eq!(choose(strategy, &[7]), Choice::Nothing);
            assert_eq!((pending(strategy, &[]), pending(strategy, &[7])), (0, 0));
        }
        // Where runs have dead bytes of their own, one is enough.
        let alone = Offer { sizes: &[1], total: 10, largest: 1, alone: true };
        assert_eq!(SizeTiered::default().choose(&alone), Choice::Space(vec![0]));
        assert_eq!(SizeTiered::default().pending_compaction_bytes(&alone), 7);
    }

    #[test]
    fn fewer_than_the_least_width_wait_and_enough_are_merged() {
        assert_eq!(choose(tiered(), &[10, 10]), Choice::Nothing);
        assert_eq!(choose(tiered(), &[10, 10, 10]), Choice::Nothing);
        assert_eq!(choose(tiered(), &[10; 4]), Choice::Similar(vec![0, 1, 2, 3]));
        assert_eq!(choose(tiered().with_min_merge_width(2), &[9, 10]).runs(), [0, 1]);
    }

    #[test]
    fn too_much_space_merges_everything_though_there_are_few() {
        let strategy = SizeTiered::default().with_min_merge_width(100);
        // 500 of 100 needed: 400 % more, and 200 % are allowed.
        assert_eq!(choose(strategy, &[100; 5]), Choice::Space(vec![0, 1, 2, 3, 4]));
        // 100 % more.
        assert_eq!(choose(strategy, &[100; 2]), Choice::Nothing);
        // Exactly 200 % more.
        assert_eq!(choose(strategy, &[100; 3]).runs().len(), 3);
        assert_eq!(choose(strategy, &[100, 100, 99]), Choice::Nothing);
    }

    #[test]
    fn the_largest_width_bounds_what_is_chosen() {
        let three = tiered().with_max_merge_width(3);
        assert_eq!(choose(three, &[10; 8]), Choice::Nothing, "less than the least width of four");
        let three = three.with_min_merge_width(2);
        assert_eq!(choose(three, &[10; 8]).runs(), [0, 1, 2]);
        let two = tiered().with_max_merge_width(2);
        assert_eq!(choose(two, &[10; 8]), Choice::Nothing);
        assert_eq!(choose(three.with_space_percent(200), &[10; 8]), Choice::Space(vec![0, 1, 2]));
    }

    #[test]
    fn similar_ends_at_the_first_that_is_much_larger() {
        let close = tiered().with_min_merge_width(2).with_size_ratio(0.01);
        assert_eq!(choose(close, &[10, 1000]), Choice::Nothing);
        assert_eq!(choose(close, &[1000, 10, 10, 10]).runs(), [1, 2, 3]);
        let double = tiered().with_min_merge_width(2);
        assert_eq!(
            choose(double, &[40, 10, 20, 81]).runs(),
            [1, 2, 0],
            "each twice the one before"
        );
        assert_eq!(choose(double, &[5, 11, 11]), Choice::Nothing, "it is a prefix that counts");
        let equal = tiered().with_min_merge_width(2).with_size_ratio(0.0);
        assert_eq!(choose(equal, &[7, 7, 8]).runs(), [0, 1]);
        assert_eq!(choose(double, &[0, 0, 900]).runs(), [0, 1, 2], "nothing is similar to all");
    }

    #[test]
    fn nonsense_is_put_right() {
        let default = SizeTiered::default();
        for ratio in [f64::NAN, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(default.with_size_ratio(ratio), default);
        }
        for width in [0, 1] {
            assert_eq!(default.with_min_merge_width(width), default.with_min_merge_width(2));
            assert_eq!(default.with_max_merge_width(width), default.with_max_merge_width(2));
        }
        assert_eq!(default.with_target_bytes(0).target_bytes(), 1);
    }

    #[test]
    fn pending_bytes_are_what_exceeds_the_allowance() {
        let strategy = SizeTiered::default();
        assert_eq!(pending(strategy, &[100; 5]), 200);
        assert_eq!(pending(strategy, &[100; 3]), 0);
        assert_eq!(pending(strategy.with_space_percent(u64::MAX), &[100; 50]), 0);
        assert_eq!(pending(strategy.with_space_percent(0), &[100; 2]), 100);
        assert_eq!(pending(strategy, &[u64::MAX; 9]), 0, "a sum that does not fit is cut");
    }

    proptest! {
        #[test]
        fn a_choice_is_a_prefix_of_the_sorted_sizes(
            sizes in prop::collection::vec(prop_oneof![0u64..20, any::<u64>()], 0..40),
            ratio in prop_oneof![any::<f64>(), 0.0f64..4.0],
            (min, max) in (any::<u8>(), prop_oneof![0usize..50, Just(usize::MAX)]),
            percent in prop_oneof![0u64..1000, any::<u64>()],
            alone: bool,
        ) {
            let strategy = SizeTiered::default()
                .with_size_ratio(ratio)
                .with_min_merge_width(min as usize % 12)
                .with_max_merge_width(max)
                .with_space_percent(percent);
            let offer = Offer { alone, ..Offer::overlapping(&sizes) };
            let choice = strategy.choose(&offer);
            let chosen: Vec<u64> = choice.runs().iter().map(|run| sizes[*run]).collect();
            let mut sorted = sizes.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&chosen[..], &sorted[..chosen.len()]);
            let mut runs = choice.runs().to_vec();
            runs.sort_unstable();
            runs.dedup();
            prop_assert_eq!(runs.len(), chosen.len(), "each once");
            prop_assert!(chosen.len() <= max.max(2));
            let pending = strategy.pending_compaction_bytes(&offer);
            prop_assert!(pending <= offer.total);
            match choice {
                Choice::Similar(_) => {
                    prop_assert!(chosen.len() >= (min as usize % 12).max(2));
                    prop_assert_eq!(pending, 0);
                }
                Choice::Space(_) => prop_assert!(!chosen.is_empty()),
                Choice::Nothing => prop_assert_eq!(pending, 0),
            }
        }
    }
}
