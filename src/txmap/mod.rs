//! DiskTxMap: transaction id -> inpoints, with a subtree index per entry.
//!
//! A thin front of [`DiskMap`]: keys are txids, values are serialized inpoints (any codec;
//! [`inpoints`] is ours). The subtree index of an entry is kept in RAM beside its index slot: 0 is
//! unassigned, i + 1 the i-th chained subtree.

use std::ops::Deref;
use std::sync::Arc;

use crate::Result;
use crate::diskmap::DiskMap;
use crate::diskmap::compaction::CompactionStrategy;
use crate::runtime::Runtime;
use crate::settings::TxMapSettings;
use crate::types::TxId;

pub use crate::subtree::inpoints;

/// An exact, concurrent map from txids to serialized inpoints.
///
/// ```
/// use blocktier::diskmap::{Inserted, Wait};
/// use blocktier::runtime::Runtime;
/// use blocktier::settings::{RuntimeSettings, TxMapSettings};
/// use blocktier::txmap::DiskTxMap;
///
/// # let dir = tempfile::tempdir()?;
/// let runtime = Runtime::open(&RuntimeSettings::default())?;
/// let text = format!("txMapDirs = {}\ntxMapTail = 1M", dir.path().display());
/// let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text)?)?;
/// let txid = [7; 32];
/// let new = map.set_if_not_exists(&txid, b"inpoints", 0, Wait::Allowed, |_, _| ())?;
/// assert_eq!(new, Inserted::New);
/// let again = map.set_if_not_exists(&txid, b"other", 0, Wait::Allowed, |old, _| old.to_vec())?;
/// assert_eq!(again, Inserted::Present(b"inpoints".to_vec()));
/// assert_eq!(map.len(), 1);
/// map.flush()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DiskTxMap {
    map: DiskMap<TxId>,
}

impl DiskTxMap {
    /// Opens an empty map in fresh subdirectories of the settings' directories.
    ///
    /// # Errors
    /// As for [`DiskMap::open`].
    pub fn open(runtime: &Runtime, settings: &TxMapSettings) -> Result<Self> {
        Ok(Self { map: DiskMap::open(runtime, settings)? })
    }

    /// The same, compacted by a strategy of the embedder's own.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use blocktier::diskmap::compaction::SizeTiered;
    /// # use blocktier::runtime::Runtime;
    /// # use blocktier::settings::{RuntimeSettings, TxMapSettings};
    /// # use blocktier::txmap::DiskTxMap;
    /// # let dir = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(&RuntimeSettings::default())?;
    /// # let text = format!("txMapDirs = {}\ntxMapTail = 1M", dir.path().display());
    /// # let settings = TxMapSettings::parse(&text)?;
    /// let strategy = Arc::new(SizeTiered::default().with_min_merge_width(8));
    /// let map = DiskTxMap::open_with_strategy(&runtime, &settings, strategy)?;
    /// map.compact()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`DiskMap::open`].
    pub fn open_with_strategy(
        runtime: &Runtime,
        settings: &TxMapSettings,
        strategy: Arc<dyn CompactionStrategy>,
    ) -> Result<Self> {
        Ok(Self { map: DiskMap::open_with_strategy(runtime, settings, strategy)? })
    }

    /// As [`DiskMap::rotate`]: takes the content out as a read-only map.
    ///
    /// # Errors
    /// As for [`DiskMap::rotate`].
    pub fn rotate(&self) -> Result<Self> {
        Ok(Self { map: self.map.rotate()? })
    }
}

impl Deref for DiskTxMap {
    type Target = DiskMap<TxId>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}
