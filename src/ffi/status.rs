//! Status codes and the error record in caller memory.

use crate::Error;

/// What a call returns. Numbers are explicit and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[expect(non_camel_case_types, reason = "the names in the C header")]
pub enum blocktier_status_t {
    /// Success.
    BLOCKTIER_OK = 0,
    /// An argument breaks the contract of the call.
    BLOCKTIER_INVALID_ARGUMENT = 1,
    /// A pointer that must not be null is.
    BLOCKTIER_NULL_POINTER = 2,
    /// The caller's buffer is too small; the call says how much is needed.
    BLOCKTIER_BUFFER_TOO_SMALL = 3,
    /// The key (event, disk, ...) is not there.
    BLOCKTIER_NOT_FOUND = 4,
    /// The call would have to wait and was asked not to.
    BLOCKTIER_WOULD_BLOCK = 5,
    /// The call waited as long as it may.
    BLOCKTIER_TIMED_OUT = 6,
    /// The operating system refused a file operation; see os_errno.
    BLOCKTIER_IO = 7,
    /// No space is left on a disk, or a quota is exhausted.
    BLOCKTIER_DISK_FULL = 8,
    /// Bytes on disk are not what was written.
    BLOCKTIER_CORRUPT = 9,
    /// A directory has another owner.
    BLOCKTIER_LOCKED = 10,
    /// The platform, kernel or file system cannot do this.
    BLOCKTIER_UNSUPPORTED = 11,
    /// Memory could not be had from the system or the budget.
    BLOCKTIER_OUT_OF_MEMORY = 12,
    /// The value is longer than the map takes.
    BLOCKTIER_VALUE_TOO_LARGE = 13,
    /// The object is closed.
    BLOCKTIER_CLOSED = 14,
    /// An earlier panic made the object unusable; close it.
    BLOCKTIER_POISONED = 15,
    /// A panic was caught in this call.
    BLOCKTIER_PANIC = 16,
    /// The map failed earlier and takes no more writes.
    BLOCKTIER_FAILED = 17,
    /// A setting is unknown, malformed or out of range.
    BLOCKTIER_SETTING = 18,
    /// The bytes of a format break its rules; detail is the kind.
    BLOCKTIER_FORMAT = 19,
    /// The map takes no writes: it is frozen, or the old content of a map that was rotated.
    BLOCKTIER_FROZEN = 20,
}

/// Bytes of text in an error.
pub const BLOCKTIER_ERROR_TEXT_BYTES: usize = 240;

/// What went wrong, in caller memory. Filled only when a call does not return OK.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_error_t {
    /// The status that the call returned.
    pub status: i32,
    /// errno of the operating system, 0 if there is none.
    pub os_errno: i32,
    /// For FORMAT the number of the broken rule; for WOULD_BLOCK 1 if room in the tail is missing,
    /// 2 if a file would have to be read; else 0.
    pub detail: u32,
    /// Bytes of text, at most 240. The text is UTF-8 and not NUL-terminated.
    pub text_length: u32,
    /// What happened, where, and what to do.
    pub text: [u8; BLOCKTIER_ERROR_TEXT_BYTES],
}

impl blocktier_error_t {
    pub(super) fn new(status: blocktier_status_t, error: &Error) -> Self {
        let detail = match error {
            Error::Format(format) => format.kind as u32,
            Error::WouldBlock(Error::BLOCKED_ON_READ) => 2,
            Error::WouldBlock(_) => 1,
            _ => 0,
        };
        Self::with_text(status, error.os_errno(), detail, &error.to_string())
    }

    pub(super) fn with_text(
        status: blocktier_status_t,
        os_errno: i32,
        detail: u32,
        message: &str,
    ) -> Self {
        let end = message.floor_char_boundary(BLOCKTIER_ERROR_TEXT_BYTES);
        let mut text = [0; BLOCKTIER_ERROR_TEXT_BYTES];
        text[..end].copy_from_slice(&message.as_bytes()[..end]);
        Self { status: status as i32, os_errno, detail, text_length: end as u32, text }
    }
}

/// The one place that gives each error its code.
pub(super) fn status_of(error: &Error) -> blocktier_status_t {
    use blocktier_status_t as S;
    match error {
        Error::InvalidArgument(_) => S::BLOCKTIER_INVALID_ARGUMENT,
        Error::NullPointer(_) => S::BLOCKTIER_NULL_POINTER,
        Error::Setting { .. } => S::BLOCKTIER_SETTING,
        Error::ValueTooLarge { .. } => S::BLOCKTIER_VALUE_TOO_LARGE,
        Error::Io { .. } | Error::Directory { .. } => S::BLOCKTIER_IO,
        Error::DiskFull { .. } => S::BLOCKTIER_DISK_FULL,
        Error::Corrupt { .. } => S::BLOCKTIER_CORRUPT,
        Error::Locked { .. } => S::BLOCKTIER_LOCKED,
        Error::Format(_) => S::BLOCKTIER_FORMAT,
        Error::Unsupported(_) => S::BLOCKTIER_UNSUPPORTED,
        Error::OutOfMemory { .. } => S::BLOCKTIER_OUT_OF_MEMORY,
        Error::WouldBlock(_) => S::BLOCKTIER_WOULD_BLOCK,
        Error::TimedOut { .. } => S::BLOCKTIER_TIMED_OUT,
        Error::Failed(_) => S::BLOCKTIER_FAILED,
        Error::Closed(_) => S::BLOCKTIER_CLOSED,
        Error::Panic(_) => S::BLOCKTIER_PANIC,
        Error::Poisoned(_) => S::BLOCKTIER_POISONED,
        Error::Frozen(_) => S::BLOCKTIER_FROZEN,
    }
}
