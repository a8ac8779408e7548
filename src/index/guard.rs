//! Changing a shard: everything here happens under its lock.

use super::bucket::{Kernel, Operation};
use super::candidates::Candidates;
use super::home::Home;
use super::location::Location;
use super::packed::Packed;
use super::page::Entry;
use super::probe::{Collect, Found};
use super::rehash::Change;
use super::shard::Header;
use super::slot::SECONDARY;
use super::version_lock::Locked;
use super::{Index, Insert};
use crate::Result;
use crate::hash::keyed::KeyHash;

/// The write lock of one shard.
///
/// Hold it briefly: others spin for it, and neither I/O nor waiting belongs under it. Reads of
/// other threads go on; each change ends the validity of what they have read. All calls are for
/// keys of the shard that was locked.
pub struct ShardGuard<'a> {
    pub(super) index: &'a Index,
    pub(super) shard: usize,
    pub(super) header: &'a Header,
    _lock: Locked<'a>,
}

/// Puts an entry into its page if that has room.
struct Place<'a> {
    index: &'a Index,
    shard: usize,
    entry: Entry,
}

impl Operation for Place<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<K: Kernel>(self, k: K) -> bool {
        let header = &self.index.headers[self.shard];
        let leaf = self.index.directory.leaf(&self.index.arena, self.shard, self.entry.home);
        if leaf.page.is_none() || (self.entry.subtree != 0 && leaf.subtree.is_none()) {
            return false;
        }
        self.index.view(header, &leaf).place(k, self.entry, || header.begin_write())
    }
}

/// What is to be inserted if the key's candidates are exactly `known`, which the caller has
/// refuted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry<'a> {
    /// Where the key's record is.
    pub location: Location,
    /// Its subtree index, 0 if it has none.
    pub subtree: u16,
    /// What a probe of the key found.
    pub known: &'a Candidates,
}

/// Inserts an entry, unless its key's candidates have changed or `admit` disagrees.
pub(super) struct InsertNew<'a, A> {
    pub index: &'a Index,
    pub h: KeyHash,
    pub new: NewEntry<'a>,
    pub admit: A,
}

impl<A: FnOnce() -> bool> Operation for InsertNew<'_, A> {
    type Output = Result<Insert>;

    #[inline(always)]
    fn run<K: Kernel>(self, k: K) -> Result<Insert> {
        let Self { index, h, new, admit } = self;
        let mut guard = index.lock(h);
        guard.check_writable()?;
        if !guard.is_at(new.known.version()) {
            let current = guard.candidates(h);
            // Refuted locations must not have changed at all: one can come back for another record.
            if !new.known.is_empty() || !current.is_empty() {
                return Ok(Insert::Changed(current));
            }
        }
        if !admit() {
            return Ok(Insert::Changed(guard.candidates(h)));
        }
        guard.insert_by(k, h, &new)?;
        Ok(Insert::Done)
    }
}

impl<'a> ShardGuard<'a> {
    #[inline(always)]
    pub(super) fn new(index: &'a Index, shard: usize) -> Self {
        let header = &index.headers[shard];
        Self { index, shard, header, _lock: header.lock() }
    }

    #[inline(always)]
    fn home(&self, h: KeyHash) -> Home {
        debug_assert_eq!(super::shard_of(h), self.shard, "a key of another shard");
        Home::of(h)
    }

    #[inline(always)]
    pub(super) fn is_at(&self, version: u64) -> bool {
        self.header.version_under_lock() == version
    }

    /// To be asked before a change that a user of the map wants.
    ///
    /// # Errors
    /// [`crate::Error::Frozen`] after [`Index::freeze`].
    #[inline(always)]
    pub fn check_writable(&self) -> Result<()> {
        if self.index.is_frozen() { Err(crate::Error::FROZEN) } else { Ok(()) }
    }

