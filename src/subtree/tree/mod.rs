//! Merkle trees by the rule of Bitcoin.
//!
//! ```text
//! leaves         where leaves come from
//! merkle         roots: plain, padded, with the coinbase, of a block
//! unique         roots that no other list of leaves has
//! levels         all levels, kept
//! level_changes  leaves of kept levels replaced, appended, removed
//! ```

pub(super) mod leaves;
pub(super) mod level_changes;
pub(super) mod levels;
pub mod merkle;
pub(super) mod unique;
