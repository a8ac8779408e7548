//! Proofs from a leaf up to the header of the block.
//!
//! ```text
//! proof          of one leaf
//! proofs_many    of many leaves of one tree, each by itself
//! compact_proof  of several leaves together
//! ```

pub(super) mod compact_proof;
pub(super) mod proof;
pub(super) mod proofs_many;
