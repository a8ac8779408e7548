//! Compaction against a plain map: random histories with merges forced between the operations, and
//! threads that write, read and delete while merges run; what it must not do (write where nothing
//! is dead, lose anything to a fault, believe damaged bytes), the space it keeps, how it ends, and
//! how writers wait for it.
//!
//! Merges are forced by `compact`, or waited for by what they bring about; no outcome depends on
//! how fast anything is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blocktier::Error;
use blocktier::diskmap::compaction::{Backpressure, Thresholds};
use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

const EIO: i32 = 5;
/// Compaction by call alone: the background has nothing to say.
const BY_CALL: &str = "txMapCompaction = off\n";
/// Everything with dead bytes is merged.
const EAGER: &str = "txMapCompactionSpace = 0\n";

struct Setup {
    // In the order in which they go: map, runtime, directories.
    map: DiskTxMap,
    faults: FaultStorage,
    runtime: Runtime,
    dirs: Vec<TempDir>,
}

fn open(directories: usize, more: &str) -> Setup {
    let dirs = temp_dirs(directories);
    let settings = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&settings)));
    let runtime = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    Setup { map, faults, runtime, dirs }
}

impl Setup {
    fn segment_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .map
            .directories()
            .flat_map(|directory| std::fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        files.sort();
        files
    }

    /// Bytes on the disks, once the removals that were queued are done.
    fn disk_bytes(&self) -> u64 {
        for disk in self.runtime.disks() {
            let (done, wait) = std::sync::mpsc::channel();
            disk.submit(Box::new(move || done.send(()).unwrap()));
            wait.recv().unwrap();
        }
        let blocks = |path: &PathBuf| std::fs::metadata(path).map_or(0, |data| data.blocks());
        self.segment_files().iter().map(|path| blocks(path) * 512).sum()
    }
}

/// Calls until it does not time out: some tests have a short timeout.
fn patiently<R>(call: impl Fn() -> blocktier::Result<R>) -> R {
    loop {
        match call() {
            Err(Error::TimedOut { .. }) => {}
            outcome => return outcome.unwrap(),
        }
    }
}

fn insert(map: &DiskTxMap, number: u64, value: &[u8]) {
    let inserted =
        patiently(|| map.set_if_not_exists(&key(number), value, 0, Wait::Allowed, |_, _| ()));
    assert_eq!(inserted, Inserted::New, "{number}");
}

fn get(map: &DiskTxMap, number: u64) -> Option<(Vec<u8>, u16)> {
    map.get(&key(number), Wait::Allowed, |value, index| (value.to_vec(), index)).unwrap()
}

fn text(number: u64) -> Vec<u8> {
    value(number, 200 + number as usize % 100)
}

/// Fills some segments and kills four of five records in them.
fn fill_and_kill(map: &DiskTxMap, records: u64) {
    for number in 0..records {
        insert(map, number, &text(number));
    }
    patiently(|| map.flush());
    for number in (0..records).filter(|number| number % 5 != 0) {
        assert!(map.delete(&key(number), Wait::Allowed).unwrap());
    }
}

fn check_survivors(map: &DiskTxMap, records: u64) {
    for number in 0..records {
        let expected = (number % 5 == 0).then(|| (text(number), 0));
        assert!(get(map, number) == expected, "record {number}");
    }
}

// Histories

type Model = HashMap<u64, (Vec<u8>, u16)>;

struct History<'a> {
    map: &'a DiskTxMap,
    model: Model,
    rng: Rng,
    universe: u64,
    seed: u64,
}

