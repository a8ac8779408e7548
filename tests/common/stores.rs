//! Durable maps: opening them, and what a crash leaves of them.

use std::path::PathBuf;
use std::sync::Arc;

use blocktier::Result;
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use super::maps::{small_settings, temp_dirs};

pub const STORE: &str = "blocktier-store-pool";

/// Settings of a small durable map, with more lines.
pub fn settings_with(dirs: &[TempDir], more: &str) -> TxMapSettings {
    small_settings(dirs, &format!("txMapName = pool\ntxMapDurability = durable\n{more}"))
}

pub fn open_with(dirs: &[TempDir], more: &str) -> Result<DiskTxMap> {
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    DiskTxMap::open(&runtime, &settings_with(dirs, more))
}

/// A map over a storage that fails and forgets when the test says so.
pub fn open_faulty_with(dirs: &[TempDir], more: &str) -> (FaultStorage, Result<DiskTxMap>) {
    let runtime = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&runtime)));
    faults.remember_unsynced();
    let runtime = Runtime::with_storage(&runtime, Arc::new(faults.clone())).unwrap();
    (faults, DiskTxMap::open(&runtime, &settings_with(dirs, more)))
}

/// What is on disk now, as if the process had been killed: other directories with copies.
pub fn copies(dirs: &[TempDir]) -> Vec<TempDir> {
    let copies = temp_dirs(dirs.len());
    for (from, to) in dirs.iter().zip(&copies) {
        let to = to.path().join(STORE);
        std::fs::create_dir(&to).unwrap();
        for path in files(from) {
            // A cleared generation's files go in the background.
            match std::fs::copy(&path, to.join(path.file_name().unwrap())) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
    }
    copies
}

/// The map's files in a directory, but for its lock, sorted.
pub fn files(dir: &TempDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path().join(STORE)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("LOCK"));
    files.sort();
    files
}
