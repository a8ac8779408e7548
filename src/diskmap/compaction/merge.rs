//! One merge under way: the live records of some segments are appended anew, in steps.
//!
//! A step walks a piece of a segment, keeps what the index points to, and then moves that. Where
//! the slot does not hold this very record any more, the copy becomes padding. Nothing is held
//! between steps but the segment, its generation and records that were read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::relocate::{BATCH_BYTES, Batch, Relocation};
use super::survey::Plan;
use crate::diskmap::generation::Generation;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment, SlotEntry};
use crate::diskmap::log::walk::{Extent, GAPLESS_BLOCK_BYTES, Walk, Walked};
use crate::hash::keyed::{KeyHash, KeyedHasher};
use crate::index::Location;
use crate::storage::Storage;
use crate::{Error, Result};

/// Units that a step walks at most, whether or not it finds live records.
const STEP_UNITS: u32 = (1 << 20) / UNIT_BYTES as u32;
/// Errors of reading a segment after which it is left alone.
const READ_ERRORS_MAX: u32 = 3;

/// How to hash a stored key; none if it has the wrong length.
pub(in crate::diskmap) type HashKey = fn(&KeyedHasher, &[u8]) -> Option<KeyHash>;

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

impl Merge {
    pub(super) fn new(
        generation: Arc<Generation>,
        lane: usize,
        plan: Plan,
        hash_key: HashKey,
    ) -> Self {
        Self {
            generation,
            lane,
            plan: plan.segments.into(),
            stop_after_bytes: plan.stop_after_bytes,
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
        let lane = &self.generation.lanes[self.lane];
        let outcome = read_live(&self.generation, lane, self.hash_key, current, &mut self.batch);
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
            let extent = extent(lane, entry, &segment);
            // Asked last: what was read of the slot before was this segment's then.
            if !lane.holds(&segment) {
                continue;
            }
            let Some((block_bytes, extent)) = extent else { continue };
            if let Err(error) = check_room(lane, storage, live_bytes) {
                return Err((segment, error));
            }
            let walk = Walk::new(lane.factory(), Arc::clone(&segment), block_bytes, extent);
            let walk = walk.map_err(|error| (Arc::clone(&segment), error))?;
            self.current = Some(Current { segment, walk, ended: false, counted_bytes: 0 });
            return Ok(true);
        }
    }

    /// Moves what was read.
    fn relocate(&mut self, timeout: Duration, moved: &mut Moved) -> Result<()> {
        let (generation, lane) = (&self.generation, &self.generation.lanes[self.lane]);
        let relocation = Relocation { generation, lane, timeout };
        relocation.run(&mut self.batch, |bytes| {
            self.moved_bytes += bytes;
            moved.written_bytes += bytes;
        })
    }
}

/// What of a complete segment holds records, in blocks of so many bytes.
fn extent(lane: &Lane, entry: &SlotEntry, segment: &Segment) -> Option<(usize, Extent)> {
    if !lane.factory().durable {
        let extent = entry.extent(segment)?;
        return Some((lane.shared().tail.block_bytes(), extent));
    }
    let units = (lane.segment_bytes() / UNIT_BYTES as u64) as u32;
    let extent = Extent::gapless(segment.end().unwrap_or(units));
    entry.is_finished(segment).then_some((GAPLESS_BLOCK_BYTES, extent))
}

/// Whether a record is to be moved, as it seems; what counts is asked under the lock.
fn is_live(generation: &Generation, lane: &Lane, hash: KeyHash, record: &Walked<'_>) -> bool {
    let location = match record.kind {
        Kind::Put | Kind::Long => Some(record.location),
        Kind::Commit => lane.long_of_commit(record.location.units()).and_then(Location::new),
        Kind::Tombstone | Kind::Padding | Kind::End => None,
    };
    location.is_some_and(|location| generation.index.probe(hash).contains(location))
}

/// Refuses a segment whose live bytes cannot be appended with a file, and a slot, to spare for the
/// writers.
fn check_room(lane: &Lane, storage: &dyn Storage, live_bytes: u64) -> Result<()> {
    let file = lane.segment_bytes();
    let beyond = live_bytes.saturating_sub(lane.open_room_bytes());
    let files = beyond.div_ceil(file - SEGMENT_HEADER_BYTES as u64);
    if files == 0 {
        return Ok(());
    }
    if lane.table().slots_left() <= files {
        return Err(lane.factory().full(lane.table().slots_max()));
    }
    let factory = lane.factory();
    factory.space.check((files + 1).saturating_mul(file), &factory.directory, storage)
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
    lane: &Lane,
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
        if is_live(generation, lane, hash, &record) {
            batch.push(hash, record);
        }
    }
    Ok(())
}
