//! What can be wrong with the bytes of a subtree, a subtreeMeta or an inpoints value.

/// The rule that was broken. The numbers are part of the C ABI (`blocktier_error_t.detail`) and
/// never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum FormatKind {
    /// The input ends before a field does.
    Truncated = 1,
    /// A count is larger than any input of this length could hold.
    CountTooLarge = 2,
    /// Bytes follow the last field.
    TrailingBytes = 3,
    /// A subtree without nodes.
    ZeroNodes = 4,
    /// The stored root is not the root of the leaves.
    RootMismatch = 5,
    /// The stored fee sum is not the sum over the nodes.
    FeeSumMismatch = 6,
    /// The stored size sum is not the sum over the nodes.
    SizeSumMismatch = 7,
    /// The sum of the fees exceeds 64 bits.
    FeeSumOverflow = 8,
    /// The sum of the sizes exceeds 64 bits.
    SizeSumOverflow = 9,
    /// A conflicting hash is not a leaf.
    ConflictNotALeaf = 10,
    /// A conflicting hash is listed twice.
    ConflictDuplicate = 11,
    /// Two leaves are equal (CVE-2012-2459 among others).
    DuplicateLeaf = 12,
    /// The coinbase placeholder stands elsewhere than first.
    PlaceholderMisplaced = 13,
    /// The coinbase placeholder has a fee or a size.
    PlaceholderNotZero = 14,
    /// A leaf is all zero.
    ZeroHash = 15,
    /// The magic is missing or of another type or version.
    BadMagic = 16,
    /// A bare hash list whose length is not a multiple of 32.
    NotMultipleOf32 = 17,
    /// A bare hash list without hashes.
    Empty = 18,
}

/// A broken rule with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct FormatError {
    /// The rule.
    pub kind: FormatKind,
    /// What and where, for people.
    pub detail: String,
}

impl FormatError {
    pub(crate) fn new(kind: FormatKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// Refuses a count of units of `unit` bytes that the `available` bytes cannot hold, before anything
/// is allocated from it. A count that no sane input could hold (more than 4 GiB) is told from a
/// short input.
pub(crate) fn check_count(
    what: &str,
    count: u64,
    unit: u64,
    available: u64,
) -> Result<(), FormatError> {
    if count <= available / unit {
        return Ok(());
    }
    let wanted = u128::from(count) * u128::from(unit);
    let kind = if wanted > 1 << 32 { FormatKind::CountTooLarge } else { FormatKind::Truncated };
    Err(FormatError::new(
        kind,
        format!("{count} {what} need {wanted} bytes, {available} bytes follow the count"),
    ))
}
