//! Who owns what is in a directory: one map per name in all processes, files of dead processes are
//! swept and those of living ones never, and closing leaves nothing behind.
//!
//! The tests of this file run one at a time, because some count the process's descriptors and
//! writer threads.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and speak to the test that started them"
)]

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

use blocktier::Error;
use blocktier::diskmap::{Inserted, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;

use maps::{small_settings, temp_dirs};
use process::{Footprint, alone, entries};
use records::{key, value};

fn runtime() -> Runtime {
    Runtime::open(&RuntimeSettings::default()).unwrap()
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
fn maps_that_open_at_once_in_one_directory_do_not_disturb_each_other() {
    let _alone = alone();
    let dirs = temp_dirs(2);
    let runtime = runtime();
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

/// In a process that a test has started: the settings of the map to hold.
const SETTINGS: &str = "BLOCKTIER_TEST_SETTINGS";
/// The test that holds a map when it is started so.
const HOLDING: &str = "a_name_has_one_owner_in_all_processes_and_is_free_after_its_death";

/// Opens a map and holds it until the process is killed.
fn hold(settings: &str) -> ! {
    let map = DiskTxMap::open(&runtime(), &TxMapSettings::parse(settings).unwrap()).unwrap();
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
        let sizes = "txMapTail = 256K\ntxMapSegment = 64K";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", HOLDING, "--nocapture"])
            .env(SETTINGS, format!("txMapDirs = {}\n{sizes}\n{more}", paths.join("|")))
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
    let runtime = runtime();
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
    if let Ok(settings) = std::env::var(SETTINGS) {
        hold(&settings);
    }
    let _alone = alone();
    let dirs = temp_dirs(1);
    let mut holder = Holder::start(&dirs, "txMapName = pool");
    let runtime = runtime();
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
    let left = || dirs.iter().all(|dir| entries(&maps_in(dir.path())[0]).len() > 1);
    assert!(left());
    // A sweep that fails too is reported, keeps no map from opening, and is not the last.
    let other = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
    drop(DiskTxMap::open(&other, &small_settings(&dirs, "")).unwrap());
    assert!(left());
    let event = other.events().pop().unwrap().text;
    assert!(event.starts_with("the files of a dead map could not be swept: remove "), "{event}");
    drop(other);
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
        let runtime = runtime();
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
