//! The contract of the C ABI, from a caller's side: wrong pointers, lengths and states give a
//! status and a text, never a crash; outputs are written as the header says; nothing is left
//! behind.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/c_map.rs"]
mod c_map;

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

use c_map::{Fixture, OK, no_error, text_of};

fn fixture(settings: &str) -> Fixture<tempfile::TempDir> {
    Fixture::new(tempfile::tempdir().unwrap(), settings)
}

#[test]
fn null_handles_and_null_outputs_are_statuses() {
    let mut error = no_error();
    let e = &raw mut error;
    let key = [1u8; 32];
    let mut number = 0u64;
    let mut size = 0usize;
    let mut byte = 0u8;
    let mut lookup = blocktier_lookup_t::default();
    let (map, levels) = (null::<blocktier_txmap_t>(), null::<blocktier_merkle_levels_t>());
    let runtime = null::<blocktier_runtime_t>();
    let (l, k) = (&raw mut lookup, key.as_ptr());
    let (no_nodes, one) = (null::<c_void>(), 1usize);
    // SAFETY: null handles are what is tested; the rest are live locals.
    unsafe {
        let statuses = [
            blocktier_txmap_length(map, &raw mut number, e),
            blocktier_txmap_clear(map, e),
            blocktier_txmap_failure(map, e),
            blocktier_txmap_flush_begin(map, 0, &raw mut number, e),
            blocktier_txmap_flush_wait(map, 0, 0, e),
            blocktier_txmap_stats(map, null_mut(), e),
            blocktier_txmap_get(map, k, 0, null_mut(), 0, l, e),
            blocktier_txmap_exists(map, k, 0, &raw mut byte, e),
            blocktier_txmap_delete(map, k, 0, &raw mut byte, e),
            blocktier_txmap_set(map, k, k, 32, 0, 0, null_mut(), e),
            blocktier_txmap_set_if_not_exists(map, k, k, 32, 0, 0, null_mut(), 0, l, e),
            blocktier_txmap_update_subtree_index(map, k, 1, 0, null_mut(), e),
            blocktier_txmap_exists_batch(map, k, 1, 0, &raw mut byte, e),
            blocktier_txmap_subtree_index_batch(map, k, 1, 0, null_mut(), &raw mut byte, e),
            blocktier_txmap_get_batch(map, k, 1, 0, null_mut(), 0, l, &raw mut size, e),
            blocktier_txmap_delete_batch(map, k, 1, 0, &raw mut byte, null_mut(), e),
            blocktier_runtime_stats(runtime, null_mut(), e),
            blocktier_runtime_next_event(runtime, null_mut(), 0, &raw mut size, e),
            blocktier_runtime_disk_stats(runtime, 0, null_mut(), e),
            blocktier_txmap_open(runtime, null(), 0, null_mut(), e),
            blocktier_node_array_new(runtime, 1, null(), 0, null_mut(), null_mut(), e),
            blocktier_merkle_levels_root(levels, &raw mut byte, e),
            blocktier_merkle_levels_proof(levels, 0, &raw mut byte, 0, &raw mut size, e),
            blocktier_runtime_open(null(), 0, null_mut(), e),
            blocktier_merkle_root(k, 1, 0, null_mut(), e),
            blocktier_merkle_proof_fold(null(), 0, null(), 0, &raw mut byte, e),
            blocktier_subtree_root(null(), 1, null(), 0, &raw mut byte, e),
            blocktier_subtree_roots(null(), &raw const size, 1, &raw mut byte, e),
            blocktier_subtree_roots(&raw const no_nodes, null(), 1, &raw mut byte, e),
            blocktier_subtree_roots(&raw const no_nodes, &raw const one, 1, null_mut(), e),
            blocktier_subtree_roots(&raw const no_nodes, &raw const one, 1, &raw mut byte, e),
        ];
        for (number, status) in statuses.iter().enumerate() {
            assert_eq!(*status, Status::BLOCKTIER_NULL_POINTER, "call {number}");
        }
        assert_eq!(error.status, Status::BLOCKTIER_NULL_POINTER as i32);
        assert!(text_of(&error).contains("must not be null"));
        // Closing nothing is fine, and so is a null error record.
        assert_eq!(blocktier_txmap_close(null_mut(), null_mut()), OK);
        assert_eq!(blocktier_runtime_close(null_mut(), null_mut()), OK);
        assert_eq!(blocktier_node_array_free(null_mut(), null_mut()), OK);
        assert_eq!(blocktier_merkle_levels_free(null_mut(), null_mut()), OK);
        blocktier_layout(null_mut());
    }
}

