//! Rehashing against a map: while others change the shard, when it fails, and what it is for.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

use super::check::{Gate, at, compare, hash, options};
use super::rehash::{Fit, Noted, Rehash, Ring};
use super::*;
use crate::memory::MemoryReserve;

/// Counts what it is told.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Ring for Counter {
    fn ring(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn deep_options(expected_entries: u64, rehash_splits: u32) -> IndexOptions {
    IndexOptions { rehash_splits, ..options(expected_entries, ScanKernel::Auto) }
}

/// An index, what it should hold, and a log: the key of every location that was ever used.
struct Run {
    index: Index,
    shards: u64,
    model: HashMap<u64, (Location, u16)>,
    log: Vec<u64>,
    random: u64,
}

impl Run {
    fn new(options: &IndexOptions, shards: u64) -> Self {
        let index = Index::new(options).unwrap();
        Self { index, shards, model: HashMap::new(), log: Vec::new(), random: 1 }
    }

    fn append(&mut self, key: u64) -> Location {
        self.log.push(key);
        at(self.log.len() as u64)
    }

    fn insert(&mut self, keys: std::ops::Range<u64>) {
        for key in keys {
            let (h, location) = (hash(key, self.shards), self.append(key));
            self.index.lock(h).insert(h, location, 0).unwrap();
            self.model.insert(key, (location, 0));
        }
    }

    /// Random changes of keys below `keys`: insertions, replacements, subtree indexes, removals.
    fn change(&mut self, keys: u64, steps: u64) {
        for _ in 0..steps {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let random = hash(self.random, 1).hi;
            let (key, subtree) = ((random >> 8) % keys, (random >> 48) as u16);
            let h = hash(key, self.shards);
            let Some((old, _)) = self.model.get(&key).copied() else {
                let location = self.append(key);
                self.index.lock(h).insert(h, location, subtree).unwrap();
                self.model.insert(key, (location, subtree));
                continue;
            };
            match random % 4 {
                0 => {
                    let new = self.append(key);
                    let changed = self.index.lock(h).replace(h, old, new, Some(subtree));
                    assert!(changed.unwrap());
                    self.model.insert(key, (new, subtree));
                }
                1 => {
                    let new = self.append(key);
                    assert!(self.index.lock(h).replace(h, old, new, None).unwrap());
                    self.model.get_mut(&key).unwrap().0 = new;
                }
                2 => {
                    assert!(self.index.lock(h).set_subtree_index(h, old, subtree).unwrap());
                    self.model.get_mut(&key).unwrap().1 = subtree;
                }
                _ => {
                    assert!(self.index.lock(h).remove(h, old));
                    self.model.remove(&key);
                }
            }
        }
    }

    fn begin(&self) -> Option<(Rehash, Vec<Noted>)> {
        let wanted = self.index.wants_rehash(0)?;
        self.index.begin_rehash(&wanted, 0).unwrap()
    }

    /// The hash of what stands at a noted place.
    fn hash_at(&self, noted: Noted) -> KeyHash {
        hash(self.log[noted.units() as usize - 1], self.shards)
    }

    fn add(&self, rehash: &mut Rehash, noted: &[Noted]) {
        for &noted in noted {
            let fit = self.index.rehash_entry(rehash, self.hash_at(noted), noted).unwrap();
            assert_eq!(fit, Fit::Done);
        }
    }

    fn rehash_all(&self) {
        while let Some((mut rehash, noted)) = self.begin() {
            self.add(&mut rehash, &noted);
            assert_eq!(self.index.finish_rehash(rehash).unwrap(), Fit::Done);
        }
    }

    fn compare(&self) {
        compare(&self.index, self.shards, &self.model);
    }

    /// Matches among probes of keys that are not there.
    fn false_matches(&self, probes: u64) -> usize {
        (1 << 40..(1 << 40) + probes).map(|i| self.index.probe(hash(i, self.shards)).len()).sum()
    }
}

#[test]
fn rehashing_brings_the_tag_bits_back() {
    let counter = Arc::new(Counter::default());
    let rehasher: Option<Arc<dyn Ring>> = Some(counter.clone());
    let mut run = Run::new(&IndexOptions { rehasher, ..deep_options(0, 4) }, 1);
    run.insert(0..6_000);
    assert_eq!((counter.0.load(Relaxed), run.index.wants_rehash(0)), (0, None));
    run.insert(6_000..200_000);
    assert!(counter.0.load(Relaxed) > 0);
    let deep = run.index.stats();
    assert!(deep.split_depth_max > 6, "{deep:?}");
    let before = run.false_matches(2_000_000);
    run.rehash_all();
    run.compare();
    let shallow = run.index.stats();
    assert_eq!((shallow.rehashes, shallow.split_depth_max), (1, 0));
    let after = run.false_matches(2_000_000);
    // 2^7 pages give back 7 bits; 200,000 keys of one shard match about once in 2^13 probes before.
    assert!(before > 60 * after.max(1), "{before} before, {after} after");
    // And so on: it splits again, from the beginning, and is rehashed again.
    run.insert(200_000..1_000_000);
    assert!((1..=4).contains(&run.index.stats().split_depth_max), "{:?}", run.index.stats());
    run.compare();
    run.insert(1_000_000..6_000_000);
    assert!(run.index.wants_rehash(0).is_some(), "{:?}", run.index.stats());
    run.rehash_all();
    assert_eq!((run.index.stats().rehashes, run.index.stats().split_depth_max), (2, 0));
    run.compare();
}

/// Between any two steps of a rehash everything may change, in pages that split meanwhile too.
#[test]
fn what_changes_meanwhile_is_not_lost() {
    for (hint, shards) in [(0, 2), (3_000_000, 1), (16_000_000, 2)] {
        let mut run = Run::new(&deep_options(hint, 1), shards);
        run.insert(0..40_000);
        run.change(60_000, 20_000);
        let mut rounds = 0;
        while let Some((mut rehash, noted)) = run.begin() {
            for (number, part) in noted.chunks(noted.len() / 3 + 1).enumerate() {
                run.change(60_000, 500 + 300 * number as u64);
                run.add(&mut rehash, part);
            }
            run.change(60_000, 700);
            assert_eq!(run.index.finish_rehash(rehash).unwrap(), Fit::Done, "hint {hint}");
            run.compare();
            rounds += 1;
        }
        assert!(rounds > 0 && run.index.stats().rehashes == rounds, "{:?}", run.index.stats());
        // The old pages are there for splits.
        let spare = run.index.pool.pages();
        assert!(spare > 0);
        run.insert(100_000..130_000);
        run.compare();
        assert!(run.index.pool.pages() < spare);
        assert!(run.index.subtree_index_bytes() > 0);
    }
}

/// Writers, each with keys of its own, and a reader, until both shards were rehashed.
#[test]
fn rehashing_beside_writers_and_readers() {
    const KEYS: u64 = 30_000;
    const SHARDS: u64 = 2;
    let index = Index::new(&deep_options(0, 1)).unwrap();
    // Location to key, for the rehasher; keys that stay, for the readers.
    let log = Mutex::new(vec![u64::MAX]);
    let append = |key: u64| {
        let mut log = log.lock().unwrap();
        log.push(key);
        at(log.len() as u64 - 1)
    };
    let (done, mut model) = (AtomicBool::new(false), HashMap::new());
    for key in 0..KEYS {
        let (h, location) = (hash(key, SHARDS), append(key));
        index.lock(h).insert(h, location, 3).unwrap();
        model.insert(key, (location, 3));
    }
    let staying = model.clone();
    let write = |writer: u64| {
        let mut mine: HashMap<u64, (Location, u16)> = HashMap::new();
        for step in (0..).take_while(|_| !done.load(Acquire)) {
            if step % 64 == 0 {
                std::thread::yield_now();
            }
            let random = hash(writer << 32 | step, 1).hi;
            let key = KEYS * (writer + 1) + (random >> 8) % (KEYS / 3);
            let (h, subtree) = (hash(key, SHARDS), (random >> 48) as u16);
            match mine.get(&key).copied() {
                None => {
                    let location = append(key);
                    index.lock(h).insert(h, location, subtree).unwrap();
                    mine.insert(key, (location, subtree));
                }
                Some((old, _)) if random.is_multiple_of(2) => {
                    let new = append(key);
                    assert!(index.lock(h).replace(h, old, new, Some(subtree)).unwrap());
                    mine.insert(key, (new, subtree));
                }
                Some((old, _)) => {
                    assert!(index.lock(h).remove(h, old));
                    mine.remove(&key);
                }
            }
        }
        mine
    };
    std::thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> = (0..2).map(|writer| scope.spawn(move || write(writer))).collect();
        let read = || {
            let keys = staying.iter().cycle();
            for (key, (location, subtree)) in keys.take_while(|_| !done.load(Acquire)) {
                let h = hash(*key, SHARDS);
                assert!(index.probe(h).contains(*location), "key {key}");
                assert_eq!(index.subtree_index(h, *location), Some(*subtree));
            }
        };
        scope.spawn(read);
        let mut rehashed = 0;
        while rehashed < SHARDS {
            rehashed += u64::from(rehash_once(&index, SHARDS, &log));
        }
        done.store(true, Release);
        for writer in writers {
            model.extend(writer.join().unwrap());
        }
    });
    assert_eq!(index.stats().rehashes, SHARDS);
    compare(&index, SHARDS, &model);
}

