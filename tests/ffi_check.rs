//! Checking, repairing, compacting and backpressure through the C ABI.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/c_map.rs"]
mod c_map;
#[path = "common/records.rs"]
mod records;

use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

use c_map::{Fixture, OK, no_error, text_of};
use records::{key, value};

const SMALL: &str = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n";
const CHECKS: u32 = 6;

/// A directory with a durable map of 50 records.
fn durable() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("{SMALL}txMapName = pool\ntxMapDurability = durable\n");
    let fixture = Fixture::new(dir.path().to_owned(), &settings);
    for number in 0..50 {
        assert_eq!(fixture.insert(&key(number), &value(number, 60), 0).0, OK);
    }
    drop(fixture);
    let store = dir.path().join("blocktier-store-pool");
    (dir, store)
}

fn start(dir: &Path, flags: u32) -> *mut blocktier_check_t {
    let (text, mut check) = (dir.to_str().unwrap(), null_mut());
    let mut error = no_error();
    // SAFETY: all pointers are to live locals of the right type and length.
    let status = unsafe {
        let (dirs, out) = (text.as_ptr().cast(), &raw mut check);
        blocktier_check_start(dirs, text.len(), null(), 0, 0, flags, out, &raw mut error)
    };
    assert_eq!(status, OK, "{}", text_of(&error));
    check
}

/// Waits for a job's end; its result.
fn finish(check: *const blocktier_check_t) -> Result<blocktier_check_result_t, (Status, String)> {
    let mut progress = std::mem::MaybeUninit::uninit();
    let (mut result, mut error) = (std::mem::MaybeUninit::uninit(), no_error());
    // SAFETY: a live handle and live locals, which are read once they are written.
    unsafe {
        loop {
            assert_eq!(blocktier_check_poll(check, progress.as_mut_ptr(), null_mut()), OK);
            let progress: blocktier_check_progress_t = progress.assume_init();
            match blocktier_check_result(check, result.as_mut_ptr(), &raw mut error) {
                OK => return Ok(result.assume_init()),
                // It may end between the two calls, and an error is told once.
                Status::BLOCKTIER_WOULD_BLOCK => assert_eq!(progress.finished, 0),
                status => return Err((status, text_of(&error))),
            }
            std::thread::yield_now();
        }
    }
}

/// An item with path and text; the status where there is none.
fn item(
    check: *const blocktier_check_t,
    list: u32,
    index: usize,
    room: usize,
) -> Result<(blocktier_check_item_t, String, String), Status> {
    let (mut path, mut text) = (vec![0u8; room], vec![0u8; room]);
    let mut item = std::mem::MaybeUninit::uninit();
    // SAFETY: a live handle and live locals; the item is read once it is written.
    unsafe {
        let (p, t) = (path.as_mut_ptr().cast(), text.as_mut_ptr().cast());
        let out = item.as_mut_ptr();
        let status = blocktier_check_item(check, list, index, out, p, room, t, room, null_mut());
        if status != OK {
            return Err(status);
        }
        let item: blocktier_check_item_t = item.assume_init();
        path.truncate(item.path_length as usize);
        text.truncate(item.text_length as usize);
        Ok((item, String::from_utf8(path).unwrap(), String::from_utf8(text).unwrap()))
    }
}

fn free(check: *mut blocktier_check_t) {
    // SAFETY: a live handle that nobody uses any more.
    assert_eq!(unsafe { blocktier_check_free(check, null_mut()) }, OK);
}

