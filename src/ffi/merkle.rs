//! Merkle roots, kept levels, proofs. Rules: docs/format.md.

use std::ffi::{c_char, c_void};

use super::guard::{self, Guarded, HandleKind, OK};
use super::node_array::directory_option;
use super::runtime::{blocktier_runtime_t, with_runtime};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::storage::MappingOptions;
use crate::subtree::{Leaves, LevelsMemory, MerkleLevels, Node, fold_proof, merkle, reserved_vec};
use crate::types::Hash;
use crate::{Error, Result};

/// All levels of a tree, so that a proof reads one hash per level.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_merkle_levels_t(Guarded<MerkleLevels>);

guard::handle!(blocktier_merkle_levels_t, MerkleLevels);

/// # Safety
/// `hash` is null or points to 32 bytes.
unsafe fn hash_at(hash: *const u8, name: &'static str) -> Result<Hash> {
    // SAFETY: not null; 32 bytes by the caller's promise.
    guard::not_null(hash, name).map(|hash| unsafe { *hash.cast::<Hash>() })
}

/// # Safety
/// `root` is null or memory for 32 bytes.
unsafe fn put_hash(root: *mut u8, name: &'static str, hash: Hash) -> Result<()> {
    // SAFETY: the caller's promise; a hash has no alignment.
    unsafe { guard::output(root.cast::<Hash>(), name, hash) }
}

fn leaf_root<L: Leaves + ?Sized>(leaves: &L, first: Option<&Hash>, height: u32) -> Result<Hash> {
    let root = match first {
        Some(first) => merkle::root_with_coinbase(leaves, first)?,
        None => merkle::root(leaves)?,
    };
    if height == 0 {
        return Ok(root);
    }
    merkle::root_padded(&root, leaves.count() as u64, height)
}

/// The root over `n` nodes of 48 bytes, 8-byte aligned. `first_hash` (nullable, 32 bytes) stands in
/// for the first leaf: the coinbase transaction's id for its placeholder. With `padded_height`
/// above 0 the root is lifted to that height.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_root(
    nodes: *const c_void,
    n: usize,
    first_hash: *const u8,
    padded_height: u32,
    root: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            let nodes = guard::slice(nodes.cast::<Node>(), n, "nodes")?;
            let first =
                if first_hash.is_null() { None } else { Some(hash_at(first_hash, "first_hash")?) };
            put_hash(root, "root", leaf_root(nodes, first.as_ref(), padded_height)?)?;
        }
        OK
    })
}

/// The roots of `n` subtrees at once, on all processors: `nodes[i]` points to `counts[i]` nodes of
/// 48 bytes, 8-byte aligned. `roots` is memory for n × 32 bytes. One subtree without nodes is an
/// error that names it, and no root is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_subtree_roots(
    nodes: *const *const c_void,
    counts: *const usize,
    n: usize,
    roots: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            let nodes = guard::slice(nodes, n, "nodes")?;
            let counts = guard::slice(counts, n, "counts")?;
            let out = guard::slice_mut(roots.cast::<Hash>(), n, "roots")?;
            let mut trees = reserved_vec("subtrees", n)?;
            for (nodes, count) in nodes.iter().zip(counts) {
                trees.push(guard::slice(nodes.cast::<Node>(), *count, "nodes[i]")?);
            }
            out.copy_from_slice(&merkle::roots(&trees)?);
        }
        OK
    })
}

/// The root over `n` hashes of 32 bytes, lifted to `padded_height` if that is above 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_root(
    hashes: *const u8,
    n: usize,
    padded_height: u32,
    root: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            let hashes = guard::slice(hashes.cast::<Hash>(), n, "hashes")?;
            put_hash(root, "root", leaf_root(hashes, None, padded_height)?)?;
        }
        OK
    })
}

/// The Merkle root of a block from the roots of its `n` subtrees (n × 32 bytes). All but the last
/// have 2^height leaves, the last one `last_leaves`; the first root is that with the coinbase
/// transaction's id in place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_block_root(
    roots: *const u8,
    n: usize,
    height: u32,
    last_leaves: u64,
    root: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            let roots = guard::slice(roots.cast::<Hash>(), n, "roots")?;
            put_hash(root, "root", merkle::block_root(roots, height, last_leaves)?)?;
        }
        OK
    })
}

