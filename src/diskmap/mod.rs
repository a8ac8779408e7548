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
//! `write`, `lookup` and `batch` are the operations; `confirm` and `read` turn matching tags into
//! answers; `log` is where records are appended; `generation` is one life of the content. `rotate`
//! replaces it, `iterate` visits all of it, `transfer` copies from another map. `compaction` gets
//! the space of dead records back, `rehash` hands the index keys that it needs, `durable` lets a
//! map outlive its process, `check` verifies and mends what it left on disk. docs/design.md
//! (sections 3 to 6) has the invariants and the linearization points.
//!
//! Threads: every method takes `&self` and may run concurrently with every other.

mod batch;
pub mod check;
pub mod compaction;
mod confirm;
mod directory;
mod durable;
mod generation;
mod iterate;
mod key;
mod log;
mod lookup;
mod op;
mod places;
mod plan;
mod read;
mod rehash;
mod ring;
mod rotate;
mod space;
mod stats;
mod transfer;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use batch::{Batch, ItemState};
pub use durable::Recovery;
pub use iterate::{Cursor, Entry};
pub use key::Key;
pub use stats::MapStats;
pub use transfer::{Progress, Transfer};

use self::compaction::{CompactionStrategy, Worker, WorkerParts};
use self::confirm::Start;
use self::directory::MapDirectory;
use self::durable::{Durable, Found};
use self::generation::Generation;
use self::log::writeback::Shared;
use self::op::Options;
use self::plan::{Layout, Plan};
use self::read::Scratch;
use self::rehash::Rehasher;
use self::rotate::Ground;
use self::stats::Counters;
use crate::hash::keyed::{KeyHash, KeyedHasher};
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
    plan: Arc<Plan>,
    compaction: Arc<Worker>,
    rehasher: Arc<Rehasher>,
    /// None in an ephemeral map.
    durable: Option<Durable>,
    /// This is a content that a rotation or an iteration holds on to: it takes no writes.
    is_view: bool,
    _ticker: Arc<AgeFlush>,
    /// Last, so that files are gone before their directory.
    directories: Arc<Ground>,
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
        Self::open_by(runtime, settings, None)
    }

    /// The same, compacted by a strategy of the embedder's own from the beginning.
    ///
    /// # Errors
    /// As for [`DiskMap::open`].
    pub fn open_with_strategy(
        runtime: &Runtime,
        settings: &TxMapSettings,
        strategy: Arc<dyn CompactionStrategy>,
    ) -> Result<Self> {
        Self::open_by(runtime, settings, Some(strategy))
    }

    fn open_by(
        runtime: &Runtime,
        settings: &TxMapSettings,
        strategy: Option<Arc<dyn CompactionStrategy>>,
    ) -> Result<Self> {
        let disks = runtime.disks().len();
        Self::open_in(runtime, settings, strategy)
            .inspect_err(|_| runtime.forget_unused_disks(disks))
    }

    fn open_in(
        runtime: &Runtime,
        settings: &TxMapSettings,
        strategy: Option<Arc<dyn CompactionStrategy>>,
    ) -> Result<Self> {
        settings.validate()?;
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
            Durability::Process | Durability::Durable => {
                Some(Found::new::<K>(storage.as_ref(), settings, &directories, store_id)?)
            }
        };
        let identity = found.as_ref().map(|found| &found.identity);
        let ring_directory = plan::ring_directory(settings, &directories);
        let tail = plan::tail(runtime, settings, &layout, &ring_directory, identity)?;
        if settings.prefault {
            tail.prefault();
        }
        let mut shared = Shared::new(tail, layout.flush_bytes);
        shared.sync_on_seal = settings.sync_on_seal;
        let shared = Arc::new(shared);
        let directories = Arc::new(Ground::new(&shared, directories, runtime));
        let identity = found.as_ref().map(|found| &found.identity);
        let plan = Arc::new(Plan::new(runtime, settings, store_id, identity));
        let number = found.as_ref().map_or(0, |found| found.generation);
        let factories = plan.factories::<K>(storage, &directories, number);
        let weights = plan::weights(settings);
        let generation = Generation::new(&shared, &plan.index, factories, plan.secret, &weights)?;
        let recover = |found: Found| {
            let reserve: Arc<dyn MemoryReserve> = Arc::clone(runtime.budget()) as _;
            let events = runtime.events();
            let ring = (&shared.tail, ring_directory.as_path());
            let (storage, tools) = (storage.as_ref(), (&reserve, events.as_ref()));
            found.recover::<K>(storage, &generation, &directories, ring, tools)
        };
        let durable = found.map(recover).transpose()?;
        let generation = Arc::new(ArcSwap::from_pointee(generation));
        let compaction = compaction_worker::<K>(runtime, settings, strategy, &shared, &generation);
        let rehasher =
            Rehasher::start(runtime, &plan, &shared, &generation, (hash_key::<K>, K::BYTES));
        let ticker = AgeFlush::start(&generation, settings, &directories);
        Ok(Self {
            shared,
            generation,
            storage: Arc::clone(runtime.storage()),
            slow_mu: Mutex::new(()),
            counters: Counters::default(),
            next_generation: Mutex::new(number + 1),
            plan,
            compaction,
            rehasher,
            durable,
            is_view: false,
            _ticker: ticker,
            directories,
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
        let options = self.options(wait, true);
        self.compaction.admit(options.timeout)?;
        let generation = self.generation.load();
        let op = self.op(&generation, key, options);
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
        let options = self.options(wait, false);
        self.compaction.admit(options.timeout)?;
        let generation = self.generation.load();
        let op = self.op(&generation, key, options);
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
    /// before the clear. A frozen map takes writes again.
    ///
    /// # Errors
    /// `OutOfMemory`, `Failed`, `Frozen` for what [`DiskMap::rotate`] returned; the content is then
    /// unchanged.
    pub fn clear(&self) -> Result<()> {
        let old = self.replace_generation()?;
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
            // The tail is the map's that this one is a view of.
            tail_bytes: if self.is_view { 0 } else { self.shared.tail.bytes() },
            file_reads: self.counters.file_reads.load(Ordering::Relaxed),
            false_matches: self.counters.false_matches.load(Ordering::Relaxed),
            slow_confirms: self.counters.slow_confirms.load(Ordering::Relaxed),
            waits: self.shared.tail.waits(),
            splits: index.splits,
            rehashes: index.rehashes,
            rehash_failures: self.rehasher.failures(),
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
                stats.dead_bytes += entry.dead_bytes();
            }
        }
        self.compaction.add_stats(&generation, &mut stats);
        stats
    }

    /// The subdirectories that hold the files.
    pub fn directories(&self) -> impl Iterator<Item = &std::path::Path> {
        self.directories.iter().map(MapDirectory::path)
    }
}

