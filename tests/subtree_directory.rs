//! Subtree files of a directory of our own: stored whole or not at all, mapped in their place.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

#[expect(dead_code, reason = "reads files alone")]
#[path = "common/fixtures.rs"]
mod fixtures;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use blocktier::settings::RuntimeSettings;
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{DirLock, FaultStorage, RealStorage};
use blocktier::subtree::{
    FormatKind, MappedSubtree, Node, SubtreeDirectory, SubtreeFormat, SubtreeParts, SubtreeView,
    Verify,
};
use blocktier::{Error, Result};
use tempfile::TempDir;

use SubtreeFormat::{HashList, Plain, WithMagic};

fn real() -> Arc<RealStorage> {
    Arc::new(RealStorage::new(&RuntimeSettings::default()))
}

fn open(path: &Path) -> Result<SubtreeDirectory> {
    SubtreeDirectory::open(real(), path)
}

/// Nodes that tell which version of a file they are of.
fn version(number: u64) -> Vec<Node> {
    let hash = |index: u64| {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&(number << 32 | index).to_le_bytes());
        hash
    };
    (0..1000 + number).map(|i| Node { hash: hash(i), fee: i, size: 100 + number }).collect()
}

fn store(directory: &SubtreeDirectory, name: &str, number: u64) -> Result<()> {
    let nodes = version(number);
    let conflicting = [nodes[3].hash, nodes[1].hash];
    directory.store(name, Plain, &SubtreeParts::new(&nodes, &conflicting)?)
}

fn version_of(mapped: &MappedSubtree) -> u64 {
    let view = mapped.view();
    view.verify(&Verify::ALL).unwrap();
    let number = view.header().node_count as u64 - 1000;
    assert_eq!(view.nodes_in_place().unwrap(), version(number));
    number
}

/// All files but the lock.
fn names(path: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let names = std::fs::read_dir(path).unwrap().map(name);
    names.filter(|name| name != DirLock::FILE_NAME).collect()
}

fn format_kind(error: &Error) -> FormatKind {
    match error {
        Error::Format(error) => error.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn real_subtrees_are_mapped_as_they_are_parsed() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path()).unwrap();
    for (file, format) in [
        ("derived/block-384188-c1024-00.subtree", Plain),
        ("bad/good-conflicting.subtree", Plain),
        ("bad/good-magic.subtree", WithMagic),
        ("bad/good-list.hashes", HashList),
    ] {
        let bytes = fixtures::read(file);
        std::fs::write(dir.path().join("real"), &bytes).unwrap();
        let mapped = directory.map("real", format).unwrap();
        let (view, expected) = (mapped.view(), SubtreeView::parse(&bytes, format).unwrap());
        assert_eq!(format!("{view:?}"), format!("{expected:?}"), "{file}");
        assert_eq!(view.nodes_in_place().is_some(), format != HashList);
        view.verify(&Verify::ALL).unwrap();
        // What is stored of it is the same file again.
        let nodes: Vec<Node> = view.nodes().collect();
        let parts = SubtreeParts::new(&nodes, view.conflicting()).unwrap();
        directory.store("again", format, &parts).unwrap();
        assert_eq!(std::fs::read(dir.path().join("again")).unwrap(), bytes, "{file}");
    }
}

#[test]
fn a_mapping_outlives_its_name_and_keeps_the_directory_locked() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path()).unwrap();
    store(&directory, "a", 1).unwrap();
    let first = directory.map("a", Plain).unwrap();
    store(&directory, "a", 2).unwrap();
    let second = directory.map("a", Plain).unwrap();
    std::fs::remove_file(dir.path().join("a")).unwrap();
    drop(directory);
    assert_eq!((version_of(&first), version_of(&second)), (1, 2));
    drop(first);
    assert!(matches!(open(dir.path()), Err(Error::Locked { .. })));
    drop(second);
    open(dir.path()).unwrap();
    assert_eq!(names(dir.path()), [""; 0], "nothing is left behind");
}

#[test]
fn a_file_of_another_size_than_it_says_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path()).unwrap();
    let path = dir.path().join("cut");
    for (file, format) in
        [("bad/good-conflicting.subtree", Plain), ("bad/good-magic.subtree", WithMagic)]
    {
        let mut bytes = fixtures::read(file);
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = directory.map("cut", format).unwrap_err();
            assert_eq!(format_kind(&error), FormatKind::Truncated, "{length}: {error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        bytes.push(0);
        std::fs::write(&path, &bytes).unwrap();
        let error = directory.map("cut", format).unwrap_err();
        assert_eq!(format_kind(&error), FormatKind::TrailingBytes);
    }
    std::fs::write(&path, "").unwrap();
    assert_eq!(format_kind(&directory.map("cut", HashList).unwrap_err()), FormatKind::Empty);
}

#[test]
fn names_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let directory = open(&inside).unwrap();
    for name in ["", ".", "..", "../outside", "/tmp/x", "sub/file", ".hidden", "LOCK", "a\0b"] {
        for error in [store(&directory, name, 0), directory.map(name, Plain).map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::InvalidArgument(_)), "{name:?}: {error}");
        }
    }
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), inside.join("link")).unwrap();
    assert!(matches!(directory.map("link", Plain), Err(Error::Unsupported(_))));
    store(&directory, "link", 4).unwrap();
    assert!(!dir.path().join("elsewhere").exists(), "the link's place was taken, not its target");
    assert_eq!(version_of(&directory.map("link", Plain).unwrap()), 4);
}

#[test]
fn directories_that_others_change_are_refused_and_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("chmod go-w"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "not even a lock");
    let missing = open(&dir.path().join("none")).unwrap_err();
    assert!(matches!(missing, Error::Directory { .. }), "{missing}");
}

