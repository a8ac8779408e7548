//! The tail: a ring of block buffers in RAM, shared by the lanes of a map.
//!
//! A buffer is free, open (a lane appends to it), waiting for its writer, or written. Written
//! buffers keep serving reads until they are needed: they queue up behind the free ones, so the
//! block that was written first is given up first.
//!
//! Threads: buffers are arrays of atomics. Bytes of a record are stored relaxed by the thread that
//! reserved them, before the record is published, and do not change afterwards. A reader copies
//! relaxed and then checks that the buffer still holds the block it looked for (a sequence lock
//! whose word is the block's id), so a reader never waits, and a buffer never waits for readers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::record::UNIT_BYTES;
use super::stream;
use crate::Result;
use crate::diskmap::ring::Table;
use crate::memory::MemoryReserve;
use crate::storage::mapping::Mapping;

/// Bits of a block reference that hold the buffer's number; the rest is the block's id.
const BUFFER_BITS: u32 = 20;

/// Which block is (or was) in which buffer: what a segment remembers of each of its blocks. 0 is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRef(u64);

impl BlockRef {
    pub(crate) const fn from_word(word: u64) -> Option<Self> {
        if word == 0 { None } else { Some(Self(word)) }
    }

    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    pub(crate) const fn buffer(self) -> u32 {
        (self.0 & ((1 << BUFFER_BITS) - 1)) as u32
    }

    const fn id(self) -> u64 {
        self.0 >> BUFFER_BITS
    }
}

/// A word that many threads change, apart from what they only read: otherwise every change takes
/// the cache line with both away from all others.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct OwnLine<T>(pub(crate) T);

impl<T> std::ops::Deref for OwnLine<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What is known about the block in a buffer. Stable while a reservation in it is uncommitted.
#[derive(Debug)]
pub(crate) struct BufferState {
    /// Id of the block held, 0 while the buffer changes hands.
    id: AtomicU64,
    /// Location, in units, of the block's first byte.
    pub(crate) base_units: AtomicU64,
    /// CRC seed of the block's segment.
    pub(crate) segment_seed: AtomicU32,
    /// Committed units (low half) and, once the block is closed, the units to commit (high half).
    pub(crate) progress: OwnLine<AtomicU64>,
    /// Bytes from the block's start that were handed to the writer. Changed under the lane's roll
    /// lock only.
    pub(crate) submitted_bytes: AtomicU32,
}

#[derive(Debug)]
struct Free {
    queue: VecDeque<u32>,
    /// The map stopped taking writes; nobody waits any more.
    halted: bool,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Tail {
    memory: Mapping,
    block_bytes: usize,
    buffers: Box<[BufferState]>,
    free: Mutex<Free>,
    space: Condvar,
    next_id: AtomicU64,
    waits: AtomicU64,
    /// Threads that wait for space.
    waiters: AtomicU32,
    reserve: Arc<dyn MemoryReserve>,
    /// What the buffers hold, where they are a ring that outlives the process.
    table: Option<Table>,
}

impl Tail {
    /// A ring whose memory `map` supplies, so many bytes of it, all zero.
    pub(crate) fn with_memory(
        buffer_count: u32,
        block_bytes: usize,
        reserve: Arc<dyn MemoryReserve>,
        map: impl FnOnce(u64) -> Result<(Option<Table>, Mapping)>,
    ) -> Result<Self> {
        debug_assert!(u64::from(buffer_count) < 1 << BUFFER_BITS && block_bytes.is_power_of_two());
        let bytes = buffer_count as usize * block_bytes;
        reserve.reserve("the tail of a map", bytes as u64)?;
        let (table, memory) = map(bytes as u64).inspect_err(|_| reserve.release(bytes as u64))?;
        let buffers = (0..buffer_count)
            .map(|_| BufferState {
                id: AtomicU64::new(0),
                base_units: AtomicU64::new(0),
                segment_seed: AtomicU32::new(0),
                progress: OwnLine(AtomicU64::new(0)),
                submitted_bytes: AtomicU32::new(0),
            })
            .collect();
        let free = Free { queue: (0..buffer_count).collect(), halted: false };
        Ok(Self {
            memory,
            block_bytes,
            buffers,
            free: Mutex::new(free),
            space: Condvar::new(),
            next_id: AtomicU64::new(1),
            waits: AtomicU64::new(0),
            waiters: AtomicU32::new(0),
            reserve,
            table,
        })
    }

