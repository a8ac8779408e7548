//! Segments: the preallocated files of a lane, and the table that finds them by location.
//!
//! A location is a byte offset / 16 in the address space of its lane: segment slot, then offset. A
//! slot is reused when its segment is gone; the incarnation of a segment never is.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::record::UNIT_BYTES;
use super::tail::BlockRef;
use super::walk::Extent;
use crate::diskmap::space::{FileSpace, Space};
use crate::index::Location;
use crate::runtime::Disk;
use crate::storage::{CreateOptions, Storage, StorageFile};
use crate::{Error, Result};

/// Bytes at the start of a segment that are not records.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"BTSEGMNT";
/// Version of segments that die with their map, and of those that are reopened.
const VERSION: u32 = 1;
const VERSION_DURABLE: u32 = 2;
/// Segments that a lane can hold at once.
const SLOTS_MAX: usize = CHUNKS * CHUNK_SLOTS;
const CHUNKS: usize = 256;
const CHUNK_SLOTS: usize = 256;

/// One file of a lane. It exists from its first written block to the drop of the last reference.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) slot: u32,
    pub(crate) incarnation: u64,
    /// Mixed into the CRC of each record: store id and incarnation.
    pub(crate) seed: u32,
    path: PathBuf,
    bytes: u64,
    direct: bool,
    disk: Arc<Disk>,
    storage: Arc<dyn Storage>,
    space: FileSpace,
    file: OnceLock<Box<dyn StorageFile>>,
    dead: AtomicBool,
    /// Blocks whose every byte is in the file.
    written_blocks: AtomicU32,
    /// Once sealed: the blocks that were opened. `u32::MAX` before.
    sealed_blocks: AtomicU32,
    /// Compaction has no more to do with it: all that was live was moved, or it is damaged.
    left_alone: AtomicBool,
    read_errors: AtomicU32,
    /// The file outlives the segment's last reference.
    keep: Arc<AtomicBool>,
    /// Bytes were written since the last sync.
    unsynced: AtomicBool,
    /// Held while it is synced; true once that has failed.
    sync_failed: Mutex<bool>,
    /// Durable maps: it has tombstones, which rule over records of older segments.
    has_tombstones: AtomicBool,
    /// Durable maps: it has a put or a commit that is not its key's newest record any more.
    has_superseded: AtomicBool,
    /// Where its records end, in units, if an earlier process wrote it.
    end: OnceLock<u32>,
    /// It has a summary beside it, or is about to.
    summarized: AtomicBool,
}

/// What a lane needs to make segments.
#[derive(Debug)]
pub(crate) struct SegmentFactory {
    pub(crate) directory: PathBuf,
    pub(crate) lane: u32,
    pub(crate) store_id: u64,
    pub(crate) generation: u64,
    pub(crate) key_bytes: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) location_bits: u32,
    pub(crate) direct: bool,
    pub(crate) disk: Arc<Disk>,
    pub(crate) space: Arc<Space>,
    pub(crate) storage: Arc<dyn Storage>,
    /// The map is reopened: its files say everything (docs/design.md, "Persistence").
    pub(crate) durable: bool,
    /// While this is set, files stay when their segments go.
    pub(crate) keep: Arc<AtomicBool>,
}

