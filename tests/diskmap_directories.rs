//! Directories that a map cannot use: missing, files, read-only, not permitted, owned by another
//! map, failing at any step. The error says what to do, and nothing is left behind: no file, no
//! thread, no memory.
//!
//! The tests of this file run one at a time, because some count the process's descriptors and
//! writer threads.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking and say what they did"
)]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/process.rs"]
mod process;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use blocktier::Error;
use blocktier::diskmap::{Inserted, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{FaultStorage, MappingOptions, RealStorage};
use blocktier::subtree::NodeArray;
use blocktier::txmap::DiskTxMap;

use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use small_disk::SmallDisk;

/// Four lanes need a little more than the smallest tail.
const FOUR_LANES: &str = "txMapTail = 512K\n";
const NOTHING: [PathBuf; 0] = [];

fn runtime() -> Runtime {
    Runtime::open(&RuntimeSettings::default()).unwrap()
}

/// Inserts the record with this number.
fn insert(map: &DiskTxMap, number: u8) {
    let inserted = map.set_if_not_exists(&[number; 32], b"x", 0, Wait::Allowed, |_, _| ());
    assert_eq!(inserted.unwrap(), Inserted::New);
}

/// Settings over any four paths.
fn over_paths(paths: &[&Path]) -> TxMapSettings {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let text = format!("txMapDirs = {}\n{FOUR_LANES}txMapSegment = 128K", paths.join("|"));
    TxMapSettings::parse(&text).unwrap()
}

#[test]
fn a_failed_open_says_why_and_leaves_nothing() {
    let _alone = alone();
    let dirs = temp_dirs(5);
    let place = |name: &str| dirs[4].path().join(name);
    std::fs::write(place("file"), "").unwrap();
    let owner = dirs[3].path().join("blocktier-map-taken");
    let runtime = runtime();
    let taken = DiskTxMap::open(&runtime, &small_settings(&dirs[3..4], "txMapName = taken\n"));
    let taken = taken.unwrap();
    // Its writer has run, so it has its name and is counted.
    taken.flush().unwrap();
    insert(&taken, 0);
    taken.flush().unwrap();
    let before = Footprint::now();
    let third_of_four: [(PathBuf, &str); 4] = [
        (place("missing"), "does not exist; make it"),
        (place("file"), "is a file; name a directory"),
        (place("file").join("below"), "has a file among its parents"),
        (PathBuf::from("/proc/self"), "takes no new files; choose a directory on a disk"),
    ];
    for (third, reason) in third_of_four {
        let [first, second, last] = [dirs[0].path(), dirs[1].path(), dirs[2].path()];
        let settings = over_paths(&[first, second, &third, last]);
        let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_ne!(error.os_errno(), 0, "{error}");
        for dir in &dirs[..3] {
            assert_eq!(entries(dir.path()), NOTHING);
        }
        before.check();
    }
    // The third directory's name has an owner.
    let four = [&dirs[0], &dirs[1], &dirs[3], &dirs[2]];
    let settings = small_settings(&four, &format!("{FOUR_LANES}txMapName = taken\n"));
    let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
    let Error::Locked { path, owner: text } = &error else { panic!("{error}") };
    assert_eq!(*path, owner.canonicalize().unwrap());
    assert!(text.contains(&format!("transaction map, pid {}", std::process::id())), "{error}");
    assert!(error.to_string().contains("give each owner its own directory"), "{error}");
    for dir in &dirs[..3] {
        assert_eq!(entries(dir.path()), NOTHING);
    }
    assert!(owner.join("LOCK").exists(), "the owner lost its lock");
    before.check();
    insert(&taken, 1);
    drop(taken);
    DiskTxMap::open(&runtime, &settings).unwrap();
}

#[test]
fn every_failed_step_of_an_open_leaves_nothing() {
    let _alone = alone();
    let dirs = temp_dirs(4);
    let before = Footprint::now();
    for nth in 1..=4 {
        let settings = RuntimeSettings::default();
        let faults = FaultStorage::new(Arc::new(RealStorage::new(&settings)));
        let runtime = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
        faults.fail_nth(FaultOp::CreateDir, nth, 13);
        let error = DiskTxMap::open(&runtime, &small_settings(&dirs, FOUR_LANES)).unwrap_err();
        assert_eq!(error.os_errno(), 13, "{error}");
        assert!(error.to_string().contains("let this process's user write to it"), "{error}");
        before.check();
        for dir in &dirs {
            assert_eq!(entries(dir.path()), NOTHING);
        }
        assert_eq!(runtime.budget().used(), 0);
        // The same runtime can do it when nothing fails.
        let map = DiskTxMap::open(&runtime, &small_settings(&dirs, FOUR_LANES)).unwrap();
        insert(&map, 1);
    }
    before.check();
}

/// What a map and a node array say of a directory in which they may not make anything.
fn refusals(dir: &Path) -> [Error; 3] {
    let map = DiskTxMap::open(&runtime(), &small_settings(&[dir], "")).unwrap_err();
    let array = |o_tmpfile| NodeArray::mapped(dir, 64, &MappingOptions { o_tmpfile }).unwrap_err();
    [map, array(true), array(false)]
}

#[test]
fn a_file_in_place_of_the_maps_own_directory_is_named() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let file = dirs[1].path().join("blocktier-map-pool");
    std::fs::write(&file, "not ours").unwrap();
    let settings = small_settings(&dirs, "txMapName = pool\n");
    let error = DiskTxMap::open(&runtime(), &settings).unwrap_err();
    let named = file.canonicalize().unwrap();
    assert!(error.to_string().contains(named.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("is a file; name a directory, or remove"), "{error}");
    assert_eq!(entries(dirs[0].path()), NOTHING);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not ours");
}

#[test]
fn wrong_places_for_subtrees_say_what_to_do() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let file = dirs[0].path().join("file");
    std::fs::write(&file, "").unwrap();
    for (place, reason) in [
        (dirs[0].path().join("missing"), "does not exist; make it"),
        (file.clone(), "is a file; name a directory"),
        (file.join("below"), "has a file among its parents"),
    ] {
        for error in refusals(&place) {
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
        }
    }
    assert_eq!(entries(dirs[0].path()), [file]);
}

