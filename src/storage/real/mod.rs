//! Files of the operating system.
//!
//! Direct I/O is switched on after a plain open, so that a file system that refuses it leaves no
//! half-made file; the alignment is what `statx` says, or a page where it says nothing. Every
//! refusal is reported once per directory and the file works through the page cache.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::ring::{Read, RingPool};
use super::{CreateOptions, FileRead, ReadRequest, Storage, StorageFile, unlinked};
use crate::events::{EventLevel, EventRing};
use crate::settings::RuntimeSettings;
use crate::{Error, Result};

/// Alignment where the file system doesn't state one.
const ALIGNMENT_DEFAULT: usize = 4096;

/// The operating system's files.
///
/// ```
/// use blocktier::settings::RuntimeSettings;
/// use blocktier::storage::{AlignedBuf, CreateOptions, RealStorage, Storage};
/// # let dir = tempfile::tempdir()?;
/// let storage = RealStorage::new(&RuntimeSettings::default());
/// let file = storage.create(&dir.path().join("log"), &CreateOptions::allocated(65_536))?;
/// let mut block = AlignedBuf::zeroed(4096, file.alignment())?;
/// block.fill(7);
/// file.write_all_at(&block, 8192)?;
/// block.fill(0);
/// file.read_exact_at(&mut block, 8192)?;
/// assert_eq!(block[4095], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RealStorage {
    direct_io: bool,
    shared: Arc<Shared>,
}

/// What a storage and its files share.
#[derive(Debug)]
struct Shared {
    rings: RingPool,
    events: OnceLock<Arc<EventRing>>,
}

/// An open file.
#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
    /// 1 when buffered.
    alignment: usize,
    shared: Arc<Shared>,
}

impl Shared {
    /// Reports a fallback, once per key.
    fn fell_back(&self, key: &str, text: String) {
        if let Some(events) = self.events.get() {
            events.push_once(key, EventLevel::Warn, text);
        }
    }

    fn read(&self, reads: &mut [Read<'_>]) {
        if let Some(error) = self.rings.read(reads) {
            let text = format!("no io_uring ({error}): batches are read one by one");
            self.fell_back("io_uring", text);
        }
    }
}

impl RealStorage {
    /// A storage with the I/O methods that `settings` allow.
    #[must_use]
    pub fn new(settings: &RuntimeSettings) -> Self {
        let rings = RingPool::new(settings.io_uring, settings.read_ring_depth);
        let shared = Arc::new(Shared { rings, events: OnceLock::new() });
        Self { direct_io: settings.direct_io, shared }
    }

    /// Makes a file object of an open file, with direct I/O if wanted and possible.
    fn wrap(&self, file: File, path: &Path, direct: bool) -> RealFile {
        let mut alignment = 1;
        if direct && self.direct_io {
            match enable_direct(&file) {
                Ok(found) => alignment = found,
                Err(errno) => {
                    let dir = path.parent().unwrap_or(path).display();
                    let text = format!("no direct I/O in {dir} ({errno}): the page cache is used");
                    self.shared.fell_back(&format!("direct:{dir}"), text);
                }
            }
        }
        RealFile { file, path: path.to_owned(), alignment, shared: Arc::clone(&self.shared) }
    }

    /// Reserves a new file's space; where the file system cannot, checks that there is room now.
    fn allocate(&self, file: &File, path: &Path, bytes: u64) -> Result<()> {
        match unlinked::reserve(file, bytes) {
            Ok(()) => Ok(()),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(disk_full(path, bytes, errno))
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let dir = path.parent().unwrap_or(path);
                if self.free_space(dir)? < bytes {
                    return Err(disk_full(path, bytes, Errno::NOSPC));
                }
                let text = format!(
                    "no fallocate in {}: a full disk shows when blocks are written",
                    dir.display()
                );
                self.shared.fell_back(&format!("fallocate:{}", dir.display()), text);
                file.set_len(bytes).map_err(|error| Error::io("set length of", path, None, error))
            }
            Err(errno) => Err(Error::io("reserve space for", path, None, errno.into())),
        }
    }
}

fn disk_full(path: &Path, needed: u64, errno: Errno) -> Error {
    Error::DiskFull { path: path.to_owned(), needed, source: errno.into() }
}

/// Switches `file` to direct I/O and says what alignment it needs then.
fn enable_direct(file: &File) -> rustix::io::Result<usize> {
    let mut alignment = ALIGNMENT_DEFAULT;
    match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            let stated = stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize;
            if stat.stx_dio_offset_align == 0 {
                return Err(Errno::OPNOTSUPP);
            }
            alignment = stated.next_power_of_two();
        }
        // Before Linux 6.1, or a file system that doesn't say.
        Ok(_) | Err(_) => {}
    }
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT)?;
    Ok(alignment)
}

