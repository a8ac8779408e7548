//! The summary of a segment: which records it has, in a file beside it, so that reopening need not
//! read the segment.
//!
//! It is made in the background from a segment that nothing is appended to any more. It is never
//! needed: one that is missing, torn or of another version is passed over and the segment walked.
//! docs/format.md has its bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentFactory};
use crate::diskmap::log::walk::{Extent, GAPLESS_BLOCK_BYTES, Walk};
use crate::diskmap::write::COMMIT_BYTES;
use crate::hash::keyed::KeyHash;
use crate::storage::{AlignedBuf, CreateOptions, Storage};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"BTSUMARY";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 40;
const PAGE_BYTES: usize = 4096;

/// One record, as far as recovery has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::diskmap) struct Item {
    pub(in crate::diskmap) hash: u128,
    /// In the segment.
    pub(in crate::diskmap) unit: u32,
    pub(in crate::diskmap) units: u32,
    pub(in crate::diskmap) kind: Kind,
    /// Of a commit: the sequence number of the long record.
    pub(in crate::diskmap) target: u64,
}

impl Item {
    pub(in crate::diskmap) const fn key_hash(&self) -> KeyHash {
        // Both halves by intent.
        KeyHash { hi: (self.hash >> 64) as u64, lo: self.hash as u64 }
    }
}

/// The keyed hash of a key's bytes.
pub(in crate::diskmap) trait HashBytes: Fn(&[u8]) -> Option<KeyHash> {}

impl<F: Fn(&[u8]) -> Option<KeyHash>> HashBytes for F {}

/// Walks the first `units` units of a segment. An error comes with the unit where the log ends as
/// far as it could be read; otherwise that unit is the result.
pub(in crate::diskmap) fn walk(
    factory: &SegmentFactory,
    segment: &Arc<Segment>,
    units: u32,
    hash: &impl HashBytes,
    mut visit: impl FnMut(Item) -> Result<()>,
) -> Result<u32, (Error, u32)> {
    let walk = Walk::new(factory, Arc::clone(segment), GAPLESS_BLOCK_BYTES, Extent::gapless(units));
    let mut walk = walk.map_err(|error| (error, 0))?;
    loop {
        let record = match walk.next() {
            Err(error) => return Err((error, walk.error_unit())),
            Ok(None) => return Ok(walk.unit()),
            Ok(Some(record)) => record,
        };
        let (unit, units, kind) = (record.unit, record.units, record.kind);
        // The walk hands out keys of the factory's length.
        let Some(hash) = hash(record.key) else { return Ok(unit) };
        let bytes: Option<&[u8; COMMIT_BYTES]> = record.value.first_chunk();
        let target = bytes.filter(|_| kind == Kind::Commit);
        let target = target.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = u128::from(hash.hi) << 64 | u128::from(hash.lo);
        visit(Item { hash, unit, units, kind, target }).map_err(|error| (error, unit))?;
    }
}

/// Where a segment's summary is.
pub(in crate::diskmap) fn path(segment: &Path) -> PathBuf {
    segment.with_extension("sum")
}

/// The first bytes of a summary.
fn head(factory: &SegmentFactory, incarnation: u64, end_units: u32, count: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&end_units.to_le_bytes());
    bytes.extend_from_slice(&factory.store_id.to_le_bytes());
    bytes.extend_from_slice(&factory.generation.to_le_bytes());
    bytes.extend_from_slice(&u64::from(factory.lane).to_le_bytes());
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.resize(HEAD_BYTES, 0);
    bytes
}

