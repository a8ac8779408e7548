//! Reading the records at many places of a lane, in the order of the log. Nothing is locked; the
//! lane is pinned, so that each place leads to the record that it stood for.

use std::ops::Range;

use super::batch::cold::{GAP_BYTES, RunReader, Want, runs};
use super::log::lane::Lane;
use super::log::record::{self, HEADER_BYTES};
use super::log::segment::{Place, Segment};
use super::read::{self, GUESS_BYTES};
use crate::index::Location;
use crate::storage::AlignedBuf;
use crate::{Error, Result};

/// Places that are read together at most.
pub(super) const SLICE_ITEMS_MAX: usize = 4096;
/// Bytes of files that are read together, about.
const SLICE_BYTES: u64 = 4 << 20;

/// A record that was read, in the buffer of its slice.
pub(super) struct Read {
    pub(super) location: Location,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// How records are read.
pub(super) struct Reading<'a> {
    pub(super) runs: RunReader<'a>,
    pub(super) key_bytes: usize,
    pub(super) want_values: bool,
    /// Whether files may be read.
    pub(super) may_read: bool,
}

/// As many of the sorted places as are read together.
pub(super) fn slice(places: &[u64]) -> &[u64] {
    let mut bytes = 0;
    let mut last = 0;
    let count = places.iter().take(SLICE_ITEMS_MAX).take_while(|place| {
        bytes += read_cost(last, **place);
        last = **place;
        bytes <= SLICE_BYTES
    });
    &places[..count.count().max(1).min(places.len())]
}

/// Bytes that reading the record at `place` adds to reading the one at `before`, both in units.
pub(super) fn read_cost(before: u64, place: u64) -> u64 {
    let gap = (place - before).saturating_mul(record::UNIT_BYTES as u64);
    gap.min(GAP_BYTES) + GUESS_BYTES as u64
}

/// Reads the records at places of a lane into `bytes`, in order. Where files may not be read it
/// stops before the first record that is not in the tail.
pub(super) fn read_places(
    reading: &Reading<'_>,
    lane: &Lane,
    places: &[u64],
    bytes: &mut Vec<u8>,
) -> Result<Vec<Read>> {
    let &Reading { key_bytes, want_values, may_read, .. } = reading;
    let mut reads = Vec::with_capacity(places.len());
    let mut wants = Vec::new();
    for place in places {
        let location = Location::new(*place).ok_or(Error::Closed("place"))?;
        let start = bytes.len();
        let found = read::record_from_tail(lane, location, key_bytes, want_values, bytes);
        let (key, value) = match found {
            Some(value_bytes) => parts(key_bytes, start, value_bytes),
            None if !may_read && reads.is_empty() => {
                return Err(Error::WouldBlock(Error::BLOCKED_ON_READ));
            }
            None if !may_read => break,
            None => {
                let (segment, place) =
                    read::segment_at(lane, location).ok_or(Error::Closed("segment"))?;
                if segment.file().is_some() {
                    wants.push(Want { item: reads.len(), location, segment, place });
                    (0..0, 0..0)
                } else {
                    // It spans blocks, and all of them are in the tail.
                    append_alone(reading, lane, (&segment, place), bytes)?
                }
            }
        };
        reads.push(Read { location, key, value });
    }
    read_wants(reading, lane, &wants, (&mut reads, bytes))?;
    Ok(reads)
}

/// Where key and value are in a record that starts at `start`.
fn parts(key_bytes: usize, start: usize, value_bytes: usize) -> (Range<usize>, Range<usize>) {
    let key = start + HEADER_BYTES;
    let value = key + key_bytes;
    (key..value, value..value + value_bytes)
}

/// Reads what is in files.
fn read_wants(
    reading: &Reading<'_>,
    lane: &Lane,
    wants: &[Want],
    (reads, bytes): (&mut [Read], &mut Vec<u8>),
) -> Result<()> {
    let mut runs = runs(wants, lane.segment_bytes());
    let mut buffers = Vec::with_capacity(runs.len());
    for run in &mut runs {
        let alignment = run.align(lane.segment_bytes());
        buffers.push(AlignedBuf::zeroed((run.end - run.start) as usize, alignment)?);
    }
    let results = reading.runs.read(&runs, &mut buffers);
    for ((run, buffer), readable) in runs.iter().zip(&buffers).zip(results) {
        for want in &wants[run.wants.clone()] {
            let place = want.place;
            let rest = &buffer[(place.offset_bytes() - run.start) as usize..];
            let seed = record::crc_seed(want.segment.seed, place.unit_in_segment);
            let (key, value) = match record::decode(rest, reading.key_bytes, seed) {
                Ok(record) if readable => append(&record, reading.want_values, bytes),
                // Longer than was read, in part in the tail, or an error: once more, alone.
                _ => append_alone(reading, lane, (&want.segment, place), bytes)?,
            };
            reads[want.item] = Read { location: want.location, key, value };
        }
    }
    Ok(())
}

/// Appends key and value of a record; returns where they are.
fn append(
    record: &record::Record<'_>,
    want_values: bool,
    bytes: &mut Vec<u8>,
) -> (Range<usize>, Range<usize>) {
    let start = bytes.len();
    bytes.extend_from_slice(record.key);
    let key = start..bytes.len();
    bytes.extend_from_slice(if want_values { record.value } else { &[] });
    let value = key.end..bytes.len();
    (key, value)
}

/// Reads one record, block by block, and appends it.
fn append_alone(
    reading: &Reading<'_>,
    lane: &Lane,
    (segment, place): (&Segment, Place),
    bytes: &mut Vec<u8>,
) -> Result<(Range<usize>, Range<usize>)> {
    let whole = read::whole_record(lane, segment, place, reading.key_bytes)?;
    let seed = record::crc_seed(segment.seed, place.unit_in_segment);
    let record = record::decode(&whole, reading.key_bytes, seed)
        .map_err(|why| read::corrupt(segment, place.offset_bytes(), why))?;
    Ok(append(&record, reading.want_values, bytes))
}
