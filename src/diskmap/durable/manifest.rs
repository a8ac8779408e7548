//! The manifest: what a durable map knows of itself, one file in each of its directories.
//!
//! It is the truth about which segments there are and how far they are durable; files that it does
//! not account for are garbage or the unsynced end of the log. It is replaced as a whole: a new
//! file, synced, renamed, the directory synced. docs/format.md has its bytes.

use std::path::{Path, PathBuf};

use crate::storage::{CreateOptions, Storage};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"BTMANIFT";
const VERSION: u32 = 1;
/// Of a manifest that names a ring; who does not know rings must not open the map.
const VERSION_RING: u32 = 2;
const NAME: &str = "MANIFEST";
const NEW_NAME: &str = "MANIFEST.new";
/// Bytes before the entries, and of each entry.
const HEAD_BYTES: usize = 152;
const ENTRY_BYTES: usize = 16;
/// A lane holds at most 65,536 segments at a time; more than this is no manifest.
const BYTES_MAX: u64 = 8 << 20;
const COMPLETE: u32 = 1;

/// What is the same in all directories and for the whole life of a map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store_id: u64,
    /// Of the keyed hash.
    pub(crate) secret: [u64; 8],
    pub(crate) key_bytes: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) directories: u32,
}

/// The secret stays secret in logs.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("store_id", &self.store_id).finish_non_exhaustive()
    }
}

/// A segment that holds synced records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) incarnation: u64,
    /// Up to here everything is a record, and durable.
    pub(crate) end_units: u32,
    /// Nothing follows behind the end. Only the last entry may lack it.
    pub(crate) complete: bool,
}

/// What one directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) identity: Identity,
    /// The directory's number, from 0.
    pub(crate) position: u32,
    /// Its share of the shards.
    pub(crate) weight: u64,
    pub(crate) generation: u64,
    /// How often it was replaced; 0 while the map is being made.
    pub(crate) revision: u64,
    /// Segments from this incarnation on may have been made since.
    pub(crate) open_from: u64,
    /// The ring that has what is not in the segments, if the process is killed; 0 for none. That of
    /// the first directory counts.
    pub(crate) ring: u64,
    /// Ascending.
    pub(crate) entries: Vec<Entry>,
}