impl History<'_> {
    fn random_value(&mut self) -> Vec<u8> {
        let length = match self.rng.below(100) {
            0..=9 => 0,
            10..=79 => 30 + self.rng.below(300),
            80..=93 => self.rng.below(8000),
            94..=98 => 8192 + self.rng.below(12 << 10),
            _ => self.rng.below(self.map.value_bytes_max() as u64 + 1),
        };
        value(self.rng.next(), length as usize)
    }

    fn step(&mut self) {
        let number = self.rng.below(self.universe);
        let (id, place) = (key(number), Wait::Allowed);
        match self.rng.below(1000) {
            0..200 => {
                let (value, index) = (self.random_value(), self.rng.below(3) as u16);
                let inserted =
                    self.map.set_if_not_exists(&id, &value, index, place, |v, i| (v.to_vec(), i));
                match inserted.unwrap() {
                    Inserted::New => {
                        assert!(self.model.insert(number, (value, index)).is_none());
                    }
                    Inserted::Present(there) => assert!(self.model.get(&number) == Some(&there)),
                }
            }
            200..450 => {
                let (value, index) = (self.random_value(), self.rng.below(3) as u16);
                let replaced = self.map.set(&id, &value, index, place).unwrap();
                assert_eq!(replaced, self.model.insert(number, (value, index)).is_some());
            }
            450..700 => {
                let removed = self.map.delete(&id, place).unwrap();
                assert_eq!(removed, self.model.remove(&number).is_some());
            }
            700..760 => {
                let index = self.rng.next() as u16;
                let found = self.map.update_subtree_index(&id, index, place).unwrap();
                let entry = self.model.get_mut(&number).map(|entry| entry.1 = index);
                assert_eq!(found, entry.is_some());
            }
            760..900 => assert!(get(self.map, number) == self.model.get(&number).cloned()),
            900..930 => {
                let found = self.map.exists(&id, place).unwrap();
                assert_eq!(found, self.model.contains_key(&number));
            }
            930..960 => self.map.flush().unwrap(),
            960..998 => self.map.compact().unwrap(),
            _ => {
                self.map.clear().unwrap();
                self.model.clear();
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.map.len(), self.model.len() as u64);
        for number in 0..self.universe {
            let (found, expected) = (get(self.map, number), self.model.get(&number));
            assert!(found.as_ref() == expected, "seed {}, record {number}", self.seed);
        }
        let live: usize = self
            .model
            .values()
            .map(|(value, _)| (12 + 32 + value.len()).next_multiple_of(16))
            .sum();
        // A record that the background moves just now counts twice.
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.map.stats().live_bytes != live as u64 {
            assert!(Instant::now() < deadline, "seed {}: live bytes", self.seed);
            std::thread::yield_now();
        }
    }
}

/// Returns how many merges there were.
fn history(seed: u64, directories: usize, steps: u64, more: &str) -> u64 {
    let setup = open(directories, more);
    let (map, rng) = (&setup.map, Rng::new(seed));
    let mut history = History { map, model: Model::new(), rng, universe: 600, seed };
    for step in 0..steps {
        history.step();
        if step % 1000 == 999 {
            history.check();
        }
    }
    history.check();
    let stats = setup.map.stats();
    assert_eq!((stats.failed, stats.damaged_segments), (0, 0));
    setup.map.flush().unwrap();
    stats.compactions
}

#[test]
fn histories_with_eager_merges() {
    for seed in 0..4 {
        let more = format!("{BY_CALL}{EAGER}");
        assert!(history(seed, 1 + seed as usize % 3, 4000, &more) > 10);
    }
}

#[test]
fn histories_with_thresholds_and_the_background_running() {
    let more = "txMapCompactionMinWidth = 2\ntxMapCompactionSpace = 60\n";
    let merges: u64 = (10..13).map(|seed| history(seed, 1, 4000, more)).sum();
    assert!(merges > 0);
}

#[test]
fn histories_with_the_background_merging_whatever_it_finds() {
    let merges: u64 = (20..23).map(|seed| history(seed, 2, 4000, EAGER)).sum();
    assert!(merges > 0);
}

// Threads