fn rehash_once(index: &Index, shards: u64, log: &Mutex<Vec<u64>>) -> bool {
    let wanted = index.wants_rehash(0);
    let begun = wanted.and_then(|wanted| index.begin_rehash(&wanted, 0).unwrap());
    let Some((mut rehash, noted)) = begun else { return false };
    let log = log.lock().unwrap().clone();
    for noted in noted {
        let key = log[noted.units() as usize];
        if index.rehash_entry(&mut rehash, hash(key, shards), noted).unwrap() != Fit::Done {
            index.abandon_rehash(rehash);
            return false;
        }
    }
    index.finish_rehash(rehash).unwrap() == Fit::Done
}

/// Whatever ends a rehash leaves the index as it was, and the next one can begin.
#[test]
fn a_rehash_that_ends_early_changes_nothing() {
    let mut run = Run::new(&deep_options(0, 1), 1);
    run.insert(0..20_000);
    let (mut rehash, noted) = run.begin().unwrap();
    assert!(run.begin().is_none(), "one at a time");
    run.add(&mut rehash, &noted[..5_000]);
    run.change(20_000, 1_000);
    run.index.abandon_rehash(rehash);
    run.compare();

    // A key of another shard is none of it.
    let (mut rehash, noted) = run.begin().unwrap();
    let foreign = KeyHash { lo: 7 << 52, ..run.hash_at(noted[0]) };
    assert!(run.index.rehash_entry(&mut rehash, foreign, noted[0]).is_err());
    run.index.abandon_rehash(rehash);

    // More changes than there was room to note.
    let (mut rehash, noted) = run.begin().unwrap();
    run.add(&mut rehash, &noted);
    run.change(20_000, 60_000);
    assert_eq!(run.index.finish_rehash(rehash).unwrap(), Fit::Overrun);
    run.compare();

    // A key that was not handed in is missed.
    let (mut rehash, noted) = run.begin().unwrap();
    run.add(&mut rehash, &noted[1..]);
    assert!(run.index.finish_rehash(rehash).is_err());
    run.compare();
    run.rehash_all();
    run.compare();
    assert_eq!(run.index.stats().rehashes, 1);
}

