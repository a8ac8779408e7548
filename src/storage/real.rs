//! Files of the operating system.
//!
//! Direct I/O is switched on after a plain open, so that a file system that refuses it leaves no
//! half-made file; the alignment is what `statx` says, or a page where it says nothing. Every
//! refusal is reported once per directory and the file works through the page cache.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::ring::{Read, RingPool};
use super::{CreateOptions, FileRead, ReadRequest, Storage, StorageFile, mapping};
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
        match mapping::reserve(file, bytes) {
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

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
            .map_err(|error| Error::io("create directory", path, None, error))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|error| Error::io("remove", path, None, error))
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

/// Direct I/O with misaligned arguments would be refused by some file systems only: refuse it always.
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

#[cfg(test)]
mod tests {
    use super::super::AlignedBuf;
    use super::*;

    /// A storage with its events, and with the switches of `settings`.
    fn storage(settings: &str) -> (RealStorage, Arc<EventRing>) {
        let storage = RealStorage::new(&RuntimeSettings::parse(settings).unwrap());
        let events = Arc::new(EventRing::new());
        storage.report_to(&events);
        (storage, events)
    }

    fn temp_dirs() -> Vec<tempfile::TempDir> {
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target");
        let mut dirs = vec![disk.unwrap()];
        if Path::new("/dev/shm").is_dir() {
            dirs.push(tempfile::tempdir_in("/dev/shm").unwrap());
        }
        dirs
    }

