//! What a C program sees when a disk is full or a directory has an owner: a status and a text that
//! says what to do, everything acknowledged still there, and a process that goes on.
#![expect(unsafe_code, reason = "calls the C ABI as a C program would")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

#[path = "common/c_map.rs"]
mod c_map;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::ffi::c_char;
use std::path::Path;
use std::ptr::null_mut;

use blocktier::ffi::blocktier_status_t as Status;
use blocktier::ffi::*;

use c_map::{Fixture, OK, no_error, text_of};
use small_disk::SmallDisk;

/// Most records are on disk.
const SMALL: &str = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\n";

fn key(number: u32) -> [u8; 32] {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    key
}

fn value(number: u32) -> [u8; 500] {
    [number as u8; 500]
}

/// Inserts until that fails; how many were acknowledged.
fn fill<D: AsRef<Path>>(map: &Fixture<D>) -> u32 {
    (0..20_000).find(|&number| map.insert(&key(number), &value(number), 0).0 != OK).unwrap()
}

#[test]
fn a_full_disk_keeps_what_was_acknowledged_and_the_process() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let mut map = Fixture::new(&disk, SMALL);
    let acknowledged = fill(&map);
    assert!(acknowledged > 500, "only {acknowledged} records found room");
    assert_eq!(map.insert(&key(acknowledged), b"x", 0).0, Status::BLOCKTIER_FAILED);
    map.closes_with = Status::BLOCKTIER_FAILED;
    let mut error = no_error();
    // SAFETY: a live map; buffers and outputs are live locals of the lengths that are passed.
    unsafe {
        let e = &raw mut error;
        assert_eq!(blocktier_txmap_failure(map.map, e), Status::BLOCKTIER_FAILED);
        assert_eq!(error.os_errno, 28);
        assert!(text_of(&error).contains("no space for 65536 bytes at "), "{}", text_of(&error));
        let mut lookup = blocktier_lookup_t::default();
        let mut buffer = [0u8; 500];
        for number in 0..acknowledged {
            let (k, b, l) = (key(number), buffer.as_mut_ptr(), &raw mut lookup);
            let status = blocktier_txmap_get(map.map, k.as_ptr(), 0, b, buffer.len(), l, e);
            assert_eq!((status, buffer), (OK, value(number)), "record {number}");
        }
        // A subtree's memory: an error now, and no signal later.
        let dir = disk.path().to_str().unwrap();
        let (text, length) = (dir.as_ptr().cast::<c_char>(), dir.len());
        let (mut array, mut data) = (null_mut(), null_mut());
        let (a, d) = (&raw mut array, &raw mut data);
        let status = blocktier_node_array_new(map.runtime, 1 << 20, text, length, a, d, e);
        assert_eq!(status, Status::BLOCKTIER_DISK_FULL, "{}", text_of(&error));
        assert!(array.is_null() && data.is_null());
        assert_eq!(error.os_errno, 28);
        assert!(text_of(&error).contains("free space or add a directory"), "{}", text_of(&error));
    }
    // Closing gives the space back.
    drop(map);
    let again = Fixture::new(&disk, SMALL);
    assert_eq!(again.insert(&key(0), &value(0), 0).0, OK);
}

#[test]
fn a_second_owner_learns_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = Fixture::new(&dir, "txMapName = pool");
    let text = format!("txMapDirs = {}\ntxMapName = pool", dir.path().display());
    let (mut second, mut error) = (null_mut(), no_error());
    let (out, e) = (&raw mut second, &raw mut error);
    // SAFETY: a live runtime, text of that length, live outputs.
    let status =
        unsafe { blocktier_txmap_open(first.runtime, text.as_ptr().cast(), text.len(), out, e) };
    assert_eq!(status, Status::BLOCKTIER_LOCKED);
    assert!(second.is_null());
    let pid = format!("locked by transaction map, pid {}", std::process::id());
    assert!(text_of(&error).contains(&pid), "{}", text_of(&error));
    assert_eq!(first.insert(&key(0), &value(0), 0).0, OK, "the first owner was disturbed");
}
