//! Subtree files: sizes and, if asked, content.

use super::guard::{self, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::subtree::{SubtreeFormat, SubtreeHeader, SubtreeView, Verify};
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
