//! Reading a subtree from a stream, straight into a node array.
//!
//! The array is made once the count is known and checked: against the input's length where that is
//! known, against the caller's limit in any case. It never grows, and no node is copied on the way.
//! Conflicting hashes go to a vector that grows with the bytes that have arrived. A reader is
//! consumed once: if the caller's array cannot be had, nothing after the header has been read.

use std::io::{ErrorKind, Read};
use std::path::Path;

use super::codec::{
    HEADER_BYTES, MAGIC, STREAM, SubtreeFormat, SubtreeHeader, SubtreeParts, SubtreeView,
    check_hash_list_length, check_magic, hash_list_header, trailing_bytes, truncated, zero_nodes,
};
use super::format_error::{FormatError, FormatKind, check_count};
use crate::error::{Error, Result};
use crate::subtree::nodes::node::Node;
use crate::subtree::nodes::node_array::NodeArray;
use crate::subtree::nodes::plain_array::reserved_vec;
use crate::subtree::tree::leaves::LeafBytes;
use crate::types::Hash;

/// Largest single read, so that a mapped array is filled while its pages are still in the cache.
const CHUNK_BYTES: usize = 1 << 20;

/// Hashes that a vector grows by while the length of the input is unknown.
const CHUNK_HASHES: usize = 1 << 10;

/// Most conflicting hashes (4 GiB of them) in an input of any length.
const MAX_CONFLICTING: u64 = 1 << 27;

/// What a stream may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of the input, where known; a count that does not fit them is refused. A hash list,
    /// which does not say its length itself, has to have exactly these.
    pub input_bytes: Option<u64>,
    /// Most nodes to make room for.
    pub max_nodes: u64,
}

impl ReadLimits {
    /// An input of known length, which bounds everything.
    #[must_use]
    pub const fn of_length(bytes: u64) -> Self {
        Self { input_bytes: Some(bytes), max_nodes: u64::MAX }
    }

    /// An input of unknown length with at most this many nodes.
    #[must_use]
    pub const fn at_most(max_nodes: u64) -> Self {
        Self { input_bytes: None, max_nodes }
    }
}

/// A subtree in memory: its nodes in an array of the caller's choice.
#[derive(Debug)]
pub struct Subtree {
    header: SubtreeHeader,
    nodes: NodeArray,
    /// The hashes of a hash list are nodes too, without fees and sizes.
    conflicting: Vec<Hash>,
    root_is_verified: bool,
}

impl Subtree {
    /// Reads a subtree from `bytes` into heap memory.
    ///
    /// # Errors
    ///
    /// As [`inspect`](crate::subtree::inspect); [`Error::OutOfMemory`].
    pub fn from_bytes(bytes: &[u8], format: SubtreeFormat) -> Result<Self> {
        read_subtree(bytes, format, &ReadLimits::of_length(bytes.len() as u64), NodeArray::heap)
    }

    /// What the input said about itself. Root and sums are unverified, see
    /// [`verify`](Self::verify).
    #[must_use]
    pub const fn header(&self) -> &SubtreeHeader {
        &self.header
    }

    /// The nodes; those of a hash list have fee and size 0.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        self.nodes.as_slice()
    }

    /// The hashes of conflicting transactions.
    #[must_use]
    pub fn conflicting(&self) -> &[Hash] {
        &self.conflicting
    }

    /// Whether the stored root was recomputed and found right.
    #[must_use]
    pub const fn root_is_verified(&self) -> bool {
        self.root_is_verified
    }

    /// What [`verify`](Self::verify) looks at.
    pub(in crate::subtree) fn view(&self) -> SubtreeView<'_> {
        let leaves = LeafBytes::Nodes(Node::as_bytes(self.nodes.as_slice()));
        SubtreeView { header: self.header, leaves, conflicting: &self.conflicting }
    }

    pub(in crate::subtree) const fn root_was_found_right(&mut self) {
        self.root_is_verified = true;
    }

    /// What writes this subtree again as it was read. A hash list has no root and sums to write but
    /// zeros.
    #[must_use]
    pub fn parts(&self) -> SubtreeParts<'_> {
        SubtreeParts {
            root: self.header.root.unwrap_or_default(),
            fees: self.header.fees,
            size_in_bytes: self.header.size_in_bytes,
            nodes: self.nodes.as_slice(),
            conflicting: &self.conflicting,
        }
    }

    /// The array with the nodes and the conflicting hashes.
    #[must_use]
    pub fn into_nodes(self) -> (NodeArray, Vec<Hash>) {
        (self.nodes, self.conflicting)
    }
}

