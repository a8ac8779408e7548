//! Walking the records of one segment from its file, in order.
//!
//! The segment must be complete: sealed, and every block of it written. What of each block holds
//! records comes from the slot's [`Extent`], not from the file, so that a part of the file that
//! reads as zeros is noticed as damage and not taken for a block's unwritten rest.
//!
//! Memory: one window of the file, and the record that is handed out where it is longer. A record's
//! length is believed, and memory asked for, only after it was found to end inside what is used.

use std::ops::Range;
use std::sync::Arc;

use super::lane::VALUE_BYTES_LIMIT;
use super::record::{self, HEADER_BYTES, Header, Invalid, Kind, UNIT_BYTES};
use super::reservation::location;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentFactory};
use crate::index::Location;
use crate::storage::AlignedBuf;
use crate::{Error, Result};

/// Bytes of one read.
const WINDOW_BYTES: usize = 1 << 20;

/// Which parts of a segment hold records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// For each block, the units from its start (a segment's header included) that were reserved.
    pub(crate) used_units: Box<[u32]>,
    /// Units of the segment, ascending, in which a long record was begun and not finished.
    pub(crate) gaps: Vec<Range<u32>>,
}

/// The blocks of a segment without holes: what its used part is a multiple of, but for its end.
pub(crate) const GAPLESS_BLOCK_BYTES: usize = 4096;

impl Extent {
    /// That of a durable map's segment: record after record up to `units`, in blocks of
    /// [`GAPLESS_BLOCK_BYTES`]. A record of kind `end` may end it before.
    pub(crate) fn gapless(units: u32) -> Self {
        let block_units = (GAPLESS_BLOCK_BYTES / UNIT_BYTES) as u32;
        let mut used_units = vec![block_units; (units / block_units) as usize];
        used_units.push(units % block_units);
        Self { used_units: used_units.into(), gaps: Vec::new() }
    }
}

/// A record that was read and whose checksum matches; padding is not handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked<'a> {
    /// Where it begins in the segment.
    pub(crate) unit: u32,
    pub(crate) location: Location,
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Units that it takes in the segment.
    pub(crate) units: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Walk {
    segment: Arc<Segment>,
    /// What the file wants addresses, offsets and lengths to be multiples of.
    alignment: usize,
    key_bytes: usize,
    segment_units: u32,
    block_units: u32,
    extent: Extent,
    /// Gaps before this one lie behind `unit`.
    next_gap: usize,
    /// Where what was looked at last begins.
    at: u32,
    /// The next record's place in the segment.
    unit: u32,
    /// End of the last block that is used.
    end_unit: u32,
    window: Window,
    /// A record longer than the window.
    long: Vec<u8>,
    read_bytes: u64,
}

/// Part of the file.
#[derive(Debug)]
struct Window {
    buffer: AlignedBuf,
    start: u64,
    len: usize,
}

