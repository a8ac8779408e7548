//! Compaction of durable maps: histories with merges under every kind of end, an end at every
//! operation on the disk that a merge and the syncs around it make, faults of each, the space that
//! comes back, and what keeps tombstones.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and say where they are"
)]

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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::diskmap::compaction::{Backpressure, Thresholds};
use blocktier::storage::FaultStorage;
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::temp_dirs;
use records::{key, value};
use rng::Rng;
use run::{Run, check_one, content};
use stores::{copies, files, open_faulty_with, open_with};

const EIO: i32 = 5;
/// Compaction by call alone: the background has nothing to say.
const BY_CALL: &str = "txMapCompaction = off\n";
/// Everything with dead bytes is merged, by call alone.
const EAGER: &str = "txMapCompaction = off\ntxMapCompactionSpace = 0\n";
/// The background merges whatever is worth it.
const BACKGROUND: &str = "txMapCompaction = on\ntxMapCompactionMinWidth = 2\n\
                          txMapCompactionSpace = 20\n";
/// What changes a disk.
const CHANGES: [FaultOp; 7] = [
    FaultOp::Create,
    FaultOp::Allocate,
    FaultOp::Write,
    FaultOp::Sync,
    FaultOp::Rename,
    FaultOp::SyncDir,
    FaultOp::RemoveFile,
];

fn set(map: &DiskTxMap, number: u64, value: &[u8]) {
    map.set(&key(number), value, 0, Wait::Allowed).unwrap();
}

fn delete(map: &DiskTxMap, number: u64) {
    assert!(map.delete(&key(number), Wait::Allowed).unwrap());
}

fn text(number: u64) -> Vec<u8> {
    value(number, 200 + number as usize % 100)
}

fn sync(map: &DiskTxMap) {
    map.sync(Wait::Allowed).unwrap();
}

fn segments(dirs: &[TempDir]) -> usize {
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "seg");
    dirs.iter().flat_map(files).filter(is_segment).count()
}

fn merges(map: &DiskTxMap) -> u64 {
    map.stats().compactions
}

// Histories

/// Operations with merges among them, then an end: clean, a kill, a power cut that loses half of
/// what was not synced. Returns how many merges there were.
fn history(seed: u64, directories: usize, more: &str) -> u64 {
    let mut dirs = temp_dirs(directories);
    let mut run = Run::new(seed);
    run.merges = true;
    let mut merged = 0;
    for round in 0..14 {
        println!("seed {seed}, round {round}");
        let (faults, map) = open_faulty_with(&dirs, more);
        let map = map.unwrap();
        assert_eq!(map.recovery().unwrap().entries, map.len());
        run.model = run.check_recovered(&map);
        run.mark_synced();
        for part in 0..2 {
            for _ in 0..run.rng.below(500) {
                run.step(&map);
            }
            if part == 0 {
                sync(&map);
                run.mark_synced();
            }
            if run.rng.below(2) == 0 {
                map.compact().unwrap();
            }
        }
        if run.rng.below(6) == 0 {
            map.clear().unwrap();
            run.model.clear();
            run.mark_synced();
        }
        map.flush().unwrap();
        assert_eq!((map.stats().failed, map.stats().damaged_segments), (0, 0));
        merged += merges(&map);
        match run.rng.below(3) {
            0 => {
                drop(map);
                run.mark_synced();
            }
            1 => {
                let copies = copies(&dirs);
                drop(map);
                dirs = copies;
            }
            _ => {
                // The close must not sync.
                faults.fail_all(FaultOp::Sync, EIO);
                drop(map);
                let mut rng = run.rng.clone();
                faults.lose_unsynced(|_, _| rng.below(2) == 0).unwrap();
                run.rng.next();
            }
        }
    }
    merged
}

#[test]
fn histories_with_merges_by_call() {
    for seed in 0..6 {
        assert!(history(seed, 1 + seed as usize % 3, EAGER) > 20);
    }
}

#[test]
fn histories_with_the_background_merging() {
    let merged: u64 = (10..14).map(|seed| history(seed, 1 + seed as usize % 2, BACKGROUND)).sum();
    assert!(merged > 20, "{merged}");
}