    /// Whether the shard is still in the state of which `known` was taken. Locations alone do not
    /// tell: one can come back for another record.
    #[must_use]
    pub fn is_current(&self, known: &Candidates) -> bool {
        self.is_at(known.version())
    }

    /// The locations that may hold the key, now and until the guard is dropped.
    #[must_use]
    pub fn candidates(&self, h: KeyHash) -> Candidates {
        let home = self.home(h);
        self.index.kernel.dispatch(Collect { index: self.index, shard: self.shard, home })
    }

    /// Adds an entry, whatever else matches the key.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] when the shard has to grow and cannot; nothing has changed
    /// then.
    #[inline]
    pub fn insert(&mut self, h: KeyHash, location: Location, subtree_index: u16) -> Result<()> {
        let entry = Entry { home: self.home(h), location, subtree: subtree_index };
        let place = Place { index: self.index, shard: self.shard, entry };
        let placed = self.index.kernel.dispatch(place);
        self.complete(placed, entry)
    }

    /// As `insert`, within an operation that is compiled for the kernel.
    #[inline(always)]
    fn insert_by<K: Kernel>(&mut self, k: K, h: KeyHash, new: &NewEntry<'_>) -> Result<()> {
        let entry = Entry { home: self.home(h), location: new.location, subtree: new.subtree };
        let placed = Place { index: self.index, shard: self.shard, entry }.run(k);
        self.complete(placed, entry)
    }

    #[inline(always)]
    fn complete(&mut self, placed: bool, entry: Entry) -> Result<()> {
        if placed || self.insert_with_more_room(entry)? {
            self.record(|| Change::Insert(entry));
        }
        self.header.set_entries(self.header.entries() + 1);
        Ok(())
    }

    /// Makes what was missing: a page, subtree indexes, room. False if the entry is in the stash.
    #[cold]
    fn insert_with_more_room(&mut self, entry: Entry) -> Result<bool> {
        loop {
            let leaf = self.index.directory.leaf(&self.index.arena, self.shard, entry.home);
            if leaf.page.is_none() {
                self.start(&leaf)?;
            } else if entry.subtree != 0 && leaf.subtree.is_none() {
                self.add_subtree(entry.home)?;
            } else if !self.make_room(&leaf)? {
                let stash = self.index.stash(self.shard);
                stash.reserve(1)?;
                let _section = self.header.begin_write();
                stash.push(entry);
                return Ok(false);
            }
            let place = Place { index: self.index, shard: self.shard, entry };
            if self.index.kernel.dispatch(place) {
                return Ok(true);
            }
        }
    }

    /// Gives a page its array of subtree indexes.
    fn add_subtree(&mut self, home: Home) -> Result<()> {
        let arena = &self.index.arena;
        let leaf = self.index.directory.leaf(arena, self.shard, home);
        let buckets = leaf.page.units();
        // A growing page gets the array of its frame at once, unless it is a starter that moves.
        let buckets = if self.is_starter(&leaf) { buckets } else { self.header.frame_buckets() };
        let subtree = Packed::new_subtree(arena, buckets)?;
        self.index.count_subtree(buckets);
        let _section = self.header.begin_write();
        self.index.directory.replace(arena, &leaf, leaf.page, subtree);
        Ok(())
    }

