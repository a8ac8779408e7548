//! One merge under way: the live records of some segments are appended anew, in steps.
//!
//! A step walks a piece of a segment, keeps what the index points to, and then moves that: room is
//! reserved with nothing locked, the record stored, its slot replaced under the shard's lock. Where
//! the slot does not hold this very record any more, the copy becomes padding. Nothing is held
//! between steps but the segment, its generation and records that were read.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::diskmap::generation::Generation;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::diskmap::log::walk::{Walk, Walked};
use crate::hash::keyed::{KeyHash, KeyedHasher};
use crate::index::Location;
use crate::storage::Storage;
use crate::{Error, Result};

/// Bytes of records that are moved together; a longer one goes alone.
const BATCH_BYTES: usize = 128 << 10;
/// Units that a step walks at most, whether or not it finds live records.
const STEP_UNITS: u32 = (1 << 20) / UNIT_BYTES as u32;
/// Errors of reading a segment after which it is left alone.
const READ_ERRORS_MAX: u32 = 3;

/// How to hash a stored key; none if it has the wrong length.
pub(super) type HashKey = fn(&KeyedHasher, &[u8]) -> Option<KeyHash>;

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// There is more to do.
    More,
    /// There is no room in the tail at present: the same step again, later.
    Blocked(Error),
    /// A segment could not be read, and is put aside or left alone for good; there is more to do.
    Skipped { error: Error, for_good: bool },
    /// The disk has no room for what would be moved next.
    NoRoom(Error),
    /// All was moved that was to be.
    Done,
}

/// What a step did, for the rate and the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Moved {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Merge {
    pub(super) generation: Arc<Generation>,
    lane: usize,
    plan: VecDeque<Arc<Segment>>,
    /// Ends before the next segment once this many bytes were moved.
    pub(super) stop_after_bytes: u64,
    current: Option<Current>,
    batch: Batch,
    moved_bytes: u64,
    hash_key: HashKey,
}

/// The segment that is walked.
#[derive(Debug)]
struct Current {
    segment: Arc<Segment>,
    walk: Walk,
    ended: bool,
    /// Bytes read that were reported.
    counted_bytes: u64,
}

/// Records that were live when they were read, and are to be moved.
#[derive(Debug, Default)]
struct Batch {
    /// Where all of them are from.
    segment: Option<Arc<Segment>>,
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Items before this one are dealt with.
    done: usize,
}

#[derive(Debug)]
struct Item {
    hash: KeyHash,
    location: Location,
    units: u32,
    key: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    fn push(&mut self, hash: KeyHash, record: Walked<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(record.value);
        let (key, value) = (start..middle, middle..self.bytes.len());
        let (location, units) = (record.location, record.units);
        self.items.push(Item { hash, location, units, key, value });
    }

    fn clear(&mut self) {
        self.segment = None;
        self.items.clear();
        self.done = 0;
        self.bytes.clear();
        // One long value must not stay behind for the rest of the merge.
        self.bytes.shrink_to(2 * BATCH_BYTES);
    }
}

impl Merge {
    pub(super) fn new(
        generation: Arc<Generation>,
        lane: usize,
        plan: Vec<Arc<Segment>>,
        stop_after_bytes: u64,
        hash_key: HashKey,
    ) -> Self {
        Self {
            generation,
            lane,
            plan: plan.into(),
            stop_after_bytes,
            current: None,
            batch: Batch::default(),
            moved_bytes: 0,
            hash_key,
        }
    }

    fn lane(&self) -> &Lane {
        &self.generation.lanes[self.lane]
    }

