//! Process maps: whatever was acknowledged is there after a kill, without any sync. What a killed
//! process leaves are its files as they are at some moment; here they are copied while it stands
//! still. `diskmap_process_killed.rs` kills for real.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/small_disk.rs"]
mod small_disk;
#[path = "common/stores.rs"]
#[expect(dead_code, reason = "of durable maps")]
mod stores;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, Result};
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;
use small_disk::SmallDisk;
use stores::{STORE, copies, files};

/// Merges run by call, so that copies of files are of one moment.
const PROCESS: &str = "txMapName = pool\ntxMapDurability = process\ntxMapCompaction = off\n\
                       txMapCompactionSpace = 0\n";
const UNIVERSE: u64 = 300;

fn open_with(dirs: &[TempDir], more: &str) -> Result<DiskTxMap> {
    let settings = small_settings(dirs, &format!("{PROCESS}{more}"));
    DiskTxMap::open(&Runtime::open(&RuntimeSettings::default()).unwrap(), &settings)
}

fn open(dirs: &[TempDir]) -> Result<DiskTxMap> {
    open_with(dirs, "")
}

fn open_faulty(dirs: &[TempDir]) -> (FaultStorage, Runtime, TxMapSettings) {
    let runtime = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&runtime)));
    faults.remember_unsynced();
    let runtime = Runtime::with_storage(&runtime, Arc::new(faults.clone())).unwrap();
    (faults, runtime, small_settings(dirs, PROCESS))
}

fn ring(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_ring = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("RING");
    let rings: Vec<_> = files.filter(is_ring).collect();
    assert_eq!(rings.len(), 1, "{rings:?}");
    rings.into_iter().next().unwrap()
}

fn store_ring(dirs: &[TempDir]) -> PathBuf {
    ring(&dirs[0].path().join(STORE))
}

fn has_ring(dirs: &[TempDir]) -> bool {
    let is_ring = |path: &PathBuf| path.to_str().unwrap().contains("RING");
    dirs.iter().any(|dir| files(dir).iter().any(is_ring))
}

fn set(map: &DiskTxMap, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers {
        map.set(&key(number), &value(number, length), 0, Wait::Allowed).unwrap();
    }
}

fn get(map: &DiskTxMap, number: u64) -> Option<Vec<u8>> {
    map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap()
}

fn check(map: &DiskTxMap, numbers: std::ops::Range<u64>, length: usize) {
    for number in numbers.clone() {
        assert!(get(map, number) == Some(value(number, length)), "key {number}");
    }
    assert_eq!(map.len(), numbers.end - numbers.start);
}

/// What a kill leaves now: what is being written is waited for, since copies take a while.
fn killed_at(map: &DiskTxMap, dirs: &[TempDir]) -> Vec<TempDir> {
    // Of a failed map nothing moves any more.
    let _ = map.flush_wait(u64::MAX, Wait::Allowed);
    copies(dirs)
}

/// A map and what must be in it.
struct Run {
    model: HashMap<u64, Vec<u8>>,
    rng: Rng,
}

impl Run {
    fn random_value(&mut self) -> Vec<u8> {
        let length = match self.rng.below(100) {
            0..=9 => 0,
            10..=89 => self.rng.below(400),
            90..=96 => 8192 + self.rng.below(12 << 10),
            _ => self.rng.below(50 << 10),
        };
        value(self.rng.next(), length as usize)
    }

