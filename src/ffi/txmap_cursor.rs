//! Iterating over a transaction map: a cursor that fills the caller's memory, call by call.

use super::guard::{self, Guarded, HandleKind, OK};
use super::status::{blocktier_error_t, blocktier_status_t};
use super::txmap::{blocktier_lookup_t, blocktier_txmap_t, on_map, wait};
use crate::diskmap::Cursor;
use crate::types::TxId;

/// An iteration over a map.
#[derive(Debug)]
#[expect(non_camel_case_types, reason = "the name in the C header")]
pub struct blocktier_cursor_t(Guarded<Cursor<TxId>>);

guard::handle!(blocktier_cursor_t, Cursor<TxId>);

/// Begins an iteration over a map in the order of its log; over its keys alone if `keys_only` is
/// not 0. `*out` must be given to blocktier_cursor_free, before or after the map is closed.
///
/// A key that is there during the whole iteration is visited exactly once, also when it is
/// overwritten meanwhile; one that is inserted or removed meanwhile once or not at all. After a
/// clear or a rotation the iteration goes on over the old content. A cursor takes 8 bytes of RAM
/// per key and keeps files that would go else until it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_iterate(
    map: *const blocktier_txmap_t,
    keys_only: u8,
    out: *mut *mut blocktier_cursor_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: null or a live handle; `out` is memory for one handle.
    unsafe {
        on_map(map, error, |map| {
            guard::not_null(out, "out")?;
            let cursor = map.iterate(keys_only == 0)?;
            let handle = blocktier_cursor_t(Guarded::new(HandleKind::Cursor, cursor));
            out.write(Box::into_raw(Box::new(handle)));
            OK
        })
    }
}

/// Ends an iteration. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_cursor_free(
    cursor: *mut blocktier_cursor_t,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller gives the handle up.
    unsafe { guard::close(cursor, error, |_| OK) }
}

/// The next records, up to n: their keys to `keys` (n x 32 bytes), values to the arena, one behind
/// the other, and where they are to `results`, which has n elements. `*count` is how many; with
/// OK, 0 means the end.
///
/// WOULD_BLOCK with BLOCKTIER_NONBLOCKING, or an error, is returned only if `*count` would be 0:
/// the same call can be repeated, nothing is skipped. BUFFER_TOO_SMALL if the arena does not even
/// hold the first value: then `*needed` is its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_cursor_next(
    cursor: *mut blocktier_cursor_t,
    n: usize,
    flags: u32,
    keys: *mut u8,
    arena: *mut u8,
    capacity: usize,
    results: *mut blocktier_lookup_t,
    count: *mut usize,
    needed: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle, which nobody else uses, and each pointer.
    unsafe {
        guard::call_on_mut(cursor, error, |cursor| {
            let keys = guard::slice_mut(keys.cast::<TxId>(), n, "keys")?;
            let arena = guard::slice_mut(arena, capacity, "arena")?;
            let results = guard::slice_mut(results, n, "results")?;
            guard::not_null(count, "count")?;
            guard::not_null(needed, "needed")?;
            let (mut filled, mut visited) = (0, 0);
            while visited < n {
                let entry = match cursor.peek(wait(flags)) {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    // It comes again with the next call.
                    Err(_) if visited > 0 => break,
                    Err(error) => return Err(error),
                };
                let room =
                    arena.get_mut(filled..).and_then(|rest| rest.get_mut(..entry.value.len()));
                let Some(room) = room else {
                    if visited > 0 {
                        break;
                    }
                    needed.write(entry.value.len());
                    return Ok(blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL);
                };
                room.copy_from_slice(entry.value);
                keys[visited] = *entry.key;
                results[visited] = blocktier_lookup_t {
                    value_offset: filled as u64,
                    value_length: entry.value.len() as u32,
                    subtree_index: entry.subtree_index,
                    found: 1,
                    reserved: 0,
                };
                filled += entry.value.len();
                visited += 1;
                cursor.advance();
            }
            count.write(visited);
            OK
        })
    }
}
