//! The bytes of a record in a segment.
//!
//! ```text
//!   0      4          8     12        12+K       12+K+V     rounded up to 16
//!   +------+----------+-----+---------+----------+---------+
//!   | crc  | kind|len | seq | key     | value    | zeros   |
//!   +------+----------+-----+---------+----------+---------+
//! ```
//!
//! Little-endian. `kind` is the top 4 bits of the second word, `len` (of the value) the other 28.
//! `seq` is relative to the segment's base sequence number. The CRC-32C covers everything after
//! itself up to the end of the value and starts from a seed of store, segment incarnation and
//! offset, so that bytes of an earlier use of the same disk space, or a record at another place,
//! never pass.

use super::checksum;

/// Locations, reservations and record lengths are counted in units of this many bytes.
pub(crate) const UNIT_BYTES: usize = 16;
/// Bytes before the key.
pub(crate) const HEADER_BYTES: usize = 12;
/// Longest value that the format can express.
pub(crate) const VALUE_BYTES_MAX: usize = (1 << 28) - 1;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Key and value.
    Put,
    /// Nothing: room that was reserved and given up, or the rest of a block. `len` counts the bytes
    /// after the header.
    Padding,
    /// Durable maps: the key was removed. No value.
    Tombstone,
    /// Durable maps: key and value over several blocks; counts once a [`Kind::Commit`] names it.
    Long,
    /// Durable maps: publishes the long record whose sequence number is its value (a u64).
    Commit,
    /// Durable maps: nothing follows in this segment.
    End,
}

impl Kind {
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Put => 1,
            Self::Padding => 2,
            Self::Tombstone => 3,
            Self::Long => 4,
            Self::Commit => 5,
            Self::End => 6,
        }
    }

    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Put),
            2 => Some(Self::Padding),
            3 => Some(Self::Tombstone),
            4 => Some(Self::Long),
            5 => Some(Self::Commit),
            6 => Some(Self::End),
            _ => None,
        }
    }

    /// Whether a location may point to it: it has a key and the key's value.
    pub(crate) const fn is_value(self) -> bool {
        matches!(self, Self::Put | Self::Long)
    }

    /// Whether key and value follow the header.
    pub(crate) const fn has_key(self) -> bool {
        !matches!(self, Self::Padding | Self::End)
    }
}

/// The first 12 bytes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) crc: u32,
    pub(crate) kind: Kind,
    pub(crate) value_bytes: u32,
    pub(crate) seq: u32,
}

impl Header {
    /// Decodes a header; `None` if the kind is none of ours.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [c0, c1, c2, c3, k0, k1, k2, k3, s0, s1, s2, s3] = *bytes;
        let word = u32::from_le_bytes([k0, k1, k2, k3]);
        Some(Self {
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            kind: Kind::from_bits(word >> 28)?,
            value_bytes: word & 0x0fff_ffff,
            seq: u32::from_le_bytes([s0, s1, s2, s3]),
        })
    }
}

/// Bytes of a record before it is rounded up to units.
pub(crate) const fn record_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    HEADER_BYTES + key_bytes + value_bytes
}

/// Units that a record takes in the log.
pub(crate) const fn record_units(key_bytes: usize, value_bytes: usize) -> u32 {
    // Values are limited to 28 bits, so the quotient fits.
    record_bytes(key_bytes, value_bytes).div_ceil(UNIT_BYTES) as u32
}

/// The CRC seed of a record at `offset_units` of a segment.
pub(crate) const fn crc_seed(segment_seed: u32, offset_units: u32) -> u32 {
    segment_seed ^ offset_units.wrapping_mul(0x9e37_79b1)
}

/// Appends a complete record to `out`, zero-filled to whole units.
pub(crate) fn encode(out: &mut Vec<u8>, kind: Kind, key: &[u8], value: &[u8], seq: u32, seed: u32) {
    let start = out.len();
    encode_unsealed(out, kind, key, value, seq);
    seal_all(&mut out[start..], |_| seed);
}

