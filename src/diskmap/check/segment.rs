//! The records of one segment, as docs/format.md has them, and what is none.
//!
//! Unlike recovery's walk this one goes on behind damage: it looks for the next place where a
//! record with that very place's number and checksum begins. Both depend on the store's id, the
//! segment and the offset, so neither bytes inside a value nor those of an earlier use of the disk
//! pass for a record.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use crate::diskmap::durable::Identity;
use crate::diskmap::log::record::{self, HEADER_BYTES, Header, Kind, UNIT_BYTES};
use crate::diskmap::log::segment::SEGMENT_HEADER_BYTES;
use crate::diskmap::write::COMMIT_BYTES;
use crate::{Error, Result};

/// Longest key.
pub(super) const KEY_BYTES_MAX: usize = 36;
/// Where records begin, in units.
pub(super) const FIRST_UNIT: u32 = (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32;
const UNIT: u64 = UNIT_BYTES as u64;
const PAGE_UNITS: u32 = 4096 / UNIT_BYTES as u32;

/// Which segment it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentId {
    pub(super) identity: Identity,
    pub(super) generation: u64,
    pub(super) lane: u32,
    pub(super) incarnation: u64,
}

impl SegmentId {
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        let Self { lane, generation, incarnation, .. } = self;
        directory.join(format!("{lane:03}-{generation:04}-{incarnation:08}.seg"))
    }

    pub(super) fn seed(&self) -> u32 {
        let words =
            [self.identity.store_id, self.generation, u64::from(self.lane), self.incarnation];
        words.iter().fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()))
    }

    pub(super) const fn units(&self) -> u32 {
        (self.identity.segment_bytes / UNIT) as u32
    }

    pub(super) const fn seq(&self, unit: u32) -> u64 {
        self.incarnation.saturating_mul(self.identity.segment_bytes / UNIT) + unit as u64
    }

    pub(super) const fn key_bytes(&self) -> usize {
        self.identity.key_bytes as usize
    }

    /// The first 4096 bytes of the file.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(b"BTSEGMNT");
        bytes.extend_from_slice(&2u32.to_le_bytes());
        bytes.extend_from_slice(&self.identity.key_bytes.to_le_bytes());
        let words = [
            self.identity.store_id,
            self.generation,
            u64::from(self.lane),
            self.incarnation,
            self.identity.segment_bytes,
            self.seq(0),
        ];
        bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
        bytes.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// A record's bytes, whole units.
    pub(super) fn encode(&self, kind: Kind, unit: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        record::encode(&mut bytes, kind, key, value, unit, record::crc_seed(self.seed(), unit));
        bytes
    }

    /// The first unit of padding over a range.
    pub(super) fn padding(&self, units: &Range<u32>) -> [u8; UNIT_BYTES] {
        let (count, seed) = (units.end - units.start, record::crc_seed(self.seed(), units.start));
        record::padding_header(count, units.start, seed)
    }

    pub(super) fn end(&self, unit: u32) -> [u8; UNIT_BYTES] {
        record::end_record(unit, record::crc_seed(self.seed(), unit))
    }
}

/// A key, in the fixed room of the longest.
pub(super) type KeyBytes = [u8; KEY_BYTES_MAX];

/// A record with a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) unit: u32,
    pub(super) units: u32,
    pub(super) kind: Kind,
    pub(super) key: KeyBytes,
    /// Of a commit: the sequence number of the long record.
    pub(super) target: u64,
}

/// What a scan meets.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// An intact record.
    Record(&'a Record),
    /// These units are no record.
    Damage(Range<u32>, String),
    /// First and last offset of bytes that mean nothing and are not zero.
    Slack(Range<u64>),
}

/// What stands at a unit.
enum Stands {
    Record(Record, Range<u64>),
    Padding(u32),
    End,
    Nothing(String),
}

/// A segment's file with what it is to be read as.
pub(super) struct Scan<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) id: &'a SegmentId,
    seed: u32,
}

impl<'a> Scan<'a> {
    pub(super) fn new(reader: &'a mut Reader, id: &'a SegmentId) -> Self {
        let seed = id.seed();
        Self { reader, id, seed }
    }

    /// Whether the header is the one that was written.
    pub(super) fn header_matches(&mut self) -> Result<bool> {
        let expected = self.id.header();
        let found = tolerate(self.reader.at(0, SEGMENT_HEADER_BYTES))?;
        Ok(found.ok().flatten() == Some(&expected[..]))
    }

