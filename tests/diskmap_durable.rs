//! Durable maps: what was synced is there after every kind of end, and nothing that was deleted
//! before comes back. Histories follow from seeds; a failure prints seed and step.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/run.rs"]
mod run;
#[path = "common/stores.rs"]
mod stores;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::storage::FaultStorage;
use blocktier::storage::fault::FaultOp;
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;
use run::{Run, check_one, content};
use stores::{STORE, copies, files, open_faulty_with, open_with};

fn open(dirs: &[TempDir]) -> blocktier::Result<DiskTxMap> {
    open_with(dirs, "")
}

fn open_faulty(dirs: &[TempDir]) -> (FaultStorage, blocktier::Result<DiskTxMap>) {
    open_faulty_with(dirs, "")
}

fn manifest(dir: &TempDir) -> PathBuf {
    dir.path().join(STORE).join("MANIFEST")
}

#[test]
fn histories_with_clean_ends_and_crashes() {
    for (seed, directories) in [(1, 1), (2, 2), (3, 3), (4, 1)] {
        let mut dirs = temp_dirs(directories);
        let mut run = Run::new(seed);
        let mut map = open(&dirs).unwrap();
        for round in 0..25 {
            println!("seed {seed}, round {round}");
            for _ in 0..run.rng.below(400) {
                run.step(&map);
            }
            if run.rng.below(8) == 0 {
                map.clear().unwrap();
                run.model.clear();
                // Durable by itself: nothing from before may come back.
                run.mark_synced();
            }
            let end = run.rng.below(3);
            let clean = end == 0;
            match end {
                0 => {
                    drop(map);
                    run.mark_synced();
                }
                1 => {
                    map.sync(Wait::Allowed).unwrap();
                    run.mark_synced();
                    // Another sync has nothing to do and changes nothing.
                    map.sync(Wait::Allowed).unwrap();
                    let copies = copies(&dirs);
                    drop(map);
                    dirs = copies;
                }
                _ => {
                    map.sync(Wait::Allowed).unwrap();
                    run.mark_synced();
                    for _ in 0..run.rng.below(200) {
                        run.step(&map);
                    }
                    if run.rng.below(2) == 0 {
                        map.flush().unwrap();
                    }
                    let copies = copies(&dirs);
                    drop(map);
                    dirs = copies;
                }
            }
            map = open(&dirs).unwrap();
            let recovery = map.recovery().unwrap();
            assert!(recovery.reopened);
            if clean {
                assert_eq!(recovery.segments_scanned, 0, "a clean end leaves summaries");
                assert_eq!(recovery.torn_bytes + recovery.segments_ignored, 0);
            }
            assert_eq!(recovery.entries, map.len());
            run.model = run.check_recovered(&map);
            run.mark_synced();
        }
    }
}

/// Any subset of the unsynced writes is lost.
#[test]
fn power_cuts_lose_nothing_synced() {
    for seed in 10..16 {
        let dirs = temp_dirs(1 + seed as usize % 2);
        let mut run = Run::new(seed);
        for round in 0..8 {
            println!("seed {seed}, round {round}");
            let (faults, map) = open_faulty(&dirs);
            let map = map.unwrap();
            run.model = run.check_recovered(&map);
            run.mark_synced();
            for _ in 0..run.rng.below(300) {
                run.step(&map);
            }
            map.sync(Wait::Allowed).unwrap();
            run.mark_synced();
            for _ in 0..run.rng.below(300) {
                run.step(&map);
            }
            map.flush().unwrap();
            // The close must not sync.
            faults.fail_all(FaultOp::Sync, 5);
            let mut rng = run.rng.clone();
            drop(map);
            faults.lose_unsynced(|_, _| rng.below(2) == 0).unwrap();
            run.rng.next();
        }
    }
}

#[test]
fn concurrent_writers_leave_what_they_saw() {
    let dirs = temp_dirs(2);
    let map = open(&dirs).unwrap();
    for round in 0..4u64 {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 10 + thread);
                    for _ in 0..3000 {
                        let k = key(rng.below(20));
                        let long = rng.below(60) == 0;
                        let value = value(rng.next(), if long { 9000 } else { 60 });
                        match rng.below(4) {
                            0 => drop(map.delete(&k, Wait::Allowed).unwrap()),
                            1 => drop(map.set(&k, &value, 0, Wait::Allowed).unwrap()),
                            _ => {
                                map.set_if_not_exists(&k, &value, 0, Wait::Allowed, |_, _| ())
                                    .unwrap();
                            }
                        }
                    }
                });
            }
            // Syncs run among the writers.
            scope.spawn(|| (0..10).for_each(|_| map.sync(Wait::Allowed).unwrap()));
        });
        map.sync(Wait::Allowed).unwrap();
        let copies = copies(&dirs);
        let reopened = open(&copies).unwrap();
        assert_eq!(content(&reopened), content(&map), "round {round}");
    }
}