    /// Does a little. `timeout` bounds the waiting for room in the tail.
    ///
    /// # Errors
    /// What ends the merge: the map has failed, no memory.
    pub(super) fn step(
        &mut self,
        storage: &dyn Storage,
        timeout: Duration,
        moved: &mut Moved,
    ) -> Result<Step> {
        self.lane().shared().failure.check()?;
        if let Err(error) = self.relocate(timeout, moved) {
            return blocked(error);
        }
        if self.current.as_ref().is_some_and(|current| current.ended)
            && let Some(current) = self.current.take()
        {
            // Whatever is live in it by our count, nothing points to it.
            current.segment.leave_alone();
        }
        if self.current.is_none() {
            match self.open_next(storage) {
                Ok(true) => {}
                Ok(false) => return Ok(Step::Done),
                Err((segment, error)) => return skipped(&segment, error),
            }
        }
        let Some(current) = &mut self.current else { return Ok(Step::Done) };
        let outcome = read_live(&self.generation, self.hash_key, current, &mut self.batch);
        moved.read_bytes += current.walk.read_bytes() - current.counted_bytes;
        current.counted_bytes = current.walk.read_bytes();
        if let Err(error) = outcome {
            // What was read before is good; it is moved by the next step.
            let segment = Arc::clone(&current.segment);
            self.current = None;
            return skipped(&segment, error);
        }
        match self.relocate(timeout, moved) {
            Ok(()) => Ok(Step::More),
            Err(error) => blocked(error),
        }
    }

    /// Begins with the next segment that is still there; false behind the last one.
    fn open_next(&mut self, storage: &dyn Storage) -> Result<bool, (Arc<Segment>, Error)> {
        loop {
            if self.moved_bytes >= self.stop_after_bytes {
                return Ok(false);
            }
            let Some(segment) = self.plan.pop_front() else { return Ok(false) };
            let lane = self.lane();
            let Some(entry) = lane.table().entry(segment.slot) else { continue };
            let (dead, used) = entry.dead_and_used_units();
            let live_bytes = used.saturating_sub(dead) * UNIT_BYTES as u64;
            let extent = entry.extent(&segment);
            // Asked last: what was read of the slot before was this segment's then.
            if !lane.holds(&segment) {
                continue;
            }
            let Some(extent) = extent else { continue };
            if let Err(error) = check_room(lane, storage, live_bytes) {
                return Err((segment, error));
            }
            let block_bytes = lane.shared().tail.block_bytes();
            let walk = Walk::new(lane.factory(), Arc::clone(&segment), block_bytes, extent);
            let walk = walk.map_err(|error| (Arc::clone(&segment), error))?;
            self.current = Some(Current { segment, walk, ended: false, counted_bytes: 0 });
            return Ok(true);
        }
    }

    /// Moves what was read.
    fn relocate(&mut self, timeout: Duration, moved: &mut Moved) -> Result<()> {
        let lane = &self.generation.lanes[self.lane];
        let mut scratch = Vec::new();
        while let Some(item) = self.batch.items.get(self.batch.done) {
            let (count, written) = if item.units > lane.short_units_max() {
                (1, move_long(&self.generation, lane, &self.batch, item, timeout)?)
            } else {
                move_short(&self.generation, lane, &self.batch, timeout, &mut scratch)?
            };
            self.batch.done += count;
            self.moved_bytes += written;
            moved.written_bytes += written;
        }
        self.batch.clear();
        Ok(())
    }
}

/// Refuses a segment whose live bytes cannot be appended with a file to spare for the writers.
fn check_room(lane: &Lane, storage: &dyn Storage, live_bytes: u64) -> Result<()> {
    let file = lane.segment_bytes();
    let beyond = live_bytes.saturating_sub(lane.open_room_bytes());
    let files = beyond.div_ceil(file - SEGMENT_HEADER_BYTES as u64);
    if files == 0 {
        return Ok(());
    }
    let path = &lane.factory().directory;
    let needed = (files + 1).saturating_mul(file);
    if storage.free_space(path)? >= needed {
        return Ok(());
    }
    let source = std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
    Err(Error::DiskFull { path: path.clone(), needed, source })
}

fn blocked(error: Error) -> Result<Step> {
    match error {
        Error::WouldBlock(_) | Error::TimedOut { .. } => Ok(Step::Blocked(error)),
        error => Err(error),
    }
}

/// A segment could not be read. Damage stays; another error may pass.
fn skipped(segment: &Segment, error: Error) -> Result<Step> {
    let for_good = match &error {
        Error::Corrupt { .. } => true,
        Error::DiskFull { .. } => return Ok(Step::NoRoom(error)),
        Error::Io { .. } => segment.count_read_error() >= READ_ERRORS_MAX,
        _ => return Err(error),
    };
    if for_good {
        segment.leave_alone();
    }
    Ok(Step::Skipped { error, for_good })
}

