//! What a process has once: disks and their writer threads, the memory budget, events.
//!
//! A [`Runtime`] is a handle; clones share everything. Maps, arrays and trees keep a clone, so what
//! they need lives as long as they do. Disks are shared wider still: whatever runtime asks for a
//! directory gets the process's one [`Disk`] for it, and so the process's one writer thread.
//!
//! Threads: everything here may be used from any thread. The only threads made are the disks'
//! writers, one that prepares memory once an index has grown, and one for the background once a map
//! has something to compact.

pub(crate) mod background;
mod budget;
mod disk;
mod preparer;
mod registry;
mod stats;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use crate::events::{Event, EventLevel, EventRing};
pub use crate::memory::MemoryReserve;
pub use budget::{MemoryBudget, memory_limit};
pub use disk::{Disk, Job, TICK_INTERVAL, Tick};
pub use preparer::Preparer;
pub use stats::{DiskStats, DiskStatsSnapshot};

use crate::Result;
use crate::hash::{Sha256d, Sha256dKernel};
use crate::settings::RuntimeSettings;
use crate::storage::{Mapping, MappingOptions, RealStorage, Storage};

/// The handle of what a process has once.
///
/// ```
/// use blocktier::runtime::Runtime;
/// use blocktier::settings::RuntimeSettings;
/// let runtime = Runtime::open(&RuntimeSettings::parse("memoryBudget = 64M")?)?;
/// assert_eq!(runtime.budget().limit(), 64 << 20);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: RuntimeSettings,
    storage: Arc<dyn Storage>,
    budget: Arc<MemoryBudget>,
    events: Arc<EventRing>,
    preparer: Arc<Preparer>,
    /// What runs without a call; ends before the disks go.
    background: background::Background,
    /// Every disk this runtime asked for; they end when no runtime and no map needs them.
    disks: Mutex<Vec<Arc<Disk>>>,
}

impl Runtime {
    /// Opens a runtime over the real file system.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] for settings out of range, [`crate::Error::Unsupported`] for a
    /// hash kernel that the processor lacks.
    pub fn open(settings: &RuntimeSettings) -> Result<Self> {
        Self::with_storage(settings, Arc::new(RealStorage::new(settings)))
    }

    /// Opens a runtime over another storage, such as [`crate::storage::FaultStorage`].
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn with_storage(settings: &RuntimeSettings, storage: Arc<dyn Storage>) -> Result<Self> {
        settings.validate()?;
        if settings.hash_kernel != Sha256dKernel::Auto {
            Sha256d::new(settings.hash_kernel)?.select();
        }
        let events = Arc::new(EventRing::new());
        storage.report_to(&events);
        let limit = settings.memory_budget.unwrap_or_else(|| memory_limit() / 5 * 4);
        let budget = Arc::new(MemoryBudget::new(limit));
        let disks = Mutex::new(Vec::new());
        let settings = settings.clone();
        let background = background::Background::new(Arc::clone(&events));
        let preparer = Arc::default();
        let inner = Inner { settings, storage, budget, events, preparer, background, disks };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn settings(&self) -> &RuntimeSettings {
        &self.inner.settings
    }

    /// Where files are.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.inner.storage
    }

    /// The memory that everything of this runtime shares.
    #[must_use]
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.inner.budget
    }

    /// Who prepares memory ahead; none where the settings want none.
    #[must_use]
    pub fn preparer(&self) -> Option<&Arc<Preparer>> {
        self.inner.settings.fault_ahead.then_some(&self.inner.preparer)
    }

    /// What happened that an operator should know.
    #[must_use]
    pub fn events(&self) -> &Arc<EventRing> {
        &self.inner.events
    }

    pub(crate) fn background(&self) -> &background::Background {
        &self.inner.background
    }

    /// The process's disk for `dir`, an existing directory; starts its writer thread at first use.
    ///
    /// # Errors
    /// [`crate::Error::Directory`] if `dir` is not an existing directory, [`crate::Error::Io`] if
    /// no thread can be started.
    pub fn disk(&self, dir: &Path) -> Result<Arc<Disk>> {
        let disk = registry::disk(dir, &self.inner.events)?;
        let mut disks = self.inner.disks.lock();
        if !disks.iter().any(|known| Arc::ptr_eq(known, &disk)) {
            disks.push(Arc::clone(&disk));
        }
        Ok(disk)
    }

    /// Forgets the disks that it asked for after the first `count` and that nobody else uses; their
    /// threads end. For an opening that failed.
    pub(crate) fn forget_unused_disks(&self, count: usize) {
        let mut disks = self.inner.disks.lock();
        let kept = count.min(disks.len());
        let rest = disks.split_off(kept);
        let (used, unused): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|disk| Arc::strong_count(disk) > 1);
        disks.extend(used);
        // Not under the lock: each drop waits for its thread.
        drop(disks);
        drop(unused);
    }

    /// The disks this runtime asked for, in the order of first use.
    #[must_use]
    pub fn disks(&self) -> Vec<Arc<Disk>> {
        self.inner.disks.lock().clone()
    }

    /// Maps an unlinked file of `bytes` bytes in `dir`, as the settings say.
    ///
    /// # Errors
    /// As [`Mapping::unlinked_file`].
    pub fn map_unlinked_file(&self, dir: &Path, bytes: u64) -> Result<Mapping> {
        let options = MappingOptions { o_tmpfile: self.inner.settings.o_tmpfile };
        let mapping = Mapping::unlinked_file(dir, bytes, &options)?;
        if options.o_tmpfile && !mapping.used_o_tmpfile() {
            let dir = dir.display();
            let text = format!("no O_TMPFILE in {dir}: mapped files are created and unlinked");
            let key = format!("o_tmpfile:{dir}");
            self.inner.events.push_once(&key, EventLevel::Warn, text);
        }
        Ok(mapping)
    }
}
