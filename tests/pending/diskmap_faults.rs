//! What the engine does when storage fails: the map fails cleanly and keeps what it acknowledged,
//! damaged bytes are errors that say where, waiting ends, and closing leaves nothing behind.
//!
//! The tests of this file run one at a time, because some count the process's descriptors and
//! writer threads.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/process.rs"]
mod process;
#[path = "common/records.rs"]
mod records;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, Result, TxId};
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use records::{key, value};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Longer than anything here takes; for waits whose end is not in doubt.
const SOON: Duration = Duration::from_secs(60);

fn open_faulty(dirs: &[TempDir], more: &str) -> (FaultStorage, DiskTxMap) {
    let settings = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&settings)));
    let runtime = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
    (faults, DiskTxMap::open(&runtime, &small_settings(dirs, more)).unwrap())
}

/// The value of the record with this number: mostly short, some over several blocks.
fn record(number: u64) -> Vec<u8> {
    let length = if number % 50 == 49 { 20_000 } else { 200 + number as usize % 300 };
    value(number, length)
}

fn insert(map: &DiskTxMap, number: u64, wait: Wait) -> Result<()> {
    let inserted = map.set_if_not_exists(&key(number), &record(number), 0, wait, |_, _| ())?;
    assert_eq!(inserted, Inserted::New);
    Ok(())
}

/// Inserts from number `from` on until it fails. How many were acknowledged, and the error.
fn insert_until_error(map: &DiskTxMap, from: u64, wait: Wait) -> (u64, Error) {
    let error = |number| insert(map, number, wait).err().map(|error| (number, error));
    (from..from + 20_000).find_map(error).expect("20,000 inserts went well")
}

/// Everything from `numbers` is there, byte for byte.
fn check_there(map: &DiskTxMap, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let expected = record(number);
        let same = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
        assert_eq!(same, Some(true), "record {number}");
    }
}

/// The error of a failed map and what caused it.
fn cause(error: &Error) -> &Error {
    let Error::Failed(cause) = error else { panic!("not a failed map: {error}") };
    cause
}

/// A failed map says so, with the first cause, wherever it is asked.
fn check_failed_everywhere(map: &DiskTxMap, first: &Error) {
    let absent = key(u64::MAX);
    let keys = [absent];
    let batch = Batch::new(&keys, b"x", &[0, 1], None).unwrap();
    let mut states = [ItemState::Pending];
    let long = vec![1; 30_000];
    let errors = [
        map.set_if_not_exists(&absent, b"x", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
        map.set_if_not_exists(&absent, &long, 0, Wait::Never, |_, _| ()).unwrap_err(),
        map.set(&absent, b"x", 0, Wait::Never).unwrap_err(),
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.set_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.flush().unwrap_err(),
        map.flush_begin(Wait::Never).unwrap_err(),
        map.flush_wait(u64::MAX, Wait::Never).unwrap_err(),
        map.clear().unwrap_err(),
        map.failure().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(cause(&error).to_string(), cause(first).to_string());
        assert_eq!(error.os_errno(), first.os_errno());
    }
    assert_eq!(states, [ItemState::Pending]);
    assert!(!map.exists(&absent, Wait::Allowed).unwrap());
    assert_eq!(map.stats().failed, 1);
}

/// A rule makes something fail; the map fails and everything else holds.
fn fails_cleanly(rule: FaultRule, errno: i32, directories: usize) {
    let shown = format!("{rule:?}");
    println!("{shown}");
    let before = Footprint::now();
    let dirs = temp_dirs(directories);
    let (faults, map) = open_faulty(&dirs, "");
    faults.add(rule);
    let (acknowledged, error) = insert_until_error(&map, 0, Wait::Allowed);
    assert_eq!(cause(&error).os_errno(), errno, "{error}");
    let full = matches!(cause(&error), Error::DiskFull { .. });
    assert_eq!(full, errno == ENOSPC, "{error}");
    assert!(error.to_string().contains(".seg"), "the error names the file: {error}");
    // The first error stays, whatever storage does afterwards.
    faults.clear_rules();
    assert_eq!(map.len(), acknowledged);
    check_there(&map, 0..acknowledged);
    assert!(!map.exists(&key(acknowledged), Wait::Allowed).unwrap(), "inserted after all");
    check_failed_everywhere(&map, &error);
    check_there(&map, 0..acknowledged);
    drop((map, faults));
    for dir in &dirs {
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
    drop(dirs);
    before.check();
}

#[test]
fn a_failed_write_or_file_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    for (nth, directories) in [(0, 1), (1, 2), (7, 2)] {
        for errno in [EIO, ENOSPC] {
            for fault in [Fault::Errno(errno), Fault::ShortWrite { bytes: 5000, errno }] {
                let rule = FaultRule::new(FaultOp::Write, fault).skip(nth).times(1);
                fails_cleanly(rule, errno, directories);
            }
            for op in [FaultOp::Create, FaultOp::Allocate] {
                let rule = FaultRule::new(op, Fault::Errno(errno)).skip(nth).times(1);
                fails_cleanly(rule, errno, directories);
            }
        }
    }
}

#[test]
fn a_removed_directory_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (_faults, map) = open_faulty(&dirs, "");
    (0..2000).for_each(|number| insert(&map, number, Wait::Allowed).unwrap());
    std::fs::remove_dir_all(map.directories().next().unwrap()).unwrap();
    let (acknowledged, error) = insert_until_error(&map, 2000, Wait::Allowed);
    assert_eq!(error.os_errno(), 2, "{error}");
    check_there(&map, 0..acknowledged);
    check_failed_everywhere(&map, &error);
}

