//! Insert-if-absent, set and delete, one key at a time.

use super::confirm::{Match, Races, Start};
use super::key::Key;
use super::log::described::Ruler;
use super::log::long::LongRecord;
use super::log::record::{self, Kind};
use super::log::reservation::Reservation;
use super::op::Op;
use super::read::Scratch;
use crate::index::{Candidates, Index, Insert, Location};
use crate::{Error, Result};

/// Bytes of a commit's value: the sequence number of the long record.
pub(crate) const COMMIT_BYTES: usize = 8;

/// A record that is about to be published.
#[derive(Clone, Copy)]
struct Unpublished<'a> {
    location: Location,
    /// What has its sequence number: the record itself, or the commit of a long one.
    ruler: Option<Ruler<'a>>,
}

impl<K: Key> Op<'_, K> {
    /// Appends a record and hands its location to `publish`. If that declines or fails, the record
    /// becomes garbage.
    fn append_then<R>(
        &self,
        value: &[u8],
        scratch: &mut Scratch,
        publish: impl FnOnce(Unpublished<'_>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let lane = self.generation.lane(self.hash);
        let key = self.key.as_bytes();
        let units = record::record_units(K::BYTES, value.len());
        if units <= lane.short_units_max() {
            let reservation = lane.reserve(&[units], self.options.timeout)?;
            let location = reservation.location(0)?;
            reservation.store(std::iter::once((key, value)), scratch.record_buffer());
            let published =
                publish(Unpublished { location, ruler: Some(reservation.ruler(0, Kind::Put)) });
            if !matches!(published, Ok(Some(_))) {
                reservation.give_up(0, units);
            }
            return published;
        }
        let long = lane.append_long(key, value, self.options.timeout)?;
        let published = if self.generation.is_durable() {
            self.commit_long(long, scratch, publish)
        } else {
            publish(Unpublished { location: long.location, ruler: None })
        };
        if !matches!(published, Ok(Some(_))) {
            lane.record_died(long.location.units(), units);
        }
        published
    }

    /// Publishes a long record by a commit: without one, recovery does not see it.
    fn commit_long<R>(
        &self,
        long: LongRecord,
        scratch: &mut Scratch,
        publish: impl FnOnce(Unpublished<'_>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let value = long.seq.to_le_bytes();
        let lane = self.generation.lane(self.hash);
        self.append_marker(Kind::Commit, &value, scratch, |commit| {
            lane.set_commit(long.location.units(), commit.location(0)?.units());
            let ruler = Some(commit.ruler(0, Kind::Commit));
            let published = publish(Unpublished { location: long.location, ruler });
            if !matches!(published, Ok(Some(_))) {
                lane.forget_commit(long.location.units());
            }
            published
        })
    }

    /// Appends a tombstone or commit and runs `publish`; if that declines or fails, it becomes
    /// padding.
    fn append_marker<R>(
        &self,
        kind: Kind,
        value: &[u8],
        scratch: &mut Scratch,
        publish: impl FnOnce(&Reservation<'_>) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let units = record::record_units(K::BYTES, value.len());
        let lane = self.generation.lane(self.hash);
        let reservation = lane.reserve(&[units], self.options.timeout)?;
        let key = self.key.as_bytes();
        reservation.store_one(kind, key, value, scratch.record_buffer());
        let published = publish(&reservation);
        if !matches!(published, Ok(Some(_))) {
            reservation.give_up(0, units);
        } else if kind == Kind::Tombstone {
            reservation.tombstone_published(units);
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
            let inserted = self.append_then(value, scratch, |record| {
                // Linearization point of a successful insert: under the shard's lock in here.
                self.publish_new(index, record, subtree_index, &candidates)
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
            let done = self.append_then(value, scratch, |record| {
                self.publish_set(found, &candidates, record, subtree_index)
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

    /// Adds a record of an absent key; `None` if the candidates have changed, or something newer
    /// was published in the shard.
    fn publish_new(
        &self,
        index: &Index,
        record: Unpublished<'_>,
        subtree_index: u16,
        candidates: &Candidates,
    ) -> Result<Option<()>> {
        let admit = || self.generation.admit(self.hash, || record.ruler);
        let outcome =
            index.insert_new_if(self.hash, record.location, subtree_index, candidates, admit)?;
        Ok(matches!(outcome, Insert::Done).then_some(()))
    }

    /// Puts `record` in the place of the record that was found, or adds it; `None` if the
    /// candidates have changed.
    fn publish_set(
        &self,
        found: Option<Match>,
        candidates: &Candidates,
        record: Unpublished<'_>,
        subtree_index: u16,
    ) -> Result<Option<()>> {
        let index = &self.generation.index;
        let Some(old) = found else {
            return self.publish_new(index, record, subtree_index, candidates);
        };
        let mut shard = index.lock(self.hash);
        shard.check_writable()?;
        let current = shard.is_current(candidates);
        if !current || !self.generation.admit(self.hash, || record.ruler) {
            return Ok(None);
        }
        self.mark_superseded(old);
        // Linearization point of an overwrite: value and subtree index change together.
        let index = Some(subtree_index);
        let replaced = shard.replace(self.hash, old.location, record.location, index)?;
        Ok(replaced.then_some(()))
    }

    /// Removes the key. True if it was there.
    pub(crate) fn delete(&self, mut start: Start, scratch: &mut Scratch) -> Result<bool> {
        self.map.check_writable(self.generation)?;
        if self.generation.is_durable() {
            self.map.shared.failure.check()?;
        }
        let mut races = Races::new();
        loop {
            let (found, candidates) = self.find(&mut start, scratch, &mut races)?;
            let Some(found) = found else { return Ok(false) };
            if self.unpublish(found, &candidates, scratch)? {
                return Ok(true);
            }
            races.lost(self.map);
        }
    }

    /// Removes a record that was found for `candidates`; false if they have changed since.
    /// In a durable map a tombstone says so in the log.
    pub(crate) fn unpublish(
        &self,
        found: Match,
        candidates: &Candidates,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let remove = |ruler: Option<Ruler<'_>>| -> Result<bool> {
            let mut shard = self.generation.index.lock(self.hash);
            shard.check_writable()?;
            if !shard.is_current(candidates) || !self.generation.admit(self.hash, || ruler) {
                return Ok(false);
            }
            self.mark_superseded(found);
            // Linearization point of a deletion.
            Ok(shard.remove(self.hash, found.location))
        };
        let removed = if self.generation.is_durable() {
            self.append_marker(Kind::Tombstone, &[], scratch, |tombstone| {
                Ok(remove(Some(tombstone.ruler(0, Kind::Tombstone)))?.then_some(()))
            })?
            .is_some()
        } else {
            remove(None)?
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
        self.generation.lane(self.hash).value_died(record.location.units(), units);
    }

    /// Before the change that supersedes the record, under the shard's lock.
    fn mark_superseded(&self, record: Match) {
        let units = record::record_units(K::BYTES, record.value_bytes as usize);
        self.generation.lane(self.hash).mark_superseded(record.location.units(), units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diskmap::{DiskMap, Wait};
    use crate::runtime::Runtime;
    use crate::settings::{RuntimeSettings, TxMapSettings};

    /// A reserves, B reserves, B publishes, A publishes: the order in which memory and recovery
    /// would disagree.
    #[test]
    fn what_was_reserved_first_is_not_published_last() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "txMapDirs = {}\ntxMapTail = 1M\ntxMapName = m\ntxMapDurability = durable",
            dir.path().display()
        );
        let settings = TxMapSettings::parse(&text).unwrap();
        let open = || {
            let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
            DiskMap::<[u8; 32]>::open(&runtime, &settings).unwrap()
        };
        let (map, key) = (open(), [7; 32]);
        let generation = map.generation.load_full();
        let op = map.op(&generation, &key, map.options(Wait::Allowed, false));
        let (lane, units) = (generation.lane(op.hash), record::record_units(32, 1));
        let append = |value: &[u8]| {
            let reservation = lane.reserve(&[units], None).unwrap();
            reservation.store_one(Kind::Put, &key, value, &mut Vec::new());
            reservation
        };
        let (a, b) = (append(b"A"), append(b"B"));
        assert!(a.seq(0) < b.seq(0));
        let publish = |reservation: &Reservation<'_>, found: Option<Match>| {
            let location = reservation.location(0).unwrap();
            let ruler = Some(reservation.ruler(0, Kind::Put));
            let record = Unpublished { location, ruler };
            let candidates = generation.index.probe(op.hash);
            op.publish_set(found, &candidates, record, 0).unwrap()
        };
        assert!(publish(&b, None).is_some());
        // A has looked again and found B, so the candidates are current.
        let there = Match { location: b.location(0).unwrap(), value_bytes: 1 };
        assert!(publish(&a, Some(there)).is_none(), "the older record was published last");
        a.give_up(0, units);
        drop((a, b));
        let value = |map: &DiskMap<[u8; 32]>| {
            map.get(&key, Wait::Allowed, |value, _| value.to_vec()).unwrap()
        };
        assert_eq!(value(&map).unwrap(), b"B");
        drop(generation);
        drop(map);
        let map = open();
        assert_eq!(value(&map).unwrap(), b"B", "recovery says something else");
        // The operations themselves append again, and succeed.
        assert!(map.set(&key, b"A", 0, Wait::Allowed).unwrap());
        drop(map);
        assert_eq!(value(&open()).unwrap(), b"A");
    }

    /// A reserves, a merge moves the key's record behind A and publishes the copy, A publishes: the
    /// copy, whose number is the highest, would be what recovery finds.
    #[test]
    fn what_was_reserved_before_a_move_is_not_published_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "txMapDirs = {}\ntxMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n\
             txMapName = m\ntxMapDurability = durable\ntxMapCompaction = off\n\
             txMapCompactionSpace = 0",
            dir.path().display()
        );
        let settings = TxMapSettings::parse(&text).unwrap();
        let open = || {
            let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
            DiskMap::<[u8; 32]>::open(&runtime, &settings).unwrap()
        };
        let (map, key) = (open(), [7; 32]);
        let set = |key: &[u8; 32], value: &[u8]| map.set(key, value, 0, Wait::Allowed).unwrap();
        set(&key, b"old");
        // A complete segment with something dead in it.
        for i in 0..300u16 {
            set(&[(i % 100) as u8 + 100; 32], &[0; 400]);
        }
        map.flush().unwrap();
        let generation = map.generation.load_full();
        let op = map.op(&generation, &key, map.options(Wait::Allowed, false));
        let (lane, units) = (generation.lane(op.hash), record::record_units(32, 3));
        let before = generation.index.probe(op.hash);
        let a = lane.reserve(&[units], None).unwrap();
        a.store_one(Kind::Put, &key, b"new", &mut Vec::new());
        map.compact().unwrap();
        let candidates = generation.index.probe(op.hash);
        let moved = candidates.iter().next().unwrap();
        assert!(before.iter().next() != Some(moved), "the record was not moved");
        let there = Match { location: moved, value_bytes: 3 };
        let record =
            Unpublished { location: a.location(0).unwrap(), ruler: Some(a.ruler(0, Kind::Put)) };
        assert!(op.publish_set(Some(there), &candidates, record, 0).unwrap().is_none());
        a.give_up(0, units);
        drop(a);
        assert!(set(&key, b"new"));
        map.sync(Wait::Allowed).unwrap();
        drop(generation);
        drop(map);
        let value = open().get(&key, Wait::Allowed, |value, _| value.to_vec()).unwrap();
        assert_eq!(value.unwrap(), b"new");
    }
}
