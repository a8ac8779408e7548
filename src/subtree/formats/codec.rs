//! The three wire formats of a subtree.
//!
//! ```text
//! plain       root 32 | fees u64 | size u64 | n u64 | n x (hash 32, fee u64, size u64)
//!             | c u64 | c x hash 32
//! with magic  "S-1.0" and three blanks, then plain
//! hash list   n x hash 32: no header, no count, no fees and sizes
//! ```
//!
//! Integers are little-endian. `fees` and `size` are the sums over the nodes; the `c` hashes at the
//! end are those of conflicting transactions. Nodes start at offset 56 or 64, aligned to 8 either
//! way, so that a mapped file needs no copy. Everything is checked against the bytes present before
//! it is believed: a [`SubtreeView`] exists only over bytes whose sizes agree to the last one.
//! Content is another matter, see [`Verify`](crate::subtree::Verify).

use std::io::Write;
use std::path::Path;

use super::format_error::{FormatError, FormatKind, check_count};
use super::sums::{fee_sum, size_sum};
use crate::error::{Error, Result};
use crate::subtree::nodes::node::Node;
use crate::subtree::tree::leaves::{LeafBytes, Leaves};
use crate::subtree::tree::merkle;
use crate::types::Hash;

/// The eight bytes before a subtree in the form with magic.
pub const MAGIC: [u8; 8] = *b"S-1.0   ";

/// Bytes of root, fees, size and count.
pub(in crate::subtree) const HEADER_BYTES: usize = 56;

/// How a subtree is written. Nothing in the bytes tells plain from hash list: the reader must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SubtreeFormat {
    /// Header, nodes, conflicting hashes.
    Plain = 0,
    /// Eight bytes of magic, then plain.
    WithMagic = 1,
    /// Bare hashes.
    HashList = 2,
}

/// What a subtree's bytes say about themselves. Counts and offsets are checked; root and sums are
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtreeHeader {
    /// The format it was read in.
    pub format: SubtreeFormat,
    /// The root as stored, unverified; none in a hash list.
    pub root: Option<Hash>,
    /// The sum of the fees as stored, unverified; 0 in a hash list.
    pub fees: u64,
    /// The sum of the sizes as stored, unverified; 0 in a hash list.
    pub size_in_bytes: u64,
    /// Number of nodes (of hashes in a hash list); at least 1.
    pub node_count: usize,
    /// Number of conflicting hashes.
    pub conflicting_count: usize,
    /// Offset of the first node (hash).
    pub nodes_offset: usize,
    /// Offset of the first conflicting hash; the end of the bytes when there is none.
    pub conflicting_offset: usize,
}

/// Checks all sizes of the subtree in `bytes` and returns its header. Allocates nothing.
///
/// # Errors
///
/// [`Error::Format`]: `Truncated`, `CountTooLarge`, `TrailingBytes`, `ZeroNodes`, `BadMagic`,
/// `NotMultipleOf32`, `Empty`.
pub fn inspect(bytes: &[u8], format: SubtreeFormat) -> Result<SubtreeHeader> {
    Ok(SubtreeView::parse(bytes, format)?.header)
}

/// The length in bytes of a subtree, or none above 2^64.
#[must_use]
pub fn encoded_length(format: SubtreeFormat, nodes: u64, conflicting: u64) -> Option<u64> {
    let magic = match format {
        SubtreeFormat::HashList => return nodes.checked_mul(32),
        SubtreeFormat::Plain => 0,
        SubtreeFormat::WithMagic => MAGIC.len() as u64,
    };
    let nodes = nodes.checked_mul(Node::BYTES as u64)?;
    let conflicting = conflicting.checked_mul(32)?;
    nodes.checked_add(conflicting)?.checked_add(magic + HEADER_BYTES as u64 + 8)
}

