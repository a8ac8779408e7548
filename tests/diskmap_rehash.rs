//! Pages of the index that are built anew from the keys in the log, beside everything else that a
//! map does: writers, readers, removals, merges, clears, reading that fails, reopening.
//!
//! The keys' hashes lead to few shards, so that these are split often with few keys, and splits are
//! too many from the second one on.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blocktier::diskmap::{DiskMap, Key, MapStats, Wait};
use blocktier::hash::keyed::{KeyHash, KeyedHasher};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::storage::fault::FaultOp;
use blocktier::storage::{FaultStorage, RealStorage};
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use rng::Rng;

/// Shards that keys have; each has room for some thousand keys before its first split.
const SHARDS: u64 = 4;
/// Enough for splits of splits in all of them.
const KEYS: u64 = 40_000;

/// A key in one of few shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crowded([u8; 32]);

impl Key for Crowded {
    const BYTES: usize = 32;

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hash(&self, hasher: &KeyedHasher) -> KeyHash {
        let h = hasher.hash32(&self.0);
        KeyHash { hi: h.hi, lo: h.lo & (u64::MAX >> 12) | (h.hi % SHARDS) << 52 }
    }
}

type Map = DiskMap<Crowded>;

fn settings(dirs: &[TempDir], more: &str) -> TxMapSettings {
    let more = format!("txMapSegment = 1M\n{more}");
    TxMapSettings { rehash_splits: 1, ..small_settings(dirs, &more) }
}

fn crowded(number: u64) -> Crowded {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    Crowded(key)
}

fn value_of(number: u64, version: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Waits for what the background does without being asked.
fn wait_until(map: &Map, what: &str, done: impl Fn(&MapStats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done(&map.stats()) {
        assert!(Instant::now() < deadline, "not within two minutes: {what}: {:?}", map.stats());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn fill(map: &Map, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let subtree = (number % 7) as u16;
        map.set(&crowded(number), &value_of(number, 0), subtree, Wait::Allowed).unwrap();
    }
}

/// What the map says of a key: version and subtree index.
fn get(map: &Map, number: u64) -> Option<(u32, u16)> {
    map.get(&crowded(number), Wait::Allowed, |value, subtree| {
        assert_eq!(value[..8], number.to_le_bytes(), "the value of another key");
        (u32::from_le_bytes(value[8..].try_into().unwrap()), subtree)
    })
    .unwrap()
}

fn check(map: &Map, model: &HashMap<u64, (u32, u16)>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(get(map, number), model.get(&number).copied(), "key {number}");
    }
    assert_eq!(map.len(), model.len() as u64);
    let mut visited = 0;
    map.for_each(|entry| {
        visited += 1;
        let number = u64::from_le_bytes(entry.value[..8].try_into().unwrap());
        assert_eq!(model[&number].1, entry.subtree_index);
        true
    })
    .unwrap();
    assert_eq!(visited, model.len());
}

/// One writer's random changes of its own keys, until it is told to end.
fn write(map: &Map, first: u64, done: &AtomicBool) -> HashMap<u64, (u32, u16)> {
    let (mut rng, mut mine) = (Rng::new(first), HashMap::new());
    let mut version = 0;
    while !done.load(Ordering::Acquire) {
        for _ in 0..200 {
            let number = first + rng.below(KEYS / 2);
            let (key, subtree) = (crowded(number), rng.below(1 << 16) as u16);
            match rng.below(5) {
                0 => {
                    let was = map.delete(&key, Wait::Allowed).unwrap();
                    assert_eq!(was, mine.remove(&number).is_some());
                }
                1 => {
                    let was = map.update_subtree_index(&key, subtree, Wait::Allowed).unwrap();
                    let known: Option<&mut (u32, u16)> = mine.get_mut(&number);
                    assert_eq!(was, known.is_some());
                    known.into_iter().for_each(|known| known.1 = subtree);
                }
                _ => {
                    version += 1;
                    let value = value_of(number, version);
                    let was = map.set(&key, &value, subtree, Wait::Allowed).unwrap();
                    assert_eq!(was, mine.insert(number, (version, subtree)).is_some());
                }
            }
        }
    }
    mine
}

#[test]
fn pages_are_built_anew_beside_everything_else() {
    let dirs = temp_dirs(2);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = Map::open(&runtime, &settings(&dirs, "")).unwrap();
    for round in 0..2 {
        fill(&map, 0..KEYS);
        let mut model: HashMap<u64, (u32, u16)> =
            (0..KEYS).map(|number| (number, (0, (number % 7) as u16))).collect();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (map, done) = (&map, &done);
            let writers: Vec<_> =
                [1, 2].map(|i| scope.spawn(move || write(map, i * KEYS, done))).into();
            scope.spawn(move || {
                let mut rng = Rng::new(7);
                while !done.load(Ordering::Acquire) {
                    let number = rng.below(KEYS);
                    assert_eq!(get(map, number), Some((0, (number % 7) as u16)));
                    assert_eq!(get(map, 1 << 40 | number), None);
                }
            });
            wait_until(map, "all shards rehashed", |stats| stats.rehashes >= SHARDS);
            wait_until(map, "a merge", |stats| stats.compactions > 0);
            done.store(true, Ordering::Release);
            for writer in writers {
                model.extend(writer.join().unwrap());
            }
        });
        check(&map, &model, 0..3 * KEYS);
        assert_eq!((map.stats().rehash_failures, map.stats().failed), (0, 0));
        // Also with one under way.
        fill(&map, 4 * KEYS..5 * KEYS);
        map.clear().unwrap();
        assert!(map.is_empty() && map.stats().rehashes == 0, "round {round}");
    }
    fill(&map, 0..KEYS);
    drop((map, runtime));
    assert!(dirs.iter().all(|dir| dir.path().read_dir().unwrap().next().is_none()));
}

