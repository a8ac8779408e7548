//! Visiting every record, in the order of the log.
//!
//! A cursor notes where the index points to, shard by shard and each shard in one state, and sorts
//! the places of each lane. It keeps them readable (`Lane::pin`), so that each place leads to the
//! key it stood for, whatever happened to the key since; then it asks the index whether the key's
//! record is still that one. If not, the key is looked up. So each key that was there when its
//! shard was noted is visited once or, if it has been removed, not at all.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::generation::Generation;
use super::key::Key;
use super::places::{Reading, read_places, slice};
use super::{DiskMap, Wait};
use crate::index::SHARDS;
use crate::memory::MemoryReserve;
use crate::{Error, Result};

/// A record as a cursor hands it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a, K> {
    /// The key.
    pub key: &'a K,
    /// The value; empty if only keys are wanted.
    pub value: &'a [u8],
    /// The subtree index.
    pub subtree_index: u16,
}

/// An iteration over a map. See [`DiskMap::iterate`].
#[derive(Debug)]
pub struct Cursor<K: Key> {
    // Before the map, which may be the last that holds the directories.
    generation: Arc<Generation>,
    map: DiskMap<K>,
    want_values: bool,
    /// Places to visit, in units, by lane and sorted; `lane` and `next` are how far we are.
    places: Vec<Vec<u64>>,
    lane: usize,
    next: usize,
    /// Keys whose records are not where they were any more.
    stale: Vec<K>,
    ready: VecDeque<Ready<K>>,
    /// Values of what is ready.
    values: Vec<u8>,
    charged: Option<(Arc<dyn MemoryReserve>, u64)>,
}

#[derive(Debug)]
struct Ready<K> {
    key: K,
    value: Range<usize>,
    subtree_index: u16,
}

impl<K: Key> DiskMap<K> {
    /// Begins an iteration over the content, in the order of the log, with large reads; with
    /// `want_values` false over its keys alone.
    ///
    /// A key that is in the map during the whole iteration is visited exactly once, also when it is
    /// overwritten, or its record moved, meanwhile. A key that is inserted or removed meanwhile is
    /// visited once or not at all; no key is visited twice. Value and subtree index are those of
    /// one moment between the beginning and the visit. After a clear or a rotation the iteration
    /// goes on over the old content.
    ///
    /// A cursor takes 8 bytes of RAM per key, from the memory budget, and keeps segments in which
    /// nothing is live any more until it is dropped. It outlives the map.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn iterate(&self, want_values: bool) -> Result<Cursor<K>> {
        let generation = self.generation.load_full();
        let bytes = generation.index.len() * size_of::<u64>() as u64;
        let charged = match &self.plan.index.reserve {
            Some(reserve) => {
                reserve.reserve("the places of an iteration", bytes)?;
                Some((Arc::clone(reserve), bytes))
            }
            None => None,
        };
        for lane in &generation.lanes {
            lane.pin();
        }
        let places = generation.lanes.iter().map(|_| Vec::new()).collect();
        let mut cursor = Cursor {
            map: self.view(Arc::clone(&generation)),
            generation,
            want_values,
            places,
            lane: 0,
            next: 0,
            stale: Vec::new(),
            ready: VecDeque::new(),
            values: Vec::new(),
            charged,
        };
        cursor.collect()?;
        Ok(cursor)
    }

    /// Calls `visit` for each record until it returns false, as [`DiskMap::iterate`] says.
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
    /// map.set(&[1; 32], b"one", 0, Wait::Allowed)?;
    /// map.set(&[2; 32], b"two", 7, Wait::Allowed)?;
    /// let mut found = Vec::new();
    /// map.for_each(|entry| {
    ///     found.push((entry.key[0], entry.value.to_vec(), entry.subtree_index));
    ///     true
    /// })?;
    /// assert_eq!(found, [(1, b"one".to_vec(), 0), (2, b"two".to_vec(), 7)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`DiskMap::iterate`] and [`Cursor::peek`].
    pub fn for_each(&self, mut visit: impl FnMut(Entry<'_, K>) -> bool) -> Result<()> {
        let mut cursor = self.iterate(true)?;
        while let Some(entry) = cursor.peek(Wait::Allowed)? {
            if !visit(entry) {
                break;
            }
            cursor.advance();
        }
        Ok(())
    }
}

