//! Versions, struct layouts and live counters: what the other side checks before it trusts the
//! border.

use std::ffi::c_char;
use std::mem::offset_of;

use super::guard;
use super::runtime::{blocktier_disk_stats_t, blocktier_runtime_stats_t};
use super::status::blocktier_error_t;
use super::subtree::blocktier_subtree_header_t;
use super::txmap::{blocktier_lookup_t, blocktier_txmap_stats_t};
use crate::subtree::Node;

/// Number of this ABI. It changes when a caller must change.
pub const BLOCKTIER_ABI: u32 = 1;

/// Sizes and offsets of the structs that cross the border, in bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_layout_t {
    /// BLOCKTIER_ABI of the library.
    pub abi: u32,
    /// sizeof(blocktier_error_t).
    pub size_of_error: u32,
    /// Size of a subtree node.
    pub size_of_node: u32,
    /// Offset of the fee in a node.
    pub node_fee_offset: u32,
    /// Offset of the size in a node.
    pub node_size_offset: u32,
    /// sizeof(blocktier_runtime_stats_t).
    pub size_of_runtime_stats: u32,
    /// sizeof(blocktier_disk_stats_t).
    pub size_of_disk_stats: u32,
    /// sizeof(blocktier_txmap_stats_t).
    pub size_of_txmap_stats: u32,
    /// sizeof(blocktier_subtree_header_t).
    pub size_of_subtree_header: u32,
    /// sizeof(blocktier_lookup_t).
    pub size_of_lookup: u32,
}

const _: () = {
    assert!(size_of::<blocktier_error_t>() == 256);
    assert!(size_of::<blocktier_lookup_t>() == 16);
    assert!(size_of::<blocktier_subtree_header_t>() == 80);
    assert!(size_of::<Node>() == 48 && align_of::<Node>() == 8);
};

/// The number of the library's ABI; compare it with BLOCKTIER_ABI of the header.
#[unsafe(no_mangle)]
pub extern "C" fn blocktier_abi_version() -> u32 {
    BLOCKTIER_ABI
}

/// The library's version, NUL-terminated; lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn blocktier_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Fills in the library's layout; nothing happens if `out` is null or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_layout(out: *mut blocktier_layout_t) {
    let layout = blocktier_layout_t {
        abi: BLOCKTIER_ABI,
        size_of_error: size_of::<blocktier_error_t>() as u32,
        size_of_node: size_of::<Node>() as u32,
        node_fee_offset: offset_of!(Node, fee) as u32,
        node_size_offset: offset_of!(Node, size) as u32,
        size_of_runtime_stats: size_of::<blocktier_runtime_stats_t>() as u32,
        size_of_disk_stats: size_of::<blocktier_disk_stats_t>() as u32,
        size_of_txmap_stats: size_of::<blocktier_txmap_stats_t>() as u32,
        size_of_subtree_header: size_of::<blocktier_subtree_header_t>() as u32,
        size_of_lookup: size_of::<blocktier_lookup_t>() as u32,
    };
    if !out.is_null() && out.is_aligned() {
        // SAFETY: not null, aligned, and the caller gave memory for one layout.
        unsafe { out.write(layout) };
    }
}

/// Live handles of a kind, for leak tests: 0 runtimes, 1 transaction maps, 2 node arrays, 3 Merkle
/// levels, 4 cursors, 5 transfers, 6 checks, 7 subtree directories.
#[unsafe(no_mangle)]
pub extern "C" fn blocktier_live_handles(kind: u32) -> u64 {
    guard::live(kind)
}
