//! Repairing a durable map: afterwards it opens, every intact record is there, nothing that was
//! superseded comes back, and what is lost was said before. It can fail or be killed at any point
//! and be done again.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/stores.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod stores;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod tiny;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocktier::diskmap::Wait;
use blocktier::diskmap::check::{
    Action, CheckOptions, FindingKind, Meaning, Plan, Repaired, Report, plan_repair, repair, verify,
};
use blocktier::settings::RuntimeSettings;
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{DirLock, FaultStorage, RealStorage, Storage};
use blocktier::{Error, Result};
use tempfile::TempDir;

use records::key;
use tiny::{DELETED, End, Expected, LONG, SET_TWICE, UNIVERSE, build, is};

fn real() -> RealStorage {
    RealStorage::new(&RuntimeSettings::default())
}

fn paths(dirs: &[TempDir]) -> Vec<PathBuf> {
    dirs.iter().map(|dir| dir.path().to_owned()).collect()
}

fn check(dirs: &[TempDir]) -> Report {
    let goes_on = &mut |_| ControlFlow::Continue(());
    verify(&real(), &paths(dirs), &CheckOptions::default(), goes_on).unwrap()
}

fn plan(dirs: &[TempDir]) -> Plan {
    let goes_on = &mut |_| ControlFlow::Continue(());
    plan_repair(&real(), &paths(dirs), &CheckOptions::default(), goes_on).unwrap()
}

fn mend_with(storage: &dyn Storage, dirs: &[TempDir], accept_loss: bool) -> Result<Repaired> {
    let goes_on = &mut |_| ControlFlow::Continue(());
    repair(storage, &paths(dirs), &CheckOptions::default(), accept_loss, goes_on)
}

/// Repairs, and checks that nothing is left to repair.
fn mend(dirs: &[TempDir], accept_loss: bool) -> Plan {
    let repaired = mend_with(&real(), dirs, accept_loss).unwrap();
    assert!(repaired.is_complete(), "{repaired:?}");
    let again = plan(dirs);
    assert!(again.steps.is_empty(), "{:?}", again.steps);
    assert_eq!(again.report.worst(), Meaning::Harmless, "{:?}", again.report.findings);
    repaired.plan
}

fn manifest(dir: &Path) -> PathBuf {
    dir.join(stores::STORE).join("MANIFEST")
}

/// Opens the map and returns the keys that are not as they were synced, or later.
fn wrong_keys(dirs: &[TempDir], expected: &Expected) -> Vec<u64> {
    let map = stores::open_with(dirs, "").unwrap();
    let mut wrong = Vec::new();
    let mut there = 0;
    for number in 0..UNIVERSE {
        let found = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        there += u64::from(found.is_some());
        if !expected[&number].contains(&found) {
            assert!(found.is_none(), "key {number} has a value that was superseded");
            wrong.push(number);
        }
    }
    assert_eq!(map.len(), there);
    wrong
}

