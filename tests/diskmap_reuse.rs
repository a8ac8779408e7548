//! Locations come back: a segment's slot is given to a new segment as soon as nothing in it lives,
//! so the same 38 bits name one record after another. Readers, deleters and overwriters must never
//! take one for the other.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use blocktier::diskmap::Wait;
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::txmap::DiskTxMap;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

const WRITERS: u64 = 2;
/// Keys that each writer keeps alive.
const WINDOW: u64 = 500;
/// Keys that each writer inserts.
const KEYS: u64 = 300_000;
const SEGMENT_BYTES: u64 = 64 << 10;

/// Lengths differ from key to key, so that every use of a slot cuts it up in another way.
fn value_of(number: u64) -> Vec<u8> {
    value(number, 40 + (number * 7 % 97) as usize)
}

/// What a writer has done: keys up to `inserted` went in, those below `deleted` went out again.
#[derive(Default)]
struct Progress {
    inserted: AtomicU64,
    deleted: AtomicU64,
}

/// Key `n` of a writer.
const fn number(writer: u64, n: u64) -> u64 {
    n * WRITERS + writer
}

fn write(map: &DiskTxMap, writer: u64, progress: &Progress) {
    for n in 0..KEYS {
        let name = number(writer, n);
        if n.is_multiple_of(3) {
            // Overwritten at once: the same key at two places, one of them dead.
            assert!(!map.set(&key(name), &value_of(name + 1), 0, Wait::Allowed).unwrap());
            assert!(map.set(&key(name), &value_of(name), 0, Wait::Allowed).unwrap());
        } else {
            let value = value_of(name);
            let new = map.set_if_not_exists(&key(name), &value, 0, Wait::Allowed, |_, _| ());
            assert_eq!(new.unwrap(), blocktier::diskmap::Inserted::New, "key {name}");
        }
        progress.inserted.store(n + 1, SeqCst);
        if n >= WINDOW {
            progress.deleted.store(n - WINDOW + 1, SeqCst);
            let old = number(writer, n - WINDOW);
            assert!(map.delete(&key(old), Wait::Allowed).unwrap(), "key {old} was there");
        }
    }
}

/// Looks up keys that are there, that were there and that never were; how often it found one.
fn read(map: &DiskTxMap, seed: u64, progress: &[Progress], done: &AtomicBool) -> u64 {
    let mut rng = Rng::new(seed);
    let mut found = 0;
    while !done.load(SeqCst) {
        let writer = rng.below(WRITERS);
        let progress = &progress[writer as usize];
        let inserted = progress.inserted.load(SeqCst);
        let from = inserted.saturating_sub(WINDOW + 200);
        let n = from + rng.below(WINDOW + 300);
        let name = number(writer, n);
        let seen = map.get(&key(name), Wait::Allowed, |bytes, _| bytes.to_vec()).unwrap();
        match seen {
            // While it is being set the first value of the two is right as well.
            Some(bytes) => {
                let first = n.is_multiple_of(3) && bytes == value_of(name + 1);
                assert!(first || bytes == value_of(name), "key {name} has a foreign value");
                found += 1;
            }
            None => {
                let deleted = progress.deleted.load(SeqCst);
                assert!(
                    n < deleted || n >= inserted,
                    "key {name} of {deleted}..{inserted} is gone"
                );
            }
        }
    }
    found
}

#[test]
fn a_location_that_comes_back_is_another_record() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskTxMap::open(&runtime, &small_settings(&dirs, "")).unwrap();
    let progress: Vec<Progress> = (0..WRITERS).map(|_| Progress::default()).collect();
    let done = AtomicBool::new(false);
    let found: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let (map, progress, done) = (&map, &progress, &done);
                scope.spawn(move || read(map, seed, progress, done))
            })
            .collect();
        let writers: Vec<_> = progress
            .iter()
            .enumerate()
            .map(|(writer, progress)| {
                let map = &map;
                scope.spawn(move || write(map, writer as u64, progress))
            })
            .collect();
        let outcomes: Vec<_> =
            writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, SeqCst);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(found > 0);
    assert_eq!(map.len(), WRITERS * WINDOW);
    for (writer, n) in
        (0..WRITERS).flat_map(|writer| (KEYS - WINDOW..KEYS).map(move |n| (writer, n)))
    {
        let name = number(writer, n);
        let seen = map.get(&key(name), Wait::Allowed, |bytes, _| bytes.to_vec()).unwrap();
        assert_eq!(seen, Some(value_of(name)), "key {name}");
    }
    // What was appended, against the address space that it was appended in.
    let record = |name| (12 + 32 + value_of(name).len() as u64).next_multiple_of(16);
    let of_key = |writer, n| {
        let name = number(writer, n);
        record(name) + if n.is_multiple_of(3) { record(name + 1) } else { 0 }
    };
    let appended: u64 = (0..WRITERS).map(|w| (0..KEYS).map(|n| of_key(w, n)).sum::<u64>()).sum();
    let space = map.stats().segments * SEGMENT_BYTES;
    assert!(appended > 100 * space, "{appended} bytes over {space} bytes of locations");
}
