//! The transaction map: open, one key at a time, flush, figures. `txmap_batch` has the batches.
//!
//! Every call takes a `const` handle: any number of threads may use a map at once. Keys are 32
//! bytes, values any bytes. With BLOCKTIER_NONBLOCKING a call that would wait for room, or read a
//! file, returns WOULD_BLOCK instead.

use std::ffi::c_char;

use super::guard::{self, Guarded, HandleKind, OK, Outcome};
use super::runtime::{blocktier_runtime_t, with_runtime};
use super::status::{blocktier_error_t, blocktier_status_t};
use crate::Result;
use crate::diskmap::{Inserted, MapStats, Wait};
use crate::settings::TxMapSettings;
use crate::txmap::DiskTxMap;
use crate::types::TxId;

/// Return WOULD_BLOCK instead of waiting for room or reading a file.
pub const BLOCKTIER_NONBLOCKING: u32 = 1;

/// With BLOCKTIER_NONBLOCKING: reads of files are allowed after all, waiting for room is not.
pub const BLOCKTIER_MAY_READ: u32 = 2;

/// A map from transaction ids to inpoints.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_txmap_t(pub(super) Guarded<DiskTxMap>);

guard::handle!(blocktier_txmap_t, DiskTxMap);

/// What a lookup found.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct blocktier_lookup_t {
    /// In batches: where the value starts in the arena.
    pub value_offset: u64,
    /// Bytes of the value.
    pub value_length: u32,
    /// Subtree index of the entry, 0 if none was set.
    pub subtree_index: u16,
    /// 1 found, 0 absent; in batches also 2 would block, 3 found but the arena is full.
    pub found: u8,
    /// 0.
    pub reserved: u8,
}

/// Figures of a map; see MapStats in the Rust documentation. All u64.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct blocktier_txmap_stats_t {
    /// Keys in the map.
    pub entries: u64,
    /// RAM of the index, subtree indexes included, in bytes.
    pub index_bytes: u64,
    /// RAM of the subtree indexes, in bytes.
    pub subtree_index_bytes: u64,
    /// RAM of the tail, in bytes.
    pub tail_bytes: u64,
    /// Bytes of live records, in tail and files.
    pub live_bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// Reads of files.
    pub file_reads: u64,
    /// Tags that matched another key.
    pub false_matches: u64,
    /// Confirms that went through the slow path's lock.
    pub slow_confirms: u64,
    /// Times a writer waited for room in the tail.
    pub waits: u64,
    /// Page splits of the index.
    pub splits: u64,
    /// 1 if the map has failed and takes no more writes.
    pub failed: u64,
    /// Merges of segments that were completed.
    pub compactions: u64,
    /// Bytes that merges have read.
    pub compaction_bytes_read: u64,
    /// Bytes of records that merges have moved.
    pub compaction_bytes_written: u64,
    /// Bytes of dead records and padding, in tail and files.
    pub dead_bytes: u64,
    /// Of those, what compaction is behind by.
    pub pending_compaction_bytes: u64,
    /// Segments that compaction found damaged and leaves alone.
    pub damaged_segments: u64,
    /// Base pages of the index that were built anew from their keys.
    pub rehashes: u64,
    /// Of those that were begun, the ones that were given up for an error; the event says which.
    pub rehash_failures: u64,
}

impl From<MapStats> for blocktier_txmap_stats_t {
    fn from(stats: MapStats) -> Self {
        Self {
            entries: stats.entries,
            index_bytes: stats.index_bytes,
            subtree_index_bytes: stats.subtree_index_bytes,
            tail_bytes: stats.tail_bytes,
            live_bytes: stats.live_bytes,
            segments: stats.segments,
            file_reads: stats.file_reads,
            false_matches: stats.false_matches,
            slow_confirms: stats.slow_confirms,
            waits: stats.waits,
            splits: stats.splits,
            failed: stats.failed,
            compactions: stats.compactions,
            compaction_bytes_read: stats.compaction_bytes_read,
            compaction_bytes_written: stats.compaction_bytes_written,
            dead_bytes: stats.dead_bytes,
            pending_compaction_bytes: stats.pending_compaction_bytes,
            damaged_segments: stats.damaged_segments,
            rehashes: stats.rehashes,
            rehash_failures: stats.rehash_failures,
        }
    }
}

