//! Where the leaves of a Merkle tree come from: hashes, nodes, or bytes of either.

use crate::hash::HashPairs;
use crate::subtree::nodes::node::{Node, NodeBytes, hash_of};
use crate::types::Hash;

/// A sequence of leaf hashes. Implemented for slices of hashes, nodes and node bytes.
pub trait Leaves: Sync {
    /// How many leaves there are.
    fn count(&self) -> usize;

    /// The leaf at `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`count`](Self::count).
    fn leaf(&self, index: usize) -> &Hash;

    /// Copies the leaves from `start` on into `out`.
    ///
    /// # Panics
    ///
    /// If there are fewer than `start + out.len()` leaves.
    fn copy_into(&self, start: usize, out: &mut [Hash]) {
        for (place, out) in out.iter_mut().enumerate() {
            *out = *self.leaf(start + place);
        }
    }

    /// The pairs of the `count` leaves from `start` on where they lie in memory, or `None` if they
    /// do not lie there at even distances.
    ///
    /// # Panics
    ///
    /// If there are fewer than `start + count` leaves.
    fn pairs(&self, start: usize, count: usize) -> Option<HashPairs<'_>> {
        let _ = (start, count);
        None
    }
}

impl Leaves for [Hash] {
    fn count(&self) -> usize {
        self.len()
    }

    fn leaf(&self, index: usize) -> &Hash {
        &self[index]
    }

    fn copy_into(&self, start: usize, out: &mut [Hash]) {
        out.copy_from_slice(&self[start..start + out.len()]);
    }

    fn pairs(&self, start: usize, count: usize) -> Option<HashPairs<'_>> {
        Some(HashPairs::of_hashes(&self[start..start + count]))
    }
}

impl Leaves for [Node] {
    fn count(&self) -> usize {
        self.len()
    }

    fn leaf(&self, index: usize) -> &Hash {
        &self[index].hash
    }

    fn copy_into(&self, start: usize, out: &mut [Hash]) {
        let nodes = &self[start..start + out.len()];
        for (out, node) in out.iter_mut().zip(nodes) {
            *out = node.hash;
        }
    }

    fn pairs(&self, start: usize, count: usize) -> Option<HashPairs<'_>> {
        Some(pairs_of_nodes(Node::as_bytes(&self[start..start + count])))
    }
}

fn pairs_of_nodes(nodes: &[NodeBytes]) -> HashPairs<'_> {
    HashPairs::with_stride(nodes.as_flattened(), Node::BYTES)
}

/// The leaves of a subtree as they lie in a buffer.
#[derive(Debug, Clone, Copy)]
pub enum LeafBytes<'a> {
    /// Nodes of 48 bytes.
    Nodes(&'a [NodeBytes]),
    /// Bare hashes.
    Hashes(&'a [Hash]),
}

impl Leaves for LeafBytes<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Nodes(nodes) => nodes.len(),
            Self::Hashes(hashes) => hashes.len(),
        }
    }

    fn leaf(&self, index: usize) -> &Hash {
        match self {
            Self::Nodes(nodes) => hash_of(&nodes[index]),
            Self::Hashes(hashes) => &hashes[index],
        }
    }

    fn pairs(&self, start: usize, count: usize) -> Option<HashPairs<'_>> {
        Some(match self {
            Self::Nodes(nodes) => pairs_of_nodes(&nodes[start..start + count]),
            Self::Hashes(hashes) => HashPairs::of_hashes(&hashes[start..start + count]),
        })
    }
}

/// Leaves whose first one is replaced: the coinbase placeholder by the coinbase transaction's id.
#[derive(Debug)]
pub struct ReplacedFirst<'a, L: ?Sized> {
    /// The leaves as stored.
    pub leaves: &'a L,
    /// What leaf 0 is instead.
    pub first: Hash,
}

impl<L: Leaves + ?Sized> Leaves for ReplacedFirst<'_, L> {
    fn count(&self) -> usize {
        self.leaves.count()
    }

    fn leaf(&self, index: usize) -> &Hash {
        if index == 0 { &self.first } else { self.leaves.leaf(index) }
    }

    fn copy_into(&self, start: usize, out: &mut [Hash]) {
        self.leaves.copy_into(start, out);
        if let (0, Some(first)) = (start, out.first_mut()) {
            *first = self.first;
        }
    }

    fn pairs(&self, start: usize, count: usize) -> Option<HashPairs<'_>> {
        if start == 0 { None } else { self.leaves.pairs(start, count) }
    }
}