#[test]
fn flush_reports_a_write_that_failed() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let (faults, map) = open_faulty(&dirs, "");
    (0..5).for_each(|number| insert(&map, number, Wait::Allowed).unwrap());
    assert_eq!(faults.calls(FaultOp::Create), 0, "a small map makes no file until it must");
    faults.fail_all(FaultOp::Write, EIO);
    let ticket = map.flush_begin(Wait::Allowed).unwrap();
    let error = map.flush_wait(ticket, Wait::Allowed).unwrap_err();
    assert!(matches!(cause(&error), Error::Io { op: "write", offset: Some(0), .. }), "{error}");
    check_failed_everywhere(&map, &error);
    check_there(&map, 0..5);
}

/// A tmpfs, unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let output = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "blocktier-test"])
            .arg(dir.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("NOT TESTED on a small tmpfs, it cannot be mounted: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = std::process::Command::new("umount").arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "umount failed: files are in use");
    }
}

/// Fills a map until its disk is full.
fn fill_disk(map: DiskTxMap, dir: &Path) {
    let (acknowledged, error) = insert_until_error(&map, 0, Wait::Allowed);
    assert!(matches!(cause(&error), Error::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free space or add a directory"), "{error}");
    assert!(acknowledged > 500, "only {acknowledged} records found room");
    check_there(&map, 0..acknowledged);
    check_failed_everywhere(&map, &error);
    drop(map);
    assert_eq!(entries(dir), Vec::<PathBuf>::new());
}

#[test]
fn a_full_disk_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    let before = Footprint::now();
    if let Some(disk) = SmallDisk::mount("size=1m") {
        let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
        let dirs = [disk];
        let settings = small_settings(&dirs.each_ref().map(|disk| &disk.0), "");
        let map = DiskTxMap::open(&runtime, &settings).unwrap();
        fill_disk(map, dirs[0].0.path());
        drop(runtime);
    }
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "");
    faults.set_capacity(Some(1 << 20));
    fill_disk(map, dirs[0].path());
    // Space that was reserved but cannot be written after all.
    let (faults, map) = open_faulty(&dirs, "");
    faults.set_write_limit(Some(700_000));
    fill_disk(map, dirs[0].path());
    drop((faults, dirs));
    before.check();
}

#[test]
fn an_open_that_finds_no_room_for_its_lock_leaves_no_directory() {
    let _alone = alone();
    // Room for the root, one directory, and nothing in it.
    let Some(disk) = SmallDisk::mount("size=1m,nr_inodes=2") else { return };
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let error = DiskTxMap::open(&runtime, &small_settings(&[&disk.0], "")).unwrap_err();
    assert!(error.to_string().contains("no space for a lock file"), "{error}");
    assert_eq!(entries(disk.0.path()), Vec::<PathBuf>::new());
}

