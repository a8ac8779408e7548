//! subtreeMeta: what each transaction of a subtree spends, in the order of its nodes.
//!
//! ```text
//! root 32 | n u32 | n x inpoints (see the module inpoints)
//! ```
//!
//! The root is that of the subtree it belongs to; nothing in the file can confirm it. A coinbase
//! (or its placeholder) has empty inpoints.

use std::io::Write;

use super::codec::{Fields, Output, SubtreeHeader, trailing_bytes};
use super::format_error::{FormatError, FormatKind, check_count};
use super::inpoints::TxInpoints;
use crate::error::{Error, Result};
use crate::types::{Hash, display_hex};

/// A subtreeMeta in place: bytes whose sizes have been checked, every entry of them.
///
/// ```
/// use blocktier::subtree::{SubtreeMeta, inpoints, write_meta};
/// let mut entry = Vec::new();
/// let spent = inpoints::Outpoint { parent: [3; 32], vout: 1 };
/// inpoints::encode(&[spent], &mut entry)?;
/// let mut bytes = Vec::new();
/// write_meta(&mut bytes, &[9; 32], 2, [&[0u8; 4][..], &entry])?;
/// let meta = SubtreeMeta::parse(&bytes)?;
/// assert_eq!(meta.entries().last().unwrap().parents(), [[3; 32]]);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SubtreeMeta<'a> {
    root: &'a Hash,
    count: usize,
    entries: &'a [u8],
}

/// Bytes before the first entry.
const HEADER_BYTES: usize = 36;

impl<'a> SubtreeMeta<'a> {
    /// Checks all sizes of `bytes`, entry by entry. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`FormatError`]: `Truncated`, `CountTooLarge`, `TrailingBytes`, `ZeroNodes`; those within an
    /// entry name the entry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut fields = Fields { bytes, offset: 0 };
        let root = fields.array("root")?;
        let count = u32::from_le_bytes(*fields.array("entry count")?);
        let entries = &bytes[HEADER_BYTES..];
        check_count("entries", u64::from(count), 4, entries.len() as u64)?;
        if count == 0 {
            let detail = "a subtreeMeta has at least one entry";
            return Err(FormatError::new(FormatKind::ZeroNodes, detail));
        }
        let mut rest = entries;
        for index in 0..count {
            let offset = bytes.len() - rest.len();
            (_, rest) = TxInpoints::decode_first(rest).map_err(|error| {
                let detail = format!("entry {index} at offset {offset}: {}", error.detail);
                FormatError::new(error.kind, detail)
            })?;
        }
        if !rest.is_empty() {
            return Err(trailing_bytes((bytes.len() - rest.len()) as u64));
        }
        Ok(Self { root, count: count as usize, entries })
    }

    /// The root of the subtree that this belongs to, as stored.
    #[must_use]
    pub const fn root(&self) -> &'a Hash {
        self.root
    }

    /// How many entries there are; at least one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Never: there is at least one entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries, in the order of the subtree's nodes.
    #[must_use]
    pub const fn entries(&self) -> MetaEntries<'a> {
        MetaEntries { rest: self.entries, left: self.count }
    }

    /// Checks that this belongs to the subtree with that header: same root, as many entries as
    /// nodes.
    ///
    /// # Errors
    ///
    /// [`FormatError`]: `RootMismatch`, `Truncated` or `TrailingBytes` for too few or too many
    /// entries.
    pub fn check_belongs_to(&self, subtree: &SubtreeHeader) -> Result<(), FormatError> {
        if let Some(root) = subtree.root
            && root != *self.root
        {
            let (own, root) = (display_hex(self.root), display_hex(&root));
            let detail = format!("the subtreeMeta is of root {own}, the subtree of {root}");
            return Err(FormatError::new(FormatKind::RootMismatch, detail));
        }
        let kind = match self.count.cmp(&subtree.node_count) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => FormatKind::Truncated,
            std::cmp::Ordering::Greater => FormatKind::TrailingBytes,
        };
        let detail = format!("{} entries for {} nodes", self.count, subtree.node_count);
        Err(FormatError::new(kind, detail))
    }
}

/// Iterator over the entries of a [`SubtreeMeta`].
#[derive(Debug, Clone)]
pub struct MetaEntries<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for MetaEntries<'a> {
    type Item = TxInpoints<'a>;

    fn next(&mut self) -> Option<TxInpoints<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Parsing has decoded every entry, so this cannot fail.
        let (entry, rest) = TxInpoints::decode_first(self.rest).ok()?;
        self.rest = rest;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for MetaEntries<'_> {}

/// Writes a subtreeMeta of `count` encoded `entries` and returns the number of bytes written. Each
/// entry is decoded first: what is written can be read. Writes are small; give it a buffered
/// writer.
///
/// # Errors
///
/// [`Error::Format`] for an entry that is not exactly one transaction's inpoints;
/// [`Error::InvalidArgument`] if `count` is 0, above 2^32 - 1 or not the number of entries;
/// [`Error::Io`] or [`Error::DiskFull`] from the writer. Something may have been written then.
pub fn write_meta<'a, W: Write + ?Sized>(
    writer: &mut W,
    root: &Hash,
    count: usize,
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<u64> {
    let wrong = |written: usize| {
        Error::InvalidArgument(format!("{written} entries for a subtreeMeta of {count}"))
    };
    let number = u32::try_from(count).ok().filter(|&number| number > 0).ok_or_else(|| wrong(0))?;
    let mut out = Output { writer, offset: 0 };
    out.write(root)?;
    out.write(&number.to_le_bytes())?;
    let mut written = 0;
    for entry in entries {
        if written == count {
            return Err(wrong(written + 1));
        }
        TxInpoints::decode(entry)?;
        out.write(entry)?;
        written += 1;
    }
    if written < count {
        return Err(wrong(written));
    }
    Ok(out.offset)
}
