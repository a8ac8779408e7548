//! Opening and closing: what is refused and in which words, what a failed open leaves behind
//! (nothing), one owner per name, sweeping after dead processes, budgets.
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

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use blocktier::{Error, TxId};

use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use records::{key, value};

/// Four lanes need a little more than the smallest tail.
const FOUR_LANES: &str = "txMapTail = 512K\n";

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
    let runtime = runtime("");
    let taken = DiskTxMap::open(&runtime, &small_settings(&dirs[3..4], "txMapName = taken\n"));
    let taken = taken.unwrap();
    // Its writer has run, so it has its name and is counted.
    taken.flush().unwrap();
    assert_eq!(insert(&taken, 0).unwrap(), Inserted::New);
    taken.flush().unwrap();
    let before = Footprint::now();
    let third_of_four: [(PathBuf, &str); 4] = [
        (place("missing"), "does not exist; make it"),
        (place("file"), "is a file; name a directory"),
        (place("file").join("below"), "has a file among its parents"),
        (PathBuf::from("/proc/self"), "/proc/"),
    ];
    for (third, reason) in third_of_four {
        let [first, second, last] = [dirs[0].path(), dirs[1].path(), dirs[2].path()];
        let settings = over_paths(&[first, second, &third, last]);
        let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_ne!(error.os_errno(), 0, "{error}");
        for dir in &dirs[..3] {
            assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
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
    assert!(error.to_string().contains("give each map its own directory"), "{error}");
    for dir in &dirs[..3] {
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
    assert!(owner.join("LOCK").exists(), "the owner lost its lock");
    before.check();
    assert_eq!(insert(&taken, 1).unwrap(), Inserted::New);
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
        before.check();
        for dir in &dirs {
            assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
        }
        assert_eq!(runtime.budget().used(), 0);
        // The same runtime can do it when nothing fails.
        let map = DiskTxMap::open(&runtime, &small_settings(&dirs, FOUR_LANES)).unwrap();
        assert_eq!(insert(&map, 1).unwrap(), Inserted::New);
    }
    before.check();
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
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
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

#[test]
fn an_insert_without_memory_inserts_nothing_and_harms_nothing() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let runtime = runtime("memoryBudget = 16M");
    let settings = small_settings(&dirs, "txMapTail = 12M\ntxMapSegment = 16M\n");
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
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
    let error = error.expect("4 M entries fit into 4 MB");
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(map.len(), done);
    // 12 bytes of header and 32 of key, in units of 16.
    assert_eq!(map.stats().live_bytes, done * 48, "a record that was given up counts as live");
    assert!(map.failure().is_ok());
    (0..done.min(20_000)).for_each(|n| assert!(map.exists(&key(n), Wait::Allowed).unwrap()));
    // What makes room is used.
    let removed: Vec<TxId> = (0..1000).map(key).collect();
    let mut states = vec![ItemState::Pending; 1000];
    map.delete_batch(&removed, Wait::Allowed, &mut states).unwrap();
    let again = map.set(&removed[0], b"again", 0, Wait::Allowed);
    assert!(matches!(again, Ok(false) | Err(Error::OutOfMemory { .. })));
    map.flush().unwrap();
}

#[test]
fn maps_that_open_at_once_in_one_directory_do_not_disturb_each_other() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let runtime = runtime("");
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (dirs, runtime) = (&dirs, &runtime);
            scope.spawn(move || {
                for round in 0..12 {
                    // With names, too: they are free, because only this thread uses them.
                    let name = if round % 2 == 0 { "" } else { "txMapName = own" };
                    let more =
                        if name.is_empty() { String::new() } else { format!("{name}{thread}\n") };
                    let map = DiskTxMap::open(runtime, &small_settings(dirs, &more)).unwrap();
                    assert_eq!(insert(&map, round).unwrap(), Inserted::New);
                    map.flush().unwrap();
                    assert!(is_there(&map, round));
                }
            });
        }
    });
    for dir in &dirs {
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
}

/// Run by other tests in a process of its own: opens a map in the directories of DIRS and holds it
/// until it is killed.
#[test]
#[ignore = "the other half of tests that start it"]
fn child_that_holds_a_map() {
    let dirs = std::env::var("DIRS").unwrap();
    let more = std::env::var("MORE").unwrap();
    let text = format!("txMapDirs = {dirs}\ntxMapTail = 256K\ntxMapSegment = 64K\n{more}");
    let map = DiskTxMap::open(&runtime(""), &TxMapSettings::parse(&text).unwrap()).unwrap();
    (0..3000).for_each(|number| assert_eq!(insert(&map, number).unwrap(), Inserted::New));
    map.flush().unwrap();
    println!("\nholding");
    loop {
        std::thread::park();
    }
}

