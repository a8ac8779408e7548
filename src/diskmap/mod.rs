//! The engine of every map: exact, concurrent, bounded in RAM.
//!
//! ```text
//!   key -> keyed hash -> index shard (tag match?) --no--> absent, exactly
//!                              | maybe
//!                        location in a lane
//!                        /              \
//!            block in the tail?       segment file
//!                        \              /
//!                     compare the full key -> answer
//! ```
//!
//! `write`, `lookup` and `batch` are the operations; `confirm`, `read` and `cold` turn matching
//! tags into answers; `lane`, `segment`, `tail` and `writeback` are the log; `generation` is one
//! life of the content. docs/design.md (sections 3 and 4) has the invariants (L1..L6, M1..M4) and
//! the linearization points.
//!
//! Threads: every method takes `&self` and may run concurrently with every other.

mod batch;
mod batch_get;
mod batch_insert;
mod cold;
mod confirm;
mod directory;
mod generation;
mod key;
mod log;
mod lookup;
mod manifest;
mod op;
mod order;
mod plan;
mod read;
mod recovery;
mod reopen;
mod space;
mod stats;
mod summary;
mod sync;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use batch::{Batch, ItemState};
pub use key::Key;
pub use recovery::Recovery;
pub use stats::MapStats;

use self::confirm::Start;
use self::directory::MapDirectory;
use self::generation::Generation;
use self::log::tail::Tail;
use self::log::writeback::Shared;
use self::op::Options;
use self::plan::{Layout, Plan, scan_kernel};
use self::read::Scratch;
use self::reopen::Found;
use self::stats::Counters;
use self::sync::Durable;
use crate::index::IndexOptions;
use crate::memory::MemoryReserve;
use crate::runtime::{Runtime, Tick};
use crate::settings::{Durability, TxMapSettings};
use crate::storage::Storage;
use crate::{Error, Result};

/// Whether a call may wait: for room in the tail (up to setting txMapWriteTimeout) and for reads of
/// files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It may.
    Allowed,
    /// For reads of files only; without room it returns [`Error::WouldBlock`].
    ReadsOnly,
    /// It returns [`Error::WouldBlock`] instead.
    Never,
}

/// What came of an insert-if-absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted<R> {
    /// The key was absent and has been inserted.
    New,
    /// The key was there; what `visit` made of its value.
    Present(R),
}

/// An exact map from fixed-length keys to bytes, on disk where it is cold. See the module's text.
#[derive(Debug)]
pub struct DiskMap<K: Key> {
    shared: Arc<Shared>,
    generation: Arc<ArcSwap<Generation>>,
    storage: Arc<dyn Storage>,
    slow_mu: Mutex<()>,
    counters: Counters,
    /// Held by `clear`; the number of the next generation.
    next_generation: Mutex<u64>,
    plan: Plan,
    /// None in an ephemeral map.
    durable: Option<Durable>,
    _ticker: Arc<AgeFlush>,
    /// Last, so that files are gone before their directory.
    directories: Vec<MapDirectory>,
    _runtime: Runtime,
    _key: std::marker::PhantomData<K>,
}

impl<K: Key> DiskMap<K> {
    /// Opens an empty map of its own in fresh subdirectories of the settings' directories; a
    /// durable map with what it held when it was last synced or closed.
    ///
    /// # Errors
    /// `Setting` for sizes that do not fit together, `Io`, `Locked` for directories, `OutOfMemory`.
    /// Nothing is left behind.
    pub fn open(runtime: &Runtime, settings: &TxMapSettings) -> Result<Self> {
        let disks = runtime.disks().len();
        Self::open_in(runtime, settings).inspect_err(|_| runtime.forget_unused_disks(disks))
    }

