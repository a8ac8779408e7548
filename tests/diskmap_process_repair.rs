//! Checking and repairing process maps: a ring that a killed process has left is no damage, and no
//! repair touches the map before opening has written what is in it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/stores.rs"]
#[expect(dead_code, reason = "of durable maps")]
mod stores;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use blocktier::diskmap::Wait;
use blocktier::diskmap::check::{CheckOptions, FindingKind, Meaning, Repaired, Report};
use blocktier::diskmap::check::{repair, verify};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::RealStorage;
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, Result};
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use stores::{STORE, copies, files};

const SYNCED: u64 = 560;
const KEYS: u64 = 600;

fn open_with(dirs: &[TempDir], more: &str) -> DiskTxMap {
    let process = "txMapName = pool\ntxMapDurability = process\ntxMapCompaction = off\n";
    let settings = small_settings(dirs, &format!("{process}{more}"));
    DiskTxMap::open(&Runtime::open(&RuntimeSettings::default()).unwrap(), &settings).unwrap()
}

/// A map with keys that were synced and keys that were not.
fn build(directories: usize, more: &str) -> (Vec<TempDir>, DiskTxMap) {
    let dirs = temp_dirs(directories);
    let map = open_with(&dirs, more);
    for number in 0..KEYS {
        map.set(&key(number), &value(number, 100), 0, Wait::Allowed).unwrap();
        if number + 1 == SYNCED {
            map.sync(Wait::Allowed).unwrap();
        }
        if number == SYNCED {
            // The writer thread works in turn: this waits for the summaries, which a kill can leave
            // half made.
            map.flush().unwrap();
        }
    }
    (dirs, map)
}

/// What a kill leaves of such a map.
fn killed(directories: usize) -> Vec<TempDir> {
    let (dirs, map) = build(directories, "");
    let killed = copies(&dirs);
    drop(map);
    killed
}

/// Opens the map, which has every key, and closes it.
fn open_once(dirs: &[TempDir]) {
    let map = open_with(dirs, "");
    for number in 0..KEYS {
        let found = map.get(&key(number), Wait::Allowed, |found, _| found.to_vec()).unwrap();
        assert!(found == Some(value(number, 100)), "key {number}");
    }
    assert_eq!(map.len(), KEYS);
}

fn paths(dirs: &[TempDir]) -> Vec<PathBuf> {
    dirs.iter().map(|dir| dir.path().to_owned()).collect()
}

fn storage() -> RealStorage {
    RealStorage::new(&RuntimeSettings::default())
}

fn check(dirs: &[TempDir]) -> Report {
    let goes_on = &mut |_| ControlFlow::Continue(());
    verify(&storage(), &paths(dirs), &CheckOptions::default(), goes_on).unwrap()
}

fn mend(dirs: &[TempDir], accept_loss: bool) -> Result<Repaired> {
    let goes_on = &mut |_| ControlFlow::Continue(());
    repair(&storage(), &paths(dirs), &CheckOptions::default(), accept_loss, goes_on)
}

fn of_kind(report: &Report, kind: FindingKind) -> Vec<(PathBuf, String)> {
    let findings = report.findings.iter().filter(|finding| finding.kind == kind);
    findings.map(|finding| (finding.path.clone(), finding.text.clone())).collect()
}

fn ring(dirs: &[TempDir]) -> PathBuf {
    let is_ring = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("RING-");
    dirs.iter().flat_map(files).find(is_ring).unwrap()
}

fn manifest(dir: &TempDir) -> PathBuf {
    dir.path().join(STORE).join("MANIFEST")
}

fn contents(dirs: &[TempDir]) -> Vec<(PathBuf, Vec<u8>)> {
    let with_bytes = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    dirs.iter().flat_map(files).map(with_bytes).collect()
}

/// With consent to losses too, a repair says to open first, and changes nothing.
fn is_refused(dirs: &[TempDir], names: &Path) {
    let before = contents(dirs);
    for accept_loss in [false, true] {
        let error = mend(dirs, accept_loss).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("Open the map once first"), "{text}");
        assert!(text.contains(names.to_str().unwrap()), "{text}");
    }
    assert!(contents(dirs) == before, "a refused repair changed a file");
}

