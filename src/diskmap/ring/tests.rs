//! Kills at moments that no test from outside can choose: a map's files are copied while
//! reservations are held in every state.

use std::path::Path;
use std::sync::Arc;

use crate::diskmap::log::record::{self, Kind};
use crate::diskmap::log::reservation::Reservation;
use crate::diskmap::{DiskMap, Wait};
use crate::index::{Insert, NewEntry, shard_of};
use crate::runtime::Runtime;
use crate::settings::{RuntimeSettings, TxMapSettings};

type Map = DiskMap<[u8; 32]>;

fn open(dir: &Path) -> Map {
    let text = format!(
        "txMapDirs = {}\ntxMapTail = 512K\ntxMapBlock = 16K\ntxMapSegment = 256K\ntxMapName = m\n\
         txMapDurability = process",
        dir.display()
    );
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    Map::open(&runtime, &TxMapSettings::parse(&text).unwrap()).unwrap()
}

/// The map that a kill now would leave.
fn killed(dir: &Path) -> (tempfile::TempDir, Map) {
    const STORE: &str = "blocktier-store-m";
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join(STORE)).unwrap();
    for entry in std::fs::read_dir(dir.join(STORE)).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("LOCK") {
            std::fs::copy(&path, copy.path().join(STORE).join(path.file_name().unwrap())).unwrap();
        }
    }
    let map = open(copy.path());
    (copy, map)
}

fn value(map: &Map, key: u8) -> Option<Vec<u8>> {
    map.get(&[key; 32], Wait::Allowed, |value, _| value.to_vec()).unwrap()
}

fn set(map: &Map, key: u8, value: &[u8]) {
    map.set(&[key; 32], value, 0, Wait::Allowed).unwrap();
}

/// Reserved, but nothing stored; stored, but not published; given up; each with something behind
/// it that was acknowledged.
#[test]
fn acknowledged_records_behind_holes_are_found_and_unpublished_ones_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(dir.path());
    let generation = map.generation.load_full();
    let lane = &generation.lanes[0];
    let units = |length: usize| record::record_units(32, length);
    let reserve = |length: usize| lane.reserve(&[units(length)], None).unwrap();
    let store = |key: u8, value: &[u8]| -> Reservation<'_> {
        let reservation = reserve(value.len());
        let key = [key; 32];
        reservation.store([(&key[..], value)].into_iter(), &mut Vec::new());
        reservation
    };
    set(&map, 1, b"one");
    let hole = reserve(5000);
    set(&map, 2, b"two");
    // It has the highest number of its key, as a move or an insertion that comes too late has.
    let late = store(1, b"late");
    set(&map, 3, b"three");
    let tombstone = reserve(0);
    tombstone.store_one(Kind::Tombstone, &[2; 32], &[], &mut Vec::new());
    set(&map, 4, b"four");
    let given_up = store(4, b"given up");
    given_up.give_up(0, units(8));
    set(&map, 5, b"five");
    let at_the_end = reserve(100);
    let check = |map: &Map| {
        let values = [(1, "one"), (2, "two"), (3, "three"), (4, "four"), (5, "five")];
        for (key, expected) in values {
            assert_eq!(value(map, key).as_deref(), Some(expected.as_bytes()), "key {key}");
        }
        assert_eq!(map.len(), 5);
    };
    let (copy, reopened) = killed(dir.path());
    check(&reopened);
    assert_eq!(reopened.recovery().unwrap().ring_blocks, 1);
    set(&reopened, 1, b"newer");
    assert!(reopened.delete(&[2; 32], Wait::Allowed).unwrap());
    // Killed again, and closed: the same.
    let (_copy, again) = killed(copy.path());
    assert_eq!(value(&again, 1).as_deref(), Some(&b"newer"[..]));
    assert_eq!((value(&again, 2), again.len()), (None, 4));
    drop(reopened);
    let closed = open(copy.path());
    assert_eq!((closed.len(), closed.recovery().unwrap().ring_blocks), (4, 0));
    // The map itself goes on, and its blocks are as those of any durable map.
    late.give_up(0, units(4));
    tombstone.give_up(0, units(0));
    hole.give_up(0, units(5000));
    at_the_end.give_up(0, units(100));
    drop((hole, late, tombstone, given_up, at_the_end));
    check(&map);
    drop(generation);
    drop(map);
    check(&open(dir.path()));
}

