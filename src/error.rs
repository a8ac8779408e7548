//! One error type for the crate. Every variant has one status code of the C ABI (`ffi::status`).

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with what a person needs to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument breaks the contract of the call.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),

    /// A pointer that must not be null is (C ABI only).
    #[error("{0} must not be null")]
    NullPointer(&'static str),

    /// A setting has an unknown name, a malformed value or one outside its range.
    #[error("setting {key}: {reason}")]
    Setting {
        /// The name as given.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },

    /// The value is longer than this map can hold.
    #[error(
        "value of {bytes} bytes is longer than the limit of {limit} bytes; \
         raise txMapSegment to store it"
    )]
    ValueTooLarge {
        /// Length of the value.
        bytes: u64,
        /// Longest value that fits.
        limit: u64,
    },

    /// The operating system refused a file operation.
    #[error("{op} {path}{at}: {source}", path = .path.display(), at = at_offset(*.offset))]
    Io {
        /// The operation, such as "write".
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Where in the file, if the operation has a place.
        offset: Option<u64>,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// No space is left (or a quota is exhausted) for `needed` bytes at `path`.
    #[error(
        "no space{size} at {path}: {source}; free space or add a directory",
        size = for_bytes(*.needed),
        path = .path.display()
    )]
    DiskFull {
        /// The file or directory.
        path: PathBuf,
        /// Bytes that were asked for, 0 where what was asked for has no size.
        needed: u64,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// A directory that was named cannot be used as it is.
    #[error("directory {path}: {reason} ({source})", path = .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what would help.
        reason: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// Bytes on disk are not what was written.
    #[error("{path} is corrupt at offset {offset}: {reason}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte of the damaged unit.
        offset: u64,
        /// Which check failed.
        reason: String,
    },

    /// A directory is in use by another owner, or of another kind than expected.
    #[error(
        "directory {path} is locked by {owner}; \
         give each owner its own directory or stop the other one",
        path = .path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as written in its lock file.
        owner: String,
    },

    /// Bytes of a subtree, meta or inpoints format break its rules.
    #[error("{0}")]
    Format(#[from] crate::subtree::FormatError),

    /// The platform, kernel or file system cannot do what was asked.
    #[error("unsupported: {0}")]
    Unsupported(String),

    /// Memory could not be had: from the system, or from the configured budget.
    #[error("out of memory: {what} needs {bytes} bytes, {left}", left = bytes_left(*.available))]
    OutOfMemory {
        /// What asked for it.
        what: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that were left in the budget; `u64::MAX` when the system refused.
        available: u64,
    },

    /// The call would have to wait, and the caller asked not to.
    #[error("would block: {0}")]
    WouldBlock(&'static str),

    /// The call waited as long as it may (setting txMapWriteTimeout).
    #[error("timed out after {waited_ms} ms waiting for {what}")]
    TimedOut {
        /// What it waited for.
        what: &'static str,
        /// How long, in milliseconds.
        waited_ms: u64,
    },

    /// An earlier error stopped this map from accepting writes; reads still work.
    #[error("map has failed and takes no more writes: {0}")]
    Failed(#[source] std::sync::Arc<Error>),

    /// The map takes no writes: it is frozen, or the old content of a map that was rotated.
    #[error("{0}")]
    Frozen(&'static str),

    /// The object was closed.
    #[error("{0} is closed")]
    Closed(&'static str),

    /// A panic was caught; the object is unusable except for closing it.
    #[error("internal panic: {0}")]
    Panic(String),

    /// An earlier panic made an object unusable that the call needs beside its own (C ABI only).
    #[error("an earlier panic made {0} unusable; close it")]
    Poisoned(&'static str),
}

impl Error {
    /// What [`Error::WouldBlock`] says when a file would have to be read; otherwise it is room that
    /// is missing.
    pub const BLOCKED_ON_READ: &str = "the record is on disk";

    /// What a write on a frozen map is told.
    pub const FROZEN: Self = Self::Frozen("the map is frozen; clear it to write again");

    /// What a write on the old content of a rotated map is told.
    pub const ROTATED: Self = Self::Frozen("a rotated map is read-only");
}

fn at_offset(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" at offset {offset}"))
}

fn for_bytes(needed: u64) -> String {
    if needed == 0 { String::new() } else { format!(" for {needed} bytes") }
}

fn bytes_left(available: u64) -> String {
    match available {
        u64::MAX => "the system refused them; lower the sizes".to_owned(),
        left => format!("{left} available; raise memoryBudget or lower the sizes"),
    }
}

impl Error {
    /// Wraps an I/O error; a full disk or an exhausted quota becomes [`Error::DiskFull`].
    #[must_use]
    pub fn io(op: &'static str, path: &Path, offset: Option<u64>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), needed: 0, source }
            }
            _ => Self::Io { op, path: path.to_owned(), offset, source },
        }
    }

    /// The operating system's error number, 0 where there is none.
    #[must_use]
    pub fn os_errno(&self) -> i32 {
        match self {
            Self::Io { source, .. }
            | Self::DiskFull { source, .. }
            | Self::Directory { source, .. } => source.raw_os_error().unwrap_or(0),
            Self::Failed(source) => source.os_errno(),
            _ => 0,
        }
    }
}
