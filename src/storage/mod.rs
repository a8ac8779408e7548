//! Every file access of the crate, behind two traits.
//!
//! ```text
//! Storage / StorageFile   what the engine uses
//!   RealStorage           Linux files: direct I/O, fallocate, io_uring for batches of reads
//!   FaultStorage          wraps any Storage; injects errors, torn writes, delays and gates
//! Mapping                 anonymous memory and unlinked files, mapped
//! FileMapping             a whole file of ours, mapped where it lies
//! DirLock                 one owner per directory
//! AlignedBuf              memory that direct I/O accepts
//! ```
//!
//! Threads: both traits are `Sync`; reads and writes of one file may run concurrently, and what
//! overlapping ones yield is the caller's affair. Nothing here keeps a buffer after its call.
//!
//! Invariants
//! - A write either reached the operating system whole or is an error.
//! - Space of a file made with `allocate_bytes` is reserved before `create` returns, or the call is
//!   an error and leaves no file.
//! - A read yields all bytes asked for or an error that names file and offset.

mod aligned_buf;
mod dir_lock;
pub mod fault;
mod file_mapping;
pub mod mapping;
mod real;
mod ring;
mod unlinked;

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use aligned_buf::AlignedBuf;
pub(crate) use dir_lock::{DirGate, explain};
pub use dir_lock::{DirLock, check_directory};
pub use fault::FaultStorage;
pub(crate) use file_mapping::{FileMapping, check_ours};
pub use mapping::{HugePages, Mapping, MappingOptions};
pub use real::RealStorage;

use crate::Result;
use crate::events::EventRing;

/// How a new file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Bytes to reserve on the disk before the file is used; the file's length is this much.
    pub allocate_bytes: u64,
    /// Bypass the page cache where storage and file system allow it.
    pub direct: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { allocate_bytes: 0, direct: true }
    }
}

impl CreateOptions {
    /// A file of `bytes` reserved bytes, with direct I/O where possible.
    #[must_use]
    pub const fn allocated(bytes: u64) -> Self {
        Self { allocate_bytes: bytes, direct: true }
    }
}

/// One read of a batch from one file.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// Where in the file, a multiple of the file's alignment.
    pub offset: u64,
    /// Where the bytes go; address and length are multiples of the file's alignment.
    pub bytes: &'a mut [u8],
    /// The outcome, set by the batch call.
    pub result: Result<()>,
}

impl<'a> ReadRequest<'a> {
    /// A read of `bytes.len()` bytes at `offset`.
    pub const fn new(offset: u64, bytes: &'a mut [u8]) -> Self {
        Self { offset, bytes, result: Ok(()) }
    }
}

/// One read of a batch that spans files.
#[derive(Debug)]
pub struct FileRead<'a> {
    /// The file.
    pub file: &'a dyn StorageFile,
    /// Offset, destination and outcome.
    pub request: ReadRequest<'a>,
}

/// A file system, or something that stands for one.
pub trait Storage: Send + Sync + Debug {
    /// Makes a new file, open for reading and writing.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if it exists or cannot be made, [`crate::Error::DiskFull`] if its bytes
    /// cannot be reserved; no file is left behind.
    fn create(&self, path: &Path, options: &CreateOptions) -> Result<Box<dyn StorageFile>>;

    /// Opens an existing file for reading, with direct I/O where possible.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn open_read(&self, path: &Path) -> Result<Box<dyn StorageFile>>;

    /// Opens an existing file for reading and writing, with direct I/O where possible.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn open_write(&self, path: &Path) -> Result<Box<dyn StorageFile>>;

    /// Makes a directory and its missing parents; an existing one is fine.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::DiskFull`].
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`crate::Error::Io`], also when it does not exist.
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Gives a file another name in the same directory, in the place of what has it now.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// The paths of a directory's entries, sorted.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn read_dir(&self, path: &Path) -> Result<Vec<PathBuf>>;

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Bytes that this process may still allocate on the file system that holds `path`; `u64::MAX`
    /// where nobody counts them.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn free_space(&self, path: &Path) -> Result<u64>;

    /// Where to report fallbacks from now on; the first ring given stays.
    fn report_to(&self, _events: &Arc<EventRing>) {}

    /// Reads from several files at once, as deep as the queue allows. Each request carries its own
    /// outcome; the call returns when all are done.
    fn read_files(&self, reads: &mut [FileRead<'_>]) {
        for read in reads {
            read.request.result = read.file.read_exact_at(read.request.bytes, read.request.offset);
        }
    }
}

/// An open file.
pub trait StorageFile: Send + Sync + Debug {
    /// The path it was opened with.
    fn path(&self) -> &Path;

    /// What addresses, offsets and lengths of reads and writes must be multiples of, in bytes; a
    /// power of two, 1 when the file is buffered.
    fn alignment(&self) -> usize;

    /// True when reads and writes bypass the page cache.
    fn is_direct(&self) -> bool;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] or [`crate::Error::DiskFull`]; some of the bytes may have been written.
    /// [`crate::Error::InvalidArgument`] on misaligned arguments.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Reads exactly `bytes.len()` bytes at `offset`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when the file ends before them, [`crate::Error::Io`],
    /// [`crate::Error::InvalidArgument`] on misaligned arguments.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<()>;

    /// Many reads of this file at once; each request carries its own outcome. Returns when all are
    /// done.
    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) {
        for request in requests {
            request.result = self.read_exact_at(request.bytes, request.offset);
        }
    }

    /// Makes the file's bytes (and the length needed to read them) durable: fdatasync.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::DiskFull`]. After an error the file's unsynced bytes
    /// are in an unknown state and must not be believed durable by a later success.
    fn sync_data(&self) -> Result<()>;

    /// Cuts the file or lengthens it with zeros.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::DiskFull`].
    fn set_len(&self, len_bytes: u64) -> Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn len(&self) -> Result<u64>;

    /// True when the file has no bytes.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The operating system's descriptor, where the file is nothing but one. Wrappers that change
    /// what a read yields return `None`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The smallest aligned range that covers `len` bytes at `offset`: its offset and length.
///
/// ```
/// assert_eq!(blocktier::storage::align_out(1000, 100, 512), (512, 1024));
/// assert_eq!(blocktier::storage::align_out(1000, 100, 1), (1000, 100));
/// ```
#[must_use]
pub const fn align_out(offset: u64, len: u64, alignment: usize) -> (u64, u64) {
    let mask = alignment as u64 - 1;
    let start = offset & !mask;
    let end = (offset + len + mask) & !mask;
    (start, end - start)
}
