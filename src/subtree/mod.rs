//! Subtrees, in the order in which they come about.
//!
//! ```text
//! nodes    the 48-byte node; arrays of fixed capacity, on the heap or in a file
//! formats  the wire formats: in place, from a stream, as files of our own; what is spent
//! tree     Merkle roots and kept levels
//! proofs   of one leaf, of many, compact
//! check    root, sums, rules of content, repeated hashes
//! ```

mod check;
mod formats;
mod nodes;
mod proofs;
mod tree;

pub use check::verify::Verify;
pub use formats::codec::{
    MAGIC, SubtreeFormat, SubtreeHeader, SubtreeParts, SubtreeView, encoded_length, inspect,
    write_subtree,
};
pub use formats::directory::{MappedSubtree, SubtreeDirectory};
pub use formats::format_error::{FormatError, FormatKind};
pub use formats::inpoints;
pub use formats::meta::{MetaEntries, SubtreeMeta, write_meta};
pub use formats::reader::{ReadLimits, Subtree, read_subtree};
pub use nodes::node::{COINBASE_PLACEHOLDER, Node, NodeBytes};
pub use nodes::node_array::NodeArray;
pub(crate) use nodes::plain_array::reserved_vec;
pub use proofs::compact_proof::CompactProof;
pub use proofs::proof::{BlockShape, MerkleProof, fold_proof};
pub use proofs::proofs_many::{ManyProofs, proofs_many};
pub use tree::leaves::{LeafBytes, Leaves, ReplacedFirst};
pub use tree::levels::{LevelsMemory, MerkleLevels};
pub use tree::merkle;
pub use tree::unique::{EqualPair, unique_root};
