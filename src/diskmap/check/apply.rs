//! The steps of a repair, done.
//!
//! A file is written whole under another name and made durable before anything has its name
//! changed; each change of a name is made durable before the next:
//!
//! ```text
//!   X.seg.repaired, X.sum.repaired written      the map is as it was
//!   X.seg -> X.seg.aside                        opening is refused: the segment is missing
//!   X.sum -> X.sum.aside
//!   X.seg.repaired -> X.seg                     opening walks the segment
//!   X.sum.repaired -> X.sum
//! ```
//!
//! Whoever repairs again finds one of these states and goes on from it.

use std::path::{Path, PathBuf};

use super::fate::Patch;
use super::lane::REPAIRED;
use super::plan::{SegmentWork, Work};
use super::reader::Reader;
use super::segment::{FIRST_UNIT, Part, Scan, SegmentId};
use super::summary::{self, Item, joined};
use crate::diskmap::log::record::{Kind, UNIT_BYTES};
use crate::hash::keyed::KeyedHasher;
use crate::storage::{AlignedBuf, CreateOptions, Storage};
use crate::{Error, Result};

const UNIT: u64 = UNIT_BYTES as u64;
/// What is written at a time; a multiple of every alignment.
const PIECE_BYTES: usize = 1 << 20;
/// One padding covers at most this much: its length has 28 bits.
const PADDING_UNITS_MAX: u32 = 1 << 24;
/// Ending of what a repair has replaced.
const ASIDE: &str = "aside";