impl SegmentFactory {
    pub(crate) fn make(&self, slot: u32, incarnation: u64) -> Segment {
        let identity = [self.store_id, self.generation, u64::from(self.lane), incarnation];
        let seed =
            identity.iter().fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()));
        let name = format!("{:03}-{:04}-{:08}.seg", self.lane, self.generation, incarnation);
        Segment {
            slot,
            incarnation,
            seed,
            path: self.directory.join(name),
            bytes: self.segment_bytes,
            direct: self.direct,
            disk: Arc::clone(&self.disk),
            storage: Arc::clone(&self.storage),
            space: self.space.of_file(self.segment_bytes),
            file: OnceLock::new(),
            dead: AtomicBool::new(false),
            written_blocks: AtomicU32::new(0),
            sealed_blocks: AtomicU32::new(u32::MAX),
            left_alone: AtomicBool::new(false),
            read_errors: AtomicU32::new(0),
            keep: Arc::clone(&self.keep),
            unsynced: AtomicBool::new(false),
            sync_failed: Mutex::new(false),
            has_tombstones: AtomicBool::new(false),
            has_superseded: AtomicBool::new(false),
            end: OnceLock::new(),
            summarized: AtomicBool::new(false),
        }
    }

    /// The error for a segment that none of `slots` is left for.
    pub(crate) fn full(&self, slots: u32) -> Error {
        let reason = format!(
            "the map is full: a directory has room for {slots} segments of {} bytes, and all hold \
             live records; delete entries in time, or make the map with a larger txMapSegment or \
             more directories",
            self.segment_bytes
        );
        Error::DiskFull {
            path: self.directory.clone(),
            needed: self.segment_bytes,
            source: std::io::Error::other(reason),
        }
    }

    /// A segment of an earlier process, complete in `file`.
    pub(crate) fn reopen(
        &self,
        slot: u32,
        incarnation: u64,
        file: Box<dyn StorageFile>,
    ) -> Segment {
        let segment = self.make(slot, incarnation);
        let _ = segment.file.set(file);
        segment.space.occupied();
        segment
    }

    /// The header of a segment; docs/format.md draws it.
    pub(crate) fn header(&self, segment: &Segment) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        let version = if self.durable { VERSION_DURABLE } else { VERSION };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&self.key_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.store_id.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.lane).to_le_bytes());
        bytes.extend_from_slice(&segment.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        // Base sequence number: records of this segment count from here.
        bytes.extend_from_slice(&self.base_seq(segment).to_le_bytes());
        bytes.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Sequence numbers follow the order of reservation within a lane: incarnation, then offset.
    fn base_seq(&self, segment: &Segment) -> u64 {
        self.seq(segment.incarnation, 0)
    }

    /// The sequence number of a record.
    pub(crate) const fn seq(&self, incarnation: u64, unit_in_segment: u32) -> u64 {
        let base = incarnation.saturating_mul(self.segment_bytes / UNIT_BYTES as u64);
        base.saturating_add(unit_in_segment as u64)
    }
}

impl Segment {
    /// The file, made if this is its first write. Called by the directory's writer thread alone.
    pub(crate) fn file_for_write(&self) -> Result<&dyn StorageFile> {
        if self.file.get().is_none() {
            let options = CreateOptions { allocate_bytes: self.bytes, direct: self.direct };
            let directory = self.path.parent().unwrap_or(&self.path);
            self.space.take(directory, self.storage.as_ref())?;
            let file = self.storage.create(&self.path, &options)?;
            let _ = self.file.set(file);
        }
        self.file().ok_or(Error::Closed("segment"))
    }

    /// Records will be in it: room for its file is spoken for.
    pub(crate) fn expect_file(&self) {
        self.space.expect();
    }

    /// The file, if any block has been written.
    pub(crate) fn file(&self) -> Option<&dyn StorageFile> {
        self.file.get().map(AsRef::as_ref)
    }

    pub(crate) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    pub(crate) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The last write of a block is done. True if that makes the segment complete.
    pub(crate) fn block_written(&self) -> bool {
        let written = self.written_blocks.fetch_add(1, Ordering::SeqCst) + 1;
        written == self.sealed_blocks.load(Ordering::SeqCst)
    }

    /// No block is opened any more. True if that makes the segment complete.
    fn seal(&self, opened_blocks: u32) -> bool {
        self.sealed_blocks.store(opened_blocks, Ordering::SeqCst);
        self.is_complete()
    }

    /// Sealed, and all of it in the file. Stays so.
    pub(crate) fn is_complete(&self) -> bool {
        self.written_blocks.load(Ordering::SeqCst) == self.sealed_blocks.load(Ordering::SeqCst)
    }

    /// Compaction does not look at it from now on.
    pub(crate) fn leave_alone(&self) {
        self.left_alone.store(true, Ordering::Release);
    }

    pub(crate) fn is_left_alone(&self) -> bool {
        self.left_alone.load(Ordering::Acquire)
    }

