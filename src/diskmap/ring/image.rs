//! The ring of a process that was killed: what of it is not in the segments goes there.
//!
//! Only what no manifest claims is written, each block to its place, record after record from the
//! start to the end. So doing it twice is doing it once, and recovery goes on as after any crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::block::{Frame, mend};
use super::header::{ENTRY_BYTES, HEADER_BYTES, Header, Owner, boot_id, file_name, is_of_boot};
use super::table::{Claim, decode};
use crate::diskmap::durable::Manifest;
use crate::diskmap::log::record::{self, Kind, UNIT_BYTES};
use crate::diskmap::log::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentFactory};
use crate::storage::{AlignedBuf, Storage, StorageFile};
use crate::{Error, Result};

const HEADER_UNITS: u32 = (SEGMENT_HEADER_BYTES / UNIT_BYTES) as u32;
/// Bytes of one read of a long record.
const WINDOW_BYTES: usize = 1 << 20;

/// Where the log of a lane ends at least: the incarnation of a segment, and a unit in it behind
/// which there is a record; none if the ring does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::diskmap) struct LaneEnd(pub(in crate::diskmap) Option<(u64, u32)>);

/// See the module's text.
#[derive(Debug)]
pub(in crate::diskmap) struct Image {
    path: PathBuf,
    file: Box<dyn StorageFile>,
    header: Header,
    blocks: Vec<Held>,
}

/// A block in the ring.
#[derive(Debug, Clone, Copy)]
struct Held {
    buffer: u32,
    claim: Claim,
    /// It is in its file, too.
    is_written: bool,
}

/// A segment that blocks go to.
struct Target<'a> {
    factory: &'a SegmentFactory,
    segment: Segment,
    /// Of a file that was there.
    opened: Option<Box<dyn StorageFile>>,
    /// Up to here a manifest claims it.
    durable_units: u32,
    block_units: u32,
}

impl Image {
    /// Reads the table of ring `ring_id`, which lies in one of `directories`; none if the machine
    /// was restarted since.
    pub(in crate::diskmap) fn read(
        storage: &dyn Storage,
        directories: &[&Path],
        owner: Owner,
        ring_id: u64,
    ) -> Result<Option<Self>> {
        let boot = boot_id()?;
        if !is_of_boot(ring_id, boot) {
            return Ok(None);
        }
        let name = file_name(owner.store_id, ring_id);
        let mut path = None;
        for directory in directories {
            let here = directory.join(&name);
            if storage.read_dir(directory)?.contains(&here) {
                path = Some(here);
                break;
            }
        }
        let Some(path) = path else {
            let path = directories.first().map(|directory| directory.join(&name));
            let reason = "the ring of a killed process is missing; put it back, or name the \
                          directory that has it (txMapRingDir)";
            return Err(corrupt(&path.unwrap_or_default(), 0, reason));
        };
        let file = storage.open_read(&path)?;
        let len = file.len()?;
        let mut page = AlignedBuf::zeroed(HEADER_BYTES, file.alignment().max(1))?;
        if len >= HEADER_BYTES as u64 {
            file.read_exact_at(&mut page, 0)?;
        }
        let header = Header::decode(&path, &page, len)?;
        if header.boot != boot {
            return Ok(None);
        }
        if header.owner != owner || header.ring_id != ring_id {
            let reason = "the ring belongs to another map; put this map's ring back from a copy";
            return Err(corrupt(&path, 16, reason));
        }
        let blocks = read_table(&path, file.as_ref(), &header)?;
        Ok(Some(Self { path, file, header, blocks }))
    }

    const fn block_units(&self) -> u32 {
        (self.header.geometry.block_bytes / UNIT_BYTES as u64) as u32
    }

    /// Writes the lane's blocks that are in the ring alone to their segments, and counts them.
    pub(in crate::diskmap) fn redo(
        &self,
        storage: &dyn Storage,
        factory: &SegmentFactory,
        manifest: &Manifest,
        written: &mut u64,
    ) -> Result<LaneEnd> {
        let mut segments: BTreeMap<u64, Vec<Held>> = BTreeMap::new();
        for held in &self.blocks {
            let claim = &held.claim;
            if claim.generation == factory.generation && claim.lane == factory.lane {
                segments.entry(claim.incarnation).or_default().push(*held);
            }
        }
        let mut end = LaneEnd(None);
        for (incarnation, mut blocks) in segments {
            let Some(durable_units) = claimed(manifest, incarnation) else { continue };
            blocks.sort_unstable_by_key(|held| held.claim.block);
            let last = blocks.last().map_or(0, |held| held.claim.block);
            let start = if last == 0 { HEADER_UNITS } else { last * self.block_units() };
            end = LaneEnd(Some((incarnation, start)));
            self.redo_segment(storage, factory, incarnation, durable_units, &blocks)?;
            *written += blocks.iter().filter(|held| !held.is_written).count() as u64;
        }
        Ok(end)
    }

