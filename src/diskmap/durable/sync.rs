//! Making everything acknowledged durable, and what may go once it is.
//!
//! ```text
//!   flush -> writes done -> fdatasync of the segments -> manifests -> unlink what they leave out
//! ```
//!
//! One sync runs at a time; whoever waits for it shares the next one. An error of it fails the map:
//! after a failed fdatasync nobody knows what the file holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::manifest::{Entry, Identity, Manifest};
use super::recovery::{Recovery, parse_name};
use super::summary;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::log::flush::End;
use crate::diskmap::log::lane::Lane;
use crate::diskmap::log::segment::Segment;
use crate::diskmap::{DiskMap, Wait};
use crate::storage::Storage;
use crate::{Error, Result};

/// What a durable map has beside an ephemeral one.
#[derive(Debug)]
pub(in crate::diskmap) struct Durable {
    pub(in crate::diskmap) identity: Identity,
    /// Of each directory.
    weights: Vec<u64>,
    pub(in crate::diskmap) recovery: Recovery,
    /// The ring that manifests name, 0 for none.
    ring: AtomicU64,
    /// Held by the sync that runs.
    pub(in crate::diskmap) state: Mutex<SyncState>,
    /// Syncs that have begun.
    begun: AtomicU64,
}

#[derive(Debug)]
pub(in crate::diskmap) struct SyncState {
    /// The manifests' revision.
    pub(in crate::diskmap) revision: u64,
    /// The last sync that completed, by its number.
    completed: u64,
}

impl Durable {
    pub(in crate::diskmap) fn new(
        identity: Identity,
        weights: Vec<u64>,
        revision: u64,
        recovery: Recovery,
        ring: u64,
    ) -> Self {
        let state = Mutex::new(SyncState { revision, completed: 0 });
        let (ring, begun) = (AtomicU64::new(ring), AtomicU64::new(0));
        Self { identity, weights, recovery, ring, state, begun }
    }

    pub(in crate::diskmap) fn manifest(
        &self,
        position: usize,
        generation: u64,
        revision: u64,
        end: End,
        entries: Vec<Entry>,
    ) -> Manifest {
        Manifest {
            identity: self.identity,
            position: position as u32,
            weight: self.weights[position],
            generation,
            revision,
            open_from: end.incarnation,
            ring: self.ring.load(Ordering::Acquire),
            entries,
        }
    }
}

/// A lane in the course of a sync.
struct LaneSync {
    /// Segments without a live record when the sync began: what supersedes theirs is durable when
    /// it ends.
    spent: Vec<Arc<Segment>>,
    end: End,
}

impl<K: Key> DiskMap<K> {
    /// Makes everything acknowledged so far survive a power cut. `wait` as for
    /// [`DiskMap::flush_wait`]; the fdatasync itself is always waited for.
    ///
    /// # Errors
    /// `Unsupported` for an ephemeral map, `WouldBlock`, `TimedOut`; any other fails the map.
    pub fn sync(&self, wait: Wait) -> Result<()> {
        let Some(durable) = &self.durable else {
            let text =
                "sync of an ephemeral map; open it with txMapDurability = durable or process";
            return Err(Error::Unsupported(text.to_owned()));
        };
        self.shared.failure.check()?;
        // A sync that begins from here on covers what was acknowledged before the call.
        let needed = durable.begun.load(Ordering::SeqCst);
        let mut state = if wait == Wait::Allowed {
            durable.state.lock()
        } else {
            durable.state.try_lock().ok_or(Error::WouldBlock("another sync is under way"))?
        };
        if state.completed > needed {
            return self.shared.failure.check();
        }
        let number = durable.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = self.generation.load_full();
        let lanes = self.flush_lanes(&generation, wait)?;
        self.sync_lanes(durable, &generation, &lanes, state.revision + 1)
            .inspect_err(|error| tracing::error!(%error, "a sync failed; the map takes no writes"))
            .map_err(|error| self.fail(error))?;
        state.revision += 1;
        state.completed = number;
        Ok(())
    }

    pub(in crate::diskmap) fn fail(&self, error: Error) -> Error {
        self.shared.failure.set(error);
        self.shared.tail.halt();
        self.shared.failure.check().err().unwrap_or(Error::Closed("map"))
    }

    /// Writes out what is acknowledged. Nothing is changed if it would have to wait.
    fn flush_lanes(&self, generation: &Generation, wait: Wait) -> Result<Vec<LaneSync>> {
        let mut lanes = Vec::with_capacity(generation.lanes.len());
        for lane in &generation.lanes {
            // First: what superseded these records was reserved before, so the flush covers it.
            let spent = lane.retired();
            let end = lane.flush_to(wait == Wait::Allowed);
            let end = end.ok_or(Error::WouldBlock("a long value is being appended"))?;
            lanes.push(LaneSync { spent, end });
        }
        generation.waiting.submit_all();
        let ticket = self.shared.ticket();
        let timeout = self.options(wait, false).timeout;
        self.shared.wait_for_writes(ticket, timeout.map(|timeout| Instant::now() + timeout))?;
        Ok(lanes)
    }