fn names(dirs: &[TempDir]) -> Vec<String> {
    let files = dirs.iter().flat_map(stores::files);
    files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn flip(path: &Path, at: usize, mask: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= mask;
    std::fs::write(path, bytes).unwrap();
}

/// Where the records of a key begin, in the order of the log, with their kinds.
fn records_of(segment: &Path, number: u64) -> Vec<(usize, u32)> {
    let bytes = std::fs::read(segment).unwrap();
    let windows = bytes.windows(44).enumerate().step_by(16);
    windows
        .filter(|(_, window)| window[12..] == key(number))
        .map(|(at, window)| (at, u32::from_le_bytes(window[4..8].try_into().unwrap()) >> 28))
        .collect()
}

fn segment(dirs: &[TempDir]) -> PathBuf {
    dirs.iter().flat_map(stores::files).find(|path| is(path, "seg")).unwrap()
}

#[test]
fn a_sound_map_has_nothing_to_repair() {
    for (directories, end) in [(1, End::Clean), (3, End::Clean), (2, End::Killed)] {
        let (dirs, expected) = build(directories, end);
        let report = check(&dirs);
        assert_eq!(report.worst(), Meaning::Harmless, "{:?}", report.findings);
        if end == End::Clean {
            assert_eq!(report.findings, []);
            // Keys 0..7 but for the deleted one, and the long one, which has two records.
            assert_eq!((report.totals.live, report.totals.records), (7, 12));
            assert_eq!(report.totals.dead, 4);
            assert_eq!(report.totals.segments, report.totals.summaries);
            assert!(report.totals.live_bytes > 8200);
        }
        let before = names(&dirs);
        assert!(mend(&dirs, false).steps.is_empty());
        assert_eq!(names(&dirs), before);
        assert_eq!(wrong_keys(&dirs, &expected), [0; 0]);
    }
}

#[test]
fn a_record_that_is_lost_does_not_bring_an_older_one_back() {
    for end in [End::Clean, End::NoSummaries] {
        let (dirs, expected) = build(1, end);
        for number in (0..7).chain([LONG]) {
            let records = records_of(&segment(&dirs), number);
            assert!(!records.is_empty());
            for (position, (at, kind)) in records.iter().enumerate() {
                let is_newest = position + 1 == records.len();
                let damaged = stores::copies(&dirs);
                // In the value, or of a deletion in the checksum: its key can still be read.
                flip(&segment(&damaged), if *kind == 3 { *at } else { at + 45 }, 0x40);
                let what = format!("{end:?}, key {number}, record {position} of kind {kind}");
                let planned = plan(&damaged);
                assert_eq!(planned.report.worst() == Meaning::Lost, !planned.losses.is_empty());
                let finding = planned
                    .report
                    .findings
                    .iter()
                    .find(|finding| finding.kind == FindingKind::RecordDamaged);
                assert_eq!(finding.unwrap().offset, *at as u64, "{what}");
                if !planned.losses.is_empty() {
                    let refused = mend_with(&real(), &damaged, false).unwrap();
                    assert!(refused.needs_consent && refused.done == 0, "{what}");
                    assert!(!names(&damaged).iter().any(|name| name.ends_with("aside")));
                }
                mend(&damaged, true);
                let wrong = wrong_keys(&damaged, &expected);
                let is_exact = end == End::Clean || records.len() > 1;
                if end == End::Clean {
                    // A deletion or a commit can be made again, an older record is not missed.
                    let lost = is_newest && *kind == 1 || *kind == 4;
                    assert_eq!(planned.losses.len(), usize::from(lost), "{what}");
                    assert_eq!(wrong.len(), usize::from(lost), "{what}");
                }
                if is_exact {
                    assert!(wrong.iter().all(|wrong| *wrong == number), "{what}: {wrong:?}");
                }
                let has = |end: &str| names(&damaged).iter().any(|name| name.ends_with(end));
                assert!(has(".seg.aside"), "{what}");
                assert_eq!(has(".sum.aside"), end == End::Clean, "{what}");
            }
        }
        assert_eq!(records_of(&segment(&dirs), SET_TWICE[0]).len(), 2);
        assert_eq!(records_of(&segment(&dirs), DELETED).last().unwrap().1, 3);
    }
}

/// Whatever byte is damaged, every other record is there afterwards.
#[test]
fn every_flipped_byte_can_be_repaired() {
    for end in [End::Clean, End::NoSummaries, End::Killed] {
        let (dirs, expected) = build(1, end);
        for (file, path) in stores::files(&dirs[0]).iter().enumerate() {
            let bytes = std::fs::read(path).unwrap();
            let content = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            let near = |at: &usize| bytes[at.saturating_sub(16)..(at + 16).min(content)] != [0; 32];
            for at in (0..content).filter(near).step_by(29).filter(|at| *at < 6000 || at % 9 == 0) {
                let damaged = stores::copies(&dirs);
                let mask = if at % 2 == 0 { 0xff } else { 1 << (at % 8) };
                flip(&stores::files(&damaged[0])[file], at, mask);
                let what = format!("{end:?}: {} at {at}: {mask:#x}", path.display());
                let planned = mend(&damaged, true);
                let map = stores::open_with(&damaged, "").unwrap();
                let mut wrong = Vec::new();
                for number in 0..UNIVERSE {
                    let found =
                        map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
                    if !expected[&number].contains(&found) {
                        wrong.push(number);
                    }
                }
                assert!(wrong.len() <= 1, "{what}: {wrong:?}");
                if planned.losses.is_empty() {
                    assert_eq!(wrong, [0; 0], "{what}");
                }
            }
        }
    }
}

#[test]
fn manifests_are_corrected_or_made_again() {
    for directories in [1, 2] {
        let (dirs, expected) = build(directories, End::Clean);
        // Its length, and one bit: nothing is lost.
        for (at, mask) in [(0, 0x10), (3, 0xff), (100, 1), (165, 0x80)] {
            let damaged = stores::copies(&dirs);
            flip(&manifest(damaged[0].path()), at, mask);
            assert!(stores::open_with(&damaged, "").is_err());
            let planned = mend(&damaged, false);
            assert_eq!(planned.steps.len(), 1);
            assert_eq!(planned.steps[0].action, Action::RewriteManifest);
            assert_eq!(wrong_keys(&damaged, &expected), [0; 0]);
            assert!(names(&damaged).contains(&"MANIFEST.aside".to_owned()));
        }
        // More than that, or all of it.
        let damaged = stores::copies(&dirs);
        flip(&manifest(damaged[0].path()), 100, 0xff);
        let gone = stores::copies(&dirs);
        std::fs::remove_file(manifest(gone[0].path())).unwrap();
        for damaged in [damaged, gone] {
            assert!(mend_with(&real(), &damaged, false).unwrap().needs_consent);
            let planned = mend(&damaged, true);
            assert!(planned.losses[0].text.contains("may come back"));
            assert_eq!(wrong_keys(&damaged, &expected), [0; 0]);
        }
    }
    // Nothing says how the shards were dealt out, and whose secret it was.
    let (dirs, _) = build(2, End::Clean);
    dirs.iter().for_each(|dir| std::fs::remove_file(manifest(dir.path())).unwrap());
    let error = mend_with(&real(), &dirs, true).unwrap_err().to_string();
    assert!(error.contains("restore the directories from a copy"), "{error}");
    assert!(names(&dirs).iter().all(|name| !name.contains("aside") && !name.contains("repaired")));
}

#[test]
fn files_that_are_missing_or_do_not_belong() {
    let (dirs, expected) = build(2, End::Clean);
    // A summary.
    let damaged = stores::copies(&dirs);
    let summary = segment(&damaged).with_extension("sum");
    std::fs::remove_file(&summary).unwrap();
    let planned = mend(&damaged, false);
    assert_eq!(planned.report.findings[0].kind, FindingKind::SummaryMissing);
    let map = stores::open_with(&damaged, "").unwrap();
    let recovery = map.recovery().unwrap();
    assert_eq!((recovery.segments_scanned, recovery.segments_from_summary), (0, 2));
    drop(map);
    assert_eq!(wrong_keys(&damaged, &expected), [0; 0]);
    // A segment: the summary beside it says what was in it.
    let damaged = stores::copies(&dirs);
    std::fs::remove_file(segment(&damaged)).unwrap();
    let planned = plan(&damaged);
    let lost = planned.losses[0].keys.unwrap();
    assert_eq!(planned.report.findings[0].kind, FindingKind::SegmentMissing);
    mend(&damaged, true);
    assert_eq!(wrong_keys(&damaged, &expected).len() as u64, lost);
    assert!((1..7).contains(&lost));
    // A segment that was cut.
    let damaged = stores::copies(&dirs);
    std::fs::File::options().write(true).open(segment(&damaged)).unwrap().set_len(4096).unwrap();
    mend(&damaged, true);
    assert_eq!(wrong_keys(&damaged, &expected).len() as u64, lost);
    // One of another directory, which keeps the map from opening.
    let damaged = stores::copies(&dirs);
    let foreign = damaged[0].path().join(stores::STORE).join("001-0000-00000007.seg");
    std::fs::copy(segment(&damaged), &foreign).unwrap();
    assert!(stores::open_with(&damaged, "").is_err());
    let planned = mend(&damaged, true);
    assert_eq!(planned.steps[0].action, Action::SetAside);
    assert_eq!(wrong_keys(&damaged, &expected), [0; 0]);
    assert!(names(&damaged).contains(&"001-0000-00000007.seg.aside".to_owned()));
}

#[test]
fn what_does_no_harm_is_named_and_left_alone() {
    let (dirs, _) = build(1, End::Clean);
    let map = stores::open_with(&dirs, "").unwrap();
    map.clear().unwrap();
    map.set(&key(1), b"one", 0, Wait::Allowed).unwrap();
    drop(map);
    let store = dirs[0].path().join(stores::STORE);
    let put = |name: &str| std::fs::write(store.join(name), [7; 4096]).unwrap();
    put("MANIFEST.new");
    put("notes.txt");
    put("000-0001-00000123.sum");
    // Of the content before the clear, and behind the end of the log.
    put("000-0000-00000005.seg");
    put("000-0001-00000099.seg");
    let kinds = |kind| move |finding: &&blocktier::diskmap::check::Finding| finding.kind == kind;
    let report = check(&dirs);
    let count = |kind| report.findings.iter().filter(kinds(kind)).count();
    assert_eq!(count(FindingKind::FileLeftover), 3, "{:?}", report.findings);
    assert_eq!(count(FindingKind::SegmentLeftover), 2);
    assert_eq!((report.findings.len(), report.worst()), (5, Meaning::Harmless));
    assert_eq!(report.totals.live, 1);
    assert!(mend(&dirs, false).steps.is_empty());
    assert_eq!(names(&dirs).len(), 8);
    let map = stores::open_with(&dirs, "").unwrap();
    assert!(map.exists(&key(1), Wait::Allowed).unwrap() && map.len() == 1);
}

#[test]
fn a_map_that_was_being_made_needs_no_repair() {
    let (dirs, settings) = (maps::temp_dirs(2), RuntimeSettings::default());
    // It ends between the first manifest and the second.
    let faults = FaultStorage::new(Arc::new(real()));
    faults.fail_nth(FaultOp::Rename, 2, 5);
    let runtime = blocktier::runtime::Runtime::with_storage(&settings, Arc::new(faults)).unwrap();
    assert!(
        blocktier::txmap::DiskTxMap::open(&runtime, &stores::settings_with(&dirs, "")).is_err()
    );
    assert!(names(&dirs).contains(&"MANIFEST".to_owned()));
    let planned = plan(&dirs);
    assert_eq!(planned.report.worst(), Meaning::Harmless, "{:?}", planned.report.findings);
    assert!(planned.steps.is_empty());
    assert_eq!(stores::open_with(&dirs, "").unwrap().len(), 0);
}

#[test]
fn a_torn_end_does_no_harm_and_a_stale_directory_is_a_loss() {
    let (dirs, expected) = build(1, End::Killed);
    let whole = check(&dirs);
    let path = segment(&dirs);
    let bytes = std::fs::read(&path).unwrap();
    let end = (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(4096);
    flip(&path, end + 77, 1);
    let torn = check(&dirs);
    assert_eq!((torn.findings.len(), torn.worst()), (1, Meaning::Harmless));
    assert_eq!(torn.findings[0].kind, FindingKind::TornEnd);
    assert_eq!(torn.totals.live, whole.totals.live);
    assert_eq!(wrong_keys(&dirs, &expected), [0; 0]);
    // One of two directories is that of an earlier sync.
    let (dirs, _) = build(2, End::Clean);
    let old = stores::copies(&dirs);
    drop(stores::open_with(&dirs, "").unwrap());
    std::fs::copy(manifest(old[1].path()), manifest(dirs[1].path())).unwrap();
    let report = check(&dirs);
    assert_eq!(report.findings[0].kind, FindingKind::ManifestInconsistent);
    assert_eq!(report.worst(), Meaning::Lost);
    assert!(report.findings[0].text.contains("older copy"));
}

#[test]
fn directories_are_found_and_wrong_ones_refused() {
    let (dirs, _) = build(2, End::Clean);
    let with = |paths: &[PathBuf]| {
        let goes_on = &mut |_| ControlFlow::Continue(());
        verify(&real(), paths, &CheckOptions::default(), goes_on)
    };
    let of_map: Vec<_> = paths(&dirs).iter().map(|dir| dir.join(stores::STORE)).collect();
    let turned = [of_map[1].clone(), of_map[0].clone()];
    assert_eq!(with(&of_map).unwrap().totals, with(&turned).unwrap().totals);
    let refusal = |paths: &[PathBuf]| with(paths).unwrap_err().to_string();
    assert!(refusal(&[]).contains("name the directories"));
    assert!(refusal(&of_map[..1]).contains("has 2 directories, 1 are named"));
    assert!(refusal(&[of_map[0].clone(), of_map[0].clone()]).contains("name each one once"));
    let (other, _) = build(2, End::Clean);
    let mixed = [paths(&dirs)[0].clone(), paths(&other)[1].clone()];
    assert!(refusal(&mixed).contains("belongs to another map"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(&[empty.path().to_owned()]).contains("holds no durable map"));
    // A living owner is named.
    let map = stores::open_with(&dirs, "").unwrap();
    let owned = refusal(&paths(&dirs));
    assert!(owned.contains(&format!("transaction map, pid {}", std::process::id())), "{owned}");
    assert!(matches!(mend_with(&real(), &dirs, true), Err(Error::Locked { .. })));
    drop(map);
    // A dead one is no hindrance, and its text stays.
    let lock = of_map[0].join("LOCK");
    std::fs::write(&lock, "transaction map, pid 1, since then\n").unwrap();
    assert_eq!(DirLock::owner(&of_map[0]).unwrap(), None);
    assert_eq!(with(&of_map).unwrap().findings, []);
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "transaction map, pid 1, since then\n");
}

#[test]
fn a_check_reports_progress_and_can_be_interrupted() {
    let (dirs, _) = build(2, End::Clean);
    let mut seen = Vec::new();
    let whole = verify(&real(), &paths(&dirs), &CheckOptions::default(), &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    let whole = whole.unwrap();
    assert!(seen.is_sorted_by_key(|progress| progress.done_bytes));
    assert!(seen.iter().all(|progress| progress.done_bytes <= progress.total_bytes));
    assert_eq!(seen.last().unwrap().done_bytes, whole.totals.read_bytes);
    let stop = &mut |_| ControlFlow::Break(());
    let report = verify(&real(), &paths(&dirs), &CheckOptions::default(), stop).unwrap();
    assert!(report.interrupted && report.totals.directories == 0);
    let stop = &mut |_| ControlFlow::Break(());
    let repaired = repair(&real(), &paths(&dirs), &CheckOptions::default(), true, stop).unwrap();
    assert!(repaired.interrupted && !repaired.is_complete());
}

/// Little memory means more passes, and the same counts.
#[test]
fn memory_is_bounded() {
    let (dirs, _) = build(1, End::Clean);
    let map = stores::open_with(&dirs, "").unwrap();
    for number in 100..40_000 {
        map.set(&key(number), &[7; 9], 0, Wait::Allowed).unwrap();
    }
    for number in 100..200 {
        map.set(&key(number), &[8; 9], 0, Wait::Allowed).unwrap();
    }
    drop(map);
    let with = |memory_bytes| {
        let options = CheckOptions { memory_bytes, ..CheckOptions::default() };
        verify(&real(), &paths(&dirs), &options, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let (roomy, tight) = (with(1 << 30), with(0));
    assert_eq!(roomy.findings, []);
    assert_eq!(roomy.totals.live, 39_900 + 7);
    assert!(tight.totals.read_bytes > roomy.totals.read_bytes);
    let counts = |report: &Report| {
        let totals = report.totals;
        (totals.records, totals.live, totals.dead, totals.live_bytes, totals.dead_bytes)
    };
    assert_eq!(counts(&roomy), counts(&tight));
}

/// A map with all kinds of damage, of which every part but two values can be mended.
fn damaged() -> (Vec<TempDir>, Expected) {
    let (dirs, mut expected) = build(2, End::Clean);
    for number in [0, 3] {
        let segments = dirs.iter().flat_map(stores::files).filter(|path| is(path, "seg"));
        for path in segments {
            for (at, _) in records_of(&path, number) {
                flip(&path, at + 50, 0x55);
            }
        }
        expected.insert(number, vec![None]);
    }
    flip(&manifest(dirs[1].path()), 70, 4);
    let mut summaries = dirs.iter().flat_map(stores::files).filter(|path| is(path, "sum"));
    flip(&summaries.next_back().unwrap(), 70, 4);
    (dirs, expected)
}

#[test]
fn a_repair_that_fails_at_any_operation_can_be_done_again() {
    let ops = [
        FaultOp::Create,
        FaultOp::Allocate,
        FaultOp::Open,
        FaultOp::Write,
        FaultOp::Read,
        FaultOp::Sync,
        FaultOp::Rename,
        FaultOp::RemoveFile,
        FaultOp::ReadDir,
        FaultOp::SyncDir,
    ];
    let (dirs, expected) = damaged();
    let mut failed = HashSet::new();
    for op in ops {
        for nth in 1.. {
            let dirs = stores::copies(&dirs);
            let faults = FaultStorage::new(Arc::new(real()));
            faults.remember_unsynced();
            faults.fail_nth(op, nth, 5);
            let outcome = mend_with(&faults, &dirs, true);
            if faults.faults(op) == 0 {
                assert!(outcome.unwrap().is_complete());
                break;
            }
            // What cannot be read is damage like any other, and then more is lost than has to be:
            // only errors of what follows leave the map to the next attempt.
            let is_read = matches!(op, FaultOp::Open | FaultOp::Read);
            if is_read && outcome.is_ok() {
                continue;
            }
            assert!(outcome.is_err(), "{op:?} {nth}");
            failed.insert(op as usize);
            // As after a power cut.
            faults.lose_unsynced(|_, _| true).unwrap();
            mend(&dirs, true);
            assert_eq!(wrong_keys(&dirs, &expected), [0; 0], "{op:?} {nth}");
        }
    }
    // Nothing is removed where no attempt came before.
    assert_eq!(failed.len(), ops.len() - 1, "{failed:?}");
}

/// Killed between any two changes of a name: what there is then either opens as it was, damaged, or
/// is refused until it is repaired again.
#[test]
fn a_repair_that_was_killed_goes_on() {
    let (dirs, expected) = damaged();
    for nth in 1.. {
        let dirs = stores::copies(&dirs);
        let faults = FaultStorage::new(Arc::new(real()));
        faults.fail_nth(FaultOp::Rename, nth, 5);
        let outcome = mend_with(&faults, &dirs, true);
        if faults.faults(FaultOp::Rename) == 0 {
            assert!(nth > 5, "a repair changes more names than {nth}");
            break;
        }
        assert!(outcome.is_err());
        let report = check(&dirs);
        assert!(report.worst() >= Meaning::Repairable, "{nth}: {:?}", report.findings);
        mend(&dirs, true);
        assert_eq!(wrong_keys(&dirs, &expected), [0; 0], "{nth}");
    }
}