/// Makes the summary of a segment whose first `end_units` units are all there is.
pub(in crate::diskmap) fn write(
    storage: &dyn Storage,
    factory: &SegmentFactory,
    segment: &Arc<Segment>,
    end_units: u32,
    hash: &impl HashBytes,
) -> Result<()> {
    let mut entries: Vec<u8> = Vec::new();
    let mut count = 0;
    let add = |item: Item| {
        entries.try_reserve(ENTRY_BYTES).map_err(|_| Error::OutOfMemory {
            what: "the summary of a segment",
            bytes: entries.len() as u64,
            available: u64::MAX,
        })?;
        count += 1;
        entries.extend_from_slice(&item.key_hash().hi.to_le_bytes());
        entries.extend_from_slice(&item.key_hash().lo.to_le_bytes());
        entries.extend_from_slice(&item.unit.to_le_bytes());
        entries.extend_from_slice(&item.units.to_le_bytes());
        entries.extend_from_slice(&u64::from(item.kind.bits()).to_le_bytes());
        entries.extend_from_slice(&item.target.to_le_bytes());
        Ok(())
    };
    walk(factory, segment, end_units, hash, add).map_err(|(error, _)| error)?;
    let mut bytes = head(factory, segment.incarnation, end_units, count);
    bytes.append(&mut entries);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    let path = path(segment.path());
    if storage.read_dir(&factory.directory)?.contains(&path) {
        storage.remove_file(&path)?;
    }
    let file = storage.create(&path, &CreateOptions { allocate_bytes: 0, direct: false })?;
    file.write_all_at(&bytes, 0)
}

/// The summary of a segment, read and checked.
pub(in crate::diskmap) struct Summary {
    bytes: AlignedBuf,
    body_bytes: usize,
}

impl Summary {
    fn entries(&self) -> &[[u8; ENTRY_BYTES]] {
        let (chunks, _) = self.bytes[HEAD_BYTES..self.body_bytes].as_chunks();
        chunks
    }

    /// Its records, in the segment's order.
    pub(in crate::diskmap) fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.entries().iter().filter_map(decode)
    }
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<Item> {
    let word = |at: usize| {
        let word = entry.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |word| u64::from_le_bytes(*word))
    };
    Some(Item {
        hash: u128::from(word(0)) << 64 | u128::from(word(8)),
        unit: word(16) as u32,
        units: (word(16) >> 32) as u32,
        kind: Kind::from_bits(word(24) as u32).filter(|kind| kind.has_key())?,
        target: word(32),
    })
}

/// Reads the summary of the segment at `path`; `None` if there is none that can be used.
pub(in crate::diskmap) fn read(
    storage: &dyn Storage,
    factory: &SegmentFactory,
    path: &Path,
    incarnation: u64,
    end_units: u32,
) -> Option<Summary> {
    let file = storage.open_read(&self::path(path)).ok()?;
    let len = file.len().ok()? as usize;
    // Each record takes two units at least.
    let most = (HEAD_BYTES + 4 + end_units as usize / 2 * ENTRY_BYTES).next_multiple_of(PAGE_BYTES);
    if len > most || !len.is_multiple_of(PAGE_BYTES) {
        return None;
    }
    let mut bytes = AlignedBuf::zeroed(len, file.alignment().max(1)).ok()?;
    file.read_exact_at(&mut bytes, 0).ok()?;
    let count = bytes.get(48..).and_then(|rest| rest.first_chunk());
    let count = u64::from_le_bytes(*count?);
    let body_bytes = count.checked_mul(ENTRY_BYTES as u64)?.checked_add(HEAD_BYTES as u64)?;
    let body_bytes = usize::try_from(body_bytes).ok()?;
    let (body, rest) = bytes.split_at_checked(body_bytes)?;
    let expected = head(factory, incarnation, end_units, count);
    let crc = crc32c::crc32c(body).to_le_bytes();
    if body[..HEAD_BYTES] != expected || rest.first_chunk() != Some(&crc) {
        return None;
    }
    let summary = Summary { bytes, body_bytes };
    let first = (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32;
    let fits = |entry| {
        decode(entry).is_some_and(|item| {
            item.unit >= first
                && item.unit.checked_add(item.units).is_some_and(|end| end <= end_units)
        })
    };
    summary.entries().iter().all(fits).then_some(summary)
}
