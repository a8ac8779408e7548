//! Reopening a lane: its segments are walked in order, or their summaries read, the next one while
//! the records of one are noted.
//!
//! What the manifest says is durable has to be there, whole: a bad byte in it is an error. Behind
//! that, the log ends at the first thing that is no record; what lies there and further on is
//! counted and ignored, and goes once the manifest that leaves it out is durable.
//!
//! Keys are told apart by their keyed hash of 128 bits, under a secret that nobody outside knows:
//! among 10^11 keys two are equal with a probability of 2^-56 (docs/design.md, P7).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{Entry, Manifest};
use super::newest::Records;
use super::summary::{self, HashBytes, Item, Summary};
use crate::diskmap::generation::Generation;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentFactory};
use crate::diskmap::ring::LaneEnd;
use crate::memory::MemoryReserve;
use crate::storage::{AlignedBuf, Storage, StorageFile};
use crate::{Error, Result};

/// Reads of what is ignored are whole pages.
const PAGE_BYTES: usize = 4096;
const HEADER_UNITS: u32 = (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32;

/// What reopening a durable map found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// True if the map was there; false if it was made.
    pub reopened: bool,
    /// Segments of which only the summary was read.
    pub segments_from_summary: u64,
    /// Segments whose records were read.
    pub segments_scanned: u64,
    /// Records that were read, superseded ones and deletions too.
    pub records: u64,
    /// Keys in the map.
    pub entries: u64,
    /// Bytes behind the end of the log that are no whole record, or follow such a place.
    pub torn_bytes: u64,
    /// Segments that lie behind such a place as a whole.
    pub segments_ignored: u64,
    /// Process maps: blocks that a killed process had not written, taken from its ring.
    pub ring_blocks: u64,
    /// Process maps: the machine was restarted while the map was open, so its ring is lost. The map
    /// is what it was at its last sync, or later.
    pub ring_lost: bool,
}

/// A segment that is part of the log.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) segment: Arc<Segment>,
    end_units: u32,
}

/// See the module's text.
pub(in crate::diskmap) struct LaneRecovery<'a> {
    storage: &'a dyn Storage,
    factory: &'a SegmentFactory,
    lane: &'a Lane,
    generation: &'a Generation,
    manifest: &'a Manifest,
    /// With the ring of a killed process: all of the log is there, up to here at least.
    ring: Option<LaneEnd>,
    records: Records<'a>,
    adopted: Vec<Adopted>,
    report: &'a mut Recovery,
}

