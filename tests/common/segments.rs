//! What is in a map's segment files: a parser of its own, written from docs/format.md alone.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

const UNIT: usize = 16;
const HEADER: usize = 4096;

/// The values that were written for each key.
pub type Records = HashMap<[u8; 32], Vec<Vec<u8>>>;

/// CRC-32C, bit by bit, going on from `crc`.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The records of all segments in `directories`, by key; every version of a key that was written.
pub fn scan<'a>(directories: impl Iterator<Item = &'a Path>, block_bytes: usize) -> Records {
    let mut records = Records::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "seg") {
                continue;
            }
            match read_settled(&path) {
                Ok(bytes) => scan_segment(&path, &bytes, block_bytes, &mut records),
                // Given up since the directory was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
    records
}

/// A file whose header is not being written at the moment.
fn read_settled(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    for _ in 0..1000 {
        let again = std::fs::read(path)?;
        if again.get(..HEADER) == bytes.get(..HEADER) {
            break;
        }
        bytes = again;
    }
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn scan_segment(path: &Path, bytes: &[u8], block_bytes: usize, records: &mut Records) {
    let name = path.display();
    if bytes.get(..HEADER).is_none_or(|header| header.iter().all(|byte| *byte == 0)) {
        // Made, but its space is not reserved or its first block not written yet.
        return;
    }
    assert_eq!(&bytes[..8], b"BTSEGMNT", "{name}");
    assert_eq!((u32_at(bytes, 8), u32_at(bytes, 12)), (1, 32), "{name}: version, key length");
    assert_eq!(u64_at(bytes, 48), bytes.len() as u64, "{name}: stated length");
    assert_eq!(u32_at(bytes, HEADER - 4), crc32c(0, &bytes[..HEADER - 4]), "{name}: header");
    let (store_id, generation) = (u64_at(bytes, 16), u64_at(bytes, 24));
    let (lane, incarnation) = (u64_at(bytes, 32), u64_at(bytes, 40));
    let stated = format!("{lane:03}-{generation:04}-{incarnation:08}.seg");
    assert_eq!(path.file_name().unwrap().to_str(), Some(stated.as_str()));
    let seed = [store_id, generation, lane, incarnation]
        .iter()
        .fold(0, |crc, word| crc32c(crc, &word.to_le_bytes()));
    let mut at = HEADER;
    while at + 12 <= bytes.len() {
        if let Some(length) = record_at(&bytes[at..], at / UNIT, seed, records) {
            at += length;
        } else {
            // Not written yet, or the middle of a long record that was given up.
            at = (at + 1).next_multiple_of(block_bytes);
        }
    }
}

/// The length of the record or padding at the start of `bytes`, if there is one.
fn record_at(bytes: &[u8], unit: usize, segment_seed: u32, records: &mut Records) -> Option<usize> {
    let seed = segment_seed ^ (unit as u32).wrapping_mul(0x9e37_79b1);
    let (crc, word, seq) = (u32_at(bytes, 0), u32_at(bytes, 4), u32_at(bytes, 8));
    let length = (word & 0x0fff_ffff) as usize;
    let end = match word >> 28 {
        1 => 12 + 32 + length,
        2 => 12,
        _ => return None,
    };
    if crc32c(seed, bytes.get(4..end)?) != crc {
        return None;
    }
    assert_eq!(seq as usize, unit, "sequence number");
    if word >> 28 == 2 {
        return Some(12 + length);
    }
    let key = bytes[12..44].try_into().unwrap();
    records.entry(key).or_default().push(bytes[44..end].to_vec());
    Some(end.next_multiple_of(UNIT))
}
