//! Insert-if-absent, set and delete, one key at a time.

use std::time::Duration;

use super::DiskMap;
use super::confirm::{Match, Races};
use super::generation::Generation;
use super::key::Key;
use super::lane::Reservation;
use super::read::Scratch;
use super::record;
use crate::hash::keyed::KeyHash;
use crate::index::{Candidates, Insert, Location};
use crate::{Error, Result};

/// A record in the log that is not published yet.
pub(crate) enum Appended<'a> {
    /// In one block, uncommitted.
    Short(Reservation<'a>),
    /// Over several blocks, committed.
    Long,
}

impl<K: Key> DiskMap<K> {
    /// Appends a record and hands its location to `publish`. If that declines, the record becomes garbage.
    pub(crate) fn append_then<R>(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        value: &[u8],
        timeout: Option<Duration>,
        publish: impl FnOnce(Location) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let lane = generation.lane(hash);
        let units = record::record_units(K::BYTES, value.len());
        let (appended, location) = if units <= lane.short_units_max() {
            let reservation = lane.reserve(&[units], timeout)?;
            let mut scratch = Vec::with_capacity(256);
            let location = reservation.store(0, key.as_bytes(), value, &mut scratch)?;
            (Appended::Short(reservation), location)
        } else {
            (Appended::Long, lane.append_long(key.as_bytes(), value, timeout)?)
        };
        let published = publish(location);
        if !matches!(published, Ok(Some(_))) {
            match &appended {
                Appended::Short(reservation) => reservation.give_up(0, units),
                Appended::Long => lane.record_died(location.units(), units),
            }
        }
        published
    }

    pub(crate) fn check_value(&self, generation: &Generation, value_bytes: usize) -> Result<()> {
        let limit = generation.lanes[0].value_bytes_max(K::BYTES);
        if value_bytes <= limit {
            return Ok(());
        }
        Err(Error::ValueTooLarge { bytes: value_bytes as u64, limit: limit as u64 })
    }

    /// Inserts unless the key is there. `Some` is the record that was there; with `want_value` its value is in `scratch`.
    pub(crate) fn insert_in(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        value: &[u8],
        subtree_index: u16,
        options: Options,
        scratch: &mut Scratch,
    ) -> Result<Option<Match>> {
        self.shared.failure.check()?;
        self.check_value(generation, value.len())?;
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(
                generation,
                hash,
                key,
                options.want_value,
                options.may_read,
                scratch,
                &mut races,
            )?;
            if found.is_some() {
                return Ok(found);
            }
            let timeout = options.timeout;
            let inserted = self.append_then(generation, hash, key, value, timeout, |location| {
                // Linearization point of a successful insert: under the shard's lock in here.
                match generation.index.insert_new(hash, location, subtree_index, &candidates)? {
                    Insert::Done => Ok(Some(())),
                    Insert::Changed(_) => Ok(None),
                }
            })?;
            if inserted.is_some() {
                return Ok(None);
            }
            races.lost(self);
        }
    }

    /// Sets the value whatever was there. True if there was one.
    pub(crate) fn set_in(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        value: &[u8],
        subtree_index: u16,
        options: Options,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        self.shared.failure.check()?;
        self.check_value(generation, value.len())?;
        let mut races = Races::new();
        loop {
            let (found, candidates) =
                self.find(generation, hash, key, false, options.may_read, scratch, &mut races)?;
            let timeout = options.timeout;
            let done = self.append_then(generation, hash, key, value, timeout, |location| {
                publish_set(generation, hash, found, &candidates, location, subtree_index)
            })?;
            if done.is_some() {
                if let Some(old) = found {
                    Self::record_died(generation, hash, old);
                }
                return Ok(found.is_some());
            }
            races.lost(self);
        }
    }

    /// Removes the key. True if it was there.
    pub(crate) fn delete_in(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        options: Options,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let mut races = Races::new();
        loop {
            let (found, candidates) =
                self.find(generation, hash, key, false, options.may_read, scratch, &mut races)?;
            let Some(found) = found else { return Ok(false) };
            let removed = {
                let mut shard = generation.index.lock(hash);
                // Linearization point of a deletion.
                same(&shard.candidates(hash), &candidates) && shard.remove(hash, found.location)
            };
            if removed {
                Self::record_died(generation, hash, found);
                return Ok(true);
            }
            races.lost(self);
        }
    }

    /// Changes the subtree index of a key. True if it was there.
    pub(crate) fn set_subtree_index_in(
        &self,
        generation: &Generation,
        hash: KeyHash,
        key: &K,
        subtree_index: u16,
        options: Options,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let mut races = Races::new();
        loop {
            let (found, candidates) =
                self.find(generation, hash, key, false, options.may_read, scratch, &mut races)?;
            let Some(found) = found else { return Ok(false) };
            let mut shard = generation.index.lock(hash);
            if same(&shard.candidates(hash), &candidates)
                && shard.set_subtree_index(hash, found.location, subtree_index)?
            {
                return Ok(true);
            }
            drop(shard);
            races.lost(self);
        }
    }

    fn record_died(generation: &Generation, hash: KeyHash, record: Match) {
        let units = record::record_units(K::BYTES, record.value_bytes as usize);
        generation.lane(hash).record_died(record.location.units(), units);
    }
}

/// Puts `location` in the place of the record that was found, or adds it; `None` if the candidates have changed.
fn publish_set(
    generation: &Generation,
    hash: KeyHash,
    found: Option<Match>,
    candidates: &Candidates,
    location: Location,
    subtree_index: u16,
) -> Result<Option<()>> {
    let Some(old) = found else {
        let outcome = generation.index.insert_new(hash, location, subtree_index, candidates)?;
        return Ok(matches!(outcome, Insert::Done).then_some(()));
    };
    let mut shard = generation.index.lock(hash);
    if !same(&shard.candidates(hash), candidates) {
        return Ok(None);
    }
    // The subtree index first: it may need memory, and the old value stays if there is none.
    shard.set_subtree_index(hash, old.location, subtree_index)?;
    // Linearization point of an overwrite.
    Ok(shard.replace(hash, old.location, location).then_some(()))
}

/// The same locations, in any order.
fn same(now: &Candidates, then: &Candidates) -> bool {
    now.iter().count() == then.iter().count() && now.iter().all(|location| then.contains(location))
}

/// How an operation may wait, and what it wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long to wait for room in the tail; `None` returns `WouldBlock` instead.
    pub(crate) timeout: Option<Duration>,
    /// Whether files may be read; `WouldBlock` instead if not.
    pub(crate) may_read: bool,
    /// Whether the value that is there is wanted.
    pub(crate) want_value: bool,
}
