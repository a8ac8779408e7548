//! The first page of a ring's file.

use std::path::{Path, PathBuf};

use crate::storage::Storage;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"BTRING\0\0";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const ENTRY_BYTES: usize = 64;
const PAGE_BYTES: u64 = 4096;
const BUFFERS_MAX: u32 = 1 << 20;
const BLOCK_BYTES_MAX: u64 = 64 << 20;
const BLOCK_BYTES_MIN: u64 = 16 << 10;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How many buffers a ring has, and of what size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block_bytes: u64,
    pub(crate) buffers: u32,
}

impl Geometry {
    /// Where the first buffer begins.
    pub(super) const fn data_offset(self) -> u64 {
        let table = self.buffers as u64 * ENTRY_BYTES as u64;
        HEADER_BYTES as u64 + table.next_multiple_of(PAGE_BYTES)
    }

    pub(super) const fn buffer_offset(self, buffer: u32) -> u64 {
        self.data_offset() + buffer as u64 * self.block_bytes
    }

    pub(super) const fn file_bytes(self) -> u64 {
        self.buffer_offset(self.buffers)
    }

    const fn is_valid(self) -> bool {
        self.block_bytes.is_power_of_two()
            && self.block_bytes >= BLOCK_BYTES_MIN
            && self.block_bytes <= BLOCK_BYTES_MAX
            && self.buffers > 0
            && self.buffers < BUFFERS_MAX
    }
}

/// Whose ring it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) store_id: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) key_bytes: u32,
    pub(crate) directories: u32,
}

/// Where a ring is to be, and whose it is.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) owner: Owner,
}

impl Owner {
    pub(crate) const fn of(identity: &crate::diskmap::durable::Identity) -> Self {
        Self {
            store_id: identity.store_id,
            segment_bytes: identity.segment_bytes,
            key_bytes: identity.key_bytes,
            directories: identity.directories,
        }
    }
}

/// The file's first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) owner: Owner,
    pub(super) ring_id: u64,
    pub(super) boot: [u8; 16],
    pub(super) geometry: Geometry,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.owner.key_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.owner.store_id.to_le_bytes());
        bytes.extend_from_slice(&self.ring_id.to_le_bytes());
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&self.owner.segment_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.block_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.geometry.buffers.to_le_bytes());
        bytes.extend_from_slice(&self.owner.directories.to_le_bytes());
        bytes.resize(HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a file of `len` bytes from its first page.
    pub(super) fn decode(path: &Path, page: &[u8], len: u64) -> Result<Self> {
        let corrupt = |offset: u64, reason: String| Error::Corrupt {
            path: path.to_owned(),
            offset,
            reason: format!("{reason}; restore the ring, or the map's directories, from a copy"),
        };
        let u32_at = |at: usize| {
            let word = page.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u32::from_le_bytes(*word))
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if page.len() != HEADER_BYTES || page.first_chunk() != Some(&MAGIC) {
            return Err(corrupt(0, "not a map's ring".to_owned()));
        }
        let crc_matches = crc32c::crc32c(&page[..HEADER_BYTES - 4]) == u32_at(HEADER_BYTES - 4);
        // As for the manifest: another version may place its checksum elsewhere.
        if u32_at(8) != VERSION && (crc_matches || u32_at(8) > VERSION) {
            return Err(Error::Unsupported(format!(
                "{} has format version {}, this library reads version {VERSION}: open the map \
                 with the version of the library that wrote it",
                path.display(),
                u32_at(8)
            )));
        }
        if !crc_matches {
            return Err(corrupt(0, "the ring's checksum does not match".to_owned()));
        }
        let mut boot = [0; 16];
        boot.copy_from_slice(&page[32..48]);
        let header = Self {
            owner: Owner {
                store_id: u64_at(16),
                segment_bytes: u64_at(48),
                key_bytes: u32_at(12),
                directories: u32_at(68),
            },
            ring_id: u64_at(24),
            boot,
            geometry: Geometry { block_bytes: u64_at(56), buffers: u32_at(64) },
        };
        if !header.geometry.is_valid() {
            return Err(corrupt(56, "no ring has such blocks".to_owned()));
        }
        let stated = header.geometry.file_bytes();
        if stated != len {
            let reason = format!("the file has {len} bytes, its header says {stated}");
            return Err(corrupt(len.min(stated), reason));
        }
        Ok(header)
    }
}

