//! Replacing the content of a map: rotation, and what a rotated content holds in common with the
//! map that it comes from. Freezing a content.
//!
//! A rotated content is a [`DiskMap`] of its own that shares tail, failure and directories with its
//! map. Whichever of them is dropped last removes the directories.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::directory::MapDirectory;
use super::generation::Generation;
use super::key::Key;
use super::log::writeback::Shared;
use super::stats::Counters;
use super::{AgeFlush, DiskMap, plan};
use crate::runtime::{Runtime, Tick};
use crate::{Error, Result};

/// What a map and the contents that were taken out of it hold together: its subdirectories, and the
/// writes under way there.
#[derive(Debug)]
pub(super) struct Ground {
    shared: Arc<Shared>,
    directories: Vec<MapDirectory>,
    _runtime: Runtime,
}

impl Ground {
    pub(super) fn new(
        shared: &Arc<Shared>,
        directories: Vec<MapDirectory>,
        runtime: &Runtime,
    ) -> Self {
        Self { shared: Arc::clone(shared), directories, _runtime: runtime.clone() }
    }
}

impl std::ops::Deref for Ground {
    type Target = [MapDirectory];

    fn deref(&self) -> &[MapDirectory] {
        &self.directories
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.shared.discard_waiting();
        let ticket = self.shared.ticket();
        // A write that is under way takes as long as the disk takes; there is nothing else to wait
        // for.
        let patience = Instant::now() + Duration::from_secs(600);
        if let Err(error) = self.shared.wait_for_writes(ticket, Some(patience)) {
            tracing::debug!(%error, "closing a map that has failed");
        }
    }
}

impl<K: Key> DiskMap<K> {
    /// Swaps in an empty content and returns the old one, built before, so that a failure leaves
    /// everything as it was.
    pub(super) fn replace_generation(&self) -> Result<Arc<Generation>> {
        if self.is_view {
            return Err(Error::ROTATED);
        }
        let mut number = self.next_generation.lock();
        self.shared.failure.check()?;
        let factories = self.plan.factories::<K>(&self.storage, &self.directories, *number);
        let weights = plan::weights(&self.plan.settings);
        let (index, secret) = (&self.plan.index, self.plan.secret);
        let fresh = Generation::new(&self.shared, index, factories, secret, &weights)?;
        let durable = self.durable.as_ref();
        let no_sync = durable.map(|durable| self.sync_generation(durable, *number)).transpose();
        let no_sync = no_sync.map_err(|error| self.fail(error))?;
        *number += 1;
        let old = self.generation.swap(Arc::new(fresh));
        drop(no_sync);
        // Nothing leads to its files any more: they go with their segments.
        old.remove_files();
        // Its blocks must not keep the new one waiting.
        old.retire();
        // Nor must what compaction had left to do in it.
        self.compaction.generation_changed();
        self.rehasher.generation_changed();
        Ok(old)
    }

    /// Takes the content out of the map, which is then empty and not frozen, and returns it as a
    /// map that is read-only: writes on it, `clear` and `rotate` too, fail with `Frozen`.
    ///
    /// Operations that began on this map before finish on the old content and count as before the
    /// rotation; so it changes until the last of them is done. It keeps its index in RAM and its
    /// files; records that are still in the tail stay there until the tail needs the room, when
    /// they are in their files. It outlives this map: either may be dropped first. Its files go
    /// with it.
    ///
    /// If a write of this map fails, of whichever content, the map has failed and the old content
    /// says so too ([`DiskMap::failure`]); both go on serving reads.
    ///
    /// ```
    /// # use blocktier::diskmap::Wait;
    /// # use blocktier::runtime::Runtime;
    /// # use blocktier::settings::{RuntimeSettings, TxMapSettings};
    /// # use blocktier::txmap::DiskTxMap;
    /// # let dir = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(&RuntimeSettings::default())?;
    /// # let text = format!("txMapDirs = {}\ntxMapTail = 1M", dir.path().display());
    /// let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text)?)?;
    /// map.set(&[1; 32], b"inpoints", 0, Wait::Allowed)?;
    /// let old = map.rotate()?;
    /// assert_eq!((map.len(), old.len()), (0, 1));
    /// assert!(old.set(&[2; 32], b"inpoints", 0, Wait::Allowed).is_err());
    /// drop(map);
    /// assert!(old.exists(&[1; 32], Wait::Allowed)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`DiskMap::clear`]: `OutOfMemory`, as both indexes are in RAM now, `Failed`,
    /// `Frozen`. The content is then unchanged.
    pub fn rotate(&self) -> Result<Self> {
        self.replace_generation().map(|old| self.view(old))
    }

    /// A read-only map of one of this map's contents.
    pub(super) fn view(&self, generation: Arc<Generation>) -> Self {
        let generation = Arc::new(ArcSwap::new(generation));
        let ticker =
            Arc::new(AgeFlush { generation: Arc::clone(&generation), age: Duration::ZERO });
        for directory in self.directories.iter() {
            let tick: Arc<dyn Tick> = Arc::clone(&ticker) as _;
            directory.disk().register_ticker(Arc::downgrade(&tick));
        }
        Self {
            shared: Arc::clone(&self.shared),
            generation,
            storage: Arc::clone(&self.storage),
            slow_mu: Mutex::new(()),
            counters: Counters::default(),
            next_generation: Mutex::new(0),
            plan: Arc::clone(&self.plan),
            compaction: Arc::clone(&self.compaction),
            rehasher: Arc::clone(&self.rehasher),
            durable: None,
            is_view: true,
            _ticker: ticker,
            directories: Arc::clone(&self.directories),
            _key: std::marker::PhantomData,
        }
    }

    /// Makes the content read-only until it is cleared: once this returns, nothing in it changes,
    /// and writes fail with `Frozen`. A write that runs meanwhile comes before, or fails.
    pub fn freeze(&self) {
        // Not between a clear's swap and its return: that would freeze the old content.
        let _number = self.next_generation.lock();
        self.generation.load().index.freeze();
    }

    /// Whether writes fail with `Frozen`: after [`DiskMap::freeze`], and for what
    /// [`DiskMap::rotate`] returned.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.is_view || self.generation.load().index.is_frozen()
    }

    /// Refuses a write early; the last word is the index's, under the shard's lock.
    pub(super) fn check_writable(&self, generation: &Generation) -> Result<()> {
        match (self.is_view, generation.index.is_frozen()) {
            (true, _) => Err(Error::ROTATED),
            (false, true) => Err(Error::FROZEN),
            (false, false) => Ok(()),
        }
    }
}