/// A long record that does not fit ends its segment; nothing that others append meanwhile may lie
/// behind that end.
#[test]
fn nothing_follows_the_end_of_a_segment() {
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, "txMapCompaction = off\n").unwrap();
    for round in 0..2 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (map, done) = (&map, &done);
            for thread in 1..4 {
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 10 + thread);
                    while !done.load(Ordering::Relaxed) {
                        let (number, value) = (rng.below(250), value(rng.next(), 8));
                        map.set(&key(number), &value, 0, Wait::Allowed).unwrap();
                    }
                });
            }
            for step in 0..400 {
                let long = value(step, 30_000);
                map.set(&key(250 + step % 50), &long, 0, Wait::Allowed).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        map.sync(Wait::Allowed).unwrap();
        let reopened = open(&copies(&dirs)).unwrap();
        assert!(content(&reopened) == content(&map), "round {round}");
    }
}

#[test]
fn dead_segments_go_at_a_sync_and_deletions_outlive_them() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    let fill = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            map.set(&key(number), &value(number, 400), 0, Wait::Allowed).unwrap();
        }
    };
    // One key in the first segment stays; the others are deleted, then all that came after too.
    fill(0..1000);
    (1..1000).for_each(|number| assert!(map.delete(&key(number), Wait::Allowed).unwrap()));
    let segments = || {
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|end| end == "seg");
        files(&dirs[0]).iter().filter(is_segment).count()
    };
    let before = segments();
    assert!(before > 6, "nothing goes before a sync");
    map.sync(Wait::Allowed).unwrap();
    map.sync(Wait::Allowed).unwrap();
    let after = segments();
    assert!(after < before, "{after} of {before} files are left");
    let crashed = open(&copies(&dirs)).unwrap();
    assert_eq!(crashed.len(), 1);
    assert!(map.delete(&key(0), Wait::Allowed).unwrap());
    fill(1000..1400);
    (1000..1400).for_each(|number| assert!(map.delete(&key(number), Wait::Allowed).unwrap()));
    map.sync(Wait::Allowed).unwrap();
    map.sync(Wait::Allowed).unwrap();
    assert!(segments() <= 2, "tombstones of nothing are kept: {}", segments());
    assert_eq!(open(&copies(&dirs)).unwrap().len(), 0);
}

#[test]
fn faults_of_a_sync_fail_the_map_and_lose_nothing_synced() {
    for op in [FaultOp::Sync, FaultOp::Rename, FaultOp::Create, FaultOp::Write, FaultOp::SyncDir] {
        for nth in 1..6 {
            let dirs = temp_dirs(2);
            let (faults, map) = open_faulty(&dirs);
            let map = map.unwrap();
            let insert = |from: u64| {
                for number in from..from + 50 {
                    let value = value(number, 300);
                    map.set(&key(number), &value, 0, Wait::Allowed).unwrap();
                }
            };
            insert(0);
            map.sync(Wait::Allowed).unwrap();
            insert(50);
            faults.fail_nth(op, nth, 5);
            let failed = map.sync(Wait::Allowed);
            assert_eq!(failed.is_err(), faults.faults(op) > 0, "{op:?} {nth}");
            if failed.is_err() {
                // Never as if it could succeed the second time.
                assert!(matches!(map.sync(Wait::Allowed), Err(Error::Failed(_))), "{op:?} {nth}");
                assert!(map.set(&key(7), &[], 0, Wait::Allowed).is_err());
                assert!(map.delete(&key(7), Wait::Allowed).is_err());
                assert!(map.exists(&key(7), Wait::Allowed).unwrap());
            }
            faults.clear_rules();
            faults.fail_all(FaultOp::Sync, 5);
            drop(map);
            faults.lose_unsynced(|_, _| true).unwrap();
            let map = open(&dirs).unwrap();
            let synced = if failed.is_err() { 50 } else { 100 };
            for number in 0..synced {
                check_one(&map, number, Some(&value(number, 300)));
            }
        }
    }
}