impl<K: Key> Cursor<K> {
    /// The record that comes next; none at the end. It stays the next one until
    /// [`Cursor::advance`].
    ///
    /// # Errors
    /// `WouldBlock` with [`Wait::Never`] if a file would have to be read; `Io`, `Corrupt` from
    /// reading it. Nothing is skipped: the call can be repeated.
    pub fn peek(&mut self, wait: Wait) -> Result<Option<Entry<'_, K>>> {
        while self.ready.is_empty() {
            self.values.clear();
            let went_on = if self.stale.is_empty() {
                self.read_slice(wait)?
            } else {
                self.look_up_stale(wait)?;
                true
            };
            if !went_on {
                break;
            }
        }
        let ready = self.ready.front();
        Ok(ready.map(|ready| Entry {
            key: &ready.key,
            value: &self.values[ready.value.clone()],
            subtree_index: ready.subtree_index,
        }))
    }

    /// Goes on to the record after the one that [`Cursor::peek`] shows.
    pub fn advance(&mut self) {
        self.ready.pop_front();
    }

    /// Notes the places of all records.
    fn collect(&mut self) -> Result<()> {
        let mut of_shard = Vec::new();
        for shard in 0..SHARDS {
            of_shard.clear();
            let index = &self.generation.index;
            index.for_each_in(shard, &mut |location, _| of_shard.push(location.units()));
            let places = &mut self.places[self.generation.lane_number_of_shard(shard)];
            places.try_reserve(of_shard.len()).map_err(|_| Error::OutOfMemory {
                what: "the places of an iteration",
                bytes: (places.len() + of_shard.len()) as u64 * 8,
                available: u64::MAX,
            })?;
            places.extend_from_slice(&of_shard);
        }
        for places in &mut self.places {
            places.sort_unstable();
        }
        Ok(())
    }

    /// Visits the places that come next: what is current becomes ready, what is not, stale. False
    /// at the end.
    fn read_slice(&mut self, wait: Wait) -> Result<bool> {
        while self.places.get(self.lane).is_some_and(|places| self.next == places.len()) {
            self.places[self.lane] = Vec::new();
            (self.lane, self.next) = (self.lane + 1, 0);
        }
        let Some(places) = self.places.get(self.lane) else { return Ok(false) };
        let lane = &self.generation.lanes[self.lane];
        let mut bytes = std::mem::take(&mut self.values);
        let reading = Reading {
            runs: self.map.run_reader(),
            key_bytes: K::BYTES,
            want_values: self.want_values,
            may_read: wait != Wait::Never,
        };
        let reads = read_places(&reading, lane, slice(&places[self.next..]), &mut bytes)?;
        self.next += reads.len();
        for read in reads {
            let Some(key) = K::from_bytes(&bytes[read.key]) else { continue };
            let hash = key.hash(&self.generation.hasher);
            // The moment of the visit, for a record that is still the key's.
            match self.generation.index.subtree_index(hash, read.location) {
                Some(subtree_index) => {
                    self.ready.push_back(Ready { key, value: read.value, subtree_index });
                }
                None => self.stale.push(key),
            }
        }
        self.values = bytes;
        Ok(true)
    }

    /// Keys that were overwritten, moved or removed since: looked up together.
    fn look_up_stale(&mut self, wait: Wait) -> Result<()> {
        let (stale, ready, values) = (&mut self.stale, &mut self.ready, &mut self.values);
        let looked_up =
            self.map.get_batch(stale, self.want_values, wait, |position, value, index| {
                let start = values.len();
                values.extend_from_slice(value);
                let key = stale[position];
                ready.push_back(Ready { key, value: start..values.len(), subtree_index: index });
                Ok(())
            });
        match looked_up {
            Ok(blocked) => {
                *stale = blocked.iter().map(|position| stale[*position]).collect();
                if !stale.is_empty() && ready.is_empty() {
                    return Err(Error::WouldBlock(Error::BLOCKED_ON_READ));
                }
                Ok(())
            }
            Err(error) => {
                // All of them again next time.
                ready.clear();
                Err(error)
            }
        }
    }
}

impl<K: Key> Drop for Cursor<K> {
    fn drop(&mut self) {
        for lane in &self.generation.lanes {
            lane.unpin();
        }
        if let Some((reserve, bytes)) = self.charged.take() {
            reserve.release(bytes);
        }
    }
}
