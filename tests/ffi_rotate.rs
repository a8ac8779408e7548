//! Rotating, freezing, moving and iterating through the C ABI: what outputs hold, what is refused,
//! and that handles may be closed in any order.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/c_map.rs"]
mod c_map;
#[path = "common/records.rs"]
mod records;

use std::ptr::{null, null_mut};

use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

use c_map::{Fixture, OK, no_error, text_of};
use records::{key, value};

const SMALL: &str = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n";

fn fixture(settings: &str) -> Fixture<tempfile::TempDir> {
    Fixture::new(tempfile::tempdir().unwrap(), settings)
}

/// A fixture with records `0..count`, their subtree index being 7.
fn filled(count: u64) -> Fixture<tempfile::TempDir> {
    let fixture = fixture(SMALL);
    for number in 0..count {
        assert_eq!(fixture.insert(&key(number), &bytes_of(number), 0).0, OK);
    }
    fixture
}

fn bytes_of(number: u64) -> Vec<u8> {
    value(number, 50 + (number % 200) as usize)
}

fn rotate(map: *const blocktier_txmap_t) -> *mut blocktier_txmap_t {
    let (mut old, mut error) = (null_mut(), no_error());
    // SAFETY: a live handle and live locals.
    let status = unsafe { blocktier_txmap_rotate(map, &raw mut old, &raw mut error) };
    assert_eq!(status, OK, "{}", text_of(&error));
    old
}

fn length(map: *const blocktier_txmap_t) -> u64 {
    let mut length = 0;
    // SAFETY: a live handle and a live local.
    let status = unsafe { blocktier_txmap_length(map, &raw mut length, null_mut()) };
    assert_eq!(status, OK);
    length
}

/// Steps until the end; the last status and the missing position.
fn transfer(
    map: *const blocktier_txmap_t,
    source: *const blocktier_txmap_t,
    keys: &[[u8; 32]],
    states: &mut [u8],
) -> (Status, usize, usize) {
    let (mut handle, mut error) = (null_mut(), no_error());
    let (mut finished, mut missing, mut blocked) = (0u8, usize::MAX, 0);
    let mut flags = BLOCKTIER_NONBLOCKING;
    // SAFETY: live handles, arrays of the lengths that are given, live locals.
    unsafe {
        assert_eq!(blocktier_transfer_new(&raw mut handle, &raw mut error), OK);
        let status = loop {
            let status = blocktier_transfer_step(
                handle,
                map,
                source,
                keys.as_ptr().cast(),
                keys.len(),
                flags,
                states.as_mut_ptr(),
                &raw mut finished,
                &raw mut missing,
                &raw mut error,
            );
            match status {
                Status::BLOCKTIER_WOULD_BLOCK => {
                    blocked += 1;
                    // Reads in any case; room only sometimes, so that a call also waits.
                    flags = if blocked % 8 == 0 {
                        0
                    } else {
                        BLOCKTIER_NONBLOCKING | BLOCKTIER_MAY_READ
                    };
                }
                OK if finished == 0 => {}
                _ => break status,
            }
        };
        assert_eq!(blocktier_transfer_free(handle, null_mut()), OK);
        (status, missing, blocked)
    }
}

#[test]
fn a_rotated_map_is_read_and_closed_in_any_order() {
    for map_first in [false, true] {
        let fixture = filled(1500);
        let old = rotate(fixture.map);
        assert_eq!((length(fixture.map), length(old)), (0, 1500));
        let mut error = no_error();
        let (e, k) = (&raw mut error, key(1));
        let mut none = null_mut();
        // SAFETY: live handles and locals.
        unsafe {
            let statuses = [
                blocktier_txmap_set(old, k.as_ptr(), k.as_ptr(), 5, 0, 0, null_mut(), e),
                blocktier_txmap_delete(old, k.as_ptr(), 0, null_mut(), e),
                blocktier_txmap_clear(old, e),
                blocktier_txmap_rotate(old, &raw mut none, e),
            ];
            assert_eq!(statuses, [Status::BLOCKTIER_FROZEN; 4]);
            assert_eq!((error.status, none), (20, null_mut()));
            assert!(text_of(&error).contains("read-only"), "{}", text_of(&error));
            let mut frozen = 9u8;
            assert_eq!(blocktier_txmap_is_frozen(old, &raw mut frozen, e), OK);
            assert_eq!(frozen, 1);
            let mut found = 0u8;
            assert_eq!(blocktier_txmap_exists(old, k.as_ptr(), 0, &raw mut found, e), OK);
            assert_eq!(found, 1);
            if map_first {
                drop(fixture);
                assert_eq!(length(old), 1500);
                assert_eq!(blocktier_txmap_close(old, null_mut()), OK);
            } else {
                assert_eq!(blocktier_txmap_close(old, null_mut()), OK);
            }
        }
    }
}