#[test]
fn an_opening_that_fails_leaves_the_map_as_it_was() {
    let dirs = temp_dirs(2);
    let map = open(&dirs).unwrap();
    for number in 0..200 {
        map.set(&key(number), &value(number, 300), 0, Wait::Allowed).unwrap();
    }
    drop(map);
    let ops = [FaultOp::Open, FaultOp::Read, FaultOp::Rename, FaultOp::Sync, FaultOp::Create];
    for (op, nth) in ops.into_iter().flat_map(|op| (1..4).map(move |nth| (op, nth))) {
        let (faults, first) = open_faulty(&dirs);
        drop(first.unwrap());
        faults.fail_nth(op, nth, 5);
        let runtime = blocktier::settings::RuntimeSettings::default();
        let runtime = blocktier::runtime::Runtime::with_storage(
            &runtime,
            std::sync::Arc::new(faults.clone()),
        );
        let failed = DiskTxMap::open(&runtime.unwrap(), &stores::settings_with(&dirs, ""));
        // A summary that cannot be read is passed over.
        assert!(
            failed.is_err() || faults.faults(op) == 0 || op == FaultOp::Open || op == FaultOp::Read
        );
        drop(failed);
        let map = open(&dirs).unwrap();
        assert_eq!(map.len(), 200, "{op:?} {nth}");
        check_one(&map, 199, Some(&value(199, 300)));
    }
}

/// A rotation takes the content out of the store: it is read on as long as somebody holds it, and a
/// map that is opened again, after a kill too, has what came later.
#[test]
fn a_rotated_content_leaves_the_store() {
    let dirs = temp_dirs(2);
    let map = open(&dirs).unwrap();
    for number in 0..2000 {
        map.set(&key(number), &value(number, 90), 0, Wait::Allowed).unwrap();
    }
    map.sync(Wait::Allowed).unwrap();
    let old = map.rotate().unwrap();
    assert!(matches!(old.compact(), Err(Error::Frozen(_))));
    assert!(old.sync(Wait::Allowed).is_err(), "the old content is not the store's any more");
    for number in 1000..3000 {
        map.set(&key(number), &value(number + 1, 90), 0, Wait::Allowed).unwrap();
    }
    map.sync(Wait::Allowed).unwrap();
    map.compact().unwrap();
    let newer: HashMap<u64, Vec<u8>> = (1000..3000).map(|n| (n, value(n + 1, 90))).collect();
    let after_kill = open(&copies(&dirs)).unwrap();
    assert_eq!(after_kill.len(), 2000);
    for number in 0..3000 {
        check_one(&after_kill, number, newer.get(&number));
    }
    for number in 0..2000 {
        check_one(&old, number, Some(&value(number, 90)));
    }
    drop(map);
    for number in 0..2000 {
        check_one(&old, number, Some(&value(number, 90)));
    }
    drop(old);
    let again = open(&dirs).unwrap();
    assert_eq!(again.len(), 2000);
    for number in 0..3000 {
        check_one(&again, number, newer.get(&number));
    }
    for dir in &dirs {
        let stale = files(dir).into_iter().filter(|path| {
            path.file_name().unwrap().to_str().unwrap().split('-').nth(1) == Some("0000")
        });
        assert_eq!(stale.count(), 0, "files of the content that was rotated out are gone");
    }
}

#[test]
fn an_ephemeral_map_sweeps_no_durable_one() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    map.set(&key(1), b"one", 0, Wait::Allowed).unwrap();
    map.flush().unwrap();
    map.sync(Wait::Never).unwrap();
    let runtime = blocktier::runtime::Runtime::open(&Default::default()).unwrap();
    let ephemeral = |more: &str| DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    drop(ephemeral("txMapName = pool\n"));
    drop(map);
    let other = ephemeral("");
    let text = other.sync(Wait::Allowed).unwrap_err().to_string();
    assert!(text.contains("txMapDurability = durable"), "{text}");
    assert!(matches!(open(&dirs).unwrap().get(&key(1), Wait::Allowed, |_, _| ()), Ok(Some(()))));
    let nameless = "txMapDurability = durable\ntxMapDirs = /a";
    let error = blocktier::settings::TxMapSettings::parse(nameless).unwrap_err().to_string();
    assert!(error.contains("durable needs a txMapName"), "{error}");
}

fn refusal(dirs: &[TempDir]) -> String {
    open(dirs).unwrap_err().to_string()
}

