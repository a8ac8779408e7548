//! Which block each buffer of a ring holds.
//!
//! An entry is valid when its first word fits the others; that word is cleared first and set last.
//! A kill finds each entry as the instructions before it left it (docs/design.md, K1); the fences
//! keep the compiler from another order.
//!
//! Threads: an entry is changed by whoever has its buffer: the opener, then the writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use parking_lot::Mutex;

use super::header::{
    ENTRY_BYTES, Geometry, HEADER_BYTES, Header, Place, boot_id, file_name, new_ring_id,
};
use crate::storage::{CreateOptions, Mapping, Storage, explain};
use crate::{Error, Result};

const ENTRY_WORDS: usize = ENTRY_BYTES / 8;
/// Words of an entry that its first word vouches for.
const CLAIM_WORDS: usize = 4;
const WRITTEN_WORD: usize = 5;
/// Set in every first word, so that none is 0.
const IN_USE: u64 = 1 << 32;

/// A block that a buffer is the home of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) generation: u64,
    pub(crate) incarnation: u64,
    pub(crate) lane: u32,
    pub(crate) block: u32,
    /// The long record that the block begins with or goes on with: its first unit in the segment,
    /// and its units; 0 units for none.
    pub(crate) long: (u32, u32),
}

impl Claim {
    const fn words(&self) -> [u64; CLAIM_WORDS] {
        [
            self.generation,
            self.incarnation,
            self.lane as u64 | (self.block as u64) << 32,
            self.long.0 as u64 | (self.long.1 as u64) << 32,
        ]
    }
}

/// The first word of a buffer's entry.
fn seal(ring_id: u64, buffer: u32, words: [u64; CLAIM_WORDS]) -> u64 {
    let identity = [ring_id, u64::from(buffer)];
    let all = identity.iter().chain(&words);
    let crc = all.fold(0, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()));
    IN_USE | u64::from(crc)
}

/// What the entry of a buffer says: its block, and whether that is in its file; none for a buffer
/// without a block. The error is the offset in the entry of what is wrong.
pub(super) fn decode(
    ring_id: u64,
    buffer: u32,
    entry: &[u8; ENTRY_BYTES],
) -> Result<Option<(Claim, bool)>, u64> {
    let mut words = [0; ENTRY_WORDS];
    for (word, bytes) in words.iter_mut().zip(entry.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [first, generation, incarnation, place, long, written, ..] = words;
    if first == 0 {
        return Ok(None);
    }
    if first != seal(ring_id, buffer, [generation, incarnation, place, long]) {
        return Err(0);
    }
    if written != 0 && written != !first {
        return Err(WRITTEN_WORD as u64 * 8);
    }
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    let claim = Claim {
        generation,
        incarnation,
        lane: low(place),
        block: high(place),
        long: (low(long), high(long)),
    };
    Ok(Some((claim, written != 0)))
}

/// The table of the ring that this process appends to.
#[derive(Debug)]
pub(crate) struct Table {
    memory: Mapping,
    ring_id: u64,
    path: PathBuf,
    storage: Arc<dyn Storage>,
    file: Mutex<File>,
}

/// What becomes of a ring's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    /// No manifest names it yet: it goes with the table, as when an opening fails.
    Unnamed,
    /// A manifest names it: it stays.
    Named,
    /// It is gone. What has its name now is somebody else's.
    Gone,
}

