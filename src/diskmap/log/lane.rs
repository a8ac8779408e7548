//! A lane: one append-only log of a map on one directory.
//!
//! Appending is: `reserve` room in the open block, store the records, publish each in the index,
//! `commit`. Reserving is one compare-and-swap on `state`. Whoever finds no room takes the roll
//! lock, closes the block and opens the next one.
//!
//! Lock order: roll, then the tail's free list or the queue of waiting blocks. Shard locks of the
//! index are never held here. Nobody waits for room with an uncommitted reservation in hand
//! (docs/design.md, L2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::commits::Commits;
use super::record::{self, UNIT_BYTES};
use super::reservation::Reservation;
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment, SegmentFactory, SlotTable};
use super::tail::{BlockRef, OwnLine};
use super::writeback::{BlockWrite, Shared, Waiting, align_units};
use crate::runtime::Disk;
use crate::{Error, Result};

/// What direct I/O needs at most; the real alignment of a file is known only once it exists.
pub(super) const ALIGNMENT: usize = 4096;
pub(super) const CLOSED: u64 = 1 << 32;
/// The stated limit of a value; a transaction with a million inputs takes 44 MB at most.
pub(crate) const VALUE_BYTES_LIMIT: usize = 128 << 20;
const _: () = assert!(VALUE_BYTES_LIMIT <= record::VALUE_BYTES_MAX);

pub(super) const fn open_state(buffer: u32, units: u32) -> u64 {
    (buffer as u64) << 33 | units as u64
}

pub(super) const fn state_units(state: u64) -> u32 {
    state as u32
}

pub(super) const fn state_buffer(state: u64) -> u32 {
    (state >> 33) as u32
}

fn timed_out(timeout: Duration) -> Error {
    let waited_ms = timeout.as_millis() as u64;
    Error::TimedOut { what: "space in the tail (txMapWriteTimeout)", waited_ms }
}