    /// Counts an error of reading it for compaction.
    pub(crate) fn count_read_error(&self) -> u32 {
        self.read_errors.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Where the records of a reopened segment end, in units.
    pub(crate) fn end(&self) -> Option<u32> {
        self.end.get().copied()
    }

    pub(crate) fn set_end(&self, units: u32) {
        let _ = self.end.set(units);
    }

    /// True at the first call: whoever gets that makes the summary.
    pub(crate) fn mark_summarized(&self) -> bool {
        !self.summarized.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn mark_tombstones(&self) {
        self.has_tombstones.store(true, Ordering::Release);
    }

    pub(crate) fn has_tombstones(&self) -> bool {
        self.has_tombstones.load(Ordering::Acquire)
    }

    pub(crate) fn mark_superseded(&self) {
        // Mostly it is known.
        if !self.has_superseded() {
            self.has_superseded.store(true, Ordering::Release);
        }
    }

    pub(crate) fn has_superseded(&self) -> bool {
        self.has_superseded.load(Ordering::Acquire)
    }

    /// Bytes were written: the next sync has something to do.
    pub(crate) fn mark_unsynced(&self) {
        self.unsynced.store(true, Ordering::Release);
    }

    /// Makes what was written so far durable. Once that has failed it always does.
    pub(crate) fn sync(&self) -> Result<()> {
        // Who finds it clean must not go on before the one who cleans it is done.
        let mut failed = self.sync_failed.lock();
        if *failed {
            let source = std::io::Error::other("an earlier sync of the file has failed");
            return Err(Error::io("sync", &self.path, None, source));
        }
        // What is written from here on marks it again.
        if self.unsynced.swap(false, Ordering::AcqRel)
            && let Some(file) = self.file()
        {
            file.sync_data().inspect_err(|_| *failed = true)?;
        }
        Ok(())
    }

    /// Makes a complete segment durable, its name too.
    pub(crate) fn sync_complete(&self) -> Result<()> {
        self.sync()?;
        self.storage.sync_dir(self.path.parent().unwrap_or(&self.path))
    }

    /// Nothing in it is wanted any more: blocks that still wait need not be written.
    pub(crate) fn mark_dead(&self) {
        self.dead.store(true, Ordering::Release);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.file.take().is_some() && !self.keep.load(Ordering::Acquire) {
            let (storage, path) = (Arc::clone(&self.storage), std::mem::take(&mut self.path));
            let summarized = self.summarized.load(Ordering::Acquire);
            let space = self.space.leave();
            // Unlinking a large file takes milliseconds; whoever drops the last reference need not
            // wait for it.
            self.disk.submit(Box::new(move || {
                if let Err(error) = storage.remove_file(&path) {
                    tracing::debug!(%error, "segment was gone already");
                }
                if summarized {
                    let _ = storage.remove_file(&path.with_extension("sum"));
                }
                drop(space);
            }));
        }
    }
}

/// What a lane knows of one slot.
#[derive(Debug)]
pub(crate) struct SlotEntry {
    /// The segment, while the slot is in use.
    pub(crate) segment: ArcSwapOption<Segment>,
    /// For each block, the buffer it is (or was last) in.
    blocks: OnceLock<Box<[AtomicU64]>>,
    /// For each block that was closed, the units that were reserved in it.
    used_in_blocks: OnceLock<Box<[AtomicU32]>>,
    /// Parts in which a long record was begun and not finished.
    gaps: Mutex<Vec<Range<u32>>>,
    opened_blocks: AtomicU32,
    /// Units of its closed blocks, but for what fills the last one's end.
    used_units: AtomicU64,
    /// Units, of open blocks too, that are header, padding or records that nobody wants any more.
    dead_units: AtomicU64,
    /// Blocks that are open or not completely committed.
    unfinished_blocks: AtomicU32,
    sealed: AtomicBool,
}

/// The slots of a lane, made in chunks as they are needed and kept until the lane goes.
#[derive(Debug)]
pub(crate) struct SlotTable {
    chunks: Box<[OnceLock<Box<[SlotEntry]>>]>,
    blocks_per_segment: usize,
    slot_shift: u32,
    block_shift: u32,
    slots_max: u32,
}

/// A location taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: u32,
    /// Block in the segment.
    pub(crate) block: usize,
    /// Unit in the block.
    pub(crate) unit_in_block: u32,
    /// Unit in the segment.
    pub(crate) unit_in_segment: u32,
}

impl Place {
    pub(crate) const fn offset_bytes(self) -> u64 {
        self.unit_in_segment as u64 * UNIT_BYTES as u64
    }
}

impl SlotTable {
    /// For locations of `location_bits` bits.
    pub(crate) fn new(segment_bytes: u64, block_bytes: usize, location_bits: u32) -> Self {
        debug_assert!(segment_bytes.is_power_of_two() && block_bytes.is_power_of_two());
        let slot_shift = (segment_bytes / UNIT_BYTES as u64).trailing_zeros();
        let slots = 1u64.checked_shl(location_bits.saturating_sub(slot_shift));
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            blocks_per_segment: segment_bytes as usize / block_bytes,
            slot_shift,
            block_shift: (block_bytes / UNIT_BYTES).trailing_zeros(),
            slots_max: slots.unwrap_or(u64::MAX).min(SLOTS_MAX as u64) as u32,
        }
    }

