//! What is written of a subtree, and reading it.
//!
//! ```text
//! codec         the three wire formats: sizes checked in place, writing
//! reader        the same formats from a stream, straight into an array
//! directory     files of a directory of our own, mapped in their place
//! inpoints      what a transaction spends
//! meta          the inpoints of all transactions of a subtree
//! sums          of the fees and of the sizes
//! format_error  the rules that bytes can break
//! ```

pub(super) mod codec;
pub(super) mod directory;
pub(super) mod format_error;
pub mod inpoints;
pub(super) mod meta;
pub(super) mod reader;
pub(super) mod sums;