/// Where the records of keys 0..count stand: the file and the offset of the first byte. A record
/// begins with 12 bytes of header, then the key, at a multiple of 16.
fn places(map: &DiskTxMap, count: u64) -> Vec<(PathBuf, u64)> {
    let numbers: HashMap<TxId, u64> = (0..count).map(|number| (key(number), number)).collect();
    let mut places = vec![None; count as usize];
    for path in map.directories().flat_map(entries) {
        if path.extension().is_none() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for (unit, window) in bytes.windows(44).step_by(16).enumerate() {
            if let Some(number) = numbers.get(&window[12..]) {
                places[*number as usize] = Some((path.clone(), unit as u64 * 16));
            }
        }
    }
    let found = |(number, place): (usize, Option<_>)| {
        place.unwrap_or_else(|| panic!("record {number} is in no file"))
    };
    places.into_iter().enumerate().map(found).collect()
}

/// A map with records 0..3000, the first of which are in files alone.
fn with_cold_records(dirs: &[TempDir]) -> (FaultStorage, DiskTxMap) {
    let (faults, map) = open_faulty(dirs, "");
    (0..3000).for_each(|number| insert(&map, number, Wait::Allowed).unwrap());
    map.flush().unwrap();
    (faults, map)
}

#[test]
fn a_read_error_is_the_calls_alone() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let (faults, map) = with_cold_records(&dirs);
    let places = places(&map, 3000);
    let (path, offset) = places[7].clone();
    let failing = path.clone();
    faults.add(FaultRule::new(FaultOp::Read, Fault::Errno(EIO)).on(move |access| {
        access.path == failing && (access.offset..access.offset + access.len).contains(&offset)
    }));
    let keys = [key(7)];
    let batch = Batch::new(&keys, b"x", &[0, 1], None).unwrap();
    let mut states = [ItemState::Pending];
    let errors = [
        map.get(&key(7), Wait::Allowed, |_, _| ()).unwrap_err(),
        map.exists(&key(7), Wait::Allowed).unwrap_err(),
        map.delete(&key(7), Wait::Allowed).unwrap_err(),
        map.set(&key(7), b"x", 0, Wait::Allowed).unwrap_err(),
        map.set_if_not_exists(&key(7), b"x", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
        map.update_subtree_index(&key(7), 1, Wait::Allowed).unwrap_err(),
        map.get_batch(&keys, true, Wait::Allowed, |_, _, _| Ok(())).unwrap_err(),
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.delete_batch(&keys, Wait::Allowed, &mut states).unwrap_err(),
    ];
    for error in errors {
        let Error::Io { op: "read", path: named, offset: Some(at), .. } = &error else {
            panic!("{error}")
        };
        assert!(*named == path && *at <= offset, "{error}");
    }
    assert_eq!(states, [ItemState::Pending]);
    assert_eq!((map.len(), map.stats().failed), (3000, 0), "a read error fails no map");
    // Records that no read has in common with the damaged place: other blocks, other files.
    let far = |place: &(PathBuf, u64)| place.0 != path || place.1.abs_diff(offset) > 64 << 10;
    let far: Vec<u64> = (0..3000).filter(|number| far(&places[*number as usize])).collect();
    assert!(far.len() > 2000);
    check_there(&map, far.into_iter());
    faults.clear_rules();
    check_there(&map, 0..3000);
}

