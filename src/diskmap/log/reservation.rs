//! Room for records in the open block of a lane, and storing records there.

use super::lane::Lane;
use super::record::{self, Kind, UNIT_BYTES};
use crate::index::Location;
use crate::{Error, Result};

/// Records are put together in pieces of about this size, which stay in the first cache.
const PIECE_BYTES: usize = 4 << 10;

/// Behind what was stored, this much is fetched for the records that come next.
const NEXT_BYTES: usize = 256;

/// Room for records, uncommitted. Dropping it without `commit` would hold its block back for ever,
/// so it commits on drop.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    pub(super) lane: &'a Lane,
    pub(super) buffer: u32,
    /// First unit, in the block.
    pub(super) first_unit: u32,
    pub(super) units: u32,
    /// Location of the block.
    pub(super) base_units: u64,
    /// First unit of the block, in the segment.
    pub(super) segment_unit: u32,
    pub(super) segment_seed: u32,
    /// How many records fit.
    pub(crate) count: usize,
}

impl Reservation<'_> {
    /// The location of a record at `unit`, counted from the start of the reservation.
    pub(crate) fn location(&self, unit: u32) -> Result<Location> {
        location(self.base_units + u64::from(self.first_unit + unit))
    }

    /// The unit, counted from the start of the reservation, of a record in it.
    pub(crate) fn unit(&self, location: Location) -> u32 {
        // Within a block, which has fewer than 2^32 units.
        (location.units() - self.base_units) as u32 - self.first_unit
    }

    /// The sequence number of a record at `unit`: the order of reservation in the lane.
    pub(crate) fn seq(&self, unit: u32) -> u64 {
        let segment = self.lane.table().place_of_units(self.base_units).slot;
        let incarnation = self.lane.incarnation_of(segment);
        self.lane.factory.seq(incarnation, self.segment_unit + self.first_unit + unit)
    }

    /// Stores one record at the start of the reservation.
    pub(crate) fn store_one(&self, kind: Kind, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        let unit = self.segment_unit + self.first_unit;
        let seed = record::crc_seed(self.segment_seed, unit);
        scratch.clear();
        let (tail, offset_bytes) =
            (&self.lane.shared().tail, self.first_unit as usize * UNIT_BYTES);
        if tail.table().is_some() {
            record::encode_unsealed(scratch, kind, key, value, unit);
            tail.store_described(self.buffer, offset_bytes, scratch, |_| seed);
            return;
        }
        record::encode(scratch, kind, key, value, unit, seed);
        tail.store(self.buffer, offset_bytes, scratch);
    }

    /// The tombstone of this reservation is published. It keeps no segment alive by itself: the
    /// segment says that it has tombstones.
    pub(crate) fn tombstone_published(&self, units: u32) {
        let slot = self.lane.table().place_of_units(self.base_units).slot;
        if let Some(segment) =
            self.lane.table().entry(slot).and_then(|entry| entry.segment.load_full())
        {
            segment.mark_tombstones();
        }
        self.lane.record_died(self.base_units, units);
    }

    /// Stores records one behind the other from the start of the reservation on.
    pub(crate) fn store<'r>(
        &self,
        records: impl Iterator<Item = (&'r [u8], &'r [u8])>,
        scratch: &mut Vec<u8>,
    ) {
        let mut unit_in_block = self.first_unit;
        scratch.clear();
        for (key, value) in records {
            let seq = self.segment_unit + unit_in_block + (scratch.len() / UNIT_BYTES) as u32;
            record::encode_unsealed(scratch, Kind::Put, key, value, seq);
            if scratch.len() >= PIECE_BYTES {
                unit_in_block += self.store_piece(unit_in_block, scratch);
            }
        }
        unit_in_block += self.store_piece(unit_in_block, scratch);
        // Many leave around the cache, so only the line that the next ones begin in is wanted.
        self.prefetch_room(unit_in_block, if self.count > 1 { UNIT_BYTES } else { NEXT_BYTES });
    }

    fn prefetch_room(&self, unit_in_block: u32, bytes: usize) {
        let offset_bytes = unit_in_block as usize * UNIT_BYTES;
        self.lane.shared().tail.prefetch_room(self.buffer, offset_bytes, bytes);
    }

    /// Adds the checksums to `records` and moves them into the block; returns their units.
    ///
    /// Checksums come in a loop of their own, where the processor computes those of several records
    /// at once; after each record's copy it would wait for the copy and for the sum.
    fn store_piece(&self, unit_in_block: u32, records: &mut Vec<u8>) -> u32 {
        let first_unit = self.segment_unit + unit_in_block;
        let seed_at = |unit| record::crc_seed(self.segment_seed, first_unit + unit);
        let tail = &self.lane.shared().tail;
        let offset_bytes = unit_in_block as usize * UNIT_BYTES;
        if tail.table().is_some() {
            // Through the caches, however many: the order of the stores counts, and publishing
            // reads each record again for its sum.
            tail.store_described(self.buffer, offset_bytes, records, seed_at);
            return Self::stored(records);
        }
        record::seal_all(records, seed_at);
        if self.count > 1 {
            tail.store_far(self.buffer, offset_bytes, records);
        } else {
            tail.store(self.buffer, offset_bytes, records);
        }
        Self::stored(records)
    }

    /// The units of a piece, which is done with.
    fn stored(records: &mut Vec<u8>) -> u32 {
        let units = (records.len() / UNIT_BYTES) as u32;
        records.clear();
        units
    }

    /// Turns a stored, unpublished record into padding.
    pub(crate) fn give_up(&self, unit: u32, units: u32) {
        self.lane.pad(self.buffer, self.first_unit + unit, units);
        self.lane.record_died(self.base_units, units);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.lane.commit(self.buffer, self.units);
    }
}

pub(super) fn location(units: u64) -> Result<Location> {
    Location::new(units).ok_or_else(|| Error::InvalidArgument("location out of range".to_owned()))
}
