//! The transaction map: rotating, freezing, and moving records from one map to another.

use super::guard::{self, Guarded, HandleKind, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use super::txmap::{blocktier_txmap_t, on_map, wait};
use super::txmap_batch::{keys_at, states_at};
use crate::diskmap::{Progress, Transfer};
use crate::types::TxId;

/// The state of a move between two maps.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_transfer_t(Guarded<Transfer<TxId>>);

guard::handle!(blocktier_transfer_t, Transfer<TxId>);

/// Takes the content out of a map, which is then empty and not frozen. `*out` is a handle of the
/// old content that must be given to blocktier_txmap_close, before or after the map; its files go
/// then. All reads work on it; writes, clear and rotate return FROZEN. Calls that run meanwhile
/// finish on the old content, which therefore changes until the last of them has returned. If it
/// fails the content is unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_rotate(
    map: *const blocktier_txmap_t,
    out: *mut *mut blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one handle.
    unsafe {
        on_map(map, error, |map| {
            guard::not_null(out, "out")?;
            let old = blocktier_txmap_t(Guarded::new(HandleKind::TxMap, map.rotate()?));
            out.write(Box::into_raw(Box::new(old)));
            OK
        })
    }
}

/// Makes a map read-only until it is cleared or rotated: when this returns nothing changes any more
/// and writes return FROZEN. Freezing twice is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_freeze(
    map: *const blocktier_txmap_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle.
    unsafe {
        on_map(map, error, |map| {
            map.freeze();
            OK
        })
    }
}

/// `*frozen` is 1 if writes return FROZEN, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_is_frozen(
    map: *const blocktier_txmap_t,
    frozen: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `frozen` is memory for one byte.
    unsafe {
        on_map(map, error, |map| {
            guard::output(frozen, "frozen", u8::from(map.is_frozen()))?;
            OK
        })
    }
}

/// Begins a move between maps; `*out` must be given to blocktier_transfer_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_transfer_new(
    out: *mut *mut blocktier_transfer_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    guard::call(error, || {
        guard::not_null(out, "out")?;
        let handle = blocktier_transfer_t(Guarded::new(HandleKind::Transfer, Transfer::new()));
        // SAFETY: not null, aligned, and the caller gave memory for one handle.
        unsafe { out.write(Box::into_raw(Box::new(handle))) };
        OK
    })
}

/// Frees a transfer, ended or not. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_transfer_free(
    transfer: *mut blocktier_transfer_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(transfer, error, |_| OK) }
}

/// Inserts into `map` the records of n keys (n x 32 bytes) that are in `source`, value and subtree
/// index, each unless its key is in `map`. One call does a part that takes some milliseconds;
/// repeat it with the same arguments until `*finished` is 1.
///
/// `states` has n bytes, 0 before the first call: 1 inserted, 2 there already. If `source` lacks a
/// key, the call returns NOT_FOUND, `*missing` is the position of the first such key, and nothing
/// was inserted. That holds for a `source` that does not change meanwhile: one that is frozen or
/// was rotated, or that nobody writes. `source` must not be `map` (INVALID_ARGUMENT).
///
/// After WOULD_BLOCK the same call goes on. After another error the records whose states are not 0
/// are in `map`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_transfer_step(
    transfer: *mut blocktier_transfer_t,
    map: *const blocktier_txmap_t,
    source: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    flags: u32,
    states: *mut u8,
    finished: *mut u8,
    missing: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handles and each pointer and length.
    unsafe {
        guard::call_on_mut(transfer, error, |transfer| {
            let map = guard::beside(map, "map")?;
            let source = guard::beside(source, "source")?;
            let keys = keys_at(keys, n)?;
            let states = states_at(states, n)?;
            guard::not_null(finished, "finished")?;
            guard::not_null(missing, "missing")?;
            let progress = transfer.step(&map, &source, keys, wait(flags), states)?;
            finished.write(u8::from(progress != Progress::More));
            if let Progress::Missing(position) = progress {
                missing.write(position);
                return Ok(blocktier_status_t::BLOCKTIER_NOT_FOUND);
            }
            OK
        })
    }
}
