//! The memory of a batch, and probing its keys.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use super::CHUNK;
use crate::diskmap::generation::Generation;
use crate::diskmap::key::Key;
use crate::diskmap::read;
use crate::hash::keyed::KeyHash;
use crate::index::{Candidates, Purpose};

/// What is known of up to `CHUNK` keys. Reused from chunk to chunk.
#[derive(Default)]
pub(in crate::diskmap) struct Pipeline {
    pub(in crate::diskmap) hashes: Vec<KeyHash>,
    pub(in crate::diskmap) candidates: Vec<Candidates>,
}

impl Pipeline {
    /// Probes up to `CHUNK` keys, and starts to bring the records that candidates point to near.
    pub(in crate::diskmap) fn probe<K: Key>(
        &mut self,
        generation: &Generation,
        keys: &[K],
        purpose: Purpose,
    ) {
        debug_assert!(keys.len() <= CHUNK);
        self.hashes.clear();
        self.hashes.extend(keys.iter().map(|key| key.hash(&generation.hasher)));
        self.candidates.clear();
        self.candidates.reserve(keys.len());
        let Self { hashes, candidates } = self;
        generation.index.probe_many(hashes, purpose, |position, found| {
            if let Some(location) = found.iter().next() {
                read::prefetch(generation.lane(hashes[position]), location);
                if purpose == Purpose::Lookup {
                    generation.index.prefetch_subtree_index(hashes[position]);
                }
            }
            candidates.push(found);
        });
    }
}

/// An absent key of a chunk: its number there, and the units of its record.
pub(super) type Absent = (usize, u32);

/// Where keys to be inserted are sorted by lane.
#[derive(Default)]
pub(super) struct Room {
    pub(super) by_lane: Vec<Vec<Absent>>,
    pub(super) records: RecordRoom,
}

/// Where the records of a lane are put together.
#[derive(Default)]
pub(super) struct RecordRoom {
    pub(super) units: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

/// All of a batch's memory.
#[derive(Default)]
pub(in crate::diskmap) struct Memory {
    pub(in crate::diskmap) pipeline: Pipeline,
    pub(super) room: Room,
}

thread_local! {
    /// The memory of this thread's last batch, for the next one: allocating it again would take a
    /// batch of 256 keys a twentieth of its time.
    static LAST: Cell<Memory> = const { Cell::new(Memory::EMPTY) };
}

/// Of the bytes of records no more than this are kept for the next batch.
const KEPT_BYTES: usize = 64 << 10;

impl Memory {
    const EMPTY: Self = Self {
        pipeline: Pipeline { hashes: Vec::new(), candidates: Vec::new() },
        room: Room {
            by_lane: Vec::new(),
            records: RecordRoom { units: Vec::new(), bytes: Vec::new() },
        },
    };
}

/// The memory of a batch while it runs. A batch within a batch has its own.
pub(in crate::diskmap) struct BatchMemory(Memory);

impl BatchMemory {
    pub(in crate::diskmap) fn take() -> Self {
        // While a thread ends there is none to be had, and none is kept.
        Self(LAST.try_with(Cell::take).unwrap_or_default())
    }
}

impl Deref for BatchMemory {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.0
    }
}

impl DerefMut for BatchMemory {
    fn deref_mut(&mut self) -> &mut Memory {
        &mut self.0
    }
}

impl Drop for BatchMemory {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        let records = &mut memory.room.records;
        records.bytes.clear();
        records.bytes.shrink_to(KEPT_BYTES);
        let _ = LAST.try_with(|last| last.set(memory));
    }
}
