//! Reading many records from files at once: sorted by place, neighbours merged into one read, all
//! reads in the queue together. No lock is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Result;
use crate::diskmap::DiskMap;
use crate::diskmap::confirm::Match;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::log::record;
use crate::diskmap::log::segment::{Place, Segment};
use crate::diskmap::read::{self, GUESS_BYTES};
use crate::hash::keyed::KeyHash;
use crate::index::{Candidates, Location};
use crate::storage::{AlignedBuf, FileRead, ReadRequest, Storage};

/// Gaps up to this are read along.
pub(in crate::diskmap) const GAP_BYTES: u64 = 16 << 10;
/// Longest merged read.
const RUN_BYTES: u64 = 1 << 20;
/// Items that are resolved together.
pub(crate) const COLD_ITEMS_MAX: usize = 1024;

/// A key whose candidates are in files.
#[derive(Debug)]
pub(crate) struct ColdItem<K> {
    /// Its position in the caller's batch.
    pub(crate) position: usize,
    pub(crate) key: K,
    pub(crate) hash: KeyHash,
    pub(crate) candidates: Candidates,
}

impl<K> ColdItem<K> {
    /// An item with the key of an earlier one: it is not read along, but asked for after all that
    /// are.
    pub(crate) const fn behind(position: usize, key: K, hash: KeyHash) -> Self {
        Self { position, key, hash, candidates: Candidates::none() }
    }
}

/// A record that is to be read from its file.
#[derive(Debug)]
pub(in crate::diskmap) struct Want {
    /// Its number among the caller's items.
    pub(in crate::diskmap) item: usize,
    pub(in crate::diskmap) location: Location,
    pub(in crate::diskmap) segment: Arc<Segment>,
    pub(in crate::diskmap) place: Place,
}

/// One read for neighbouring records of a segment.
#[derive(Debug)]
pub(in crate::diskmap) struct Run {
    segment: Arc<Segment>,
    pub(in crate::diskmap) start: u64,
    pub(in crate::diskmap) end: u64,
    pub(in crate::diskmap) wants: std::ops::Range<usize>,
}

impl Run {
    /// Widens it to what the file can be read in; returns the alignment.
    pub(in crate::diskmap) fn align(&mut self, segment_bytes: u64) -> usize {
        let alignment = self.segment.file().map_or(1, |file| file.alignment().max(1));
        self.start -= self.start % alignment as u64;
        self.end = self.end.next_multiple_of(alignment as u64).min(segment_bytes);
        alignment
    }
}

impl<K: Key> DiskMap<K> {
    /// Reads the records of `items` and calls `visit(item, match and value)` for each that is
    /// its key's current record. The others come last, in order, and are to be asked for one by
    /// one: there is something to explain (a refuted tag, a race, a value over several blocks, an
    /// error, an earlier item with the same key).
    pub(crate) fn resolve_cold(
        &self,
        generation: &Generation,
        items: &[ColdItem<K>],
        mut visit: impl FnMut(&ColdItem<K>, Option<(Match, &[u8])>) -> Result<()>,
    ) -> Result<()> {
        let mut resolved = vec![false; items.len()];
        let wants = self.wants(generation, items);
        let mut runs = runs(&wants, generation.lanes[0].segment_bytes());
        let mut buffers = Vec::with_capacity(runs.len());
        for run in &mut runs {
            let alignment = run.align(generation.lanes[0].segment_bytes());
            buffers.push(AlignedBuf::zeroed((run.end - run.start) as usize, alignment)?);
        }
        let results = self.run_reader().read(&runs, &mut buffers);
        for ((run, buffer), readable) in runs.iter().zip(&buffers).zip(results) {
            if !readable {
                continue;
            }
            for want in &wants[run.wants.clone()] {
                let item = &items[want.item];
                let bytes = &buffer[(want.place.offset_bytes() - run.start) as usize..];
                let seed = record::crc_seed(want.segment.seed, want.place.unit_in_segment);
                let Ok(record) = record::decode(bytes, K::BYTES, seed) else { continue };
                let same = record.kind.is_value() && record.key == item.key.as_bytes();
                if !same || !still_current(generation, item, want) {
                    continue;
                }
                let value_bytes = record.value.len() as u32;
                resolved[want.item] = true;
                let found = Match { location: want.location, value_bytes };
                visit(item, Some((found, record.value)))?;
            }
        }
        for (item, _) in items.iter().zip(&resolved).filter(|(_, resolved)| !**resolved) {
            visit(item, None)?;
        }
        Ok(())
    }

    fn wants(&self, generation: &Generation, items: &[ColdItem<K>]) -> Vec<Want> {
        let mut wants: Vec<Want> = Vec::with_capacity(items.len());
        for (number, item) in items.iter().enumerate() {
            let mut locations = item.candidates.iter();
            let (Some(location), None) = (locations.next(), locations.next()) else { continue };
            let lane = generation.lane(item.hash);
            if let Some((segment, place)) = read::segment_at(lane, location)
                && segment.file().is_some()
            {
                wants.push(Want { item: number, location, segment, place });
            }
        }
        wants.sort_unstable_by_key(|want| {
            // The item last: of one key in a batch, the first comes first.
            (generation.lane_number(items[want.item].hash), want.location.units(), want.item)
        });
        wants
    }

    pub(in crate::diskmap) fn run_reader(&self) -> RunReader<'_> {
        RunReader { storage: self.storage.as_ref(), file_reads: &self.counters.file_reads }
    }
}

/// Reads runs, and counts that.
pub(in crate::diskmap) struct RunReader<'a> {
    pub(in crate::diskmap) storage: &'a dyn Storage,
    pub(in crate::diskmap) file_reads: &'a AtomicU64,
}

impl RunReader<'_> {
    /// Reads all runs together, each into its buffer; whether each could be read.
    pub(in crate::diskmap) fn read(&self, runs: &[Run], buffers: &mut [AlignedBuf]) -> Vec<bool> {
        let mut reads: Vec<FileRead<'_>> = Vec::with_capacity(runs.len());
        for (run, buffer) in runs.iter().zip(buffers) {
            if let Some(file) = run.segment.file() {
                run.segment.disk().stats().add_read(run.end - run.start);
                let request = ReadRequest::new(run.start, &mut *buffer);
                reads.push(FileRead { file, request });
            }
        }
        self.file_reads.fetch_add(reads.len() as u64, Ordering::Relaxed);
        self.storage.read_files(&mut reads);
        reads.into_iter().map(|read| read.request.result.is_ok()).collect()
    }
}

fn still_current<K: Key>(generation: &Generation, item: &ColdItem<K>, want: &Want) -> bool {
    let lane = generation.lane(item.hash);
    generation.index.unchanged(item.hash, &item.candidates)
        && read::segment_at(lane, want.location)
            .is_some_and(|(now, _)| Arc::ptr_eq(&now, &want.segment))
}

/// Merges sorted wants into reads.
pub(in crate::diskmap) fn runs(wants: &[Want], segment_bytes: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (number, want) in wants.iter().enumerate() {
        let start = want.place.offset_bytes();
        let end = (start + GUESS_BYTES as u64).min(segment_bytes);
        if let Some(run) = runs.last_mut()
            && Arc::ptr_eq(&run.segment, &want.segment)
            && start <= run.end + GAP_BYTES
            && end - run.start <= RUN_BYTES
        {
            run.end = run.end.max(end);
            run.wants.end = number + 1;
        } else {
            let segment = Arc::clone(&want.segment);
            runs.push(Run { segment, start, end, wants: number..number + 1 });
        }
    }
    runs
}