    fn open_in(runtime: &Runtime, settings: &TxMapSettings) -> Result<Self> {
        let layout = Layout::new(settings)?;
        let store_id = getrandom::u64()
            .map_err(|error| Error::Unsupported(format!("no random numbers: {error}")))?;
        let open = |(position, dir): (usize, &PathBuf)| {
            let space = plan::space(settings, position);
            MapDirectory::open(runtime, dir, settings, store_id, space)
        };
        let directories = settings.dirs.iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
        let storage = runtime.storage();
        let found = match settings.durability {
            Durability::Ephemeral => None,
            Durability::Durable => {
                Some(Found::new::<K>(storage.as_ref(), settings, &directories, store_id)?)
            }
        };
        let store_id = found.as_ref().map_or(store_id, |found| found.identity.store_id);
        let reserve: Arc<dyn MemoryReserve> = Arc::clone(runtime.budget()) as _;
        let process = runtime.settings();
        let tail = Tail::new(
            layout.buffers,
            layout.block_bytes,
            process.huge_pages_choice(),
            Arc::clone(&reserve),
        )?;
        if settings.prefault {
            tail.prefault();
        }
        let shared = Arc::new(Shared::new(tail, layout.flush_bytes));
        let plan = Plan {
            settings: settings.clone(),
            index: IndexOptions {
                expected_entries: settings.expected_entries,
                huge_pages: process.huge_pages,
                kernel: scan_kernel(process.kernel),
                prefault: settings.prefault,
                reserve: Some(Arc::clone(&reserve)),
                preparer: runtime.preparer().map(|preparer| Arc::clone(preparer) as _),
            },
            direct: process.direct_io,
            store_id,
            secret: found.as_ref().map(|found| found.identity.secret),
        };
        let number = found.as_ref().map_or(0, |found| found.generation);
        let factories = plan.factories::<K>(storage, &directories, number);
        let (secret, weights) = (plan.secret, plan::weights(settings));
        let generation = Generation::new(&shared, &plan.index, factories, secret, &weights)?;
        let recover = |found: Found| {
            let events = runtime.events();
            found.recover::<K>(storage.as_ref(), &generation, &directories, &reserve, events)
        };
        let durable = found.map(recover).transpose()?;
        let generation = Arc::new(ArcSwap::from_pointee(generation));
        let ticker = AgeFlush::start(&generation, settings, &directories);
        Ok(Self {
            shared,
            generation,
            storage: Arc::clone(runtime.storage()),
            slow_mu: Mutex::new(()),
            counters: Counters::default(),
            next_generation: Mutex::new(number + 1),
            plan,
            durable,
            _ticker: ticker,
            directories,
            _runtime: runtime.clone(),
            _key: std::marker::PhantomData,
        })
    }

    fn options(&self, wait: Wait, want_value: bool) -> Options {
        let timeout = Duration::from_millis(self.plan.settings.write_timeout_ms);
        Options {
            timeout: (wait == Wait::Allowed).then_some(timeout),
            may_read: wait != Wait::Never,
            want_value,
        }
    }