    fn step(&mut self, map: &DiskTxMap) {
        let number = self.rng.below(UNIVERSE);
        let k = key(number);
        match self.rng.below(100) {
            0..30 => {
                let value = self.random_value();
                let done = map.set_if_not_exists(&k, &value, 0, Wait::Allowed, |v, _| v.to_vec());
                match done.unwrap() {
                    Inserted::New => assert!(self.model.insert(number, value).is_none()),
                    Inserted::Present(old) => assert_eq!(self.model.get(&number), Some(&old)),
                }
            }
            30..55 => {
                let value = self.random_value();
                let replaced = map.set(&k, &value, 0, Wait::Allowed).unwrap();
                assert_eq!(replaced, self.model.insert(number, value).is_some());
            }
            55..85 => {
                let removed = map.delete(&k, Wait::Allowed).unwrap();
                assert_eq!(removed, self.model.remove(&number).is_some());
            }
            85..95 => self.insert_batch(map),
            95..97 => map.flush().unwrap(),
            97 => map.compact().unwrap(),
            98 => map.sync(Wait::Allowed).unwrap(),
            _ => {
                if self.rng.below(4) == 0 {
                    map.clear().unwrap();
                    self.model.clear();
                }
            }
        }
    }

    fn insert_batch(&mut self, map: &DiskTxMap) {
        let numbers: Vec<u64> = (0..60).map(|_| self.rng.below(UNIVERSE)).collect();
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        let values: Vec<_> = numbers.iter().map(|_| value(self.rng.next(), 100)).collect();
        let offsets: Vec<u64> = (0..=60).map(|i| i * 100).collect();
        let arena = values.concat();
        let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
        let mut states = vec![ItemState::Pending; 60];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
        for ((number, value), state) in numbers.into_iter().zip(values).zip(states) {
            if state == ItemState::Done {
                assert!(self.model.insert(number, value).is_none());
            }
        }
    }

    fn check(&self, map: &DiskTxMap) {
        for number in 0..UNIVERSE {
            assert!(get(map, number).as_ref() == self.model.get(&number), "key {number}");
        }
        assert_eq!(map.len(), self.model.len() as u64);
    }
}

#[test]
fn kills_lose_nothing_over_many_lives() {
    for (seed, directories) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)] {
        let mut dirs = temp_dirs(directories);
        let mut run = Run { model: HashMap::new(), rng: Rng::new(seed) };
        let mut map = open(&dirs).unwrap();
        let (mut taken, mut merged) = (0, 0);
        for round in 0..25 {
            println!("seed {seed}, round {round}");
            for _ in 0..run.rng.below(400) {
                run.step(&map);
            }
            merged += map.stats().compactions;
            let clean = run.rng.below(4) == 0;
            if clean {
                drop(map);
                assert!(!has_ring(&dirs), "a clean end leaves no ring");
            } else {
                let copies = killed_at(&map, &dirs);
                drop(map);
                dirs = copies;
            }
            map = open(&dirs).unwrap();
            let recovery = map.recovery().unwrap();
            assert!(recovery.reopened && !recovery.ring_lost);
            assert_eq!(recovery.torn_bytes + recovery.segments_ignored, 0);
            assert!(!clean || recovery.ring_blocks == 0);
            taken += recovery.ring_blocks;
            run.check(&map);
        }
        assert!(taken > 30, "only {taken} blocks came from rings");
        assert!(merged > 5, "only {merged} merges");
    }
}

/// A recovery is killed at each of its writes, and then again somewhere.
#[test]
fn a_killed_recovery_is_done_again() {
    let dirs = temp_dirs(2);
    let map = open(&dirs).unwrap();
    set(&map, 0..600, 300);
    map.sync(Wait::Allowed).unwrap();
    set(&map, 600..900, 300);
    map.set(&key(900), &value(900, 30_000), 0, Wait::Allowed).unwrap();
    let killed = killed_at(&map, &dirs);
    drop(map);
    let ops = [FaultOp::Write, FaultOp::Sync, FaultOp::Rename, FaultOp::SyncDir, FaultOp::Create];
    let mut failures = 0;
    for (op, nth) in ops.into_iter().flat_map(|op| [1, 2, 3, 5, 8].map(move |nth| (op, nth))) {
        let dirs = copies(&killed);
        let (faults, runtime, settings) = open_faulty(&dirs);
        faults.fail_nth(op, nth, 5);
        let failed = DiskTxMap::open(&runtime, &settings);
        if let Ok(map) = &failed {
            check_with_long(map);
        }
        failures += u32::from(failed.is_err());
        // Some of these end as a kill does: what was begun stays, and the lock is gone.
        let again = copies(&dirs);
        drop(failed);
        for dirs in [dirs, again] {
            check_with_long(&open(&dirs).unwrap());
        }
    }
    assert!(failures > 12, "{failures}");
}