/// Appends a record as `encode` does, its length in the place of its checksum until `seal_all`.
#[inline(always)]
pub(crate) fn encode_unsealed(out: &mut Vec<u8>, kind: Kind, key: &[u8], value: &[u8], seq: u32) {
    let bytes = record_bytes(key.len(), value.len());
    let padding = bytes.next_multiple_of(UNIT_BYTES) - bytes;
    // One growth for the whole record: its parts are short.
    out.reserve(bytes + padding);
    // Records are far shorter than 4 GiB: values have 28 bits.
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    let word = kind.bits() << 28 | value.len() as u32 & 0x0fff_ffff;
    out.extend_from_slice(&word.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    if padding > 0 {
        out.extend_from_slice(&[0; UNIT_BYTES][..padding]);
    }
}

/// Puts the checksum into each of the unsealed records that `records` holds one behind the other.
/// `seed_at` gives the seed for the record at a unit, counted from the first.
pub(crate) fn seal_all(records: &mut [u8], seed_at: impl Fn(u32) -> u32) {
    checksum::seal_all(records, seed_at);
}

/// The header of padding that covers `units` units.
pub(crate) fn padding_header(units: u32, seq: u32, seed: u32) -> [u8; UNIT_BYTES] {
    filler(Kind::Padding, units, seq, seed)
}

/// The record that ends a segment before its file does.
pub(crate) fn end_record(seq: u32, seed: u32) -> [u8; UNIT_BYTES] {
    filler(Kind::End, 1, seq, seed)
}

fn filler(kind: Kind, units: u32, seq: u32, seed: u32) -> [u8; UNIT_BYTES] {
    let mut bytes = [0; UNIT_BYTES];
    let rest = units * UNIT_BYTES as u32 - HEADER_BYTES as u32;
    bytes[4..8].copy_from_slice(&(kind.bits() << 28 | rest & 0x0fff_ffff).to_le_bytes());
    bytes[8..12].copy_from_slice(&seq.to_le_bytes());
    let crc = checksum::crc32c(seed, &bytes[4..12]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A record read back from a file, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The header is of no known kind.
    Kind,
    /// More bytes are needed: this many from the record's start.
    Short(usize),
    /// Checksum mismatch.
    Crc,
    /// A padding record where a key was expected.
    Padding,
}

/// Checks and splits the record at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], key_bytes: usize, seed: u32) -> Result<Record<'_>, Invalid> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(Invalid::Short(HEADER_BYTES + key_bytes));
    };
    let header = Header::decode(header).ok_or(Invalid::Kind)?;
    if !header.kind.has_key() {
        return Err(Invalid::Padding);
    }
    let end = record_bytes(key_bytes, header.value_bytes as usize);
    let Some(record) = bytes.get(..end) else { return Err(Invalid::Short(end)) };
    if checksum::crc32c(seed, &record[4..]) != header.crc {
        return Err(Invalid::Crc);
    }
    let (key, value) = record[HEADER_BYTES..].split_at(key_bytes);
    Ok(Record { kind: header.kind, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let key = [7u8; 32];
        let value: Vec<u8> = (0..84).collect();
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Put, &key, &value, 9, 1234);
        assert_eq!(bytes.len(), 128, "84 bytes of inpoints make a record of two cache lines");
        assert_eq!(record_units(32, 84), 8);
        let record = decode(&bytes, 32, 1234).unwrap();
        assert_eq!((record.key, record.value), (&key[..], &value[..]));
        assert_eq!(decode(&bytes, 32, 1235).unwrap_err(), Invalid::Crc, "another seed");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, 32, 1234).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..end], 32, 1234), Err(Invalid::Short(_))), "{end}");
        }
    }

    #[test]
    fn padding_is_not_a_record() {
        let header = padding_header(3, 5, 77);
        assert_eq!(decode(&header, 32, 77).unwrap_err(), Invalid::Padding);
        let decoded = Header::decode(header.first_chunk().unwrap()).unwrap();
        assert_eq!(decoded.value_bytes, 36);
        assert_eq!(decoded.seq, 5);
        assert_eq!(decode(&[0; 64], 32, 0).unwrap_err(), Invalid::Kind, "zeros are no record");
    }
}