impl Table {
    /// Makes a ring; returns its table and its buffers, which are zeros.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        place: &Place<'_>,
        geometry: Geometry,
    ) -> Result<(Self, Mapping)> {
        let boot = boot_id()?;
        let ring_id = new_ring_id(boot)?;
        let path = place.directory.join(file_name(place.owner.store_id, ring_id));
        let header = Header { owner: place.owner, ring_id, boot, geometry };
        let made = make(storage.as_ref(), &path, &header);
        let (memory, buffers) = made.inspect_err(|_| {
            // Mostly it was never made.
            let _ = storage.remove_file(&path);
        })?;
        let file = Mutex::new(File::Unnamed);
        Ok((Self { memory, ring_id, path, storage: Arc::clone(storage), file }, buffers))
    }

    pub(crate) const fn ring_id(&self) -> u64 {
        self.ring_id
    }

    fn entry(&self, buffer: u32) -> &[AtomicU64] {
        let first = (HEADER_BYTES + buffer as usize * ENTRY_BYTES) / 8;
        &self.memory.words()[first..first + ENTRY_WORDS]
    }

    /// The buffer holds no block from now on.
    pub(crate) fn forget(&self, buffer: u32) {
        self.entry(buffer)[0].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// The buffer, forgotten before and prepared since, holds this block.
    pub(crate) fn claim(&self, buffer: u32, claim: &Claim) {
        let (entry, words) = (self.entry(buffer), claim.words());
        entry[WRITTEN_WORD].store(0, Ordering::Relaxed);
        for (to, word) in entry[1..].iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        entry[0].store(seal(self.ring_id, buffer, words), Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// All of the buffer's block is in its file.
    pub(crate) fn written(&self, buffer: u32) {
        let entry = self.entry(buffer);
        let first = entry[0].load(Ordering::Relaxed);
        if first != 0 {
            entry[WRITTEN_WORD].store(!first, Ordering::Relaxed);
        }
    }

    /// From now on the file outlives this process, however it ends.
    pub(crate) fn keep(&self) {
        *self.file.lock() = File::Named;
    }

    /// No manifest names it any more.
    pub(crate) fn remove(&self) {
        let mut file = self.file.lock();
        if *file != File::Gone {
            self.remove_file();
            *file = File::Gone;
        }
    }

    fn remove_file(&self) {
        if let Err(error) = self.storage.remove_file(&self.path) {
            tracing::debug!(%error, "a ring is left for the next opening to remove");
        }
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if *self.file.get_mut() == File::Unnamed {
            self.remove_file();
        }
    }
}

/// The file, with its header durable, and its two mappings.
fn make(storage: &dyn Storage, path: &Path, header: &Header) -> Result<(Mapping, Mapping)> {
    let (bytes, data) = (header.geometry.file_bytes(), header.geometry.data_offset());
    let options = CreateOptions { allocate_bytes: bytes, direct: false };
    let directory = path.parent().unwrap_or(path);
    let file = storage.create(path, &options).map_err(|error| explain(directory, error))?;
    file.write_all_at(&header.encode(), 0)?;
    // So that after a power cut it is known for a ring of another boot.
    file.sync_data()?;
    if file.len()? != bytes {
        let reason = "the new ring does not have the length that was asked for".to_owned();
        return Err(Error::Corrupt { path: path.to_owned(), offset: bytes, reason });
    }
    Ok((Mapping::file(path, 0..data)?, Mapping::file(path, data..bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diskmap::ring::header::Owner;
    use crate::settings::RuntimeSettings;
    use crate::storage::RealStorage;

    const CLAIM: Claim =
        Claim { generation: 3, incarnation: u64::MAX, lane: 2, block: 7, long: (256, 4000) };

    #[test]
    fn entries_are_claimed_written_and_forgotten_and_no_flipped_bit_passes() {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(RealStorage::new(&RuntimeSettings::default()));
        let owner = Owner { store_id: 1, segment_bytes: 1 << 16, key_bytes: 32, directories: 1 };
        let place = Place { directory: dir.path(), owner };
        let geometry = Geometry { block_bytes: 16 << 10, buffers: 5 };
        let (table, buffers) = Table::create(&storage, &place, geometry).unwrap();
        assert_eq!(buffers.len(), 5 * (16 << 10));
        let entry = |buffer: usize| {
            let bytes = std::fs::read(table.path()).unwrap();
            *bytes[HEADER_BYTES + buffer * ENTRY_BYTES..].first_chunk::<ENTRY_BYTES>().unwrap()
        };
        let id = table.ring_id();
        assert_eq!(decode(id, 4, &entry(4)), Ok(None));
        table.claim(4, &CLAIM);
        assert_eq!(decode(id, 4, &entry(4)), Ok(Some((CLAIM, false))));
        assert_eq!(decode(id, 3, &entry(4)), Err(0), "another buffer's");
        table.written(4);
        let written = entry(4);
        assert_eq!(decode(id, 4, &written), Ok(Some((CLAIM, true))));
        for bit in 0..6 * 64 {
            let mut damaged = written;
            damaged[bit / 8] ^= 1 << (bit % 8);
            let at = if bit / 64 == WRITTEN_WORD { 40 } else { 0 };
            assert_eq!(decode(id, 4, &damaged), Err(at), "bit {bit}");
        }
        table.forget(4);
        assert_eq!(decode(id, 4, &entry(4)), Ok(None));
        table.written(4);
        assert_eq!(decode(id, 4, &entry(4)), Ok(None));
        let path = table.path().to_owned();
        drop((table, buffers));
        assert!(!path.exists(), "nobody has named it");
    }
}
