//! The C ABI: every `extern "C"` of the crate.
//!
//! Conventions (docs/abi.md has them in full): `blocktier_<type>_<verb>`, handle first, then
//! inputs, then outputs, last a nullable error record in caller memory. A `const` handle may be
//! used by several threads at once, another one by one thread alone. Outputs are written on
//! success, or as the call's text says for BUFFER_TOO_SMALL and WOULD_BLOCK. Length 0 never looks
//! at the pointer. No pointer is kept after a call, no memory but handles and mapped node arrays is
//! handed out, nothing calls back.
#![expect(unsafe_code, reason = "pointers of C callers; each entry states what they promise")]
#![expect(
    clippy::missing_safety_doc,
    reason = "the contract is the header's: pointers are valid for their lengths, handles live"
)]

mod check;
mod guard;
mod layout;
mod merkle;
mod merkle_changes;
mod node_array;
mod runtime;
mod status;
mod subtree;
mod subtree_directory;
mod txmap;
mod txmap_batch;
mod txmap_compaction;
mod txmap_cursor;
mod txmap_rotate;

pub use check::*;
pub use layout::*;
pub use merkle::*;
pub use merkle_changes::*;
pub use node_array::*;
pub use runtime::*;
pub use status::*;
pub use subtree::*;
pub use subtree_directory::*;
pub use txmap::*;
pub use txmap_batch::*;
pub use txmap_compaction::*;
pub use txmap_cursor::*;
pub use txmap_rotate::*;