/// Builds and keeps all levels over `n` leaves: hashes (`stride` 32) or nodes (`stride` 48, 8-byte
/// aligned). The levels are in an unlinked file in `directory`, or with length 0 in RAM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_new(
    runtime: *const blocktier_runtime_t,
    leaves: *const c_void,
    n: usize,
    stride: usize,
    directory: *const c_char,
    directory_length: usize,
    out: *mut *mut blocktier_merkle_levels_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises are those of the other entry.
    unsafe {
        blocktier_merkle_levels_with_capacity(
            runtime,
            leaves,
            n,
            stride,
            n as u64,
            directory,
            directory_length,
            out,
            error,
        )
    }
}

/// As blocktier_merkle_levels_new, with room for `capacity` leaves, at least `n`, which never
/// grows. 64 bytes of memory per leaf of the capacity. The leaves are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_with_capacity(
    runtime: *const blocktier_runtime_t,
    leaves: *const c_void,
    n: usize,
    stride: usize,
    capacity: u64,
    directory: *const c_char,
    directory_length: usize,
    out: *mut *mut blocktier_merkle_levels_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        with_runtime(runtime, error, |runtime| {
            guard::not_null(out, "out")?;
            let text = guard::text(directory, directory_length, "directory")?;
            let options = MappingOptions { o_tmpfile: runtime.settings().o_tmpfile };
            let memory = match directory_option(text) {
                Some(directory) => LevelsMemory::File(directory, &options),
                None => LevelsMemory::Pages(runtime.settings().huge_pages_of_arrays()),
            };
            let capacity = index_of(capacity);
            let levels = match stride {
                32 => {
                    let leaves = guard::slice(leaves.cast::<Hash>(), n, "leaves")?;
                    MerkleLevels::with_capacity(leaves, capacity, memory)?
                }
                48 => {
                    let leaves = guard::slice(leaves.cast::<Node>(), n, "leaves")?;
                    MerkleLevels::with_capacity(leaves, capacity, memory)?
                }
                other => return Err(other_stride(other)),
            };
            let handle = blocktier_merkle_levels_t(Guarded::new(HandleKind::MerkleLevels, levels));
            out.write(Box::into_raw(Box::new(handle)));
            OK
        })
    }
}

pub(super) fn other_stride(stride: usize) -> Error {
    Error::InvalidArgument(format!("stride {stride} is neither 32 nor 48"))
}

pub(super) fn index_of(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// Frees kept levels. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_free(
    levels: *mut blocktier_merkle_levels_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(levels, error, |_| OK) }
}

/// The root of kept levels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_root(
    levels: *const blocktier_merkle_levels_t,
    root: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `root` is memory for 32 bytes.
    unsafe {
        guard::call_on(levels, error, |levels| {
            put_hash(root, "root", levels.root())?;
            OK
        })
    }
}

/// The siblings from leaf `index` up to the root, lowest first. `*count` is their number;
/// BUFFER_TOO_SMALL if it is above `capacity_hashes`, then nothing is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_proof(
    levels: *const blocktier_merkle_levels_t,
    index: u64,
    siblings: *mut u8,
    capacity_hashes: usize,
    count: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        guard::call_on(levels, error, |levels| {
            let out = guard::slice_mut(siblings.cast::<Hash>(), capacity_hashes, "siblings")?;
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let path = levels.siblings(index)?;
            let height = levels.height() as usize;
            guard::output(count, "count", height)?;
            let Some(out) = out.get_mut(..height) else {
                return Ok(blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL);
            };
            for (to, from) in out.iter_mut().zip(path) {
                *to = *from;
            }
            OK
        })
    }
}

/// Replaces a leaf and recomputes its path. Exclusive: no other call on these levels may run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_levels_set_leaf(
    levels: *mut blocktier_merkle_levels_t,
    index: u64,
    hash: *const u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and the hash.
    unsafe {
        guard::call_on_mut(levels, error, |levels| {
            let hash = hash_at(hash, "hash")?;
            levels.set_leaf(usize::try_from(index).unwrap_or(usize::MAX), hash)?;
            OK
        })
    }
}

/// The root that a leaf at `index` and its `count` siblings (count × 32 bytes) lead to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_merkle_proof_fold(
    leaf: *const u8,
    index: u64,
    siblings: *const u8,
    count: usize,
    root: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        // SAFETY: the caller's promises for each pointer and length.
        unsafe {
            let siblings = guard::slice(siblings.cast::<Hash>(), count, "siblings")?;
            let folded = fold_proof(&hash_at(leaf, "leaf")?, index, siblings)?;
            put_hash(root, "root", folded)?;
        }
        OK
    })
}