#[test]
fn writers_merges_and_syncs_at_the_same_time() {
    let dirs = temp_dirs(2);
    let map = open_with(&dirs, EAGER).unwrap();
    for round in 0..4u64 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = |thread: u64| {
                let mut rng = Rng::new(round * 10 + thread);
                for _ in 0..2500 {
                    let number = rng.below(100);
                    let value = value(rng.next(), if rng.below(60) == 0 { 9000 } else { 300 });
                    match rng.below(4) {
                        0 => drop(map.delete(&key(number), Wait::Allowed).unwrap()),
                        _ => set(&map, number, &value),
                    }
                }
            };
            let writers: Vec<_> =
                (0..3).map(|thread| scope.spawn(move || writer(thread))).collect();
            for task in [DiskTxMap::compact_now, DiskTxMap::sync_now] {
                let (done, map) = (&done, &map);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        task(map);
                    }
                });
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        map.compact().unwrap();
        sync(&map);
        let reopened = open_with(&copies(&dirs), BY_CALL).unwrap();
        assert_eq!(content(&reopened), content(&map), "round {round}");
    }
    assert!(merges(&map) > 0);
}

trait Tasks {
    fn compact_now(&self);
    fn sync_now(&self);
}

impl Tasks for DiskTxMap {
    fn compact_now(&self) {
        self.compact().unwrap();
    }

    fn sync_now(&self) {
        sync(self);
    }
}

// Every step

type Content = HashMap<u64, Vec<u8>>;
/// What keys may have become since.
type Later = HashMap<u64, Option<Vec<u8>>>;

/// A map whose synced state has everything that a merge meets: records that are live, overwritten
/// and deleted, long ones with their commits apart, tombstones.
struct Small {
    dirs: Vec<TempDir>,
    faults: FaultStorage,
    map: DiskTxMap,
    synced: Content,
}

const SMALL: u64 = 240;

/// Directories of a file system in RAM, if there is one: what a sync does is the faults' affair,
/// and there are thousands of them.
fn fast_dirs(count: usize) -> Vec<TempDir> {
    let in_ram = |_| tempfile::tempdir_in("/dev/shm");
    (0..count).map(in_ram).collect::<std::io::Result<_>>().unwrap_or_else(|_| temp_dirs(count))
}

impl Small {
    fn new() -> Self {
        let dirs = fast_dirs(1);
        let (faults, map) = open_faulty_with(&dirs, EAGER);
        let map = map.unwrap();
        let long = |number: u64| value(number, 9000 + number as usize * 40);
        for number in 0..SMALL {
            let is_long = number % 30 == 7;
            set(&map, number, &if is_long { long(number) } else { text(number) });
        }
        let mut synced: Content = (0..SMALL).map(|number| (number, text(number))).collect();
        (7..SMALL).step_by(30).for_each(|number| drop(synced.insert(number, long(number))));
        sync(&map);
        for number in 0..SMALL {
            match number % 30 {
                0..5 => {}
                5..8 if number < 120 => {
                    set(&map, number, &long(number + 1));
                    synced.insert(number, long(number + 1));
                }
                5..10 => {}
                10..14 => {
                    set(&map, number, &text(number + 1));
                    synced.insert(number, text(number + 1));
                }
                _ => {
                    delete(&map, number);
                    synced.remove(&number);
                }
            }
        }
        sync(&map);
        Self { dirs, faults, map, synced }
    }

