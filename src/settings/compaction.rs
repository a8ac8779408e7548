//! Settings of a map's compaction.

use super::{SettingSpec, Values, table, text};
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

/// All of them, in the order of the fields.
static SPECS: [&SettingSpec; 10] = [
    &table::TX_MAP_COMPACTION,
    &table::TX_MAP_COMPACTION_SIZE_RATIO,
    &table::TX_MAP_COMPACTION_MIN_WIDTH,
    &table::TX_MAP_COMPACTION_MAX_WIDTH,
    &table::TX_MAP_COMPACTION_SPACE,
    &table::TX_MAP_COMPACTION_TARGET,
    &table::TX_MAP_COMPACTION_RATE,
    &table::TX_MAP_COMPACTION_SLOWDOWN,
    &table::TX_MAP_COMPACTION_STOP,
    &table::TX_MAP_COMPACTION_MAX_DELAY,
];

impl Default for CompactionSettings {
    fn default() -> Self {
        Self::from_values(&Values::default())
    }
}

impl CompactionSettings {
    /// These settings with what `text` says of any of them: lines of `key = value`.
    ///
    /// ```
    /// use blocktier::settings::CompactionSettings;
    /// let settings = CompactionSettings::default();
    /// let slower = settings.changed_by("txMapCompactionRate = 50M")?;
    /// assert_eq!(slower, CompactionSettings { rate_bytes: 50 << 20, ..settings });
    /// // A text says all of them, so that it can be kept and read back.
    /// assert_eq!(settings.changed_by(&slower.to_string())?, slower);
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for a wrong value, or a setting that is none of compaction's.
    pub fn changed_by(&self, text: &str) -> Result<Self> {
        let changes = Values::parse(text)?;
        changes.only(&SPECS).map_err(|key| {
            text::error(key, "only those of compaction (txMapCompaction...) can be changed now")
        })?;
        let changed = Self::from_values(&changes.over(Values::parse(&self.to_string())?));
        changed.validate()?;
        Ok(changed)
    }

    const fn numbers(&self) -> [u64; 9] {
        [
            self.size_ratio_percent,
            self.min_width,
            self.max_width,
            self.space_percent,
            self.target_bytes,
            self.rate_bytes,
            self.slowdown_bytes,
            self.stop_bytes,
            self.max_delay_ms,
        ]
    }

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

    pub(crate) fn validate(&self) -> Result<()> {
        for (spec, number) in SPECS[1..].iter().zip(self.numbers()) {
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

/// As [`CompactionSettings::changed_by`] reads them, and an open's settings text.
impl std::fmt::Display for CompactionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} = {}", SPECS[0].key, if self.enabled { "on" } else { "off" })?;
        for (spec, number) in SPECS[1..].iter().zip(self.numbers()) {
            writeln!(f, "{} = {}", spec.key, text::format_number(spec, number))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::CompactionSettings;
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
        let expected = CompactionSettings {
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
        let change = |text: &str| CompactionSettings::default().changed_by(text);
        assert!(change("txMapCompactionMaxWidth = 3").is_err());
        let other = change("txMapTail = 1G").unwrap_err().to_string();
        assert!(other.starts_with("setting txMapTail: only those of compaction"), "{other}");
    }

    proptest! {
        /// Without limits, too: 0 is written and read as such.
        #[test]
        fn a_text_of_settings_is_read_back(
            enabled: bool,
            (size_ratio_percent, space_percent) in (0..=100_000u64, 0..=1_000_000u64),
            (min_width, max_width) in (2..=100u64, prop_oneof![Just(0u64), 100..=65_536u64]),
            target_bytes in 1 << 16..1u64 << 44,
            rate_bytes in prop_oneof![Just(0u64), 1 << 16..=1u64 << 40],
            (slowdown_bytes, stop_bytes) in prop_oneof![
                Just((0u64, 0u64)),
                (1..1u64 << 20, Just(0u64)),
                (1..1u64 << 20, 1 << 20..1u64 << 46),
            ],
            max_delay_ms in 0..=60_000u64,
        ) {
            let settings = CompactionSettings {
                enabled, size_ratio_percent, min_width, max_width, space_percent, target_bytes,
                rate_bytes, slowdown_bytes, stop_bytes, max_delay_ms,
            };
            let text = settings.to_string();
            prop_assert_eq!(CompactionSettings::default().changed_by(&text).unwrap(), settings);
            prop_assert_eq!(TxMapSettings::parse(&text).unwrap().compaction, settings);
        }
    }
}