/// A process with a map.
struct Holder(Child);

impl Holder {
    fn start(dirs: &[tempfile::TempDir], more: &str) -> Self {
        let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_holds_a_map", "--ignored", "--nocapture"])
            .env("DIRS", paths.join("|"))
            .env("MORE", more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "holding"), "the child ended early");
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn files_of_dead_processes_are_swept_and_those_of_living_ones_are_not() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let foreign = dirs[0].path().join("something-else");
    std::fs::create_dir(&foreign).unwrap();
    let mut dead = Holder::start(&dirs, "");
    let of_dead: Vec<PathBuf> = dirs.iter().map(|dir| maps_in(dir.path()).remove(0)).collect();
    let _living = Holder::start(&dirs, "txMapName = living");
    let of_living: Vec<PathBuf> =
        dirs.iter().map(|dir| dir.path().join("blocktier-map-living")).collect();
    let runtime = runtime("");
    let settings = small_settings(&dirs, "");
    // While both live, nothing is swept.
    drop(DiskTxMap::open(&runtime, &settings).unwrap());
    assert!(of_dead.iter().chain(&of_living).all(|dir| entries(dir).len() > 2));
    dead.kill();
    assert!(of_dead.iter().all(|dir| entries(dir).len() > 2), "it left files");
    let before: Vec<_> = of_living.iter().map(|dir| entries(dir)).collect();
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    assert!(of_dead.iter().all(|dir| !dir.exists()), "a dead map's files are still there");
    assert_eq!(of_living.iter().map(|dir| entries(dir)).collect::<Vec<_>>(), before);
    assert!(foreign.exists());
    drop(map);
    assert_eq!(maps_in(dirs[0].path()), of_living[..1]);
}

fn maps_in(dir: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.to_string_lossy().contains("/blocktier-map-");
    entries(dir).into_iter().filter(ours).collect()
}

#[test]
fn a_name_has_one_owner_in_all_processes_and_is_free_after_its_death() {
    let _alone = alone();
    let dirs = temp_dirs(1);
    let mut holder = Holder::start(&dirs, "txMapName = pool");
    let runtime = runtime("");
    let settings = small_settings(&dirs, "txMapName = pool\n");
    let error = DiskTxMap::open(&runtime, &settings).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("pid {}", holder.pid())), "{error}");
    holder.kill();
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    assert!(map.is_empty(), "a map starts empty");
    (0..3000).for_each(|number| assert_eq!(insert(&map, number).unwrap(), Inserted::New));
    map.flush().unwrap();
    let second = DiskTxMap::open(&runtime, &settings).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    (0..3000).for_each(|number| assert!(is_there(&map, number)));
}

#[test]
fn what_a_close_could_not_remove_the_next_open_sweeps() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let before = Footprint::now();
    let settings = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&settings)));
    let runtime = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, "")).unwrap();
    (0..3000).for_each(|number| assert_eq!(insert(&map, number).unwrap(), Inserted::New));
    map.flush().unwrap();
    faults.fail_all(FaultOp::RemoveFile, 5);
    drop(map);
    assert!(dirs.iter().all(|dir| entries(&maps_in(dir.path())[0]).len() > 1));
    faults.clear_rules();
    drop(DiskTxMap::open(&runtime, &small_settings(&dirs, "")).unwrap());
    assert!(dirs.iter().all(|dir| maps_in(dir.path()).is_empty()), "left for ever");
    drop((runtime, faults));
    before.check();
}

#[test]
fn closing_amid_writes_leaves_nothing() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let before = Footprint::now();
    for count in [0, 1, 300, 2000, 5000] {
        let runtime = runtime("");
        let map = DiskTxMap::open(&runtime, &small_settings(&dirs, "txMapFlushAge = 100ms\n"));
        let map = map.unwrap();
        for number in 0..count {
            insert(&map, number).unwrap();
            if number % 700 == 0 {
                map.clear().unwrap();
            }
        }
        // The runtime first: the map keeps what it needs.
        drop(runtime);
        assert_eq!(insert(&map, u64::MAX).unwrap(), Inserted::New);
        drop(map);
        for dir in &dirs {
            assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
        }
        before.check();
    }
}