impl Walk {
    /// Begins behind the segment's header, which is checked.
    ///
    /// # Errors
    /// `Corrupt` if the file's header is not this segment's, `Io`, `OutOfMemory`.
    pub(crate) fn new(
        factory: &SegmentFactory,
        segment: Arc<Segment>,
        block_bytes: usize,
        extent: Extent,
    ) -> Result<Self> {
        let alignment = segment.file().map_or(1, |file| file.alignment().max(1));
        let block_units = (block_bytes / UNIT_BYTES) as u32;
        let end_unit = (0..).zip(&extent.used_units).filter(|(_, used)| **used > 0).last();
        let end_unit = end_unit.map_or(0, |(block, used)| block * block_units + used);
        let window_bytes = WINDOW_BYTES.min(factory.segment_bytes as usize);
        let buffer = AlignedBuf::zeroed(window_bytes, alignment)?;
        let mut walk = Self {
            segment,
            alignment,
            key_bytes: factory.key_bytes as usize,
            segment_units: (factory.segment_bytes / UNIT_BYTES as u64) as u32,
            block_units,
            extent,
            next_gap: 0,
            at: 0,
            unit: (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32,
            end_unit,
            window: Window { buffer, start: 0, len: 0 },
            long: Vec::new(),
            read_bytes: 0,
        };
        walk.fill(0, SEGMENT_HEADER_BYTES)?;
        let header = walk.window.bytes(0, SEGMENT_HEADER_BYTES).unwrap_or_default();
        if header != factory.header(&walk.segment) {
            return Err(walk.corrupt(0, "the segment's header is not the one that was written"));
        }
        Ok(walk)
    }

    /// After an error: where the log ends, as far as it could be read.
    pub(crate) const fn error_unit(&self) -> u32 {
        self.at
    }

    /// The unit behind what was walked so far.
    pub(crate) const fn unit(&self) -> u32 {
        self.unit
    }

    /// Bytes read from the file so far.
    pub(crate) const fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next record, or `None` behind the last one.
    ///
    /// # Errors
    /// `Corrupt` with path and offset, `Io`, `OutOfMemory`. There is nothing to walk behind an
    /// error: where the next record begins is not known.
    pub(crate) fn next(&mut self) -> Result<Option<Walked<'_>>> {
        loop {
            let Some(unit) = self.next_unit() else { return Ok(None) };
            self.at = unit;
            let header = self.header(unit)?;
            let has_key = header.kind.has_key();
            let total = if has_key {
                record::record_bytes(self.key_bytes, header.value_bytes as usize)
            } else {
                HEADER_BYTES + header.value_bytes as usize
            };
            if has_key && header.value_bytes as usize > VALUE_BYTES_LIMIT
                || !self.is_used(unit, total)
            {
                return Err(self.corrupt(unit, "a record is longer than what was written"));
            }
            let units = total.div_ceil(UNIT_BYTES) as u32;
            self.unit = unit + units;
            if header.kind == Kind::End {
                self.end_unit = self.unit;
            }
            if has_key {
                return self.record(unit, header.kind, total).map(Some);
            }
        }
    }

    /// Where the next record begins: past gaps and the unused ends of blocks.
    fn next_unit(&mut self) -> Option<u32> {
        loop {
            if self.unit >= self.end_unit {
                return None;
            }
            if let Some(gap) = self.extent.gaps.get(self.next_gap)
                && gap.start <= self.unit
            {
                self.unit = self.unit.max(gap.end);
                self.next_gap += 1;
                continue;
            }
            let block = self.unit / self.block_units;
            if self.unit % self.block_units < self.used_in(block) {
                return Some(self.unit);
            }
            self.unit = (block + 1) * self.block_units;
        }
    }

    fn used_in(&self, block: u32) -> u32 {
        self.extent.used_units.get(block as usize).copied().unwrap_or(0)
    }

    /// Whether `bytes` bytes from a unit on lie in the used parts of blocks without a hole.
    fn is_used(&self, unit: u32, bytes: usize) -> bool {
        let units = bytes.div_ceil(UNIT_BYTES);
        let end = unit as usize + units;
        if end > self.segment_units as usize {
            return false;
        }
        let (first, last) = (unit / self.block_units, (end as u32 - 1) / self.block_units);
        let filled = |block| self.used_in(block) == self.block_units;
        (first..last).all(filled) && end as u32 - last * self.block_units <= self.used_in(last)
    }

    /// The checked header of what begins at `unit`. A put's checksum covers more than this and is
    /// left for later.
    fn header(&mut self, unit: u32) -> Result<Header> {
        let offset = unit as usize * UNIT_BYTES;
        self.fill(offset, HEADER_BYTES)?;
        let bytes = self.window.bytes(offset, HEADER_BYTES).unwrap_or_default();
        let Some(header) = bytes.first_chunk().and_then(Header::decode) else {
            return Err(self.corrupt(unit, "no record starts here"));
        };
        let seed = record::crc_seed(self.segment.seed, unit);
        if !header.kind.has_key() && crc32c::crc32c_append(seed, &bytes[4..]) != header.crc {
            return Err(self.corrupt(unit, "the padding's checksum does not match"));
        }
        Ok(header)
    }

