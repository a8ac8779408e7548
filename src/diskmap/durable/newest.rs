//! The records that recovery found, and the newest of each key brought into the index.
//!
//! Threads sort them and take pieces of them in turn. A piece has all records of its keys, and the
//! keys of one shard stand together, so threads rarely meet at a shard's lock.

use std::collections::HashMap;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::recovery::{Adopted, corrupt};
use super::summary::Item;
use crate::diskmap::generation::Generation;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::diskmap::log::segment::SegmentFactory;
use crate::hash::keyed::KeyHash;
use crate::index::Location;
use crate::memory::MemoryReserve;
use crate::{Error, Result};

/// Records are accounted for in the memory budget in steps of this many.
const STEP: usize = 1 << 16;
/// Records of a piece, about.
const PIECE: usize = 1 << 16;

/// One record of the log. In order, those of a shard stand together, and those of a key, oldest
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// The keyed hash, its halves exchanged: the shard is in the top of the lower one.
    hash: u128,
    seq: u64,
    units: u32,
    kind: FoundKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FoundKind {
    Value,
    Removed,
    Committed,
}

impl Found {
    const fn key_hash(&self) -> KeyHash {
        // Both halves by intent.
        KeyHash { lo: (self.hash >> 64) as u64, hi: self.hash as u64 }
    }
}

/// A long record, by its sequence number.
#[derive(Debug, Clone, Copy)]
struct Long {
    hash: u128,
    units: u32,
}

/// Memory that is given back.
struct Reserved<'a> {
    reserve: &'a dyn MemoryReserve,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.reserve.release(self.bytes);
    }
}

/// All records of a lane, with the sequence numbers that long ones and commits go by.
pub(super) struct Records<'a> {
    memory: Reserved<'a>,
    found: Vec<Found>,
    longs: HashMap<u64, Long>,
    /// The long record that each commit names.
    commits: HashMap<u64, u64>,
}

impl<'a> Records<'a> {
    pub(super) fn new(reserve: &'a dyn MemoryReserve) -> Self {
        Self {
            memory: Reserved { reserve, bytes: 0 },
            found: Vec::new(),
            longs: HashMap::new(),
            commits: HashMap::new(),
        }
    }

    pub(super) fn take(&mut self, item: Item, seq: u64) -> Result<()> {
        let Item { units, kind, target, .. } = item;
        let hash = item.hash.rotate_left(64);
        let kind = match kind {
            Kind::Long => {
                self.longs.insert(seq, Long { hash, units });
                return Ok(());
            }
            Kind::Tombstone => FoundKind::Removed,
            Kind::Commit => {
                self.commits.insert(seq, target);
                FoundKind::Committed
            }
            _ => FoundKind::Value,
        };
        self.push(Found { hash, seq, units, kind })
    }

    fn push(&mut self, found: Found) -> Result<()> {
        if self.found.len() == self.found.capacity() {
            let bytes = (STEP * size_of::<Found>()) as u64;
            self.memory.reserve.reserve("recovery of a map", bytes)?;
            self.memory.bytes += bytes;
            self.found.try_reserve_exact(STEP).map_err(|_| Error::OutOfMemory {
                what: "recovery of a map",
                bytes,
                available: u64::MAX,
            })?;
        }
        self.found.push(found);
        Ok(())
    }

    /// Puts the newest record of each key into the index.
    pub(super) fn publish(
        mut self,
        generation: &Generation,
        (lane, factory): (&Lane, &SegmentFactory),
        adopted: &[Adopted],
    ) -> Result<Tally> {
        let mut found = std::mem::take(&mut self.found);
        found.par_sort_unstable();
        let publisher = Publisher {
            generation,
            lane,
            factory,
            adopted,
            longs: &self.longs,
            commits: &self.commits,
            segment_units: factory.segment_bytes / UNIT_BYTES as u64,
        };
        let none = || Tally { entries: 0, live_units: vec![0; adopted.len()] };
        pieces(&found)
            .into_par_iter()
            .map(|piece| publisher.publish_all(piece, none()))
            .try_reduce(none, |a, b| Ok(a.plus(&b)))
    }
}