#[test]
fn readers_writers_and_deleters_while_merges_run() {
    const KEYS: u64 = 400;
    const THREADS: u64 = 3;
    let setup = open(2, EAGER);
    let map = &setup.map;
    // Each key has one writer, which alone knows what is in the map; what readers see must be some
    // value that was written for the key, and a stable key must never be missing.
    for number in 0..KEYS {
        insert(map, number << 32, &value(number, 300));
    }
    let (done, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let models: Vec<Model> = std::thread::scope(|scope| {
        for reader in 0..2 {
            let (done, seen) = (&done, &seen);
            scope.spawn(move || {
                let mut rng = Rng::new(900 + reader);
                while !done.load(Ordering::Relaxed) {
                    let number = rng.below(KEYS);
                    let stable = map
                        .get(&key(number << 32), Wait::Allowed, |found, _| {
                            found == value(number, 300)
                        })
                        .unwrap();
                    assert_eq!(stable, Some(true), "stable record {number}");
                    let number = 1 + rng.below(THREADS * KEYS);
                    let found = get(map, number);
                    if let Some((bytes, index)) = found {
                        let version = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                        assert!(bytes[8..] == value(number ^ version << 20, bytes.len() - 8));
                        assert_eq!(u64::from(index), version % 1000);
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                map.compact().unwrap();
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || write_versions(map, thread, THREADS, KEYS)))
            .collect();
        let models = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        models
    });
    assert!(seen.load(Ordering::Relaxed) > 0 && map.stats().compactions > 0);
    let model: Model = models.into_iter().flatten().collect();
    for number in 1..=THREADS * KEYS {
        assert!(get(map, number) == model.get(&number).cloned(), "record {number}");
    }
    assert_eq!(map.len(), model.len() as u64 + KEYS);
}

/// Writes, overwrites and deletes the keys `1 + thread`, `1 + thread + threads`, ...
fn write_versions(map: &DiskTxMap, thread: u64, threads: u64, keys: u64) -> Model {
    let (mut rng, mut model) = (Rng::new(thread), Model::new());
    for version in 0..6000u64 {
        let number = 1 + thread + threads * rng.below(keys);
        if rng.below(3) == 0 {
            let removed = map.delete(&key(number), Wait::Allowed).unwrap();
            assert_eq!(removed, model.remove(&number).is_some());
            continue;
        }
        let length = if rng.below(40) == 0 { 20_000 } else { 100 + rng.below(400) as usize };
        let mut bytes = version.to_le_bytes().to_vec();
        bytes.extend_from_slice(&value(number ^ version << 20, length));
        let index = (version % 1000) as u16;
        let replaced = map.set(&key(number), &bytes, index, Wait::Allowed).unwrap();
        assert_eq!(replaced, model.insert(number, (bytes, index)).is_some());
    }
    model
}

// What it writes, and what it keeps

#[test]
fn segments_without_dead_bytes_cause_no_write() {
    let setup = open(1, "txMapCompactionMinWidth = 2\ntxMapCompactionSpace = 1\n");
    let mut number = 0;
    while setup.map.stats().segments < 101 {
        insert(&setup.map, number, &text(number));
        number += 1;
    }
    setup.map.flush().unwrap();
    let (writes, reads) = (setup.faults.calls(FaultOp::Write), setup.faults.calls(FaultOp::Read));
    for _ in 0..3 {
        setup.map.compact().unwrap();
    }
    let stats = setup.map.stats();
    assert_eq!((stats.compactions, stats.compaction_bytes_written), (0, 0));
    assert_eq!((stats.compaction_bytes_read, stats.pending_compaction_bytes), (0, 0));
    let after = (setup.faults.calls(FaultOp::Write), setup.faults.calls(FaultOp::Read));
    assert_eq!(after, (writes, reads));
}

#[test]
fn a_few_dead_records_in_each_segment_are_not_worth_a_merge() {
    let setup = open(1, BY_CALL);
    for number in 0..4000 {
        insert(&setup.map, number, &text(number));
    }
    setup.map.flush().unwrap();
    for number in (0..4000).step_by(10) {
        assert!(setup.map.delete(&key(number), Wait::Allowed).unwrap());
    }
    setup.map.compact().unwrap();
    let stats = setup.map.stats();
    assert!(stats.dead_bytes > 50_000 && stats.segments > 10, "{stats:?}");
    assert_eq!((stats.compactions, stats.compaction_bytes_written), (0, 0));
}

#[test]
fn mostly_dead_segments_are_merged_and_go() {
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 3000);
    let before = setup.map.stats();
    setup.map.compact().unwrap();
    let stats = setup.map.stats();
    assert!(before.segments > 10 && stats.segments < before.segments / 2, "{stats:?}");
    assert!(stats.dead_bytes < before.dead_bytes / 4, "{stats:?}");
    assert!(stats.compactions > 0 && stats.compaction_bytes_read > stats.compaction_bytes_written);
    assert_eq!(stats.live_bytes, before.live_bytes);
    check_survivors(&setup.map, 3000);
    // Nothing is left to do.
    setup.map.compact().unwrap();
    assert_eq!(setup.map.stats().compaction_bytes_written, stats.compaction_bytes_written);
}

#[test]
fn the_least_width_holds_a_merge_back_until_space_matters() {
    // Half dead, so that the space trigger of 200 % is off; fewer segments than the width.
    let wide = open(1, &format!("{BY_CALL}txMapCompactionMinWidth = 1000\n"));
    let narrow = open(1, &format!("{BY_CALL}txMapCompactionMinWidth = 2\n"));
    let tight =
        open(1, &format!("{BY_CALL}txMapCompactionMinWidth = 1000\ntxMapCompactionSpace = 50\n"));
    for setup in [&wide, &narrow, &tight] {
        for number in 0..2000 {
            insert(&setup.map, number, &text(number));
        }
        setup.map.flush().unwrap();
        for number in (0..2000).filter(|number| number % 8 > 2) {
            assert!(setup.map.delete(&key(number), Wait::Allowed).unwrap());
        }
        setup.map.compact().unwrap();
        for number in 0..2000 {
            let expected = (number % 8 <= 2).then(|| (text(number), 0));
            assert!(get(&setup.map, number) == expected, "record {number}");
        }
    }
    assert_eq!(wide.map.stats().compactions, 0);
    assert_eq!(wide.map.stats().pending_compaction_bytes, 0);
    assert!(narrow.map.stats().compactions > 0);
    assert!(tight.map.stats().compactions > 0);
}

#[test]
fn space_stays_bounded_under_churn() {
    let setup = open(1, "");
    let live = 1500;
    for number in 0..live {
        insert(&setup.map, number, &text(number));
    }
    let (mut rng, mut versions) = (Rng::new(3), vec![0u64; live as usize]);
    // Ten turnovers, half of them overwrites, half deletions and insertions.
    for turn in 0..10 * live {
        let number = rng.below(live);
        versions[number as usize] = turn;
        if turn % 2 == 0 {
            assert!(setup.map.delete(&key(number), Wait::Allowed).unwrap());
        }
        setup.map.set(&key(number), &text(turn), 0, Wait::Allowed).unwrap();
        if turn % live == live - 1 {
            setup.map.flush().unwrap();
            setup.map.compact().unwrap();
            let stats = setup.map.stats();
            let allowed = 3 * stats.live_bytes;
            assert!(setup.disk_bytes() <= allowed, "{} of {allowed}", setup.disk_bytes());
        }
    }
    for number in 0..live {
        let expected = match versions[number as usize] {
            0 => text(number),
            turn => text(turn),
        };
        assert!(get(&setup.map, number).unwrap().0 == expected, "record {number}");
    }
    let stats = setup.map.stats();
    let written = 10 * stats.live_bytes;
    assert!(stats.compaction_bytes_written < 2 * written, "{stats:?}");
}

#[test]
fn the_background_works_without_being_called_and_the_rate_slows_it_down() {
    let setup = open(1, "txMapCompactionMinWidth = 2\n");
    // At this rate one step is paid for with the better part of a minute.
    let slow = open(1, "txMapCompactionMinWidth = 2\ntxMapCompactionRate = 64K\n");
    for each in [&setup, &slow] {
        fill_and_kill(&each.map, 3000);
    }
    // Deletions alone have rung the bell; nobody calls.
    while setup.map.stats().dead_bytes > setup.map.stats().live_bytes {
        std::thread::yield_now();
    }
    check_survivors(&setup.map, 3000);
    let stats = slow.map.stats();
    assert!(stats.compaction_bytes_read < 1 << 20, "{stats:?}");
    check_survivors(&slow.map, 3000);
    // The background waits for its rate; neither a clear nor closing waits for that.
    slow.map.clear().unwrap();
    assert_eq!(slow.map.len(), 0);
}

// How it ends

#[test]
fn a_clear_ends_a_merge() {
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 2000);
    let reads = setup.faults.calls(FaultOp::Read);
    let gate = setup.faults.close_gate(FaultOp::Read);
    std::thread::scope(|scope| {
        let merge = scope.spawn(|| setup.map.compact());
        while setup.faults.calls(FaultOp::Read) == reads {
            std::thread::yield_now();
        }
        // The merge is in the middle of reading a segment; nobody waits for it.
        setup.map.clear().unwrap();
        insert(&setup.map, 1, &text(1));
        gate.open();
        merge.join().unwrap().unwrap();
    });
    // A step at most went on.
    assert!(setup.map.stats().compaction_bytes_written < 65_536);
    assert_eq!((get(&setup.map, 1), setup.map.len()), (Some((text(1), 0)), 1));
    assert_eq!(setup.map.stats().compactions, 0);
}

#[test]
fn closing_ends_a_merge_and_leaves_nothing() {
    for round in 0..20 {
        let setup = open(2, EAGER);
        fill_and_kill(&setup.map, 200 + 40 * round);
        let Setup { map, runtime, dirs, .. } = setup;
        drop(map);
        for dir in &dirs {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "files are left");
        }
        drop(runtime);
    }
}

#[test]
fn a_panic_in_the_background_fails_the_map() {
    let setup = open(1, EAGER);
    // Walks begin with the header, which nobody else reads.
    let rule = FaultRule::new(FaultOp::Read, Fault::Errno(EIO)).on(|access| {
        assert!(access.offset != 0, "damaged on purpose");
        false
    });
    setup.faults.add(rule);
    for number in 0..1000 {
        insert(&setup.map, number, &text(number));
    }
    setup.map.flush().unwrap();
    for number in 0..500 {
        assert!(setup.map.delete(&key(number), Wait::Allowed).unwrap());
    }
    let failure = loop {
        if let Err(error) = setup.map.failure() {
            break error.to_string();
        }
        std::thread::yield_now();
    };
    assert!(failure.contains("compaction") && failure.contains("damaged on purpose"), "{failure}");
    assert!(setup.map.set(&key(1), &[], 0, Wait::Allowed).is_err());
    for number in 500..1000 {
        assert_eq!(get(&setup.map, number), Some((text(number), 0)));
    }
    let event = setup.runtime.events().pop().unwrap();
    assert!(event.text.contains("panicked"), "{event:?}");
}

// Faults

#[test]
fn nothing_is_lost_when_a_write_fails_during_a_merge() {
    for op in [FaultOp::Write, FaultOp::Create, FaultOp::Allocate] {
        let mut failed = 0;
        for nth in [1, 2, 3, 5, 8, 13] {
            let setup = open(1, BY_CALL);
            fill_and_kill(&setup.map, 3000);
            setup.faults.fail_nth(op, nth, EIO);
            let outcome = setup.map.compact().and_then(|()| setup.map.flush());
            if setup.faults.faults(op) > 0 {
                failed += 1;
                assert!(matches!(outcome, Err(Error::Failed(_))), "{op:?} {nth}: {outcome:?}");
                assert!(setup.map.failure().is_err());
                assert!(setup.map.set(&key(1), &[], 0, Wait::Allowed).is_err());
            } else {
                outcome.unwrap();
            }
            check_survivors(&setup.map, 3000);
        }
        assert!(failed > 2, "{op:?}");
    }
}

#[test]
fn a_read_that_fails_once_is_tried_again_and_one_that_keeps_failing_is_left() {
    for nth in [1, 2, 5] {
        let setup = open(1, BY_CALL);
        fill_and_kill(&setup.map, 3000);
        setup.faults.fail_nth(FaultOp::Read, nth, EIO);
        setup.map.compact().unwrap();
        let stats = setup.map.stats();
        assert!(stats.compactions > 0 && stats.dead_bytes < stats.live_bytes, "{stats:?}");
        assert_eq!((stats.damaged_segments, stats.failed), (0, 0));
        assert!(setup.runtime.events().pop().unwrap().text.contains("tried again"));
        check_survivors(&setup.map, 3000);
    }
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 3000);
    setup.faults.fail_all(FaultOp::Read, EIO);
    let error = setup.map.compact().unwrap_err();
    assert_eq!(error.os_errno(), EIO);
    setup.faults.clear_rules();
    let stats = setup.map.stats();
    assert!(stats.damaged_segments > 10, "{stats:?}");
    assert_eq!((stats.failed, stats.pending_compaction_bytes), (0, 0));
    check_survivors(&setup.map, 3000);
}