pub(super) const fn wait(flags: u32) -> Wait {
    match (flags & BLOCKTIER_NONBLOCKING, flags & BLOCKTIER_MAY_READ) {
        (0, _) => Wait::Allowed,
        (_, 0) => Wait::Never,
        _ => Wait::ReadsOnly,
    }
}

/// Runs an entry on a map.
///
/// # Safety
/// `map` is null or a live handle.
pub(super) unsafe fn on_map(
    map: *const blocktier_txmap_t,
    error: *mut blocktier_error_t,
    body: impl FnOnce(&DiskTxMap) -> Outcome,
) -> blocktier_status_t {
    // SAFETY: the caller's promise.
    unsafe { guard::call_on(map, error, body) }
}

/// # Safety
/// `key` is null or points to 32 bytes.
unsafe fn key_at<'a>(key: *const u8) -> Result<&'a TxId> {
    // SAFETY: not null; 32 bytes by the caller's promise; bytes have no alignment.
    guard::not_null(key, "key").map(|key| unsafe { &*key.cast::<TxId>() })
}

/// Opens an empty map in fresh, locked subdirectories of setting txMapDirs. Settings are text as
/// for blocktier_runtime_open. On success `*out` is a handle that must be given to
/// blocktier_txmap_close. On failure nothing is left behind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_open(
    runtime: *const blocktier_runtime_t,
    settings: *const c_char,
    settings_length: usize,
    out: *mut *mut blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle, text and `out`.
    unsafe {
        with_runtime(runtime, error, |runtime| {
            guard::not_null(out, "out")?;
            let text = guard::text(settings, settings_length, "settings")?;
            let map = DiskTxMap::open(runtime, &TxMapSettings::parse(text)?)?;
            let handle = blocktier_txmap_t(Guarded::new(HandleKind::TxMap, map));
            out.write(Box::into_raw(Box::new(handle)));
            OK
        })
    }
}

/// Closes a map and removes its files. The handle is gone whatever is returned: FAILED with the
/// first error if the map had failed. No call may run on it. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_close(
    map: *mut blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe {
        guard::close(map, error, |map| {
            map.failure()?;
            OK
        })
    }
}

/// Inserts if absent. `result->found` is 1 if the key was there already; then its value is copied
/// to `existing` as far as `existing_capacity` goes, `value_length` being its full length.
/// `existing` may be null with capacity 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set_if_not_exists(
    map: *const blocktier_txmap_t,
    key: *const u8,
    value: *const u8,
    value_length: usize,
    subtree_index: u16,
    flags: u32,
    existing: *mut u8,
    existing_capacity: usize,
    result: *mut blocktier_lookup_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let key = key_at(key)?;
            let value = guard::slice(value, value_length, "value")?;
            let existing = guard::slice_mut(existing, existing_capacity, "existing")?;
            guard::not_null(result, "result")?;
            let outcome = map.set_if_not_exists(
                key,
                value,
                subtree_index,
                wait(flags),
                |value, subtree_index| {
                    let length = value.len().min(existing.len());
                    existing[..length].copy_from_slice(&value[..length]);
                    found(value, subtree_index)
                },
            )?;
            result.write(match outcome {
                Inserted::New => blocktier_lookup_t::default(),
                Inserted::Present(lookup) => lookup,
            });
            OK
        })
    }
}

fn found(value: &[u8], subtree_index: u16) -> blocktier_lookup_t {
    let value_length = value.len() as u32;
    blocktier_lookup_t { value_length, subtree_index, found: 1, ..blocktier_lookup_t::default() }
}

/// Sets a key's value. `*replaced` (nullable) is 1 if there was another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set(
    map: *const blocktier_txmap_t,
    key: *const u8,
    value: *const u8,
    value_length: usize,
    subtree_index: u16,
    flags: u32,
    replaced: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let value = guard::slice(value, value_length, "value")?;
            let there = map.set(key_at(key)?, value, subtree_index, wait(flags))?;
            if !replaced.is_null() {
                replaced.write(u8::from(there));
            }
            OK
        })
    }
}