    /// Segments that there can be at a time: as many as locations tell apart, or the table holds.
    pub(crate) const fn slots_max(&self) -> u32 {
        self.slots_max
    }

    /// How many more there can be just now.
    pub(crate) fn slots_left(&self) -> u64 {
        u64::from(self.slots_max).saturating_sub(self.segments().count() as u64)
    }

    pub(crate) const fn blocks_per_segment(&self) -> usize {
        self.blocks_per_segment
    }

    pub(crate) const fn place(&self, location: Location) -> Place {
        self.place_of_units(location.units())
    }

    pub(crate) const fn place_of_units(&self, units: u64) -> Place {
        let unit_in_segment = (units & ((1 << self.slot_shift) - 1)) as u32;
        Place {
            slot: (units >> self.slot_shift) as u32,
            block: (unit_in_segment >> self.block_shift) as usize,
            unit_in_block: unit_in_segment & ((1 << self.block_shift) - 1),
            unit_in_segment,
        }
    }

    pub(crate) const fn base_units(&self, slot: u32, block: usize) -> u64 {
        ((slot as u64) << self.slot_shift) + ((block as u64) << self.block_shift)
    }

    pub(crate) fn entry(&self, slot: u32) -> Option<&SlotEntry> {
        let chunk = self.chunks.get(slot as usize / CHUNK_SLOTS)?.get()?;
        chunk.get(slot as usize % CHUNK_SLOTS)
    }

    /// The entry of a slot that is about to be used.
    fn entry_or_new(&self, slot: u32) -> Option<&SlotEntry> {
        let chunk = self.chunks.get(slot as usize / CHUNK_SLOTS)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK_SLOTS).map(|_| SlotEntry::new()).collect());
        chunk.get(slot as usize % CHUNK_SLOTS)
    }

    /// Puts a new segment into its slot.
    pub(crate) fn occupy(&self, segment: Arc<Segment>) -> bool {
        let Some(entry) = self.entry_or_new(segment.slot) else { return false };
        entry
            .blocks
            .get_or_init(|| (0..self.blocks_per_segment).map(|_| AtomicU64::new(0)).collect());
        let used = entry
            .used_in_blocks
            .get_or_init(|| (0..self.blocks_per_segment).map(|_| AtomicU32::new(0)).collect());
        for word in used {
            word.store(0, Ordering::Relaxed);
        }
        entry.gaps.lock().clear();
        entry.opened_blocks.store(0, Ordering::Relaxed);
        entry.used_units.store(0, Ordering::Relaxed);
        entry.dead_units.store(0, Ordering::Relaxed);
        entry.unfinished_blocks.store(0, Ordering::Relaxed);
        entry.sealed.store(false, Ordering::Relaxed);
        entry.segment.store(Some(segment));
        true
    }

    /// The segments in use.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (&SlotEntry, Arc<Segment>)> {
        self.chunks
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|chunk| chunk.iter())
            .filter_map(|entry| entry.segment.load_full().map(|segment| (entry, segment)))
    }
}

impl SlotEntry {
    fn new() -> Self {
        Self {
            segment: ArcSwapOption::empty(),
            blocks: OnceLock::new(),
            used_in_blocks: OnceLock::new(),
            gaps: Mutex::default(),
            opened_blocks: AtomicU32::new(0),
            used_units: AtomicU64::new(0),
            dead_units: AtomicU64::new(0),
            unfinished_blocks: AtomicU32::new(0),
            sealed: AtomicBool::new(false),
        }
    }

    /// Where block `block` is or was in RAM.
    pub(crate) fn block(&self, block: usize) -> Option<BlockRef> {
        BlockRef::from_word(self.blocks.get()?.get(block)?.load(Ordering::Acquire))
    }