#[test]
fn a_flipped_bit_costs_its_segment_the_merge_and_nothing_else() {
    for offset in [8, 4097, 4100, 5000, 9001, 30_000] {
        let setup = open(1, BY_CALL);
        fill_and_kill(&setup.map, 3000);
        let victim = setup.segment_files()[3].clone();
        let path = victim.clone();
        let flip = Fault::FlipBits { offset, mask: 0x10 };
        let rule = FaultRule::new(FaultOp::Read, flip).on(move |access| access.path == path);
        setup.faults.add(rule);
        let error = setup.map.compact().unwrap_err();
        let Error::Corrupt { path, offset: at, .. } = &error else { panic!("{error}") };
        assert!(*path == victim && *at <= offset, "{error}");
        let stats = setup.map.stats();
        assert_eq!((stats.damaged_segments, stats.failed), (1, 0));
        let event = setup.runtime.events().pop().unwrap();
        assert!(event.text.contains("left alone") && event.text.contains("corrupt"), "{event:?}");
        // One record at most cannot be read; all others can.
        let mut damaged = 0;
        for number in 0..3000 {
            let expected = (number % 5 == 0).then(|| text(number));
            match setup.map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()) {
                Ok(found) => assert!(found == expected, "record {number}"),
                Err(error) => {
                    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                    damaged += 1;
                }
            }
        }
        assert!(damaged <= 1);
        // It is not looked at again, and everything else was merged.
        let flips = setup.faults.faults(FaultOp::Read);
        setup.map.compact().unwrap();
        assert_eq!(setup.faults.faults(FaultOp::Read), flips);
        // Files that went are removed by another thread.
        setup.disk_bytes();
        assert!(victim.exists() && setup.segment_files().len() < 12);
        assert!(stats.dead_bytes < 2 * stats.live_bytes, "{stats:?}");
    }
}