#[test]
fn a_read_that_fails_leaves_the_pages_as_they_were() {
    let dirs = temp_dirs(1);
    let process = RuntimeSettings::default();
    let faults = FaultStorage::new(Arc::new(RealStorage::new(&process)));
    let runtime = Runtime::with_storage(&process, Arc::new(faults.clone())).unwrap();
    let map = Map::open(&runtime, &settings(&dirs, "")).unwrap();
    fill(&map, 0..KEYS / 16);
    assert_eq!(map.stats().rehashes, 0);
    faults.fail_all(FaultOp::Read, 5);
    let mut model = HashMap::new();
    for number in 0..KEYS {
        // A tag that matches by chance needs a read, which fails: that key is not there then.
        let set = map.set(&crowded(number), &value_of(number, 0), 3, Wait::Allowed);
        if set.is_ok() {
            model.insert(number, (0, 3));
        } else if number < KEYS / 16 {
            model.insert(number, (0, (number % 7) as u16));
        }
    }
    assert!(model.len() as u64 > KEYS * 9 / 10);
    wait_until(&map, "a failure", |stats| stats.rehash_failures > 0);
    faults.clear_rules();
    let told = std::iter::from_fn(|| runtime.events().pop())
        .any(|event| event.text.contains("could not be built anew"));
    assert!(told);
    check(&map, &model, 0..KEYS + 100);
    assert_eq!(map.stats().failed, 0, "the map goes on");
    map.set(&crowded(0), &value_of(0, 1), 0, Wait::Allowed).unwrap();
    assert_eq!(get(&map, 0), Some((1, 0)));
}

/// What was split often before is built anew after reopening, without another split.
#[test]
fn a_reopened_map_is_rehashed() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let durable = settings(&dirs, "txMapDurability = durable\ntxMapName = crowded\n");
    let never = TxMapSettings { rehash_splits: 24, ..durable.clone() };
    let map = Map::open(&runtime, &never).unwrap();
    fill(&map, 0..KEYS);
    map.sync(Wait::Allowed).unwrap();
    assert_eq!(map.stats().rehashes, 0);
    drop(map);
    let map = Map::open(&runtime, &durable).unwrap();
    wait_until(&map, "all shards rehashed", |stats| stats.rehashes >= SHARDS);
    // Subtree indexes are not kept.
    let model = (0..KEYS).map(|number| (number, (0, 0))).collect();
    check(&map, &model, 0..KEYS + 100);
}
