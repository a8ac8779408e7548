//! Maps over a storage that fails when a test says so, and their records.

use std::sync::Arc;

use blocktier::Result;
use blocktier::diskmap::{Inserted, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::{FaultStorage, RealStorage};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use super::maps::small_settings;
use super::records::{key, value};

/// Records of [`with_cold_records`].
pub const COLD: u64 = 3000;

/// A map as small as it can be, and the handle that makes its storage fail.
pub fn open_faulty(dirs: &[TempDir], more: &str) -> (FaultStorage, DiskTxMap) {
    let settings = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&settings)));
    let runtime = Runtime::with_storage(&settings, Arc::new(faults.clone())).unwrap();
    (faults, DiskTxMap::open(&runtime, &small_settings(dirs, more)).unwrap())
}

/// A map with records `0..COLD`, all of them in files and the first of them in files alone. Its
/// writers have nothing left to do.
pub fn with_cold_records(dirs: &[TempDir]) -> (FaultStorage, DiskTxMap) {
    let (faults, map) = open_faulty(dirs, "");
    (0..COLD).for_each(|number| insert(&map, number, Wait::Allowed).unwrap());
    map.flush().unwrap();
    (faults, map)
}

/// The value of the record with this number: mostly short, some over several blocks.
pub fn record(number: u64) -> Vec<u8> {
    let length = if number % 50 == 49 { 20_000 } else { 200 + number as usize % 300 };
    value(number, length)
}

pub fn insert(map: &DiskTxMap, number: u64, wait: Wait) -> Result<()> {
    let inserted = map.set_if_not_exists(&key(number), &record(number), 0, wait, |_, _| ())?;
    assert_eq!(inserted, Inserted::New);
    Ok(())
}

/// Everything from `numbers` is there, byte for byte.
pub fn check_there(map: &DiskTxMap, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let expected = record(number);
        let same = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
        assert_eq!(same, Some(true), "record {number}");
    }
}