#[test]
fn half_a_long_record_is_no_damage() {
    let setup = open(1, &format!("{BY_CALL}txMapWriteTimeout = 50ms\n"));
    let gate = setup.faults.close_gate(FaultOp::Write);
    // Two or three of the sixteen blocks are left.
    for number in 0..180 {
        insert(&setup.map, number, &value(number, 1000));
    }
    let long = value(1000, 60_000);
    let error = setup.map.set(&key(1000), &long, 0, Wait::Allowed).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(setup.map.stats().dead_bytes > 15_000, "nothing of it was written");
    gate.open();
    for number in 180..600 {
        insert(&setup.map, number, &value(number, 1000));
    }
    patiently(|| setup.map.flush());
    for number in (0..600).filter(|number| number % 5 != 0) {
        assert!(setup.map.delete(&key(number), Wait::Allowed).unwrap());
    }
    patiently(|| setup.map.compact());
    assert!(setup.map.stats().compactions > 0);
    assert_eq!(setup.map.stats().damaged_segments, 0);
    for number in 0..600 {
        let expected = (number % 5 == 0).then(|| (value(number, 1000), 0));
        assert!(get(&setup.map, number) == expected, "record {number}");
    }
}

#[test]
fn without_room_there_are_smaller_merges_and_then_none() {
    let used = |setup: &Setup| 65_536 * setup.segment_files().len() as u64;
    // Room for one file more than the writers are left: one segment after the other.
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 3000);
    setup.faults.set_capacity(Some(used(&setup) + 3 * 65_536));
    while let Err(error) = setup.map.compact() {
        // The files that went are removed by another thread.
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        setup.disk_bytes();
    }
    let stats = setup.map.stats();
    assert!(stats.dead_bytes < 2 * stats.live_bytes && stats.failed == 0, "{stats:?}");
    check_survivors(&setup.map, 3000);
    // None at all.
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 6000);
    setup.faults.set_capacity(Some(used(&setup)));
    let error = (0..100).find_map(|_| setup.map.compact().err()).unwrap();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(setup.runtime.events().pop().unwrap().text.contains("no room"));
    setup.map.failure().unwrap();
    check_survivors(&setup.map, 6000);
}

