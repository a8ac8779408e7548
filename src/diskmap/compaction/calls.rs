//! What a map's users ask of compaction.

use std::sync::Arc;
use std::time::Duration;

use super::{Backpressure, CompactionStrategy, Thresholds, Worker};
use crate::diskmap::DiskMap;
use crate::diskmap::key::Key;
use crate::settings::CompactionSettings;
use crate::{Error, Result};

impl<K: Key> DiskMap<K> {
    /// Compacts now, on this thread and at any rate, what the background would: until the settings
    /// find nothing more to merge among the segments that are complete at the call. In a durable
    /// map the space comes back at the next [`DiskMap::sync`].
    ///
    /// # Errors
    /// `Corrupt` or `Io` if a segment could not be read; it is left alone from then on and the rest
    /// was merged. `DiskFull` without room for a merge, `TimedOut` without room in the tail,
    /// `OutOfMemory`, `Failed`; `Frozen` for what [`DiskMap::rotate`] returned. Nothing is lost by
    /// any of them.
    pub fn compact(&self) -> Result<()> {
        self.own_compaction()?.compact(Duration::from_millis(self.plan.settings.write_timeout_ms))
    }

    /// The settings of compaction in force.
    #[must_use]
    pub fn compaction_settings(&self) -> CompactionSettings {
        self.compaction.settings()
    }

    /// Of the map itself: a view, which shares it, must not change what it does.
    const fn own_compaction(&self) -> Result<&Arc<Worker>> {
        if self.is_view { Err(Error::ROTATED) } else { Ok(&self.compaction) }
    }

    /// Replaces the settings of compaction, all that there are. A merge under way goes on as it was
    /// begun, unless compaction is switched off; writers that wait are judged anew. They are this
    /// process's: a map that is opened again has those that it is opened with
    /// ([`CompactionSettings`] can be written as such).
    ///
    /// # Errors
    /// `Setting` for what is out of range or contradicts itself, `Frozen` for what
    /// [`DiskMap::rotate`] returned; nothing has changed then.
    pub fn set_compaction(&self, settings: &CompactionSettings) -> Result<()> {
        self.own_compaction()?.change(|_| Ok(*settings))
    }

    /// Changes the settings of compaction that `text` names, in lines of `key = value`, as
    /// [`DiskMap::set_compaction`] does. What other threads change meanwhile stays.
    ///
    /// ```
    /// # use blocktier::runtime::Runtime;
    /// # use blocktier::settings::{RuntimeSettings, TxMapSettings};
    /// # use blocktier::txmap::DiskTxMap;
    /// # let dir = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(&RuntimeSettings::default())?;
    /// # let text = format!("txMapDirs = {}\ntxMapTail = 1M", dir.path().display());
    /// # let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text)?)?;
    /// map.change_compaction("txMapCompactionRate = 50M\ntxMapCompactionStop = 4G")?;
    /// assert_eq!(map.compaction_settings().rate_bytes, 50 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`DiskMap::set_compaction`]; `Setting` for settings that are none of compaction's.
    pub fn change_compaction(&self, text: &str) -> Result<()> {
        self.own_compaction()?.change(|settings| settings.changed_by(text))
    }

    /// Compacts by another strategy from the next choice on; none: by what the settings say.
    ///
    /// # Errors
    /// `Frozen` for what [`DiskMap::rotate`] returned.
    pub fn set_compaction_strategy(
        &self,
        strategy: Option<Arc<dyn CompactionStrategy>>,
    ) -> Result<()> {
        self.own_compaction()?.set_strategy(strategy);
        Ok(())
    }

    /// Changes from when on writers wait for compaction; what waits now is judged anew. It changes
    /// the three settings that say so: the delay is rounded up to milliseconds, and a threshold of
    /// 0 is one of 1, so that nobody waits while nothing is pending.
    ///
    /// # Errors
    /// As of [`DiskMap::set_compaction`].
    pub fn set_backpressure(&self, thresholds: Thresholds) -> Result<()> {
        self.own_compaction()?.change(|settings| Ok(thresholds.over(settings)))
    }

    /// What a write would meet now.
    #[must_use]
    pub fn backpressure(&self) -> Backpressure {
        self.compaction.backpressure()
    }
}
