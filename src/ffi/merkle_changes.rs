//! Kept levels that change, and many proofs at once. A handle is made with its capacity by
//! blocktier_merkle_levels_with_capacity and freed by blocktier_merkle_levels_free.

use std::ffi::c_void;

use super::guard::{self, OK};
use super::merkle::{blocktier_merkle_levels_t, index_of, other_stride};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::subtree::{MerkleLevels, Node, reserved_vec};
use crate::types::Hash;
use crate::{Error, Result};

/// Appends `n` leaves, hashes (`stride` 32) or nodes (`stride` 48, 8-byte aligned), and recomputes
/// what they reach. INVALID_ARGUMENT, and nothing changed, if they exceed the capacity. Exclusive:
/// no other call on these levels may run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_append(
    levels: *mut blocktier_merkle_levels_t,
    leaves: *const c_void,
    n: usize,
    stride: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and the leaves.
    unsafe {
        guard::call_on_mut(levels, error, |levels| {
            match stride {
                32 => levels.append(guard::slice(leaves.cast::<Hash>(), n, "leaves")?)?,
                48 => levels.append(guard::slice(leaves.cast::<Node>(), n, "leaves")?)?,
                other => return Err(other_stride(other)),
            }
            OK
        })
    }
}

/// Replaces `n` leaves: `indexes[i]` by the hash at `hashes` + 32 i; of several for one leaf the
/// last one counts. All or none. Exclusive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_set_leaves(
    levels: *mut blocktier_merkle_levels_t,
    indexes: *const u64,
    hashes: *const u8,
    n: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        guard::call_on_mut(levels, error, |levels| {
            let indexes = guard::slice(indexes, n, "indexes")?;
            let hashes = guard::slice(hashes.cast::<Hash>(), n, "hashes")?;
            let mut changes = reserved_vec("changed leaves", n)?;
            let indexes = indexes.iter().map(|&index| index_of(index));
            changes.extend(indexes.zip(hashes.iter().copied()));
            levels.set_leaves(&changes)?;
            OK
        })
    }
}

/// Removes leaf `index`; the later ones move up. INVALID_ARGUMENT, and nothing changed, past the
/// last leaf and for the only one. Exclusive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_remove(
    levels: *mut blocktier_merkle_levels_t,
    index: u64,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle that is the caller's alone.
    unsafe {
        guard::call_on_mut(levels, error, |levels| {
            levels.remove(index_of(index))?;
            OK
        })
    }
}

/// Compares the levels' leaves with `n` hashes (`stride` 32) or nodes (`stride` 48, 8-byte
/// aligned). INVALID_ARGUMENT naming the first leaf that differs, or both numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_check_current(
    levels: *const blocktier_merkle_levels_t,
    leaves: *const c_void,
    n: usize,
    stride: usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and the leaves.
    unsafe {
        guard::call_on(levels, error, |levels| {
            match stride {
                32 => levels.check_current(guard::slice(leaves.cast::<Hash>(), n, "leaves")?)?,
                48 => levels.check_current(guard::slice(leaves.cast::<Node>(), n, "leaves")?)?,
                other => return Err(other_stride(other)),
            }
            OK
        })
    }
}

/// The siblings of the `n` leaves `indexes`, proof after proof, each `*height` hashes from the leaf
/// up. BUFFER_TOO_SMALL if n × `*height` is above `capacity_hashes`; then, and on an error, nothing
/// is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_proofs(
    levels: *const blocktier_merkle_levels_t,
    indexes: *const u64,
    n: usize,
    siblings: *mut u8,
    capacity_hashes: usize,
    height: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        guard::call_on(levels, error, |levels| {
            let indexes = guard::slice(indexes, n, "indexes")?;
            let out = guard::slice_mut(siblings.cast::<Hash>(), capacity_hashes, "siblings")?;
            let levels_high = levels.height() as usize;
            guard::output(height, "height", levels_high)?;
            let Some(out) = out.get_mut(..n.saturating_mul(levels_high)) else {
                return Ok(blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL);
            };
            write_proofs(levels, indexes, out)?;
            OK
        })
    }
}

fn write_proofs(levels: &MerkleLevels, indexes: &[u64], out: &mut [Hash]) -> Result<()> {
    let count = levels.len();
    if let Some(wrong) = indexes.iter().find(|index| index_of(**index) >= count) {
        return Err(Error::InvalidArgument(format!("leaf {wrong} of a tree of {count} leaves")));
    }
    let mut out = out.iter_mut();
    for &index in indexes {
        for (sibling, out) in levels.siblings(index_of(index))?.zip(out.by_ref()) {
            *out = *sibling;
        }
    }
    Ok(())
}