#[test]
fn null_arguments_of_a_live_map_are_statuses() {
    let fixture = fixture("txMapTail = 1M");
    let map = fixture.map;
    let key = [1u8; 32];
    let mut lookup = blocktier_lookup_t::default();
    let l = &raw mut lookup;
    let (k, mut byte, mut index) = (key.as_ptr(), 0u8, 0u16);
    let n = null::<u8>();
    let m = null_mut::<u8>();
    // SAFETY: null pointers are what is tested; the rest are live locals.
    unsafe {
        let statuses = [
            blocktier_txmap_get(map, n, 0, m, 0, l, null_mut()),
            blocktier_txmap_get(map, key.as_ptr(), 0, m, 0, null_mut(), null_mut()),
            blocktier_txmap_get(map, key.as_ptr(), 0, m, 8, l, null_mut()),
            blocktier_txmap_set(map, key.as_ptr(), n, 5, 0, 0, m, null_mut()),
            blocktier_txmap_exists(map, key.as_ptr(), 0, m, null_mut()),
            blocktier_txmap_length(map, null_mut(), null_mut()),
            blocktier_txmap_stats(map, null_mut(), null_mut()),
            blocktier_txmap_exists_batch(map, n, 3, 0, m, null_mut()),
            blocktier_txmap_subtree_index_batch(
                map,
                k,
                1,
                0,
                null_mut(),
                &raw mut byte,
                null_mut(),
            ),
            blocktier_txmap_subtree_index_batch(map, k, 1, 0, &raw mut index, m, null_mut()),
            blocktier_txmap_delete_batch(map, key.as_ptr(), 1, 0, m, null_mut(), null_mut()),
            blocktier_txmap_set_batch(
                map,
                key.as_ptr(),
                1,
                n,
                null(),
                null(),
                0,
                m,
                null_mut(),
                null_mut(),
            ),
        ];
        for (number, status) in statuses.iter().enumerate() {
            assert_eq!(*status, Status::BLOCKTIER_NULL_POINTER, "call {number}");
        }
        // Length 0 never looks at the pointer.
        let empty = blocktier_txmap_set(map, key.as_ptr(), n, 0, 0, 0, m, null_mut());
        assert_eq!(empty, OK, "an empty value");
        assert_eq!(blocktier_txmap_exists_batch(map, n, 0, 0, m, null_mut()), OK);
        let nothing = blocktier_txmap_set_if_not_exists_batch(
            map,
            n,
            0,
            n,
            null(),
            null(),
            0,
            m,
            null_mut(),
            null_mut(),
        );
        assert_eq!(nothing, OK);
    }
}

/// The address behind a pointer's: a multiple of nothing but 1.
fn behind<T>(pointer: *const T) -> *mut T {
    pointer.cast_mut().wrapping_byte_add(1)
}