    /// Merges, syncs, changes, merges and syncs until something fails. Returns what was synced, and
    /// what may be there instead.
    fn work(&self) -> (Content, Later) {
        let (map, mut synced) = (&self.map, self.synced.clone());
        let mut later = Later::new();
        let mut work = || -> blocktier::Result<()> {
            map.compact()?;
            map.sync(Wait::Allowed)?;
            for number in 0..20 {
                let new = (number % 3 > 0).then(|| text(number + 2));
                later.insert(number, new.clone());
                match &new {
                    Some(value) => drop(map.set(&key(number), value, 0, Wait::Allowed)?),
                    None => drop(map.delete(&key(number), Wait::Allowed)?),
                }
            }
            map.compact()?;
            map.sync(Wait::Allowed)?;
            for (number, value) in later.drain() {
                match value {
                    Some(value) => drop(synced.insert(number, value)),
                    None => drop(synced.remove(&number)),
                }
            }
            map.sync(Wait::Allowed)
        };
        let outcome = work();
        assert!(!matches!(outcome, Err(Error::Corrupt { .. })), "{outcome:?}");
        (synced, later)
    }
}

fn check_state(map: &DiskTxMap, synced: &Content, later: &Later, what: &str) {
    for number in 0..SMALL {
        let found = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        let may_be = later.get(&number).is_some_and(|later| *later == found);
        assert!(may_be || found.as_ref() == synced.get(&number), "{what}, record {number}");
    }
}

/// Operation `nth` on the disk and all that follow do not happen; then what was not synced is lost,
/// all of it, none, or some.
#[test]
fn an_end_at_every_operation_of_a_merge() {
    for lose in 0..3u64 {
        let mut ended = 0;
        for nth in 0.. {
            let Small { dirs, faults, map, synced } = Small::new();
            let count = Arc::new(AtomicU64::new(0));
            for op in CHANGES {
                let count = Arc::clone(&count);
                let rule = FaultRule::new(op, Fault::Errno(EIO));
                faults.add(rule.on(move |_| count.fetch_add(1, Ordering::Relaxed) >= nth));
            }
            let small = Small { dirs, faults, map, synced };
            let (synced, later) = small.work();
            let total = count.load(Ordering::Relaxed);
            let Small { dirs, faults, map, .. } = small;
            // Whatever it is asked, it has its content while it lives.
            faults.fail_all(FaultOp::Sync, EIO);
            drop(map);
            let mut rng = Rng::new(nth);
            faults.lose_unsynced(|_, _| lose == 0 || lose == 2 && rng.below(2) == 0).unwrap();
            let what = format!("end at {nth}, lost {lose}");
            println!("{what} of {total}");
            let map = open_with(&dirs, EAGER).unwrap();
            check_state(&map, &synced, &later, &what);
            // Merged again, closed and opened again: nothing comes back.
            let content: Vec<_> = (0..SMALL).map(|number| peek(&map, number)).collect();
            map.compact().unwrap();
            sync(&map);
            drop(map);
            let map = open_with(&dirs, EAGER).unwrap();
            for (number, before) in (0..).zip(content) {
                assert!(peek(&map, number) == before, "{what}, record {number}, merged again");
            }
            if total <= nth {
                ended = nth;
                break;
            }
        }
        assert!(ended > 30, "{ended} operations only");
    }
}

fn peek(map: &DiskTxMap, number: u64) -> Option<Vec<u8>> {
    map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap()
}

/// One operation fails. Whatever was acknowledged is there as long as the map lives, and what was
/// synced afterwards.
#[test]
fn each_operation_of_a_merge_fails_once() {
    for op in CHANGES {
        let mut failed = 0;
        for nth in 1.. {
            let small = Small::new();
            small.faults.fail_nth(op, nth, EIO);
            let (synced, later) = small.work();
            let happened = small.faults.faults(op) > 0;
            let what = format!("{op:?} {nth}");
            // What cannot be removed is left for the next opening; everything else fails the map.
            let is_failed = small.map.failure().is_err();
            let by_summary = matches!(op, FaultOp::Create | FaultOp::Write);
            assert!(is_failed == happened || op == FaultOp::RemoveFile || by_summary, "{what}");
            check_state(&small.map, &synced, &later, &what);
            let Small { dirs, faults, map, .. } = small;
            faults.clear_rules();
            faults.fail_all(FaultOp::Sync, EIO);
            drop(map);
            faults.lose_unsynced(|_, _| true).unwrap();
            let map = open_with(&dirs, EAGER).unwrap();
            check_state(&map, &synced, &later, &what);
            if !happened {
                break;
            }
            failed += 1;
        }
        assert!(failed > 0, "{op:?}");
    }
}