/// Cuts sorted records between keys.
fn pieces(mut found: &[Found]) -> Vec<&[Found]> {
    let mut pieces = Vec::with_capacity(found.len() / PIECE + 1);
    while let Some(last) = found.get(..PIECE).and_then(<[Found]>::last) {
        let rest = found[PIECE..].partition_point(|record| record.hash == last.hash);
        let (piece, behind) = found.split_at(PIECE + rest);
        pieces.push(piece);
        found = behind;
    }
    pieces.push(found);
    pieces
}

/// What is live.
pub(super) struct Tally {
    pub(super) entries: u64,
    /// Of each segment.
    pub(super) live_units: Vec<u64>,
}

impl Tally {
    fn plus(mut self, other: &Self) -> Self {
        self.entries += other.entries;
        for (units, more) in self.live_units.iter_mut().zip(&other.live_units) {
            *units += more;
        }
        self
    }
}

struct Publisher<'a> {
    generation: &'a Generation,
    lane: &'a Lane,
    factory: &'a SegmentFactory,
    adopted: &'a [Adopted],
    longs: &'a HashMap<u64, Long>,
    commits: &'a HashMap<u64, u64>,
    segment_units: u64,
}

impl Publisher<'_> {
    fn publish_all(&self, piece: &[Found], mut tally: Tally) -> Result<Tally> {
        for versions in piece.chunk_by(|a, b| a.hash == b.hash) {
            if let Some((newest, older)) = versions.split_last() {
                self.publish(newest, &mut tally)?;
                self.mark_superseded(older);
            }
        }
        Ok(tally)
    }

    /// Tombstones rule over the segments of such records, but not over those of tombstones.
    fn mark_superseded(&self, older: &[Found]) {
        for found in older.iter().filter(|found| found.kind != FoundKind::Removed) {
            if let Some((slot, _)) = self.place(found.seq) {
                self.adopted[slot].segment.mark_superseded();
            }
        }
    }

    /// The slot of the record with a sequence number, and its unit in the lane's space.
    fn place(&self, seq: u64) -> Option<(usize, u64)> {
        let incarnation = seq / self.segment_units;
        let slot =
            self.adopted.binary_search_by_key(&incarnation, |adopted| adopted.segment.incarnation);
        let slot = slot.ok()?;
        let unit = seq % self.segment_units;
        Some((slot, self.lane.table().base_units(slot as u32, 0) + unit))
    }

    fn publish(&self, newest: &Found, tally: &mut Tally) -> Result<()> {
        let (seq, units) = match newest.kind {
            FoundKind::Removed => return Ok(()),
            FoundKind::Value => (newest.seq, newest.units),
            FoundKind::Committed => {
                let target = self.commits.get(&newest.seq).copied().unwrap_or_default();
                match self.longs.get(&target) {
                    Some(long) if long.hash == newest.hash => (target, long.units),
                    _ => return Err(self.commit_without_record(newest)),
                }
            }
        };
        let place = self.place(seq);
        let Some((slot, location)) =
            place.and_then(|(slot, unit)| Some((slot, Location::new(unit)?)))
        else {
            return Err(Error::InvalidArgument("location out of range".to_owned()));
        };
        let hash = newest.key_hash();
        debug_assert_eq!(self.generation.lane_number(hash), self.factory.lane as usize);
        tally.live_units[slot] += u64::from(units);
        if newest.kind == FoundKind::Committed
            && let Some((slot, commit)) = self.place(newest.seq)
        {
            self.lane.set_commit(location.units(), commit);
            tally.live_units[slot] += u64::from(newest.units);
        }
        self.generation.index.lock(hash).insert(hash, location, 0)?;
        tally.entries += 1;
        Ok(())
    }

    fn commit_without_record(&self, commit: &Found) -> Error {
        let segment = self.factory.make(0, commit.seq / self.segment_units);
        let reason = "a commit names a long record that is not there".to_owned();
        corrupt(segment.path(), (commit.seq % self.segment_units) as u32, reason)
    }
}