#[test]
fn misaligned_pointers_are_statuses_and_nothing_is_done() {
    let fixture = fixture("txMapTail = 1M");
    let (map, runtime) = (fixture.map, fixture.runtime);
    let mut error = no_error();
    // Larger and more aligned than anything that is passed, so that a write would stay in here.
    let mut memory = [0u64; 80];
    let m = memory.as_mut_ptr();
    let (size, mut state) = (behind(m).cast::<usize>(), 0u8);
    let (key, s) = ([0u8; 32], &raw mut state);
    let (k, n) = (key.as_ptr(), null_mut::<u8>());
    let (offsets, indexes) = (memory.as_ptr(), memory.as_ptr().cast::<u16>());
    let calls = |e: *mut blocktier_error_t, by: usize| {
        let at = |pointer: *const u64| pointer.cast_mut().wrapping_byte_add(by);
        // SAFETY: misaligned pointers are what is tested; where `by` is 0 that is the record's.
        // All others are live, and the memory behind them is as large as the calls may use.
        unsafe {
            [
                // Handles.
                blocktier_txmap_length(map.wrapping_byte_add(by), m, e),
                blocktier_txmap_clear(map.wrapping_byte_add(by), e),
                blocktier_txmap_set(map.wrapping_byte_add(by), k, n, 0, 0, 0, n, e),
                blocktier_runtime_stats(runtime.wrapping_byte_add(by), m.cast(), e),
                // Numbers, structs and handles that are written.
                blocktier_txmap_length(map, at(m), e),
                blocktier_txmap_stats(map, at(m).cast(), e),
                blocktier_txmap_flush_begin(map, 0, at(m), e),
                blocktier_txmap_set_if_not_exists(map, k, n, 0, 0, 0, n, 0, at(m).cast(), e),
                blocktier_txmap_get_batch(map, k, 1, 0, n, 0, at(m).cast(), m.cast(), e),
                blocktier_txmap_get_batch(map, k, 1, 0, n, 0, m.cast(), at(m).cast(), e),
                blocktier_runtime_stats(runtime, at(m).cast(), e),
                blocktier_runtime_open(null(), 0, at(m).cast(), e),
                // Arrays that are read.
                blocktier_txmap_set_batch(map, k, 1, n, at(offsets), null(), 0, s, null_mut(), e),
                blocktier_subtree_root(at(m).cast(), 1, null(), 0, m.cast(), e),
            ]
        }
    };
    let invalid = Status::BLOCKTIER_INVALID_ARGUMENT;
    for (number, status) in calls(&raw mut error, 1).into_iter().enumerate() {
        assert_eq!(status, invalid, "call {number}");
    }
    assert!(text_of(&error).contains("nodes is at 0x"), "{}", text_of(&error));
    for (number, status) in calls(behind(&raw const error), 0).into_iter().enumerate() {
        assert_eq!(status, invalid, "call {number} with such an error record");
    }
    let e = &raw mut error;
    // SAFETY: as above; none of these is a handle, so none is closed.
    let statuses = unsafe {
        [
            blocktier_txmap_set_batch(map, k, 1, n, offsets, behind(indexes), 0, s, null_mut(), e),
            blocktier_txmap_set_if_not_exists_batch(map, k, 1, n, offsets, null(), 0, s, size, e),
            blocktier_txmap_set_batch(map, k, 1, n, offsets, null(), 0, s, size, e),
            blocktier_txmap_delete_batch(map, k, 1, 0, s, size, e),
            blocktier_txmap_update_subtree_index_batch(map, k, 1, 48, 1, 0, s, size, e),
            blocktier_txmap_subtree_index_batch(map, k, 1, 0, behind(indexes), s, e),
            blocktier_merkle_levels_set_leaf(behind(m).cast(), 0, k, e),
            blocktier_merkle_levels_free(behind(m).cast(), e),
            blocktier_node_array_free(behind(m).cast(), e),
            blocktier_txmap_close(behind(map), e),
            blocktier_runtime_close(behind(runtime), e),
        ]
    };
    assert_eq!(statuses, [invalid; 11]);
    assert!(text_of(&error).contains("the handle is at 0x"), "{}", text_of(&error));
    // SAFETY: as above.
    unsafe {
        blocktier_layout(behind(m).cast());
        assert_eq!(blocktier_txmap_length(map, m, e), OK);
    }
    assert_eq!((memory, state), ([0; 80], 0), "something was done");
}

#[test]
fn wrong_arguments_say_what_is_wrong() {
    let fixture = fixture("txMapTail = 1M");
    let mut error = no_error();
    let keys = [[1u8; 32], [2; 32]];
    let (falling, behind) = ([0u64, 9, 3], [0u64, 1, 2]);
    let values = [0u8; 9];
    let mut states = [0u8; 2];
    let mut call = |offsets: &[u64; 3], states: &mut [u8; 2], stride: usize| {
        error = no_error();
        // SAFETY: keys, offsets and states have the lengths that are passed; the arena is as long
        // as the last offset says.
        let status = unsafe {
            if stride > 0 {
                blocktier_txmap_update_subtree_index_batch(
                    fixture.map,
                    keys.as_ptr().cast(),
                    2,
                    stride,
                    1,
                    0,
                    states.as_mut_ptr(),
                    null_mut(),
                    &raw mut error,
                )
            } else {
                blocktier_txmap_set_batch(
                    fixture.map,
                    keys.as_ptr().cast(),
                    2,
                    values.as_ptr(),
                    offsets.as_ptr(),
                    null(),
                    0,
                    states.as_mut_ptr(),
                    null_mut(),
                    &raw mut error,
                )
            }
        };
        assert_eq!(error.status, if status == OK { -1 } else { status as i32 });
        (status, text_of(&error))
    };
    let (status, text) = call(&falling, &mut states, 0);
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    assert!(text.contains("offset 2"), "{text}");
    let (status, text) = call(&behind, &mut [0, 9], 0);
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    assert!(text.contains("states[1]"), "{text}");
    let (status, text) = call(&behind, &mut states, 31);
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    assert!(text.contains("key_stride 31"), "{text}");
    assert_eq!(call(&behind, &mut states, 0).0, OK);
    assert_eq!(states, [1, 1]);
}