/// A number for a new ring: the boot, and chance. Never 0.
pub(super) fn new_ring_id(boot: [u8; 16]) -> Result<u64> {
    let random = getrandom::u64()
        .map_err(|error| Error::Unsupported(format!("no random numbers: {error}")))?;
    Ok(u64::from(crc32c::crc32c(&boot)) << 32 | random >> 32 | 1)
}

/// Whether the ring was made in this boot of the machine, as far as its number tells.
pub(super) fn is_of_boot(ring_id: u64, boot: [u8; 16]) -> bool {
    ring_id >> 32 == u64::from(crc32c::crc32c(&boot))
}

/// What distinguishes this boot of the machine from every other.
pub(super) fn boot_id() -> Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).map_err(|error| {
        Error::Unsupported(format!(
            "txMapDurability = process: {BOOT_ID} cannot be read ({error}), so a killed process \
             cannot be told from a machine that was restarted; mount /proc, or use durable"
        ))
    })?;
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&hex, 16).map(u128::to_le_bytes).map_err(|_| {
        Error::Unsupported(format!("txMapDurability = process: {BOOT_ID} holds no boot id"))
    })
}

/// The name of a ring's file.
pub(crate) fn file_name(store_id: u64, ring_id: u64) -> String {
    format!("RING-{store_id:016x}-{ring_id:016x}")
}

/// The rings of a store in a directory, but for the one that is in use.
pub(crate) fn leftovers(
    storage: &dyn Storage,
    directory: &Path,
    store_id: u64,
    in_use: u64,
) -> Result<Vec<PathBuf>> {
    let (prefix, name) = (format!("RING-{store_id:016x}-"), file_name(store_id, in_use));
    let mut files = storage.read_dir(directory)?;
    files.retain(|path| {
        let file = path.file_name().map(|file| file.to_string_lossy()).unwrap_or_default();
        file.starts_with(&prefix) && file != name
    });
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            owner: Owner { store_id: 9, segment_bytes: 1 << 16, key_bytes: 32, directories: 2 },
            ring_id: 77,
            boot: [3; 16],
            geometry: Geometry { block_bytes: 16 << 10, buffers: 70 },
        }
    }

    #[test]
    fn round_trip_and_every_flipped_bit() {
        let (path, header) = (Path::new("RING"), header());
        let (bytes, len) = (header.encode(), header.geometry.file_bytes());
        assert_eq!(len, 4096 + 8192 + 70 * (16 << 10));
        assert_eq!(Header::decode(path, &bytes, len).unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(path, &damaged, len).is_err(), "bit {bit}");
        }
        for wrong in [0, 4096, len - 1, len + 1] {
            let error = Header::decode(path, &bytes, wrong).unwrap_err().to_string();
            assert!(error.contains("its header says"), "{error}");
        }
    }

    #[test]
    fn sizes_are_refused_before_anything_follows_from_them() {
        for (block_bytes, buffers) in
            [(0, 70), (24 << 10, 70), (128 << 20, 70), (16 << 10, 0), (16 << 10, 1 << 20)]
        {
            let geometry = Geometry { block_bytes, buffers };
            let bytes = Header { geometry, ..header() }.encode();
            let error = Header::decode(Path::new("RING"), &bytes, 4096).unwrap_err().to_string();
            assert!(error.contains("RING is corrupt at offset 56: no ring has such"), "{error}");
        }
        let mut newer = header().encode();
        newer[8] = 2;
        let error = Header::decode(Path::new("RING"), &newer, 0).unwrap_err().to_string();
        assert!(error.contains("RING has format version 2, this library reads version 1"));
    }

    #[test]
    fn a_ring_tells_the_boot_it_is_of() {
        let boot = boot_id().unwrap();
        assert_eq!(boot, boot_id().unwrap());
        assert!(is_of_boot(new_ring_id(boot).unwrap(), boot));
        assert!(!is_of_boot(new_ring_id([1; 16]).unwrap(), [2; 16]));
    }
}
