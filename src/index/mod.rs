//! The index: 4096 shards of cuckoo filters whose slots carry the record's location.
//!
//! It knows no keys and does no I/O. A key comes as a 128-bit keyed hash, of which a slot keeps 24
//! bits (the tag); an absent tag is an exact "no", a matching one a "maybe" that the caller
//! confirms against the record. Nothing that was inserted is ever dropped.
//!
//! # Model
//!
//! The hash picks a shard; the `directory` leads to a page of up to 256 `bucket`s; the key
//! lives in one of two buckets of that page, chosen as `home` says, or in the shard's `stash`.
//! Pages grow and split as `grow` says, of the sizes in `sizing`, and are built anew from their
//! keys as `rehash` says. All memory comes from the `arena` and goes with the index.
//!
//! # Threads
//!
//! All calls may come from any thread. Readers take no lock: they note the shard's version, read,
//! and start again when it moved (`version_lock`). Writers hold the shard's lock, never over I/O.
//! Words are atomics throughout.
//!
//! # Invariants
//!
//! - A key that was inserted and not removed is found by every later probe: in its primary bucket,
//!   in its alternate with the primary's overflow bit set, or in the stash.
//! - A probe reads both buckets and the stash in one state of the shard, so "absent" is exact.
//! - Only the holder of the shard's lock changes the shard.
//! - Nothing is unmapped while the index lives, and memory that held addresses holds nothing else:
//!   a reader that races with a split reads stale words, never foreign ones as addresses.
//! - Subtree indexes move with their slots. They take memory from the first one that is not 0 on.
//! - Memory that is refused leaves everything as it was.

mod ahead;
mod arena;
mod bucket;
mod candidates;
#[cfg(test)]
mod check;
mod directory;
mod grow;
mod guard;
mod home;
mod kick;
mod location;
mod many;
#[cfg(test)]
mod many_tests;
mod options;
mod packed;
mod page;
mod pool;
mod probe;
mod rehash;
#[cfg(test)]
mod rehash_tests;
mod shard;
mod sizing;
mod slot;
mod stash;
mod stats;
mod sync;
mod version_lock;

use std::hint::select_unpredictable;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::hash::keyed::KeyHash;
use crate::{Error, Result};

use arena::Arena;
use bucket::KernelChoice;
use directory::Directory;
use guard::InsertNew;
use home::Home;
use packed::Packed;
use pool::Pool;
use probe::Probe;
use rehash::Recorder;
use shard::Header;

pub(crate) use bucket::prefetch as prefetch_line;
pub use candidates::Candidates;
pub(crate) use guard::NewEntry;
pub use guard::ShardGuard;
pub use home::shard_of;
pub use location::Location;
pub(crate) use many::Purpose;
pub use options::{IndexOptions, ScanKernel};
pub use rehash::Ring;
pub(crate) use rehash::{Fit, Noted, Rehash, Wanted};
pub use stats::IndexStats;

/// Shards of an index.
pub const SHARDS: usize = 4096;

/// An exact, concurrent index from key hashes to locations. See the module's documentation.
///
/// ```
/// use blocktier::hash::keyed::KeyedHasher;
/// use blocktier::index::{Index, IndexOptions, Insert, Location};
///
/// let hasher = KeyedHasher::random()?;
/// let index = Index::new(&IndexOptions::default())?;
/// let (h, location) = (hasher.hash32(&[7; 32]), Location::new(1).unwrap());
///
/// let known = index.probe(h);
/// assert!(known.is_empty(), "exactly absent");
/// assert!(matches!(index.insert_new(h, location, 0, &known)?, Insert::Done));
/// // A match is a maybe: compare the key in the record at that location.
/// assert!(index.probe(h).contains(location));
/// # Ok::<(), blocktier::Error>(())
/// ```
pub struct Index {
    kernel: KernelChoice,
    headers: Vec<Header>,
    directory: Directory,
    arena: Arc<Arena>,
    pool: Pool,
    recorder: Recorder,
    /// See [`IndexOptions::rehash_splits`].
    splits: u32,
    rehasher: Option<Arc<dyn Ring>>,
    subtree_bytes: AtomicU64,
    /// Writers are refused; see `freeze`.
    frozen: AtomicBool,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("kernel", &self.kernel)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What became of an insertion.
#[derive(Clone, Debug)]
pub enum Insert {
    /// The entry is in the index.
    Done,
    /// The key's candidates are others than the caller knew; nothing was inserted.
    Changed(Candidates),
}

impl Index {
    /// An empty index.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the hint needs more than the account or the system has;
    /// [`Error::Unsupported`] when the processor lacks a kernel that was asked for by name.
    pub fn new(options: &IndexOptions) -> Result<Self> {
        let kernel = KernelChoice::new(options.kernel)?;
        let arena = Arena::new(options);
        let presized = sizing::presized(options.expected_entries);
        let headers = new_headers(&arena, presized.map(|presized| presized.buckets))?;
        let directory = Directory::new(&arena, presized.map_or(1, |presized| presized.base_pages))?;
        if let Some(sizing::Presized { base_pages, buckets }) = presized {
            // The directory has as many words, so the product fits.
            let count = base_pages as usize * SHARDS;
            directory.fill(Packed::new_pages(&arena, count, buckets)?);
            for header in &headers {
                header.pages.store(directory.base_pages(), Relaxed);
            }
            if options.prefault {
                arena.populate();
            }
        }
        if options.ready_bytes > 0 {
            arena.make_ready(options.ready_bytes)?;
        }
        Ok(Self {
            kernel,
            headers,
            directory,
            arena,
            pool: Pool::default(),
            recorder: Recorder::default(),
            splits: options.rehash_splits,
            rehasher: options.rehasher.clone(),
            subtree_bytes: AtomicU64::new(0),
            frozen: AtomicBool::new(false),
        })
    }