// Space

#[test]
fn a_map_without_dead_records_causes_no_write() {
    let dirs = temp_dirs(1);
    let more = "txMapCompactionMinWidth = 2\ntxMapCompactionSpace = 1\ntxMapFlushAge = 0\n";
    let (faults, map) = open_faulty_with(&dirs, more);
    let map = map.unwrap();
    let mut number = 0;
    while map.stats().segments < 101 {
        set(&map, number, &text(number));
        number += 1;
    }
    sync(&map);
    // The writer thread works in turn: what is written now comes after the summaries.
    set(&map, number, &text(number));
    number += 1;
    map.flush().unwrap();
    let calls = |faults: &FaultStorage| CHANGES.map(|op| faults.calls(op));
    let before = calls(&faults);
    for _ in 0..3 {
        map.compact().unwrap();
    }
    map.flush().unwrap();
    assert_eq!(calls(&faults), before);
    let stats = map.stats();
    assert_eq!((stats.compactions, stats.compaction_bytes_read), (0, 0));
    assert_eq!((stats.compaction_bytes_written, stats.pending_compaction_bytes), (0, 0));
    drop(map);
    let (_, map) = open_faulty_with(&dirs, "");
    let map = map.unwrap();
    map.compact().unwrap();
    assert_eq!((map.len(), map.stats().compaction_bytes_written), (number, 0));
}

/// Fills some segments and deletes four of five records.
fn fill_and_kill(map: &DiskTxMap, records: u64) {
    (0..records).for_each(|number| set(map, number, &text(number)));
    map.flush().unwrap();
    (0..records).filter(|number| number % 5 != 0).for_each(|number| delete(map, number));
}

fn check_survivors(map: &DiskTxMap, records: u64) {
    assert_eq!(map.len(), records.div_ceil(5));
    for number in 0..records {
        let expected = (number % 5 == 0).then(|| text(number));
        check_one(map, number, expected.as_ref());
    }
}

#[test]
fn space_comes_back_at_the_sync_after_a_merge_and_not_before() {
    for reopen in [false, true] {
        let dirs = temp_dirs(1);
        let mut map = open_with(&dirs, BY_CALL).unwrap();
        fill_and_kill(&map, 3000);
        sync(&map);
        if reopen {
            drop(map);
            map = open_with(&dirs, BY_CALL).unwrap();
        }
        let before = segments(&dirs);
        map.compact().unwrap();
        map.flush().unwrap();
        assert!(merges(&map) > 0 && segments(&dirs) >= before, "a source went before its copies");
        // A kill now finds sources and copies, in whatever state.
        check_survivors(&open_with(&copies(&dirs), BY_CALL).unwrap(), 3000);
        sync(&map);
        let stats = map.stats();
        // Tombstones need no file any more either: what they ruled over is gone.
        let allowed = 3 * stats.live_bytes.div_ceil(65_536) as usize + 2;
        let after = segments(&dirs);
        assert!(before > 2 * after && after <= allowed, "{before} files, then {after}");
        check_survivors(&map, 3000);
        check_survivors(&open_with(&copies(&dirs), BY_CALL).unwrap(), 3000);
        drop(map);
        check_survivors(&open_with(&dirs, BY_CALL).unwrap(), 3000);
    }
}

/// An old segment whose records are all live holds no tombstone of others back.
#[test]
fn old_live_segments_keep_no_tombstones() {
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, BY_CALL).unwrap();
    (0..300).for_each(|number| set(&map, number, &text(number)));
    // Whole segments of records that come and go.
    for turn in 0..4 {
        let numbers = || 1000 + turn * 1000..1800 + turn * 1000;
        numbers().for_each(|number| set(&map, number, &text(number)));
        numbers().for_each(|number| delete(&map, number));
    }
    map.compact().unwrap();
    let written = map.stats().compaction_bytes_written;
    assert!(written < 40_000, "the old records were moved: {written}");
    sync(&map);
    sync(&map);
    assert!(segments(&dirs) < 6, "{} files", segments(&dirs));
    let after_kill = open_with(&copies(&dirs), BY_CALL).unwrap();
    assert_eq!(after_kill.len(), 300);
}