    /// Faults all of the ring in, as far as the kernel helps; without that the first use of each
    /// page pays.
    pub(crate) fn prefault(&self) {
        if !self.memory.populate(0..self.memory.len()) {
            tracing::debug!(
                "the kernel does not populate memory ahead; the tail faults in as it is used"
            );
        }
    }

    pub(crate) const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    pub(crate) const fn block_units(&self) -> u32 {
        (self.block_bytes / UNIT_BYTES) as u32
    }

    pub(crate) const fn bytes(&self) -> u64 {
        (self.buffers.len() * self.block_bytes) as u64
    }

    pub(crate) const fn buffer_count(&self) -> usize {
        self.buffers.len()
    }

    pub(crate) const fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self, buffer: u32) -> &BufferState {
        &self.buffers[buffer as usize]
    }

    /// The words of a buffer.
    pub(crate) fn words(&self, buffer: u32) -> &[AtomicU64] {
        let count = self.block_bytes / 8;
        &self.memory.words()[buffer as usize * count..][..count]
    }

    /// The free buffer that was written longest ago, if there is one.
    pub(crate) fn try_take(&self) -> Option<u32> {
        self.free.lock().queue.pop_front()
    }

    /// How many buffers could be taken now.
    pub(crate) fn free_count(&self) -> usize {
        self.free.lock().queue.len()
    }

    /// Gives a taken buffer back, its block now being in the file or dead.
    pub(crate) fn give_back(&self, buffer: u32) {
        self.free.lock().queue.push_back(buffer);
        self.space.notify_all();
    }

