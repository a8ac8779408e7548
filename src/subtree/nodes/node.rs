//! The 48-byte node of a subtree: a transaction's hash, fee and size.
//!
//! In memory a node is what it is in a file: hash, then two little-endian integers, no padding. So
//! an array of nodes is written, read and mapped without a conversion; the crate builds for
//! little-endian processors only. `NodeBytes` is the same with alignment 1, for nodes that lie
//! anywhere in a buffer.
#![expect(unsafe_code, reason = "an array of nodes and its bytes are two views of one memory")]

use crate::types::Hash;

/// The hash that stands for the coinbase transaction, first in a block's first subtree.
pub const COINBASE_PLACEHOLDER: Hash = [0xff; 32];

/// One transaction in a subtree. 48 bytes, alignment 8, no padding, no pointers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Node {
    /// Transaction id in internal byte order.
    pub hash: Hash,
    /// Fee in satoshis.
    pub fee: u64,
    /// Size of the transaction in bytes.
    pub size: u64,
}

/// A node as it lies in a file: any alignment.
pub type NodeBytes = [u8; Node::BYTES];

const _: () = assert!(cfg!(target_endian = "little"), "nodes in memory are the bytes of the files");
const _: () = assert!(size_of::<Node>() == Node::BYTES && align_of::<Node>() == 8);
const _: () = assert!(std::mem::offset_of!(Node, fee) == 32);
const _: () = assert!(std::mem::offset_of!(Node, size) == 40);

impl Node {
    /// Bytes of a node, in memory and in files.
    pub const BYTES: usize = 48;

    /// The node that stands for the coinbase transaction.
    pub const COINBASE: Self = Self { hash: COINBASE_PLACEHOLDER, fee: 0, size: 0 };

    /// Reads a node from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &NodeBytes) -> Self {
        Self { hash: *hash_of(bytes), fee: fee_of(bytes), size: size_of_transaction(bytes) }
    }

    /// The bytes of `nodes`, one element for each.
    #[must_use]
    pub fn as_bytes(nodes: &[Self]) -> &[NodeBytes] {
        // SAFETY: a Node is 48 bytes without padding (asserted above), all of them initialised, and
        // NodeBytes has alignment 1; the result borrows `nodes`.
        unsafe { std::slice::from_raw_parts(nodes.as_ptr().cast(), nodes.len()) }
    }

    /// The bytes of `nodes`, to be overwritten. Any bytes are valid nodes.
    #[must_use]
    pub fn as_bytes_mut(nodes: &mut [Self]) -> &mut [NodeBytes] {
        // SAFETY: as in as_bytes; every bit pattern is a valid Node; the result borrows `nodes`
        // uniquely.
        unsafe { std::slice::from_raw_parts_mut(nodes.as_mut_ptr().cast(), nodes.len()) }
    }

    /// The nodes in `bytes`, if these are aligned to 8 (as in a mapped file, where nodes start at
    /// offset 56 or 64).
    #[must_use]
    pub fn from_aligned_bytes(bytes: &[NodeBytes]) -> Option<&[Self]> {
        let start = bytes.as_ptr().cast::<Self>();
        // SAFETY: alignment is checked; the length in bytes is the same; every bit pattern is a
        // valid Node; the result borrows `bytes`.
        start.is_aligned().then(|| unsafe { std::slice::from_raw_parts(start, bytes.len()) })
    }
}

/// The hash in a node's bytes.
pub(in crate::subtree) fn hash_of(bytes: &NodeBytes) -> &Hash {
    &bytes.as_chunks().0[0]
}

/// The fee in a node's bytes, in satoshis.
pub(in crate::subtree) fn fee_of(bytes: &NodeBytes) -> u64 {
    word(bytes, 32)
}

/// The transaction's size in a node's bytes.
pub(in crate::subtree) fn size_of_transaction(bytes: &NodeBytes) -> u64 {
    word(bytes, 40)
}

fn word(bytes: &NodeBytes, offset: usize) -> u64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hash_fee_size() {
        let node = Node { hash: std::array::from_fn(|i| i as u8), fee: 0x0102_0304, size: 1 << 56 };
        let bytes = Node::as_bytes(std::slice::from_ref(&node))[0];
        assert_eq!(bytes[..32], node.hash);
        assert_eq!(bytes[32..40], [4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[40..], [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(Node::from_bytes(&bytes), node);
    }

    #[test]
    fn only_aligned_bytes_are_nodes_in_place() {
        let mut nodes = [Node::default(); 3];
        Node::as_bytes_mut(&mut nodes)[1][0] = 7;
        assert_eq!(nodes[1].hash[0], 7);
        let bytes = Node::as_bytes(&nodes);
        assert_eq!(Node::from_aligned_bytes(bytes), Some(&nodes[..]));
        let shifted = bytes.as_flattened()[1..].as_chunks::<48>().0;
        assert!(Node::from_aligned_bytes(shifted).is_none());
    }
}
