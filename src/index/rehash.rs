//! Building a base page anew from its keys, so that all tag bits tell keys apart again.
//!
//! A split tells its keys apart by a tag bit, which is the same for all keys of a page from then
//! on: twice the keys make twice the false matches. More than `rehash_splits` are too many. What a
//! slot holds is not enough to do better, so somebody who has the keys (`IndexOptions::rehasher`)
//! reads them and hands them in, while everybody else goes on:
//!
//! 1. `begin_rehash` notes the entries, and from then on what changes, both under the shard's lock.
//! 2. `rehash_entry` puts each key into pages that nobody sees, by hash bits that were not used.
//! 3. `finish_rehash` repeats what changed on them, the last of it under the lock, and exchanges
//!    the root in one write section.
//!
//! Nothing has changed before the exchange; whatever comes between, the old pages go on. A shard
//! with a stash is left alone: its entries may not know the hash bits.

use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;

use super::bucket::{SLOTS, Scalar};
use super::guard::ShardGuard;
use super::home::{Home, shard_of};
use super::location::Location;
use super::packed::Packed;
use super::page::{Entry, Page};
use super::shard::bump;
use super::slot::SECONDARY;
use super::{Index, SHARDS};
use crate::hash::keyed::KeyHash;
use crate::{Error, Result};

/// Tag bits that splits may use before a base page is built anew.
pub(super) const SPLITS: u32 = 8;
/// The new pages are full to at most this share.
const LOAD_MAX: (usize, usize) = (17, 20);
/// What may be left to repeat under the shard's lock.
const REST_MAX: usize = 64;
/// Changes that are repeated in one go.
const CHUNK: usize = 256;
/// So often what is left is looked at before the lock is taken all the same.
const ROUNDS_MAX: usize = 1_000;
/// Changes, and entries that come before the beginning, for which there is always room.
const SPARE_ENTRIES: usize = 4096;
const WHAT: &str = "rehashing a page of the index";

/// Who is told that there is something to rehash.
pub trait Ring: Send + Sync + std::fmt::Debug {
    /// Called under the lock of a shard: must be quick and must not call into the index.
    fn ring(&self);
}

/// A base page to be built anew.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    root: usize,
    /// Entries of its shard, about.
    pub(crate) entries: usize,
}

impl Wanted {
    /// Where to look for the next one.
    pub(crate) fn next(self) -> usize {
        self.root + 1
    }
}

/// An entry as it was when the rehash began.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Noted(u64);

impl Noted {
    const SUBTREE_BITS: u32 = 16;

    fn new(location: Location, subtree: u16) -> Self {
        Self(location.units() << Self::SUBTREE_BITS | u64::from(subtree))
    }

    /// The units of its location.
    pub(crate) fn units(self) -> u64 {
        self.0 >> Self::SUBTREE_BITS
    }

    fn subtree(self) -> u16 {
        // The low 16 bits.
        self.0 as u16
    }
}

/// What happened to an entry of a page.
#[derive(Copy, Clone, Debug)]
pub(super) enum Change {
    Insert(Entry),
    Remove(Home, Location),
    Replace { home: Home, old: Location, new: Location, subtree: Option<u16> },
}

impl Change {
    fn home(&self) -> Home {
        match *self {
            Self::Insert(Entry { home, .. })
            | Self::Remove(home, _)
            | Self::Replace { home, .. } => home,
        }
    }
}

/// What changed since a rehash began. One at a time per index.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Option<Recording>>);

struct Recording {
    root: usize,
    /// Of a capacity that is not exceeded.
    changes: Vec<Change>,
    /// There was no room for one.
    overrun: bool,
}

/// A rehash under way; ends by [`Index::finish_rehash`] or [`Index::abandon_rehash`].
#[derive(Debug)]
pub(crate) struct Rehash {
    shard: usize,
    root: usize,
    /// log2 of the number of pages.
    depth: u32,
    /// The new pages and their subtree indexes.
    pages: Vec<(Packed, Packed)>,
    by_hash: Packed,
    entries: u64,
    /// Changes that were repeated.
    repeated: usize,
}

/// How far a step of a rehash came.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It did what it was to do.
    Done,
    /// One of the new pages is full: there have to be twice as many.
    TooFull,
    /// Too much has changed meanwhile, or the shard has a stash now.
    Overrun,
}

