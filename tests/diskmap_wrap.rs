//! Locations that are used again: the space of a lane is so small that writers go through it a
//! hundred times, while readers look, entries are removed, and merges move what lives long.
//!
//! Each key has one writer, which numbers what it does; a value says which key it is of and which
//! number wrote it. So whatever a reader finds can be told right from wrong, for every schedule.
//!
//! With `BLOCKTIER_TEST_ROUNDS` of 100 or more locations have 24 bits, otherwise 18.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;

use blocktier::diskmap::{Batch, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::txmap::DiskTxMap;

use maps::{small_settings, temp_dirs};
use records::key;
use rng::Rng;

const UNIT: u64 = 16;
const WRAPS: u64 = 100;
const WRITERS: u64 = 2;
/// Keys of each writer in the narrowest space; wider ones have as many times more.
const KEYS: u64 = 400;
const NARROWEST: u32 = 18;
/// One in so many keys is written once and never again.
const LONG_LIVED: u64 = 16;
/// One in so many of a writer's rounds removes what it wrote in the round before.
const REMOVED: u64 = 5;
/// Keys of a batch.
const BATCH: u64 = 32;

/// What has been done to a key by its writer: how often it was removed, how often anything was
/// done, and whether the last of it was a removal.
#[derive(Clone, Copy)]
struct Deeds {
    removals: u64,
    number: u64,
    removed: bool,
}

impl Deeds {
    fn of(word: u64) -> Self {
        let number = word >> 1 & 0x7fff_ffff;
        Self { removals: word >> 32, number, removed: word & 1 == 1 || number == 0 }
    }

    fn word(self) -> u64 {
        self.removals << 32 | self.number << 1 | u64::from(self.removed)
    }

    fn set(self) -> Self {
        Self { number: self.number + 1, removed: false, ..self }
    }

    fn remove(self) -> Self {
        Self { removals: self.removals + 1, number: self.number + 1, removed: true }
    }
}

#[derive(Default)]
struct History {
    begun: AtomicU64,
    done: AtomicU64,
}

impl History {
    fn begin(&self, deeds: Deeds) {
        self.begun.store(deeds.word(), Ordering::SeqCst);
    }

    fn begun(&self) -> Deeds {
        Deeds::of(self.begun.load(Ordering::SeqCst))
    }

    fn end(&self, deeds: Deeds) {
        self.done.store(deeds.word(), Ordering::SeqCst);
    }

    fn done(&self) -> Deeds {
        Deeds::of(self.done.load(Ordering::SeqCst))
    }
}

/// A value of `key` by the deed `number`, of a length that follows from both.
fn value(key: u64, number: u64) -> Vec<u8> {
    let seed = key << 40 | number;
    let rest = records::value(seed, Rng::new(seed).below(900) as usize);
    [&key.to_le_bytes()[..], &number.to_le_bytes(), &rest].concat()
}

fn number_in(key: u64, found: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(*found[at..].first_chunk().unwrap());
    assert_eq!(word(0), key, "the value of another key");
    assert!(found == value(key, word(8)), "key {key}: the bytes of a value have changed");
    word(8)
}

/// Looks a key up and checks the answer against what was done before and during the lookup.
fn check(map: &DiskTxMap, number: u64, history: &History) {
    let before = history.done();
    let found = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
    let after = history.begun();
    match found {
        Some(value) => {
            let wrote = number_in(number, &value);
            let possible = before.number..=after.number;
            assert!(possible.contains(&wrote), "key {number}: {wrote} is none of {possible:?}");
            let gone = before.removed && wrote == before.number;
            assert!(!gone, "key {number}: what was removed is back");
        }
        None => {
            let removed = before.removed || before.removals < after.removals;
            assert!(removed, "key {number} is missing, and nobody removed it");
        }
    }
}

/// One round of a writer: sets its keys in batches, or removes some of them one by one.
fn write_round(map: &DiskTxMap, keys: &[u64], histories: &[History], round: u64) {
    if round % REMOVED == REMOVED - 1 {
        for &number in keys.iter().skip(round as usize % 3).step_by(3) {
            let history = &histories[number as usize];
            let deeds = history.done().remove();
            history.begin(deeds);
            assert!(map.delete(&key(number), Wait::Allowed).unwrap(), "key {number} was there");
            history.end(deeds);
        }
        return;
    }
    for numbers in keys.chunks(BATCH as usize) {
        let (mut arena, mut offsets) = (Vec::new(), vec![0]);
        let mut all = Vec::new();
        for &number in numbers {
            let history = &histories[number as usize];
            let deeds = history.done().set();
            arena.extend(value(number, deeds.number));
            offsets.push(arena.len() as u64);
            all.push(deeds);
            history.begin(deeds);
        }
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
        let mut states = vec![ItemState::Pending; keys.len()];
        map.set_batch(&batch, Wait::Allowed, &mut states).unwrap();
        for (number, deeds) in numbers.iter().zip(all) {
            histories[*number as usize].end(deeds);
        }
    }
}

fn location_bits() -> u32 {
    let rounds = std::env::var("BLOCKTIER_TEST_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|text| text.parse().ok()).unwrap_or(10);
    if rounds >= 100 { 24 } else { NARROWEST }
}

fn settings(dirs: &[tempfile::TempDir], location_bits: u32, more: &str) -> TxMapSettings {
    TxMapSettings { location_bits, ..small_settings(dirs, more) }
}

#[test]
fn locations_are_used_again_a_hundred_times() {
    let (dirs, bits) = (temp_dirs(1), location_bits());
    let space = (1 << bits) * UNIT;
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    // Writers stop in time, so that there is a slot for each segment.
    let times = 1 << (bits - NARROWEST);
    let more = format!(
        "txMapCompactionSpace = 100\ntxMapCompactionStop = {}K\ntxMapCompactionTarget = {}K\n\
         txMapTail = {}K\ntxMapSegment = {}K\n",
        256 * times,
        64 * times,
        256 * times,
        64 * times
    );
    let map = DiskTxMap::open(&runtime, &settings(&dirs, bits, &more)).unwrap();
    let keys = KEYS * times;
    let histories: Vec<History> = (0..WRITERS * keys).map(|_| History::default()).collect();
    let written = || -> u64 {
        runtime.disks().iter().map(|disk| disk.stats().snapshot().bytes_written).sum()
    };
    for writer in 0..WRITERS {
        write_round(&map, &keys_of(writer, keys, |_| true), &histories, 0);
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (map, histories, written, ended) = (&map, &histories, &written, &ended);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let keys = keys_of(writer, keys, |number| number % LONG_LIVED != 0);
                    for round in 1.. {
                        write_round(map, &keys, histories, round);
                        if written() > WRAPS * space {
                            return;
                        }
                    }
                })
            })
            .collect();
        for seed in 0..2 {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !ended.load(Ordering::SeqCst) {
                    let number = rng.below(WRITERS * keys);
                    check(map, number, &histories[number as usize]);
                }
            });
        }
        let outcomes: Vec<_> = writers.into_iter().map(ScopedJoinHandle::join).collect();
        ended.store(true, Ordering::SeqCst);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    let mut entries = 0;
    for (number, history) in histories.iter().enumerate() {
        check(&map, number as u64, history);
        entries += u64::from(!history.done().removed);
    }
    let stats = map.stats();
    assert_eq!(map.len(), entries);
    assert!(written() > WRAPS * space, "{} bytes in a space of {space}", written());
    assert!(stats.compactions > 0, "nothing was merged");
}