    /// Points an entry of the key to another location and, if one is given, sets its subtree index;
    /// readers see both or neither. False when `old` is not there.
    ///
    /// # Errors
    /// As [`ShardGuard::set_subtree_index`]; never without a subtree index.
    pub fn replace(
        &mut self,
        h: KeyHash,
        old: Location,
        new: Location,
        subtree_index: Option<u16>,
    ) -> Result<bool> {
        let home = self.home(h);
        match self.index.find(self.shard, home, old) {
            Some(Found::Page(leaf, spot)) => {
                if subtree_index.is_some_and(|index| index != 0) && leaf.subtree.is_none() {
                    self.add_subtree(home)?;
                }
                let leaf = self.index.directory.leaf(&self.index.arena, self.shard, home);
                let page = self.index.view(self.header, &leaf);
                let side = page.word(spot) & SECONDARY;
                self.record(|| Change::Replace { home, old, new, subtree: subtree_index });
                let _section = self.header.begin_write();
                let word = home.primary_word() | side | new.units();
                page.buckets[spot.bucket].store(spot.slot, word);
                if let Some(index) = subtree_index {
                    page.set_subtree_index(spot, index);
                }
                Ok(true)
            }
            Some(Found::Stash(i)) => {
                let stash = self.index.stash(self.shard);
                let Some(entry) = stash.get(i) else { return Ok(false) };
                let subtree = subtree_index.unwrap_or(entry.subtree);
                let _section = self.header.begin_write();
                stash.set(i, Entry { location: new, subtree, ..entry });
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Removes an entry of the key. False when `location` is not there.
    #[must_use]
    pub fn remove(&mut self, h: KeyHash, location: Location) -> bool {
        let home = self.home(h);
        let Some(found) = self.index.find(self.shard, home, location) else {
            return false;
        };
        if matches!(found, Found::Page(..)) {
            self.record(|| Change::Remove(home, location));
        }
        {
            let _section = self.header.begin_write();
            match found {
                Found::Page(leaf, spot) => self.index.view(self.header, &leaf).clear(spot),
                Found::Stash(i) => self.index.stash(self.shard).remove(i),
            }
        }
        self.header.set_entries(self.header.entries() - 1);
        self.empty_stash();
        true
    }

    /// The subtree index of an entry; 0 when none was set, none when `location` is not there.
    #[must_use]
    pub fn subtree_index(&self, h: KeyHash, location: Location) -> Option<u16> {
        let found = self.index.find(self.shard, self.home(h), location)?;
        self.index.subtree_index_of(self.shard, &found)
    }

    /// Sets the subtree index of an entry. False when `location` is not there.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] at the first index other than 0 of a page; nothing has
    /// changed then.
    pub fn set_subtree_index(
        &mut self,
        h: KeyHash,
        location: Location,
        index: u16,
    ) -> Result<bool> {
        let home = self.home(h);
        match self.index.find(self.shard, home, location) {
            Some(Found::Page(leaf, spot)) => {
                if index != 0 && leaf.subtree.is_none() {
                    self.add_subtree(home)?;
                }
                let leaf = self.index.directory.leaf(&self.index.arena, self.shard, home);
                let subtree = Some(index);
                self.record(|| Change::Replace { home, old: location, new: location, subtree });
                let _section = self.header.begin_write();
                self.index.view(self.header, &leaf).set_subtree_index(spot, index);
                Ok(true)
            }
            Some(Found::Stash(i)) => {
                let stash = self.index.stash(self.shard);
                let entry = stash.get(i);
                let _section = self.header.begin_write();
                Ok(entry.map(|entry| stash.set(i, Entry { subtree: index, ..entry })).is_some())
            }
            None => Ok(false),
        }
    }

    /// Calls `f` with location and subtree index of each entry in a page of a root.
    pub(super) fn for_each_of(&self, root: usize, mut f: impl FnMut(Location, u16)) {
        self.index.directory.for_each_leaf_of(&self.index.arena, root, |leaf| {
            let page = self.index.view(self.header, &leaf);
            for (spot, word) in page.occupied() {
                if let Some(location) = super::slot::location(word) {
                    f(location, page.subtree_index(spot).unwrap_or(0));
                }
            }
        });
    }

    /// Calls `f` with each entry's location and subtree index.
    pub(super) fn for_each(&self, mut f: impl FnMut(Location, u16)) {
        for root in self.index.directory.roots(self.shard) {
            self.for_each_of(root, &mut f);
        }
        let stash = self.index.stash(self.shard);
        for entry in (0..stash.len()).filter_map(|i| stash.get(i)) {
            f(entry.location, entry.subtree);
        }
    }
}