#[test]
fn a_read_only_disk_is_named() {
    let _alone = alone();
    let Some(disk) = SmallDisk::mount("size=1m,ro") else { return };
    for error in refusals(disk.path()) {
        assert!(matches!(error, Error::Directory { .. }), "{error}");
        assert!(error.to_string().contains("read-only file system; choose another"), "{error}");
        assert_eq!(error.os_errno(), 30, "{error}");
    }
}

/// Where the test below starts itself as a user with no rights, which directory to try.
const DIR: &str = "BLOCKTIER_TEST_DIR";

fn without_permission(dir: &Path) {
    let before = Footprint::now();
    for error in refusals(dir) {
        assert!(matches!(error, Error::Directory { .. }), "{error}");
        assert_eq!(error.os_errno(), 13, "{error}");
        assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
        assert!(error.to_string().contains("let this process's user write to it"), "{error}");
    }
    for error in refusals(&dir.join("closed/below")) {
        assert!(error.to_string().contains("cannot be reached; permit this process"), "{error}");
    }
    before.check();
    println!("\nrefused as it should be");
}

#[test]
fn a_directory_without_permission_says_what_to_permit() {
    if let Some(dir) = std::env::var_os(DIR) {
        return without_permission(Path::new(&dir));
    }
    let _alone = alone();
    // Nothing binds root: the child is another user, and the program must be where it can read it.
    let place = tempfile::tempdir().unwrap();
    let permit = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (program, dir) = (place.path().join("program"), place.path().join("dir"));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::create_dir_all(dir.join("closed/below")).unwrap();
    permit(place.path(), 0o755);
    permit(&program, 0o755);
    permit(&dir.join("closed"), 0o000);
    permit(&dir, 0o555);
    let mut child = Command::new(&program);
    let this = "a_directory_without_permission_says_what_to_permit";
    child.args(["--exact", this, "--nocapture"]);
    child.env(DIR, dir.canonicalize().unwrap()).current_dir(place.path());
    if rustix::process::geteuid().is_root() {
        child.uid(65_534).gid(65_534);
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().any(|line| line == "refused as it should be"), "{text}");
    permit(&dir.join("closed"), 0o700);
    permit(&dir, 0o755);
    assert_eq!(entries(&dir), [dir.join("closed")]);
}

#[test]
fn a_disk_without_room_for_a_directory_is_full() {
    let _alone = alone();
    // Room for the root alone, then for one directory and nothing in it.
    for (inodes, reason) in [(1, "free space or add a directory"), (2, "no space for a lock file")]
    {
        let Some(disk) = SmallDisk::mount(&format!("size=1m,nr_inodes={inodes}")) else { return };
        let error = DiskTxMap::open(&runtime(), &small_settings(&[&disk], "")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.os_errno(), 28, "{error}");
        assert_eq!(entries(disk.path()), NOTHING);
    }
}