    /// To be called before a probe that an insertion, or another change of the key's shard, will
    /// follow: the header comes as this core's own while the probe waits for the buckets.
    #[inline(always)]
    pub(crate) fn prefetch_to_change(&self, h: KeyHash) {
        bucket::prefetch_to_write(&self.headers[shard_of(h)]);
    }

    /// Before [`prefetch`](Self::prefetch): starts to bring near the shard's header and the way
    /// through the directory of an index that has grown, which `prefetch` reads.
    #[inline]
    pub fn prefetch_directory(&self, h: KeyHash) {
        bucket::prefetch(&self.headers[shard_of(h)]);
        self.prefetch_way(h);
    }

    /// The part of `prefetch_directory` without the header.
    #[inline(always)]
    fn prefetch_way(&self, h: KeyHash) {
        self.directory.prefetch(&self.arena, shard_of(h), Home::of(h));
    }

    /// Starts to bring near what a probe of `h` reads first, its primary bucket. Some ten to
    /// twenty operations ahead is right.
    #[inline]
    pub fn prefetch(&self, h: KeyHash) {
        let shard = shard_of(h);
        let home = Home::of(h);
        let page = self.directory.page(&self.arena, shard, home);
        if !page.is_none() {
            let buckets = page.buckets(&self.arena);
            bucket::prefetch(&buckets[home.primary(buckets.len())]);
        }
    }

    /// Starts to bring near the subtree index of an entry in its primary bucket, where the page has
    /// any. A lookup reads it last, when the record was compared.
    #[inline]
    pub(crate) fn prefetch_subtree_index(&self, h: KeyHash) {
        let home = Home::of(h);
        let leaf = self.directory.leaf(&self.arena, shard_of(h), home);
        if leaf.page.is_none() || leaf.subtree.is_none() {
            return;
        }
        let primary = home.primary(leaf.page.buckets(&self.arena).len());
        // For a reader the two need not belong together.
        if let Some(place) = leaf.subtree.subtree(&self.arena).get(primary * bucket::SLOTS) {
            bucket::prefetch(place);
        }
    }

    /// The second stage, when the first has arrived: the alternate bucket, if a probe will read it.
    /// [`prefetch_room`](Self::prefetch_room) is the one for insertions.
    #[inline]
    pub fn prefetch_alternate(&self, h: KeyHash) {
        let home = Home::of(h);
        let page = self.directory.page(&self.arena, shard_of(h), home);
        if !page.is_none() {
            let buckets = page.buckets(&self.arena);
            let primary = home.primary(buckets.len());
            let alternate = home::other_bucket(home.tag, primary, buckets.len());
            // Without a branch, which would be mispredicted as often as taken.
            let overflowed = buckets[primary].is_overflowed();
            bucket::prefetch(&buckets[select_unpredictable(overflowed, alternate, primary)]);
        }
    }

    /// The second stage for an insertion: the alternate bucket, if a probe will read it or the
    /// primary looks full.
    #[inline]
    pub fn prefetch_room(&self, h: KeyHash) {
        let home = Home::of(h);
        let page = self.directory.page(&self.arena, shard_of(h), home);
        if !page.is_none() {
            let buckets = page.buckets(&self.arena);
            let primary = home.primary(buckets.len());
            let alternate = home::other_bucket(home.tag, primary, buckets.len());
            // Buckets fill from slot 0, so the last one tells (after a removal, most of the time).
            let full = buckets[primary].is_overflowed()
                | !slot::is_empty(buckets[primary].load(bucket::SLOTS - 1));
            bucket::prefetch(&buckets[select_unpredictable(full, alternate, primary)]);
        }
    }

    /// Starts to bring both buckets near. The alternate's place follows from the key alone; waiting
    /// for the primary to say whether it is needed would make two trips to memory of one.
    #[inline(always)]
    fn prefetch_both(&self, h: KeyHash) {
        let home = Home::of(h);
        let page = self.directory.page(&self.arena, shard_of(h), home);
        if !page.is_none() {
            let buckets = page.buckets(&self.arena);
            let primary = home.primary(buckets.len());
            bucket::prefetch(&buckets[primary]);
            bucket::prefetch(&buckets[home::other_bucket(home.tag, primary, buckets.len())]);
        }
    }

