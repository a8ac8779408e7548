//! Memory that is not there: sizes that do not fit are refused with what would, and a map that
//! meets the end of its budget is unchanged and goes on.
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

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, TxId};

use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use records::{key, value};

fn runtime(text: &str) -> Runtime {
    Runtime::open(&RuntimeSettings::parse(text).unwrap()).unwrap()
}

fn insert(map: &DiskTxMap, number: u64) -> blocktier::Result<Inserted<()>> {
    let value = value(number, 100);
    map.set_if_not_exists(&key(number), &value, 0, Wait::Allowed, |_, _| ())
}

fn is_there(map: &DiskTxMap, number: u64) -> bool {
    let expected = value(number, 100);
    let same = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
    assert_ne!(same, Some(false), "record {number} has another value");
    same.is_some()
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_what_would() {
    let _alone = alone();
    let dirs = temp_dirs(5);
    let before = Footprint::now();
    let refused = |runtime_text: &str, dirs: &[tempfile::TempDir], more: &str| {
        let runtime = runtime(runtime_text);
        let error = DiskTxMap::open(&runtime, &small_settings(dirs, more)).unwrap_err();
        assert_eq!(runtime.budget().used(), 0, "{error}");
        error
    };
    let error = refused("", &dirs, "");
    assert!(error.to_string().contains("5 directories and this tail allow"), "{error}");
    let error = refused("", &dirs[..0], "");
    assert!(error.to_string().contains("at least one directory"), "{error}");
    let error = refused("memoryBudget = 16M", &dirs[..2], "txMapTail = 64M\n");
    assert!(matches!(error, Error::OutOfMemory { bytes: 67_108_864, .. }), "{error}");
    assert!(error.to_string().contains("raise memoryBudget or lower the sizes"), "{error}");
    let error = refused("memoryBudget = 16M", &dirs[..2], "txMapExpectedEntries = 100000000\n");
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    for dir in &dirs {
        assert!(entries(dir.path()).is_empty());
    }
    before.check();
}

#[test]
fn a_clear_without_memory_keeps_the_content() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let runtime = runtime("memoryBudget = 16M");
    // An index of more than half the budget.
    let settings = small_settings(&dirs, "txMapExpectedEntries = 1000000\n");
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    (0..5000).for_each(|number| assert_eq!(insert(&map, number).unwrap(), Inserted::New));
    let used = runtime.budget().used();
    assert!(used > 8 << 20, "{used}");
    let error = map.clear().unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!((map.len(), runtime.budget().used()), (5000, used));
    (0..5000).for_each(|number| assert!(is_there(&map, number)));
    assert_eq!(insert(&map, 5000).unwrap(), Inserted::New);
    assert!(map.failure().is_ok());
    drop(map);
    assert_eq!(runtime.budget().used(), 0);
}

/// Inserts until memory is refused; the error, after checking that nothing was harmed by it, and
/// how many are in the map.
fn insert_until_refused(map: &DiskTxMap) -> (Error, u64) {
    let mut error = None;
    let mut done = 0;
    for first in (0..4_000_000).step_by(1000) {
        let keys: Vec<TxId> = (first..first + 1000).map(key).collect();
        let batch = Batch::new(&keys, &[], &[0; 1001], None).unwrap();
        let mut states = vec![ItemState::Pending; 1000];
        error = map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).err();
        for (key, state) in keys.iter().zip(&states) {
            let expected = *state == ItemState::Done;
            done += u64::from(expected);
            if error.is_some() {
                assert_eq!(map.exists(key, Wait::Allowed).unwrap(), expected);
            }
        }
        if error.is_some() {
            break;
        }
    }
    assert!(error.is_some(), "4 M entries fit into 4 MB");
    let error = error.unwrap();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(map.len(), done);
    // 12 bytes of header and 32 of key, in units of 16.
    assert_eq!(map.stats().live_bytes, done * 48, "a record that was given up counts as live");
    assert!(map.failure().is_ok());
    (0..done.min(20_000)).for_each(|n| assert!(map.exists(&key(n), Wait::Allowed).unwrap()));
    (error, done)
}

#[test]
fn an_insert_without_memory_inserts_nothing_and_harms_nothing() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let runtime = runtime("memoryBudget = 16M");
    let settings = small_settings(&dirs, "txMapTail = 12M\ntxMapSegment = 16M\n");
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    insert_until_refused(&map);
    // What makes room is used.
    let removed: Vec<TxId> = (0..1000).map(key).collect();
    let mut states = vec![ItemState::Pending; 1000];
    map.delete_batch(&removed, Wait::Allowed, &mut states).unwrap();
    let again = map.set(&removed[0], b"again", 0, Wait::Allowed);
    assert!(matches!(again, Ok(false) | Err(Error::OutOfMemory { .. })));
    map.flush().unwrap();
}

#[test]
fn an_index_stays_within_its_cap() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let runtime = runtime("");
    let open = |more: &str| DiskTxMap::open(&runtime, &small_settings(&dirs, more));
    let map = open("txMapIndexCap = 4M\n").unwrap();
    let (error, done) = insert_until_refused(&map);
    assert!(error.to_string().contains("txMapIndexCap"), "{error}");
    let index_bytes = map.stats().index_bytes;
    assert!((3 << 20..=4 << 20).contains(&index_bytes), "{index_bytes}");
    // Each content has the cap for itself.
    let old = map.rotate().unwrap();
    assert_eq!(insert(&map, done).unwrap(), Inserted::New);
    assert_eq!((old.len(), map.len()), (done, 1));
    drop((old, map));
    let error = open("txMapIndexCap = 4M\ntxMapExpectedEntries = 1000000\n").unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert!(error.to_string().contains("txMapIndexCap"), "{error}");
    assert_eq!(runtime.budget().used(), 0);
}

#[test]
fn a_reserve_of_the_index_is_taken_at_opening_and_used_first() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    // Without a thread that takes the piece behind the reserve in advance.
    let runtime = runtime("memoryBudget = 16M\nfaultAhead = off");
    let open = |more: &str| DiskTxMap::open(&runtime, &small_settings(&dirs, more));
    let used = |more: &str| {
        let map = open(more).unwrap();
        let opened = runtime.budget().used();
        for number in 0..150_000 {
            let inserted = map.set_if_not_exists(&key(number), b"", 0, Wait::Allowed, |_, _| ());
            assert_eq!(inserted.unwrap(), Inserted::New);
        }
        (opened, runtime.budget().used())
    };
    let (without, grown) = used("");
    assert!(grown - without > 1 << 20, "{without} {grown}: the index does not grow");
    let (opened, later) = used("txMapIndexReserve = 8M\n");
    assert_eq!(opened - without, 8 << 20);
    assert_eq!(later, opened, "memory was taken beside the reserve");
    let error = open("txMapIndexReserve = 32M\n").unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(runtime.budget().used(), 0);
}