/// A long record of which only the first blocks were stored; what was acknowledged before, and in
/// its last block behind it, is there.
#[test]
fn an_incomplete_long_record_is_skipped_wherever_it_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(dir.path());
    set(&map, 1, b"before");
    set(&map, 2, &[2; 50_000]);
    set(&map, 3, b"behind");
    let block = map.shared.tail.block_bytes();
    assert!(50_000 > 2 * block, "several blocks");
    let (copy, reopened) = killed(dir.path());
    assert_eq!(value(&reopened, 2).map(|value| value.len()), Some(50_000));
    assert_eq!(reopened.len(), 3);
    drop((copy, reopened));
    // As if the kill had come while the piece in this block was stored, its commit being a later
    // record: zeros in its place, and no commit.
    let generation = map.generation.load_full();
    let place = |key: u8| {
        let hash = crate::diskmap::key::Key::hash(&[key; 32], &generation.hasher);
        let location = generation.index.probe(hash).iter().next().unwrap();
        generation.lanes[0].table().place(location)
    };
    let (long, behind) = (place(2), place(3));
    let commit_unit = behind.unit_in_block - record::record_units(32, 8);
    let tail = &map.shared.tail;
    let buffer = |block: usize| {
        let place = crate::diskmap::log::segment::Place { block, ..behind };
        generation.lanes[0].block(place).unwrap().buffer()
    };
    let words = tail.words(buffer(behind.block));
    let start = commit_unit as usize * 2;
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    for word in &words[start..behind.unit_in_block as usize * 2] {
        word.store(0, relaxed);
    }
    for block in long.block..=behind.block {
        let words = tail.words(buffer(block));
        let end = if block == behind.block { start } else { words.len() };
        let from = if block == 0 { 512 } else { 0 };
        let saved: Vec<u64> = words[from..end].iter().map(|word| word.load(relaxed)).collect();
        words[from..end].iter().for_each(|word| word.store(0, relaxed));
        let (_copy, reopened) = killed(dir.path());
        assert_eq!(value(&reopened, 1).as_deref(), Some(&b"before"[..]), "block {block}");
        assert_eq!(value(&reopened, 3).as_deref(), Some(&b"behind"[..]), "block {block}");
        assert_eq!((value(&reopened, 2), reopened.len()), (None, 2), "block {block}");
        words[from..end].iter().zip(saved).for_each(|(word, saved)| word.store(saved, relaxed));
    }
}

/// Records of a batch are stored together, and each of them counts from its own publication on.
#[test]
fn of_a_batch_what_was_published_counts() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(dir.path());
    let generation = map.generation.load_full();
    let units = record::record_units(32, 200);
    let batch = generation.lanes[0].reserve(&[units; 40], None).unwrap();
    assert_eq!(batch.count, 40);
    let records: Vec<_> = (0..40u8).map(|i| ([i; 32], [i; 200])).collect();
    // Several pieces.
    batch.store(records.iter().map(|(key, value)| (&key[..], &value[..])), &mut Vec::new());
    let hash_of = |key: u8| crate::diskmap::key::Key::hash(&[key; 32], &generation.hasher);
    // Of a shard of its own: in one of theirs, what was reserved before it would be refused.
    let shard = |key: u8| shard_of(hash_of(key));
    let behind = (40..=255).find(|key| (0..40).all(|other| shard(other) != shard(*key))).unwrap();
    set(&map, behind, b"behind");
    let check = |map: &Map, published: u8| {
        for key in 0..40 {
            let expected = (key < published).then(|| vec![key; 200]);
            assert_eq!(value(map, key), expected, "key {key} of {published} published");
        }
        assert_eq!(value(map, behind).as_deref(), Some(&b"behind"[..]));
        assert_eq!(map.len(), u64::from(published) + 1);
    };
    check(&killed(dir.path()).1, 0);
    let hash = |i: usize| hash_of(i as u8);
    let candidates: Vec<_> = (0..25).map(|i| generation.index.probe(hash(i))).collect();
    let entry = |i: usize| {
        let location = batch.location(i as u32 * units).unwrap();
        (hash(i), NewEntry { location, subtree: 0, known: &candidates[i] })
    };
    let entries: Vec<_> = (0..25).map(entry).collect();
    // What is refused stays padding.
    let admit = |i: usize| {
        let ruler = || Some(batch.ruler(i as u32 * units, Kind::Put));
        i < 20 && generation.admit(hash(i), ruler)
    };
    let mut done = Vec::new();
    let inserted = generation.index.insert_new_many(&entries, admit, |i, outcome| {
        done.push((i, matches!(outcome, Insert::Done)));
    });
    assert!(inserted.is_ok());
    assert_eq!(done, (0..25).map(|i| (i, i < 20)).collect::<Vec<_>>());
    check(&killed(dir.path()).1, 20);
    for i in 20..40 {
        batch.give_up(i * units, units);
    }
    drop(batch);
    drop(generation);
    check(&map, 20);
    drop(map);
    check(&open(dir.path()), 20);
}

/// The writer may have the last reference, when the map is long closed.
#[test]
fn what_has_the_name_of_a_removed_ring_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(dir.path());
    set(&map, 1, b"one");
    let shared = Arc::clone(&map.shared);
    let ring = shared.tail.table().unwrap().path().to_owned();
    assert!(ring.exists());
    drop(map);
    assert!(!ring.exists(), "a clean end removes it");
    std::fs::write(&ring, b"another's").unwrap();
    drop(shared);
    assert!(ring.exists());
}
