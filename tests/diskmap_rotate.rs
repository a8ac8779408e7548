//! Rotation, freezing, moving between maps and iteration against plain maps: random histories, cold
//! records, closing in every order, and what fails on the way.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/faulty.rs"]
mod faulty;
#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use blocktier::Error;
use blocktier::diskmap::{Batch, ItemState, Progress, Transfer, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::storage::fault::{Fault, FaultOp, FaultRule};
use blocktier::txmap::DiskTxMap;

use faulty::{COLD, check_there, record, with_cold_records};
use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

type Model = HashMap<[u8; 32], (Vec<u8>, u16)>;

/// The names in a directory.
fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn open(directories: usize, more: &str) -> (Vec<tempfile::TempDir>, DiskTxMap) {
    let dirs = temp_dirs(directories);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    (dirs, map)
}

fn set(map: &DiskTxMap, model: &mut Model, number: u64, version: u64) {
    // Some values span blocks.
    let length = if version % 97 == 96 { 20_000 } else { (version % 400) as usize };
    let (bytes, index) = (value(version, length), (version % 7) as u16);
    map.set(&key(number), &bytes, index, Wait::Allowed).unwrap();
    model.insert(key(number), (bytes, index));
}

/// Everything that a cursor visits; a key that comes twice fails.
fn content(map: &DiskTxMap) -> Model {
    let mut found = Model::new();
    map.for_each(|entry| {
        let old = found.insert(*entry.key, (entry.value.to_vec(), entry.subtree_index));
        assert_eq!(old, None, "visited twice");
        true
    })
    .unwrap();
    found
}

/// By every kind of read, `map` holds exactly `model`.
fn check(map: &DiskTxMap, model: &Model, universe: u64) {
    assert_eq!(map.len(), model.len() as u64);
    assert!(content(map) == *model, "an iteration finds something else");
    let keys: Vec<_> = (0..universe).map(key).collect();
    let mut found = Model::new();
    map.get_batch(&keys, true, Wait::Allowed, |position, value, index| {
        found.insert(keys[position], (value.to_vec(), index));
        Ok(())
    })
    .unwrap();
    assert!(found == *model, "a batch finds something else");
    for key in keys.iter().step_by(17) {
        let got = map.get(key, Wait::Allowed, |value, index| (value.to_vec(), index)).unwrap();
        assert_eq!(got.as_ref(), model.get(key));
        assert_eq!(map.exists(key, Wait::Allowed).unwrap(), model.contains_key(key));
    }
}

fn refuses_writes(map: &DiskTxMap) {
    let keys = [key(1)];
    let batch = Batch::new(&keys, b"x", &[0, 1], None).unwrap();
    let mut states = [ItemState::Pending];
    let before = content(map);
    let errors = [
        map.set(&keys[0], b"x", 0, Wait::Allowed).unwrap_err(),
        map.set_if_not_exists(&keys[0], b"x", 0, Wait::Allowed, |_, _| ()).unwrap_err(),
        map.delete(&keys[0], Wait::Allowed).unwrap_err(),
        map.update_subtree_index(&keys[0], 1, Wait::Allowed).unwrap_err(),
        map.set_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap_err(),
        map.delete_batch(&keys, Wait::Allowed, &mut states).unwrap_err(),
        map.update_subtree_index_batch(&keys, 1, Wait::Allowed, &mut states).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Frozen(_)), "{error}");
    }
    assert_eq!(states, [ItemState::Pending]);
    assert!(map.is_frozen());
    assert!(content(map) == before);
}

