//! How a map uses its directories: by their weights, within their quotas, above their floors.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};

const VALUE_BYTES: usize = 84;

fn open(runtime: &Runtime, dirs: &[TempDir], more: &str) -> DiskTxMap {
    DiskTxMap::open(runtime, &small_settings(dirs, more)).unwrap()
}

fn runtime() -> Runtime {
    Runtime::open(&RuntimeSettings::default()).unwrap()
}

fn insert(map: &DiskTxMap, number: u64) -> blocktier::Result<()> {
    let value = value(number, VALUE_BYTES);
    map.set_if_not_exists(&key(number), &value, 0, Wait::Allowed, |_, _| ()).map(|_| ())
}

fn check_all(map: &DiskTxMap, count: u64) {
    for number in 0..count {
        let seen = map.get(&key(number), Wait::Allowed, |bytes, _| bytes.to_vec()).unwrap();
        assert_eq!(seen, Some(value(number, VALUE_BYTES)), "record {number}");
    }
}

/// Bytes written to each directory by a map of `count` records.
fn written(dirs: &[TempDir], more: &str, count: u64) -> Vec<u64> {
    let runtime = runtime();
    let map = open(&runtime, dirs, more);
    (0..count).for_each(|number| insert(&map, number).unwrap());
    map.flush().unwrap();
    runtime.disks().iter().map(|disk| disk.stats().snapshot().bytes_written).collect()
}

#[test]
fn directories_get_their_shares() {
    let sizes = "txMapTail = 2M\ntxMapSegment = 1M";
    for count in [1, 2, 3, 5, 7] {
        let bytes = written(&temp_dirs(count), sizes, 100_000);
        let mean = bytes.iter().sum::<u64>() as f64 / count as f64;
        // Shards are dealt out exactly; how many of so few keys fall into each is chance.
        for bytes in &bytes {
            assert!((*bytes as f64 / mean - 1.0).abs() < 0.05, "{count} directories: {bytes}");
        }
    }
    let bytes = written(&temp_dirs(3), &format!("{sizes}\ntxMapDirWeights = 4|1|3"), 100_000);
    let sum: u64 = bytes.iter().sum();
    for (weight, bytes) in [4.0, 1.0, 3.0].into_iter().zip(&bytes) {
        let share = *bytes as f64 / sum as f64;
        assert!((share - weight / 8.0).abs() < 0.02, "weight {weight}: {share}");
    }
}

/// Inserts until the map is full; how many were acknowledged, and why no more.
fn fill(map: &DiskTxMap) -> (u64, Error) {
    let error = |number| insert(map, number).err().map(|error| (number, error));
    (0..100_000).find_map(error).unwrap()
}

#[test]
fn a_quota_ends_the_map_and_not_what_it_acknowledged() {
    let dirs = temp_dirs(2);
    let runtime = runtime();
    let map = open(&runtime, &dirs, "txMapDirQuotas = 4M | 192K");
    let other = open(&runtime, &dirs, "");
    let (count, error) = fill(&map);
    let Error::Failed(cause) = &error else { panic!("{error}") };
    assert!(matches!(**cause, Error::DiskFull { .. }), "{error}");
    let second = dirs[1].path().canonicalize().unwrap();
    let text = error.to_string();
    assert!(text.contains(&second.display().to_string()), "which directory: {text}");
    assert!(text.contains("txMapDirQuotas allows 196608 bytes"), "{text}");
    // Three segments of 64K each, half of all records.
    assert!(count > 2 * 1024, "{count} records of 128 bytes");
    check_all(&map, count);
    let files = map.directories().nth(1).unwrap().read_dir().unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!((192 << 10..196 << 10).contains(&bytes), "three segments and the lock: {bytes}");
    (0..count).for_each(|number| insert(&other, number).unwrap());
    check_all(&other, count);
}

/// Space comes back with the files: a map that never holds more than its quota goes on for ever.
#[test]
fn a_quota_is_for_what_there_is() {
    let dirs = temp_dirs(1);
    let runtime = runtime();
    let map = open(&runtime, &dirs, "txMapDirQuotas = 1M");
    let live = 2000;
    for number in 0..40_000 {
        insert(&map, number).unwrap();
        if number >= live {
            assert!(map.delete(&key(number - live), Wait::Allowed).unwrap());
        }
    }
    assert_eq!(map.len(), live);
    for number in 40_000 - live..40_000 {
        assert!(map.exists(&key(number), Wait::Allowed).unwrap());
    }
}

#[test]
fn a_floor_is_kept_free() {
    let dirs = temp_dirs(1);
    let runtime = runtime();
    let map = open(&runtime, &dirs, "txMapDirFloors = 1024T");
    let (count, error) = fill(&map);
    assert!(error.to_string().contains("txMapDirFloors keeps"), "{error}");
    check_all(&map, count);
}

#[test]
fn lists_fit_the_directories() {
    let refused = |more: &str| {
        let dirs = temp_dirs(3);
        let text = format!(
            "txMapDirs = {}\n{more}",
            dirs.iter().map(|dir| dir.path().display().to_string()).collect::<Vec<_>>().join("|")
        );
        blocktier::settings::TxMapSettings::parse(&text).unwrap_err().to_string()
    };
    assert!(refused("txMapDirWeights = 1|2").contains("2 numbers for 3 directories"));
    assert!(refused("txMapDirQuotas = 1M").contains("too large for this txMapDirQuotas"));
}
