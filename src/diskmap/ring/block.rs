//! A block as a killed process left it.
//!
//! From its start to where nothing was reserved any more it is headers, each of which says where
//! the next one is, and holes: room that was reserved and not described yet, where the first word
//! of each unit is 0 (docs/design.md, K2). What is neither is damage.

use crate::diskmap::log::record::{self, HEADER_BYTES, Header, Invalid, Kind, UNIT_BYTES};

/// Where a block lies and what its records are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The block's first unit, in the segment.
    pub(super) first_unit: u32,
    /// Units at the block's start that are no short records: a segment's header, part of a long
    /// one.
    pub(super) lead_units: u32,
    pub(super) segment_seed: u32,
    pub(super) key_bytes: usize,
}

/// Turns the holes of a block, and what was never reserved, into padding, so that it is record
/// after record up to its end. An error comes with the unit, in the block, of what is no record.
pub(super) fn mend(bytes: &mut [u8], frame: Frame) -> Result<(), (u32, &'static str)> {
    let units = (bytes.len() / UNIT_BYTES) as u32;
    let mut unit = frame.lead_units;
    let mut hole = unit;
    while unit < units {
        let at = unit as usize * UNIT_BYTES;
        if bytes[at..].first_chunk() == Some(&[0; 8]) {
            unit += 1;
            continue;
        }
        fill(bytes, frame, hole..unit);
        let total = check(&bytes[at..], frame, unit).map_err(|reason| (unit, reason))?;
        unit += total.div_ceil(UNIT_BYTES) as u32;
        hole = unit;
    }
    fill(bytes, frame, hole..units);
    Ok(())
}

fn fill(bytes: &mut [u8], frame: Frame, hole: std::ops::Range<u32>) {
    if hole.is_empty() {
        return;
    }
    let unit = frame.first_unit + hole.start;
    let seed = record::crc_seed(frame.segment_seed, unit);
    let header = record::padding_header(hole.end - hole.start, unit, seed);
    bytes[hole.start as usize * UNIT_BYTES..][..UNIT_BYTES].copy_from_slice(&header);
}

/// The bytes of the record at the start of `bytes`, if it is one.
fn check(bytes: &[u8], frame: Frame, unit: u32) -> Result<usize, &'static str> {
    const NONE: &str = "no record starts here in the ring";
    let unit = frame.first_unit + unit;
    let seed = record::crc_seed(frame.segment_seed, unit);
    let header = bytes.first_chunk::<HEADER_BYTES>().and_then(Header::decode).ok_or(NONE)?;
    if header.seq != unit || header.kind == Kind::Long {
        return Err(NONE);
    }
    if !header.kind.has_key() {
        let total = HEADER_BYTES + header.value_bytes as usize;
        let crc = crc32c::crc32c_append(seed, &bytes[4..HEADER_BYTES]);
        return if crc == header.crc && total <= bytes.len() { Ok(total) } else { Err(NONE) };
    }
    match record::decode(bytes, frame.key_bytes, seed) {
        Ok(record) => Ok(record::record_bytes(frame.key_bytes, record.value.len())),
        Err(Invalid::Crc) => Err("the checksum of a record in the ring does not match"),
        Err(_) => Err(NONE),
    }
}
