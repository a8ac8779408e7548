//! Rotating, freezing, moving and iterating while other threads write: nothing is lost, nothing is
//! inserted twice, nothing is visited twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use blocktier::Error;
use blocktier::diskmap::{Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

fn open(directories: usize) -> (Vec<tempfile::TempDir>, DiskTxMap) {
    let dirs = temp_dirs(directories);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, "")).unwrap();
    (dirs, map)
}

fn insert(map: &DiskTxMap, number: u64) -> bool {
    let bytes = value(number, 100 + (number % 300) as usize);
    let inserted = map.set_if_not_exists(&key(number), &bytes, 3, Wait::Allowed, |_, _| ());
    inserted.unwrap() == Inserted::New
}

fn keys_of(map: &DiskTxMap) -> Vec<[u8; 32]> {
    let mut keys = Vec::new();
    let mut cursor = map.iterate(false).unwrap();
    while let Some(entry) = cursor.peek(Wait::Allowed).unwrap() {
        keys.push(*entry.key);
        cursor.advance();
    }
    keys
}

/// Each record is in the new content or in exactly one old one; moving brings them together.
#[test]
fn rotations_under_load_lose_nothing() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 3000;
    let (_dirs, map) = open(2);
    let left = AtomicU64::new(WRITERS);
    let old = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (map, left) = (&map, &left);
            scope.spawn(move || {
                for number in writer * EACH..(writer + 1) * EACH {
                    assert!(insert(map, number), "{number} was there");
                }
                left.fetch_sub(1, Ordering::Release);
            });
        }
        let mut old = vec![map.rotate().unwrap()];
        while left.load(Ordering::Acquire) > 0 && old.len() < 12 {
            if map.len() > EACH / 2 {
                old.push(map.rotate().unwrap());
            }
            std::thread::yield_now();
        }
        old
    });
    let total: u64 = old.iter().map(|map| map.len()).sum::<u64>() + map.len();
    assert_eq!(total, WRITERS * EACH);
    for source in old {
        let keys = keys_of(&source);
        assert_eq!(keys.len() as u64, source.len());
        let mut states = vec![ItemState::Pending; keys.len()];
        assert_eq!(map.move_from(&source, &keys, Wait::Allowed, &mut states).unwrap(), None);
        assert!(states.iter().all(|state| *state == ItemState::Done), "in two contents");
    }
    assert_eq!(map.len(), WRITERS * EACH);
    for number in 0..WRITERS * EACH {
        let same =
            |got: &[u8], index| got == value(number, 100 + (number % 300) as usize) && index == 3;
        assert_eq!(map.get(&key(number), Wait::Allowed, same).unwrap(), Some(true));
    }
}

/// A move and inserters of the same keys: each key is inserted by one of them.
#[test]
fn a_move_beside_writers_of_the_same_keys_is_exact() {
    let (_dirs, map) = open(1);
    let count = 6000;
    (0..count).for_each(|number| assert!(insert(&map, number)));
    let source = map.rotate().unwrap();
    let keys: Vec<_> = (0..count).map(key).collect();
    let mut states = vec![ItemState::Pending; keys.len()];
    let won: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for step in [1, count - 1] {
            let (map, won) = (&map, &won);
            scope.spawn(move || {
                for number in (0..count).map(|at| at * step % count) {
                    if insert(map, number) {
                        assert!(!won[number as usize].swap(true, Ordering::Relaxed));
                    }
                }
            });
        }
        let missing = map.move_from(&source, &keys, Wait::Allowed, &mut states).unwrap();
        assert_eq!(missing, None);
    });
    assert_eq!(map.len(), count);
    for (state, won) in states.iter().zip(won) {
        let moved = *state == ItemState::Done;
        assert!(moved != won.into_inner(), "{state:?}");
    }
}

/// Keys that stay are visited once by each iteration, whatever is done to them, over segments that
/// come and go.
#[test]
fn iterations_beside_writers_visit_what_stays_once() {
    let (_dirs, map) = open(2);
    let stay = 2000;
    (0..stay).for_each(|number| assert!(insert(&map, number)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (map, stop) = (&map, &stop);
            scope.spawn(move || {
                let mut rng = Rng::new(writer);
                while !stop.load(Ordering::Relaxed) {
                    let number = rng.below(2 * stay);
                    if number >= stay && rng.below(2) == 0 {
                        map.delete(&key(number), Wait::Allowed).unwrap();
                    } else {
                        let version = rng.next();
                        let bytes = value(version, 8 + (version % 300) as usize);
                        map.set(&key(number), &bytes, 1, Wait::Allowed).unwrap();
                    }
                }
            });
        }
        for _ in 0..8 {
            let mut seen: HashMap<[u8; 32], u32> = HashMap::new();
            map.for_each(|entry| {
                *seen.entry(*entry.key).or_default() += 1;
                true
            })
            .unwrap();
            assert!(seen.values().all(|times| *times == 1));
            for number in 0..stay {
                assert!(seen.contains_key(&key(number)), "{number} was not visited");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_freeze_beside_writers_is_exact() {
    for round in 0..5 {
        let (_dirs, map) = open(1);
        std::thread::scope(|scope| {
            for writer in 0..4u64 {
                let map = &map;
                scope.spawn(move || {
                    for number in 0.. {
                        // Half of what is set is removed again.
                        let at = if number % 4 == 3 { number - 3 } else { number };
                        let key = key(writer * 1_000_000 + at % 500);
                        let refused = match number % 4 {
                            0 | 1 => map.set(&key, b"value", 1, Wait::Allowed).map(drop),
                            2 => map.update_subtree_index(&key, 9, Wait::Allowed).map(drop),
                            _ => map.delete(&key, Wait::Allowed).map(drop),
                        };
                        if let Err(error) = refused {
                            assert!(matches!(error, Error::Frozen(_)), "{error}");
                            return;
                        }
                    }
                });
            }
            while map.len() < 100 * round {
                std::thread::yield_now();
            }
            map.freeze();
            let state = || {
                let mut all = Vec::new();
                map.for_each(|entry| {
                    all.push((*entry.key, entry.value.to_vec(), entry.subtree_index));
                    true
                })
                .unwrap();
                // Compaction may move what is frozen; its order in the log is no content.
                all.sort_unstable();
                all
            };
            let frozen = state();
            assert!(state() == frozen);
            std::thread::yield_now();
            assert!(state() == frozen);
        });
    }
}