/// A subtree in place: bytes whose sizes have been checked.
///
/// ```
/// use blocktier::subtree::{Node, SubtreeFormat, SubtreeParts, SubtreeView, Verify, write_subtree};
/// let nodes = [Node { hash: [1; 32], fee: 5, size: 200 }];
/// let mut bytes = Vec::new();
/// write_subtree(&mut bytes, SubtreeFormat::Plain, &SubtreeParts::new(&nodes, &[])?)?;
/// let view = SubtreeView::parse(&bytes, SubtreeFormat::Plain)?;
/// assert_eq!(view.header().fees, 5);
/// view.verify(&Verify::ALL)?;
/// assert!(SubtreeView::parse(&bytes[1..], SubtreeFormat::Plain).is_err());
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SubtreeView<'a> {
    pub(in crate::subtree) header: SubtreeHeader,
    pub(in crate::subtree) leaves: LeafBytes<'a>,
    pub(in crate::subtree) conflicting: &'a [Hash],
}

impl<'a> SubtreeView<'a> {
    /// Checks all sizes of `bytes`. Allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`inspect`].
    pub fn parse(bytes: &'a [u8], format: SubtreeFormat) -> Result<Self> {
        if format == SubtreeFormat::HashList {
            return Ok(Self::parse_hash_list(bytes)?);
        }
        let mut fields = Fields { bytes, offset: 0 };
        if format == SubtreeFormat::WithMagic {
            check_magic(fields.array("magic")?)?;
        }
        let root = *fields.array("root")?;
        let fees = fields.word("fee sum")?;
        let size_in_bytes = fields.word("size sum")?;
        let count = fields.word("node count")?;
        let left = (bytes.len() - fields.offset) as u64;
        check_count("nodes", count, Node::BYTES as u64, left)?;
        if count == 0 {
            return Err(zero_nodes().into());
        }
        let nodes_offset = fields.offset;
        // Both counts are at most the number of bytes present, so they fit a usize.
        let nodes = fields.take(count as usize * Node::BYTES, "nodes")?.as_chunks().0;
        let count = fields.word("conflicting count")?;
        let left = (bytes.len() - fields.offset) as u64;
        check_count("conflicting hashes", count, 32, left)?;
        let conflicting_offset = fields.offset;
        let conflicting = fields.take(count as usize * 32, "conflicting hashes")?.as_chunks().0;
        let trailing = bytes.len() - fields.offset;
        if trailing > 0 {
            return Err(trailing_bytes(fields.offset as u64).into());
        }
        let header = SubtreeHeader {
            format,
            root: Some(root),
            fees,
            size_in_bytes,
            node_count: nodes.len(),
            conflicting_count: conflicting.len(),
            nodes_offset,
            conflicting_offset,
        };
        Ok(Self { header, leaves: LeafBytes::Nodes(nodes), conflicting })
    }

    fn parse_hash_list(bytes: &'a [u8]) -> Result<Self, FormatError> {
        check_hash_list_length(bytes.len() as u64)?;
        let hashes = bytes.as_chunks().0;
        let header = hash_list_header(hashes.len());
        Ok(Self { header, leaves: LeafBytes::Hashes(hashes), conflicting: &[] })
    }

    /// Counts, offsets, and the unverified root and sums.
    #[must_use]
    pub const fn header(&self) -> &SubtreeHeader {
        &self.header
    }

    /// The leaves.
    #[must_use]
    pub const fn leaves(&self) -> LeafBytes<'a> {
        self.leaves
    }

    /// The conflicting hashes.
    #[must_use]
    pub const fn conflicting(&self) -> &'a [Hash] {
        self.conflicting
    }

    /// The nodes; those of a hash list have fee and size 0.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<'a> {
        let leaves = self.leaves;
        (0..leaves.count()).map(move |index| match leaves {
            LeafBytes::Nodes(nodes) => Node::from_bytes(&nodes[index]),
            LeafBytes::Hashes(hashes) => Node { hash: hashes[index], fee: 0, size: 0 },
        })
    }

    /// The nodes in place, if the bytes are aligned to 8, as those of a mapped file are. None for a
    /// hash list.
    #[must_use]
    pub fn nodes_in_place(&self) -> Option<&'a [Node]> {
        match self.leaves {
            LeafBytes::Nodes(nodes) => Node::from_aligned_bytes(nodes),
            LeafBytes::Hashes(_) => None,
        }
    }
}

