//! Reading one record: from the tail while its block is there, from the file otherwise.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::log::lane::Lane;
use super::log::record::{self, HEADER_BYTES, Header, Invalid, UNIT_BYTES};
use super::log::segment::{Place, Segment};
use crate::index::Location;
use crate::storage::{AlignedBuf, StorageFile};
use crate::{Error, Result};

/// A first read from a file takes in records of up to this many bytes.
pub(crate) const GUESS_BYTES: usize = 512;
/// Header and key in words: enough for the longest key, 36 bytes.
const HEAD_WORDS: usize = 6;

/// Memory that reads reuse. After a match it holds the record.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    value: std::ops::Range<usize>,
    record: Vec<u8>,
}

thread_local! {
    /// The scratch of single operations: an allocation for each would cost as much as the rest.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// A thread's scratch grows with what it reads; more than this is given back.
const KEPT_BYTES_MAX: usize = 64 << 10;

impl Scratch {
    /// Runs `body` with the thread's scratch.
    pub(crate) fn with<R>(body: impl FnOnce(&mut Self) -> R) -> R {
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let result = body(&mut scratch);
        if scratch.bytes.capacity() + scratch.record.capacity() <= KEPT_BYTES_MAX {
            SCRATCH.set(Some(scratch));
        }
        result
    }

    /// The value of the last match that asked for it.
    pub(crate) fn value(&self) -> &[u8] {
        self.bytes.get(self.value.clone()).unwrap_or_default()
    }

    /// Where a record is put together before it is stored. Apart from the value that was read.
    pub(crate) const fn record_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.record
    }

    pub(crate) fn set_value(&mut self, value: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(value);
        self.value = 0..value.len();
    }
}

/// What stands at a location.
#[derive(Debug)]
pub(crate) enum Found {
    /// Another key.
    Other,
    /// The key, with a value of this many bytes.
    Match { value_bytes: u32 },
    /// The key, with a value that spans blocks and was not read yet.
    Long { value_bytes: u32 },
    /// Not where it was looked for: not in the tail, or the segment is gone.
    Gone,
}

/// Starts to bring a record in the tail near.
pub(crate) fn prefetch(lane: &Lane, location: Location) {
    let place = lane.table().place(location);
    if let Some(block) = lane.block(place) {
        let first_word = place.unit_in_block as usize * (UNIT_BYTES / 8);
        lane.shared().tail.prefetch(block, first_word);
    }
}

/// Appends the record at `location` to `out` if it is in the tail as a whole, without a value only
/// its head. Returns the length of the value that was appended.
pub(crate) fn record_from_tail(
    lane: &Lane,
    location: Location,
    key_bytes: usize,
    want_value: bool,
    out: &mut Vec<u8>,
) -> Option<usize> {
    let place = lane.table().place(location);
    let block = lane.block(place)?;
    let tail = &lane.shared().tail;
    let first_word = place.unit_in_block as usize * (UNIT_BYTES / 8);
    let start = out.len();
    let complete = tail.append_bytes(block, first_word, HEAD_WORDS, out).then(|| {
        let header = Header::decode(out[start..].first_chunk::<HEADER_BYTES>()?)?;
        let value_bytes = if want_value { header.value_bytes as usize } else { 0 };
        let words = record::record_units(key_bytes, value_bytes) as usize * (UNIT_BYTES / 8);
        // The part of a record behind the end of its block is none of this block's words.
        let rest = words.saturating_sub(HEAD_WORDS);
        tail.append_bytes(block, first_word + HEAD_WORDS, rest, out).then_some(value_bytes)
    });
    let value_bytes = complete.flatten();
    if value_bytes.is_none() {
        out.truncate(start);
    }
    value_bytes
}

