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

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame { first_unit: 1024, lead_units: 2, segment_seed: 77, key_bytes: 32 };
    const UNITS: u32 = 64;

    fn seed(unit: u32) -> u32 {
        record::crc_seed(FRAME.segment_seed, FRAME.first_unit + unit)
    }

    /// A record as words, and the word that makes padding of it.
    fn record(unit: u32, number: u8, length: usize) -> (Vec<u64>, u64) {
        let mut bytes = Vec::new();
        let value = vec![number; length];
        let at = FRAME.first_unit + unit;
        record::encode(&mut bytes, Kind::Put, &[number; 32], &value, at, seed(unit));
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let padding = record::padding_header((bytes.len() / UNIT_BYTES) as u32, at, seed(unit));
        (words, u64::from_le_bytes(*padding.first_chunk().unwrap()))
    }

    /// The first bytes of the keys in a block that is record after record to its end.
    fn keys(bytes: &[u8]) -> Vec<u8> {
        let (mut unit, mut keys) = (FRAME.lead_units, Vec::new());
        while unit < (bytes.len() / UNIT_BYTES) as u32 {
            let record = &bytes[unit as usize * UNIT_BYTES..];
            let total = check(record, FRAME, unit).unwrap();
            if Header::decode(record.first_chunk().unwrap()).unwrap().kind == Kind::Put {
                keys.push(record[HEADER_BYTES]);
            }
            unit += total.div_ceil(UNIT_BYTES) as u32;
        }
        assert_eq!(unit as usize * UNIT_BYTES, bytes.len());
        keys
    }

    /// Three reservations of a record each: the first complete, the second after each of its
    /// stores, the third complete.
    #[test]
    fn holes_at_every_store_hide_nothing_behind_them() {
        let (first, last) = (record(2, 1, 40), record(24, 3, 60));
        let (second, padding) = record(8, 2, 150);
        let mut stores = vec![(1, second[1]), (0, padding)];
        stores.extend(second.iter().copied().enumerate().skip(2));
        stores.push((0, second[0]));
        for done in 0..=stores.len() {
            let mut words = vec![0; UNITS as usize * 2];
            words[0..4].fill(u64::MAX);
            words[4..4 + first.0.len()].copy_from_slice(&first.0);
            words[48..48 + last.0.len()].copy_from_slice(&last.0);
            for (word, value) in &stores[..done] {
                words[16 + word] = *value;
            }
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            mend(&mut bytes, FRAME).unwrap();
            let expected: &[u8] = if done == stores.len() { &[1, 2, 3] } else { &[1, 3] };
            assert_eq!(keys(&bytes), expected, "after {done} of {} stores", stores.len());
            let again = bytes.clone();
            mend(&mut bytes, FRAME).unwrap();
            assert_eq!(bytes, again, "a mended block has no holes");
        }
    }

    #[test]
    fn damage_is_no_hole() {
        let (words, _) = record(2, 1, 100);
        let mut whole = vec![0; UNITS as usize * UNIT_BYTES];
        for (i, word) in words.iter().enumerate() {
            whole[32 + i * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        for bit in 32 * 8..(32 + HEADER_BYTES + 32 + 100) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (unit, reason) = mend(&mut bytes, FRAME).unwrap_err();
            assert!(unit == 2 && reason.contains("in the ring"), "bit {bit}: {unit} {reason}");
        }
        // Behind the last record nothing was stored.
        for unit in 12..UNITS {
            let mut bytes = whole.clone();
            bytes[unit as usize * UNIT_BYTES] = 1;
            assert_eq!(mend(&mut bytes, FRAME).unwrap_err().0, unit);
        }
    }
}