fn check_with_long(map: &DiskTxMap) {
    for number in 0..900 {
        assert!(get(map, number) == Some(value(number, 300)), "key {number}");
    }
    assert!(get(map, 900) == Some(value(900, 30_000)));
    assert_eq!(map.len(), 901);
}

fn refusal(dirs: &[TempDir]) -> String {
    let error = open(dirs).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. } | Error::Unsupported(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("RING-") || text.contains("format version"), "{text}");
    text
}

#[test]
fn damaged_rings_are_refused_or_change_nothing() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    set(&map, 0..100, 100);
    let killed = killed_at(&map, &dirs);
    drop(map);
    let original = std::fs::read(store_ring(&killed)).unwrap();
    let buffers = (256 << 10) / (16 << 10);
    let data = 4096 + 4096;
    assert_eq!(original.len(), data + buffers * (16 << 10));
    let damaged = |bytes: &[u8]| {
        let dirs = copies(&killed);
        std::fs::write(store_ring(&dirs), bytes).unwrap();
        dirs
    };
    // Each byte of the header and of the entries, and of the first block.
    let (mut refused, mut unharmed) = (0, 0);
    let table = 4096..4096 + buffers * 64;
    let bytes =
        (0..120).chain(4000..4096).chain(table).chain((data + 4096..data + 6000).step_by(7));
    for at in bytes {
        let mut bytes = original.clone();
        bytes[at] ^= 1 << (at % 8);
        let dirs = damaged(&bytes);
        match open(&dirs) {
            Ok(map) => {
                check(&map, 0..100, 100);
                unharmed += 1;
            }
            Err(error) => {
                let is_named = match &error {
                    Error::Corrupt { path, .. } => path == &store_ring(&dirs),
                    Error::Unsupported(text) => text.contains("RING-"),
                    _ => false,
                };
                assert!(is_named, "byte {at}: {error}");
                refused += 1;
            }
        }
    }
    // Free entries mean nothing but for their first word; the rest of an entry is not used.
    assert!(refused > 216 + 500 / 7 && unharmed > 100, "{refused} refused, {unharmed} unharmed");
    for length in [0, 1, 100, 4095, 4096, data - 1, original.len() - 1] {
        let text = refusal(&damaged(&original[..length]));
        let wanted = if length < 4096 { "not a map's ring" } else { "its header says" };
        assert!(text.contains(wanted), "{length}: {text}");
    }
    assert!(refusal(&damaged(&[&original[..], &[0; 4096]].concat())).contains("header says"));
    let mut newer = original.clone();
    newer[8] = 2;
    assert!(refusal(&damaged(&newer)).contains("format version 2, this library reads version 1"));
    let missing = copies(&killed);
    std::fs::remove_file(store_ring(&missing)).unwrap();
    assert!(refusal(&missing).contains("the ring of a killed process is missing"));
    let other = temp_dirs(1);
    let map = open(&other).unwrap();
    set(&map, 0..10, 100);
    let other_killed = killed_at(&map, &other);
    drop(map);
    let swapped = damaged(&std::fs::read(store_ring(&other_killed)).unwrap());
    assert!(refusal(&swapped).contains("belongs to another map"));
    check(&open(&killed).unwrap(), 0..100, 100);
}