/// Reads one subtree, to the end of `reader`. `make_array` is called once, with the number of
/// nodes, and gives an empty array with room for them, such as [`NodeArray::heap`].
///
/// # Errors
///
/// [`Error::Format`] as [`inspect`](crate::subtree::inspect), and `CountTooLarge` above the limit;
/// [`Error::Io`] from the reader; what `make_array` returns; [`Error::OutOfMemory`].
pub fn read_subtree<R: Read>(
    reader: R,
    format: SubtreeFormat,
    limits: &ReadLimits,
    make_array: impl FnOnce(usize) -> Result<NodeArray>,
) -> Result<Subtree> {
    let mut input = Input { reader, offset: 0, limits };
    if format == SubtreeFormat::HashList {
        return read_hash_list(&mut input, make_array);
    }
    if format == SubtreeFormat::WithMagic {
        let mut magic = [0u8; MAGIC.len()];
        input.fill(&mut magic, "magic")?;
        check_magic(&magic)?;
    }
    let mut fixed = [0u8; HEADER_BYTES];
    input.fill(&mut fixed, "header")?;
    let word = |at: usize| fixed[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let node_count = input.count("nodes", word(48), Node::BYTES as u64, limits.max_nodes)?;
    if node_count == 0 {
        return Err(zero_nodes().into());
    }
    let nodes_offset = input.offset as usize;
    let mut nodes = empty_array(node_count, make_array)?;
    let memory = Node::as_bytes_mut(&mut nodes.unused_mut()[..node_count]).as_flattened_mut();
    for chunk in memory.chunks_mut(CHUNK_BYTES) {
        input.fill(chunk, "nodes")?;
    }
    nodes.set_len(node_count)?;
    let mut count = [0u8; 8];
    input.fill(&mut count, "conflicting count")?;
    let conflicting_count =
        input.count("conflicting hashes", u64::from_le_bytes(count), 32, MAX_CONFLICTING)?;
    let conflicting_offset = input.offset as usize;
    let conflicting = input.hashes(conflicting_count, "conflicting hashes")?;
    input.end()?;
    let header = SubtreeHeader {
        format,
        root: fixed.first_chunk().copied(),
        fees: word(32),
        size_in_bytes: word(40),
        node_count,
        conflicting_count,
        nodes_offset,
        conflicting_offset,
    };
    Ok(Subtree { header, nodes, conflicting, root_is_verified: false })
}

fn read_hash_list<R: Read>(
    input: &mut Input<'_, R>,
    make_array: impl FnOnce(usize) -> Result<NodeArray>,
) -> Result<Subtree> {
    let nodes = match input.limits.input_bytes {
        Some(bytes) => read_known_hash_list(input, bytes, make_array)?,
        None => read_unknown_hash_list(input, make_array)?,
    };
    let header = hash_list_header(nodes.len());
    Ok(Subtree { header, nodes, conflicting: Vec::new(), root_is_verified: false })
}

/// The input has exactly `bytes` bytes; more or fewer are an error.
fn read_known_hash_list<R: Read>(
    input: &mut Input<'_, R>,
    bytes: u64,
    make_array: impl FnOnce(usize) -> Result<NodeArray>,
) -> Result<NodeArray> {
    check_hash_list_length(bytes)?;
    let count = input.count("nodes", bytes / 32, 32, input.limits.max_nodes)?;
    let mut nodes = empty_array(count, make_array)?;
    let mut buffer = [[0; 32]; CHUNK_HASHES];
    while nodes.len() < count {
        let hashes = &mut buffer[..CHUNK_HASHES.min(count - nodes.len())];
        input.fill(hashes.as_flattened_mut(), "hashes")?;
        push_hashes(&mut nodes, hashes)?;
    }
    input.end()?;
    Ok(nodes)
}

fn read_unknown_hash_list<R: Read>(
    input: &mut Input<'_, R>,
    make_array: impl FnOnce(usize) -> Result<NodeArray>,
) -> Result<NodeArray> {
    let (hashes, rest) = input.hashes_to_end(input.limits.max_nodes)?;
    check_hash_list_length(hashes.len() as u64 * 32 + rest as u64)?;
    check_limit("nodes", hashes.len() as u64, input.limits.max_nodes)?;
    let mut nodes = empty_array(hashes.len(), make_array)?;
    push_hashes(&mut nodes, &hashes)?;
    Ok(nodes)
}

fn push_hashes(nodes: &mut NodeArray, hashes: &[Hash]) -> Result<()> {
    for hash in hashes {
        nodes.push(Node { hash: *hash, fee: 0, size: 0 })?;
    }
    Ok(())
}

fn empty_array(
    nodes: usize,
    make_array: impl FnOnce(usize) -> Result<NodeArray>,
) -> Result<NodeArray> {
    let array = make_array(nodes)?;
    if array.is_empty() && array.capacity() >= nodes {
        return Ok(array);
    }
    Err(Error::InvalidArgument(format!(
        "an array for {nodes} nodes was asked for; got one of capacity {} with {} in it",
        array.capacity(),
        array.len()
    )))
}

fn check_limit(what: &str, count: u64, most: u64) -> Result<(), FormatError> {
    if count <= most {
        return Ok(());
    }
    let detail = format!("{count} {what}, {most} are allowed");
    Err(FormatError::new(FormatKind::CountTooLarge, detail))
}

/// A reader that counts, and names the field in which its bytes end.
struct Input<'a, R> {
    reader: R,
    offset: u64,
    limits: &'a ReadLimits,
}