/// The bytes of the record at `place`, from blocks in the tail and the file; not checked.
pub(crate) fn whole_record(
    lane: &Lane,
    segment: &Segment,
    place: Place,
    key_bytes: usize,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut total = record::record_bytes(key_bytes, 0);
    loop {
        bytes.clear();
        if !read_span(lane, segment, place, total, &mut bytes)? {
            return Err(Error::Closed("segment"));
        }
        let header = bytes.first_chunk::<HEADER_BYTES>().and_then(Header::decode);
        let length = header.map_or(0, |header| header.value_bytes as usize);
        let wanted = record::record_bytes(key_bytes, length);
        let end = place.offset_bytes() + wanted as u64;
        if wanted <= bytes.len() || end > lane.segment_bytes() {
            return Ok(bytes);
        }
        total = wanted;
    }
}

/// Compares the record at `location` with `key`, in the tail only.
pub(crate) fn from_tail(
    lane: &Lane,
    location: Location,
    key: &[u8],
    want_value: bool,
    scratch: &mut Scratch,
) -> Found {
    let place = lane.table().place(location);
    let Some(block) = lane.block(place) else { return Found::Gone };
    let first_word = place.unit_in_block as usize * (UNIT_BYTES / 8);
    let long_units = want_value.then(|| lane.short_units_max());
    let look = |words: &[AtomicU64]| accept_words(words, key, long_units, scratch);
    // What was found counts if the block was still there after the last look.
    lane.shared().tail.look_at(block, first_word, look).flatten().unwrap_or(Found::Gone)
}

/// Compares the record at the start of `words` with `key`; with a limit of units, a value of a
/// record within it goes to `scratch`. None if it does not fit the words.
#[inline(always)]
fn accept_words(
    words: &[AtomicU64],
    key: &[u8],
    long_units: Option<u32>,
    scratch: &mut Scratch,
) -> Option<Found> {
    let mut head = [0u8; HEAD_WORDS * 8];
    copy_words(words.get(..HEAD_WORDS)?, &mut head);
    let header = head.first_chunk::<HEADER_BYTES>().and_then(Header::decode);
    let Some(header) = header.filter(|header| header.kind.is_value()) else {
        return Some(Found::Other);
    };
    if head[HEADER_BYTES..HEADER_BYTES + key.len()] != *key {
        return Some(Found::Other);
    }
    let value_bytes = header.value_bytes;
    let Some(long_units) = long_units else { return Some(Found::Match { value_bytes }) };
    let units = record::record_units(key.len(), value_bytes as usize);
    if units > long_units {
        return Some(Found::Long { value_bytes });
    }
    let words = words.get(..units as usize * (UNIT_BYTES / 8))?;
    scratch.bytes.resize(words.len() * 8, 0);
    copy_words(words, &mut scratch.bytes);
    let start = HEADER_BYTES + key.len();
    scratch.value = start..start + value_bytes as usize;
    Some(Found::Match { value_bytes })
}

fn copy_words(words: &[AtomicU64], bytes: &mut [u8]) {
    let (chunks, _) = bytes.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = u64::from_le(word.load(Ordering::Relaxed)).to_le_bytes();
    }
}

/// The segment of a location and the place in it, if the slot is in use.
pub(crate) fn segment_at(lane: &Lane, location: Location) -> Option<(Arc<Segment>, Place)> {
    let place = lane.table().place(location);
    let segment = lane.table().entry(place.slot)?.segment.load_full()?;
    Some((segment, place))
}

/// Compares the record at `location` with `key`, reading files. Errors must be believed only if the
/// location is still current: a segment that was replaced meanwhile has other records in this
/// place.
pub(crate) fn from_file(
    lane: &Lane,
    segment: &Segment,
    place: Place,
    key: &[u8],
    scratch: &mut Scratch,
) -> Result<Found> {
    let Some(file) = segment.file() else { return Ok(Found::Gone) };
    let seed = record::crc_seed(segment.seed, place.unit_in_segment);
    let offset = place.offset_bytes();
    let window = read_window(file, offset, GUESS_BYTES, lane)?;
    let bytes = &window.buffer[window.skip..];
    match record::decode(bytes, key.len(), seed) {
        Ok(record) => Ok(accept(record, key, scratch)),
        Err(Invalid::Short(total)) if offset + total as u64 <= lane.segment_bytes() => {
            from_blocks(lane, segment, place, key, total, scratch)
        }
        Err(why) => Err(corrupt(segment, offset, why)),
    }
}

