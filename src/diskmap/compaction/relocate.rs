//! Moving records that were read: room is reserved with nothing locked, the record stored, its slot
//! replaced under the shard's lock.
//!
//! In a durable map a move is a publication like any other (docs/design.md, C7 to C10).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::diskmap::generation::Generation;
use crate::diskmap::log::described::Ruler;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::Kind;
use crate::diskmap::log::reservation::Reservation;
use crate::diskmap::log::segment::Segment;
use crate::diskmap::log::walk::Walked;
use crate::hash::keyed::KeyHash;
use crate::index::Location;

/// Bytes of records that are moved together; a longer one goes alone.
pub(super) const BATCH_BYTES: usize = 128 << 10;
/// What is appended behind a long record must not fail for want of a moment.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);

/// Records that were live when they were read, and are to be moved.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Where all of them are from.
    pub(super) segment: Option<Arc<Segment>>,
    pub(super) bytes: Vec<u8>,
    items: Vec<Item>,
    /// Items before this one are dealt with.
    done: usize,
}

#[derive(Debug, Clone)]
struct Item {
    kind: Kind,
    hash: KeyHash,
    location: Location,
    units: u32,
    key: Range<usize>,
    value: Range<usize>,
}

impl Batch {
    pub(super) fn push(&mut self, hash: KeyHash, record: Walked<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(record.value);
        let (key, value) = (start..middle, middle..self.bytes.len());
        let (kind, location, units) = (record.kind, record.location, record.units);
        self.items.push(Item { kind, hash, location, units, key, value });
    }

    pub(super) fn clear(&mut self) {
        self.segment = None;
        self.items.clear();
        self.done = 0;
        self.bytes.clear();
        // One long value must not stay behind for the rest of the merge.
        self.bytes.shrink_to(2 * BATCH_BYTES);
    }

    fn record(&self, item: &Item) -> (&[u8], &[u8]) {
        (&self.bytes[item.key.clone()], &self.bytes[item.value.clone()])
    }
}

/// What became of a record that was to be moved.
enum Outcome {
    Moved,
    /// It is not live any more.
    Gone,
    /// Something newer than its copy was published in the shard: it is appended again.
    Late,
}

/// What was done of a batch's items.
#[derive(Default)]
struct Progress {
    count: usize,
    written_bytes: u64,
    late: Vec<Item>,
}

/// A lane whose records are moved, and how long to wait for room in the tail.
pub(super) struct Relocation<'a> {
    pub(super) generation: &'a Generation,
    pub(super) lane: &'a Lane,
    pub(super) timeout: Duration,
}