#[test]
fn a_killed_map_is_sound_and_repaired_only_after_it_was_opened() {
    for directories in [1, 3] {
        let dirs = killed(directories);
        let before = contents(&dirs);
        let report = check(&dirs);
        assert_eq!(report.worst(), Meaning::Harmless, "{:?}", report.findings);
        let pending = of_kind(&report, FindingKind::RingPending);
        assert_eq!(pending.len(), 1, "{:?}", report.findings);
        assert_eq!(pending[0].0, ring(&dirs));
        assert_eq!(of_kind(&report, FindingKind::FileLeftover), []);
        assert!((SYNCED..KEYS).contains(&report.totals.live), "{:?}", report.totals);
        assert!(contents(&dirs) == before);
        is_refused(&dirs, &ring(&dirs));
        open_once(&dirs);
        let report = check(&dirs);
        assert_eq!((report.findings, report.totals.live), (vec![], KEYS));
        assert!(mend(&dirs, false).unwrap().is_complete());
        open_once(&dirs);
    }
}

/// What is behind the last sync and no record yet is not the log's end.
#[test]
fn gaps_that_the_ring_fills_are_no_torn_end() {
    let dirs = killed(1);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
    let path = dirs.iter().flat_map(files).rfind(is_segment).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Padding covers the page; behind it nothing is written yet.
    let gap = end.next_multiple_of(4096);
    assert_eq!(gap / (16 << 10), end / (16 << 10), "the same block");
    bytes[gap] = 7;
    std::fs::write(&path, bytes).unwrap();
    let report = check(&dirs);
    assert_eq!(report.worst(), Meaning::Harmless, "{:?}", report.findings);
    let torn = of_kind(&report, FindingKind::TornEnd);
    assert!(torn.len() == 1 && torn[0].1.contains("from the ring"), "{:?}", report.findings);
    is_refused(&dirs, &ring(&dirs));
    open_once(&dirs);
}

#[test]
fn which_manifest_counts() {
    // One that is damaged, and can be corrected, names its ring all the same.
    let dirs = killed(2);
    let original = std::fs::read(manifest(&dirs[0])).unwrap();
    let mut bytes = original.clone();
    bytes[60] ^= 4;
    std::fs::write(manifest(&dirs[0]), &bytes).unwrap();
    assert_eq!(of_kind(&check(&dirs), FindingKind::RingPending).len(), 1);
    is_refused(&dirs, &ring(&dirs));
    // Of one that is lost the other tells.
    std::fs::remove_file(manifest(&dirs[0])).unwrap();
    is_refused(&dirs, &manifest(&dirs[1]));
    std::fs::write(manifest(&dirs[0]), &original).unwrap();
    open_once(&dirs);
    // A clean end that was killed between its manifests has everything in the segments.
    let (dirs, map) = build(2, "");
    let named = std::fs::read(manifest(&dirs[1])).unwrap();
    drop(map);
    std::fs::write(manifest(&dirs[1]), named).unwrap();
    assert_eq!(of_kind(&check(&dirs), FindingKind::RingPending), []);
    assert!(mend(&dirs, false).unwrap().is_complete());
    open_once(&dirs);
}

#[test]
fn rings_elsewhere_and_left_over_ones() {
    let elsewhere = tempfile::tempdir().unwrap();
    let more = format!("txMapRingDir = {}\n", elsewhere.path().display());
    let (dirs, map) = build(1, &more);
    let killed = copies(&dirs);
    drop(map);
    let pending = of_kind(&check(&killed), FindingKind::RingPending);
    assert_eq!(pending[0].0, manifest(&killed[0]));
    is_refused(&killed, &manifest(&killed[0]));
    // Closed, and an older ring is still there.
    std::fs::write(dirs[0].path().join(STORE).join("RING-1-2"), [1; 100]).unwrap();
    let report = check(&dirs);
    assert_eq!(report.worst(), Meaning::Harmless, "{:?}", report.findings);
    assert_eq!(of_kind(&report, FindingKind::FileLeftover).len(), 1);
    assert_eq!(of_kind(&report, FindingKind::RingPending), []);
    assert!(mend(&dirs, false).unwrap().is_complete());
    open_once(&dirs);
}