#[test]
fn every_flipped_bit_is_an_error_that_says_where() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "");
    // 64 bytes each, so that bits beyond a record's end are another record's.
    let count = 12_000;
    let short = |number| value(number, 20);
    for number in 0..count {
        map.set(&key(number), &short(number), 0, Wait::Allowed).unwrap();
    }
    map.flush().unwrap();
    // The first record of a file, one from its middle and the last: a longer length ends outside.
    let places = places(&map, count);
    let wanted = [4096, 8192 + 64 * 7, (64 << 10) - 64];
    let chosen = wanted.map(|offset| {
        // Among the older half, which is not in the tail any more.
        let number = places[..6000].iter().position(|place| place.1 == offset);
        number.expect("a file has a record at each of its units of 64 bytes") as u64
    });
    for number in chosen {
        let (path, offset) = places[number as usize].clone();
        for bit in 0..64 * 8 {
            let (at, mask) = (offset + bit / 8, 1 << (bit % 8));
            let flipped = path.clone();
            faults.add(
                FaultRule::new(FaultOp::Read, Fault::FlipBits { offset: at, mask })
                    .on(move |access| access.path == flipped),
            );
            let damaged = key(number);
            let by_batch = map.get_batch(&[damaged], true, Wait::Allowed, |_, _, _| Ok(()));
            for error in [
                map.get(&damaged, Wait::Allowed, |_, _| ()).unwrap_err(),
                map.set_if_not_exists(&damaged, b"", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
                by_batch.unwrap_err(),
            ] {
                let Error::Corrupt { path: named, offset: at, .. } = &error else {
                    panic!("bit {bit}: {error}")
                };
                assert!(*named == path && *at == offset, "bit {bit}: {error}");
            }
            faults.clear_rules();
        }
        // The bytes themselves were never damaged.
        let value = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        assert_eq!(value, Some(short(number)));
    }
    assert_eq!((map.len(), map.stats().failed), (count, 0));
}

#[test]
fn a_segment_cut_behind_our_back_is_an_error_that_says_where() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (_faults, map) = with_cold_records(&dirs);
    let (path, offset) = places(&map, 3000)[3].clone();
    let cut = offset - offset % 4096;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
    let mut damaged = 0;
    for number in 0..3000 {
        match map.get(&key(number), Wait::Allowed, |value, _| value == record(number)) {
            Ok(found) => assert_eq!(found, Some(true), "record {number}"),
            Err(Error::Corrupt { path: named, offset: at, .. }) => {
                assert!(named == path && at >= cut, "record {number} at {at}");
                damaged += 1;
            }
            Err(error) => panic!("record {number}: {error}"),
        }
    }
    assert!((1..200).contains(&damaged), "{damaged} records are damaged");
    assert!(map.failure().is_ok());
}

#[test]
fn what_would_wait_says_so_and_succeeds_later() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let gate = faults.close_gate(FaultOp::Write);
    // No room in the tail.
    let (full_at, error) = insert_until_error(&map, 10_000, Wait::Never);
    let blocked = |error: &Error| assert!(matches!(error, Error::WouldBlock(_)), "{error}");
    blocked(&error);
    let long = vec![1; 60_000];
    let keys: Vec<_> = (20_000..20_500).map(key).collect();
    let arena = vec![7; 500 * 300];
    let offsets: Vec<u64> = (0..=500).map(|i| i * 300).collect();
    let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
    let mut states = vec![ItemState::Pending; 500];
    blocked(&map.set_if_not_exists_batch(&batch, Wait::Never, &mut states).unwrap_err());
    for wait in [Wait::Never, Wait::ReadsOnly] {
        let large = record(49);
        blocked(&map.set(&key(30_000), &large, 0, wait).unwrap_err());
        blocked(&map.set_if_not_exists(&key(30_000), &long, 0, wait, |_, _| ()).unwrap_err());
    }
    // Records that are in files alone.
    let cold = [key(0), key(1), key(2)];
    let mut cold_states = [ItemState::Pending; 3];
    blocked(&map.get(&cold[0], Wait::Never, |_, _| ()).unwrap_err());
    blocked(&map.exists(&cold[0], Wait::Never).unwrap_err());
    blocked(&map.delete(&cold[0], Wait::Never).unwrap_err());
    blocked(&map.set(&cold[0], b"x", 0, Wait::Never).unwrap_err());
    blocked(&map.update_subtree_index(&cold[0], 1, Wait::Never).unwrap_err());
    blocked(&map.delete_batch(&cold, Wait::Never, &mut cold_states).unwrap_err());
    let update = map.update_subtree_index_batch(&cold, 3, Wait::Never, &mut cold_states);
    blocked(&update.unwrap_err());
    assert_eq!(cold_states, [ItemState::Pending; 3]);
    let positions = map.get_batch(&cold, true, Wait::Never, |_, _, _| Ok(())).unwrap();
    assert_eq!(positions, [0, 1, 2]);
    assert_eq!(map.get(&cold[0], Wait::ReadsOnly, |v, _| *v == *record(0)).unwrap(), Some(true));
    // A flush under way.
    let ticket = map.flush_begin(Wait::Never).unwrap();
    blocked(&map.flush_wait(ticket, Wait::Never).unwrap_err());
    let done = states.iter().filter(|state| **state == ItemState::Done).count() as u64;
    assert!(done < 500, "the batch found room");
    assert_eq!(map.len(), 3000 + (full_at - 10_000) + done, "a blocked call did something");
    gate.open();
    map.flush_wait(ticket, Wait::Allowed).unwrap();
    map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
    assert!(states.iter().all(|state| *state == ItemState::Done));
    insert(&map, full_at, Wait::Allowed).unwrap();
    map.set_if_not_exists(&key(30_000), &long, 0, Wait::Allowed, |_, _| ()).unwrap();
    map.delete_batch(&cold, Wait::Allowed, &mut cold_states).unwrap();
    assert_eq!(cold_states, [ItemState::Done; 3]);
    check_there(&map, (3..3000).chain(10_000..=full_at));
    assert_eq!(map.len(), 2997 + (full_at - 10_000 + 1) + 500 + 1);
}