    /// Counts the caller among those who wait for space, until the result is dropped.
    pub(crate) fn count_waiter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        Waiter(self)
    }

    /// Whether somebody waits for space, as far as a lock that both took tells.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Waits until a buffer is free, the map halts (both return true) or `deadline` passes.
    pub(crate) fn wait_for_space(&self, deadline: Instant) -> bool {
        self.waits.fetch_add(1, Ordering::Relaxed);
        let mut free = self.free.lock();
        while free.queue.is_empty() && !free.halted {
            if self.space.wait_until(&mut free, deadline).timed_out() {
                return !free.queue.is_empty() || free.halted;
            }
        }
        true
    }

    /// Wakes everyone who waits for space, now and later: no more writes are taken.
    pub(crate) fn halt(&self) {
        self.free.lock().halted = true;
        self.space.notify_all();
    }

    /// Makes a taken buffer the home of a new block. Readers of its old block notice.
    pub(crate) fn open(&self, buffer: u32, base_units: u64, segment_seed: u32) -> BlockRef {
        let state = self.state(buffer);
        state.id.store(0, Ordering::Relaxed);
        // Readers that copy any of the new block's words also see that the id has changed.
        fence(Ordering::Release);
        state.base_units.store(base_units, Ordering::Relaxed);
        state.segment_seed.store(segment_seed, Ordering::Relaxed);
        state.progress.store(0, Ordering::Relaxed);
        state.submitted_bytes.store(0, Ordering::Relaxed);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        state.id.store(id, Ordering::Release);
        BlockRef(id << BUFFER_BITS | u64::from(buffer))
    }

    /// Starts to bring the first two cache lines from `first_word` of a block near.
    #[inline]
    pub(crate) fn prefetch(&self, block: BlockRef, first_word: usize) {
        let words = self.words(block.buffer());
        for word in [first_word, first_word + 8] {
            if let Some(word) = words.get(word) {
                crate::index::prefetch_line(word);
            }
        }
    }

    /// Starts to bring the lines from `offset_bytes` of a buffer on near, where the next records
    /// will be stored: a store that misses holds up the next atomic operation.
    #[inline]
    pub(crate) fn prefetch_room(&self, buffer: u32, offset_bytes: usize, bytes: usize) {
        let words = self.words(buffer);
        let end = words.len().min((offset_bytes + bytes) / 8);
        for word in words[..end].iter().skip(offset_bytes / 8).step_by(8) {
            crate::index::prefetch_line(word);
        }
    }

    /// Calls `look` with the words of a block from `first_word` on, if it is in its buffer; none if
    /// it is not, or has left while `look` read: then it may have read anything.
    #[inline(always)]
    pub(crate) fn look_at<R>(
        &self,
        block: BlockRef,
        first_word: usize,
        look: impl FnOnce(&[AtomicU64]) -> R,
    ) -> Option<R> {
        let state = self.state(block.buffer());
        if state.id.load(Ordering::Acquire) != block.id() {
            return None;
        }
        let seen = look(self.words(block.buffer()).get(first_word..)?);
        fence(Ordering::Acquire);
        (state.id.load(Ordering::Relaxed) == block.id()).then_some(seen)
    }

    /// Appends whole words of a block to `out` as bytes; false if the block has left its buffer
    /// meanwhile.
    pub(crate) fn append_bytes(
        &self,
        block: BlockRef,
        first_word: usize,
        words: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let state = self.state(block.buffer());
        if state.id.load(Ordering::Acquire) != block.id() {
            return false;
        }
        let source = self.words(block.buffer());
        let Some(source) = source.get(first_word..first_word + words) else { return false };
        let start = out.len();
        out.resize(start + words * 8, 0);
        let (chunks, _) = out[start..].as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(source) {
            *chunk = u64::from_le(word.load(Ordering::Relaxed)).to_le_bytes();
        }
        fence(Ordering::Acquire);
        state.id.load(Ordering::Relaxed) == block.id()
    }

    /// Committed bytes of a taken buffer, for its writer.
    #[expect(unsafe_code, reason = "a file write takes bytes, and the ring is made of atomics")]
    pub(crate) fn committed_bytes(&self, buffer: u32, range: std::ops::Range<usize>) -> &[u8] {
        let words = self.words(buffer);
        debug_assert!(range.end <= self.block_bytes && range.start <= range.end);
        let bytes = std::ptr::slice_from_raw_parts(words.as_ptr().cast::<u8>(), self.block_bytes);
        // SAFETY: the words are `block_bytes` initialized bytes that live as long as `self`. Nobody
        // stores into the committed part of a block until its buffer is given back, which is the
        // caller's to do after the write. Concurrent readers only load.
        let bytes = unsafe { &*bytes };
        &bytes[range]
    }

    /// Stores bytes (a multiple of 8) into reserved, unpublished room of a buffer.
    pub(crate) fn store(&self, buffer: u32, offset_bytes: usize, bytes: &[u8]) {
        stream::store_near(self.room(buffer, offset_bytes, bytes.len()), bytes);
    }

    /// As `store`, for bytes that nobody will ask for soon: they do not come into the caches.
    pub(crate) fn store_far(&self, buffer: u32, offset_bytes: usize, bytes: &[u8]) {
        stream::store_far(self.room(buffer, offset_bytes, bytes.len()), bytes);
    }

    fn room(&self, buffer: u32, offset_bytes: usize, bytes: usize) -> &[AtomicU64] {
        debug_assert!(offset_bytes.is_multiple_of(8) && bytes.is_multiple_of(8));
        &self.words(buffer)[offset_bytes / 8..][..bytes / 8]
    }
}

/// A thread that waits for space.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Tail);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reserve.release(self.bytes());
    }
}
