//! How long writers wait while compaction is behind. Computed from the pending bytes and the
//! thresholds in force at each call, so that neither a change of one nor of the other is missed.

use std::time::Duration;

/// Thresholds on the bytes that compaction has yet to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// From here on writers are delayed, the more the closer to `stop`; `None` never.
    pub slowdown: Option<u64>,
    /// From here on they wait; `None` never.
    pub stop: Option<u64>,
    /// The longest delay.
    pub max_delay: Duration,
}

/// What a writer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backpressure {
    /// Go on.
    None,
    /// Wait this long, then go on.
    Slowdown(Duration),
    /// Wait until there is less to do.
    Stop,
}

impl Backpressure {
    /// Whether writers are held up in any way.
    #[must_use]
    pub const fn is_throttled(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl Thresholds {
    /// Nobody waits.
    pub const OFF: Self = Self { slowdown: None, stop: None, max_delay: Duration::ZERO };

    /// Whether nobody ever waits.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.slowdown.is_none() && self.stop.is_none()
    }

    /// What a writer is to do with this much pending. Without `stop` the delay is the longest one
    /// from `slowdown` on.
    #[must_use]
    pub fn compute(&self, pending_bytes: u64) -> Backpressure {
        if self.stop.is_some_and(|stop| pending_bytes >= stop) {
            return Backpressure::Stop;
        }
        let Some(slowdown) = self.slowdown.filter(|slowdown| pending_bytes >= *slowdown) else {
            return Backpressure::None;
        };
        let Some(stop) = self.stop else { return Backpressure::Slowdown(self.max_delay) };
        // Below `stop`, and from `slowdown` on: so the span is not 0.
        let (over, span) = (u128::from(pending_bytes - slowdown), u128::from(stop - slowdown));
        let nanos = self.max_delay.as_nanos().saturating_mul(over) / span;
        Backpressure::Slowdown(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);
    const BOTH: Thresholds =
        Thresholds { slowdown: Some(1000), stop: Some(2000), max_delay: DELAY };

    const fn slow(millis: u64) -> Backpressure {
        Backpressure::Slowdown(Duration::from_millis(millis))
    }

    #[test]
    fn off_is_none_whatever_is_pending() {
        assert!(Thresholds::OFF.is_off() && !BOTH.is_off());
        for pending in [0, 1, u64::MAX] {
            assert_eq!(Thresholds::OFF.compute(pending), Backpressure::None);
        }
    }

    #[test]
    fn delays_grow_from_nothing_to_the_longest_and_then_all_stops() {
        assert_eq!(BOTH.compute(999), Backpressure::None);
        assert_eq!(BOTH.compute(1000), slow(0));
        assert_eq!(BOTH.compute(1250), slow(25));
        assert_eq!(BOTH.compute(1500), slow(50));
        assert!(matches!(BOTH.compute(1999), Backpressure::Slowdown(delay) if delay < DELAY));
        assert_eq!(BOTH.compute(2000), Backpressure::Stop);
        assert_eq!(BOTH.compute(u64::MAX), Backpressure::Stop);
        let delays: Vec<_> = (1000..2000).map(|pending| BOTH.compute(pending)).collect();
        let nanos = |verdict: &Backpressure| match verdict {
            Backpressure::Slowdown(delay) => delay.as_nanos(),
            _ => u128::MAX,
        };
        assert!(delays.is_sorted_by_key(nanos));
    }

    #[test]
    fn one_threshold_alone() {
        let slowdown = Thresholds { stop: None, ..BOTH };
        assert_eq!(slowdown.compute(999), Backpressure::None);
        assert_eq!((slowdown.compute(1000), slowdown.compute(u64::MAX)), (slow(100), slow(100)));
        let stop = Thresholds { slowdown: None, ..BOTH };
        assert_eq!(
            (stop.compute(1999), stop.compute(2000)),
            (Backpressure::None, Backpressure::Stop)
        );
        assert!(!slowdown.is_off() && !stop.is_off());
    }

    #[test]
    fn stop_wins_where_the_thresholds_are_the_wrong_way_round() {
        let crossed = Thresholds { slowdown: Some(2000), stop: Some(1000), ..BOTH };
        assert_eq!(crossed.compute(999), Backpressure::None);
        assert_eq!(
            (crossed.compute(1000), crossed.compute(3000)),
            (Backpressure::Stop, Backpressure::Stop)
        );
    }

    #[test]
    fn huge_spans_and_delays_stay_proportional() {
        let huge = Thresholds { slowdown: Some(0), stop: Some(u64::MAX), max_delay: Duration::MAX };
        let Backpressure::Slowdown(half) = huge.compute(u64::MAX / 2) else { unreachable!() };
        assert!(half > Duration::from_secs(1 << 30), "{half:?}");
        let day = Thresholds { max_delay: Duration::from_secs(86_400), ..huge };
        let Backpressure::Slowdown(half) = day.compute(u64::MAX / 2) else { unreachable!() };
        assert_eq!(half.as_secs(), 43_199);
    }

    #[test]
    fn throttled_says_whether_anybody_waits() {
        assert!(!Backpressure::None.is_throttled());
        assert!(slow(0).is_throttled() && Backpressure::Stop.is_throttled());
    }
}