    /// The locations that may hold the key, all of one state of its shard. None is an exact "no".
    /// Takes no lock; waits while a writer of this shard stores.
    #[inline]
    #[must_use]
    pub fn probe(&self, h: KeyHash) -> Candidates {
        self.prefetch_both(h);
        self.kernel.dispatch(Probe { index: self, h })
    }

    /// Whether `known`, an earlier result for `h`, still holds: the shard has not changed, or has
    /// the same locations for the key.
    #[inline]
    #[must_use]
    pub fn unchanged(&self, h: KeyHash, known: &Candidates) -> bool {
        self.headers[shard_of(h)].is_still(known.version()) || self.probe(h).same_locations(known)
    }

    /// Locks the shard of `h` for writing. Not reentrant: one guard per shard and thread.
    #[inline]
    #[must_use]
    pub fn lock(&self, h: KeyHash) -> ShardGuard<'_> {
        ShardGuard::new(self, shard_of(h))
    }

    /// Inserts an entry if the key's candidates are exactly `known`, which the caller has refuted.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the shard has to grow and cannot, [`Error::Frozen`] after
    /// [`freeze`](Self::freeze); nothing has changed then.
    #[inline]
    pub fn insert_new(
        &self,
        h: KeyHash,
        location: Location,
        subtree_index: u16,
        known: &Candidates,
    ) -> Result<Insert> {
        self.insert_new_if(h, location, subtree_index, known, || true)
    }

    /// As [`Index::insert_new`], if `admit`, called last and under the shard's lock, agrees too.
    ///
    /// # Errors
    /// As for [`Index::insert_new`].
    #[inline]
    pub fn insert_new_if(
        &self,
        h: KeyHash,
        location: Location,
        subtree_index: u16,
        known: &Candidates,
        admit: impl FnOnce() -> bool,
    ) -> Result<Insert> {
        let new = NewEntry { location, subtree: subtree_index, known };
        self.kernel.dispatch(InsertNew { index: self, h, new, admit })
    }

    /// The subtree index of an entry; 0 when none was set, none when `location` is not there.
    /// Takes no lock.
    #[must_use]
    pub fn subtree_index(&self, h: KeyHash, location: Location) -> Option<u16> {
        let (shard, home) = (shard_of(h), Home::of(h));
        let header = &self.headers[shard];
        loop {
            let version = header.version_before_read();
            let found = self.find(shard, home, location);
            let index = found.map(|found| self.subtree_index_of(shard, &found));
            if header.is_still(version) {
                return index.flatten();
            }
        }
    }

    /// As [`Index::subtree_index`] of one of `known`'s locations. Where the shard is as it was then
    /// and has no subtree indexes for the key's page, nothing has to be searched.
    #[inline]
    pub(crate) fn subtree_index_if_known(
        &self,
        h: KeyHash,
        location: Location,
        known: &Candidates,
    ) -> Option<u16> {
        let (shard, home) = (shard_of(h), Home::of(h));
        let header = &self.headers[shard];
        let none = self.directory.leaf(&self.arena, shard, home).subtree.is_none()
            && header.stash_entries() == 0;
        if none && header.is_still(known.version()) && known.contains(location) {
            return Some(0);
        }
        self.subtree_index(h, location)
    }

    /// Calls `f` with each entry's location and subtree index, shard by shard under its lock. `f`
    /// must be quick and must not call into this index.
    pub fn for_each(&self, f: &mut dyn FnMut(Location, u16)) {
        for shard in 0..SHARDS {
            self.for_each_in(shard, f);
        }
    }

    /// As [`for_each`](Self::for_each), for one shard: all its entries in one state.
    pub fn for_each_in(&self, shard: usize, f: &mut dyn FnMut(Location, u16)) {
        ShardGuard::new(self, shard).for_each(&mut *f);
    }

    /// From the return of this call on nobody changes what the index says of a key: whoever asks
    /// [`ShardGuard::check_writable`] under the lock of a shard is refused. Moving an entry to
    /// another location is no such change, and asks nobody.
    pub fn freeze(&self) {
        self.frozen.store(true, Relaxed);
        // Who holds a lock now may have asked before; who takes one after us sees the flag.
        for shard in 0..SHARDS {
            drop(ShardGuard::new(self, shard));
        }
    }

    /// Whether [`freeze`](Self::freeze) was called.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    fn count_subtree(&self, buckets: usize) {
        self.subtree_bytes.fetch_add(Packed::subtree_bytes(buckets) as u64, Relaxed);
    }

    fn discount_subtree(&self, buckets: usize) {
        self.subtree_bytes.fetch_sub(Packed::subtree_bytes(buckets) as u64, Relaxed);
    }
}

fn new_headers(arena: &Arena, page_buckets: Option<usize>) -> Result<Vec<Header>> {
    let bytes = (SHARDS * size_of::<Header>()) as u64;
    arena.charge(bytes)?;
    let mut headers = Vec::new();
    headers.try_reserve_exact(SHARDS).map_err(|_| Error::OutOfMemory {
        what: "index",
        bytes,
        available: u64::MAX,
    })?;
    headers
        .extend((0..SHARDS).map(|shard| {
            Header::new(page_buckets.unwrap_or_else(|| sizing::frame_buckets(shard)))
        }));
    Ok(headers)
}