impl Storage for RealStorage {
    fn create(&self, path: &Path, options: &CreateOptions) -> Result<Box<dyn StorageFile>> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = retry(|| rustix::fs::open(path, flags, mode))
            .map(File::from)
            .map_err(|errno| Error::io("create", path, None, errno.into()))?;
        if options.allocate_bytes > 0
            && let Err(error) = self.allocate(&file, path, options.allocate_bytes)
        {
            // The allocation's error says more than one of this clean-up could.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Box::new(self.wrap(file, path, options.direct)))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        let file = File::open(path).map_err(|error| Error::io("open", path, None, error))?;
        Ok(Box::new(self.wrap(file, path, true)))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn StorageFile>> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| Error::io("open", path, None, error))?;
        Ok(Box::new(self.wrap(file, path, true)))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
            .map_err(|error| Error::io("create directory", path, None, error))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| Error::io("remove", path, None, error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|error| Error::io("rename", from, None, error))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        std::fs::remove_dir(path).map_err(|error| Error::io("remove directory", path, None, error))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let list = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut paths = list().map_err(|error| Error::io("read directory", path, None, error))?;
        paths.sort_unstable();
        Ok(paths)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync directory", path, None, error))
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(path)
            .map_err(|errno| Error::io("ask for free space at", path, None, errno.into()))?;
        if stat.f_blocks == 0 {
            // Not full: a file system that does not count, such as ramfs.
            return Ok(u64::MAX);
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn report_to(&self, events: &Arc<EventRing>) {
        // The first runtime that uses this storage hears of its fallbacks.
        let _ = self.shared.events.set(Arc::clone(events));
    }

    fn read_files(&self, reads: &mut [FileRead<'_>]) {
        let mut plain = Vec::with_capacity(reads.len());
        for read in reads {
            let FileRead { file, request } = read;
            let ReadRequest { offset, bytes, result } = request;
            let (Some(fd), Ok(())) = (file.descriptor(), check_aligned(*file, bytes, *offset))
            else {
                *result = file.read_exact_at(bytes, *offset);
                continue;
            };
            plain.push(Read { fd, path: file.path(), offset: *offset, bytes, result });
        }
        self.shared.read(&mut plain);
    }
}

impl StorageFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn is_direct(&self) -> bool {
        self.alignment > 1
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        check_aligned(self, bytes, offset)?;
        write_all(bytes, offset, |bytes, offset| rustix::io::pwrite(&self.file, bytes, offset))
            .map_err(|(at, errno)| match errno {
                Errno::NOSPC | Errno::DQUOT => {
                    disk_full(&self.path, offset + bytes.len() as u64 - at, errno)
                }
                _ => Error::io("write", &self.path, Some(at), errno.into()),
            })
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        check_aligned(self, bytes, offset)?;
        let fd = self.file.as_fd();
        let mut result = Ok(());
        Read { fd, path: &self.path, offset, bytes, result: &mut result }.one();
        result
    }

    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) {
        let mut reads = Vec::with_capacity(requests.len());
        for ReadRequest { offset, bytes, result } in requests {
            *result = check_aligned(self, bytes, *offset);
            if result.is_ok() {
                let fd = self.file.as_fd();
                reads.push(Read { fd, path: &self.path, offset: *offset, bytes, result });
            }
        }
        self.shared.read(&mut reads);
    }

    fn sync_data(&self) -> Result<()> {
        retry(|| rustix::fs::fdatasync(&self.file))
            .map_err(|errno| Error::io("sync", &self.path, None, errno.into()))
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.file
            .set_len(len_bytes)
            .map_err(|error| Error::io("set length of", &self.path, None, error))
    }

    fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| Error::io("stat", &self.path, None, error))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Writes until nothing is left; an error comes with the offset it happened at.
fn write_all(
    mut bytes: &[u8],
    mut offset: u64,
    mut write: impl FnMut(&[u8], u64) -> rustix::io::Result<usize>,
) -> std::result::Result<(), (u64, Errno)> {
    while !bytes.is_empty() {
        match write(bytes, offset) {
            // No progress and no error: as good as an I/O error, and never to be repeated forever.
            Ok(0) => return Err((offset, Errno::IO)),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err((offset, errno)),
        }
    }
    Ok(())
}

/// Direct I/O with misaligned arguments is refused by some file systems only: refuse it always.
fn check_aligned(file: &dyn StorageFile, bytes: &[u8], offset: u64) -> Result<()> {
    let alignment = file.alignment();
    let mixed = bytes.as_ptr() as usize | bytes.len();
    if mixed.is_multiple_of(alignment) && offset.is_multiple_of(alignment as u64) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "direct I/O on {} with address {:p}, length {}, offset {offset}: each must be a multiple \
         of {alignment}",
        file.path().display(),
        bytes.as_ptr(),
        bytes.len(),
    )))
}