impl<R: Read> Input<'_, R> {
    fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        let at = self.offset;
        let end = at + buffer.len() as u64;
        let holds = self.limits.input_bytes.is_none_or(|all| end <= all);
        if holds && self.fill_some(buffer)? == buffer.len() {
            return Ok(());
        }
        Err(truncated(what, at).into())
    }

    /// Reads until `buffer` is full or the input ends.
    fn fill_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io("read", Path::new(STREAM), Some(self.offset), error));
                }
            }
        }
        Ok(filled)
    }

    /// A count of units of `unit` bytes, checked against what the input can still hold, or against
    /// `most` where nobody knows the input's length.
    fn count(&self, what: &str, count: u64, unit: u64, most: u64) -> Result<usize, FormatError> {
        if let Some(all) = self.limits.input_bytes {
            check_count(what, count, unit, all.saturating_sub(self.offset))?;
        }
        check_limit(what, count, most)?;
        usize::try_from(count)
            .map_err(|_| FormatError::new(FormatKind::CountTooLarge, format!("{count} {what}")))
    }

    fn hashes(&mut self, count: usize, what: &str) -> Result<Vec<Hash>> {
        // A known length has bounded the count already.
        let sure = if self.limits.input_bytes.is_some() { count } else { 0 };
        let mut hashes = reserved_vec("hashes of a subtree", sure)?;
        while hashes.len() < count {
            let step = CHUNK_HASHES.min(count - hashes.len());
            let start = hashes.len();
            grow(&mut hashes, start + step)?;
            self.fill(hashes[start..].as_flattened_mut(), what)?;
        }
        Ok(hashes)
    }

    /// All hashes up to an end that nobody knows, at most one more than `most`, and the bytes left
    /// over.
    fn hashes_to_end(&mut self, most: u64) -> Result<(Vec<Hash>, usize)> {
        let mut hashes = Vec::new();
        while hashes.len() as u64 <= most {
            let start = hashes.len();
            let step = CHUNK_HASHES.min(most.saturating_add(1) as usize - start);
            grow(&mut hashes, start + step)?;
            let read = self.fill_some(hashes[start..].as_flattened_mut())?;
            hashes.truncate(start + read / 32);
            if read < step * 32 {
                return Ok((hashes, read % 32));
            }
        }
        Ok((hashes, 0))
    }

    fn end(&mut self) -> Result<()> {
        let at = self.offset;
        if self.fill_some(&mut [0u8])? == 0 {
            return Ok(());
        }
        Err(trailing_bytes(at).into())
    }
}

/// Lengthens `hashes` with zeros. Doubles its memory at most, so that it follows the bytes that
/// arrived.
fn grow(hashes: &mut Vec<Hash>, length: usize) -> Result<()> {
    let more = length - hashes.len();
    hashes.try_reserve(more).map_err(|_| Error::OutOfMemory {
        what: "hashes of a subtree",
        bytes: length as u64 * 32,
        available: u64::MAX,
    })?;
    hashes.resize(length, [0; 32]);
    Ok(())
}