/// Reads a record of `total` bytes block by block, each from the tail or from the file, and
/// compares it with `key`.
pub(crate) fn from_blocks(
    lane: &Lane,
    segment: &Segment,
    place: Place,
    key: &[u8],
    total: usize,
    scratch: &mut Scratch,
) -> Result<Found> {
    let mut bytes = Vec::new();
    if !read_span(lane, segment, place, total, &mut bytes)? {
        return Ok(Found::Gone);
    }
    let seed = record::crc_seed(segment.seed, place.unit_in_segment);
    record::decode(&bytes, key.len(), seed)
        .map(|record| accept(record, key, scratch))
        .map_err(|why| corrupt(segment, place.offset_bytes(), why))
}

fn accept(record: record::Record<'_>, key: &[u8], scratch: &mut Scratch) -> Found {
    if record.key != key || !record.kind.is_value() {
        return Found::Other;
    }
    scratch.set_value(record.value);
    Found::Match { value_bytes: record.value.len() as u32 }
}

/// The error for bytes that are not the record that a slot points to.
pub(crate) fn corrupt(segment: &Segment, offset: u64, why: Invalid) -> Error {
    let reason = match why {
        Invalid::Kind => "no record starts here".to_owned(),
        Invalid::Short(bytes) => format!("the record's length of {bytes} bytes is impossible"),
        Invalid::Crc => "the record's checksum does not match".to_owned(),
        Invalid::Padding => "padding where a record should be".to_owned(),
    };
    Error::Corrupt { path: segment.path().clone(), offset, reason }
}

/// Aligned bytes of a file that cover a range.
pub(crate) struct Window {
    pub(crate) buffer: AlignedBuf,
    /// Where the range starts in the buffer.
    pub(crate) skip: usize,
}

/// Reads at least `bytes` bytes (less at the end of the segment) from `offset`.
pub(crate) fn read_window(
    file: &dyn StorageFile,
    offset: u64,
    bytes: usize,
    lane: &Lane,
) -> Result<Window> {
    let alignment = file.alignment().max(1) as u64;
    let start = offset - offset % alignment;
    let end = (offset + bytes as u64).next_multiple_of(alignment).min(lane.segment_bytes());
    let mut buffer = AlignedBuf::zeroed((end - start) as usize, alignment as usize)?;
    file.read_exact_at(&mut buffer, start)?;
    lane.disk().stats().add_read(end - start);
    Ok(Window { buffer, skip: (offset - start) as usize })
}

/// Reads a record that may span blocks, each from the tail or from the file. False if a block is in
/// neither, which means that the segment was given up.
fn read_span(
    lane: &Lane,
    segment: &Segment,
    place: Place,
    bytes: usize,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let tail = &lane.shared().tail;
    let total = bytes.next_multiple_of(UNIT_BYTES);
    out.try_reserve_exact(total).map_err(|_| Error::OutOfMemory {
        what: "a long value",
        bytes: total as u64,
        available: u64::MAX,
    })?;
    let mut offset = place.offset_bytes();
    while out.len() < total {
        let in_block = (offset % tail.block_bytes() as u64) as usize;
        let piece = (total - out.len()).min(tail.block_bytes() - in_block);
        let at = Place { block: (offset / tail.block_bytes() as u64) as usize, ..place };
        let length = out.len();
        let in_tail = lane
            .block(at)
            .is_some_and(|block| tail.append_bytes(block, in_block / 8, piece / 8, out));
        if !in_tail {
            out.truncate(length);
            let Some(file) = segment.file() else { return Ok(false) };
            let window = read_window(file, offset, piece, lane)?;
            out.extend_from_slice(&window.buffer[window.skip..][..piece]);
        }
        offset += piece as u64;
    }
    Ok(true)
}