/// Keys that agree in the hash bits which are to part them.
#[test]
fn pages_that_are_too_full_are_doubled_or_left() {
    let index = Index::new(&deep_options(0, 1)).unwrap();
    let hash = |i: u64| {
        let h = hash(i, 1);
        // The two highest base bits are 0: a quarter of the pages gets all keys.
        KeyHash { hi: h.hi & (u64::MAX >> 2), lo: h.lo }
    };
    for i in 1..=20_000 {
        index.lock(hash(i)).insert(hash(i), at(i), 0).unwrap();
    }
    let wanted = index.wants_rehash(0).unwrap();
    let fill = |more| {
        let (mut rehash, noted) = index.begin_rehash(&wanted, more).unwrap().unwrap();
        for noted in noted {
            match index.rehash_entry(&mut rehash, hash(noted.units()), noted).unwrap() {
                Fit::Done => {}
                fit => {
                    index.abandon_rehash(rehash);
                    return fit;
                }
            }
        }
        index.finish_rehash(rehash).unwrap()
    };
    assert_eq!((fill(0), fill(1), fill(2)), (Fit::TooFull, Fit::TooFull, Fit::Done));
    for i in 1..=20_000 {
        assert!(index.probe(hash(i)).contains(at(i)));
    }
    assert_eq!(index.stats().rehashes, 1);
    assert!(index.begin_rehash(&wanted, 0).unwrap().is_none(), "it is not deep any more");
}

#[test]
fn a_shard_with_a_stash_is_left_alone() {
    let mut run = Run::new(&deep_options(0, 1), 1);
    run.insert(0..20_000);
    let (mut rehash, noted) = run.begin().unwrap();
    run.add(&mut rehash, &noted);
    let h = hash(7, 1);
    for i in 0..100 {
        run.index.lock(h).insert(h, at(1_000_000 + i), 1).unwrap();
    }
    assert!(run.index.stats().stash_entries > 0);
    assert_ne!(run.index.finish_rehash(rehash).unwrap(), Fit::Done);
    assert!(run.begin().is_none());
    for i in 0..100 {
        assert!(run.index.probe(h).contains(at(1_000_000 + i)));
        assert!(run.index.lock(h).remove(h, at(1_000_000 + i)));
    }
    run.rehash_all();
    run.compare();
}

#[test]
fn refused_memory_leaves_the_old_pages() {
    let gate = Arc::new(Gate::default());
    let reserve: Option<Arc<dyn MemoryReserve>> = Some(gate.clone());
    let mut run = Run::new(&IndexOptions { reserve, ..deep_options(0, 1) }, 1);
    run.insert(0..200_000);
    gate.closed.store(true, Release);
    let wanted = run.index.wants_rehash(0).unwrap();
    let refused = run.index.begin_rehash(&wanted, 0);
    assert!(matches!(refused, Err(Error::OutOfMemory { what: "index", .. })));
    run.compare();
    gate.closed.store(false, Release);
    run.rehash_all();
    run.compare();
}