impl Rehash {
    fn page<'a>(&self, index: &'a Index, number: usize) -> Page<'a> {
        let (page, subtree) = self.pages[number];
        Page {
            buckets: page.buckets(&index.arena),
            side: None,
            subtree: (!subtree.is_none()).then(|| subtree.subtree(&index.arena)),
        }
    }

    /// The page of a key, with subtree indexes if they are wanted.
    fn page_of<'a>(&mut self, index: &'a Index, home: Home, subtree: u16) -> Result<Page<'a>> {
        let number = index.directory.entry_of(home, self.depth);
        let (page, indexes) = &mut self.pages[number];
        if subtree != 0 && indexes.is_none() {
            *indexes = index.pool.subtree(&index.arena, page.units())?;
            index.count_subtree(page.units());
        }
        Ok(self.page(index, number))
    }

    /// False when the entry's page has no room.
    fn insert(&mut self, index: &Index, entry: Entry) -> Result<bool> {
        let page = self.page_of(index, entry.home, entry.subtree)?;
        let placed = page.place(Scalar, entry, || ());
        self.entries += u64::from(placed);
        Ok(placed)
    }

    fn repeat(&mut self, index: &Index, change: Change) -> Result<Fit> {
        match change {
            Change::Insert(entry) => {
                return Ok(if self.insert(index, entry)? { Fit::Done } else { Fit::TooFull });
            }
            Change::Remove(home, location) => {
                let page = self.page_of(index, home, 0)?;
                page.clear(page.find(home, location).ok_or_else(torn)?);
                self.entries -= 1;
            }
            Change::Replace { home, old, new, subtree } => {
                let page = self.page_of(index, home, subtree.unwrap_or(0))?;
                let spot = page.find(home, old).ok_or_else(torn)?;
                let side = page.word(spot) & SECONDARY;
                let word = home.primary_word() | side | new.units();
                page.buckets[spot.bucket].store(spot.slot, word);
                if let Some(subtree) = subtree {
                    page.set_subtree_index(spot, subtree);
                }
            }
        }
        Ok(Fit::Done)
    }

    /// Puts the pages into the directory.
    fn fill_directory(&self, index: &Index) {
        let words = self.by_hash.directory(&index.arena);
        for (i, (page, subtree)) in self.pages.iter().enumerate() {
            words[i].store(page.raw(), Relaxed);
            words[self.pages.len() + i].store(subtree.raw(), Relaxed);
        }
    }
}

/// Pages and changes do not fit together. Nothing is lost by it: the old pages are as they were.
fn torn() -> Error {
    Error::Panic(format!("{WHAT}: an entry that was changed is not where it was noted"))
}

fn out_of_memory(bytes: usize) -> Error {
    Error::OutOfMemory { what: WHAT, bytes: bytes as u64, available: u64::MAX }
}

fn with_capacity<T>(len: usize) -> Result<Vec<T>> {
    let mut items = Vec::new();
    items.try_reserve_exact(len).map_err(|_| out_of_memory(len * size_of::<T>()))?;
    Ok(items)
}

impl Index {
    /// The shard whose keys are wanted.
    pub(crate) fn shard_of_wanted(&self, wanted: &Wanted) -> usize {
        wanted.root / self.directory.base_pages() as usize
    }

    /// The first base page from number `from` on that has been split too often.
    pub(crate) fn wants_rehash(&self, from: usize) -> Option<Wanted> {
        let is_deep = |shard: &usize| self.headers[*shard].depth_max.load(Relaxed) > self.splits;
        let base_pages = self.directory.base_pages() as usize;
        (from / base_pages..SHARDS).filter(is_deep).find_map(|shard| {
            let guard = ShardGuard::new(self, shard);
            let mut roots = self.directory.roots(shard).filter(|root| *root >= from);
            let root = roots.find(|root| guard.depth_of(*root) > self.splits)?;
            let entries = usize::try_from(guard.header.entries()).unwrap_or(usize::MAX);
            Some(Wanted { root, entries })
        })
    }