impl Work {
    /// Does it. After an error, or a crash, it can be planned and done again.
    pub(super) fn apply(&self, storage: &dyn Storage) -> Result<()> {
        match self {
            Self::Segment(work) => {
                work.write_segment(storage)?;
                if work.summary_end.is_some() {
                    work.write_summary(storage, &ending(&work.path, REPAIRED))?;
                }
                let directory = parent(&work.path);
                storage.sync_dir(directory)?;
                if work.exists {
                    set_aside(storage, &work.path)?;
                }
                put_in_place(storage, &work.path)
            }
            Self::Summary(work) => {
                work.write_summary(storage, &work.path)?;
                storage.sync_dir(parent(&work.path))?;
                put_summary_in_place(storage, &work.path)
            }
            Self::Manifest { directory, manifest } => {
                keep_manifest(storage, directory)?;
                manifest.write(storage, directory)
            }
            Self::SetAside(path) => set_aside(storage, path),
            Self::PutInPlace(path) => put_in_place(storage, path),
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// A file's name with another word at its end.
fn ending(path: &Path, word: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(word);
    name.into()
}

/// Gives a file a name that means nothing to the map.
fn set_aside(storage: &dyn Storage, path: &Path) -> Result<()> {
    let directory = parent(path);
    storage.rename(path, &free_name(storage, path)?)?;
    storage.sync_dir(directory)
}

/// A name beside a file's that nothing has.
fn free_name(storage: &dyn Storage, path: &Path) -> Result<PathBuf> {
    let files = storage.read_dir(parent(path))?;
    let mut name = ending(path, ASIDE);
    let mut number = 2;
    while files.contains(&name) {
        name = ending(path, &format!("{ASIDE}.{number}"));
        number += 1;
    }
    Ok(name)
}

/// The second half of writing a segment anew.
fn put_in_place(storage: &dyn Storage, path: &Path) -> Result<()> {
    let (directory, sum) = (parent(path), summary::path(path));
    // The old summary names records that are not there any more.
    if storage.read_dir(directory)?.contains(&sum) {
        set_aside(storage, &sum)?;
    }
    storage.rename(&ending(path, REPAIRED), path)?;
    storage.sync_dir(directory)?;
    let waiting = ending(&sum, REPAIRED);
    if storage.read_dir(directory)?.contains(&waiting) {
        storage.rename(&waiting, &sum)?;
    }
    storage.sync_dir(directory)
}

fn put_summary_in_place(storage: &dyn Storage, segment: &Path) -> Result<()> {
    let (directory, sum) = (parent(segment), summary::path(segment));
    if storage.read_dir(directory)?.contains(&sum) {
        set_aside(storage, &sum)?;
    }
    storage.rename(&ending(&sum, REPAIRED), &sum)?;
    storage.sync_dir(directory)
}

/// A copy of a manifest that is about to be replaced; the file itself if it cannot be read.
fn keep_manifest(storage: &dyn Storage, directory: &Path) -> Result<()> {
    let path = directory.join("MANIFEST");
    if !storage.read_dir(directory)?.contains(&path) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let read = Reader::open(storage, &path).and_then(|mut reader| {
        let len = reader.file_bytes();
        reader.pieces(0, len, |_, piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
    });
    if read.is_err() {
        return set_aside(storage, &path);
    }
    let aside = free_name(storage, &path)?;
    let options = CreateOptions { allocate_bytes: 0, direct: false };
    let file = storage.create(&aside, &options)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    storage.sync_dir(directory)
}

/// Makes a file, in the place of one that an interrupted repair has left.
fn create(
    storage: &dyn Storage,
    path: &Path,
    options: &CreateOptions,
) -> Result<Box<dyn crate::storage::StorageFile>> {
    let path = path.to_owned();
    if storage.read_dir(parent(&path))?.contains(&path) {
        storage.remove_file(&path)?;
    }
    storage.create(&path, options)
}

/// The bytes of a patch: at which unit, and what.
fn pieces(id: &SegmentId, patch: &Patch) -> Vec<(u32, Vec<u8>)> {
    let mut pieces = Vec::new();
    let pad = |mut from: u32, to: u32, pieces: &mut Vec<(u32, Vec<u8>)>| {
        while from < to {
            let until = to.min(from + PADDING_UNITS_MAX);
            pieces.push((from, id.padding(&(from..until)).to_vec()));
            from = until;
        }
    };
    let mut at = patch.units.start;
    for again in &patch.records {
        let target = again.target.to_le_bytes();
        let value: &[u8] = if again.kind == Kind::Commit { &target } else { &[] };
        let bytes = id.encode(again.kind, again.unit, &again.key[..id.key_bytes()], value);
        pad(at, again.unit, &mut pieces);
        at = again.unit + (bytes.len() / UNIT_BYTES) as u32;
        pieces.push((again.unit, bytes));
    }
    pad(at, patch.units.end, &mut pieces);
    pieces
}

impl SegmentWork {
    /// Writes the segment beside its place: what is intact as it is, patches, zeros behind the end.
    fn write_segment(&self, storage: &dyn Storage) -> Result<()> {
        let mut source = if self.exists { Some(Reader::open(storage, &self.path)?) } else { None };
        let mut patches: Vec<(u64, Vec<u8>)> = vec![(0, self.id.header())];
        for patch in &self.patches {
            let pieces = pieces(&self.id, patch).into_iter();
            patches.extend(pieces.map(|(unit, bytes)| (u64::from(unit) * UNIT, bytes)));
        }
        let options = CreateOptions::allocated(self.id.identity.segment_bytes);
        let path = ending(&self.path, REPAIRED);
        let file = create(storage, &path, &options)?;
        let end = (u64::from(self.end) * UNIT).next_multiple_of(4096);
        let end = end.min(self.id.identity.segment_bytes);
        let mut buffer = AlignedBuf::zeroed(PIECE_BYTES, file.alignment().max(4096))?;
        let mut at = 0;
        while at < end {
            let len = (end - at).min(PIECE_BYTES as u64) as usize;
            let piece = &mut buffer[..len];
            piece.fill(0);
            if let Some(source) = &mut source {
                self.copy_intact(source, at, piece)?;
            }
            for (start, bytes) in &patches {
                overlay(piece, at, bytes, *start);
            }
            file.write_all_at(piece, at)?;
            at += len as u64;
        }
        file.sync_data()?;
        drop(file);
        self.check_written(storage, &path)
    }

    /// Copies what of `piece`, which is at offset `at`, belongs to no patch.
    fn copy_intact(&self, source: &mut Reader, at: u64, piece: &mut [u8]) -> Result<()> {
        let (first, last) = (at.max(u64::from(FIRST_UNIT) * UNIT), at + piece.len() as u64);
        let last = last.min(u64::from(self.end) * UNIT);
        let mut from = first;
        let damaged = self.patches.iter().map(|patch| super::lane::bytes_of(&patch.units));
        for damaged in damaged.chain(std::iter::once(last..last)) {
            let to = damaged.start.clamp(from, last.max(from));
            source.pieces(from, to, |offset, bytes| {
                overlay(piece, at, bytes, offset);
                Ok(())
            })?;
            from = from.max(damaged.end.min(last));
        }
        Ok(())
    }

    /// What was written has a record, or padding, at every unit.
    fn check_written(&self, storage: &dyn Storage, path: &Path) -> Result<()> {
        let mut reader = Reader::open(storage, path)?;
        let mut scan = Scan::new(&mut reader, &self.id);
        let mut wrong = (!scan.header_matches()?).then_some(0);
        scan.claimed(FIRST_UNIT..self.end, &mut |_, part| {
            if let Part::Damage(units, _) = part {
                wrong = wrong.or(Some(u64::from(units.start) * UNIT));
            }
            Ok(())
        })?;
        let Some(offset) = wrong else { return Ok(()) };
        let reason = "what the repair has written is not what it meant to write".to_owned();
        Err(Error::Corrupt { path: path.to_owned(), offset, reason })
    }

    /// Writes the summary of `segment`, beside its place.
    fn write_summary(&self, storage: &dyn Storage, segment: &Path) -> Result<()> {
        let end = self.summary_end.unwrap_or(self.end);
        let hasher = KeyedHasher::from_secret(self.id.identity.secret);
        let (mut entries, mut count) = (Vec::new(), 0);
        let mut reader = Reader::open(storage, segment)?;
        Scan::new(&mut reader, &self.id).claimed(FIRST_UNIT..self.end, &mut |_, part| {
            if let Part::Record(record) = part {
                let hash = match (self.id.key_bytes(), record.key.first_chunk::<32>()) {
                    (32, Some(key)) => hasher.hash32(key),
                    _ => hasher.hash36(&record.key),
                };
                let super::segment::Record { unit, units, kind, target, .. } = *record;
                summary::encode(
                    &Item { hash: joined(hash), unit, units, kind, target },
                    &mut entries,
                );
                count += 1;
            }
            Ok(())
        })?;
        let path = ending(&summary::path(&self.path), REPAIRED);
        let file = create(storage, &path, &CreateOptions { allocate_bytes: 0, direct: false })?;
        file.write_all_at(&summary::file(&self.id, end, count, &entries), 0)?;
        file.sync_data()
    }
}

/// Copies the part of `bytes`, which stand at `start`, that lies in `piece`, which stands at `at`.
fn overlay(piece: &mut [u8], at: u64, bytes: &[u8], start: u64) {
    let (from, to) = (start.max(at), (start + bytes.len() as u64).min(at + piece.len() as u64));
    if from < to {
        let target = (from - at) as usize..(to - at) as usize;
        piece[target].copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
    }
}