#[test]
fn settings_and_directories_are_refused_with_reasons() {
    let fixture = fixture("txMapTail = 1M");
    let mut error = no_error();
    let mut map = null_mut();
    let mut open = |text: &str| {
        // SAFETY: a live runtime, text of that length, live outputs.
        let status = unsafe {
            blocktier_txmap_open(
                fixture.runtime,
                text.as_ptr().cast(),
                text.len(),
                &raw mut map,
                &raw mut error,
            )
        };
        assert!(map.is_null(), "outputs are written on success only");
        (status, text_of(&error))
    };
    let (status, text) = open("txMapTial = 1M");
    assert_eq!(status, Status::BLOCKTIER_SETTING);
    assert!(text.contains("txMapTail"), "names the nearest: {text}");
    let (status, text) = open("txMapTail = 1M");
    assert_eq!(status, Status::BLOCKTIER_SETTING);
    assert!(text.contains("txMapDirs"), "{text}");
    let (status, text) = open("txMapDirs = /nonexistent/blocktier");
    assert_eq!(status, Status::BLOCKTIER_IO);
    assert!(text.contains("/nonexistent/blocktier") && text.contains("make it"), "{text}");
    let long = format!("txMapDirs = /{}", "é".repeat(300));
    let (status, text) = open(&long);
    assert_eq!(status, Status::BLOCKTIER_IO);
    assert!(text.len() <= 240 && text.ends_with('é'), "cut between characters: {text}");
}

#[test]
fn small_buffers_get_the_size_that_is_needed() {
    let fixture = fixture("txMapTail = 1M");
    let keys: Vec<[u8; 32]> = (0..4u8).map(|number| [number; 32]).collect();
    for (number, key) in keys.iter().take(3).enumerate() {
        let (status, lookup) = fixture.insert(key, &[number as u8; 100], 0);
        assert_eq!((status, lookup.found), (OK, 0));
    }
    let (status, lookup) = fixture.insert(&keys[1], b"other", 0);
    assert_eq!((status, lookup.found, lookup.value_length), (OK, 1, 100));
    assert_eq!(lookup.subtree_index, 7);

    let mut lookups = [blocktier_lookup_t::default(); 4];
    let mut buffer = [0u8; 300];
    let mut needed = 0usize;
    // SAFETY: lengths are those of the locals.
    unsafe {
        let (l, b) = (lookups.as_mut_ptr(), buffer.as_mut_ptr());
        let get = |key: &[u8; 32], capacity| {
            blocktier_txmap_get(fixture.map, key.as_ptr(), 0, b, capacity, l, null_mut())
        };
        assert_eq!(get(&keys[2], 99), Status::BLOCKTIER_BUFFER_TOO_SMALL);
        assert_eq!((*l).value_length, 100);
        assert_eq!(*b, 0, "the value is not copied");
        assert_eq!(get(&keys[2], 100), OK);
        assert_eq!(*b, 2);
        assert_eq!(get(&keys[3], 100), Status::BLOCKTIER_NOT_FOUND);

        let get_batch = |capacity, needed: &mut usize| {
            let k = keys.as_ptr().cast();
            blocktier_txmap_get_batch(fixture.map, k, 4, 0, b, capacity, l, needed, null_mut())
        };
        assert_eq!(get_batch(250, &mut needed), Status::BLOCKTIER_BUFFER_TOO_SMALL);
        assert_eq!(needed, 100);
        let mut found: Vec<u8> = lookups.iter().map(|lookup| lookup.found).collect();
        assert_eq!(found.pop(), Some(0));
        found.sort_unstable();
        assert_eq!(found, [1, 1, 3]);
        assert_eq!(get_batch(300, &mut needed), OK);
        assert_eq!(needed, 0);
    }
    for (number, lookup) in lookups.iter().enumerate().take(3) {
        let start = lookup.value_offset as usize;
        assert_eq!(buffer[start..start + 100], [number as u8; 100]);
    }
}