impl Manifest {
    /// The bytes of the file.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES + 4);
        let identity = &self.identity;
        bytes.extend_from_slice(&MAGIC);
        let version = if self.ring == 0 { VERSION } else { VERSION_RING };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&identity.key_bytes.to_le_bytes());
        bytes.extend_from_slice(&identity.store_id.to_le_bytes());
        for word in identity.secret {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&identity.segment_bytes.to_le_bytes());
        bytes.extend_from_slice(&identity.directories.to_le_bytes());
        bytes.extend_from_slice(&self.position.to_le_bytes());
        bytes.extend_from_slice(&self.weight.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.open_from.to_le_bytes());
        bytes.extend_from_slice(&self.ring.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        debug_assert_eq!(bytes.len(), HEAD_BYTES);
        for entry in &self.entries {
            let flags = if entry.complete { COMPLETE } else { 0 };
            bytes.extend_from_slice(&entry.incarnation.to_le_bytes());
            bytes.extend_from_slice(&entry.end_units.to_le_bytes());
            bytes.extend_from_slice(&flags.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |offset: usize, reason: &str| Error::Corrupt {
            path: path.to_owned(),
            offset: offset as u64,
            reason: format!("{reason}; restore the map's directories from a copy"),
        };
        let u32_at = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u32::from_le_bytes(*word))
        };
        let u64_at = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        if bytes.first_chunk() != Some(&MAGIC) || bytes.len() < HEAD_BYTES + 4 {
            return Err(corrupt(0, "not a map's manifest"));
        }
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        let crc_matches = crc32c::crc32c(body).to_le_bytes() == crc;
        // Another version may place its checksum elsewhere, but not its number.
        let version = u32_at(8);
        let is_known = version == VERSION || version == VERSION_RING;
        if !is_known && (crc_matches || version > VERSION_RING) {
            return Err(Error::Unsupported(format!(
                "{} has format version {version}, this library reads versions {VERSION} and \
                 {VERSION_RING}: open the map with the version of the library that wrote it",
                path.display(),
            )));
        }
        let count = u64_at(HEAD_BYTES - 8);
        if !crc_matches {
            return Err(corrupt(0, "the manifest's checksum does not match"));
        }
        if (version == VERSION_RING) != (u64_at(HEAD_BYTES - 16) != 0) {
            let reason = "the manifest's version does not match whether it names a ring";
            return Err(corrupt(HEAD_BYTES - 16, reason));
        }
        if count != ((body.len() - HEAD_BYTES) / ENTRY_BYTES) as u64 {
            return Err(corrupt(HEAD_BYTES - 8, "the manifest's length does not match its count"));
        }
        let mut secret = [0; 8];
        for (i, word) in secret.iter_mut().enumerate() {
            *word = u64_at(24 + 8 * i);
        }
        let entries = (0..count as usize).map(|i| {
            let at = HEAD_BYTES + i * ENTRY_BYTES;
            Entry {
                incarnation: u64_at(at),
                end_units: u32_at(at + 8),
                complete: u32_at(at + 12) & COMPLETE != 0,
            }
        });
        Ok(Self {
            identity: Identity {
                key_bytes: u32_at(12),
                store_id: u64_at(16),
                secret,
                segment_bytes: u64_at(88),
                directories: u32_at(96),
            },
            position: u32_at(100),
            weight: u64_at(104),
            generation: u64_at(112),
            revision: u64_at(120),
            open_from: u64_at(128),
            ring: u64_at(136),
            entries: entries.collect(),
        })
    }

    /// Reads a directory's manifest, if there is one.
    pub(crate) fn read(storage: &dyn Storage, directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        if !storage.read_dir(directory)?.contains(&path) {
            return Ok(None);
        }
        let file = storage.open_read(&path)?;
        let len = file.len()?;
        if len > BYTES_MAX {
            let reason = format!("a manifest of {len} bytes");
            return Err(Error::Corrupt { path, offset: 0, reason });
        }
        let alignment = file.alignment().max(1);
        if !len.is_multiple_of(alignment as u64) {
            let reason = format!("a manifest of {len} bytes has been cut");
            return Err(Error::Corrupt { path, offset: len, reason });
        }
        let rounded = (len as usize).next_multiple_of(alignment);
        let mut buffer = crate::storage::AlignedBuf::zeroed(rounded.max(alignment), alignment)?;
        // Written in whole pages, so a direct read finds what it asks for.
        file.read_exact_at(&mut buffer[..len as usize], 0)?;
        let stated = buffer.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        let Some(bytes) = buffer.get(8..8 + (stated as usize).min(len as usize)) else {
            let reason = "not a map's manifest".to_owned();
            return Err(Error::Corrupt { path, offset: 0, reason });
        };
        Self::decode(&path, bytes).map(Some)
    }

    /// Puts it in the place of the directory's manifest, durably.
    pub(crate) fn write(&self, storage: &dyn Storage, directory: &Path) -> Result<()> {
        let new = directory.join(NEW_NAME);
        if storage.read_dir(directory)?.contains(&new) {
            storage.remove_file(&new)?;
        }
        let body = self.encode();
        let file = storage.create(&new, &CreateOptions { allocate_bytes: 0, direct: false })?;
        let len = (body.len() + 8).next_multiple_of(4096);
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(len, 0);
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        // Segments that it names must be in the directory before it is.
        storage.sync_dir(directory)?;
        storage.rename(&new, &path(directory))?;
        storage.sync_dir(directory)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let secret = [1, 2, 3, 4, 5, 6, 7, u64::MAX];
        let identity =
            Identity { store_id: 9, secret, key_bytes: 32, segment_bytes: 1 << 20, directories: 3 };
        let entry = |incarnation, complete| Entry { incarnation, end_units: 300, complete };
        let entries = vec![entry(1, true), entry(4, true), entry(u64::MAX, false)];
        Manifest {
            identity,
            position: 2,
            weight: 3,
            generation: 5,
            revision: 77,
            open_from: 9,
            ring: 0,
            entries,
        }
    }

    #[test]
    fn round_trip_and_every_flipped_bit_and_cut() {
        let path = Path::new("m");
        for ring in [0, 12] {
            let manifest = Manifest { ring, ..manifest() };
            let bytes = manifest.encode();
            assert_eq!(Manifest::decode(path, &bytes).unwrap(), manifest);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Manifest::decode(path, &damaged).is_err(), "bit {bit}");
            }
            for end in 0..bytes.len() {
                assert!(Manifest::decode(path, &bytes[..end]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = manifest().encode();
        bytes[8] = 3;
        let error = Manifest::decode(Path::new("m"), &bytes).unwrap_err().to_string();
        assert!(
            error.contains("m has format version 3, this library reads versions 1 and 2"),
            "{error}"
        );
    }
}
