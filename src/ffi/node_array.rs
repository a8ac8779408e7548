//! Node arrays: memory for subtree nodes that the caller fills in place.

use std::ffi::{c_char, c_void};
use std::path::Path;

use super::guard::{self, Guarded, HandleKind, OK};
use super::runtime::{blocktier_runtime_t, with_runtime};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::Error;
use crate::storage::MappingOptions;
use crate::subtree::NodeArray;

/// Memory of a subtree's nodes. The memory belongs to the handle; the library itself never touches
/// it.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_node_array_t(Guarded<NodeArray>);

guard::handle!(blocktier_node_array_t, NodeArray);

/// Makes an array of `capacity_nodes` × 48 bytes: in an unlinked file in `directory` whose space is
/// reserved before it is mapped, or with length 0 in anonymous memory. `*data` is page-aligned,
/// zeroed, writable, and lives until blocktier_node_array_free. A full disk is DISK_FULL here and
/// never a signal later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_node_array_new(
    runtime: *const blocktier_runtime_t,
    capacity_nodes: u64,
    directory: *const c_char,
    directory_length: usize,
    out: *mut *mut blocktier_node_array_t,
    data: *mut *mut c_void,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle, text and outputs.
    unsafe {
        with_runtime(runtime, error, |runtime| {
            guard::not_null(out, "out")?;
            guard::not_null(data, "data")?;
            let directory = guard::text(directory, directory_length, "directory")?;
            let capacity = usize::try_from(capacity_nodes)
                .map_err(|_| Error::InvalidArgument("capacity_nodes is too large".to_owned()))?;
            let mut array = if directory.is_empty() {
                NodeArray::anonymous(capacity, runtime.settings().huge_pages_of_arrays())?
            } else {
                let options = MappingOptions { o_tmpfile: runtime.settings().o_tmpfile };
                NodeArray::mapped(Path::new(directory), capacity, &options)?
            };
            let pointer = array.as_mut_ptr();
            let handle = blocktier_node_array_t(Guarded::new(HandleKind::NodeArray, array));
            data.write(pointer.cast::<c_void>());
            out.write(Box::into_raw(Box::new(handle)));
            OK
        })
    }
}

/// Frees an array; its memory must not be touched any more. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_node_array_free(
    array: *mut blocktier_node_array_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(array, error, |_| OK) }
}

/// `path` for things that are made in memory or in a directory.
pub(super) fn directory_option(text: &str) -> Option<&Path> {
    (!text.is_empty()).then(|| Path::new(text))
}