    fn filled(len: usize, alignment: usize, seed: usize) -> AlignedBuf {
        let mut buf = AlignedBuf::zeroed(len, alignment).unwrap();
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = ((i + seed).wrapping_mul(2_654_435_761) >> 11) as u8;
        }
        buf
    }

    #[test]
    fn bytes_come_back_with_every_combination_of_methods() {
        for dir in temp_dirs() {
            for settings in ["", "directIo=off", "ioUring=off", "directIo=off\nioUring=off"] {
                let (storage, events) = storage(settings);
                let path = dir.path().join("file");
                let file = storage.create(&path, &CreateOptions::allocated(1 << 20)).unwrap();
                assert_eq!(file.len().unwrap(), 1 << 20);
                assert_eq!(file.is_direct(), file.alignment() > 1);
                if settings.contains("directIo=off") {
                    assert_eq!(file.alignment(), 1);
                }
                let block = filled(256 << 10, file.alignment(), 1);
                file.write_all_at(&block, 512 << 10).unwrap();
                file.sync_data().unwrap();
                drop(file);
                let file = storage.open_read(&path).unwrap();
                let mut buffers: Vec<_> =
                    (0..64).map(|_| AlignedBuf::zeroed(4096, 4096).unwrap()).collect();
                let place = |i: usize| (512 << 10) + (i * 37 % 64 * 4096) as u64;
                let mut requests: Vec<_> = buffers
                    .iter_mut()
                    .enumerate()
                    .map(|(i, bytes)| ReadRequest::new(place(i), bytes))
                    .collect();
                file.read_batch(&mut requests);
                assert!(requests.iter().all(|request| request.result.is_ok()), "{requests:?}");
                for (i, bytes) in buffers.iter().enumerate() {
                    let at = i * 37 % 64 * 4096;
                    assert!(bytes[..] == block[at..at + 4096], "read {i} with {settings:?}");
                }
                while let Some(event) = events.pop() {
                    eprintln!("{}: {}", dir.path().display(), event.text);
                }
                storage.remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn direct_io_is_really_on_where_the_disk_has_it() {
        let (storage, events) = storage("");
        for dir in temp_dirs() {
            let path = dir.path().join("file");
            let file = storage.create(&path, &CreateOptions::allocated(8192)).unwrap();
            let Some(fd) = file.descriptor() else { panic!("a real file has a descriptor") };
            let flags = rustix::fs::fcntl_getfl(fd).unwrap();
            assert_eq!(flags.contains(OFlags::DIRECT), file.is_direct());
            let reported = events.pop();
            assert_eq!(reported.is_none(), file.is_direct(), "{reported:?}");
            let buffered = CreateOptions { direct: false, ..CreateOptions::default() };
            let file = storage.create(&dir.path().join("buffered"), &buffered).unwrap();
            assert!(!file.is_direct() && file.is_empty().unwrap());
        }
    }

    #[test]
    fn refused_direct_io_is_reported_once_per_directory() {
        // A pipe refuses direct I/O in the way a file system without it does.
        let (storage, events) = storage("");
        for name in ["a", "b"] {
            let (reader, _writer) = rustix::pipe::pipe().unwrap();
            let path = Path::new("/some/dir").join(name);
            assert!(!storage.wrap(File::from(reader), &path, true).is_direct());
        }
        let event = events.pop().unwrap();
        assert_eq!(event.level, EventLevel::Warn);
        assert!(event.text.starts_with("no direct I/O in /some/dir ("), "{}", event.text);
        assert_eq!(events.pop(), None);
    }

    #[test]
    fn misaligned_arguments_are_refused_on_direct_files() {
        let (storage, _events) = storage("");
        let dir = &temp_dirs()[0];
        let file =
            storage.create(&dir.path().join("file"), &CreateOptions::allocated(65_536)).unwrap();
        if !file.is_direct() {
            eprintln!("no direct I/O here: nothing is misaligned");
            return;
        }
        let mut buf = AlignedBuf::zeroed(8192, 4096).unwrap();
        for (range, offset) in [(0..4096, 1), (0..4095, 0), (1..4097, 0)] {
            let write = file.write_all_at(&buf[range.clone()], offset).unwrap_err();
            assert!(matches!(write, Error::InvalidArgument(_)), "{write}");
            let read = file.read_exact_at(&mut buf[range.clone()], offset).unwrap_err();
            assert!(read.to_string().contains("must be a multiple of"), "{read}");
            let mut requests = [ReadRequest::new(offset, &mut buf[range])];
            file.read_batch(&mut requests);
            assert!(matches!(requests[0].result, Err(Error::InvalidArgument(_))));
        }
    }

    #[test]
    fn reads_of_several_files_in_one_batch() {
        for settings in ["", "ioUring=off"] {
            let (storage, _events) = storage(settings);
            let dir = &temp_dirs()[0];
            let files: Vec<_> = (0..5)
                .map(|i| {
                    let path = dir.path().join(format!("{settings}{i}"));
                    let options = CreateOptions::allocated(64 << 10);
                    let file = storage.create(&path, &options).unwrap();
                    file.write_all_at(&filled(64 << 10, 4096, i), 0).unwrap();
                    file
                })
                .collect();
            let mut buffers: Vec<_> =
                (0..80).map(|_| AlignedBuf::zeroed(4096, 4096).unwrap()).collect();
            let mut reads: Vec<_> = buffers
                .iter_mut()
                .enumerate()
                .map(|(i, bytes)| FileRead {
                    file: &*files[i % 5],
                    request: ReadRequest::new((i / 5 * 4096) as u64, bytes),
                })
                .collect();
            reads[79].request.offset = 64 << 10;
            storage.read_files(&mut reads);
            let past_end = reads.pop().unwrap().request.result.unwrap_err();
            assert!(matches!(past_end, Error::Corrupt { offset: 65_536, .. }), "{past_end}");
            assert!(reads.iter().all(|read| read.request.result.is_ok()));
            for (i, bytes) in buffers.iter().enumerate().take(79) {
                let at = i / 5 * 4096;
                assert!(bytes[..] == filled(64 << 10, 4096, i % 5)[at..at + 4096], "read {i}");
            }
        }
    }

    #[test]
    fn cut_file_is_corrupt_with_path_and_offset() {
        let (storage, _events) = storage("");
        let dir = &temp_dirs()[0];
        let path = dir.path().join("file");
        let file = storage.create(&path, &CreateOptions::allocated(65_536)).unwrap();
        file.set_len(10_000).unwrap();
        let mut buf = AlignedBuf::zeroed(4096, 4096).unwrap();
        file.read_exact_at(&mut buf, 4096).unwrap();
        for offset in [8192, 16_384] {
            let error = file.read_exact_at(&mut buf, offset).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Corrupt { offset: at, .. } if at == offset), "{text}");
            assert!(text.contains("file is corrupt at offset") && text.contains("ends at 10000"));
        }
    }

    #[test]
    fn impossible_allocation_leaves_nothing_behind() {
        let (storage, _events) = storage("");
        for dir in temp_dirs() {
            let path = dir.path().join("file");
            let error = storage.create(&path, &CreateOptions::allocated(1 << 50)).unwrap_err();
            assert!(
                matches!(error, Error::DiskFull { needed, .. } if needed == 1 << 50),
                "{error}"
            );
            assert!(error.to_string().contains("free space or add a directory"));
            assert_eq!(storage.read_dir(dir.path()).unwrap(), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn files_and_directories_of_other_kinds_are_errors_that_name_them() {
        let (storage, _events) = storage("");
        let dir = &temp_dirs()[0];
        let path = dir.path().join("a/b");
        let missing = storage.create(&path, &CreateOptions::default()).unwrap_err();
        assert!(missing.to_string().starts_with("create ") && missing.os_errno() == 2);
        storage.create_dir_all(&path).unwrap();
        storage.create_dir_all(&path).unwrap();
        let file = path.join("file");
        drop(storage.create(&file, &CreateOptions::default()).unwrap());
        let exists = storage.create(&file, &CreateOptions::default()).unwrap_err();
        assert_eq!(exists.os_errno(), Errno::EXIST.raw_os_error());
        assert!(storage.create_dir_all(&file).unwrap_err().to_string().contains("b/file"));
        assert!(storage.open_read(&path.join("none")).is_err());
        assert_eq!(storage.read_dir(&path).unwrap(), [file.clone()]);
        assert!(storage.remove_dir(&path).is_err());
        storage.sync_dir(&path).unwrap();
        storage.remove_file(&file).unwrap();
        assert!(storage.remove_file(&file).is_err());
        storage.remove_dir(&path).unwrap();
        assert!(storage.read_dir(&path).is_err() && storage.sync_dir(&path).is_err());
        assert!(storage.free_space(dir.path()).unwrap() > 0);
        assert!(storage.free_space(&path).is_err());
    }

    #[test]
    fn write_loop_survives_short_and_interrupted_writes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut written = Vec::new();
        let mut calls = 0;
        let done = write_all(&bytes, 1000, |rest, offset| {
            calls += 1;
            assert_eq!(offset, 1000 + written.len() as u64);
            if calls % 3 == 0 {
                return Err(Errno::INTR);
            }
            let len = rest.len().min(7);
            written.extend_from_slice(&rest[..len]);
            Ok(len)
        });
        assert_eq!((done, written), (Ok(()), bytes.clone()));
        let full =
            write_all(&bytes, 0, |_, offset| if offset < 100 { Ok(50) } else { Err(Errno::NOSPC) });
        assert_eq!(full, Err((100, Errno::NOSPC)));
        assert_eq!(write_all(&bytes, 5, |_, _| Ok(0)), Err((5, Errno::IO)));
    }
}