#[test]
fn histories_with_rotations_moves_clears_and_freezing() {
    for (seed, directories) in [(1, 1), (2, 2), (3, 3)] {
        let (_dirs, map) = open(directories, "");
        let mut rng = Rng::new(seed);
        let mut model = Model::new();
        let mut old: Vec<(DiskTxMap, Model)> = Vec::new();
        let universe = 1500;
        for round in 0..30u64 {
            for step in 0..rng.below(600) {
                let number = rng.below(universe);
                if rng.below(4) == 0 {
                    let there = map.delete(&key(number), Wait::Allowed).unwrap();
                    assert_eq!(there, model.remove(&key(number)).is_some());
                } else {
                    set(&map, &mut model, number, round * 1000 + step);
                }
            }
            match rng.below(6) {
                0 | 1 => {
                    let taken = map.rotate().unwrap();
                    old.push((taken, std::mem::take(&mut model)));
                    assert!(map.is_empty());
                }
                2 => {
                    map.clear().unwrap();
                    model.clear();
                }
                3 => {
                    map.freeze();
                    refuses_writes(&map);
                    check(&map, &model, universe);
                    old.push((map.rotate().unwrap(), std::mem::take(&mut model)));
                    assert!(!map.is_frozen());
                }
                4 => check(&map, &model, universe),
                _ => {
                    for (source, of_source) in &old {
                        move_some(&map, &mut model, source, of_source, &mut rng);
                    }
                }
            }
            while old.len() > 2 {
                let (map, model) = old.remove(rng.below(2) as usize);
                check(&map, &model, universe);
                refuses_writes(&map);
            }
        }
        check(&map, &model, universe);
    }
}

/// Moves random keys of a rotated map, then the same with one that it lacks.
fn move_some(
    map: &DiskTxMap,
    model: &mut Model,
    source: &DiskTxMap,
    of_source: &Model,
    rng: &mut Rng,
) {
    let mut keys: Vec<_> = of_source.keys().copied().collect();
    keys.sort_unstable();
    keys.retain(|_| rng.below(3) > 0);
    let lacking = (keys.len() / 2, [9; 32]);
    keys.insert(lacking.0, lacking.1);
    let mut states = vec![ItemState::Pending; keys.len()];
    let missing = map.move_from(source, &keys, Wait::Allowed, &mut states).unwrap();
    assert_eq!(missing, Some(lacking.0));
    assert_eq!(map.len(), model.len() as u64, "nothing was inserted");
    assert!(states.iter().all(|state| *state == ItemState::Pending));
    keys.remove(lacking.0);
    states.pop();
    assert_eq!(map.move_from(source, &keys, Wait::Allowed, &mut states).unwrap(), None);
    for (key, state) in keys.iter().zip(states) {
        let was_there = model.contains_key(key);
        assert_eq!(state, if was_there { ItemState::Other } else { ItemState::Done });
        model.entry(*key).or_insert_with(|| of_source[key].clone());
    }
}

#[test]
fn a_rotated_map_outlives_its_map_and_the_last_one_removes_the_directory() {
    for order in 0..3 {
        let (dirs, map) = open(2, "");
        let mut models = [Model::new(), Model::new()];
        (0..2000).for_each(|number| set(&map, &mut models[0], number, number));
        let first = map.rotate().unwrap();
        (0..2000).for_each(|number| set(&map, &mut models[1], number, number + 5));
        let second = map.rotate().unwrap();
        assert!(matches!(first.rotate().map(drop).unwrap_err(), Error::Frozen(_)));
        assert!(matches!(first.clear().unwrap_err(), Error::Frozen(_)));
        let cursor = second.iterate(true).unwrap();
        match order {
            0 => drop((map, cursor)),
            1 => drop((cursor, map)),
            _ => {
                // A new life beside the old ones.
                let mut model = Model::new();
                (0..3000).for_each(|number| set(&map, &mut model, number, number + 9));
                check(&map, &model, 3000);
                drop((map, cursor));
            }
        }
        check(&second, &models[1], 2000);
        check(&first, &models[0], 2000);
        drop(if order == 0 { first } else { second });
        assert!(!entries(dirs[0].path()).is_empty(), "one of them is open");
    }
}

#[test]
fn the_last_of_a_map_leaves_nothing() {
    let (dirs, map) = open(1, "");
    let mut model = Model::new();
    (0..3000).for_each(|number| set(&map, &mut model, number, number));
    let old = map.rotate().unwrap();
    let mut cursor = old.iterate(false).unwrap();
    drop((map, old));
    let mut visited = 0;
    while cursor.peek(Wait::Allowed).unwrap().is_some() {
        cursor.advance();
        visited += 1;
    }
    assert_eq!(visited, 3000);
    drop(cursor);
    assert_eq!(entries(dirs[0].path()), Vec::<PathBuf>::new());
}