    /// Bytes of memory that a rehash takes aside from its pages.
    pub(crate) fn rehash_bytes(wanted: &Wanted) -> u64 {
        let room = wanted.entries.saturating_add(SPARE_ENTRIES);
        room.saturating_mul(size_of::<Noted>() + size_of::<Change>()) as u64
    }

    /// Begins to build a base page anew, with `1 << more` times the pages that should do: the
    /// entries to be handed in. None if there is nothing to gain, if the shard has a stash, or
    /// while another one is being built.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn begin_rehash(
        &self,
        wanted: &Wanted,
        more: u32,
    ) -> Result<Option<(Rehash, Vec<Noted>)>> {
        let (shard, root) = (self.shard_of_wanted(wanted), wanted.root);
        let room = wanted.entries.saturating_add(SPARE_ENTRIES);
        let mut noted = with_capacity(room)?;
        let changes = with_capacity(room)?;
        {
            let guard = ShardGuard::new(self, shard);
            let mut recording = self.recorder.0.lock();
            let is_deep = guard.depth_of(root) > self.splits;
            let fits = guard.header.entries() <= room as u64;
            if recording.is_some() || !is_deep || !fits || guard.header.stash_entries() != 0 {
                return Ok(None);
            }
            guard.for_each_of(root, |location, subtree| {
                noted.push(Noted::new(location, subtree));
            });
            *recording = Some(Recording { root, changes, overrun: false });
            guard.header.set_recording(true);
        }
        noted.sort_unstable();
        let frame = self.headers[shard].frame_buckets();
        let depth = depth_for(noted.len(), frame * SLOTS).saturating_add(more);
        let (pages, by_hash, entries) = (Vec::new(), Packed::NONE, 0);
        let mut rehash = Rehash { shard, root, depth, pages, by_hash, entries, repeated: 0 };
        if depth > self.directory.hash_depth_max() {
            self.abandon_rehash(rehash);
            return Ok(None);
        }
        match self.make_pages(&mut rehash, frame) {
            Ok(()) => Ok(Some((rehash, noted))),
            Err(error) => {
                self.abandon_rehash(rehash);
                Err(error)
            }
        }
    }

    fn make_pages(&self, rehash: &mut Rehash, buckets: usize) -> Result<()> {
        rehash.by_hash = Packed::new_hash_directory(&self.arena, rehash.depth)?;
        rehash.pages = with_capacity(1 << rehash.depth)?;
        for _ in 0..1usize << rehash.depth {
            let page = self.pool.page(&self.arena, buckets, 0)?;
            rehash.pages.push((page, Packed::NONE));
        }
        Ok(())
    }

    /// Hands in the key of a noted entry.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Panic`] for a key of another page.
    pub(crate) fn rehash_entry(
        &self,
        rehash: &mut Rehash,
        h: KeyHash,
        noted: Noted,
    ) -> Result<Fit> {
        let (home, location) = (Home::of(h), Location::new(noted.units()).ok_or_else(torn)?);
        let root = self.directory.root_of(shard_of(h), home);
        if root != rehash.root {
            return Err(torn());
        }
        let placed = rehash.insert(self, Entry { home, location, subtree: noted.subtree() })?;
        Ok(if placed { Fit::Done } else { Fit::TooFull })
    }

    /// Puts the new pages in the place of the old ones, when all noted entries were handed in; if
    /// it cannot be, leaves everything as it was.
    ///
    /// # Errors
    /// As for [`Index::rehash_entry`].
    pub(crate) fn finish_rehash(&self, mut rehash: Rehash) -> Result<Fit> {
        let outcome = self.try_finish(&mut rehash);
        if !matches!(outcome, Ok(Fit::Done)) {
            self.abandon_rehash(rehash);
        }
        outcome
    }

    fn try_finish(&self, rehash: &mut Rehash) -> Result<Fit> {
        for _ in 0..ROUNDS_MAX {
            let (left, fit) = self.repeat_some(rehash)?;
            if fit != Fit::Done {
                return Ok(fit);
            }
            if left <= REST_MAX {
                break;
            }
        }
        let mut old = with_capacity(self.headers[rehash.shard].pages.load(Relaxed) as usize * 2)?;
        let guard = ShardGuard::new(self, rehash.shard);
        loop {
            let (left, fit) = self.repeat_some(rehash)?;
            if fit != Fit::Done {
                return Ok(fit);
            }
            if left == 0 {
                break;
            }
        }
        if guard.header.stash_entries() != 0 {
            return Ok(Fit::Overrun);
        }
        if self.directory.base_pages() == 1 && rehash.entries != guard.header.entries() {
            return Err(torn());
        }
        let mut old_pages = 0;
        self.directory.for_each_leaf_of(&self.arena, rehash.root, |leaf| {
            old_pages += 1;
            if old.len() < old.capacity() {
                old.push((leaf.page, leaf.subtree));
            }
        });
        rehash.fill_directory(self);
        {
            let _section = guard.header.begin_write();
            self.directory.replace_root(rehash.root, rehash.by_hash);
        }
        guard.count_rehash(old_pages, rehash.pages.len());
        guard.header.set_recording(false);
        *self.recorder.0.lock() = None;
        drop(guard);
        self.give_up(&old);
        Ok(Fit::Done)
    }

    /// Repeats some of what has changed; how much is left.
    fn repeat_some(&self, rehash: &mut Rehash) -> Result<(usize, Fit)> {
        let mut chunk = [const { None }; CHUNK];
        let left = {
            let recording = self.recorder.0.lock();
            let recording = recording.as_ref().ok_or_else(torn)?;
            if recording.overrun {
                return Ok((0, Fit::Overrun));
            }
            let changes = &recording.changes[rehash.repeated..];
            for (to, from) in chunk.iter_mut().zip(changes) {
                *to = Some(*from);
            }
            changes.len().saturating_sub(CHUNK)
        };
        for change in chunk.into_iter().flatten() {
            match rehash.repeat(self, change)? {
                Fit::Done => rehash.repeated += 1,
                fit => return Ok((left, fit)),
            }
        }
        Ok((left, Fit::Done))
    }

    /// Ends a rehash; everything stays as it is.
    #[expect(clippy::needless_pass_by_value, reason = "there is nothing to do with it any more")]
    pub(crate) fn abandon_rehash(&self, rehash: Rehash) {
        {
            let guard = ShardGuard::new(self, rehash.shard);
            guard.header.set_recording(false);
            *self.recorder.0.lock() = None;
        }
        self.give_up(&rehash.pages);
    }

    fn give_up(&self, pages: &[(Packed, Packed)]) {
        for &(page, subtree) in pages {
            if !subtree.is_none() {
                self.discount_subtree(subtree.units());
            }
            self.pool.give(page, subtree);
        }
    }
}

