//! Arrays of nodes outside the garbage-collected heap.
//!
//! An array has a fixed capacity and never moves, so that the other side of the border can fill it
//! in place. Its memory is zeroed heap memory, anonymous pages, or an unlinked file whose space was
//! reserved before it was mapped: a full disk is an error here and never a signal at a later store.
//!
//! Threads: shared reads or one writer, by the rules of borrowing. Whoever writes through the raw
//! pointer keeps those rules by itself.

use std::path::Path;

use super::node::Node;
use super::plain_array::PlainArray;
use crate::error::{Error, Result};
use crate::storage::{HugePages, MappingOptions};

const WHAT: &str = "node array";

/// Up to `capacity` nodes in memory that never moves.
///
/// ```
/// use blocktier::subtree::{Node, NodeArray};
/// let mut nodes = NodeArray::heap(2)?;
/// nodes.push(Node { hash: [1; 32], fee: 10, size: 250 })?;
/// nodes.push(Node::COINBASE)?;
/// assert!(nodes.push(Node::COINBASE).is_err(), "full, and it never grows");
/// assert_eq!(nodes.as_slice()[0].fee, 10);
/// # Ok::<(), blocktier::Error>(())
/// ```
#[derive(Debug)]
pub struct NodeArray {
    nodes: PlainArray<Node>,
    length: usize,
}

impl NodeArray {
    /// An empty array on the heap.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for capacity 0, [`Error::OutOfMemory`].
    pub fn heap(capacity: usize) -> Result<Self> {
        PlainArray::heap(WHAT, capacity).map(Self::over)
    }

    /// An empty array in anonymous pages: page-aligned, faulted in at first touch.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap).
    pub fn anonymous(capacity: usize, huge_pages: HugePages) -> Result<Self> {
        PlainArray::anonymous(WHAT, capacity, huge_pages).map(Self::over)
    }

    /// An empty array in an unlinked file in `dir`, which vanishes with the array or the process.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`] with the bytes needed, [`Error::Unsupported`] on file systems that
    /// cannot promise reserved space, [`Error::Io`], and as [`heap`](Self::heap).
    pub fn mapped(dir: &Path, capacity: usize, options: &MappingOptions) -> Result<Self> {
        PlainArray::in_file(WHAT, dir, capacity, options).map(Self::over)
    }

    /// As [`mapped`](Self::mapped), for an array that will be filled: its pages are there, at a
    /// third of what first touches would cost later.
    ///
    /// # Errors
    ///
    /// As [`mapped`](Self::mapped).
    pub fn touched(dir: &Path, capacity: usize, options: &MappingOptions) -> Result<Self> {
        PlainArray::touched_in_file(WHAT, dir, capacity, options).map(Self::over)
    }

    /// As [`mapped`](Self::mapped); if that fails, an array on the heap together with the reason,
    /// which the caller reports as a warning.
    ///
    /// # Errors
    ///
    /// As [`heap`](Self::heap). A capacity of 0 is an error of the call, not a reason to fall back.
    pub fn mapped_or_heap(
        dir: &Path,
        capacity: usize,
        options: &MappingOptions,
    ) -> Result<(Self, Option<Error>)> {
        match Self::mapped(dir, capacity, options) {
            Ok(array) => Ok((array, None)),
            Err(reason) => Ok((Self::heap(capacity)?, Some(reason))),
        }
    }

    fn over(nodes: PlainArray<Node>) -> Self {
        Self { nodes, length: 0 }
    }

    /// Appends a node.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the array is full; nothing is changed.
    pub fn push(&mut self, node: Node) -> Result<()> {
        self.extend_from_slice(std::slice::from_ref(&node))
    }

    /// Appends all of `nodes`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when they do not all fit; nothing is changed.
    pub fn extend_from_slice(&mut self, nodes: &[Node]) -> Result<()> {
        let Some(free) = self.nodes.get_mut(self.length..).filter(|free| free.len() >= nodes.len())
        else {
            return Err(Error::InvalidArgument(format!(
                "{} nodes do not fit: {} of {} in use",
                nodes.len(),
                self.length,
                self.nodes.len()
            )));
        };
        free[..nodes.len()].copy_from_slice(nodes);
        self.length += nodes.len();
        Ok(())
    }

    /// Makes the first `length` nodes of the memory the content, after they were filled in place
    /// through [`unused_mut`](Self::unused_mut) or the raw pointer. Memory never written holds zero
    /// nodes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] beyond the capacity.
    pub fn set_len(&mut self, length: usize) -> Result<()> {
        if length > self.capacity() {
            return Err(Error::InvalidArgument(format!(
                "length {length} of an array of capacity {}",
                self.capacity()
            )));
        }
        self.length = length;
        Ok(())
    }