    fn record(&mut self, unit: u32, kind: Kind, total: usize) -> Result<Walked<'_>> {
        let offset = unit as usize * UNIT_BYTES;
        // A direct read starts at or before the record; so a little less than the window fits.
        let is_long = total + self.alignment > self.window.buffer.len();
        if is_long {
            self.read_long(offset, total)?;
        } else {
            self.fill(offset, total)?;
        }
        let bytes =
            if is_long { Some(self.long.as_slice()) } else { self.window.bytes(offset, total) };
        let seed = record::crc_seed(self.segment.seed, unit);
        match record::decode(bytes.unwrap_or_default(), self.key_bytes, seed) {
            Ok(record) => Ok(Walked {
                unit,
                location: location(self.base_units() + u64::from(unit))?,
                kind,
                key: record.key,
                value: record.value,
                units: total.div_ceil(UNIT_BYTES) as u32,
            }),
            Err(Invalid::Crc) => Err(self.corrupt(unit, "the record's checksum does not match")),
            Err(_) => Err(self.corrupt(unit, "no record starts here")),
        }
    }

    fn base_units(&self) -> u64 {
        u64::from(self.segment.slot) * u64::from(self.segment_units)
    }

    /// Puts a record that is longer than the window together.
    fn read_long(&mut self, offset: usize, total: usize) -> Result<()> {
        let mut long = std::mem::take(&mut self.long);
        long.clear();
        long.try_reserve_exact(total).map_err(|_| Error::OutOfMemory {
            what: "a long value",
            bytes: total as u64,
            available: u64::MAX,
        })?;
        while long.len() < total {
            let at = offset + long.len();
            self.fill(at, 1)?;
            let piece = self.window.from(at);
            let piece = &piece[..piece.len().min(total - long.len())];
            long.extend_from_slice(piece);
        }
        self.long = long;
        Ok(())
    }

    /// Makes the window cover `bytes` bytes at `offset`, which must be used.
    fn fill(&mut self, offset: usize, bytes: usize) -> Result<()> {
        if self.window.bytes(offset, bytes).is_some() {
            return Ok(());
        }
        let alignment = self.alignment;
        let start = offset - offset % alignment;
        // Blocks are written up to a multiple of 4096, so that much of the file is there.
        let end = (self.end_unit as usize * UNIT_BYTES).max(offset + bytes);
        let end = end.next_multiple_of(alignment).min(self.segment_units as usize * UNIT_BYTES);
        let len = self.window.buffer.len().min(end.saturating_sub(start));
        if offset + bytes > start + len {
            return Err(Error::Closed("segment"));
        }
        self.window.len = 0;
        let file = self.segment.file().ok_or(Error::Closed("segment"))?;
        file.read_exact_at(&mut self.window.buffer[..len], start as u64)?;
        self.segment.disk().stats().add_read(len as u64);
        self.read_bytes += len as u64;
        self.window.start = start as u64;
        self.window.len = len;
        Ok(())
    }

    fn corrupt(&self, unit: u32, reason: &str) -> Error {
        Error::Corrupt {
            path: self.segment.path().clone(),
            offset: u64::from(unit) * UNIT_BYTES as u64,
            reason: reason.to_owned(),
        }
    }
}

impl Window {
    fn bytes(&self, offset: usize, bytes: usize) -> Option<&[u8]> {
        self.from(offset).get(..bytes)
    }

    /// What it has from `offset` on.
    fn from(&self, offset: usize) -> &[u8] {
        let skip = (offset as u64).checked_sub(self.start).map(|skip| skip as usize);
        skip.and_then(|skip| self.buffer[..self.len].get(skip..)).unwrap_or_default()
    }
}