/// Walks on until there is a batch of live records, or a step's worth was read.
fn read_live(
    generation: &Generation,
    hash_key: HashKey,
    current: &mut Current,
    batch: &mut Batch,
) -> Result<()> {
    let mut units = 0;
    batch.segment = Some(Arc::clone(&current.segment));
    while batch.bytes.len() < BATCH_BYTES && units < STEP_UNITS {
        let Some(record) = current.walk.next()? else {
            current.ended = true;
            return Ok(());
        };
        units += record.units;
        let Some(hash) = hash_key(&generation.hasher, record.key) else { continue };
        // Only a hint here; what counts is asked under the lock.
        if record.kind == Kind::Put && generation.index.probe(hash).contains(record.location) {
            batch.push(hash, record);
        }
    }
    Ok(())
}

/// Moves as many of the batch's next records as fit into one block. Returns how many were dealt
/// with, and the bytes that were written for those that moved.
fn move_short(
    generation: &Generation,
    lane: &Lane,
    batch: &Batch,
    timeout: Duration,
    scratch: &mut Vec<u8>,
) -> Result<(usize, u64)> {
    let rest = &batch.items[batch.done..];
    let short = rest.iter().map(|item| item.units);
    let units: Vec<u32> = short.take_while(|units| *units <= lane.short_units_max()).collect();
    let reservation = lane.reserve(&units, Some(timeout))?;
    let items = &rest[..reservation.count];
    let record = |item: &Item| (&batch.bytes[item.key.clone()], &batch.bytes[item.value.clone()]);
    reservation.store(items.iter().map(record), scratch);
    let mut unit = 0;
    let mut gone = Vec::with_capacity(items.len());
    let mut outcome = Ok(());
    for item in items {
        let new = reservation.location(unit);
        let replaced = outcome.is_ok() && {
            let replaced = new.and_then(|new| replace(generation, lane, batch, item, new));
            replaced.unwrap_or_else(|error| {
                outcome = Err(error);
                false
            })
        };
        if replaced {
            gone.push(item);
        } else {
            reservation.give_up(unit, item.units);
        }
        unit += item.units;
    }
    drop(reservation);
    // After the commit: the last death may give the segment up.
    let mut written = 0;
    for item in gone {
        written += u64::from(item.units) * UNIT_BYTES as u64;
        lane.record_died(item.location.units(), item.units);
    }
    outcome.map(|()| (items.len(), written))
}

/// Moves a record that spans blocks. Returns the bytes written for it.
fn move_long(
    generation: &Generation,
    lane: &Lane,
    batch: &Batch,
    item: &Item,
    timeout: Duration,
) -> Result<u64> {
    let (key, value) = (&batch.bytes[item.key.clone()], &batch.bytes[item.value.clone()]);
    // Not with a short timeout: what was written when it passes is garbage.
    let patient = (timeout >= Duration::from_secs(1)).then_some(timeout);
    let new = lane.append_long(key, value, patient)?.location;
    let replaced = replace(generation, lane, batch, item, new);
    let died = if matches!(replaced, Ok(true)) { item.location } else { new };
    lane.record_died(died.units(), item.units);
    replaced?;
    Ok(u64::from(item.units) * UNIT_BYTES as u64)
}

/// Points the record's slot to its copy; false if the slot does not hold it any more.
fn replace(
    generation: &Generation,
    lane: &Lane,
    batch: &Batch,
    item: &Item,
    new: Location,
) -> Result<bool> {
    let mut shard = generation.index.lock(item.hash);
    // The location alone does not tell: once all of a segment is dead, its slot is reused, and a
    // newer record of the same key may lie in the same place. While the slot has our segment, what
    // the index has there is our record.
    let ours = batch.segment.as_ref().is_some_and(|segment| lane.holds(segment));
    Ok(ours && shard.replace(item.hash, item.location, new, None)?)
}