    fn redo_segment(
        &self,
        storage: &dyn Storage,
        factory: &SegmentFactory,
        incarnation: u64,
        durable_units: u32,
        blocks: &[Held],
    ) -> Result<()> {
        let block_units = self.block_units();
        let last = blocks.last().map_or(0, |held| held.claim.block);
        let is_unfinished = |held: &&Held| !held.is_written || held.claim.block == last;
        let longs: BTreeSet<_> =
            blocks.iter().filter(is_unfinished).map(|h| h.claim.long).collect();
        let longs: Vec<_> = longs.into_iter().filter(|(_, units)| *units > 0).collect();
        if longs.is_empty() && blocks.iter().all(|held| held.is_written) {
            return Ok(());
        }
        let segment = factory.make(0, incarnation);
        let mut target = Target { factory, segment, opened: None, durable_units, block_units };
        target.open(storage)?;
        let alignment = target.file()?.alignment().max(self.file.alignment());
        let mut bytes = AlignedBuf::zeroed(self.header.geometry.block_bytes as usize, alignment)?;
        for held in blocks.iter().filter(|held| !held.is_written) {
            self.read_block(&target, held, &mut bytes)?;
            target.write_block(held.claim.block, &bytes)?;
        }
        for (unit, units) in longs {
            target.mend_long(unit, units, (last + 1) * block_units)?;
        }
        Ok(())
    }

    /// A block without its holes.
    fn read_block(&self, target: &Target<'_>, held: &Held, bytes: &mut AlignedBuf) -> Result<()> {
        let (claim, block_units) = (&held.claim, self.block_units());
        let offset = self.header.geometry.buffer_offset(held.buffer);
        self.file.read_exact_at(bytes, offset)?;
        let first_unit = claim.block * block_units;
        let mut lead_units = 0;
        if claim.block == 0 {
            let header = target.factory.header(&target.segment);
            bytes[..header.len()].copy_from_slice(&header);
            lead_units = HEADER_UNITS;
        }
        if claim.long.1 > 0 {
            let long_end = claim.long.0.saturating_add(claim.long.1);
            let in_block = long_end.saturating_sub(first_unit).min(block_units);
            lead_units = lead_units.max(in_block);
        }
        let segment_seed = target.segment.seed;
        let key_bytes = target.factory.key_bytes as usize;
        let frame = Frame { first_unit, lead_units, segment_seed, key_bytes };
        mend(bytes, frame).map_err(|(unit, reason)| {
            corrupt(&self.path, offset + u64::from(unit) * UNIT_BYTES as u64, reason)
        })
    }
}