#[test]
fn nonblocking_calls_say_what_they_lack() {
    // The tail holds some hundred records of 1000 bytes.
    let fixture = fixture("txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 256K");
    let key = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    };
    for number in 0..2000u32 {
        loop {
            match fixture.insert(&key(number), &[5; 1000], BLOCKTIER_NONBLOCKING).0 {
                Status::BLOCKTIER_WOULD_BLOCK => std::thread::yield_now(),
                status => break assert_eq!(status, OK),
            }
        }
    }
    let mut ticket = 0u64;
    let mut error = no_error();
    let mut lookup = blocktier_lookup_t::default();
    let mut value = [0u8; 1000];
    let (l, v) = (&raw mut lookup, value.as_mut_ptr());
    // SAFETY: lengths are those of the locals.
    unsafe {
        let map = fixture.map;
        assert_eq!(blocktier_txmap_flush_begin(map, 0, &raw mut ticket, null_mut()), OK);
        assert_eq!(blocktier_txmap_flush_wait(map, ticket, 0, null_mut()), OK);
        let get = |flags, e| blocktier_txmap_get(map, key(0).as_ptr(), flags, v, value.len(), l, e);
        assert_eq!(get(BLOCKTIER_NONBLOCKING, &raw mut error), Status::BLOCKTIER_WOULD_BLOCK);
        assert_eq!(error.detail, 2, "a file would have to be read");
        assert_eq!(get(BLOCKTIER_NONBLOCKING | BLOCKTIER_MAY_READ, null_mut()), OK);
        assert_eq!(get(0, null_mut()), OK);
        // In a batch each key has its own answer: in a file, in RAM, absent.
        let keys = [key(0), key(1999), key(2000)];
        let (mut indexes, mut found) = ([9u16; 3], [9u8; 3]);
        let (i, f) = (indexes.as_mut_ptr(), found.as_mut_ptr());
        let k = keys.as_ptr().cast();
        assert_eq!(blocktier_txmap_update_subtree_index(map, k, 3, 0, null_mut(), null_mut()), OK);
        let ask = |flags, e| blocktier_txmap_subtree_index_batch(map, k, 3, flags, i, f, e);
        assert_eq!(ask(BLOCKTIER_NONBLOCKING, null_mut()), Status::BLOCKTIER_WOULD_BLOCK);
        assert_eq!((i.read(), f.cast::<[u8; 3]>().read()), (0, [2, 1, 0]));
        assert_eq!(ask(BLOCKTIER_NONBLOCKING | BLOCKTIER_MAY_READ, null_mut()), OK);
        assert_eq!((indexes, found), ([3, 7, 0], [1, 1, 0]));
    }
    assert_eq!(value, [5; 1000]);
}