/// One superseded record in an old segment keeps all tombstones behind it. Once these take too much
/// space, the segment is merged although it is hardly dead; and the record does not come back.
#[test]
fn what_keeps_tombstones_is_merged_when_they_take_too_much_space() {
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, BY_CALL).unwrap();
    (0..300).for_each(|number| set(&map, number, &text(number)));
    delete(&map, 5);
    let come_and_go = |from: u64| {
        (from..from + 500).for_each(|number| set(&map, number, &text(number)));
        (from..from + 500).for_each(|number| delete(&map, number));
    };
    let mut most = 0;
    for turn in 1..40 {
        come_and_go(turn * 1000);
        sync(&map);
        // Before and after: what is not there must not come back in either state.
        for _ in 0..2 {
            let after_kill = open_with(&copies(&dirs), BY_CALL).unwrap();
            assert_eq!(after_kill.len(), 299);
            check_one(&after_kill, 5, None);
            map.compact().unwrap();
            sync(&map);
        }
        most = most.max(segments(&dirs));
    }
    // 24 kB of tombstones a turn; without the merge all of them are kept.
    assert!(most < 12, "{most} files");
    assert!(map.stats().compaction_bytes_written > 60_000);
}

/// The commit of a live long record is all that is live in its segment: the segment stays until the
/// commit was written anew, and the record with its old bytes is found by the new one.
#[test]
fn a_commit_outlives_its_segment() {
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, EAGER).unwrap();
    // It fills its segment; the commit lies in the next one.
    let long = value(9, map.value_bytes_max());
    (0..40).for_each(|number| set(&map, number, &text(number)));
    set(&map, 1000, &long);
    (100..800).for_each(|number| set(&map, number, &text(number)));
    (0..40).for_each(|number| delete(&map, number));
    (100..800).for_each(|number| delete(&map, number));
    for _ in 0..3 {
        sync(&map);
        let after_kill = open_with(&copies(&dirs), EAGER).unwrap();
        assert_eq!(after_kill.len(), 1);
        check_one(&after_kill, 1000, Some(&long));
        map.compact().unwrap();
    }
    let written = map.stats().compaction_bytes_written;
    assert!(written > 0 && written < 10_000, "the record itself was moved: {written}");
    assert!(segments(&dirs) <= 4, "{} files", segments(&dirs));
    delete(&map, 1000);
    sync(&map);
    assert_eq!(open_with(&copies(&dirs), EAGER).unwrap().len(), 0);
}

/// A map that is not synced is compacted no further once more waits for that than is live; writers
/// do not wait for what a sync alone can do.
#[test]
fn without_a_sync_the_background_rests() {
    let stop = Thresholds { slowdown: None, stop: Some(1), max_delay: Duration::ZERO };
    let more = "txMapCompactionTarget = 64K\ntxMapCompactionRate = 64K\n";
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, more).unwrap();
    (0..6000).for_each(|number| set(&map, number, &text(number)));
    map.flush().unwrap();
    // Whole segments are dead, which no merge has to do with, and others in part.
    (0..4000).for_each(|number| delete(&map, number));
    (4000..6000).filter(|number| number % 5 != 0).for_each(|number| delete(&map, number));
    map.flush().unwrap();
    map.set_backpressure(stop).unwrap();
    assert_eq!((map.backpressure(), map.stats().pending_compaction_bytes), (Backpressure::None, 0));
    sync(&map);
    assert!(map.stats().pending_compaction_bytes > 0);
    assert_eq!(map.backpressure(), Backpressure::Stop);
}