    fn sync_lanes(
        &self,
        durable: &Durable,
        generation: &Arc<Generation>,
        lanes: &[LaneSync],
        revision: u64,
    ) -> Result<()> {
        let storage = self.storage.as_ref();
        for (position, (lane, sync)) in generation.lanes.iter().zip(lanes).enumerate() {
            let mut segments = lane.kept_segments();
            segments.retain(|segment| segment.incarnation <= sync.end.incarnation);
            for segment in &segments {
                segment.sync()?;
            }
            let (kept, released) = release(segments, &sync.spent);
            let entries = kept.iter().filter_map(|segment| entry(lane, segment, sync.end));
            let number = lane.factory().generation;
            durable
                .manifest(position, number, revision, sync.end, entries.collect())
                .write(storage, self.directories[position].path())?;
            lane.forget_retired(&released);
            for segment in released {
                // Left out of the manifest, it goes sooner or later.
                segment.mark_dead();
                if let Err(error) = storage.remove_file(segment.path()) {
                    tracing::debug!(%error, "a segment is left for the next opening to remove");
                }
                let _ = storage.remove_file(&summary::path(segment.path()));
            }
            self.summarize(generation, position, &kept, sync.end);
        }
        // Compaction may have waited for what went.
        self.shared.ring_again();
        Ok(())
    }

    /// Has summaries made of the segments to which nothing is appended any more, on the writer
    /// thread of their disk. What goes wrong there costs time at the next opening, nothing else.
    fn summarize(
        &self,
        generation: &Arc<Generation>,
        position: usize,
        segments: &[Arc<Segment>],
        end: End,
    ) {
        let lane = &generation.lanes[position];
        for segment in segments {
            let entry = entry(lane, segment, end).filter(|entry| entry.complete);
            let Some(entry) = entry.filter(|_| segment.mark_summarized()) else { continue };
            let (generation, segment) = (Arc::clone(generation), Arc::clone(segment));
            let storage = Arc::clone(&self.storage);
            lane.disk().submit(Box::new(move || {
                let factory = generation.lanes[position].factory();
                let hash = |key: &[u8]| K::from_bytes(key).map(|key| key.hash(&generation.hasher));
                let end_units = entry.end_units;
                let storage = storage.as_ref();
                let done = summary::write(storage, factory, &segment, end_units, &hash);
                if let Err(error) = &done {
                    tracing::warn!(%error, "a segment has no summary; reopening will read it");
                }
                if done.is_err() || segment.is_dead() {
                    let _ = storage.remove_file(&summary::path(segment.path()));
                }
            }));
        }
    }

    /// Of a map that is being closed: what each lane appended to last is complete, too.
    pub(in crate::diskmap) fn close_segments(&self) -> Result<()> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let generation = self.generation.load_full();
        for lane in &generation.lanes {
            let end = lane.flush_to(true).unwrap_or(End { incarnation: 0, units: 0 });
            for segment in lane.kept_segments() {
                if segment.incarnation == end.incarnation && end.units > 0 {
                    segment.set_end(end.units);
                }
            }
        }
        let mut state = durable.state.lock();
        let lanes = self.flush_lanes(&generation, Wait::Allowed)?;
        // All of it is in the files now, and nothing is added any more.
        durable.ring.store(0, Ordering::Release);
        self.sync_lanes(durable, &generation, &lanes, state.revision + 1)?;
        state.revision += 1;
        if let Some(table) = self.shared.tail.table() {
            table.remove();
        }
        Ok(())
    }

    /// Makes an empty generation the one in force, durably. No sync runs until the result is
    /// dropped.
    pub(in crate::diskmap) fn sync_generation<'a>(
        &self,
        durable: &'a Durable,
        number: u64,
    ) -> Result<MutexGuard<'a, SyncState>> {
        let mut state = durable.state.lock();
        let end = End { incarnation: 0, units: 0 };
        for (position, directory) in self.directories.iter().enumerate() {
            durable
                .manifest(position, number, state.revision + 1, end, Vec::new())
                .write(self.storage.as_ref(), directory.path())?;
        }
        state.revision += 1;
        Ok(state)
    }

    /// What opening this durable map found; none for an ephemeral one.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        self.durable.as_ref().map(|durable| durable.recovery)
    }
}

/// Parts segments, by ascending incarnation, into those to keep and those whose records were all
/// superseded durably. Tombstones rule over what was superseded in older segments: theirs stays
/// while there is such a one (docs/design.md, C8).
fn release(
    segments: Vec<Arc<Segment>>,
    spent: &[Arc<Segment>],
) -> (Vec<Arc<Segment>>, Vec<Arc<Segment>>) {
    let (mut kept, mut released) = (Vec::new(), Vec::new());
    let mut is_needed = false;
    for segment in segments {
        let is_spent = spent.iter().any(|spent| Arc::ptr_eq(spent, &segment));
        if is_spent && !(is_needed && segment.has_tombstones()) {
            released.push(segment);
        } else {
            is_needed |= segment.has_superseded();
            kept.push(segment);
        }
    }
    (kept, released)
}

fn entry(lane: &Lane, segment: &Segment, end: End) -> Option<Entry> {
    let incarnation = segment.incarnation;
    if let Some(end_units) = segment.end() {
        return Some(Entry { incarnation, end_units, complete: true });
    }
    if incarnation == end.incarnation {
        let entry = Entry { incarnation, end_units: end.units, complete: false };
        return Some(entry).filter(|entry| entry.end_units > 0);
    }
    let end_units = (lane.segment_bytes() / crate::diskmap::log::record::UNIT_BYTES as u64) as u32;
    Some(Entry { incarnation, end_units, complete: true })
}

/// Removes what is in a durable map's directory and not part of it: segments of generations before
/// `generation`, and `files`.
pub(in crate::diskmap) fn remove_leftovers(
    storage: &dyn Storage,
    directory: &std::path::Path,
    generation: u64,
    files: Vec<PathBuf>,
) -> Result<()> {
    let old = storage.read_dir(directory)?.into_iter().filter(|path| {
        parse_name(path).is_some_and(|(_, of_generation, _)| of_generation < generation)
    });
    for path in old.chain(files) {
        storage.remove_file(&path)?;
        // Mostly there is none.
        let _ = storage.remove_file(&summary::path(&path));
    }
    Ok(())
}