// Backpressure

const STOP: Thresholds = Thresholds { slowdown: None, stop: Some(1), max_delay: Duration::ZERO };

/// A map that is behind, and whose background waits at the gate for its next read.
fn behind(more: &str) -> (Setup, blocktier::storage::fault::Gate) {
    let setup = open(1, &format!("txMapCompactionRate = 64K\n{more}"));
    fill_and_kill(&setup.map, 6000);
    let gate = setup.faults.close_gate(FaultOp::Read);
    assert!(setup.map.stats().pending_compaction_bytes > 0);
    (setup, gate)
}

#[test]
fn backpressure_is_off_by_default_and_changes_on_a_live_map() {
    let (setup, gate) = behind("");
    let map = &setup.map;
    assert_eq!(map.backpressure(), Backpressure::None);
    insert(map, 10_000, b"one");
    map.set_backpressure(STOP).unwrap();
    assert_eq!(map.backpressure(), Backpressure::Stop);
    let refused = [
        map.set(&key(10_001), b"two", 0, Wait::Never).unwrap_err(),
        map.set(&key(10_001), b"two", 0, Wait::ReadsOnly).unwrap_err(),
        map.set_if_not_exists(&key(10_001), b"two", 0, Wait::Never, |_, _| ()).unwrap_err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, Error::WouldBlock(_))), "{refused:?}");
    let (keys, offsets) = ([key(10_001), key(10_002)], [0, 3, 6]);
    let batch = Batch::new(&keys, b"twosix", &offsets, None).unwrap();
    let mut states = [ItemState::Pending; 2];
    assert!(map.set_batch(&batch, Wait::Never, &mut states).is_err());
    assert!(map.set_if_not_exists_batch(&batch, Wait::Never, &mut states).is_err());
    assert_eq!(states, [ItemState::Pending; 2]);
    // Reading and deleting go on: the first makes nothing worse, the second makes it better.
    assert_eq!(get(map, 10_000), Some((b"one".to_vec(), 0)));
    assert!(map.delete(&key(10_000), Wait::Never).unwrap());
    assert!(map.update_subtree_index(&key(10_000), 1, Wait::Never).is_ok());
    map.set_backpressure(Thresholds::OFF).unwrap();
    assert_eq!(map.backpressure(), Backpressure::None);
    insert(map, 10_001, b"two");
    gate.open();
}