/// The numbers of a writer's keys.
fn keys_of(writer: u64, keys: u64, wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    (writer * keys..(writer + 1) * keys).filter(|number| wanted(*number)).collect()
}

/// All of the space live: the error says so, what was acknowledged is read on, and nothing of what
/// was refused is there.
#[test]
fn a_map_without_a_free_location_says_that_it_is_full() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskTxMap::open(&runtime, &settings(&dirs, 16, "")).unwrap();
    let long = |number| value(number, 2).repeat(8);
    let mut stored = 0;
    let error = loop {
        match map.set(&key(stored), &long(stored), 0, Wait::Allowed) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "more than 1 MiB in locations of 16 bits");
    };
    let text = error.to_string();
    for part in ["the map is full", "16 segments of 65536 bytes", "txMapSegment"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(map.set(&key(0), b"", 0, Wait::Allowed).is_err(), "the map takes no more writes");
    assert!(stored > 100, "{stored}");
    for number in 0..stored {
        let found = map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
        assert!(found == Some(long(number)), "key {number}");
    }
    assert!(!map.exists(&key(stored), Wait::Allowed).unwrap());
}

#[test]
fn locations_too_narrow_for_four_segments_are_refused() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    for bits in [0, 13, 39, u32::MAX] {
        let Err(error) = DiskTxMap::open(&runtime, &settings(&dirs, bits, "")) else {
            panic!("locations of {bits} bits");
        };
        assert!(error.to_string().contains("want 14 to 38"), "{error}");
    }
    drop(DiskTxMap::open(&runtime, &settings(&dirs, 14, "")).unwrap());
}