    /// Goes through `units`, of which every one belongs to something. Returns where the log ends:
    /// at the end of the range or behind a record that ends the segment.
    pub(super) fn claimed(
        &mut self,
        units: Range<u32>,
        visit: &mut dyn FnMut(&mut Reader, Part<'_>) -> Result<()>,
    ) -> Result<u32> {
        let mut at = units.start;
        let mut damage: Option<(u32, String)> = None;
        while at < units.end {
            let stands = self.stands_at(at, units.end)?;
            if let Stands::Nothing(reason) = stands {
                let is_unreadable = reason.starts_with(UNREADABLE);
                damage.get_or_insert((at, reason));
                at = if is_unreadable { (at / PAGE_UNITS + 1) * PAGE_UNITS } else { at + 1 };
                continue;
            }
            if let Some((from, reason)) = damage.take() {
                visit(self.reader, Part::Damage(from..at, reason))?;
            }
            let is_end = matches!(stands, Stands::End);
            at = self.pass(at, stands, visit)?;
            if is_end {
                return Ok(at);
            }
        }
        if let Some((from, reason)) = damage {
            visit(self.reader, Part::Damage(from..units.end, reason))?;
        }
        Ok(units.end)
    }

    /// Goes through what follows, up to the first thing that is no record. Returns where that is,
    /// and whether the segment was ended there by a record.
    pub(super) fn unclaimed(
        &mut self,
        from: u32,
        visit: &mut dyn FnMut(&mut Reader, Part<'_>) -> Result<()>,
    ) -> Result<(u32, bool)> {
        let mut at = from;
        let limit = self.id.units().min((self.reader.file_bytes() / UNIT) as u32);
        while at < limit {
            let stands = self.stands_at(at, limit)?;
            if matches!(stands, Stands::Nothing(_)) {
                return Ok((at, false));
            }
            let is_end = matches!(stands, Stands::End);
            at = self.pass(at, stands, visit)?;
            if is_end {
                return Ok((at, true));
            }
        }
        Ok((at, limit == self.id.units()))
    }

    /// Hands out what stands at a unit; returns where it ends.
    fn pass(
        &mut self,
        at: u32,
        stands: Stands,
        visit: &mut dyn FnMut(&mut Reader, Part<'_>) -> Result<()>,
    ) -> Result<u32> {
        let start = u64::from(at) * UNIT;
        match stands {
            Stands::Record(record, rest) => {
                visit(self.reader, Part::Record(&record))?;
                self.slack(rest, visit)?;
                Ok(at + record.units)
            }
            // What stands behind a padding's header means nothing, whatever it is.
            Stands::Padding(units) => Ok(at + units),
            Stands::End => {
                self.slack(start + HEADER_BYTES as u64..start + UNIT, visit)?;
                Ok(at + 1)
            }
            Stands::Nothing(_) => Ok(at),
        }
    }

    /// Reports bytes of a range that should be zeros and are not.
    fn slack(
        &mut self,
        range: Range<u64>,
        visit: &mut dyn FnMut(&mut Reader, Part<'_>) -> Result<()>,
    ) -> Result<()> {
        if !range.is_empty()
            && let Ok(Some((first, last))) = tolerate(self.reader.not_zero(range.start, range.end))?
        {
            visit(self.reader, Part::Slack(first..last + 1))?;
        }
        Ok(())
    }

    /// The record at a unit that must end before `limit`.
    fn stands_at(&mut self, unit: u32, limit: u32) -> Result<Stands> {
        match tolerate(self.try_stands_at(unit, limit))? {
            Ok(stands) => Ok(stands),
            Err(error) => Ok(Stands::Nothing(format!("{UNREADABLE}: {error}"))),
        }
    }

    fn try_stands_at(&mut self, unit: u32, limit: u32) -> Result<Stands> {
        let nothing = |reason: &str| Ok(Stands::Nothing(reason.to_owned()));
        let start = u64::from(unit) * UNIT;
        let Some(head) = self.reader.at(start, HEADER_BYTES)? else {
            return nothing("the file ends before");
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(head);
        let Some(header) = Header::decode(&bytes) else { return nothing("no record starts here") };
        if header.seq != unit {
            return nothing("the record's number is not that of its place");
        }
        let total = total_bytes(&header, self.id.key_bytes());
        let units = total.div_ceil(UNIT);
        if units > u64::from(limit - unit) {
            return nothing("a record is longer than what was written");
        }
        let has_key = header.kind.has_key();
        let covered = if has_key { total } else { HEADER_BYTES as u64 };
        let seed = record::crc_seed(self.seed, unit);
        if self.reader.crc(seed, start + 4, start + covered)? != Some(header.crc) {
            return nothing("the record's checksum does not match");
        }
        let units = units as u32;
        match header.kind {
            Kind::Padding => return Ok(Stands::Padding(units)),
            Kind::End if units != 1 => return nothing("an end of another length"),
            Kind::End => return Ok(Stands::End),
            Kind::Commit if header.value_bytes as usize != COMMIT_BYTES => {
                return nothing("a commit of another length");
            }
            Kind::Tombstone if header.value_bytes != 0 => {
                return nothing("a deletion with a value");
            }
            _ => {}
        }
        let key = self.key_at(unit)?.unwrap_or([0; KEY_BYTES_MAX]);
        let target = if header.kind == Kind::Commit { self.target_at(unit)? } else { 0 };
        let record = Record { unit, units, kind: header.kind, key, target };
        Ok(Stands::Record(record, start + total..start + u64::from(units) * UNIT))
    }

    /// What would be the key of a record at a unit.
    pub(super) fn key_at(&mut self, unit: u32) -> Result<Option<KeyBytes>> {
        let (offset, bytes) = (u64::from(unit) * UNIT + HEADER_BYTES as u64, self.id.key_bytes());
        let mut key = [0; KEY_BYTES_MAX];
        Ok(self.reader.at(offset, bytes)?.map(|found| {
            key[..bytes].copy_from_slice(found);
            key
        }))
    }

    fn target_at(&mut self, unit: u32) -> Result<u64> {
        let offset = u64::from(unit) * UNIT + (HEADER_BYTES + self.id.key_bytes()) as u64;
        let word = self.reader.at(offset, COMMIT_BYTES)?.and_then(|bytes| bytes.first_chunk());
        Ok(word.map_or(0, |word| u64::from_le_bytes(*word)))
    }

    /// What a damaged range looks like: records whose headers still fit each other, from its first
    /// unit to its last. Nothing of it is checked.
    pub(super) fn looks_like(&mut self, range: &Range<u32>) -> Result<Option<Vec<Record>>> {
        let (mut records, mut at) = (Vec::new(), range.start);
        while at < range.end {
            let offset = u64::from(at) * UNIT;
            let head = tolerate(self.reader.at(offset, HEADER_BYTES))?.ok().flatten();
            let header = head.and_then(<[u8]>::first_chunk).and_then(Header::decode);
            let Some(header) = header.filter(|header| header.seq == at) else { return Ok(None) };
            let units = total_bytes(&header, self.id.key_bytes()).div_ceil(UNIT);
            if units > u64::from(range.end - at) {
                return Ok(None);
            }
            if header.kind.has_key() {
                let Some(key) = tolerate(self.key_at(at))?.ok().flatten() else { return Ok(None) };
                let target = tolerate(self.target_at(at))?.unwrap_or(0);
                let (unit, units, kind) = (at, units as u32, header.kind);
                records.push(Record { unit, units, kind, key, target });
            } else if !self.was(at, &self.id.padding(&(at..at + units as u32)))? {
                return Ok(None);
            }
            at += units as u32;
        }
        Ok(Some(records))
    }

    /// Whether a damaged range was padding, or the segment's end: all but a byte or two of the
    /// header is what it would be, checksum included.
    pub(super) fn was_filler(&mut self, range: &Range<u32>) -> Result<Option<Kind>> {
        if self.was(range.start, &self.id.padding(range))? {
            return Ok(Some(Kind::Padding));
        }
        Ok(self.was(range.start, &self.id.end(range.start))?.then_some(Kind::End))
    }

    fn was(&mut self, unit: u32, expected: &[u8; UNIT_BYTES]) -> Result<bool> {
        let found = tolerate(self.reader.at(u64::from(unit) * UNIT, HEADER_BYTES))?.ok().flatten();
        let Some(found) = found else { return Ok(false) };
        let others = found.iter().zip(expected).filter(|(a, b)| a != b);
        Ok(others.count() <= 2)
    }
}

const UNREADABLE: &str = "cannot be read";

/// Parts errors of reading, which a check reports and passes, from those that end it.
pub(super) fn tolerate<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ (Error::Io { .. } | Error::Corrupt { .. })) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(value) => Ok(Ok(value)),
    }
}

fn total_bytes(header: &Header, key_bytes: usize) -> u64 {
    let key = if header.kind.has_key() { key_bytes } else { 0 };
    (HEADER_BYTES + key) as u64 + u64::from(header.value_bytes)
}
