//! Subtrees: nodes, wire formats, Merkle levels, roots and proofs.
//!
//! ```text
//! node, node_array    the 48-byte node; arrays of fixed capacity, on the heap or in a file
//! codec               the three wire formats: sizes checked in place, writing
//! reader              the same formats from a stream, straight into an array
//! directory           files of a directory of our own, mapped in their place
//! verify              root, sums and rules of content, each failure with its index
//! merkle              roots: plain, padded, with the coinbase, of a block
//! levels, proof       kept levels, proofs up to the block's header
//! proofs_many         proofs of many leaves of one tree; compact_proof: one for all of them
//! level_changes       leaves of kept levels replaced, appended, removed
//! unique              roots that no other list of leaves has
//! inpoints, meta      what each transaction spends, per transaction and per subtree
//! ```

mod codec;
mod compact_proof;
mod directory;
mod duplicates;
mod format_error;
pub mod inpoints;
mod leaves;
mod level_changes;
mod levels;
pub mod merkle;
mod meta;
mod node;
mod node_array;
mod plain_array;
mod proof;
mod proofs_many;
mod reader;
mod unique;
mod verify;

pub use codec::{
    MAGIC, SubtreeFormat, SubtreeHeader, SubtreeParts, SubtreeView, encoded_length, inspect,
    write_subtree,
};
pub use compact_proof::CompactProof;
pub use directory::{MappedSubtree, SubtreeDirectory};
pub use format_error::{FormatError, FormatKind};
pub use leaves::{LeafBytes, Leaves, ReplacedFirst};
pub use levels::{LevelsMemory, MerkleLevels};
pub use meta::{MetaEntries, SubtreeMeta, write_meta};
pub use node::{COINBASE_PLACEHOLDER, Node, NodeBytes};
pub use node_array::NodeArray;
pub(crate) use plain_array::reserved_vec;
pub use proof::{BlockShape, MerkleProof, fold_proof};
pub use proofs_many::{ManyProofs, proofs_many};
pub use reader::{ReadLimits, Subtree, read_subtree};
pub use unique::{EqualPair, unique_root};
pub use verify::Verify;
