//! The C ABI: every `extern "C"` of the crate.
//!
//! Conventions (docs/abi.md has them in full): `blocktier_<type>_<verb>`, handle first, then
//! inputs, then outputs, last a nullable error record in caller memory. A `const` handle may be
//! used by several threads at once, another one by one thread alone. Outputs are written on
//! success, or as the call's text says for BUFFER_TOO_SMALL and WOULD_BLOCK. Length 0 never looks
//! at the pointer. No pointer is kept after a call, no memory but handles and mapped node arrays is
//! handed out, nothing calls back.
#![expect(unsafe_code, reason = "pointers of C callers; each entry states what they promise")]

mod guard;
mod layout;
mod merkle;
mod node_array;
mod runtime;
mod status;
mod subtree;
mod txmap;
mod txmap_batch;

pub use layout::{BLOCKTIER_ABI, blocktier_layout_t};
pub use merkle::blocktier_merkle_levels_t;
pub use node_array::blocktier_node_array_t;
pub use runtime::{
    BLOCKTIER_PATH_BYTES, blocktier_disk_stats_t, blocktier_runtime_stats_t, blocktier_runtime_t,
};
pub use status::{BLOCKTIER_ERROR_TEXT_BYTES, blocktier_error_t, blocktier_status_t};
pub use subtree::blocktier_subtree_header_t;
pub use txmap::{
    BLOCKTIER_MAY_READ, BLOCKTIER_NONBLOCKING, blocktier_lookup_t, blocktier_txmap_stats_t,
    blocktier_txmap_t,
};