impl<'a> LaneRecovery<'a> {
    pub(in crate::diskmap) fn new(
        storage: &'a dyn Storage,
        generation: &'a Generation,
        lane: usize,
        manifest: &'a Manifest,
        (ring, reserve): (Option<LaneEnd>, &'a dyn MemoryReserve),
        report: &'a mut Recovery,
    ) -> Self {
        let lane = &generation.lanes[lane];
        Self {
            storage,
            factory: lane.factory(),
            lane,
            generation,
            manifest,
            ring,
            records: Records::new(reserve),
            adopted: Vec::new(),
            report,
        }
    }

    /// Brings the lane to where its log ends. Nothing on disk is changed. Returns the files that
    /// are not part of it.
    pub(in crate::diskmap) fn run(mut self, hash: impl HashBytes) -> Result<Vec<PathBuf>> {
        let mut files = segment_files(self.storage, self.factory)?;
        let highest = files.keys().next_back().copied();
        let listed: Vec<_> = self.manifest.entries.clone();
        let mut ahead = None;
        for (number, entry) in listed.iter().enumerate() {
            let Some(path) = files.remove(&entry.incarnation) else {
                let missing = self.factory.make(0, entry.incarnation);
                let reason = "the segment is missing; restore it from a copy".to_owned();
                return Err(Error::Corrupt { path: missing.path().clone(), offset: 0, reason });
            };
            let summary = match ahead.take() {
                Some(summary) => summary,
                None => entry.summary(self.storage, self.factory, &path),
            };
            let next = listed
                .get(number + 1)
                .and_then(|next| Some((next, files.get(&next.incarnation)?.as_path())));
            let (storage, factory) = (self.storage, self.factory);
            let end;
            (end, ahead) = std::thread::scope(|scope| {
                // Where no thread can be had, it is read when its turn comes.
                let read = next.and_then(|(next, path)| {
                    let read = move || next.summary(storage, factory, path);
                    std::thread::Builder::new().spawn_scoped(scope, read).ok()
                });
                let durable = (entry.end_units, entry.complete);
                let end = self.scan(entry.incarnation, &path, durable, summary, &hash);
                (end, read.and_then(|read| read.join().ok()))
            });
            let end = end?;
            if !entry.complete && end.is_torn {
                return self.finish(files, highest);
            }
        }
        let mut next = match listed.last() {
            Some(entry) if !entry.complete => entry.incarnation + 1,
            _ => self.manifest.open_from,
        };
        // What was made since the last sync; without one in between, the log ends before it.
        while let Some(path) = files.get(&next).cloned() {
            let end = self.scan(next, &path, (0, false), None, &hash)?;
            if end.is_kept {
                files.remove(&next);
            }
            if end.is_torn {
                break;
            }
            next += 1;
        }
        self.finish(files, highest)
    }

    /// Walks a segment of which the first `durable` units must be whole.
    fn scan(
        &mut self,
        incarnation: u64,
        path: &Path,
        (durable, complete): (u32, bool),
        summary: Option<Summary>,
        hash: &impl HashBytes,
    ) -> Result<SegmentEnd> {
        let slot = self.adopted.len() as u32;
        if slot >= self.lane.table().slots_max() {
            return Err(self.factory.full(slot));
        }
        let file = self.storage.open_read(path)?;
        let file_units = (file.len()?.min(self.factory.segment_bytes) / UNIT_BYTES as u64) as u32;
        let units = if complete { durable } else { file_units };
        if file_units < durable.max(HEADER_UNITS) && durable > 0 {
            let reason = "the file is shorter than what was synced".to_owned();
            return Err(corrupt(path, file_units, reason));
        }
        let segment = Arc::new(self.factory.reopen(slot, incarnation, file));
        let (end_units, is_torn) = match self.collect(&segment, units, summary, hash) {
            Ok(end) => (end, false),
            Err((error @ Error::Corrupt { .. }, end)) if !complete && end >= durable => {
                let rest =
                    segment.file().map_or(Ok(0), |file| rest_bytes(file, end, file_units))?;
                if rest > 0 && self.ring.is_some() {
                    // No kill leaves this.
                    return Err(error);
                }
                self.report.torn_bytes += rest;
                (end, true)
            }
            Err((error, _)) => return Err(error),
        };
        let is_kept = end_units > HEADER_UNITS;
        if is_kept {
            // What recovery builds on has to be durable before the manifest says so.
            segment.mark_unsynced();
            segment.sync()?;
            self.adopted.push(Adopted { segment, end_units });
        }
        Ok(SegmentEnd { is_torn, is_kept })
    }

    /// Notes the records of a segment, from its summary if there is one. An error comes with the
    /// unit where the log ends.
    fn collect(
        &mut self,
        segment: &Arc<Segment>,
        units: u32,
        summary: Option<Summary>,
        hash: &impl HashBytes,
    ) -> Result<u32, (Error, u32)> {
        if let Some(summary) = summary {
            segment.mark_summarized();
            self.report.segments_from_summary += 1;
            for item in summary.items() {
                self.take(segment, item).map_err(|error| (error, item.unit))?;
            }
            return Ok(units);
        }
        self.report.segments_scanned += 1;
        summary::walk(self.factory, segment, units, hash, |item| self.take(segment, item))
    }

    fn take(&mut self, segment: &Segment, item: Item) -> Result<()> {
        self.report.records += 1;
        if item.kind == Kind::Tombstone {
            segment.mark_tombstones();
        }
        self.records.take(item, self.factory.seq(segment.incarnation, item.unit))
    }

    /// The log is read: the newest record of each key counts.
    fn finish(
        self,
        files: std::collections::BTreeMap<u64, PathBuf>,
        highest: Option<u64>,
    ) -> Result<Vec<PathBuf>> {
        self.check_ring(&files)?;
        let Self { records, generation, lane, factory, adopted, .. } = self;
        let tally = records.publish(generation, (lane, factory), &adopted)?;
        self.report.entries += tally.entries;
        for (adopted, live_units) in adopted.iter().zip(tally.live_units) {
            let used = u64::from(adopted.end_units);
            adopted.segment.set_end(adopted.end_units);
            lane.adopt(&adopted.segment, used, used.saturating_sub(live_units));
        }
        let next = highest.map_or(0, |highest| highest + 1).max(self.manifest.open_from);
        let next = self.manifest.entries.last().map_or(next, |last| next.max(last.incarnation + 1));
        lane.continue_from(next, adopted.len() as u32);
        self.report.segments_ignored +=
            files.keys().filter(|incarnation| **incarnation >= self.manifest.open_from).count()
                as u64;
        Ok(files.into_values().collect())
    }

    /// With a ring, nothing of the log is missing.
    fn check_ring(&self, files: &std::collections::BTreeMap<u64, PathBuf>) -> Result<()> {
        let Some(LaneEnd(end)) = self.ring else { return Ok(()) };
        let unreached = files.range(self.manifest.open_from..).next();
        if let Some((_, path)) = unreached {
            let reason = "a segment before this one is missing or ends early; restore the map's \
                          directories from a copy";
            return Err(corrupt(path, 0, reason.to_owned()));
        }
        let last = self.adopted.last().map(|last| (last.segment.incarnation, last.end_units));
        match end {
            Some(end) if last.is_none_or(|last| last <= end) => {
                let segment = self.factory.make(0, end.0);
                let reason = "the log ends before what the ring says was written; restore the \
                              map's directories from a copy";
                Err(corrupt(segment.path(), end.1, reason.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl Entry {
    /// The summary of the segment at `path`, if it is complete and has one.
    fn summary(
        &self,
        storage: &dyn Storage,
        factory: &SegmentFactory,
        path: &Path,
    ) -> Option<Summary> {
        let read = || summary::read(storage, factory, path, self.incarnation, self.end_units);
        self.complete.then(read).flatten()
    }
}

/// How the walk of a segment ended.
struct SegmentEnd {
    /// At something that is no record.
    is_torn: bool,
    /// It has records that count.
    is_kept: bool,
}

pub(super) fn corrupt(path: &Path, units: u32, reason: String) -> Error {
    let offset = u64::from(units) * UNIT_BYTES as u64;
    Error::Corrupt { path: path.to_owned(), offset, reason }
}

/// The segment files of the lane's generation, by incarnation. Those of older generations are
/// removed by whoever calls; newer ones and other lanes' are an error.
fn segment_files(
    storage: &dyn Storage,
    factory: &SegmentFactory,
) -> Result<std::collections::BTreeMap<u64, PathBuf>> {
    let mut files = std::collections::BTreeMap::new();
    for path in storage.read_dir(&factory.directory)? {
        let Some((lane, generation, incarnation)) = parse_name(&path) else { continue };
        if lane != u64::from(factory.lane) || generation > factory.generation {
            let reason = "the segment belongs to another directory or a newer state of the map; \
                          restore the directories from one copy"
                .to_owned();
            return Err(Error::Corrupt { path, offset: 0, reason });
        }
        if generation == factory.generation {
            files.insert(incarnation, path);
        }
    }
    Ok(files)
}

/// Lane, generation and incarnation in a segment's file name.
pub(in crate::diskmap) fn parse_name(path: &Path) -> Option<(u64, u64, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    let mut parts = stem.split('-').map(|part| part.parse().ok());
    let name = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(name)
}

/// Bytes from `from` on up to the last that is not zero.
fn rest_bytes(file: &dyn StorageFile, from: u32, to: u32) -> Result<u64> {
    let alignment = file.alignment().max(PAGE_BYTES);
    let mut buffer = AlignedBuf::zeroed(1 << 16, alignment)?;
    let (from, end) = (u64::from(from) * UNIT_BYTES as u64, u64::from(to) * UNIT_BYTES as u64);
    let end = end - end % alignment as u64;
    let mut at = from - from % alignment as u64;
    let mut last = from;
    while at < end {
        let len = (end - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..len], at)?;
        if let Some(byte) = buffer[..len].iter().rposition(|byte| *byte != 0) {
            last = last.max(at + byte as u64 + 1);
        }
        at += len as u64;
    }
    Ok(last - from)
}