    /// Inserts `value` unless the key is there; then calls `existing(value, subtree index)` for
    /// what is there.
    ///
    /// # Errors
    /// `WouldBlock` with [`Wait::Never`], `TimedOut` without room, `ValueTooLarge`, `OutOfMemory`,
    /// `Failed` once the map has failed, and errors of reading a record whose tag matches. After an
    /// error nothing was inserted.
    pub fn set_if_not_exists<R>(
        &self,
        key: &K,
        value: &[u8],
        subtree_index: u16,
        wait: Wait,
        existing: impl FnOnce(&[u8], u16) -> R,
    ) -> Result<Inserted<R>> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, true));
        Scratch::with(|scratch| {
            loop {
                let Some(there) = op.insert(Start::Probe, value, subtree_index, scratch)? else {
                    return Ok(Inserted::New);
                };
                // A record that is replaced just now has no subtree index any more: once more.
                if let Some(index) = generation.index.subtree_index(op.hash, there.location) {
                    return Ok(Inserted::Present(existing(scratch.value(), index)));
                }
            }
        })
    }

    /// Sets the key's value. True if another one was replaced.
    ///
    /// # Errors
    /// As for [`DiskMap::set_if_not_exists`].
    pub fn set(&self, key: &K, value: &[u8], subtree_index: u16, wait: Wait) -> Result<bool> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, false));
        Scratch::with(|scratch| op.set(Start::Probe, value, subtree_index, scratch))
    }

    /// Removes the key. True if it was there.
    ///
    /// # Errors
    /// As for [`DiskMap::get`].
    pub fn delete(&self, key: &K, wait: Wait) -> Result<bool> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, false));
        Scratch::with(|scratch| op.delete(Start::Probe, scratch))
    }

    /// Sets the subtree index of a key. True if the key was there.
    ///
    /// # Errors
    /// As for [`DiskMap::get`], and `OutOfMemory` at first use.
    pub fn update_subtree_index(&self, key: &K, subtree_index: u16, wait: Wait) -> Result<bool> {
        let generation = self.generation.load();
        let op = self.op(&generation, key, self.options(wait, false));
        Scratch::with(|scratch| op.set_subtree_index(Start::Probe, subtree_index, scratch))
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.generation.load().index.len()
    }

    /// True without keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes everything. Operations that began before finish on the old content and count as
    /// before the clear.
    ///
    /// # Errors
    /// `OutOfMemory`, `Failed`; the content is then unchanged.
    pub fn clear(&self) -> Result<()> {
        let mut number = self.next_generation.lock();
        self.shared.failure.check()?;
        let factories = self.plan.factories::<K>(&self.storage, &self.directories, *number);
        let weights = plan::weights(&self.plan.settings);
        let secret = self.plan.secret;
        let fresh = Generation::new(&self.shared, &self.plan.index, factories, secret, &weights)?;
        let durable = self.durable.as_ref();
        let no_sync = durable.map(|durable| self.sync_generation(durable, *number)).transpose();
        let no_sync = no_sync.map_err(|error| self.fail(error))?;
        *number += 1;
        let old = self.generation.swap(Arc::new(fresh));
        drop(no_sync);
        // Nothing leads to its files any more.
        old.remove_files();
        // If operations still run on it, its blocks must not keep the new one waiting.
        for lane in &old.lanes {
            lane.close();
        }
        old.waiting.submit_all();
        if let Some(directory) = self.directories.first() {
            directory.disk().submit(Box::new(move || drop(old)));
        }
        Ok(())
    }

    /// Starts to write out everything acknowledged so far; the ticket is for
    /// [`DiskMap::flush_wait`].
    ///
    /// # Errors
    /// `Failed`; `WouldBlock` with [`Wait::Never`] while a long value is being appended.
    pub fn flush_begin(&self, wait: Wait) -> Result<u64> {
        self.shared.failure.check()?;
        let generation = self.generation.load();
        for lane in &generation.lanes {
            if !lane.flush(wait == Wait::Allowed) {
                return Err(Error::WouldBlock("a long value is being appended"));
            }
        }
        // Blocks that are closed but not yet committed by their writers are not acknowledged
        // either.
        generation.waiting.submit_all();
        Ok(self.shared.ticket())
    }

    /// Waits until the writes of a ticket are done.
    ///
    /// # Errors
    /// `Failed` with the first error, `WouldBlock` with [`Wait::Never`], `TimedOut` after setting
    /// txMapWriteTimeout.
    pub fn flush_wait(&self, ticket: u64, wait: Wait) -> Result<()> {
        let timeout = self.options(wait, false).timeout;
        self.shared.wait_for_writes(ticket, timeout.map(|timeout| Instant::now() + timeout))
    }

    /// Writes out everything acknowledged so far. This is not `fsync`: the bytes are with the
    /// operating system.
    ///
    /// # Errors
    /// As for [`DiskMap::flush_wait`].
    pub fn flush(&self) -> Result<()> {
        let ticket = self.flush_begin(Wait::Allowed)?;
        self.flush_wait(ticket, Wait::Allowed)
    }

    /// The first error, if the map has failed.
    ///
    /// # Errors
    /// `Failed`.
    pub fn failure(&self) -> Result<()> {
        self.shared.failure.check()
    }

    /// Longest value that this map takes, in bytes.
    #[must_use]
    pub fn value_bytes_max(&self) -> usize {
        self.generation.load().lanes[0].value_bytes_max(K::BYTES)
    }

    /// Sizes and counters. Not one consistent moment.
    #[must_use]
    pub fn stats(&self) -> MapStats {
        let generation = self.generation.load();
        let index = generation.index.stats();
        let mut stats = MapStats {
            entries: generation.index.len(),
            index_bytes: generation.index.memory_bytes(),
            subtree_index_bytes: generation.index.subtree_index_bytes(),
            tail_bytes: self.shared.tail.bytes(),
            file_reads: self.counters.file_reads.load(Ordering::Relaxed),
            false_matches: self.counters.false_matches.load(Ordering::Relaxed),
            slow_confirms: self.counters.slow_confirms.load(Ordering::Relaxed),
            waits: self.shared.tail.waits(),
            splits: index.splits,
            failed: u64::from(self.shared.failure.is_set()),
            ..MapStats::default()
        };
        for lane in &generation.lanes {
            let open = lane.open_units();
            for (entry, segment) in lane.table().segments() {
                let open_units = open.filter(|(slot, _)| *slot == segment.slot);
                let live_units = entry.live_units(open_units.map_or(0, |(_, units)| units));
                stats.segments += 1;
                stats.live_bytes += live_units * log::record::UNIT_BYTES as u64;
            }
        }
        stats
    }

    /// The subdirectories that hold the files.
    pub fn directories(&self) -> impl Iterator<Item = &std::path::Path> {
        self.directories.iter().map(MapDirectory::path)
    }
}

impl<K: Key> Drop for DiskMap<K> {
    fn drop(&mut self) {
        if self.durable.is_some()
            && self.shared.failure.check().is_ok()
            && let Err(error) = self.sync(Wait::Allowed).and_then(|()| self.close_segments())
        {
            tracing::error!(%error, "a durable map was closed without its last sync");
        }
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

/// Flushes what has been in RAM alone for too long.
#[derive(Debug)]
struct AgeFlush {
    generation: Arc<ArcSwap<Generation>>,
    age: Duration,
}

impl AgeFlush {
    fn start(
        generation: &Arc<ArcSwap<Generation>>,
        settings: &TxMapSettings,
        directories: &[MapDirectory],
    ) -> Arc<Self> {
        let age = Duration::from_millis(settings.flush_age_ms);
        let ticker = Arc::new(Self { generation: Arc::clone(generation), age });
        if !age.is_zero() {
            for directory in directories {
                let tick: Arc<dyn Tick> = Arc::clone(&ticker) as _;
                directory.disk().register_ticker(Arc::downgrade(&tick));
            }
        }
        ticker
    }
}

impl Tick for AgeFlush {
    fn tick(&self, now: Instant) {
        let generation = self.generation.load();
        for lane in &generation.lanes {
            lane.flush_if_older(now, self.age);
        }
        generation.waiting.submit_if_older(now, self.age);
    }
}
