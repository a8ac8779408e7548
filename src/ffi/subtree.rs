//! Subtree files: sizes and, if asked, content.

use std::ffi::c_void;

use super::guard::{self, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::subtree::{Node, SubtreeFormat, SubtreeHeader, SubtreeParts, SubtreeView, Verify};
use crate::types::Hash;
use crate::{Error, Result};

/// What a subtree's bytes say, sizes checked.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_subtree_header_t {
    /// The stored root, all zero in a hash list.
    pub root: [u8; 32],
    /// Stored sum of the fees.
    pub fees: u64,
    /// Stored sum of the sizes.
    pub size_in_bytes: u64,
    /// Number of nodes.
    pub nodes: u64,
    /// Number of conflicting hashes.
    pub conflicting: u64,
    /// Offset of the first node.
    pub nodes_offset: u64,
    /// Offset of the first conflicting hash.
    pub conflicting_offset: u64,
}

impl From<&SubtreeHeader> for blocktier_subtree_header_t {
    fn from(header: &SubtreeHeader) -> Self {
        Self {
            root: header.root.unwrap_or_default(),
            fees: header.fees,
            size_in_bytes: header.size_in_bytes,
            nodes: header.node_count as u64,
            conflicting: header.conflicting_count as u64,
            nodes_offset: header.nodes_offset as u64,
            conflicting_offset: header.conflicting_offset as u64,
        }
    }
}

pub(super) fn format_of(number: u32) -> Result<SubtreeFormat> {
    Ok(match number {
        0 => SubtreeFormat::Plain,
        1 => SubtreeFormat::WithMagic,
        2 => SubtreeFormat::HashList,
        other => {
            return Err(Error::InvalidArgument(format!("there is no subtree format {other}")));
        }
    })
}

/// Checks of blocktier_subtree_verify: the root that the header has.
pub const BLOCKTIER_VERIFY_ROOT: u32 = 1;
/// The sums of fees and sizes that the header has.
pub const BLOCKTIER_VERIFY_SUMS: u32 = 2;
/// The rules about leaves: the placeholder only first and without fee and size, no zero hash, no
/// leaf twice, conflicting hashes are leaves and listed once.
pub const BLOCKTIER_VERIFY_POLICY: u32 = 4;

/// Checks the content of a subtree in memory: `n` nodes of 48 bytes, 8-byte aligned, and
/// `conflicting_count` × 32 bytes. `checks` is an or of BLOCKTIER_VERIFY_*; of `header` root and
/// sums are read. `expected_root` (nullable, 32 bytes) has to be the root, too. FORMAT with the
/// kind of the first rule that is broken in `detail` and the place in the text; the order is root,
/// fees, sizes, placeholder, zero hashes, duplicates, conflicting hashes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_verify(
    header: *const blocktier_subtree_header_t,
    nodes: *const c_void,
    n: usize,
    conflicting: *const u8,
    conflicting_count: usize,
    checks: u32,
    expected_root: *const u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        let all = BLOCKTIER_VERIFY_ROOT | BLOCKTIER_VERIFY_SUMS | BLOCKTIER_VERIFY_POLICY;
        if checks & !all != 0 {
            return Err(Error::InvalidArgument(format!(
                "there are no checks {:#x}",
                checks & !all
            )));
        }
        let policy = checks & BLOCKTIER_VERIFY_POLICY != 0;
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            guard::not_null(header, "header")?;
            let nodes = guard::slice(nodes.cast::<Node>(), n, "nodes")?;
            let conflicting = conflicting.cast::<Hash>();
            let conflicting = guard::slice(conflicting, conflicting_count, "conflicting")?;
            let parts = SubtreeParts {
                root: (*header).root,
                fees: (*header).fees,
                size_in_bytes: (*header).size_in_bytes,
                nodes,
                conflicting,
            };
            parts.view()?.verify(&Verify {
                root: checks & BLOCKTIER_VERIFY_ROOT != 0,
                expected_root: expected_root.cast::<Hash>().as_ref().copied(),
                sums: checks & BLOCKTIER_VERIFY_SUMS != 0,
                placeholder: policy,
                zero_hashes: policy,
                duplicates: policy,
                conflicting: policy,
            })?;
        }
        OK
    })
}

/// Checks the sizes of a subtree: `format` 0 plain, 1 with magic, 2 bare hashes. With `verify`
/// other than 0 also root, sums, placeholder, zero hashes, duplicates and conflicting hashes.
/// FORMAT with the kind in `detail` and the place in the text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_inspect(
    bytes: *const u8,
    length: usize,
    format: u32,
    verify: u32,
    out: *mut blocktier_subtree_header_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        let format = format_of(format)?;
        // SAFETY: the caller's promise for bytes.
        let bytes = unsafe { guard::slice(bytes, length, "bytes") }?;
        let view = SubtreeView::parse(bytes, format)?;
        if verify != 0 {
            view.verify(&Verify::ALL)?;
        }
        // SAFETY: `out` is null or memory for one struct.
        unsafe { guard::output(out, "out", view.header().into()) }?;
        OK
    })
}
