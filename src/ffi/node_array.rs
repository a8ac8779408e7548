//! Node arrays: memory for subtree nodes that the caller fills in place.

use std::ffi::{c_char, c_void};
use std::path::Path;

use super::guard::{self, Guarded, HandleKind, OK};
use super::runtime::{blocktier_runtime_t, with_runtime};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::Error;
use crate::storage::MappingOptions;
use crate::subtree::{MappedSubtree, NodeArray};

/// Memory of a subtree's nodes. The memory belongs to the handle; the library itself never touches
/// it.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_node_array_t(Guarded<NodeMemory>);

guard::handle!(blocktier_node_array_t, NodeMemory);

impl blocktier_node_array_t {
    /// A handle that owns `memory`.
    pub(super) fn over(memory: NodeMemory) -> *mut Self {
        Box::into_raw(Box::new(Self(Guarded::new(HandleKind::NodeArray, memory))))
    }
}

/// What keeps the memory: an array of its own, or the file it is mapped from.
#[derive(Debug)]
#[expect(dead_code, reason = "kept to be dropped")]
pub(super) enum NodeMemory {
    Array(NodeArray),
    File(MappedSubtree),
}

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
    // SAFETY: the caller's promises are ours.
    unsafe {
        let directory = (directory, directory_length);
        make(runtime, capacity_nodes, directory, false, (out, data), error)
    }
}

/// As blocktier_node_array_new, for an array that will be filled: all of its pages are there when
/// the call returns, for less than first touches would cost later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_node_array_touched(
    runtime: *const blocktier_runtime_t,
    capacity_nodes: u64,
    directory: *const c_char,
    directory_length: usize,
    out: *mut *mut blocktier_node_array_t,
    data: *mut *mut c_void,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises are ours.
    unsafe {
        let directory = (directory, directory_length);
        make(runtime, capacity_nodes, directory, true, (out, data), error)
    }
}

/// # Safety
/// As of the entries above.
unsafe fn make(
    runtime: *const blocktier_runtime_t,
    capacity_nodes: u64,
    (directory, directory_length): (*const c_char, usize),
    touched: bool,
    (out, data): (*mut *mut blocktier_node_array_t, *mut *mut c_void),
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
                let huge_pages = runtime.settings().huge_pages_of_arrays();
                let array = NodeArray::anonymous(capacity, huge_pages)?;
                if touched {
                    array.populate(0, capacity);
                }
                array
            } else {
                let options = MappingOptions { o_tmpfile: runtime.settings().o_tmpfile };
                let make = if touched { NodeArray::touched } else { NodeArray::mapped };
                make(Path::new(directory), capacity, &options)?
            };
            let pointer = array.as_mut_ptr();
            data.write(pointer.cast::<c_void>());
            out.write(blocktier_node_array_t::over(NodeMemory::Array(array)));
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