/// A directory with version 0 of file "a", and what makes its storage fail.
fn faulty(dir: &TempDir) -> (FaultStorage, SubtreeDirectory) {
    let faults = FaultStorage::new(real());
    let directory = SubtreeDirectory::open(Arc::new(faults.clone()), dir.path()).unwrap();
    store(&directory, "a", 0).unwrap();
    (faults, directory)
}

const STEPS: [FaultOp; 6] = [
    FaultOp::Create,
    FaultOp::Allocate,
    FaultOp::Write,
    FaultOp::Sync,
    FaultOp::Rename,
    FaultOp::SyncDir,
];

#[test]
fn whatever_fails_the_name_has_a_whole_file() {
    const EIO: i32 = 5;
    for step in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let (faults, directory) = faulty(&dir);
        let calls = faults.calls(step);
        assert!(calls > 0, "{step:?} is a step");
        // A version is written in as many calls as the one before.
        for nth in 1..=calls {
            faults.fail_nth(step, nth, EIO);
            let error = store(&directory, "a", 1).unwrap_err();
            assert_eq!(error.os_errno(), EIO, "{step:?} {nth}: {error}");
            assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
            let expected = u64::from(step == FaultOp::SyncDir);
            assert_eq!(version_of(&directory.map("a", Plain).unwrap()), expected, "{step:?}");
            assert_eq!(names(dir.path()), ["a"], "{step:?} {nth}");
            faults.clear_rules();
        }
        store(&directory, "a", 2).unwrap();
        assert_eq!(version_of(&directory.map("a", Plain).unwrap()), 2);
    }
}

#[test]
fn a_directory_that_cannot_be_swept_is_an_error_and_free_again() {
    for step in [FaultOp::ReadDir, FaultOp::RemoveFile] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".a.0.new"), "left").unwrap();
        std::fs::write(dir.path().join("other"), "kept").unwrap();
        let faults = FaultStorage::new(real());
        faults.fail_nth(step, 1, 5);
        let error = SubtreeDirectory::open(Arc::new(faults), dir.path()).unwrap_err();
        assert_eq!(error.os_errno(), 5, "{step:?}: {error}");
        let directory = open(dir.path()).unwrap();
        assert_eq!(names(directory.path()), ["other"], "swept, and nothing else");
    }
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, directory) = faulty(&dir);
    faults.set_capacity(Some(40_000));
    let writes = faults.calls(FaultOp::Write);
    let error = store(&directory, "b", 1).unwrap_err();
    assert!(matches!(error, Error::DiskFull { needed: 48_176, .. }), "{error}");
    assert_eq!((faults.calls(FaultOp::Write), names(dir.path())), (writes, vec!["a".to_owned()]));
}

#[test]
fn a_power_cut_after_a_store_loses_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, directory) = faulty(&dir);
    faults.remember_unsynced();
    store(&directory, "a", 1).unwrap();
    faults.lose_unsynced(|_, _| true).unwrap();
    assert_eq!(version_of(&directory.map("a", Plain).unwrap()), 1);
}

const DIRECTORY: &str = "BLOCKTIER_TEST_DIRECTORY";
const STEP: &str = "BLOCKTIER_TEST_STEP";

/// Stores version 1, and waits before a step until it is killed.
fn victim(path: &Path) -> ! {
    let step = STEPS[std::env::var(STEP).unwrap().parse::<usize>().unwrap()];
    let faults = FaultStorage::new(real());
    let directory = SubtreeDirectory::open(Arc::new(faults.clone()), path).unwrap();
    let gate = faults.close_gate(step);
    std::thread::scope(|scope| {
        scope.spawn(|| store(&directory, "a", 1).unwrap());
        assert!(gate.wait_for(1, Duration::from_secs(60)));
        std::io::stdout().write_all(b"\nwaiting\n").unwrap();
        std::thread::sleep(Duration::from_secs(600));
    });
    unreachable!("it was to be killed");
}

#[test]
fn killed_before_any_step_the_name_has_a_whole_file() {
    if let Some(path) = std::env::var_os(DIRECTORY) {
        victim(&PathBuf::from(path));
    }
    for (number, step) in STEPS.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        store(&open(dir.path()).unwrap(), "a", 0).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_before_any_step_the_name_has_a_whole_file", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .env(STEP, number.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let waits = lines.any(|line| line.unwrap() == "waiting");
        assert!(waits, "{step:?}: the child ended early");
        assert!(matches!(open(dir.path()), Err(Error::Locked { .. })), "{step:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let left = names(dir.path()).len() - 1;
        let is_made = matches!(step, FaultOp::Write | FaultOp::Sync | FaultOp::Rename);
        assert_eq!(left, usize::from(is_made), "{step:?} leaves {:?}", names(dir.path()));
        let directory = open(dir.path()).unwrap();
        let expected = u64::from(step == FaultOp::SyncDir);
        assert_eq!(version_of(&directory.map("a", Plain).unwrap()), expected, "{step:?}");
        assert_eq!(names(dir.path()), ["a"], "{step:?}: swept");
    }
}

#[test]
fn many_threads_store_and_map() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path()).unwrap();
    store(&directory, "a", 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 1..4 {
            let directory = &directory;
            scope.spawn(move || {
                for round in 0..10 {
                    store(directory, "a", thread * 10 + round).unwrap();
                    let number = version_of(&directory.map("a", Plain).unwrap());
                    assert!((10..40).contains(&number), "{number}");
                }
            });
        }
    });
    assert_eq!(names(dir.path()), ["a"]);
}