#[test]
fn waiting_for_room_ends_after_the_setting() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (faults, map) = open_faulty(&dirs, "txMapWriteTimeout = 20ms\n");
    let gate = faults.close_gate(FaultOp::Write);
    let (acknowledged, error) = insert_until_error(&map, 0, Wait::Allowed);
    assert!(matches!(error, Error::TimedOut { waited_ms: 20, .. }), "{error}");
    assert!(error.to_string().contains("txMapWriteTimeout"), "{error}");
    let long = vec![1; 60_000];
    let error = map.set(&key(u64::MAX), &long, 0, Wait::Allowed).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(matches!(map.flush().unwrap_err(), Error::TimedOut { waited_ms: 20.., .. }));
    assert!(map.stats().waits > 0 && map.failure().is_ok());
    gate.open();
    // Until the writer has caught up, more may time out; it does catch up.
    while let Err(error) = map.flush() {
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }
    assert_eq!(map.len(), acknowledged);
    check_there(&map, 0..acknowledged);
}

#[test]
fn a_failure_wakes_everyone_who_waits() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    // Nobody times out before the test itself would.
    let (faults, map) = open_faulty(&dirs, "txMapWriteTimeout = 1h\n");
    let gate = faults.close_gate(FaultOp::Write);
    let (full_at, _) = insert_until_error(&map, 0, Wait::Never);
    faults.fail_all(FaultOp::Write, EIO);
    let waits = map.stats().waits;
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|thread| {
                let map = &map;
                // Short records, a long one, and a flush.
                scope.spawn(move || match thread {
                    0 => map.flush().unwrap_err(),
                    1 => map.set(&key(1 << 32), &[1; 60_000], 0, Wait::Allowed).unwrap_err(),
                    _ => insert_until_error(map, thread << 32, Wait::Allowed).1,
                })
            })
            .collect();
        // The long value's thread; the others wait for room, or for that thread.
        while map.stats().waits == waits {
            std::thread::yield_now();
        }
        gate.open();
        for waiter in waiters {
            assert_eq!(cause(&waiter.join().unwrap()).os_errno(), EIO);
        }
    });
    check_there(&map, 0..full_at);
}

#[test]
fn a_read_that_waits_keeps_nobody_else_waiting() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let gate = faults.close_gate(FaultOp::Read);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| map.get(&key(0), Wait::Allowed, |v, _| *v == *record(0)));
        assert!(gate.wait_for(1, SOON));
        // Enough keys to meet every lock that the reader could hold.
        for number in 100_000..110_000 {
            let (key, done) = (
                key(number),
                loop {
                    match map.set(&key(number), b"x", 0, Wait::Never) {
                        // The tag is that of a record on disk, which cannot be read now.
                        Err(Error::WouldBlock(Error::BLOCKED_ON_READ)) => break false,
                        Err(Error::WouldBlock(_)) => std::thread::yield_now(),
                        outcome => break !outcome.unwrap(),
                    }
                },
            );
            assert!(!done || map.delete(&key, Wait::Never).unwrap());
        }
        assert!(!reader.is_finished());
        gate.open();
        assert_eq!(reader.join().unwrap().unwrap(), Some(true));
    });
}