#[test]
fn node_arrays_and_levels_are_counted_and_work() {
    let fixture = fixture("txMapTail = 1M");
    let live = || (blocktier_live_handles(2), blocktier_live_handles(3));
    let before = live();
    let (mut array, mut data) = (null_mut(), null_mut::<c_void>());
    let mut levels = null_mut();
    let mut error = no_error();
    let e = &raw mut error;
    // SAFETY: the array's memory has room for the nodes written; handles are used while live.
    unsafe {
        let status = blocktier_node_array_new(
            fixture.runtime,
            1024,
            null(),
            0,
            &raw mut array,
            &raw mut data,
            e,
        );
        assert_eq!(status, OK, "{}", text_of(&error));
        assert_eq!(data.align_offset(4096), 0);
        let nodes = std::slice::from_raw_parts_mut(data.cast::<[u8; 48]>(), 1024);
        assert!(nodes.iter().all(|node| *node == [0; 48]), "fresh memory is zero");
        for (number, node) in nodes.iter_mut().enumerate().take(5) {
            node[..32].fill(number as u8 + 1);
        }
        let (mut root, mut other) = ([0u8; 32], [0u8; 32]);
        assert_eq!(blocktier_subtree_root(data, 5, null(), 0, root.as_mut_ptr(), e), OK);
        let status = blocktier_merkle_levels_new(
            fixture.runtime,
            data,
            5,
            48,
            null(),
            0,
            &raw mut levels,
            e,
        );
        assert_eq!(status, OK, "{}", text_of(&error));
        assert_eq!(live(), (before.0 + 1, before.1 + 1));
        assert_eq!(blocktier_merkle_levels_root(levels, other.as_mut_ptr(), e), OK);
        assert_eq!(root, other);
        let mut siblings = [[0u8; 32]; 3];
        let mut count = 0usize;
        let proof = |index, capacity, count: &mut usize| {
            let out = siblings.as_ptr().cast_mut().cast::<u8>();
            blocktier_merkle_levels_proof(levels, index, out, capacity, count, e)
        };
        assert_eq!(proof(4, 2, &mut count), Status::BLOCKTIER_BUFFER_TOO_SMALL);
        assert_eq!(count, 3);
        assert_eq!(proof(4, 3, &mut count), OK);
        assert_eq!(proof(5, 3, &mut count), Status::BLOCKTIER_INVALID_ARGUMENT);
        let siblings = siblings.as_mut_ptr().cast::<u8>();
        let leaf = [5u8; 32];
        let folded = other.as_mut_ptr();
        assert_eq!(blocktier_merkle_proof_fold(leaf.as_ptr(), 4, siblings, 3, folded, e), OK);
        assert_eq!(root, other);
        let unaligned = data.byte_add(1);
        let status = blocktier_subtree_root(unaligned, 1, null(), 0, folded, e);
        assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT, "an unaligned pointer");
        let status = blocktier_subtree_root(data, usize::MAX, null(), 0, folded, e);
        assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT, "an impossible length");
        roots_of_several(data.cast_const(), &root, e);
        assert_eq!(blocktier_merkle_levels_free(levels, e), OK);
        assert_eq!(blocktier_node_array_free(array, e), OK);
    }
    assert_eq!(live(), before);
}

/// The roots over all five nodes and over the first; `whole` is the former.
///
/// # Safety
/// `data` points to five nodes, `e` to an error record.
unsafe fn roots_of_several(data: *const c_void, whole: &[u8; 32], e: *mut blocktier_error_t) {
    let mut out = [[0u8; 32]; 2];
    let mut roots = |nodes: [*const c_void; 2], counts: [usize; 2]| {
        out = [[0xee; 32]; 2];
        let to = out.as_mut_ptr().cast::<u8>();
        // SAFETY: arrays of two; what the pointers lead to by the caller's promise.
        let status = unsafe { blocktier_subtree_roots(nodes.as_ptr(), counts.as_ptr(), 2, to, e) };
        (status, out)
    };
    assert_eq!(roots([data; 2], [5, 1]), (OK, [*whole, [1; 32]]));
    let invalid = Status::BLOCKTIER_INVALID_ARGUMENT;
    let untouched = (invalid, [[0xee; 32]; 2]);
    assert_eq!(roots([data; 2], [5, 0]), untouched, "a subtree without nodes");
    // SAFETY: a record as promised.
    let text = unsafe { text_of(&*e) };
    assert!(text.contains("tree 1 of 2 has no leaves"), "{text}");
    let unaligned = data.wrapping_byte_add(1);
    assert_eq!(roots([data, unaligned], [5, 1]), untouched, "an unaligned pointer");
    assert_eq!(roots([data; 2], [usize::MAX, 1]), untouched, "an impossible length");
    // SAFETY: nothing is read or written for no subtrees.
    assert_eq!(unsafe { blocktier_subtree_roots(null(), null(), 0, null_mut(), e) }, OK);
}

#[test]
fn the_layout_is_that_of_the_structs() {
    // SAFETY: all-zero is a value of this struct of numbers.
    let mut layout: blocktier_layout_t = unsafe { std::mem::zeroed() };
    // SAFETY: memory for one layout.
    unsafe { blocktier_layout(&raw mut layout) };
    assert_eq!(layout.abi, blocktier_abi_version());
    assert_eq!(layout.abi, BLOCKTIER_ABI);
    assert_eq!(layout.size_of_error as usize, size_of::<blocktier_error_t>());
    assert_eq!(layout.size_of_txmap_stats as usize, size_of::<blocktier_txmap_stats_t>());
    assert_eq!(
        (layout.size_of_node, layout.node_fee_offset, layout.node_size_offset),
        (48, 32, 40)
    );
    // SAFETY: a static string with a terminator.
    let version = unsafe { std::ffi::CStr::from_ptr(blocktier_version()) };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
}
