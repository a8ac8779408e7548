//! The summary of a segment: held against the segment's records one by one, and made anew.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::segment::{FIRST_UNIT, SegmentId, tolerate};
use crate::Result;
use crate::diskmap::log::record::Kind;
use crate::hash::keyed::KeyHash;
use crate::storage::Storage;

const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 40;
const PAGE_BYTES: u64 = 4096;

/// One record of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) hash: u128,
    pub(super) unit: u32,
    pub(super) units: u32,
    pub(super) kind: Kind,
    pub(super) target: u64,
}

pub(super) fn joined(hash: KeyHash) -> u128 {
    u128::from(hash.hi) << 64 | u128::from(hash.lo)
}

pub(super) const fn parted(hash: u128) -> KeyHash {
    KeyHash { hi: (hash >> 64) as u64, lo: hash as u64 }
}

/// Where a segment's summary is.
pub(super) fn path(segment: &Path) -> PathBuf {
    segment.with_extension("sum")
}

fn head(id: &SegmentId, end_units: u32, count: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.extend_from_slice(b"BTSUMARY");
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&end_units.to_le_bytes());
    let words = [id.identity.store_id, id.generation, u64::from(id.lane), id.incarnation, count, 0];
    bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
    bytes
}

/// The bytes of a summary's file. `entries` are what [`encode`] made.
pub(super) fn file(id: &SegmentId, end_units: u32, count: u64, entries: &[u8]) -> Vec<u8> {
    let mut bytes = head(id, end_units, count);
    bytes.extend_from_slice(entries);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES as usize), 0);
    bytes
}

/// Appends an entry.
pub(super) fn encode(item: &Item, entries: &mut Vec<u8>) {
    let hash = parted(item.hash);
    entries.extend_from_slice(&hash.hi.to_le_bytes());
    entries.extend_from_slice(&hash.lo.to_le_bytes());
    entries.extend_from_slice(&item.unit.to_le_bytes());
    entries.extend_from_slice(&item.units.to_le_bytes());
    entries.extend_from_slice(&u64::from(item.kind.bits()).to_le_bytes());
    entries.extend_from_slice(&item.target.to_le_bytes());
}

/// A summary whose checksum matches.
pub(super) struct Summary {
    reader: Reader,
    count: u64,
    /// The next entry.
    next: u64,
}

/// What reading a summary found.
pub(super) enum Opened {
    Missing,
    /// Why it cannot be used.
    Damaged(String),
    /// And the offset of a byte behind it that should be zero, if there is one.
    Intact(Summary, Option<u64>),
}

impl Summary {
    pub(super) fn open(
        storage: &dyn Storage,
        segment: &Path,
        files: &[PathBuf],
        id: &SegmentId,
        end_units: u32,
    ) -> Result<Opened> {
        let path = path(segment);
        if !files.contains(&path) {
            return Ok(Opened::Missing);
        }
        let opened =
            Reader::open(storage, &path).and_then(|reader| Self::check(reader, id, end_units));
        Ok(tolerate(opened)?.unwrap_or_else(|error| Opened::Damaged(error.to_string())))
    }

    fn check(mut reader: Reader, id: &SegmentId, end_units: u32) -> Result<Opened> {
        let damaged = |reason: &str| Ok(Opened::Damaged(reason.to_owned()));
        let Some(found) = reader.at(0, HEAD_BYTES)? else { return damaged("it is too short") };
        let count = found[48..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        // Each record takes two units at least, so a larger count is none.
        if count > u64::from(end_units) || found != head(id, end_units, count) {
            return damaged("its head is not that of this segment's summary");
        }
        let body_bytes = HEAD_BYTES as u64 + count * ENTRY_BYTES as u64;
        let crc = reader.crc(0, 0, body_bytes)?;
        let stated = reader.at(body_bytes, 4)?.and_then(|bytes| bytes.first_chunk());
        if crc.is_none() || crc != stated.map(|word| u32::from_le_bytes(*word)) {
            return damaged("its checksum does not match");
        }
        let file_bytes = reader.file_bytes();
        if file_bytes != (body_bytes + 4).next_multiple_of(PAGE_BYTES) {
            return damaged("its length is not that of its records");
        }
        let slack = reader.not_zero(body_bytes + 4, file_bytes)?.map(|(first, _)| first);
        Ok(Opened::Intact(Self { reader, count, next: 0 }, slack))
    }

    /// The next entry, which stays the next one until it is taken; `None` behind the last, or if it
    /// is no entry.
    pub(super) fn peek(&mut self) -> Result<Option<Item>> {
        if self.next >= self.count {
            return Ok(None);
        }
        let offset = HEAD_BYTES as u64 + self.next * ENTRY_BYTES as u64;
        let Some(entry) = self.reader.at(offset, ENTRY_BYTES)? else { return Ok(None) };
        let word = |at: usize| {
            let word = entry.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let (unit, units) = (word(16) as u32, (word(16) >> 32) as u32);
        let kind = Kind::from_bits(word(24) as u32).filter(|kind| kind.has_key());
        let kind = kind.filter(|_| unit >= FIRST_UNIT && units > 0);
        let hash = u128::from(word(0)) << 64 | u128::from(word(8));
        Ok(kind.map(|kind| Item { hash, unit, units, kind, target: word(32) }))
    }

    pub(super) const fn take(&mut self) {
        self.next += 1;
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.next >= self.count
    }

    pub(super) const fn take_read_bytes(&mut self) -> u64 {
        self.reader.take_read_bytes()
    }
}