#[test]
fn files_of_a_rotated_map_go_when_it_is_dropped() {
    let (_dirs, map) = open(1, "");
    let mut model = Model::new();
    (0..3000).for_each(|number| set(&map, &mut model, number, number));
    map.flush().unwrap();
    let own = map.directories().next().unwrap().to_owned();
    let files =
        || entries(&own).iter().filter(|path| path.to_string_lossy().contains("seg")).count();
    assert!(files() > 0);
    drop(map.rotate().unwrap());
    // Removals are queued when the writer is done with the blocks that were handed over before, so
    // they come between these two writes.
    for number in 0..2 {
        set(&map, &mut model, number, 1);
        map.flush().unwrap();
    }
    assert_eq!(files(), 1, "only the new content's");
}

#[test]
fn many_rotations_leave_room_in_the_tail() {
    let (_dirs, map) = open(2, "txMapTail = 256K\n");
    let mut old = Vec::new();
    for round in 0..24 {
        let mut model = Model::new();
        (0..40).for_each(|number| set(&map, &mut model, number, round * 50 + number));
        old.push((map.rotate().unwrap(), model));
    }
    let mut model = Model::new();
    (0..2000).for_each(|number| set(&map, &mut model, number, number));
    check(&map, &model, 2000);
    for (map, model) in &old {
        check(map, model, 40);
    }
}

#[test]
fn a_refused_move_and_what_it_says() {
    let (_dirs, map) = open(1, "");
    let mut model = Model::new();
    (0..10).for_each(|number| set(&map, &mut model, number, number));
    let keys: Vec<_> = (0..10).map(key).collect();
    let mut states = [ItemState::Pending; 10];
    let to_itself = map.move_from(&map, &keys, Wait::Allowed, &mut states).unwrap_err();
    assert!(matches!(to_itself, Error::InvalidArgument(_)));
    let (_other_dirs, other) = open(1, "");
    assert!(other.move_from(&map, &keys, Wait::Allowed, &mut states[1..]).is_err(), "lengths");
    other.freeze();
    let frozen = other.move_from(&map, &keys, Wait::Allowed, &mut states).unwrap_err();
    assert!(matches!(frozen, Error::Frozen(_)));
    other.clear().unwrap();
    assert_eq!(other.move_from(&map, &[], Wait::Allowed, &mut []).unwrap(), None);
    // The same key twice is inserted once.
    let twice = [key(3), key(4), key(3)];
    let mut states = [ItemState::Pending; 3];
    assert_eq!(other.move_from(&map, &twice, Wait::Allowed, &mut states).unwrap(), None);
    assert_eq!(other.len(), 2);
    assert_eq!(states.iter().filter(|state| **state == ItemState::Done).count(), 2);
}