#[test]
fn damage_is_found_and_mended() {
    let (dir, store) = durable();
    let sound = start(dir.path(), 0);
    let result = finish(sound).unwrap();
    assert_eq!((result.live, result.findings, result.worst, result.flags), (50, 0, 0, 0));
    assert_eq!(item(sound, 0, 0, 0).unwrap_err(), Status::BLOCKTIER_NOT_FOUND);
    assert_eq!(item(sound, 3, 0, 0).unwrap_err(), Status::BLOCKTIER_INVALID_ARGUMENT);
    free(sound);
    let segment = store.join("000-0000-00000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 112 * 3 + 60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let found = start(dir.path(), 0);
    let result = finish(found).unwrap();
    assert_eq!((result.findings, result.steps, result.losses, result.worst), (1, 1, 1, 2));
    let (finding, path, text) = item(found, 0, 0, 500).unwrap();
    assert_eq!((finding.offset, finding.length), (4096 + 112 * 3, 112));
    assert_eq!((finding.kind, finding.meaning), (6, 2));
    assert_eq!(Path::new(&path), segment);
    assert!(text.contains("checksum does not match; the values of 1 keys are lost"), "{text}");
    assert_eq!(item(found, 0, 0, 10).unwrap_err(), Status::BLOCKTIER_BUFFER_TOO_SMALL);
    assert_eq!(item(found, 1, 0, 500).unwrap().0.kind, 1);
    assert_eq!(item(found, 2, 0, 500).unwrap().0.keys, 1);
    free(found);
    let refused = start(dir.path(), BLOCKTIER_CHECK_REPAIR);
    let result = finish(refused).unwrap();
    assert_eq!((result.steps_done, result.flags), (0, BLOCKTIER_CHECK_NEEDS_CONSENT));
    free(refused);
    let done = start(dir.path(), BLOCKTIER_CHECK_REPAIR | BLOCKTIER_CHECK_ACCEPT_LOSS);
    let result = finish(done).unwrap();
    assert_eq!((result.steps_done, result.flags), (1, 0));
    free(done);
    let again = start(&store, 0);
    let result = finish(again).unwrap();
    assert_eq!((result.live, result.steps, result.worst), (49, 0, 0));
    free(again);
}

#[test]
fn errors_are_told_once_and_handles_do_not_leak() {
    let before = blocktier_live_handles(CHECKS);
    let empty = tempfile::tempdir().unwrap();
    let check = start(empty.path(), 0);
    let (status, text) = finish(check).unwrap_err();
    assert_eq!(status, Status::BLOCKTIER_INVALID_ARGUMENT);
    assert!(text.contains("holds no durable map"), "{text}");
    assert_eq!(finish(check).unwrap_err().0, Status::BLOCKTIER_CLOSED);
    free(check);
    // Freed while it runs, or cancelled.
    let (dir, _) = durable();
    free(start(dir.path(), 0));
    let check = start(dir.path(), 0);
    // SAFETY: a live handle.
    assert_eq!(unsafe { blocktier_check_cancel(check, null_mut()) }, OK);
    let result = finish(check).unwrap();
    assert!(result.flags & BLOCKTIER_CHECK_INTERRUPTED != 0 || result.live == 50);
    free(check);
    let mut out = null_mut();
    let dirs = "x".as_ptr().cast();
    // SAFETY: null pointers and wrong flags are what is tested; the rest are live locals.
    unsafe {
        let null_out = blocktier_check_start(dirs, 1, null(), 0, 0, 0, null_mut(), null_mut());
        assert_eq!(null_out, Status::BLOCKTIER_NULL_POINTER);
        let flags = blocktier_check_start(dirs, 1, null(), 0, 0, 8, &raw mut out, null_mut());
        assert_eq!(flags, Status::BLOCKTIER_INVALID_ARGUMENT);
        let no_handle = blocktier_check_poll(null(), null_mut(), null_mut());
        assert_eq!(no_handle, Status::BLOCKTIER_NULL_POINTER);
        assert_eq!(blocktier_check_free(null_mut(), null_mut()), OK);
    }
    assert!(out.is_null());
    assert_eq!(blocktier_live_handles(CHECKS), before);
}

#[test]
fn a_map_that_is_open_is_refused_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("{SMALL}txMapName = pool\ntxMapDurability = durable\n");
    let _map = Fixture::new(dir.path().to_owned(), &settings);
    for flags in [0, BLOCKTIER_CHECK_REPAIR] {
        let check = start(dir.path(), flags);
        let (status, text) = finish(check).unwrap_err();
        assert_eq!(status, Status::BLOCKTIER_LOCKED);
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        free(check);
    }
}

fn backpressure(map: *const blocktier_txmap_t) -> (u32, u64) {
    let mut now = blocktier_backpressure_t { delay_nanos: 1, state: 9, reserved: 9 };
    // SAFETY: a live handle and a live local.
    assert_eq!(unsafe { blocktier_txmap_backpressure(map, &raw mut now, null_mut()) }, OK);
    assert_eq!(now.reserved, 0);
    (now.state, now.delay_nanos)
}

fn change(map: *const blocktier_txmap_t, settings: &str, error: &mut blocktier_error_t) -> Status {
    let text = settings.as_ptr().cast();
    // SAFETY: a live handle, as many bytes, and a live local.
    unsafe { blocktier_txmap_set_compaction(map, text, settings.len(), error) }
}

