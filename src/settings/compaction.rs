//! Settings of a map's compaction.

use super::{Values, table, text};
use crate::Result;

/// How a map reclaims the space of dead records, and how its writers wait for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Whether it does.
    pub enabled: bool,
    /// Segments are similar if one is larger than the other by at most this many percent.
    pub size_ratio_percent: u64,
    /// Similar segments that are merged at least.
    pub min_width: u64,
    /// Segments that are merged at most; 0 is no limit.
    pub max_width: u64,
    /// Dead bytes, in percent of the live ones, from which on everything is merged.
    pub space_percent: u64,
    /// Live bytes that are merged in one piece.
    pub target_bytes: u64,
    /// Bytes that compaction reads and writes per second; 0 is no limit.
    pub rate_bytes: u64,
    /// Pending bytes from which on writers are delayed; 0 is never.
    pub slowdown_bytes: u64,
    /// Pending bytes from which on writers wait; 0 is never.
    pub stop_bytes: u64,
    /// The longest delay of a write, in milliseconds.
    pub max_delay_ms: u64,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self::from_values(&Values::default())
    }
}

impl CompactionSettings {
    pub(super) fn from_values(values: &Values) -> Self {
        Self {
            enabled: values.word(&table::TX_MAP_COMPACTION) != "off",
            size_ratio_percent: values.number(&table::TX_MAP_COMPACTION_SIZE_RATIO),
            min_width: values.number(&table::TX_MAP_COMPACTION_MIN_WIDTH),
            max_width: values.number(&table::TX_MAP_COMPACTION_MAX_WIDTH),
            space_percent: values.number(&table::TX_MAP_COMPACTION_SPACE),
            target_bytes: values.number(&table::TX_MAP_COMPACTION_TARGET),
            rate_bytes: values.number(&table::TX_MAP_COMPACTION_RATE),
            slowdown_bytes: values.number(&table::TX_MAP_COMPACTION_SLOWDOWN),
            stop_bytes: values.number(&table::TX_MAP_COMPACTION_STOP),
            max_delay_ms: values.number(&table::TX_MAP_COMPACTION_MAX_DELAY),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let numbers = [
            (&table::TX_MAP_COMPACTION_SIZE_RATIO, self.size_ratio_percent),
            (&table::TX_MAP_COMPACTION_MIN_WIDTH, self.min_width),
            (&table::TX_MAP_COMPACTION_MAX_WIDTH, self.max_width),
            (&table::TX_MAP_COMPACTION_SPACE, self.space_percent),
            (&table::TX_MAP_COMPACTION_TARGET, self.target_bytes),
            (&table::TX_MAP_COMPACTION_RATE, self.rate_bytes),
            (&table::TX_MAP_COMPACTION_SLOWDOWN, self.slowdown_bytes),
            (&table::TX_MAP_COMPACTION_STOP, self.stop_bytes),
            (&table::TX_MAP_COMPACTION_MAX_DELAY, self.max_delay_ms),
        ];
        for (spec, number) in numbers {
            text::check_number(spec, number)?;
        }
        let contradiction = |spec: &'static super::SettingSpec, other: &str, limit: String| {
            Err(text::error(spec.key, format!("must not be above {other}, {limit}")))
        };
        if self.max_width != 0 && self.min_width > self.max_width {
            let limit = self.max_width.to_string();
            return contradiction(
                &table::TX_MAP_COMPACTION_MIN_WIDTH,
                "txMapCompactionMaxWidth",
                limit,
            );
        }
        if self.stop_bytes != 0 && self.slowdown_bytes > self.stop_bytes {
            let limit = text::format_number(&table::TX_MAP_COMPACTION_STOP, self.stop_bytes);
            return contradiction(&table::TX_MAP_COMPACTION_SLOWDOWN, "txMapCompactionStop", limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::TxMapSettings;

    #[test]
    fn every_key_reaches_its_field() {
        let parse = |text: &str| TxMapSettings::parse(text).unwrap().compaction;
        let all = parse(
            "txMapCompaction = off\ntxMapCompactionSizeRatio = 50\ntxMapCompactionMinWidth = 3\n\
             txMapCompactionMaxWidth = 9\ntxMapCompactionSpace = 80\n\
             txMapCompactionTarget = 1M\ntxMapCompactionRate = 2M\n\
             txMapCompactionSlowdown = 3M\ntxMapCompactionStop = 4M\n\
             txMapCompactionMaxDelay = 5ms",
        );
        let expected = super::CompactionSettings {
            enabled: false,
            size_ratio_percent: 50,
            min_width: 3,
            max_width: 9,
            space_percent: 80,
            target_bytes: 1 << 20,
            rate_bytes: 2 << 20,
            slowdown_bytes: 3 << 20,
            stop_bytes: 4 << 20,
            max_delay_ms: 5,
        };
        assert_eq!(all, expected);
        assert!(parse("").enabled);
    }

    #[test]
    fn contradictions_are_refused() {
        let reason = |text: &str| TxMapSettings::parse(text).unwrap_err().to_string();
        assert_eq!(
            reason("txMapCompactionMaxWidth = 3"),
            "setting txMapCompactionMinWidth: must not be above txMapCompactionMaxWidth, 3"
        );
        assert!(reason("txMapCompactionSlowdown = 2M\ntxMapCompactionStop = 1M").contains("above"));
        assert!(reason("txMapCompactionMinWidth = 1").contains("2 to"));
    }
}
