//! Copying records from one map to another: all of the keys, or none if one is missing.
//!
//! Keys are first looked up in the source, all of them; what is found stays in memory as long as it
//! is little. Then the records are inserted, from memory or, where they were too many, read once
//! more. Keys go in groups: records in the tail as they come, those in files in the order of the
//! log, so that the reads are few and long.
//!
//! The memory of a transfer is bounded whatever the number of keys: `GROUP_KEYS` places of 16
//! bytes, and as many records as the memory budget grants, up to `STAGED_BYTES_MAX`.

mod staged;

use std::marker::PhantomData;

use self::staged::{Portion, STAGED_BYTES_MAX, Staged};
use super::batch::cold::ColdItem;
use super::batch::{Batch, BatchMemory, CHUNK, ColdQueue, ItemState, check_states};
use super::confirm::Start;
use super::key::Key;
use super::op::{Op, Options};
use super::places::read_cost;
use super::read::Scratch;
use super::{DiskMap, Wait};
use crate::index::{Location, Purpose};
use crate::{Error, Result};

/// Keys whose records are sorted by place together.
const GROUP_KEYS: usize = 1 << 20;
/// Keys that one step looks up in the tail, or inserts.
const STEP_KEYS: usize = 16 << 10;
/// Records that one step reads from files: in number, and in bytes of files.
const STEP_READS: usize = 8 << 10;
const STEP_READ_BYTES: u64 = 8 << 20;
/// While records are read a second time: from here on they are inserted.
const COPIED_BYTES: usize = 4 << 20;
/// As much at most, and one record.
const COPIED_BYTES_MAX: usize = 4 * COPIED_BYTES;
/// Why reading stops there.
const FULL: &str = "the records of a transfer are to be inserted first";

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not done: call again.
    More,
    /// Every key is in the destination.
    Done,
    /// The source lacks the key at this position, the first such; nothing was inserted.
    Missing(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looking all keys up.
    Check,
    /// Reading all records once more and inserting them.
    Copy,
    /// Inserting what the check left in memory.
    Insert,
    Ended(Progress),
}

/// A [`DiskMap::move_from`] in the making, for callers that want it in steps.
#[derive(Debug)]
pub struct Transfer<K: Key> {
    phase: Phase,
    /// Number of keys, since the first step.
    keys: Option<usize>,
    /// Whether what is found is kept; while checking not any more once it was too much.
    staging: bool,
    staged: Staged,
    /// First key of the group, and first key that was not looked up yet.
    group: usize,
    next: usize,
    /// Records of the group that are in files alone: lane and place, and key in the group.
    cold: Vec<(u64, u32)>,
    /// How many of them are read; none before they are sorted.
    cold_read: Option<usize>,
    missing: Option<usize>,
    keys_of: PhantomData<fn() -> K>,
}