impl Relocation<'_> {
    /// Moves what was read; `written` is told the bytes of each part. After an error the rest is
    /// still in the batch.
    pub(super) fn run(&self, batch: &mut Batch, mut written: impl FnMut(u64)) -> Result<()> {
        let mut scratch = Vec::new();
        while let Some(item) = batch.items.get(batch.done) {
            let progress = if item.kind == Kind::Commit {
                self.move_commit(batch, item)?
            } else if item.units > self.lane.short_units_max() {
                self.move_long(batch, item)?
            } else {
                self.move_short(batch, &mut scratch)?
            };
            batch.done += progress.count;
            written(progress.written_bytes);
            // Whoever was newer has published, so somebody makes progress each time.
            batch.items.extend(progress.late);
        }
        batch.clear();
        Ok(())
    }

    /// Moves as many of the batch's next records as fit into one block.
    fn move_short(&self, batch: &Batch, scratch: &mut Vec<u8>) -> Result<Progress> {
        let rest = &batch.items[batch.done..];
        let is_short =
            |item: &&Item| item.kind != Kind::Commit && item.units <= self.lane.short_units_max();
        let units: Vec<u32> = rest.iter().take_while(is_short).map(|item| item.units).collect();
        let reservation = self.lane.reserve(&units, Some(self.timeout))?;
        let items = &rest[..reservation.count];
        reservation.store(items.iter().map(|item| batch.record(item)), scratch);
        let mut progress = Progress { count: items.len(), ..Progress::default() };
        let mut unit = 0;
        let mut moved = Vec::with_capacity(items.len());
        let mut error = None;
        for item in items {
            let outcome = if error.is_some() {
                Ok(Outcome::Gone)
            } else {
                let new = reservation.location(unit);
                let ruler = Some(reservation.ruler(unit, Kind::Put));
                new.and_then(|new| self.replace(batch, item, new, ruler))
            };
            match outcome {
                Ok(Outcome::Moved) => moved.push(item),
                Ok(Outcome::Gone) => reservation.give_up(unit, item.units),
                Ok(Outcome::Late) => {
                    reservation.give_up(unit, item.units);
                    progress.late.push(item.clone());
                }
                Err(first) => {
                    reservation.give_up(unit, item.units);
                    error = Some(first);
                }
            }
            unit += item.units;
        }
        drop(reservation);
        // After the commit: the last death may give the segment up.
        for item in moved {
            progress.written_bytes += item.bytes();
            self.lane.value_died(item.location.units(), item.units);
        }
        error.map_or(Ok(progress), Err)
    }

    /// Moves a record that spans blocks.
    fn move_long(&self, batch: &Batch, item: &Item) -> Result<Progress> {
        let (key, value) = batch.record(item);
        // Not with a short timeout: what was written when it passes is garbage.
        let patient = (self.timeout >= COMMIT_PATIENCE).then_some(self.timeout);
        let new = self.lane.append_long(key, value, patient)?;
        let outcome = if self.generation.is_durable() {
            let seq = new.seq.to_le_bytes();
            self.commit(key, &seq, |commit| {
                let long = new.location.units();
                self.lane.set_commit(long, commit.location(0)?.units());
                let outcome =
                    self.replace(batch, item, new.location, Some(commit.ruler(0, Kind::Commit)));
                if !matches!(outcome, Ok(Outcome::Moved)) {
                    self.lane.forget_commit(long);
                }
                outcome
            })
        } else {
            let outcome = self.replace(batch, item, new.location, None);
            outcome.map(|outcome| matches!(outcome, Outcome::Moved))
        };
        let died = if matches!(outcome, Ok(true)) { item.location } else { new.location };
        self.lane.value_died(died.units(), item.units);
        outcome?;
        Ok(Progress { count: 1, written_bytes: item.bytes(), late: Vec::new() })
    }

    /// Appends the commit of a long record, again and again until `publish` finds that it is newer
    /// than what was published before. True if it was published.
    fn commit(
        &self,
        key: &[u8],
        value: &[u8],
        publish: impl Fn(&Reservation<'_>) -> Result<Outcome>,
    ) -> Result<bool> {
        let units = self.lane.commit_units();
        let timeout = Some(self.timeout.max(COMMIT_PATIENCE));
        loop {
            let reservation = self.lane.reserve(&[units], timeout)?;
            reservation.store_one(Kind::Commit, key, value, &mut Vec::new());
            let outcome = publish(&reservation);
            if !matches!(outcome, Ok(Outcome::Moved)) {
                reservation.give_up(0, units);
            }
            match outcome? {
                Outcome::Moved => return Ok(true),
                Outcome::Gone => return Ok(false),
                Outcome::Late => {}
            }
        }
    }

    /// Writes the commit of a long record that stays where it is anew.
    fn move_commit(&self, batch: &Batch, item: &Item) -> Result<Progress> {
        let (key, value) = batch.record(item);
        let old = item.location.units();
        let moved = self.commit(key, value, |commit| {
            let new = commit.location(0)?.units();
            let shard = self.generation.index.lock(item.hash);
            let Some(long) = self.lane.long_of_commit(old) else { return Ok(Outcome::Gone) };
            let is_live =
                Location::new(long).is_some_and(|long| shard.candidates(item.hash).contains(long));
            if !is_live || !self.is_ours(batch) {
                return Ok(Outcome::Gone);
            }
            if !self.generation.admit(item.hash, || Some(commit.ruler(0, Kind::Commit))) {
                return Ok(Outcome::Late);
            }
            self.lane.mark_segment_superseded(old);
            self.lane.set_commit(long, new);
            Ok(Outcome::Moved)
        })?;
        if moved {
            self.lane.record_died(old, item.units);
        }
        let written_bytes = if moved { item.bytes() } else { 0 };
        Ok(Progress { count: 1, written_bytes, late: Vec::new() })
    }

    /// Whether the batch's segment is still in its slot. A location alone does not tell: once all
    /// of a segment is dead, its slot is reused, and a newer record of the same key may lie in the
    /// same place. While the slot has our segment, what the index has there is our record.
    fn is_ours(&self, batch: &Batch) -> bool {
        batch.segment.as_ref().is_some_and(|segment| self.lane.holds(segment))
    }

    /// Points the record's slot to its copy. `ruler` is the copy, or its commit.
    fn replace(
        &self,
        batch: &Batch,
        item: &Item,
        new: Location,
        ruler: Option<Ruler<'_>>,
    ) -> Result<Outcome> {
        let mut shard = self.generation.index.lock(item.hash);
        if !self.is_ours(batch) || !shard.candidates(item.hash).contains(item.location) {
            return Ok(Outcome::Gone);
        }
        if !self.generation.admit(item.hash, || ruler) {
            return Ok(Outcome::Late);
        }
        self.lane.mark_superseded(item.location.units(), item.units);
        let replaced = shard.replace(item.hash, item.location, new, None)?;
        Ok(if replaced { Outcome::Moved } else { Outcome::Gone })
    }
}

impl Item {
    const fn bytes(&self) -> u64 {
        self.units as u64 * crate::diskmap::log::record::UNIT_BYTES as u64
    }
}
