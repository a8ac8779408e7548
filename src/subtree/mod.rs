//! Subtrees: nodes, wire formats, Merkle levels, roots and proofs.

mod format_error;

pub use format_error::{FormatError, FormatKind};
