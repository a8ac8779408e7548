//! What the engine does when storage fails: the map fails cleanly, keeps what it acknowledged and
//! says why, whoever waits is woken, and closing leaves nothing behind.
//!
//! The tests of this file run one at a time, because some count the process's descriptors and
//! writer threads.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking and say what they did"
)]

#[path = "common/faulty.rs"]
mod faulty;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/process.rs"]
mod process;
#[path = "common/records.rs"]
mod records;
#[path = "common/small_disk.rs"]
mod small_disk;
#[path = "common/until_error.rs"]
mod until_error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use blocktier::Error;
use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::txmap::DiskTxMap;

use faulty::{COLD, check_there, insert, open_faulty, with_cold_records};
use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use records::key;
use small_disk::SmallDisk;
use until_error::insert_until_error;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Longer than anything here takes; for waits whose end is not in doubt.
const SOON: Duration = Duration::from_secs(60);

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

/// Removes a map's directory. Its writer must be idle or held: it makes files in there.
fn remove_directory(map: &DiskTxMap) {
    std::fs::remove_dir_all(map.directories().next().unwrap()).unwrap();
}

/// The next file cannot be made; everything else is as it was.
fn check_without_directory(map: DiskTxMap, from: u64, parent: &Path) {
    check_there(&map, 0..from);
    let (end, error) = insert_until_error(&map, from, Wait::Allowed);
    let Error::Io { op: "create", path, .. } = cause(&error) else { panic!("{error}") };
    assert!(path.starts_with(map.directories().next().unwrap()), "{error}");
    assert_eq!(error.os_errno(), 2, "{error}");
    check_there(&map, 0..end);
    check_failed_everywhere(&map, &error);
    drop(map);
    assert_eq!(entries(parent), Vec::<PathBuf>::new());
}

#[test]
fn a_removed_directory_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (_faults, map) = with_cold_records(&dirs);
    remove_directory(&map);
    check_without_directory(map, COLD, dirs[0].path());
}

#[test]
fn a_directory_removed_amid_writes_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let gate = faults.close_gate(FaultOp::Create);
    let (end, _) = insert_until_error(&map, COLD, Wait::ReadsOnly);
    assert!(gate.wait_for(1, SOON), "the writer makes a file");
    remove_directory(&map);
    gate.open();
    check_without_directory(map, end, dirs[0].path());
}

#[test]
fn a_batch_that_meets_a_failure_says_what_it_has_done() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    for skip in [0, 3, 9] {
        let (faults, map) = open_faulty(&dirs, "");
        let keys: Vec<_> = (0..4000).map(key).collect();
        let (first, second) = (vec![1; 4000 * 100], vec![2; 4000 * 100]);
        let offsets: Vec<u64> = (0..=4000).map(|i| i * 100).collect();
        let half = Batch::new(&keys[..2000], &first, &offsets[..=2000], None).unwrap();
        let mut states = vec![ItemState::Pending; 2000];
        map.set_if_not_exists_batch(&half, Wait::Allowed, &mut states).unwrap();
        map.flush().unwrap();
        faults.add(FaultRule::new(FaultOp::Write, Fault::Errno(EIO)).skip(skip));
        // Half of the keys are there: inserts leave them alone, sets replace them.
        let whole = Batch::new(&keys, &second, &offsets, None).unwrap();
        let mut states = vec![ItemState::Pending; 4000];
        let inserts = skip != 3;
        let outcome = if inserts {
            map.set_if_not_exists_batch(&whole, Wait::Allowed, &mut states)
        } else {
            map.set_batch(&whole, Wait::Allowed, &mut states)
        };
        let error = outcome.and_then(|()| map.flush()).unwrap_err();
        assert_eq!(cause(&error).os_errno(), EIO, "{error}");
        for (number, (key, state)) in keys.iter().zip(&states).enumerate() {
            let replaced = !inserts && *state == ItemState::Other;
            let expected = match (number < 2000, *state) {
                (true, ItemState::Done) => panic!("item {number} was there"),
                (true, _) => Some(if replaced { 2 } else { 1 }),
                (false, ItemState::Pending) => None,
                (false, ItemState::Done) => Some(2),
                (false, ItemState::Other) => panic!("item {number} was absent"),
            };
            let found = map.get(key, Wait::Allowed, |value, _| value.to_vec()).unwrap();
            assert_eq!(found, expected.map(|byte| vec![byte; 100]), "item {number}, {state:?}");
        }
        check_failed_everywhere(&map, &error);
    }
}

#[test]
fn a_panic_of_the_writer_fails_the_map_and_keeps_what_it_has() {
    let _alone = alone();
    let before = Footprint::now();
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    faults.add(FaultRule::new(FaultOp::Write, Fault::Errno(EIO)).on(|_| panic!("as intended")));
    let (end, error) = insert_until_error(&map, COLD, Wait::Allowed);
    assert!(matches!(cause(&error), Error::Panic(_)), "{error}");
    faults.clear_rules();
    check_there(&map, 0..end);
    check_failed_everywhere(&map, &error);
    drop((map, faults));
    assert_eq!(entries(dirs[0].path()), Vec::<PathBuf>::new());
    drop(dirs);
    before.check();
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
        let map = DiskTxMap::open(&runtime, &small_settings(&[&disk], "")).unwrap();
        fill_disk(map, disk.path());
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
fn a_failure_wakes_everyone_who_waits() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    // Nobody times out before the test itself would.
    let (faults, map) = open_faulty(&dirs, "txMapWriteTimeout = 1h\n");
    let gate = faults.close_gate(FaultOp::Write);
    let (full_at, _) = insert_until_error(&map, 0, Wait::ReadsOnly);
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