/// With its ring, the log of a killed process is whole: what is missing of it is damage.
#[test]
fn segments_that_are_missing_or_damaged_are_no_torn_log() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    set(&map, 0..1500, 200);
    map.flush().unwrap();
    let killed = killed_at(&map, &dirs);
    drop(map);
    check(&open(&copies(&killed)).unwrap(), 0..1500, 200);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let segments: Vec<_> = files(&killed[0]).into_iter().filter(is_segment).collect();
    assert!(segments.len() > 4);
    for segment in &segments {
        let name = segment.file_name().unwrap();
        let missing = copies(&killed);
        std::fs::remove_file(missing[0].path().join(STORE).join(name)).unwrap();
        assert!(matches!(open(&missing), Err(Error::Corrupt { .. })), "without {name:?}");
        let flipped = copies(&killed);
        let path = flipped[0].path().join(STORE).join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9000] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        // Blocks that are in the ring alone are written again.
        match open(&flipped) {
            Ok(map) => check(&map, 0..1500, 200),
            Err(Error::Corrupt { path: named, .. }) => assert_eq!(named, path),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn faults_of_making_a_ring_leave_nothing_and_lose_nothing() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    set(&map, 0..100, 100);
    drop(map);
    for op in [FaultOp::Create, FaultOp::Allocate, FaultOp::Write, FaultOp::Sync] {
        let (faults, runtime, settings) = open_faulty(&dirs);
        faults.fail_nth(op, 1, 5);
        let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
        assert!(error.to_string().contains("RING-"), "{op:?}: {error}");
        assert!(!has_ring(&dirs), "{op:?}");
        faults.clear_rules();
        let map = DiskTxMap::open(&runtime, &settings).unwrap();
        check(&map, 0..100, 100);
    }
    let none = format!("txMapRingDir = {}/none\n", dirs[0].path().display());
    let error = open_with(&dirs, &none).unwrap_err().to_string();
    assert!(error.contains("none: does not exist; make it"), "{error}");
    check(&open(&dirs).unwrap(), 0..100, 100);
}

#[test]
fn a_full_disk_keeps_the_ring_until_there_is_room() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    // Less than a quarter of the tail: nothing is written before the kill.
    set(&map, 0..100, 300);
    let killed = killed_at(&map, &dirs);
    drop(map);
    let (faults, runtime, settings) = open_faulty(&killed);
    faults.set_capacity(Some((256 << 10) + (16 << 10)));
    let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
    assert!(
        matches!(error, Error::DiskFull { .. }) && error.to_string().contains(".seg"),
        "{error}"
    );
    faults.set_capacity(Some(100 << 10));
    let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
    assert!(error.to_string().contains("RING-"), "{error}");
    faults.set_capacity(None);
    check(&DiskTxMap::open(&runtime, &settings).unwrap(), 0..100, 300);
    let Some(disk) = SmallDisk::mount("size=200k") else { return };
    let on_it = format!("txMapRingDir = {}\n", disk.path().display());
    let error = open_with(&dirs, &on_it).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    check(&open(&dirs).unwrap(), 0..100, 300);
}

/// A map that failed on a full disk, and whose process ends or is killed then, has everything that
/// it acknowledged when there is room again.
#[test]
fn what_a_failed_map_had_acknowledged_is_in_its_ring() {
    let dirs = temp_dirs(2);
    let (faults, runtime, settings) = open_faulty(&dirs);
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    faults.fail_all(FaultOp::Write, 28);
    let mut acknowledged = 0;
    while map.set(&key(acknowledged), &value(acknowledged, 300), 0, Wait::Allowed).is_ok() {
        acknowledged += 1;
    }
    assert!(acknowledged > 100, "{acknowledged}");
    let killed = killed_at(&map, &dirs);
    drop(map);
    for dirs in [killed, dirs] {
        check(&open(&dirs).unwrap(), 0..acknowledged, 300);
    }
}