impl<K: Key> Drop for DiskMap<K> {
    fn drop(&mut self) {
        // A view shares it with the map that it came from.
        if self.is_view {
            return;
        }
        self.rehasher.close();
        self.compaction.close();
        if self.durable.is_some()
            && self.shared.failure.check().is_ok()
            && let Err(error) = self.sync(Wait::Allowed).and_then(|()| self.close_segments())
        {
            tracing::error!(%error, "a durable map was closed without its last sync");
        }
    }
}

fn compaction_worker<K: Key>(
    runtime: &Runtime,
    settings: &TxMapSettings,
    strategy: Option<Arc<dyn CompactionStrategy>>,
    shared: &Arc<Shared>,
    generation: &Arc<ArcSwap<Generation>>,
) -> Arc<Worker> {
    let parts = WorkerParts {
        generation: Arc::clone(generation),
        shared: Arc::clone(shared),
        storage: Arc::clone(runtime.storage()),
        events: Arc::clone(runtime.events()),
        bell: runtime.background().bell(),
        hash_key: hash_key::<K>,
        strategy,
    };
    Worker::new(parts, &settings.compaction)
}

/// The hash of a key's bytes.
fn hash_key<K: Key>(hasher: &KeyedHasher, bytes: &[u8]) -> Option<KeyHash> {
    K::from_bytes(bytes).map(|key| key.hash(hasher))
}

/// Flushes what has been in RAM alone for too long. Of a generation that another one has replaced
/// it sends all to the writers: an operation that began before may have opened a block since.
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
        if generation.is_retired() {
            generation.give_up_buffers();
            return;
        }
        if self.age.is_zero() {
            return;
        }
        for lane in &generation.lanes {
            lane.flush_if_older(now, self.age);
        }
        generation.waiting.submit_if_older(now, self.age);
    }
}
