//! Subtree files of a directory of our own, written whole and mapped in their place.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use super::guard::{self, Guarded, HandleKind, OK};
use super::node_array::{NodeMemory, blocktier_node_array_t};
use super::runtime::{blocktier_runtime_t, with_runtime};
use super::status::{blocktier_error_t, blocktier_status_t};
use super::subtree::{blocktier_subtree_header_t, format_of};
use crate::subtree::{Node, SubtreeDirectory, SubtreeFormat, SubtreeParts};
use crate::types::Hash;
use crate::{Error, Result};

/// A directory of subtree files, locked until it is closed and the memory of its files is freed.
/// All calls but the closing one may run concurrently.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_subtree_directory_t(Guarded<SubtreeDirectory>);

guard::handle!(blocktier_subtree_directory_t, SubtreeDirectory);

/// Takes an existing directory for subtree files and removes what a killed process left unfinished
/// in it (`.*.new`). UNSUPPORTED if others can change its files (owner, permissions, a network file
/// system), with what to do; LOCKED if it has an owner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_directory_open(
    runtime: *const blocktier_runtime_t,
    directory: *const c_char,
    directory_length: usize,
    out: *mut *mut blocktier_subtree_directory_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle, text and output.
    unsafe {
        with_runtime(runtime, error, |runtime| {
            guard::not_null(out, "out")?;
            let path = Path::new(guard::text(directory, directory_length, "directory")?);
            let opened = SubtreeDirectory::open(Arc::clone(runtime.storage()), path)?;
            let guarded = Guarded::new(HandleKind::SubtreeDirectory, opened);
            out.write(Box::into_raw(Box::new(blocktier_subtree_directory_t(guarded))));
            OK
        })
    }
}

/// Writes a subtree of `n` nodes of 48 bytes, 8-byte aligned, to file `name`, durably, in the place
/// of the file that has the name now; memory of that one stays as it is. `header` has the root and
/// the sums to store, its other fields are not read; null has them computed. `conflicting` is
/// `conflicting_count` × 32 bytes. After an error the name has the file it had (or the new one, if
/// the text says that syncing the directory failed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_directory_store(
    directory: *const blocktier_subtree_directory_t,
    name: *const c_char,
    name_length: usize,
    format: u32,
    header: *const blocktier_subtree_header_t,
    nodes: *const c_void,
    n: usize,
    conflicting: *const u8,
    conflicting_count: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        guard::call_on(directory, error, |directory| {
            let name = guard::text(name, name_length, "name")?;
            let nodes = guard::slice(nodes.cast::<Node>(), n, "nodes")?;
            let conflicting = conflicting.cast::<Hash>();
            let conflicting = guard::slice(conflicting, conflicting_count, "conflicting")?;
            guard::nullable(header, "header")?;
            let parts = match header.as_ref() {
                None => SubtreeParts::new(nodes, conflicting)?,
                Some(header) => SubtreeParts {
                    root: header.root,
                    fees: header.fees,
                    size_in_bytes: header.size_in_bytes,
                    nodes,
                    conflicting,
                },
            };
            directory.store(name, format_of(format)?, &parts)?;
            OK
        })
    }
}

/// Maps file `name`: `format` 0 plain or 1 with magic. Sizes are checked to the last byte, content
/// is not. `*data` is the first of `header->nodes` nodes, 8-byte aligned; the conflicting hashes
/// lie `header->conflicting_offset - header->nodes_offset` bytes behind it. What is written there
/// is seen by this process alone and never gets into the file. It lives until
/// blocktier_node_array_free. UNSUPPORTED if others can change the file; FORMAT as of
/// blocktier_subtree_inspect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_directory_map(
    directory: *const blocktier_subtree_directory_t,
    name: *const c_char,
    name_length: usize,
    format: u32,
    out: *mut *mut blocktier_node_array_t,
    data: *mut *mut c_void,
    header: *mut blocktier_subtree_header_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle, text and outputs.
    unsafe {
        guard::call_on(directory, error, |directory| {
            guard::not_null(out, "out")?;
            guard::not_null(data, "data")?;
            guard::not_null(header, "header")?;
            let name = guard::text(name, name_length, "name")?;
            let format = with_nodes(format_of(format)?)?;
            let mapped = directory.map(name, format)?;
            header.write(mapped.header().into());
            // In the file: its sizes have been checked.
            data.write(mapped.as_mut_ptr().add(mapped.header().nodes_offset).cast());
            out.write(blocktier_node_array_t::over(NodeMemory::File(mapped)));
            OK
        })
    }
}

fn with_nodes(format: SubtreeFormat) -> Result<SubtreeFormat> {
    if format == SubtreeFormat::HashList {
        let text = "a hash list has no nodes that could be mapped; read it";
        return Err(Error::InvalidArgument(text.to_owned()));
    }
    Ok(format)
}

/// Closes a directory; memory of its files stays, and keeps it locked. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_directory_close(
    directory: *mut blocktier_subtree_directory_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(directory, error, |_| OK) }
}