impl<K: Key> DiskMap<K> {
    /// Inserts the records of `keys` in `source`, value and subtree index, each unless its key is
    /// here. `states` says for each key whether it was inserted (`Done`) or there (`Other`); of a
    /// key that occurs twice one position is inserted. `Some(position)` is the first key that
    /// `source` lacks; then nothing was inserted and `states` is as it was.
    ///
    /// Each insertion is exact beside other writers of this map. The promise of all or nothing
    /// needs a source that does not change: one that is frozen, that was rotated out, or that
    /// nobody writes. The records stay in the source.
    ///
    /// ```
    /// # use blocktier::diskmap::{ItemState, Wait};
    /// # use blocktier::runtime::Runtime;
    /// # use blocktier::settings::{RuntimeSettings, TxMapSettings};
    /// # use blocktier::txmap::DiskTxMap;
    /// # let dir = tempfile::tempdir()?;
    /// # let runtime = Runtime::open(&RuntimeSettings::default())?;
    /// # let text = format!("txMapDirs = {}\ntxMapTail = 1M", dir.path().display());
    /// let map = DiskTxMap::open(&runtime, &TxMapSettings::parse(&text)?)?;
    /// map.set(&[1; 32], b"mined", 0, Wait::Allowed)?;
    /// map.set(&[2; 32], b"left", 5, Wait::Allowed)?;
    /// let old = map.rotate()?;
    /// let mut states = [ItemState::Pending; 1];
    /// assert_eq!(map.move_from(&old, &[[2; 32]], Wait::Allowed, &mut states)?, None);
    /// assert_eq!((states[0], map.len()), (ItemState::Done, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` if `source` is this map, `Frozen`, those of reading `source` and those of
    /// [`DiskMap::set_if_not_exists_batch`]. After an error of reading nothing was inserted, unless
    /// the records are more than fit into the memory of a transfer; after one of inserting `states`
    /// says what was. With another [`Wait`] than [`Wait::Allowed`] use [`Transfer`]: a call that
    /// would block starts anew when it is repeated.
    pub fn move_from(
        &self,
        source: &Self,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<Option<usize>> {
        let mut transfer = Transfer::new();
        loop {
            match transfer.step(self, source, keys, wait, states)? {
                Progress::More => {}
                Progress::Done => return Ok(None),
                Progress::Missing(position) => return Ok(Some(position)),
            }
        }
    }
}

impl<K: Key> Default for Transfer<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> Transfer<K> {
    /// A transfer that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: Phase::Check,
            keys: None,
            staging: true,
            staged: Staged::default(),
            group: 0,
            next: 0,
            cold: Vec::new(),
            cold_read: None,
            missing: None,
            keys_of: PhantomData,
        }
    }

    /// Goes on with the transfer for some milliseconds. Each step takes the same maps, the same
    /// keys and the same states, which are all `Pending` at first.
    ///
    /// # Errors
    /// As for [`DiskMap::move_from`]. After `WouldBlock` the same call goes on where it stopped.
    pub fn step(
        &mut self,
        map: &DiskMap<K>,
        source: &DiskMap<K>,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<Progress> {
        check_states(keys.len(), states)?;
        if *self.keys.get_or_insert(keys.len()) != keys.len() {
            let text = "a transfer goes on with the keys that it began with";
            return Err(Error::InvalidArgument(text.to_owned()));
        }
        if std::ptr::eq(map, source) {
            return Err(Error::InvalidArgument("a map cannot be moved to itself".to_owned()));
        }
        map.check_writable(&map.generation.load())?;
        if self.staged.charge.bytes == 0 {
            self.staged.charge.reserve.clone_from(&map.plan.index.reserve);
        }
        match self.phase {
            Phase::Ended(progress) => return Ok(progress),
            Phase::Check => {
                if self.read_some(source, keys, wait)? {
                    self.end_check();
                }
            }
            Phase::Insert => {
                if self.insert_some(map, keys, wait, states)? {
                    self.phase = Phase::Ended(Progress::Done);
                }
            }
            Phase::Copy => self.copy_some(map, source, keys, wait, states)?,
        }
        Ok(if let Phase::Ended(progress) = self.phase { progress } else { Progress::More })
    }

    fn end_check(&mut self) {
        self.phase = match self.missing {
            Some(position) => Phase::Ended(Progress::Missing(position)),
            None if self.staging => Phase::Insert,
            None => {
                (self.group, self.next, self.staging) = (0, 0, true);
                Phase::Copy
            }
        };
        if matches!(self.phase, Phase::Ended(_)) {
            self.staged = Staged::default();
        }
    }

    fn copy_some(
        &mut self,
        map: &DiskMap<K>,
        source: &DiskMap<K>,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<()> {
        if self.is_full() {
            self.insert_some(map, keys, wait, states)?;
            return Ok(());
        }
        if self.read_some(source, keys, wait)? {
            if self.missing.is_some() {
                let text = "the source of a transfer was changed before it was done";
                return Err(Error::InvalidArgument(text.to_owned()));
            }
            self.phase = Phase::Insert;
        }
        Ok(())
    }

    /// Looks up some more of the keys; true once all are.
    fn read_some(&mut self, source: &DiskMap<K>, keys: &[K], wait: Wait) -> Result<bool> {
        let end = keys.len().min(self.group.saturating_add(GROUP_KEYS));
        if self.missing.is_none() && self.next < end {
            self.look_up(source, keys, end.min(self.next + STEP_KEYS))?;
            return Ok(false);
        }
        let read = self.cold_read.get_or_insert_with(|| {
            self.cold.sort_unstable();
            0
        });
        if *read < self.cold.len() {
            if wait == Wait::Never {
                return Err(Error::WouldBlock(Error::BLOCKED_ON_READ));
            }
            self.read_cold(source, keys)?;
            return Ok(false);
        }
        self.cold.clear();
        self.cold_read = None;
        self.group = self.next;
        Ok(self.missing.is_some() || self.next == keys.len())
    }

    /// Looks up the keys up to `end`: in the tail, or notes where they are.
    fn look_up(&mut self, source: &DiskMap<K>, keys: &[K], end: usize) -> Result<()> {
        let generation = source.generation.load();
        let options = Options { may_read: false, ..source.options(Wait::Never, self.staging) };
        let mut memory = BatchMemory::take();
        let pipeline = &mut memory.pipeline;
        let mut scratch = Scratch::default();
        while self.next < end && !self.is_full() {
            let first = self.next;
            let keys_now = &keys[first..end.min(first + CHUNK)];
            pipeline.probe(&generation, keys_now, Purpose::Lookup);
            for (place, key) in keys_now.iter().enumerate() {
                let (hash, candidates) = (pipeline.hashes[place], &pipeline.candidates[place]);
                let op = Op { map: source, generation: &generation, hash, key, options };
                match op.lookup(Start::Candidates(candidates.clone()), &mut scratch) {
                    Ok(Some(subtree_index)) => {
                        self.found(first + place, scratch.value(), subtree_index);
                    }
                    Ok(None) => {
                        self.missing = Some(first + place);
                        self.next = first + place;
                        return Ok(());
                    }
                    Err(Error::WouldBlock(_)) => {
                        let location = candidates.iter().next().map_or(0, Location::units);
                        let lane = generation.lane_number(hash) as u64;
                        // A group has fewer keys than 32 bits count, a location has 38 bits.
                        let position = (first + place - self.group) as u32;
                        self.cold.push((lane << 38 | location, position));
                    }
                    Err(error) => return Err(error),
                }
                self.next = first + place + 1;
            }
        }
        Ok(())
    }

    fn found(&mut self, position: usize, value: &[u8], subtree_index: u16) {
        if !self.staging {
            return;
        }
        self.staged.push(position, value, subtree_index);
        // What is copied later is little, and goes without asking.
        let granted = self.phase == Phase::Copy
            || (self.staged.bytes() <= STAGED_BYTES_MAX
                && self.staged.charge.covers(self.staged.capacity()));
        if !granted {
            self.staging = false;
            self.staged = Staged::default();
        }
    }

    /// Whether what is staged must be inserted before more is read. (A check stops staging.)
    fn is_full(&self) -> bool {
        self.phase == Phase::Copy && self.staged.bytes() >= COPIED_BYTES
    }

    /// Reads some of the records that are in files, in the order of the log.
    fn read_cold(&mut self, source: &DiskMap<K>, keys: &[K]) -> Result<()> {
        let start = self.cold_read.unwrap_or(0);
        let (mut bytes, mut last) = (0, self.cold[start].0);
        let count = self.cold[start..].iter().take(STEP_READS).take_while(|(place, _)| {
            bytes += read_cost(last, *place);
            last = *place;
            bytes <= STEP_READ_BYTES
        });
        let end = start + count.count().max(1);
        let mut positions: Vec<usize> =
            self.cold[start..end].iter().map(|(_, key)| self.group + *key as usize).collect();
        let staged_before = self.staged.items.len();
        let mut seen = Vec::with_capacity(positions.len());
        match self.read_positions(source, keys, &positions, &mut seen) {
            Ok(()) => self.cold_read = Some(end),
            Err(Error::WouldBlock(FULL)) => {
                // Long values; the others are read when these are inserted.
                seen.sort_unstable();
                let group = self.group;
                self.cold.drain(..start);
                self.cold.retain(|(_, key)| seen.binary_search(&(group + *key as usize)).is_err());
                self.cold_read = Some(0);
                return Ok(());
            }
            Err(error) => {
                // All of them are read again.
                self.staged.truncate(staged_before.min(self.staged.items.len()));
                return Err(error);
            }
        }
        if seen.len() < positions.len() {
            seen.sort_unstable();
            positions.retain(|position| seen.binary_search(position).is_err());
            let first = positions.into_iter().min();
            self.missing = self.missing.into_iter().chain(first).min();
        }
        Ok(())
    }

    fn read_positions(
        &mut self,
        source: &DiskMap<K>,
        keys: &[K],
        positions: &[usize],
        seen: &mut Vec<usize>,
    ) -> Result<()> {
        let generation = source.generation.load();
        let mut queue = ColdQueue::default();
        let mut memory = BatchMemory::take();
        let pipeline = &mut memory.pipeline;
        let mut keys_now = Vec::with_capacity(CHUNK);
        for chunk in positions.chunks(CHUNK) {
            keys_now.clear();
            keys_now.extend(chunk.iter().map(|position| keys[*position]));
            pipeline.probe(&generation, &keys_now, Purpose::Lookup);
            for (place, position) in chunk.iter().enumerate() {
                queue.items.push(ColdItem {
                    position: *position,
                    key: keys_now[place],
                    hash: pipeline.hashes[place],
                    candidates: pipeline.candidates[place].clone(),
                });
            }
        }
        let options = source.options(Wait::Allowed, self.staging);
        source.get_cold(&generation, keys, options, &mut queue, &mut |position, value, index| {
            if self.phase == Phase::Copy && self.staged.bytes() > COPIED_BYTES_MAX {
                return Err(Error::WouldBlock(FULL));
            }
            seen.push(position);
            self.found(position, value, index);
            Ok(())
        })
    }

    /// Inserts some of what is staged; true once all is.
    fn insert_some(
        &mut self,
        map: &DiskMap<K>,
        keys: &[K],
        wait: Wait,
        states: &mut [ItemState],
    ) -> Result<bool> {
        let staged = &mut self.staged;
        let end = staged.items.len().min(staged.inserted + STEP_KEYS);
        let items = &staged.items[staged.inserted..end];
        let mut portion = Portion::of(items, keys, states);
        let bytes = portion.offsets.last().map_or(0, |bytes| *bytes as usize);
        let batch = Batch::new(
            &portion.keys,
            &staged.arena[staged.inserted_bytes..staged.inserted_bytes + bytes],
            &portion.offsets,
            Some(&portion.subtree_indexes),
        )?;
        let outcome = map.set_if_not_exists_batch(&batch, wait, &mut portion.states);
        for (item, state) in items.iter().zip(portion.states) {
            states[item.position] = state;
        }
        outcome?;
        staged.inserted = end;
        staged.inserted_bytes += bytes;
        if end < staged.items.len() {
            return Ok(false);
        }
        staged.clear();
        Ok(true)
    }
}