#[test]
fn wrong_directories_are_refused() {
    let mut dirs = temp_dirs(2);
    let map = open(&dirs).unwrap();
    map.set(&key(1), b"one", 0, Wait::Allowed).unwrap();
    drop(map);
    dirs.swap(0, 1);
    assert!(refusal(&dirs).contains("is number 1 of the map's directories and stands as number 0"));
    dirs.swap(0, 1);
    assert!(refusal(&dirs[..1]).contains("belongs to a map of 2 directories, 1 are named"));
    dirs.push(tempfile::tempdir().unwrap());
    assert!(refusal(&dirs).contains("has no manifest, but other directories have"));
    dirs.pop();
    let other = temp_dirs(2);
    drop(open(&other).unwrap());
    let mut mixed = copies(&dirs);
    mixed[1] = copies(&other).remove(1);
    assert!(refusal(&mixed).contains("belongs to another map than"));
    let segment =
        small_settings(&dirs, "txMapSegment = 128K\ntxMapName = pool\ntxMapDurability = durable\n");
    let runtime = blocktier::runtime::Runtime::open(&Default::default()).unwrap();
    let error = DiskTxMap::open(&runtime, &segment).unwrap_err().to_string();
    assert!(error.contains("was made with 65536: set it so"), "{error}");
    let uneven = "txMapDirWeights = 1|2\ntxMapName = pool\ntxMapDurability = durable\n";
    let error = DiskTxMap::open(&runtime, &small_settings(&dirs, uneven)).unwrap_err().to_string();
    assert!(error.contains("was made with weight 1, not 2: set it so"), "{error}");
    let gone = copies(&dirs);
    std::fs::remove_file(manifest(&gone[0])).unwrap();
    assert!(refusal(&gone).contains("has no manifest"));
    let all_gone = copies(&dirs);
    all_gone.iter().for_each(|dir| std::fs::remove_file(manifest(dir)).unwrap());
    assert!(refusal(&all_gone).contains("a segment without a manifest"));
    let no_segment = copies(&dirs);
    for path in no_segment.iter().flat_map(files).filter(|path| !path.ends_with("MANIFEST")) {
        std::fs::remove_file(path).unwrap();
    }
    assert!(refusal(&no_segment).contains("the segment is missing"));
    // A newer format is named as such.
    let newer = copies(&dirs);
    let path = manifest(&newer[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16] = 3;
    std::fs::write(&path, bytes).unwrap();
    assert!(refusal(&newer).contains("format version 3, this library reads versions 1 and 2"));
    assert!(open(&dirs).is_ok(), "the refusals changed nothing");
}

/// Each byte of the manifest, of what was synced and of its summary, one of its bits flipped. With
/// a summary, damage of a record shows when it is read; without one, at opening.
#[test]
fn damage_is_an_error_and_never_another_value() {
    for summaries in [true, false] {
        let dirs = temp_dirs(1);
        let map = open(&dirs).unwrap();
        for number in 0..8 {
            map.set(&key(number), &value(number, 100), 0, Wait::Allowed).unwrap();
        }
        assert!(map.delete(&key(3), Wait::Allowed).unwrap());
        drop(map);
        let is_summary = |path: &PathBuf| path.extension().is_some_and(|end| end == "sum");
        assert_eq!(files(&dirs[0]).len(), 3);
        if !summaries {
            let summary = files(&dirs[0]).into_iter().find(is_summary);
            std::fs::remove_file(summary.unwrap()).unwrap();
        }
        let (mut refused, mut unread) = (0, 0);
        for (file, path) in files(&dirs[0]).iter().enumerate() {
            let original = std::fs::read(path).unwrap();
            let end = original.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            for at in (0..end).filter(|at| *at < 200 || *at > 4060 || at % 64 == 0) {
                let damaged = copies(&dirs);
                let path = &files(&damaged[0])[file];
                let mut bytes = original.clone();
                bytes[at] ^= 1 << (at % 8);
                std::fs::write(path, bytes).unwrap();
                match check_damaged(&damaged, path) {
                    Ok(damaged_records) => unread += damaged_records,
                    Err(()) => refused += 1,
                }
            }
        }
        // The manifest and, without a summary, all of the segment's records.
        assert!(refused > if summaries { 100 } else { 1000 }, "{refused}");
        assert_eq!(unread > 0, summaries, "{unread}");
    }
}

/// How many records of a map with a flipped bit in this file cannot be read; `Err` if it is not
/// opened. All others are what they were.
fn check_damaged(dirs: &[TempDir], damaged: &std::path::Path) -> Result<u32, ()> {
    let names_it = |error: &Error| match error {
        Error::Corrupt { path, .. } => path.file_name() == damaged.file_name(),
        Error::Unsupported(text) => text.contains("format version"),
        _ => false,
    };
    let map = open(dirs).map_err(|error| assert!(names_it(&error), "{error}"))?;
    assert_eq!(map.len(), 7, "{}", damaged.display());
    let mut unread = 0;
    for number in 0..8 {
        match map.get(&key(number), Wait::Allowed, |found, _| found.to_vec()) {
            Ok(found) => assert_eq!(found, (number != 3).then(|| value(number, 100))),
            Err(error) => {
                assert!(names_it(&error), "{error}");
                unread += 1;
            }
        }
    }
    Ok(unread)
}
