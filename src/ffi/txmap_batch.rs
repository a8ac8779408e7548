//! Batches of the transaction map: flat arrays, results into caller memory.

use super::guard::{self, OK, Outcome};
use super::status::{blocktier_error_t, blocktier_status_t};
use super::txmap::{blocktier_lookup_t, blocktier_txmap_t, on_map, wait};
use crate::diskmap::{Batch, ItemState};
use crate::types::TxId;
use crate::{Error, Result};

const WOULD_BLOCK: u8 = 2;
const ARENA_FULL: u8 = 3;

/// # Safety
/// `keys` is null or points to `count` × 32 bytes.
pub(super) unsafe fn keys_at<'a>(keys: *const u8, count: usize) -> Result<&'a [TxId]> {
    // SAFETY: the caller's promise; a key is 32 bytes without alignment.
    unsafe { guard::slice(keys.cast::<TxId>(), count, "keys") }
}

/// # Safety
/// `states` is null or points to `count` bytes that nobody else uses.
pub(super) unsafe fn states_at<'a>(states: *mut u8, count: usize) -> Result<&'a mut [ItemState]> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { guard::slice_mut(states, count, "states") }?;
    if let Some(position) = bytes.iter().position(|state| *state > 2) {
        return Err(Error::InvalidArgument(format!("states[{position}] is not 0, 1 or 2")));
    }
    // SAFETY: ItemState is a u8 with exactly the values 0, 1 and 2, which all bytes were checked to
    // be.
    unsafe { guard::slice_mut(bytes.as_mut_ptr().cast::<ItemState>(), count, "states") }
}

/// # Safety
/// Each pointer is null or points to as many elements as its text in the header says.
unsafe fn batch_at<'a>(
    keys: *const u8,
    count: usize,
    values: *const u8,
    offsets: *const u64,
    subtree_indexes: *const u16,
) -> Result<Batch<'a, TxId>> {
    if count == 0 {
        return Batch::new(&[], &[], &[0], None);
    }
    // SAFETY: the caller's promises.
    unsafe {
        let keys = keys_at(keys, count)?;
        let offsets = guard::slice(offsets, count + 1, "offsets")?;
        let bytes = usize::try_from(offsets.last().copied().unwrap_or(0))
            .map_err(|_| Error::InvalidArgument("the last offset is too large".to_owned()))?;
        let arena = guard::slice(values, bytes, "values")?;
        let indexes = if subtree_indexes.is_null() {
            None
        } else {
            Some(guard::slice(subtree_indexes, count, "subtree_indexes")?)
        };
        Batch::new(keys, arena, offsets, indexes)
    }
}

/// Reports how many items are decided, also when the call ends early.
///
/// # Safety
/// `done` is null or aligned memory for one number.
unsafe fn count_done(states: &[ItemState], done: *mut usize, outcome: Result<()>) -> Outcome {
    if !done.is_null() {
        let count = states.iter().filter(|state| **state != ItemState::Pending).count();
        // SAFETY: not null, the caller's promise.
        unsafe { done.write(count) };
    }
    outcome?;
    OK
}

/// Inserts each key that is absent. `keys` is n × 32 bytes; value i is
/// `values[offsets[i]..offsets[i + 1]]`, so `offsets` has n + 1 elements; `subtree_indexes`
/// (nullable: all 0) has n.
///
/// `states` has n bytes, 0 before the first call: afterwards 1 inserted, 2 there already, 0 not
/// decided (after WOULD_BLOCK or an error). Items that are not 0 on entry are skipped, so the same
/// call can be repeated until it is done. `*done` (nullable) is the number of items that are not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set_if_not_exists_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    values: *const u8,
    offsets: *const u64,
    subtree_indexes: *const u16,
    flags: u32,
    states: *mut u8,
    done: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            guard::nullable(done, "done")?;
            let batch = batch_at(keys, n, values, offsets, subtree_indexes)?;
            let states = states_at(states, n)?;
            let outcome = map.set_if_not_exists_batch(&batch, wait(flags), states);
            count_done(states, done, outcome)
        })
    }
}

/// Sets each key's value: state 1 new, 2 replaced. Otherwise like
/// blocktier_txmap_set_if_not_exists_batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_set_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    values: *const u8,
    offsets: *const u64,
    subtree_indexes: *const u16,
    flags: u32,
    states: *mut u8,
    done: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            guard::nullable(done, "done")?;
            let batch = batch_at(keys, n, values, offsets, subtree_indexes)?;
            let states = states_at(states, n)?;
            let outcome = map.set_batch(&batch, wait(flags), states);
            count_done(states, done, outcome)
        })
    }
}

/// Removes each key: state 1 removed, 2 absent. Otherwise like
/// blocktier_txmap_set_if_not_exists_batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_delete_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    flags: u32,
    states: *mut u8,
    done: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            guard::nullable(done, "done")?;
            let keys = keys_at(keys, n)?;
            let states = states_at(states, n)?;
            let outcome = map.delete_batch(keys, wait(flags), states);
            count_done(states, done, outcome)
        })
    }
}