#[derive(Debug, Default)]
pub(super) struct Roll {
    pub(super) segment: Option<Arc<Segment>>,
    /// The next block to open in it.
    pub(super) next_block: usize,
    pub(super) next_incarnation: u64,
    /// First unit and units of the long record that is being appended; 0 units for none.
    pub(super) long: (u32, u32),
    /// Slots from here on were never used.
    next_slot: u32,
    /// When the oldest byte that is not with the writer was reserved, as seen by the clock of the
    /// ticker.
    pub(super) unwritten_since: Option<Instant>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) factory: SegmentFactory,
    /// Buffer, closed flag, units reserved.
    pub(super) state: OwnLine<AtomicU64>,
    pub(super) roll: Mutex<Roll>,
    pub(super) free_slots: Mutex<Vec<u32>>,
    /// Iterations under way, changed under `free_slots`. While there are any no segment is given
    /// up.
    pub(super) pins: AtomicU32,
    /// Durable maps: segments without a live record whose files must still be kept.
    pub(super) retired: Mutex<Vec<Arc<Segment>>>,
    /// Durable maps: of the live long records.
    pub(super) commits: Commits,
    /// Blocks that are closed and wait for their last commit.
    pub(super) closing: AtomicU32,
    pub(super) table: SlotTable,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, waiting: Arc<Waiting>, factory: SegmentFactory) -> Self {
        let table =
            SlotTable::new(factory.segment_bytes, shared.tail.block_bytes(), factory.location_bits);
        Self {
            shared,
            waiting,
            factory,
            state: OwnLine(AtomicU64::new(CLOSED)),
            roll: Mutex::default(),
            free_slots: Mutex::default(),
            pins: AtomicU32::new(0),
            retired: Mutex::default(),
            commits: Commits::default(),
            closing: AtomicU32::new(0),
            table,
        }
    }

    pub(crate) const fn table(&self) -> &SlotTable {
        &self.table
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) const fn disk(&self) -> &Arc<Disk> {
        &self.factory.disk
    }

    pub(crate) const fn segment_bytes(&self) -> u64 {
        self.factory.segment_bytes
    }

    const fn segment_units(&self) -> u64 {
        self.factory.segment_bytes / UNIT_BYTES as u64
    }

    pub(crate) const fn factory(&self) -> &SegmentFactory {
        &self.factory
    }

    /// Bytes that can be appended before another file is needed; 0 if that is hard to tell just
    /// now.
    pub(crate) fn open_room_bytes(&self) -> u64 {
        let Some(roll) = self.roll.try_lock() else { return 0 };
        if roll.segment.is_none() {
            return 0;
        }
        let blocks = self.table.blocks_per_segment() - roll.next_block;
        (blocks * self.shared.tail.block_bytes()) as u64
    }

    /// Whether the segment still has its slot.
    pub(crate) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.table.entry(segment.slot).is_some_and(|entry| {
            entry.segment.load().as_ref().is_some_and(|now| Arc::ptr_eq(now, segment))
        })
    }

    /// Longest value that fits into a segment, and into the format.
    pub(crate) const fn value_bytes_max(&self, key_bytes: usize) -> usize {
        let room = self.factory.segment_bytes as usize - SEGMENT_HEADER_BYTES;
        let room = room - record::record_bytes(key_bytes, 0);
        if room < VALUE_BYTES_LIMIT { room } else { VALUE_BYTES_LIMIT }
    }

    /// Longest record that lies within one block.
    pub(crate) fn short_units_max(&self) -> u32 {
        (self.shared.tail.block_units() / 2).min((64 << 10) / UNIT_BYTES as u32)
    }

    /// Reserves room for as many of the records (sizes in units, each at most `short_units_max`) as
    /// fit together; at least one. With `timeout` none it returns `WouldBlock` instead of waiting.
    pub(crate) fn reserve(
        &self,
        units: &[u32],
        timeout: Option<Duration>,
    ) -> Result<Reservation<'_>> {
        let mut deadline = None;
        loop {
            if let Some(reservation) = self.try_reserve(units) {
                return Ok(reservation);
            }
            self.shared.failure.check()?;
            let mut roll = self.lock_roll_until(timeout, &mut deadline)?;
            let first = units.first().copied().unwrap_or(0);
            let state = self.state.load(Ordering::Acquire);
            let room =
                state & CLOSED == 0 && state_units(state) + first <= self.shared.tail.block_units();
            let opened = room || self.open_next(&mut roll);
            drop(roll);
            if !opened {
                self.wait_for_space(timeout, &mut deadline)?;
            }
        }
    }

    /// Waits until a buffer may be free. Nothing may be held or reserved by the caller.
    pub(super) fn wait_for_space(
        &self,
        timeout: Option<Duration>,
        deadline: &mut Option<Instant>,
    ) -> Result<()> {
        self.shared.failure.check()?;
        let Some(timeout) = timeout else { return Err(Error::WouldBlock("no free block")) };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
        let _waiter = self.shared.tail.count_waiter();
        // Whatever is closed after this sees the waiter and goes to its writer at once.
        self.waiting.submit_all();
        if self.shared.tail.wait_for_space(deadline) {
            return Ok(());
        }
        Err(timed_out(timeout))
    }

    /// The roll lock, waiting as `wait_for_space` does: its holder may be a long value that waits.
    pub(super) fn lock_roll_until(
        &self,
        timeout: Option<Duration>,
        deadline: &mut Option<Instant>,
    ) -> Result<MutexGuard<'_, Roll>> {
        let Some(timeout) = timeout else {
            return self.lock_roll(false).ok_or(Error::WouldBlock("a long value is appended"));
        };
        if let Some(roll) = self.roll.try_lock() {
            return Ok(roll);
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
        self.roll.try_lock_until(deadline).ok_or_else(|| timed_out(timeout))
    }

    /// The roll lock; without `wait`, `None` if someone holds it for longer than a moment.
    pub(super) fn lock_roll(&self, wait: bool) -> Option<MutexGuard<'_, Roll>> {
        if wait {
            return Some(self.roll.lock());
        }
        self.roll.try_lock_for(Duration::from_micros(200))
    }

    fn try_reserve(&self, units: &[u32]) -> Option<Reservation<'_>> {
        let capacity = self.shared.tail.block_units();
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state & CLOSED != 0 {
                return None;
            }
            let first_unit = state_units(state);
            let (mut count, mut total) = (0, 0);
            for &size in units {
                if first_unit + total + size > capacity {
                    break;
                }
                total += size;
                count += 1;
            }
            if count == 0 {
                return None;
            }
            let next = state + u64::from(total);
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let buffer = state_buffer(state);
                    return Some(self.reservation(buffer, first_unit, total, count));
                }
                Err(now) => state = now,
            }
        }
    }

    fn reservation(
        &self,
        buffer: u32,
        first_unit: u32,
        units: u32,
        count: usize,
    ) -> Reservation<'_> {
        // The buffer can't change hands before the reservation is committed.
        let state = self.shared.tail.state(buffer);
        let base_units = state.base_units.load(Ordering::Relaxed);
        let place = self.table.place_of_units(base_units);
        Reservation {
            lane: self,
            buffer,
            first_unit,
            units,
            base_units,
            segment_unit: place.unit_in_segment,
            segment_seed: state.segment_seed.load(Ordering::Relaxed),
            count,
        }
    }

    pub(super) fn commit(&self, buffer: u32, units: u32) {
        let state = self.shared.tail.state(buffer);
        let before = state.progress.fetch_add(u64::from(units), Ordering::AcqRel);
        let committed = (before as u32) + units;
        if (before >> 32) as u32 == committed {
            self.finish(buffer);
        }
    }

    /// Everything in a closed block is committed: it can be written. Called once per block.
    fn finish(&self, buffer: u32) {
        let state = self.shared.tail.state(buffer);
        let place = self.table.place_of_units(state.base_units.load(Ordering::Relaxed));
        let submitted = state.submitted_bytes.load(Ordering::Acquire) as usize;
        let end = align_units((state.progress.load(Ordering::Acquire) >> 32) as u32, ALIGNMENT);
        // The slot is in use as long as one of its blocks is unfinished.
        let Some(entry) = self.table.entry(place.slot) else { return };
        if let Some(segment) = entry.segment.load_full() {
            self.waiting.push(BlockWrite {
                segment,
                buffer,
                block_offset_bytes: place.offset_bytes(),
                range: submitted..end as usize * UNIT_BYTES,
                last: true,
            });
        }
        self.closing.fetch_sub(1, Ordering::AcqRel);
        entry.block_finished();
        self.retire_if_spent(place.slot);
    }

    /// Fills units of a block with one padding record.
    pub(super) fn pad(&self, buffer: u32, unit_in_block: u32, units: u32) {
        let tail = &self.shared.tail;
        let state = tail.state(buffer);
        let place = self.table.place_of_units(state.base_units.load(Ordering::Relaxed));
        let unit = place.unit_in_segment + unit_in_block;
        let seed = record::crc_seed(state.segment_seed.load(Ordering::Relaxed), unit);
        let header = record::padding_header(units, unit, seed);
        tail.store_header(buffer, unit_in_block as usize * UNIT_BYTES, &header);
    }

    /// Pads what remains of a closed block with `units` reserved units; returns the units to write.
    ///
    /// In a durable map one padding covers the block to its end: whoever reads the file finds
    /// record after record, and bytes that are none are damage.
    fn pad_to_end(&self, buffer: u32, units: u32) -> u32 {
        let block_units = self.shared.tail.block_units();
        if self.factory.durable && units < block_units {
            self.pad(buffer, units, block_units - units);
            return units + 1;
        }
        let aligned = align_units(units, ALIGNMENT);
        if aligned > units {
            self.pad(buffer, units, aligned - units);
        }
        units
    }

    /// Closes the open block, if there is one: no reservation succeeds any more. Returns its buffer
    /// and its units.
    pub(super) fn close_block(&self) -> Option<(u32, u32)> {
        let state = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        (state & CLOSED == 0).then(|| (state_buffer(state), state_units(state)))
    }

    /// Closes the open block for good and lets its writer have it when all is committed.
    pub(super) fn retire_block(&self, roll: &mut Roll) {
        if let Some((buffer, reserved)) = self.close_block() {
            self.retire_closed(roll, buffer, reserved);
        }
    }

    /// The same for a block that is not open.
    pub(super) fn retire_closed(&self, roll: &mut Roll, buffer: u32, reserved: u32) {
        let units = self.pad_to_end(buffer, reserved);
        roll.unwritten_since = None;
        self.closing.fetch_add(1, Ordering::AcqRel);
        let state = self.shared.tail.state(buffer);
        let place = self.table.place_of_units(state.base_units.load(Ordering::Relaxed));
        if let Some(entry) = self.table.entry(place.slot) {
            entry.add_used(place.block, reserved);
        }
        // The padding of a durable map's block is committed here. It counts as neither used nor
        // dead: no merge does without it.
        let closed = u64::from(units) << 32 | u64::from(units - reserved);
        let before = state.progress.fetch_add(closed, Ordering::AcqRel);
        if before as u32 == reserved {
            self.finish(buffer);
        }
    }

    /// Closes the block that the lane appends to, so that it holds no buffer; not if somebody holds
    /// the roll lock.
    pub(crate) fn close(&self) {
        if let Some(mut roll) = self.lock_roll(false) {
            self.retire_block(&mut roll);
        }
    }

    /// Opens the next block; false if there is no free buffer (then none is open, and everything
    /// that can be written is on its way).
    fn open_next(&self, roll: &mut Roll) -> bool {
        let Some(buffer) = self.take_buffer() else {
            // It is full. Kept while this lane waits, it may be what others wait for: after clears,
            // as many generations as there are threads hold blocks of the one tail.
            self.retire_block(roll);
            return false;
        };
        self.retire_block(roll);
        let full = roll.next_block == self.table.blocks_per_segment();
        if (roll.segment.is_none() || full)
            && let Err(error) = self.open_segment(roll)
        {
            self.shared.tail.give_back(buffer);
            self.shared.failure.set(error);
            self.shared.tail.halt();
            return false;
        }
        self.open_block(roll, buffer, 0);
        true
    }

    pub(super) fn take_buffer(&self) -> Option<u32> {
        let tail = &self.shared.tail;
        tail.try_take().or_else(|| {
            self.waiting.submit_all();
            tail.try_take()
        })
    }

    pub(super) fn open_segment(&self, roll: &mut Roll) -> Result<()> {
        if let Some(old) = roll.segment.take() {
            if let Some(entry) = self.table.entry(old.slot)
                && entry.seal(&old)
            {
                self.shared.completed(&old);
            }
            self.retire_if_spent(old.slot);
        }
        let mut free_slots = self.free_slots.lock();
        let slot = free_slots.pop().unwrap_or(roll.next_slot);
        if slot >= self.table.slots_max() {
            return Err(self.factory.full(self.table.slots_max()));
        }
        roll.next_slot = roll.next_slot.max(slot + 1);
        let segment = Arc::new(self.factory.make(slot, roll.next_incarnation));
        roll.next_incarnation += 1;
        segment.expect_file();
        self.table.occupy(Arc::clone(&segment));
        drop(free_slots);
        roll.segment = Some(segment);
        roll.next_block = 0;
        Ok(())
    }

    /// Opens a taken buffer as the segment's next block, its first `units` (beside a segment
    /// header) already spoken for.
    pub(super) fn open_block(&self, roll: &mut Roll, buffer: u32, units: u32) -> BlockRef {
        let (reference, start) = self.prepare_block(roll, buffer, units);
        self.state.store(open_state(buffer, start), Ordering::Release);
        reference
    }

    /// As [`Lane::open_block`], but nobody can reserve in it yet. Returns the units that are spoken
    /// for, too.
    pub(super) fn prepare_block(
        &self,
        roll: &mut Roll,
        buffer: u32,
        units: u32,
    ) -> (BlockRef, u32) {
        let tail = &self.shared.tail;
        let (slot, seed, header) = match roll.segment.as_ref() {
            Some(segment) => {
                let header = (roll.next_block == 0).then(|| self.factory.header(segment));
                (segment.slot, segment.seed, header)
            }
            None => (0, 0, None),
        };
        let block = roll.next_block;
        roll.next_block += 1;
        let reference = tail.open(buffer, self.table.base_units(slot, block), seed);
        self.empty_buffer(buffer);
        let header_units =
            header.as_ref().map_or(0, |_| (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32);
        if let Some(header) = header {
            tail.store(buffer, 0, &header);
        }
        let start = units + header_units;
        tail.state(buffer).progress.store(u64::from(start), Ordering::Relaxed);
        if let Some(segment) = &roll.segment {
            self.claim_buffer(buffer, segment, block, roll.long);
        }
        if let Some(entry) = self.table.entry(slot) {
            entry.block_opened();
            entry.add_dead(header_units, self.segment_units());
            entry.set_block(block, reference);
        }
        (reference, start)
    }

    /// A record of `units` at or behind `units_at` (same segment) is not wanted any more.
    pub(crate) fn record_died(&self, units_at: u64, units: u32) {
        let place = self.table.place_of_units(units_at);
        if let Some(entry) = self.table.entry(place.slot) {
            if entry.add_dead(units, self.segment_units()) {
                self.shared.ring();
            }
            if entry.is_spent() {
                self.retire_if_spent(place.slot);
            }
        }
    }

    /// Gives up a segment in which nothing is live any more.
    pub(super) fn retire_if_spent(&self, slot: u32) {
        let Some(entry) = self.table.entry(slot) else { return };
        if !entry.is_spent() {
            return;
        }
        // Slots are reused under this lock, so what is spent now is not somebody's new segment.
        let mut free_slots = self.free_slots.lock();
        if self.pins.load(Ordering::Relaxed) == 0
            && entry.is_spent()
            && let Some(segment) = entry.segment.swap(None)
        {
            if self.factory.durable {
                // What supersedes its records may not be durable yet.
                self.retired.lock().push(segment);
            } else {
                segment.mark_dead();
            }
            free_slots.push(slot);
        }
    }

    /// The incarnation of the segment in a slot that is in use.
    pub(super) fn incarnation_of(&self, slot: u32) -> u64 {
        let segment = self.table.entry(slot).map(|entry| entry.segment.load());
        segment.and_then(|segment| segment.as_ref().map(|segment| segment.incarnation)).unwrap_or(0)
    }

    /// Puts a segment of an earlier process into a slot: `used` units, `dead` of which nobody
    /// wants. For recovery, before anything is appended.
    pub(crate) fn adopt(&self, segment: &Arc<Segment>, used: u64, dead: u64) {
        let slot = segment.slot;
        if self.table.occupy(Arc::clone(segment))
            && let Some(entry) = self.table.entry(slot)
        {
            entry.reopened(segment, used, dead);
        }
        self.retire_if_spent(slot);
    }

    /// The incarnation of the next segment.
    pub(crate) fn next_incarnation(&self) -> u64 {
        self.roll.lock().next_incarnation
    }

    /// Durable maps: the segments without a live record whose files are still there.
    pub(crate) fn retired(&self) -> Vec<Arc<Segment>> {
        self.retired.lock().clone()
    }

    /// These of them are gone.
    pub(crate) fn forget_retired(&self, gone: &[Arc<Segment>]) {
        let is_gone = |segment: &Arc<Segment>| gone.iter().any(|gone| Arc::ptr_eq(gone, segment));
        self.retired.lock().retain(|segment| !is_gone(segment));
    }

    /// Durable maps: all segments whose files are needed, by ascending incarnation.
    pub(crate) fn kept_segments(&self) -> Vec<Arc<Segment>> {
        // Segments move from the table to the retired ones under this lock.
        let _slots = self.free_slots.lock();
        let mut segments: Vec<_> = self.table.segments().map(|(_, segment)| segment).collect();
        segments.extend(self.retired.lock().iter().cloned());
        segments.sort_unstable_by_key(|segment| segment.incarnation);
        segments
    }

    /// Segments made from now on have this incarnation or a higher one and use other slots than the
    /// first `slots`.
    pub(crate) fn continue_from(&self, incarnation: u64, slots: u32) {
        let mut roll = self.roll.lock();
        roll.next_incarnation = incarnation;
        roll.next_slot = slots;
    }

    /// The slot of the segment that is appended to, and the units of its open block.
    pub(crate) fn open_units(&self) -> Option<(u32, u32)> {
        let state = self.state.load(Ordering::Acquire);
        if state & CLOSED != 0 {
            return None;
        }
        let base = self.shared.tail.state(state_buffer(state)).base_units.load(Ordering::Relaxed);
        Some((self.table.place_of_units(base).slot, state_units(state)))
    }

    /// Where the block of a place is or was in RAM.
    pub(crate) fn block(&self, place: Place) -> Option<BlockRef> {
        self.table.entry(place.slot)?.block(place.block)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Nobody reserves or reads any more; the open block's buffer goes back to the map.
        if let Some((buffer, _)) = self.close_block() {
            self.shared.tail.give_back(buffer);
        }
    }
}