#[test]
fn a_move_that_may_not_wait_goes_on_where_it_stopped() {
    let (_dirs, map) = open(1, "");
    let mut model = Model::new();
    (0..3000).for_each(|number| set(&map, &mut model, number, number));
    map.flush().unwrap();
    let (_other_dirs, other) = open(1, "");
    let keys: Vec<_> = (0..3000).map(key).collect();
    let mut states = vec![ItemState::Pending; keys.len()];
    let mut transfer = Transfer::new();
    let (mut room, mut reads) = (0, 0);
    let mut wait = Wait::Never;
    loop {
        match transfer.step(&other, &map, &keys, wait, &mut states) {
            Ok(Progress::More) => wait = Wait::Never,
            Ok(progress) => {
                assert_eq!(progress, Progress::Done);
                break;
            }
            Err(Error::WouldBlock(Error::BLOCKED_ON_READ)) => {
                reads += 1;
                wait = Wait::ReadsOnly;
            }
            Err(Error::WouldBlock(_)) => {
                room += 1;
                other.flush().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    let fewer = transfer.step(&other, &map, &keys[1..], Wait::Allowed, &mut states[1..]);
    assert!(matches!(fewer, Err(Error::InvalidArgument(_))));
    assert!(room > 0 && reads > 0, "{room} times room was missing, {reads} times a read");
    assert!(states.iter().all(|state| *state == ItemState::Done));
    check(&other, &model, 3000);
}

/// More than a transfer holds in memory: checked first, then read once more.
#[test]
fn a_large_move_takes_bounded_memory() {
    let dirs = temp_dirs(1);
    let settings = RuntimeSettings::parse("memoryBudget = 48M").unwrap();
    let runtime = Runtime::open(&settings).unwrap();
    let more = "txMapTail = 8M\ntxMapBlock = 1M\ntxMapSegment = 16M\n";
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    let (count, bytes) = (900u64, 100_000);
    for number in 0..count {
        map.set(&key(number), &value(number, bytes), 3, Wait::Allowed).unwrap();
    }
    let old = map.rotate().unwrap();
    let used = runtime.budget().used();
    let mut keys: Vec<_> = (0..count).rev().map(key).collect();
    keys.push(key(count));
    let mut states = vec![ItemState::Pending; keys.len()];
    let missing = map.move_from(&old, &keys, Wait::Allowed, &mut states).unwrap();
    assert_eq!((missing, map.len()), (Some(count as usize), 0));
    keys.pop();
    states.pop();
    assert_eq!(map.move_from(&old, &keys, Wait::Allowed, &mut states).unwrap(), None);
    assert!(states.iter().all(|state| *state == ItemState::Done));
    assert_eq!(map.len(), count);
    assert!(runtime.budget().used() <= used + (1 << 20), "what was granted was given back");
    for number in (0..count).step_by(50) {
        let same = |got: &[u8], index| got == value(number, bytes) && index == 3;
        assert_eq!(map.get(&key(number), Wait::Allowed, same).unwrap(), Some(true));
    }
}

#[test]
fn iterations_read_in_large_pieces_and_need_not_wait() {
    let (_dirs, map) = open(1, "txMapSegment = 1M\n");
    for number in 0..20_000 {
        map.set(&key(number), &value(number, 84), 0, Wait::Allowed).unwrap();
    }
    map.flush().unwrap();
    let before = map.stats().file_reads;
    let mut cursor = map.iterate(false).unwrap();
    let (mut visited, mut blocked) = (0, 0);
    let mut wait = Wait::Never;
    loop {
        match cursor.peek(wait) {
            Ok(Some(entry)) => assert!(entry.value.is_empty()),
            Ok(None) => break,
            Err(Error::WouldBlock(Error::BLOCKED_ON_READ)) => {
                blocked += 1;
                wait = Wait::ReadsOnly;
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        cursor.advance();
        visited += 1;
        if visited % 5000 == 0 {
            wait = Wait::Never;
        }
    }
    assert_eq!(visited, 20_000);
    assert!(blocked > 0);
    assert_eq!(map.stats().file_reads, before, "a cursor counts for itself");
}

#[test]
fn iteration_is_in_the_order_of_the_log() {
    let (_dirs, map) = open(1, "");
    for number in 0..5000 {
        map.set(&key(number), &value(number, 84), 0, Wait::Allowed).unwrap();
    }
    let mut expected = 0;
    map.for_each(|entry| {
        assert_eq!(*entry.key, key(expected));
        expected += 1;
        expected < 4000
    })
    .unwrap();
    assert_eq!(expected, 4000, "until the visitor has enough");
}

/// Whatever happens to the keys while a cursor is under way: those that stay are visited once.
#[test]
fn keys_that_stay_are_visited_once_while_everything_is_rewritten() {
    for seed in 0..6 {
        let (_dirs, map) = open(1 + (seed % 2) as usize, "");
        let mut rng = Rng::new(seed);
        let mut model = Model::new();
        // Even numbers stay, odd ones come and go.
        (0..1500).for_each(|number| set(&map, &mut model, number, number));
        let segments = map.stats().segments;
        let mut cursor = map.iterate(true).unwrap();
        let mut seen: HashMap<[u8; 32], u32> = HashMap::new();
        let mut version = 2000;
        while let Some(entry) = cursor.peek(Wait::Allowed).unwrap() {
            *seen.entry(*entry.key).or_default() += 1;
            cursor.advance();
            for _ in 0..rng.below(6) {
                version += 1;
                let number = rng.below(2000);
                if number % 2 == 1 && rng.below(2) == 0 {
                    map.delete(&key(number), Wait::Allowed).unwrap();
                    model.remove(&key(number));
                } else {
                    set(&map, &mut model, number, version);
                }
            }
            if seen.len() == 700 {
                for number in 0..1500 {
                    version += 1;
                    set(&map, &mut model, number, version);
                }
            }
        }
        assert!(seen.values().all(|times| *times == 1));
        for number in (0..1500).step_by(2) {
            assert_eq!(seen.get(&key(number)), Some(&1), "{number}");
        }
        let pinned = map.stats().segments;
        drop(cursor);
        let after = map.stats().segments;
        assert!(after < pinned, "{segments}, {pinned}, then {after} segments");
        check(&map, &model, 2000);
    }
}

#[test]
fn an_iteration_goes_on_over_what_was_cleared() {
    let (_dirs, map) = open(2, "");
    let mut model = Model::new();
    (0..2000).for_each(|number| set(&map, &mut model, number, number));
    let mut cursor = map.iterate(true).unwrap();
    map.clear().unwrap();
    let mut found = Model::new();
    let mut other = Model::new();
    (0..2000).for_each(|number| set(&map, &mut other, number, number + 1));
    while let Some(entry) = cursor.peek(Wait::Allowed).unwrap() {
        found.insert(*entry.key, (entry.value.to_vec(), entry.subtree_index));
        cursor.advance();
    }
    assert!(found == model);
    drop(cursor);
    check(&map, &other, 2000);
}

#[test]
fn failures_leave_the_content_usable() {
    let dirs = temp_dirs(1);
    let (faults, map) = with_cold_records(&dirs);
    let old = map.rotate().unwrap();
    let keys: Vec<_> = (0..COLD).map(key).collect();
    let mut states = vec![ItemState::Pending; keys.len()];
    faults.add(FaultRule::new(FaultOp::Read, Fault::Errno(5)));
    let error = map.move_from(&old, &keys, Wait::Allowed, &mut states).unwrap_err();
    assert_eq!(error.os_errno(), 5, "{error}");
    assert_eq!(map.len(), 0);
    let mut cursor = old.iterate(true).unwrap();
    let error = cursor.peek(Wait::Allowed).unwrap_err();
    assert_eq!(error.os_errno(), 5, "{error}");
    faults.clear_rules();
    let mut visited = 0;
    while cursor.peek(Wait::Allowed).unwrap().is_some() {
        cursor.advance();
        visited += 1;
    }
    assert_eq!(visited, COLD, "nothing was skipped");
    assert_eq!(map.move_from(&old, &keys, Wait::Allowed, &mut states).unwrap(), None);
    check_there(&map, 0..COLD);
    check_there(&old, 0..COLD);
    // A map that has failed neither rotates nor clears, and both contents are read.
    faults.add(FaultRule::new(FaultOp::Write, Fault::Errno(28)));
    let mut number = COLD;
    while map.set(&key(number), &record(number), 0, Wait::Allowed).is_ok() {
        number += 1;
    }
    assert!(matches!(map.rotate().map(drop).unwrap_err(), Error::Failed(_)));
    assert!(old.failure().is_err(), "the same disks");
    check_there(&old, 0..COLD);
    check_there(&map, 0..number);
    assert_eq!(content(&map).len() as u64, number);
}

#[test]
fn a_rotation_without_memory_changes_nothing() {
    let dirs = temp_dirs(1);
    let settings = RuntimeSettings::parse("memoryBudget = 40M").unwrap();
    let runtime = Runtime::open(&settings).unwrap();
    let more = "txMapExpectedEntries = 3000000\n";
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, more)).unwrap();
    let mut model = Model::new();
    (0..1000).for_each(|number| set(&map, &mut model, number, number));
    let used = runtime.budget().used();
    let refused = map.rotate().map(drop);
    assert!(matches!(refused.unwrap_err(), Error::OutOfMemory { .. }));
    assert_eq!(runtime.budget().used(), used);
    check(&map, &model, 1000);
    (1000..1100).for_each(|number| set(&map, &mut model, number, number));
    check(&map, &model, 1100);
    assert_eq!(runtime.budget().used(), used, "iterations give back what they took");
}