/// Gets a value. NOT_FOUND if the key is absent. BUFFER_TOO_SMALL if the value is longer than
/// `capacity`: then `*result` is filled and the value is not copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_get(
    map: *const blocktier_txmap_t,
    key: *const u8,
    flags: u32,
    value: *mut u8,
    capacity: usize,
    result: *mut blocktier_lookup_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let buffer = guard::slice_mut(value, capacity, "value")?;
            guard::not_null(result, "result")?;
            let lookup = map.get(key_at(key)?, wait(flags), |value, subtree_index| {
                if let Some(buffer) = buffer.get_mut(..value.len()) {
                    buffer.copy_from_slice(value);
                }
                found(value, subtree_index)
            })?;
            let Some(lookup) = lookup else { return Ok(blocktier_status_t::BLOCKTIER_NOT_FOUND) };
            result.write(lookup);
            if lookup.value_length as usize > capacity {
                return Ok(blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL);
            }
            OK
        })
    }
}

/// Whether a key is there, exactly: `*found` is 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_exists(
    map: *const blocktier_txmap_t,
    key: *const u8,
    flags: u32,
    found: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer.
    unsafe {
        on_map(map, error, |map| {
            guard::not_null(found, "found")?;
            found.write(u8::from(map.exists(key_at(key)?, wait(flags))?));
            OK
        })
    }
}

/// Removes a key. `*removed` (nullable) is 1 if it was there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_delete(
    map: *const blocktier_txmap_t,
    key: *const u8,
    flags: u32,
    removed: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer.
    unsafe {
        on_map(map, error, |map| {
            let there = map.delete(key_at(key)?, wait(flags))?;
            if !removed.is_null() {
                removed.write(u8::from(there));
            }
            OK
        })
    }
}

/// Sets the subtree index of a key. `*found` (nullable) is 1 if it was there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_update_subtree_index(
    map: *const blocktier_txmap_t,
    key: *const u8,
    subtree_index: u16,
    flags: u32,
    found: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer.
    unsafe {
        on_map(map, error, |map| {
            let there = map.update_subtree_index(key_at(key)?, subtree_index, wait(flags))?;
            if !found.is_null() {
                found.write(u8::from(there));
            }
            OK
        })
    }
}

/// Number of keys.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_length(
    map: *const blocktier_txmap_t,
    out: *mut u64,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one number.
    unsafe {
        on_map(map, error, |map| {
            guard::output(out, "out", map.len())?;
            OK
        })
    }
}

/// Removes everything; a frozen map takes writes again. Calls that run meanwhile count as before
/// the clear. If it fails the content is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_clear(
    map: *const blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.clear()?;
            OK
        })
    }
}

/// Starts to write out everything acknowledged so far; `*ticket` is for blocktier_txmap_flush_wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_flush_begin(
    map: *const blocktier_txmap_t,
    flags: u32,
    ticket: *mut u64,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `ticket` is memory for one number.
    unsafe {
        on_map(map, error, |map| {
            guard::not_null(ticket, "ticket")?;
            ticket.write(map.flush_begin(wait(flags))?);
            OK
        })
    }
}

/// Waits until the writes before `ticket` are with the operating system (this is not fsync), or
/// returns WOULD_BLOCK with BLOCKTIER_NONBLOCKING. FAILED with the first error if a write failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_flush_wait(
    map: *const blocktier_txmap_t,
    ticket: u64,
    flags: u32,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.flush_wait(ticket, wait(flags))?;
            OK
        })
    }
}

/// Makes everything acknowledged so far survive a power cut: flush, fdatasync, manifest. Only for a
/// durable or process map, UNSUPPORTED otherwise. With BLOCKTIER_NONBLOCKING it returns WOULD_BLOCK
/// where it would wait for writes or for another sync; the fdatasync is waited for in any case.
/// After FAILED nothing more can be made durable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_sync(
    map: *const blocktier_txmap_t,
    flags: u32,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.sync(wait(flags))?;
            OK
        })
    }
}

/// OK, or FAILED with the first error once a write has failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_failure(
    map: *const blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.failure()?;
            OK
        })
    }
}

/// Fills in the map's figures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_stats(
    map: *const blocktier_txmap_t,
    out: *mut blocktier_txmap_stats_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one struct.
    unsafe {
        on_map(map, error, |map| {
            guard::output(out, "out", map.stats().into())?;
            OK
        })
    }
}
