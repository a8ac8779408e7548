//! Records that span blocks.

use std::time::{Duration, Instant};

use super::lane::{Lane, Roll};
use super::record::{self, Kind, UNIT_BYTES};
use super::reservation::location;
use super::segment::SEGMENT_HEADER_BYTES;
use crate::index::Location;
use crate::{Error, Result};

/// How long a durable map waits for room in the middle of a long record, whatever the caller's
/// patience: half a record in the log would pass for damage.
const MIDWAY_PATIENCE: Duration = Duration::from_secs(600);

/// A long record in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongRecord {
    pub(crate) location: Location,
    pub(crate) seq: u64,
}

impl Lane {
    /// Appends a record longer than `short_units_max` through as many blocks as it needs. It is
    /// committed when this returns; if it is then not published, its units are garbage.
    pub(crate) fn append_long(
        &self,
        key: &[u8],
        value: &[u8],
        timeout: Option<Duration>,
    ) -> Result<LongRecord> {
        let tail = &self.shared.tail;
        let units = record::record_units(key.len(), value.len());
        let block_units = tail.block_units();
        let blocks = blocks_for(units, block_units);
        if timeout.is_none() && tail.free_count() < blocks.min(tail.buffer_count() / 2) {
            self.waiting.submit_all();
            self.shared.failure.check()?;
            return Err(Error::WouldBlock("no free blocks"));
        }
        let mut bytes = reserved(units as usize * UNIT_BYTES)?;
        let mut deadline = None;
        let mut roll = self.lock_roll_until(timeout, &mut deadline)?;
        let timeout = Some(timeout.unwrap_or(Duration::from_secs(30)));
        // First: nobody else can close it while this thread waits with the roll lock.
        self.retire_block(&mut roll);
        let mut buffer = self.wait_for_buffer(timeout, &mut deadline)?;
        let rest = self.table.blocks_per_segment() - roll.next_block;
        if self.factory.durable && roll.segment.is_some() && (1..blocks).contains(&rest) {
            self.end_segment(&mut roll, buffer);
            buffer = self.wait_for_buffer(timeout, &mut deadline)?;
        }
        if (roll.segment.is_none() || rest < blocks)
            && let Err(error) = self.open_segment(&mut roll)
        {
            tail.give_back(buffer);
            return Err(error);
        }
        let segment = roll.segment.clone().ok_or(Error::Closed("segment"))?;
        let header_units = if roll.next_block == 0 { SEGMENT_HEADER_BYTES / UNIT_BYTES } else { 0 };
        let first = self.table.base_units(segment.slot, roll.next_block) + header_units as u64;
        let unit = self.table.place_of_units(first).unit_in_segment;
        let seed = record::crc_seed(segment.seed, unit);
        let kind = if self.factory.durable { Kind::Long } else { Kind::Put };
        record::encode(&mut bytes, kind, key, value, unit, seed);
        let seq = self.factory.seq(segment.incarnation, unit);
        roll.long = (unit, units);
        let patience = (timeout, &mut deadline);
        let appended = self.append_pieces(&mut roll, buffer, header_units, &bytes, patience);
        roll.long = (0, 0);
        appended.map_err(|(error, written)| {
            // What was written of it is garbage.
            if let Some(entry) = self.table.entry(segment.slot) {
                entry.add_gap(unit..unit + written);
            }
            self.record_died(first, written);
            error
        })?;
        Ok(LongRecord { location: location(first)?, seq })
    }

    /// Stores the bytes of a long record from `start_unit` of a taken buffer on, and in as many
    /// more as it takes. An error comes with the units that were stored.
    fn append_pieces(
        &self,
        roll: &mut Roll,
        mut buffer: u32,
        mut start_unit: usize,
        bytes: &[u8],
        (timeout, deadline): (Option<Duration>, &mut Option<Instant>),
    ) -> Result<(), (Error, u32)> {
        let tail = &self.shared.tail;
        let block_units = tail.block_units();
        let mut rest = bytes;
        loop {
            let room = (block_units as usize - start_unit) * UNIT_BYTES;
            let (piece, after) = rest.split_at(rest.len().min(room));
            // Reserved and committed at once: the block can be written while the next one waits for
            // a buffer.
            self.open_block(roll, buffer, (piece.len() / UNIT_BYTES) as u32);
            tail.store(buffer, start_unit * UNIT_BYTES, piece);
            rest = after;
            start_unit = 0;
            if rest.is_empty() {
                return Ok(());
            }
            self.retire_block(roll);
            let written = ((bytes.len() - rest.len()) / UNIT_BYTES) as u32;
            buffer = self.wait_midway(timeout, deadline).map_err(|error| (error, written))?;
        }
    }

    /// Waits for the buffer of a record's next block.
    fn wait_midway(
        &self,
        timeout: Option<Duration>,
        deadline: &mut Option<Instant>,
    ) -> Result<u32> {
        if !self.factory.durable {
            return self.wait_for_buffer(timeout, deadline);
        }
        let mut deadline = Some(Instant::now() + MIDWAY_PATIENCE);
        self.wait_for_buffer(Some(MIDWAY_PATIENCE), &mut deadline).map_err(|error| {
            // With nothing written any more no sync can claim what is incomplete.
            let text = format!("a long record could not be completed: {error}");
            self.shared.failure.set(error);
            self.shared.tail.halt();
            self.shared.failure.check().err().unwrap_or(Error::InvalidArgument(text))
        })
    }

    /// Says in a block of its own that the segment ends before its file does. The block is never
    /// open: nobody may append behind the end.
    fn end_segment(&self, roll: &mut Roll, buffer: u32) {
        let (_, units) = self.prepare_block(roll, buffer, 1);
        let state = self.shared.tail.state(buffer);
        let base_units = state.base_units.load(std::sync::atomic::Ordering::Relaxed);
        let unit = self.table.place_of_units(base_units).unit_in_segment;
        let seed = state.segment_seed.load(std::sync::atomic::Ordering::Relaxed);
        let end = record::end_record(unit, record::crc_seed(seed, unit));
        self.shared.tail.store_header(buffer, 0, &end);
        self.record_died(base_units, 1);
        self.retire_closed(roll, buffer, units);
        // Whoever comes next opens another segment.
        roll.next_block = self.table.blocks_per_segment();
    }

    fn wait_for_buffer(
        &self,
        timeout: Option<Duration>,
        deadline: &mut Option<Instant>,
    ) -> Result<u32> {
        loop {
            self.shared.failure.check()?;
            if let Some(buffer) = self.take_buffer() {
                return Ok(buffer);
            }
            self.wait_for_space(timeout, deadline)?;
        }
    }
}

/// Blocks that a record takes at most, the segment's header in front of it.
fn blocks_for(units: u32, block_units: u32) -> usize {
    (units + (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32).div_ceil(block_units) as usize
}

/// An empty buffer with room for `bytes`.
fn reserved(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|_| Error::OutOfMemory {
        what: "a long value",
        bytes: bytes as u64,
        available: u64::MAX,
    })?;
    Ok(buffer)
}
