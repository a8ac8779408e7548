//! Insert-if-absent, set and delete, one key at a time.

use super::confirm::{Match, Races, Start};
use super::key::Key;
use super::log::record;
use super::log::reservation::Reservation;
use super::op::Op;
use super::read::Scratch;
use crate::index::{Candidates, Insert, Location};
use crate::{Error, Result};

/// A record in the log that is not published yet.
enum Appended<'a> {
    /// In one block, uncommitted.
    Short(Reservation<'a>),
    /// Over several blocks, committed.
    Long,
}

impl<K: Key> Op<'_, K> {
    /// Appends a record and hands its location to `publish`. If that declines or fails, the record
    /// becomes garbage.
    fn append_then<R>(
        &self,
        value: &[u8],
        scratch: &mut Scratch,
        publish: impl FnOnce(Location) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let lane = self.generation.lane(self.hash);
        let key = self.key.as_bytes();
        let units = record::record_units(K::BYTES, value.len());
        let (appended, location) = if units <= lane.short_units_max() {
            let reservation = lane.reserve(&[units], self.options.timeout)?;
            let location = reservation.location(0)?;
            reservation.store(std::iter::once((key, value)), scratch.record_buffer());
            (Appended::Short(reservation), location)
        } else {
            (Appended::Long, lane.append_long(key, value, self.options.timeout)?)
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

    fn check_write(&self, value_bytes: usize) -> Result<()> {
        self.map.shared.failure.check()?;
        self.map.check_writable(self.generation)?;
        let limit = self.generation.lanes[0].value_bytes_max(K::BYTES);
        if value_bytes <= limit {
            return Ok(());
        }
        Err(Error::ValueTooLarge { bytes: value_bytes as u64, limit: limit as u64 })
    }

    /// Inserts unless the key is there. `Some` is the record that was there; its value, if wanted,
    /// is in `scratch`.
    pub(crate) fn insert(
        &self,
        mut start: Start,
        value: &[u8],
        subtree_index: u16,
        scratch: &mut Scratch,
    ) -> Result<Option<Match>> {
        self.check_write(value.len())?;
        let index = &self.generation.index;
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            if found.is_some() {
                return Ok(found);
            }
            let inserted = self.append_then(value, scratch, |location| {
                // Linearization point of a successful insert: under the shard's lock in here.
                match index.insert_new(self.hash, location, subtree_index, &candidates)? {
                    Insert::Done => Ok(Some(())),
                    Insert::Changed(_) => Ok(None),
                }
            })?;
            if inserted.is_some() {
                return Ok(None);
            }
            races.lost(self.map);
        }
    }

    /// Sets the value whatever was there. True if there was one.
    pub(crate) fn set(
        &self,
        mut start: Start,
        value: &[u8],
        subtree_index: u16,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        self.check_write(value.len())?;
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            let done = self.append_then(value, scratch, |location| {
                self.publish_set(found, &candidates, location, subtree_index)
            })?;
            if done.is_some() {
                if let Some(old) = found {
                    self.record_died(old);
                }
                return Ok(found.is_some());
            }
            races.lost(self.map);
        }
    }

    /// Puts `location` in the place of the record that was found, or adds it; `None` if the
    /// candidates have changed.
    fn publish_set(
        &self,
        found: Option<Match>,
        candidates: &Candidates,
        location: Location,
        subtree_index: u16,
    ) -> Result<Option<()>> {
        let index = &self.generation.index;
        let Some(old) = found else {
            let outcome = index.insert_new(self.hash, location, subtree_index, candidates)?;
            return Ok(matches!(outcome, Insert::Done).then_some(()));
        };
        let mut shard = index.lock(self.hash);
        shard.check_writable()?;
        if !shard.is_current(candidates) {
            return Ok(None);
        }
        // Linearization point of an overwrite: value and subtree index change together.
        let replaced = shard.replace(self.hash, old.location, location, Some(subtree_index))?;
        Ok(replaced.then_some(()))
    }

    /// Removes the key. True if it was there.
    pub(crate) fn delete(&self, mut start: Start, scratch: &mut Scratch) -> Result<bool> {
        self.map.check_writable(self.generation)?;
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            let Some(found) = found else { return Ok(false) };
            if self.unpublish(found, &candidates)? {
                return Ok(true);
            }
            races.lost(self.map);
        }
    }

    /// Removes a record that was found for `candidates`; false if they have changed since.
    pub(crate) fn unpublish(&self, found: Match, candidates: &Candidates) -> Result<bool> {
        let removed = {
            let mut shard = self.generation.index.lock(self.hash);
            shard.check_writable()?;
            // Linearization point of a deletion.
            shard.is_current(candidates) && shard.remove(self.hash, found.location)
        };
        if removed {
            self.record_died(found);
        }
        Ok(removed)
    }

    /// Changes the subtree index of the key. True if it was there.
    pub(crate) fn set_subtree_index(
        &self,
        mut start: Start,
        subtree_index: u16,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        self.map.check_writable(self.generation)?;
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            let Some(found) = found else { return Ok(false) };
            let mut shard = self.generation.index.lock(self.hash);
            shard.check_writable()?;
            if shard.is_current(&candidates)
                && shard.set_subtree_index(self.hash, found.location, subtree_index)?
            {
                return Ok(true);
            }
            drop(shard);
            races.lost(self.map);
        }
    }

    fn record_died(&self, record: Match) {
        let units = record::record_units(K::BYTES, record.value_bytes as usize);
        self.generation.lane(self.hash).record_died(record.location.units(), units);
    }
}