#[test]
fn freezing_refuses_writes_until_a_clear() {
    let fixture = filled(10);
    let mut frozen = 9u8;
    // SAFETY: a live handle and a live local.
    unsafe {
        assert_eq!(blocktier_txmap_freeze(fixture.map, null_mut()), OK);
        assert_eq!(blocktier_txmap_freeze(fixture.map, null_mut()), OK);
        assert_eq!(blocktier_txmap_is_frozen(fixture.map, &raw mut frozen, null_mut()), OK);
        assert_eq!(frozen, 1);
        assert_eq!(fixture.insert(&key(99), b"x", 0).0, Status::BLOCKTIER_FROZEN);
        assert_eq!(length(fixture.map), 10);
        assert_eq!(blocktier_txmap_clear(fixture.map, null_mut()), OK);
        assert_eq!(blocktier_txmap_is_frozen(fixture.map, &raw mut frozen, null_mut()), OK);
    }
    assert_eq!(frozen, 0);
    assert_eq!(fixture.insert(&key(99), b"x", 0).0, OK);
}

#[test]
fn a_move_goes_on_until_it_is_finished() {
    let (fixture, count) = (filled(3000), 3000);
    let old = rotate(fixture.map);
    let mut keys: Vec<_> = (0..count + 1).map(key).collect();
    let mut states = vec![0u8; keys.len()];
    let (status, missing, _) = transfer(fixture.map, old, &keys, &mut states);
    assert_eq!((status, missing), (Status::BLOCKTIER_NOT_FOUND, count as usize));
    assert_eq!(length(fixture.map), 0);
    assert_eq!(states, vec![0; keys.len()]);
    assert_eq!(fixture.insert(&key(5), b"other", 0).0, OK);
    keys.pop();
    states.pop();
    let (status, _, blocked) = transfer(fixture.map, old, &keys, &mut states);
    assert_eq!(status, OK);
    assert!(blocked > 0, "everything was in RAM");
    let there: Vec<_> = (0..count as usize).filter(|at| states[*at] == 2).collect();
    assert_eq!((length(fixture.map), there), (count, vec![5]));
    assert!(states.iter().all(|state| *state == 1 || *state == 2));
    // Nothing to itself, nothing from nothing.
    let (status, ..) = transfer(old, old, &keys, &mut vec![0; keys.len()]);
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    let (status, ..) = transfer(fixture.map, null(), &keys, &mut states);
    assert_eq!(status, Status::BLOCKTIER_NULL_POINTER);
    let (status, ..) = transfer(null(), old, &keys, &mut states);
    assert_eq!(status, Status::BLOCKTIER_NULL_POINTER);
    let (status, ..) = transfer(fixture.map, old.wrapping_byte_add(1), &keys, &mut states);
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    // SAFETY: the handle is given up.
    assert_eq!(unsafe { blocktier_txmap_close(old, null_mut()) }, OK);
}