/// With writers stopped, and more to do.
fn settings_change(map: *const blocktier_txmap_t) {
    let mut error = no_error();
    // More dead bytes are allowed now than there are; one that is refused changes nothing.
    assert_eq!(change(map, "txMapCompactionSpace = 100000\n", &mut error), OK);
    assert_eq!(backpressure(map), (0, 0));
    for (settings, reason) in [
        ("txMapCompactionSpace = 200\ntxMapCompactionMinWidth = 1", "2 to"),
        ("txMapCompactionSpace = 200\ntxMapTail = 1G", "only those of compaction"),
        ("txMapCompactionSpaces = 200", "the nearest is txMapCompactionSpace"),
    ] {
        assert_eq!(change(map, settings, &mut error), Status::BLOCKTIER_SETTING);
        assert!(text_of(&error).contains(reason), "{}", text_of(&error));
    }
    assert_eq!(backpressure(map), (0, 0));
    assert_eq!(change(map, "txMapCompactionSpace = 200", &mut error), OK);
    assert_eq!(backpressure(map), (2, 0));
}

#[test]
fn compaction_and_backpressure() {
    // The background gets through a few records, then waits for minutes; a call does not.
    let settings = format!("{SMALL}txMapCompactionRate = 64K\n");
    let fixture = Fixture::new(tempfile::tempdir().unwrap(), &settings);
    let (map, mut error) = (fixture.map.cast_const(), no_error());
    let set = |slowdown, stop, delay_ms, error: &mut blocktier_error_t| {
        // SAFETY: a live handle and a live local.
        unsafe { blocktier_txmap_set_backpressure(map, slowdown, stop, delay_ms, error) }
    };
    for number in 0..20_000 {
        assert_eq!(fixture.insert(&key(number), &value(number, 60), 0).0, OK);
    }
    for number in (0..20_000).filter(|number| number % 20 != 0) {
        // SAFETY: a live handle and a live key.
        let status =
            unsafe { blocktier_txmap_delete(map, key(number).as_ptr(), 0, null_mut(), null_mut()) };
        assert_eq!(status, OK);
    }
    // SAFETY: a live handle.
    unsafe {
        let mut ticket = 0;
        assert_eq!(blocktier_txmap_flush_begin(map, 0, &raw mut ticket, null_mut()), OK);
        assert_eq!(blocktier_txmap_flush_wait(map, ticket, 0, null_mut()), OK);
    }
    assert_eq!(backpressure(map), (0, 0));
    assert_eq!(set(2, 1, 5, &mut error), Status::BLOCKTIER_SETTING);
    assert!(text_of(&error).contains("must not be above"));
    assert_eq!(set(0, 1, 3_600_000, &mut error), Status::BLOCKTIER_SETTING);
    assert!(text_of(&error).contains("txMapCompactionMaxDelay"), "{}", text_of(&error));
    assert_eq!(set(1, 0, 5, &mut error), OK);
    assert_eq!(backpressure(map), (1, 5_000_000));
    assert_eq!(set(0, 1, 5, &mut error), OK);
    assert_eq!(backpressure(map), (2, 0));
    settings_change(map);
    let nonblocking = fixture.insert(&key(30_000), b"x", BLOCKTIER_NONBLOCKING).0;
    assert_eq!(nonblocking, Status::BLOCKTIER_WOULD_BLOCK);
    // SAFETY: live handles and live locals; null is what is tested.
    unsafe {
        assert_eq!(blocktier_txmap_compact(map, &raw mut error), OK, "{}", text_of(&error));
        assert_eq!(backpressure(map), (0, 0), "nothing is left to do");
        assert_eq!(fixture.insert(&key(30_000), b"x", BLOCKTIER_NONBLOCKING).0, OK);
        let null_out = blocktier_txmap_backpressure(map, null_mut(), null_mut());
        assert_eq!(null_out, Status::BLOCKTIER_NULL_POINTER);
        let mut now = blocktier_backpressure_t { delay_nanos: 0, state: 0, reserved: 0 };
        for status in [
            blocktier_txmap_compact(null(), null_mut()),
            blocktier_txmap_set_backpressure(null(), 0, 0, 0, null_mut()),
            blocktier_txmap_set_compaction(null(), c"".as_ptr(), 0, null_mut()),
            blocktier_txmap_set_compaction(map, null(), 1, null_mut()),
            blocktier_txmap_backpressure(null(), &raw mut now, null_mut()),
        ] {
            assert_eq!(status, Status::BLOCKTIER_NULL_POINTER);
        }
        let mut old = null_mut();
        assert_eq!(blocktier_txmap_rotate(map, &raw mut old, null_mut()), OK);
        assert_eq!(blocktier_txmap_compact(old, null_mut()), Status::BLOCKTIER_FROZEN);
        assert_eq!(change(old, "", &mut error), Status::BLOCKTIER_FROZEN);
        let off = blocktier_txmap_set_backpressure(old, 0, 0, 0, null_mut());
        assert_eq!(off, Status::BLOCKTIER_FROZEN);
        assert_eq!(blocktier_txmap_close(old, null_mut()), OK);
    }
}