    pub(crate) fn set_block(&self, block: usize, reference: BlockRef) {
        if let Some(word) = self.blocks.get().and_then(|blocks| blocks.get(block)) {
            word.store(reference.word(), Ordering::Release);
        }
    }

    pub(crate) fn block_opened(&self) {
        self.opened_blocks.fetch_add(1, Ordering::Relaxed);
        self.unfinished_blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// All of a block is committed.
    pub(crate) fn block_finished(&self) {
        self.unfinished_blocks.fetch_sub(1, Ordering::AcqRel);
    }

    /// No block of `segment`, which is in this slot, is opened any more. True if it is complete.
    pub(crate) fn seal(&self, segment: &Segment) -> bool {
        self.sealed.store(true, Ordering::Release);
        segment.seal(self.opened_blocks.load(Ordering::Relaxed))
    }

    /// A block with these units is about to be closed. Counting by block keeps reservations from
    /// meeting on one more word.
    pub(crate) fn add_used(&self, block: usize, units: u32) {
        if let Some(word) = self.used_in_blocks.get().and_then(|used| used.get(block)) {
            word.store(units, Ordering::Release);
        }
        self.used_units.fetch_add(u64::from(units), Ordering::AcqRel);
    }

    /// True each time that a 64th more of a segment of `segment_units` has died.
    pub(crate) fn add_dead(&self, units: u32, segment_units: u64) -> bool {
        let before = self.dead_units.fetch_add(u64::from(units), Ordering::AcqRel);
        let shift = segment_units.trailing_zeros() - 6;
        before >> shift != (before + u64::from(units)) >> shift
    }

    /// Units of the header, of padding and of dead records, and of all that was reserved in closed
    /// blocks.
    pub(crate) fn dead_and_used_units(&self) -> (u64, u64) {
        let dead = self.dead_units.load(Ordering::Acquire);
        (dead, self.used_units.load(Ordering::Acquire))
    }

    /// A long record was begun here and not finished; its bytes are no record.
    pub(crate) fn add_gap(&self, units: Range<u32>) {
        self.gaps.lock().push(units);
    }

    /// What of `segment`, which is in this slot, holds records; `None` until it is complete: sealed
    /// and all of it in its file. Nothing of it changes from then on. Not for durable maps, whose
    /// segments have no holes.
    pub(crate) fn extent(&self, segment: &Segment) -> Option<Extent> {
        if !self.is_finished(segment) {
            return None;
        }
        let used = self.used_in_blocks.get()?;
        let used_units = used.iter().map(|word| word.load(Ordering::Acquire)).collect();
        Some(Extent { used_units, gaps: self.gaps.lock().clone() })
    }

    /// Whether `segment`, which is in this slot, is complete.
    pub(crate) fn is_finished(&self, segment: &Segment) -> bool {
        segment.is_complete() && self.unfinished_blocks.load(Ordering::Acquire) == 0
    }

    /// Bytes of dead records and padding.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let (dead, _) = self.dead_and_used_units();
        (dead * UNIT_BYTES as u64).saturating_sub(SEGMENT_HEADER_BYTES as u64)
    }

    /// Units of records in use, plus `open_units` of a block that is not closed yet.
    pub(crate) fn live_units(&self, open_units: u32) -> u64 {
        let dead = self.dead_units.load(Ordering::Acquire);
        let used = self.used_units.load(Ordering::Acquire) + u64::from(open_units);
        used.saturating_sub(dead)
    }

    /// For a reopened segment: all of it is closed and in the file, `used` units, of which `dead`
    /// nobody wants.
    pub(crate) fn reopened(&self, segment: &Segment, used: u64, dead: u64) {
        self.used_units.store(used, Ordering::Relaxed);
        self.dead_units.store(dead, Ordering::Relaxed);
        self.seal(segment);
    }

    /// True once nothing in the segment is live and nothing can become so.
    ///
    /// The order of the loads matters: after `sealed` no block is opened, after the last block is
    /// finished all that was reserved has been counted as used, and from then on only the dead
    /// units grow. To act on it, ask again under the lock that guards the reuse of slots.
    pub(crate) fn is_spent(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
            && self.unfinished_blocks.load(Ordering::Acquire) == 0
            && self.used_units.load(Ordering::Acquire) == self.dead_units.load(Ordering::Acquire)
    }
}