#[test]
fn a_cursor_fills_what_it_is_given_and_skips_nothing() {
    let count = 3000;
    let fixture = filled(count);
    let (mut cursor, mut error) = (null_mut(), no_error());
    let e = &raw mut error;
    let mut keys = [[0u8; 32]; 100];
    let mut results = [blocktier_lookup_t::default(); 100];
    let mut arena = vec![0u8; 10];
    let (mut visited, mut needed) = (usize::MAX, 0);
    let mut seen = std::collections::HashSet::new();
    let (mut blocked, mut small) = (0, 0);
    let mut flags = BLOCKTIER_NONBLOCKING;
    // SAFETY: live handles, arrays of the lengths that are given, live locals.
    unsafe {
        assert_eq!(blocktier_txmap_iterate(fixture.map, 0, &raw mut cursor, e), OK);
        drop(fixture);
        loop {
            let status = blocktier_cursor_next(
                cursor,
                100,
                flags,
                keys.as_mut_ptr().cast(),
                arena.as_mut_ptr(),
                arena.len(),
                results.as_mut_ptr(),
                &raw mut visited,
                &raw mut needed,
                e,
            );
            match status {
                Status::BLOCKTIER_WOULD_BLOCK => {
                    blocked += 1;
                    flags = 0;
                    continue;
                }
                Status::BLOCKTIER_BUFFER_TOO_SMALL => {
                    small += 1;
                    arena.resize(needed * 3, 0);
                    continue;
                }
                status => assert_eq!(status, OK, "{}", text_of(&error)),
            }
            if visited == 0 {
                break;
            }
            flags = BLOCKTIER_NONBLOCKING;
            for (key, result) in keys.iter().zip(&results).take(visited) {
                assert!(seen.insert(*key), "visited twice");
                assert_eq!((result.found, result.subtree_index), (1, 7));
                let start = result.value_offset as usize;
                let value = arena[start..start + result.value_length as usize].to_vec();
                let number = (0..count).find(|number| records::key(*number) == *key).unwrap();
                assert_eq!(value, bytes_of(number));
            }
        }
        assert_eq!(blocktier_cursor_free(cursor, null_mut()), OK);
    }
    assert_eq!(seen.len() as u64, count);
    assert!(blocked > 0 && small > 0, "{blocked}, {small}");
}

#[test]
fn null_pointers_are_statuses() {
    let fixture = filled(1);
    let mut error = no_error();
    let e = &raw mut error;
    let (mut byte, mut size, mut cursor, mut transfer) = (0u8, 0usize, null_mut(), null_mut());
    let mut lookup = blocktier_lookup_t::default();
    let (b, s, l) = (&raw mut byte, &raw mut size, &raw mut lookup);
    let map = fixture.map.cast_const();
    // SAFETY: null pointers are what is tested; the rest are live handles and locals.
    unsafe {
        assert_eq!(blocktier_txmap_iterate(map, 1, &raw mut cursor, e), OK);
        assert_eq!(blocktier_transfer_new(&raw mut transfer, e), OK);
        let statuses = [
            blocktier_txmap_rotate(null(), null_mut(), e),
            blocktier_txmap_rotate(map, null_mut(), e),
            blocktier_txmap_freeze(null(), e),
            blocktier_txmap_is_frozen(map, null_mut(), e),
            blocktier_txmap_iterate(map, 0, null_mut(), e),
            blocktier_txmap_iterate(null(), 0, &raw mut cursor, e),
            blocktier_cursor_next(null_mut(), 1, 0, b, b, 1, l, s, s, e),
            blocktier_cursor_next(cursor, 1, 0, null_mut(), b, 1, l, s, s, e),
            blocktier_cursor_next(cursor, 1, 0, b, null_mut(), 1, l, s, s, e),
            blocktier_cursor_next(cursor, 1, 0, b, b, 1, null_mut(), s, s, e),
            blocktier_cursor_next(cursor, 1, 0, b, b, 1, l, null_mut(), s, e),
            blocktier_cursor_next(cursor, 1, 0, b, b, 1, l, s, null_mut(), e),
            blocktier_transfer_new(null_mut(), e),
            blocktier_transfer_step(null_mut(), map, map, b, 0, 0, b, b, s, e),
            blocktier_transfer_step(transfer, map, map, null(), 1, 0, b, b, s, e),
            blocktier_transfer_step(transfer, map, map, b, 0, 0, b, null_mut(), s, e),
            blocktier_transfer_step(transfer, map, map, b, 0, 0, b, b, null_mut(), e),
        ];
        for (number, status) in statuses.iter().enumerate() {
            assert_eq!(*status, Status::BLOCKTIER_NULL_POINTER, "call {number}");
        }
        assert_eq!(blocktier_cursor_free(cursor, e), OK);
        assert_eq!(blocktier_cursor_free(null_mut(), e), OK);
        assert_eq!(blocktier_transfer_free(transfer, e), OK);
        assert_eq!(blocktier_transfer_free(null_mut(), e), OK);
    }
}
