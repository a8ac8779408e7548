//! Nodes and the memory they lie in.
//!
//! ```text
//! node         the 48-byte node, in memory as in a file
//! node_array   up to so many nodes, on the heap or in a file
//! plain_array  the memory of arrays and of kept levels
//! ```

pub(super) mod node;
pub(super) mod node_array;
pub(super) mod plain_array;