impl Target<'_> {
    /// Opens the segment's file, or makes it.
    fn open(&mut self, storage: &dyn Storage) -> Result<()> {
        let path = self.segment.path();
        if !storage.read_dir(&self.factory.directory)?.contains(path) {
            // Within the directory's quota, like every new segment.
            return self.segment.file_for_write().map(drop);
        }
        let file = storage.open_write(path)?;
        if file.len()? < self.factory.segment_bytes {
            // The kill came between its making and its first block.
            file.set_len(self.factory.segment_bytes)?;
        }
        self.opened = Some(file);
        Ok(())
    }

    fn file(&self) -> Result<&dyn StorageFile> {
        let made = || self.segment.file();
        self.opened.as_deref().or_else(made).ok_or(Error::Closed("segment"))
    }

    /// Writes what no manifest claims of a block.
    fn write_block(&self, block: u32, bytes: &[u8]) -> Result<()> {
        let start = u64::from(block * self.block_units) * UNIT_BYTES as u64;
        let claimed = u64::from(self.durable_units) * UNIT_BYTES as u64;
        let skip = claimed.saturating_sub(start).min(bytes.len() as u64);
        if skip < bytes.len() as u64 {
            self.file()?.write_all_at(&bytes[skip as usize..], start + skip)?;
        }
        Ok(())
    }

    /// Turns a long record at `unit` that was not completed into padding, up to `end` at most.
    fn mend_long(&self, unit: u32, units: u32, end: u32) -> Result<()> {
        if unit < self.durable_units || self.is_whole(unit, units)? {
            return Ok(());
        }
        let file = self.file()?;
        // A long record begins behind a header or with a block: at a page.
        let offset = u64::from(unit) * UNIT_BYTES as u64;
        let mut page = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES, file.alignment().max(1))?;
        file.read_exact_at(&mut page, offset)?;
        let covered = units.min(end.saturating_sub(unit));
        let seed = record::crc_seed(self.segment.seed, unit);
        page[..UNIT_BYTES].copy_from_slice(&record::padding_header(covered, unit, seed));
        file.write_all_at(&page, offset)
    }

    /// Whether there is a whole long record of `units` units.
    fn is_whole(&self, unit: u32, units: u32) -> Result<bool> {
        let file = self.file()?;
        let (start, len) = (u64::from(unit) * UNIT_BYTES as u64, units as usize * UNIT_BYTES);
        let mut window = AlignedBuf::zeroed(WINDOW_BYTES, file.alignment().max(1))?;
        let mut crc = record::crc_seed(self.segment.seed, unit);
        let (mut stated, mut total, mut done) = (0, 0, 0);
        while done < len {
            let rest = (len - done).next_multiple_of(SEGMENT_HEADER_BYTES);
            let now = rest.min(window.len());
            if start + (done + now) as u64 > self.factory.segment_bytes {
                return Ok(false);
            }
            file.read_exact_at(&mut window[..now], start + done as u64)?;
            let mut from = 0;
            if done == 0 {
                let header = window.first_chunk().and_then(record::Header::decode);
                let Some(header) = header.filter(|h| h.kind == Kind::Long && h.seq == unit) else {
                    return Ok(false);
                };
                stated = header.crc;
                let key_bytes = self.factory.key_bytes as usize;
                total = record::record_bytes(key_bytes, header.value_bytes as usize);
                from = 4;
            }
            if total.div_ceil(UNIT_BYTES) != units as usize {
                return Ok(false);
            }
            let to = now.min(total.saturating_sub(done));
            crc = crc32c::crc32c_append(crc, window.get(from..to).unwrap_or_default());
            done += now;
        }
        Ok(crc == stated)
    }
}

/// Up to which unit a manifest claims a segment; none if it is garbage.
fn claimed(manifest: &Manifest, incarnation: u64) -> Option<u32> {
    let listed = manifest.entries.iter().find(|entry| entry.incarnation == incarnation);
    match listed {
        // All of it: what the ring has of it is older.
        Some(entry) if entry.complete => None,
        Some(entry) => Some(entry.end_units),
        None => (incarnation >= manifest.open_from).then_some(0),
    }
}

fn read_table(path: &Path, file: &dyn StorageFile, header: &Header) -> Result<Vec<Held>> {
    let geometry = header.geometry;
    let bytes = geometry.data_offset() as usize - HEADER_BYTES;
    let mut table = AlignedBuf::zeroed(bytes, file.alignment().max(1))?;
    file.read_exact_at(&mut table, HEADER_BYTES as u64)?;
    let blocks_per_segment = header.owner.segment_bytes / geometry.block_bytes;
    let mut blocks = Vec::new();
    for (buffer, entry) in (0..geometry.buffers).zip(table.as_chunks::<ENTRY_BYTES>().0) {
        let at = HEADER_BYTES as u64 + u64::from(buffer) * ENTRY_BYTES as u64;
        let wrong = |offset: u64| {
            corrupt(
                path,
                at + offset,
                "the checksum of an entry of the ring's table does not match",
            )
        };
        let Some((claim, is_written)) = decode(header.ring_id, buffer, entry).map_err(wrong)?
        else {
            continue;
        };
        if u64::from(claim.block) >= blocks_per_segment || claim.lane >= header.owner.directories {
            return Err(corrupt(path, at, "an entry of the ring's table names no block"));
        }
        blocks.push(Held { buffer, claim, is_written });
    }
    Ok(blocks)
}

fn corrupt(path: &Path, offset: u64, reason: &str) -> Error {
    Error::Corrupt { path: path.to_owned(), offset, reason: reason.to_owned() }
}
