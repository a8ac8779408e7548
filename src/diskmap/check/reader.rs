//! Bytes of a file through one window of bounded size.

use std::path::Path;

use crate::storage::{AlignedBuf, Storage, StorageFile};
use crate::{Error, Result};

/// The largest window.
const WINDOW_BYTES: u64 = 1 << 20;
/// The window where a large one cannot be read: as little as possible is lost to a bad sector.
const PAGE_BYTES: usize = 4096;
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// See the module's text.
pub(super) struct Reader {
    file: Box<dyn StorageFile>,
    buffer: AlignedBuf,
    alignment: usize,
    start: u64,
    len: usize,
    file_bytes: u64,
    read_bytes: u64,
}

impl Reader {
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> Result<Self> {
        let file = storage.open_read(path)?;
        let alignment = file.alignment().max(1);
        let len = file.len()?;
        // Direct reads end at a multiple of the alignment; no file of ours ends elsewhere.
        let file_bytes = len - len % alignment as u64;
        let window = WINDOW_BYTES.min(file_bytes.next_multiple_of(PAGE_BYTES as u64));
        let window = (window as usize).max(PAGE_BYTES).next_multiple_of(alignment);
        let buffer = AlignedBuf::zeroed(window, alignment)?;
        Ok(Self { file, buffer, alignment, start: 0, len: 0, file_bytes, read_bytes: 0 })
    }

    /// How long the file is, as far as it can be read.
    pub(super) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes read since the last call.
    pub(super) const fn take_read_bytes(&mut self) -> u64 {
        std::mem::replace(&mut self.read_bytes, 0)
    }

    /// `bytes` bytes, at most a page, at `offset`; `None` if the file ends before.
    pub(super) fn at(&mut self, offset: u64, bytes: usize) -> Result<Option<&[u8]>> {
        if offset + bytes as u64 > self.file_bytes {
            return Ok(None);
        }
        self.fill(offset, bytes)?;
        let skip = (offset - self.start) as usize;
        Ok(self.buffer[..self.len].get(skip..skip + bytes))
    }

    /// Hands out the bytes from `from` to `to` piece by piece; false if the file ends before.
    pub(super) fn pieces(
        &mut self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        if to > self.file_bytes {
            return Ok(false);
        }
        let mut at = from;
        while at < to {
            self.fill(at, 1)?;
            let skip = (at - self.start) as usize;
            let piece = &self.buffer[skip..self.len];
            let piece = &piece[..piece.len().min((to - at) as usize)];
            visit(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(true)
    }

    /// The CRC-32C of a range, continued from `seed`.
    pub(super) fn crc(&mut self, seed: u32, from: u64, to: u64) -> Result<Option<u32>> {
        let mut crc = seed;
        let whole = self.pieces(from, to, |_, piece| {
            crc = crc32c::crc32c_append(crc, piece);
            Ok(())
        })?;
        Ok(whole.then_some(crc))
    }

    /// First and last byte of a range that are not zero.
    pub(super) fn not_zero(&mut self, from: u64, to: u64) -> Result<Option<(u64, u64)>> {
        let mut found: Option<(u64, u64)> = None;
        self.pieces(from, to.min(self.file_bytes), |at, piece| {
            // Comparing whole pages is several times as fast as looking at bytes.
            for (page, bytes) in piece.chunks(PAGE_BYTES).enumerate() {
                if bytes == &ZEROS[..bytes.len()] {
                    continue;
                }
                let at = at + (page * PAGE_BYTES) as u64;
                let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
                let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(first);
                let first = found.map_or(at + first as u64, |(first, _)| first);
                found = Some((first, at + last as u64));
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn fill(&mut self, offset: u64, bytes: usize) -> Result<()> {
        if offset >= self.start && offset + bytes as u64 <= self.start + self.len as u64 {
            return Ok(());
        }
        let start = offset - offset % self.alignment as u64;
        let needed = (offset - start) as usize + bytes;
        let rest = (self.file_bytes - start) as usize;
        self.len = 0;
        let window = self.buffer.len().min(rest);
        if let Err(error) = self.file.read_exact_at(&mut self.buffer[..window], start) {
            let small = needed.next_multiple_of(self.alignment.max(PAGE_BYTES)).min(rest);
            if small == window || matches!(error, Error::InvalidArgument(_)) {
                return Err(error);
            }
            self.file.read_exact_at(&mut self.buffer[..small], start)?;
            self.len = small;
        } else {
            self.len = window;
        }
        self.start = start;
        self.read_bytes += self.len as u64;
        Ok(())
    }
}
