//! Whether a subtree's content keeps the rules.
//!
//! ```text
//! verify      root, sums and rules, each failure with its index
//! duplicates  equal hashes, whoever chose them
//! ```

pub(super) mod duplicates;
pub(super) mod verify;