#[test]
fn a_second_owner_is_refused_and_disturbs_nothing() {
    let dirs = temp_dirs(1);
    let map = open(&dirs).unwrap();
    set(&map, 0..50, 100);
    assert!(matches!(open(&dirs), Err(Error::Locked { .. })));
    assert!(store_ring(&dirs).exists());
    set(&map, 50..100, 100);
    let killed = killed_at(&map, &dirs);
    drop(map);
    check(&open(&killed).unwrap(), 0..100, 100);
    let nameless = "txMapDurability = process\ntxMapDirs = /a";
    let error = TxMapSettings::parse(nameless).unwrap_err().to_string();
    assert!(error.contains("process needs a txMapName"), "{error}");
    for (text, wanted) in [
        ("txMapRingDir = /a", "txMapRingDir: is for txMapDurability = process"),
        ("txMapSyncOnSeal = on", "txMapSyncOnSeal: is for txMapDurability = durable or process"),
    ] {
        let error = TxMapSettings::parse(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// Kills a map, whose ring may be elsewhere, and opens it with other settings.
fn kill_and(dirs: &mut Vec<TempDir>, elsewhere: &Path, map: DiskTxMap, more: &str) -> DiskTxMap {
    let copies = killed_at(&map, dirs);
    // A clean end would remove the ring.
    let is_elsewhere = std::fs::read_dir(elsewhere).unwrap().count() > 0;
    let path = is_elsewhere.then(|| ring(elsewhere));
    let saved = path.map(|path| (path.clone(), std::fs::read(path).unwrap()));
    drop(map);
    if let Some((path, bytes)) = saved {
        std::fs::write(path, bytes).unwrap();
    }
    *dirs = copies;
    let settings = small_settings(dirs, &format!("txMapName = pool\n{more}"));
    DiskTxMap::open(&Runtime::open(&RuntimeSettings::default()).unwrap(), &settings).unwrap()
}

#[test]
fn levels_tails_and_ring_directories_may_change() {
    let mut dirs = temp_dirs(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let on_it = format!("txMapRingDir = {}\n", elsewhere.path().display());
    let mut map = open(&dirs).unwrap();
    set(&map, 0..50, 100);
    map =
        kill_and(&mut dirs, elsewhere.path(), map, "txMapDurability = process\ntxMapTail = 512K\n");
    check(&map, 0..50, 100);
    set(&map, 50..100, 100);
    map =
        kill_and(&mut dirs, elsewhere.path(), map, &format!("txMapDurability = process\n{on_it}"));
    check(&map, 0..100, 100);
    assert!(ring(elsewhere.path()).exists());
    set(&map, 100..150, 100);
    map =
        kill_and(&mut dirs, elsewhere.path(), map, &format!("txMapDurability = process\n{on_it}"));
    check(&map, 0..150, 100);
    set(&map, 150..200, 100);
    // Without the setting it is not found; nothing changes by that.
    assert!(
        refusal(&killed_at(&map, &dirs)).contains("name the directory that has it (txMapRingDir)")
    );
    map =
        kill_and(&mut dirs, elsewhere.path(), map, &format!("txMapDurability = process\n{on_it}"));
    check(&map, 0..200, 100);
    drop(map);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // A durable map takes over what the ring has, and has none.
    let map = open(&dirs).unwrap();
    set(&map, 200..250, 100);
    let killed = killed_at(&map, &dirs);
    drop(map);
    let map = stores::open_with(&killed, "txMapCompaction = off").unwrap();
    check(&map, 0..250, 100);
    assert!(!has_ring(&killed));
    assert!(map.recovery().unwrap().ring_blocks > 0);
    check(&stores::open_with(&copies(&killed), "").unwrap(), 0..250, 100);
}

/// Gives the manifest's ring, and its file, the number of another boot.
fn restart_machine(dir: &TempDir) {
    let path = dir.path().join(STORE).join("MANIFEST");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let ring_file = ring(&dir.path().join(STORE));
    bytes[148..152].iter_mut().for_each(|byte| *byte = !*byte);
    let crc = crc32c::crc32c(&bytes[8..8 + length - 4]);
    bytes[8 + length - 4..8 + length].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let ring = u64::from_le_bytes(*bytes[144..].first_chunk().unwrap());
    let name = ring_file.file_name().unwrap().to_str().unwrap();
    let name = format!("{}-{ring:016x}", name.rsplit_once('-').unwrap().0);
    std::fs::rename(&ring_file, ring_file.with_file_name(name)).unwrap();
}

#[test]
fn a_restarted_machine_has_what_was_synced_and_says_what_is_lost() {
    for keep_ring in [true, false] {
        let dirs = temp_dirs(1);
        let map = open(&dirs).unwrap();
        set(&map, 0..50, 100);
        map.sync(Wait::Allowed).unwrap();
        set(&map, 50..60, 100);
        let killed = killed_at(&map, &dirs);
        drop(map);
        restart_machine(&killed[0]);
        if !keep_ring {
            std::fs::remove_file(store_ring(&killed)).unwrap();
        }
        let map = open(&killed).unwrap();
        assert!(map.recovery().unwrap().ring_lost);
        check(&map, 0..50, 100);
        assert!(store_ring(&killed).exists(), "one ring, the new one");
        drop(map);
        let map = open(&killed).unwrap();
        assert!(!map.recovery().unwrap().ring_lost);
        check(&map, 0..50, 100);
    }
}

/// Complete segments survive a power cut without a sync; what is lost are the last blocks.
#[test]
fn segments_are_synced_when_they_are_complete() {
    for level in ["durable", "process"] {
        for on in ["on", "off"] {
            let dirs = temp_dirs(1);
            let (faults, runtime, _) = open_faulty(&dirs);
            let more =
                format!("txMapName = pool\ntxMapDurability = {level}\ntxMapSyncOnSeal = {on}\n");
            let map = DiskTxMap::open(&runtime, &small_settings(&dirs, &more)).unwrap();
            let before = faults.calls(FaultOp::Sync);
            set(&map, 0..1000, 200);
            map.flush().unwrap();
            // A sync is queued behind the last write of its segment: one more write comes after.
            set(&map, 1000..1001, 200);
            map.flush().unwrap();
            let synced = faults.calls(FaultOp::Sync) - before;
            let complete = 1001 * 256 / (60 << 10);
            assert_eq!(synced, if on == "on" { complete } else { 0 }, "{level} {on}");
            faults.fail_all(FaultOp::Sync, 5);
            drop(map);
            faults.lose_unsynced(|_, _| true).unwrap();
            if level == "process" {
                restart_machine(&dirs[0]);
            }
            let durable = "txMapName = pool\ntxMapDurability = durable\n";
            let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
            let map = DiskTxMap::open(&runtime, &small_settings(&dirs, durable)).unwrap();
            let expected = if on == "on" { complete * (60 << 10) / 256 - 10 } else { 0 };
            assert!(map.len() >= expected && map.len() < 1001, "{level} {on}: {}", map.len());
            for number in 0..map.len() {
                assert!(get(&map, number) == Some(value(number, 200)));
            }
        }
    }
}

#[test]
fn a_segment_that_cannot_be_synced_fails_the_map() {
    let dirs = temp_dirs(1);
    let (faults, runtime, _) = open_faulty(&dirs);
    let more = format!("{PROCESS}txMapSyncOnSeal = on\n");
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, &more)).unwrap();
    faults.fail_nth(FaultOp::Sync, 1, 5);
    let mut acknowledged = 0;
    while map.set(&key(acknowledged), &value(acknowledged, 300), 0, Wait::Allowed).is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 100_000, "the map goes on");
    }
    assert!(map.failure().unwrap_err().to_string().contains("sync "));
    assert!(map.sync(Wait::Allowed).is_err(), "a later success is not believed");
    drop(map);
    check(&open(&dirs).unwrap(), 0..acknowledged, 300);
}