impl ShardGuard<'_> {
    /// Tag bits that splits have used below a root.
    fn depth_of(&self, root: usize) -> u32 {
        let mut depth = 0;
        self.index.directory.for_each_leaf_of(&self.index.arena, root, |leaf| {
            depth = depth.max(leaf.global_depth);
        });
        depth
    }

    /// Notes a change of an entry in a page, for whoever builds that page anew.
    #[inline(always)]
    pub(super) fn record(&self, change: impl FnOnce() -> Change) {
        if self.header.is_recording() {
            self.record_change(change());
        }
    }

    #[cold]
    fn record_change(&self, change: Change) {
        let mut recording = self.index.recorder.0.lock();
        let Some(recording) = recording.as_mut() else { return };
        if self.index.directory.root_of(self.shard, change.home()) != recording.root {
            return;
        }
        if recording.changes.len() < recording.changes.capacity() {
            recording.changes.push(change);
        } else {
            recording.overrun = true;
        }
    }

    fn count_rehash(&self, old_pages: usize, new_pages: usize) {
        let pages = self.header.pages.load(Relaxed) as usize + new_pages - old_pages;
        // At most 2^24 pages for each of the shard's roots, which fit into memory.
        self.header.pages.store(pages as u32, Relaxed);
        let deepest = self.index.directory.roots(self.shard).map(|root| self.depth_of(root));
        self.header.depth_max.store(deepest.max().unwrap_or(0), Relaxed);
        bump(&self.header.rehashes);
    }
}

/// log2 of the pages of `slots` that `entries` need.
fn depth_for(entries: usize, slots: usize) -> u32 {
    let needed = (entries * LOAD_MAX.1).div_ceil(slots * LOAD_MAX.0);
    needed.next_power_of_two().trailing_zeros().max(1)
}