    /// The nodes.
    #[must_use]
    pub fn as_slice(&self) -> &[Node] {
        &self.nodes[..self.length]
    }

    /// The nodes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [Node] {
        &mut self.nodes[..self.length]
    }

    /// The memory after the last node, up to the capacity.
    #[must_use]
    pub fn unused_mut(&mut self) -> &mut [Node] {
        &mut self.nodes[self.length..]
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no node.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many nodes fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the memory is that of an unlinked file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.nodes.is_in_file()
    }

    /// Faults the nodes `from..to` in for writing, ahead of the one who fills them. False where
    /// there is nothing to do it with (heap memory, old kernels): first touches then fault as
    /// usual.
    pub fn populate(&self, from: usize, to: usize) -> bool {
        self.nodes.populate(from, to)
    }

    /// The first node, for the border. Valid for `capacity` nodes until the array is dropped.
    #[must_use]
    pub fn as_ptr(&self) -> *const Node {
        self.nodes.as_ptr()
    }

    /// The first node, for writing; see [`as_ptr`](Self::as_ptr).
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut Node {
        self.nodes.as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> Node {
        Node { hash: [number as u8; 32], fee: number, size: number << 32 }
    }

    fn every_kind(capacity: usize) -> Vec<NodeArray> {
        let dir = std::env::temp_dir();
        let without = MappingOptions { o_tmpfile: false };
        vec![
            NodeArray::heap(capacity).unwrap(),
            NodeArray::anonymous(capacity, HugePages::Off).unwrap(),
            NodeArray::mapped(&dir, capacity, &MappingOptions::default()).unwrap(),
            NodeArray::mapped(&dir, capacity, &without).unwrap(),
            NodeArray::touched(&dir, capacity, &without).unwrap(),
        ]
    }

    #[test]
    fn fills_to_capacity_in_place_and_no_further() {
        for mut array in every_kind(1000) {
            let start = array.as_ptr();
            for number in 0..999 {
                array.push(node(number)).unwrap();
            }
            assert!(array.extend_from_slice(&[node(1), node(2)]).is_err());
            assert_eq!(array.len(), 999, "a batch that does not fit changes nothing");
            array.push(node(999)).unwrap();
            assert!(matches!(array.push(node(0)), Err(Error::InvalidArgument(_))));
            assert_eq!(array.as_ptr(), start, "never moves");
            assert!((0..1000).all(|number| array.as_slice()[number as usize] == node(number)));
        }
    }

    #[test]
    fn memory_starts_zeroed_and_is_filled_in_place() {
        for mut array in every_kind(100) {
            assert!(array.unused_mut().iter().all(|&node| node == Node::default()));
            array.unused_mut()[1] = node(5);
            array.set_len(2).unwrap();
            assert_eq!(array.as_slice(), [Node::default(), node(5)]);
            assert!(array.set_len(101).is_err());
            assert_eq!((array.len(), array.capacity()), (2, 100));
        }
    }

    #[test]
    fn says_where_it_lives() {
        let mapped: Vec<bool> = every_kind(1).iter().map(NodeArray::is_mapped).collect();
        assert_eq!(mapped, [false, false, true, true, true]);
    }

    #[test]
    fn impossible_capacities_are_errors() {
        let dir = std::env::temp_dir();
        let options = MappingOptions::default();
        assert!(matches!(NodeArray::heap(0), Err(Error::InvalidArgument(_))));
        assert!(matches!(
            NodeArray::mapped_or_heap(&dir, 0, &options),
            Err(Error::InvalidArgument(_))
        ));
        for capacity in [usize::MAX, usize::MAX / 48, isize::MAX as usize / 48] {
            assert!(matches!(NodeArray::heap(capacity), Err(Error::OutOfMemory { .. })));
            assert!(NodeArray::mapped(&dir, capacity, &options).is_err());
            assert!(NodeArray::touched(&dir, capacity, &options).is_err());
        }
    }

    #[test]
    fn falls_back_to_the_heap_with_the_reason() {
        let missing = Path::new("/nonexistent/directory");
        let (mut array, reason) =
            NodeArray::mapped_or_heap(missing, 10, &MappingOptions::default()).unwrap();
        assert!(!array.is_mapped());
        assert!(reason.unwrap().to_string().contains("/nonexistent/directory"));
        array.push(node(3)).unwrap();
    }
}