/// What is written for a subtree.
#[derive(Debug, Clone, Copy)]
pub struct SubtreeParts<'a> {
    /// The root that is stored.
    pub root: Hash,
    /// The fee sum that is stored.
    pub fees: u64,
    /// The size sum that is stored.
    pub size_in_bytes: u64,
    /// The nodes.
    pub nodes: &'a [Node],
    /// The hashes of conflicting transactions.
    pub conflicting: &'a [Hash],
}

impl<'a> SubtreeParts<'a> {
    /// Computes root and sums of `nodes`. Who knows them already fills the fields instead.
    ///
    /// # Errors
    ///
    /// [`Error::Format`]: `ZeroNodes`, `FeeSumOverflow`, `SizeSumOverflow`; [`Error::OutOfMemory`].
    pub fn new(nodes: &'a [Node], conflicting: &'a [Hash]) -> Result<Self> {
        if nodes.is_empty() {
            return Err(zero_nodes().into());
        }
        let bytes = Node::as_bytes(nodes);
        Ok(Self {
            root: merkle::root_of_nodes(nodes)?,
            fees: fee_sum(bytes)?,
            size_in_bytes: size_sum(bytes)?,
            nodes,
            conflicting,
        })
    }

    /// The same as one sees a subtree in the plain format, to check its content.
    ///
    /// ```
    /// use blocktier::subtree::{Node, SubtreeParts, Verify};
    /// let nodes = [Node { hash: [1; 32], fee: 5, size: 200 }; 2];
    /// let twice = SubtreeParts::new(&nodes, &[])?.view()?.verify(&Verify::ALL).unwrap_err();
    /// assert!(twice.to_string().contains("leaf 1 repeats leaf 0"));
    /// # Ok::<(), blocktier::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Format`] (`ZeroNodes`) without nodes.
    pub fn view(&self) -> Result<SubtreeView<'a>> {
        if self.nodes.is_empty() {
            return Err(zero_nodes().into());
        }
        let nodes = Node::as_bytes(self.nodes);
        let header = SubtreeHeader {
            format: SubtreeFormat::Plain,
            root: Some(self.root),
            fees: self.fees,
            size_in_bytes: self.size_in_bytes,
            node_count: nodes.len(),
            conflicting_count: self.conflicting.len(),
            nodes_offset: HEADER_BYTES,
            conflicting_offset: HEADER_BYTES + nodes.as_flattened().len() + 8,
        };
        let (leaves, conflicting) = (LeafBytes::Nodes(nodes), self.conflicting);
        Ok(SubtreeView { header, leaves, conflicting })
    }
}

/// Writes a subtree and returns the number of bytes written. `writer` gets few large writes.
///
/// # Errors
///
/// [`Error::Format`] (`ZeroNodes`) without nodes, [`Error::InvalidArgument`] for conflicting hashes
/// in a hash list, which has no place for them, [`Error::Io`] or [`Error::DiskFull`] from the
/// writer.
pub fn write_subtree<W: Write + ?Sized>(
    writer: &mut W,
    format: SubtreeFormat,
    parts: &SubtreeParts<'_>,
) -> Result<u64> {
    if parts.nodes.is_empty() {
        return Err(zero_nodes().into());
    }
    let mut out = Output { writer, offset: 0 };
    if format == SubtreeFormat::HashList {
        if !parts.conflicting.is_empty() {
            let what = "a hash list has no place for conflicting hashes";
            return Err(Error::InvalidArgument(what.into()));
        }
        for nodes in parts.nodes.chunks(256) {
            let mut hashes = [[0u8; 32]; 256];
            nodes.copy_into(0, &mut hashes[..nodes.len()]);
            out.write(hashes[..nodes.len()].as_flattened())?;
        }
        return Ok(out.offset);
    }
    let mut header = [0u8; MAGIC.len() + HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..40].copy_from_slice(&parts.root);
    header[40..48].copy_from_slice(&parts.fees.to_le_bytes());
    header[48..56].copy_from_slice(&parts.size_in_bytes.to_le_bytes());
    header[56..].copy_from_slice(&(parts.nodes.len() as u64).to_le_bytes());
    out.write(if format == SubtreeFormat::Plain { &header[8..] } else { &header })?;
    out.write(Node::as_bytes(parts.nodes).as_flattened())?;
    out.write(&(parts.conflicting.len() as u64).to_le_bytes())?;
    out.write(parts.conflicting.as_flattened())?;
    Ok(out.offset)
}