/// A merge that ends in the middle of a segment leaves the originals of what it has moved there.
/// They keep the tombstones of their copies, also when the copies' own segments are gone.
#[test]
fn half_a_merge_brings_nothing_back() {
    for reopen in [false, true] {
        let dirs = fast_dirs(1);
        let flip = |faults: &FaultStorage| {
            let rule = FaultRule::new(FaultOp::Read, Fault::FlipBits { offset: 40_000, mask: 1 });
            let is_first = |path: &std::path::Path| path.ends_with("000-0000-00000000.seg");
            faults.add(rule.on(move |access| is_first(access.path)));
        };
        let (faults, map) = open_faulty_with(&dirs, EAGER);
        let mut map = map.unwrap();
        (0..50).for_each(|number| set(&map, number, &text(number)));
        // Padding, so that there is something dead in it.
        map.flush().unwrap();
        (50..400).for_each(|number| set(&map, number, &text(number)));
        sync(&map);
        flip(&faults);
        assert!(matches!(map.compact(), Err(Error::Corrupt { .. })));
        let moved = map.stats().compaction_bytes_written;
        assert!(moved > 20_000, "{moved}");
        sync(&map);
        if reopen {
            drop(map);
            let (faults, again) = open_faulty_with(&dirs, EAGER);
            flip(&faults);
            map = again.unwrap();
        }
        (0..40).for_each(|number| delete(&map, number));
        // The tombstones' segment has nothing live, and the copies' is merged.
        for turn in 1..4 {
            let numbers = || turn * 1000..turn * 1000 + 300;
            numbers().for_each(|number| set(&map, number, &text(number)));
            numbers().for_each(|number| delete(&map, number));
            match map.compact() {
                Ok(()) | Err(Error::Corrupt { .. }) => {}
                outcome => outcome.unwrap(),
            }
            sync(&map);
        }
        assert_eq!(open_with(&copies(&dirs), BY_CALL).unwrap().len(), 360, "reopen {reopen}");
        let first = format!("{}/000-0000-00000000.seg", stores::STORE);
        assert!(dirs[0].path().join(first).exists(), "it was merged after all");
    }
}

/// Where copies would break a directory's quota there is no merge, and no failed map; after a sync
/// has given the first sources back there is room for the next.
#[test]
fn a_quota_refuses_a_merge_and_not_the_map() {
    let dirs = temp_dirs(1);
    let map = open_with(&dirs, "txMapCompaction = off\ntxMapDirQuotas = 1216K\n").unwrap();
    fill_and_kill(&map, 3000);
    map.flush().unwrap();
    let mut refused = 0;
    while let Err(error) = map.compact() {
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("txMapDirQuotas"), "{error}");
        map.failure().unwrap();
        sync(&map);
        refused += 1;
        assert!(refused < 100, "a sync makes no room");
    }
    assert!(refused > 0 && merges(&map) > 0);
    sync(&map);
    assert!(segments(&dirs) < 9, "{} files", segments(&dirs));
    check_survivors(&map, 3000);
}

/// Records in the tail whose files are still to be made need room, too: a merge does not take it,
/// however far the writer is behind.
#[test]
fn a_merge_leaves_room_for_what_is_not_written_yet() {
    let dirs = temp_dirs(1);
    let more = "txMapCompaction = off\ntxMapDirQuotas = 1280K\n";
    let (faults, map) = open_faulty_with(&dirs, more);
    let map = map.unwrap();
    fill_and_kill(&map, 3000);
    map.flush().unwrap();
    // Of 20 files three are left; two more segments are opened, and neither can be made now.
    let made = segments(&dirs);
    assert_eq!(made, 17, "the quota is to leave room for three");
    let gate = faults.close_gate(FaultOp::Create);
    let (opened, mut number) = (map.stats().segments, 3000);
    while map.stats().segments < opened + 2 {
        set(&map, number, &text(number));
        number += 1;
    }
    assert_eq!(segments(&dirs), made);
    let refused = map.compact().unwrap_err();
    assert!(refused.to_string().contains("txMapDirQuotas"), "{refused}");
    gate.open();
    map.flush().unwrap();
    map.failure().unwrap();
    assert_eq!((segments(&dirs), merges(&map)), (19, 0));
    for number in 0..number {
        let expected = (number % 5 == 0 || number >= 3000).then(|| text(number));
        check_one(&map, number, expected.as_ref());
    }
}