#[test]
fn a_stopped_writer_goes_on_when_compaction_has_caught_up() {
    let (setup, gate) = behind("txMapCompactionStop = 64K\n");
    let map = &setup.map;
    assert_eq!(map.backpressure(), Backpressure::Stop);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| map.set(&key(10_000), b"late", 0, Wait::Allowed));
        gate.open();
        map.compact().unwrap();
        assert!(!writer.join().unwrap().unwrap());
    });
    assert_eq!(map.backpressure(), Backpressure::None);
    assert_eq!(map.stats().pending_compaction_bytes, 0);
    check_survivors(map, 6000);
    let (setup, gate) = behind("txMapCompactionStop = 64K\ntxMapWriteTimeout = 1ms\n");
    let error = setup.map.set(&key(10_000), b"late", 0, Wait::Allowed).unwrap_err();
    assert!(error.to_string().contains("txMapCompactionStop"), "{error}");
    gate.open();
}

#[test]
fn delayed_writers_go_on_one_after_the_other() {
    let (setup, gate) = behind("");
    let max_delay = Duration::from_millis(1);
    let slow = Thresholds { slowdown: Some(1), stop: None, max_delay };
    setup.map.set_backpressure(slow).unwrap();
    assert_eq!(setup.map.backpressure(), Backpressure::Slowdown(max_delay));
    setup.map.set(&key(10_000), b"waits", 0, Wait::Allowed).unwrap();
    // Who may not wait is told to, and is let through after the delay.
    let first = setup.map.set(&key(10_001), b"does not", 0, Wait::Never);
    assert!(matches!(first, Err(Error::WouldBlock(_))), "{first:?}");
    while setup.map.set(&key(10_001), b"does not", 0, Wait::Never).is_err() {
        std::thread::yield_now();
    }
    let ramp = Thresholds { stop: Some(64 << 40), max_delay: Duration::from_secs(60), ..slow };
    setup.map.set_backpressure(ramp).unwrap();
    assert!(setup.map.backpressure().is_throttled());
    // Far from the stop the delay is next to nothing.
    setup.map.set(&key(10_002), b"hardly waits", 0, Wait::Allowed).unwrap();
    gate.open();
}

#[test]
fn without_compaction_nobody_waits_for_it() {
    let setup = open(1, BY_CALL);
    fill_and_kill(&setup.map, 3000);
    setup.map.set_backpressure(STOP).unwrap();
    assert_eq!(setup.map.stats().pending_compaction_bytes, 0);
    setup.map.set(&key(10_000), b"one", 0, Wait::Never).unwrap();
    assert!(TxMapSettings::default().compaction.enabled);
}