/// Sets one subtree index on many keys: state 1 done, 2 absent. Key i is the 32 bytes at `keys + i
/// × key_stride`; `key_stride` is 32 for hashes, 48 for subtree nodes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_update_subtree_index_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    key_stride: usize,
    subtree_index: u16,
    flags: u32,
    states: *mut u8,
    done: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            guard::nullable(done, "done")?;
            let states = states_at(states, n)?;
            if key_stride == size_of::<TxId>() {
                let keys = keys_at(keys, n)?;
                let outcome =
                    map.update_subtree_index_batch(keys, subtree_index, wait(flags), states);
                return count_done(states, done, outcome);
            }
            if key_stride < size_of::<TxId>() {
                let text = format!("key_stride {key_stride} is smaller than a key");
                return Err(Error::InvalidArgument(text));
            }
            let bytes = n
                .checked_mul(key_stride)
                .ok_or_else(|| Error::InvalidArgument("n x key_stride is too large".to_owned()))?;
            let bytes = guard::slice(keys, bytes, "keys")?;
            let mut outcome = Ok(());
            let mut gathered = Vec::with_capacity(n.min(1024));
            for (rows, states) in bytes.chunks(1024 * key_stride).zip(states.chunks_mut(1024)) {
                gathered.clear();
                gathered.extend(rows.chunks(key_stride).filter_map(|row| row.first_chunk::<32>()));
                let part =
                    map.update_subtree_index_batch(&gathered, subtree_index, wait(flags), states);
                match part {
                    Err(blocked @ Error::WouldBlock(_)) => outcome = Err(blocked),
                    other => other?,
                }
            }
            count_done(states, done, outcome)
        })
    }
}

/// Gets many values. Found ones are put into the arena in any order, each at
/// `results[i].value_offset`; `results` has n elements. `found` is 1 found, 0 absent, 2 would block
/// (BLOCKTIER_NONBLOCKING), 3 found but the arena was full: then `value_length` is set. `*needed`
/// is the number of bytes that the 3s need.
///
/// Returns WOULD_BLOCK if there is any 2, else BUFFER_TOO_SMALL if there is any 3, else OK. Ask
/// again for those alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_get_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    flags: u32,
    arena: *mut u8,
    capacity: usize,
    results: *mut blocktier_lookup_t,
    needed: *mut usize,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let keys = keys_at(keys, n)?;
            let arena = guard::slice_mut(arena, capacity, "arena")?;
            let results = guard::slice_mut(results, n, "results")?;
            guard::not_null(needed, "needed")?;
            results.fill(blocktier_lookup_t::default());
            let (mut filled, mut missing, mut any_full) = (0, 0, false);
            let visit = |position: usize, value: &[u8], subtree_index: u16| {
                let mut lookup = blocktier_lookup_t {
                    value_offset: filled as u64,
                    value_length: value.len() as u32,
                    subtree_index,
                    found: 1,
                    reserved: 0,
                };
                if let Some(room) =
                    arena.get_mut(filled..).and_then(|rest| rest.get_mut(..value.len()))
                {
                    room.copy_from_slice(value);
                    filled += value.len();
                } else {
                    (lookup.value_offset, lookup.found) = (0, ARENA_FULL);
                    missing += value.len();
                    any_full = true;
                }
                results[position] = lookup;
                Ok(())
            };
            let blocked = map.get_batch(keys, true, wait(flags), visit)?;
            needed.write(missing);
            for position in &blocked {
                results[*position].found = WOULD_BLOCK;
            }
            Ok(match (blocked.is_empty(), any_full) {
                (false, _) => blocktier_status_t::BLOCKTIER_WOULD_BLOCK,
                (true, true) => blocktier_status_t::BLOCKTIER_BUFFER_TOO_SMALL,
                (true, false) => blocktier_status_t::BLOCKTIER_OK,
            })
        })
    }
}

/// Whether each of n keys is there: `found[i]` is 1 or 0, or 2 if it would block (then the call
/// returns WOULD_BLOCK).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_exists_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    flags: u32,
    found: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let keys = keys_at(keys, n)?;
            let found = guard::slice_mut(found, n, "found")?;
            found.fill(0);
            let blocked = map.get_batch(keys, false, wait(flags), |position, _, _| {
                found[position] = 1;
                Ok(())
            })?;
            would_block(&blocked, found)
        })
    }
}

/// The subtree indexes of n keys, without their values: `found[i]` is 1 or 0, or 2 if it would
/// block (then the call returns WOULD_BLOCK). `subtree_indexes[i]` is that of a key that was found,
/// else 0; both have n elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn blocktier_txmap_subtree_index_batch(
    map: *const blocktier_txmap_t,
    keys: *const u8,
    n: usize,
    flags: u32,
    subtree_indexes: *mut u16,
    found: *mut u8,
    error: *mut blocktier_error_t,
) -> blocktier_status_t {
    // SAFETY: the caller's promises for the handle and each pointer and length.
    unsafe {
        on_map(map, error, |map| {
            let keys = keys_at(keys, n)?;
            let indexes = guard::slice_mut(subtree_indexes, n, "subtree_indexes")?;
            let found = guard::slice_mut(found, n, "found")?;
            indexes.fill(0);
            found.fill(0);
            let blocked = map.get_batch(keys, false, wait(flags), |position, _, index| {
                (indexes[position], found[position]) = (index, 1);
                Ok(())
            })?;
            would_block(&blocked, found)
        })
    }
}

fn would_block(blocked: &[usize], found: &mut [u8]) -> Outcome {
    for position in blocked {
        found[*position] = WOULD_BLOCK;
    }
    if blocked.is_empty() { OK } else { Ok(blocktier_status_t::BLOCKTIER_WOULD_BLOCK) }
}
