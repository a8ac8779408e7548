//! Which operation fails, and how.

use std::path::Path;

/// An operation that can be made to fail, wait or be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOp {
    /// Making a file.
    Create,
    /// Reserving a new file's space.
    Allocate,
    /// Opening a file.
    Open,
    /// Writing.
    Write,
    /// Reading, once per request of a batch.
    Read,
    /// Making a file durable.
    Sync,
    /// Cutting or lengthening a file.
    SetLen,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    RemoveFile,
    /// Making a directory.
    CreateDir,
    /// Removing a directory.
    RemoveDir,
    /// Listing a directory.
    ReadDir,
    /// Making a directory durable.
    SyncDir,
}

impl FaultOp {
    pub(super) const COUNT: usize = Self::SyncDir as usize + 1;

    /// The operation in the words of real storage's errors.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Allocate => "reserve space for",
            Self::Open => "open",
            Self::Write => "write",
            Self::Read => "read",
            Self::Sync => "sync",
            Self::SetLen => "set length of",
            Self::Rename => "rename",
            Self::RemoveFile => "remove",
            Self::CreateDir => "create directory",
            Self::RemoveDir => "remove directory",
            Self::ReadDir => "read directory",
            Self::SyncDir => "sync directory",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done and the operation fails with this error number.
    Errno(i32),
    /// Only the first `bytes` of a write reach the file (less, to suit the file's alignment); the
    /// write fails. Operations other than writes just fail.
    ShortWrite {
        /// Bytes that are written.
        bytes: usize,
        /// The error number.
        errno: i32,
    },
    /// Only the first `bytes` of a write reach the file (less, to suit the file's alignment), and
    /// the write succeeds all the same: what a lying device leaves after a power cut.
    TornWrite {
        /// Bytes that are written.
        bytes: usize,
    },
    /// A read that covers this offset of the file returns its byte with these bits flipped.
    FlipBits {
        /// Offset in the file.
        offset: u64,
        /// Bits to flip.
        mask: u8,
    },
}

/// One operation, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Which one.
    pub op: FaultOp,
    /// The file or directory.
    pub path: &'a Path,
    /// Where in the file; 0 where the operation has no place.
    pub offset: u64,
    /// Bytes to write, read or reserve; the new length for [`FaultOp::SetLen`].
    pub len: u64,
}

/// A predicate of a rule.
type Matches = Box<dyn Fn(&Access<'_>) -> bool + Send + Sync>;

/// A fault and when it happens: on matching operations, after `skip` of them, `times` times.
///
/// ```
/// use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
/// let rule = FaultRule::new(FaultOp::Write, Fault::TornWrite { bytes: 4096 })
///     .on(|access| access.path.ends_with("0.seg") && access.offset > 0)
///     .skip(2)
///     .times(1);
/// ```
pub struct FaultRule {
    op: FaultOp,
    fault: Fault,
    skip: u64,
    times: u64,
    matches: Option<Matches>,
}

impl std::fmt::Debug for FaultRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultRule")
            .field("op", &self.op)
            .field("fault", &self.fault)
            .field("skip", &self.skip)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl FaultRule {
    /// `fault` on every `op`.
    #[must_use]
    pub const fn new(op: FaultOp, fault: Fault) -> Self {
        Self { op, fault, skip: 0, times: u64::MAX, matches: None }
    }

    /// Only on operations for which `matches` is true. It is called with the rules locked and must
    /// not use the storage.
    #[must_use]
    pub fn on(mut self, matches: impl Fn(&Access<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.matches = Some(Box::new(matches));
        self
    }

    /// Lets the first `count` matching operations pass.
    #[must_use]
    pub const fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Stops after `count` faults.
    #[must_use]
    pub const fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// The fault, if this operation gets it; counts matching operations.
    pub(super) fn decide(&mut self, access: &Access<'_>) -> Option<Fault> {
        if self.times == 0 || self.op != access.op {
            return None;
        }
        if let Fault::FlipBits { offset, .. } = self.fault
            && !(access.offset..access.offset + access.len).contains(&offset)
        {
            return None;
        }
        if self.matches.as_ref().is_some_and(|matches| !matches(access)) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= u64::from(self.times != u64::MAX);
        Some(self.fault)
    }
}