/// A writer that counts and names the place of an error.
pub(in crate::subtree) struct Output<'a, W: ?Sized> {
    pub(in crate::subtree) writer: &'a mut W,
    pub(in crate::subtree) offset: u64,
}

impl<W: Write + ?Sized> Output<'_, W> {
    pub(in crate::subtree) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer
            .write_all(bytes)
            .map_err(|error| Error::io("write", Path::new(STREAM), Some(self.offset), error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// What stands for the path in errors of readers and writers, which have none.
pub(in crate::subtree) const STREAM: &str = "(stream)";

/// A cursor that names the field at which the bytes end.
pub(in crate::subtree) struct Fields<'a> {
    pub(in crate::subtree) bytes: &'a [u8],
    pub(in crate::subtree) offset: usize,
}

impl<'a> Fields<'a> {
    pub(in crate::subtree) fn take(
        &mut self,
        length: usize,
        what: &str,
    ) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.offset..];
        let Some((field, _)) = rest.split_at_checked(length) else {
            return Err(truncated(what, self.offset as u64));
        };
        self.offset += length;
        Ok(field)
    }

    pub(in crate::subtree) fn array<const N: usize>(
        &mut self,
        what: &str,
    ) -> Result<&'a [u8; N], FormatError> {
        let offset = self.offset as u64;
        self.take(N, what)?.first_chunk().ok_or_else(|| truncated(what, offset))
    }

    pub(in crate::subtree) fn word(&mut self, what: &str) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(*self.array(what)?))
    }
}

pub(in crate::subtree) fn truncated(what: &str, offset: u64) -> FormatError {
    let detail = format!("the input ends within the {what} at offset {offset}");
    FormatError::new(FormatKind::Truncated, detail)
}

pub(in crate::subtree) fn trailing_bytes(offset: u64) -> FormatError {
    let detail = format!("bytes follow the last field, which ends at offset {offset}");
    FormatError::new(FormatKind::TrailingBytes, detail)
}

pub(in crate::subtree) fn zero_nodes() -> FormatError {
    FormatError::new(FormatKind::ZeroNodes, "a subtree has at least one node")
}

pub(in crate::subtree) fn check_magic(found: &[u8; 8]) -> Result<(), FormatError> {
    if *found == MAGIC {
        return Ok(());
    }
    let detail = format!(
        "the first eight bytes are \"{}\", not \"{}\"",
        found.escape_ascii(),
        MAGIC.escape_ascii()
    );
    Err(FormatError::new(FormatKind::BadMagic, detail))
}

pub(in crate::subtree) fn check_hash_list_length(bytes: u64) -> Result<(), FormatError> {
    let (kind, detail) = match bytes {
        0 => (FormatKind::Empty, "a hash list of 0 bytes".to_owned()),
        _ if !bytes.is_multiple_of(32) => {
            (FormatKind::NotMultipleOf32, format!("a hash list of {bytes} bytes"))
        }
        _ => return Ok(()),
    };
    Err(FormatError::new(kind, detail))
}

pub(in crate::subtree) fn hash_list_header(hashes: usize) -> SubtreeHeader {
    SubtreeHeader {
        format: SubtreeFormat::HashList,
        root: None,
        fees: 0,
        size_in_bytes: 0,
        node_count: hashes,
        conflicting_count: 0,
        nodes_offset: 0,
        conflicting_offset: hashes * 32,
    }
}
