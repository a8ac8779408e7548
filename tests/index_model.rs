//! The index against a map, through its public face: large random histories, overfilled hints, four
//! threads at once, and what it promises about memory and false matches.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use blocktier::hash::keyed::{KeyHash, KeyedHasher};
use blocktier::index::{Candidates, Index, IndexOptions, Insert, Location, ScanKernel, shard_of};

/// Deterministic random numbers (splitmix).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Key hashes as a map makes them, for all shards or (to go deep with fewer keys) for every
/// `step`th.
struct Keys {
    hasher: KeyedHasher,
    step: u64,
}

impl Keys {
    fn new(step: u64) -> Self {
        Self { hasher: KeyedHasher::from_secret([3, 1, 4, 1, 5, 9, 2, 6]), step }
    }

    fn hash(&self, i: u64) -> KeyHash {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&i.to_le_bytes());
        let h = self.hasher.hash32(&key);
        let shard = shard_of(h) as u64 / self.step * self.step;
        let h = KeyHash { hi: h.hi, lo: h.lo & (u64::MAX >> 12) | shard << 52 };
        assert_eq!(shard_of(h) as u64, shard);
        h
    }
}

fn at(units: u64) -> Location {
    Location::new(units).unwrap()
}

fn index(expected_entries: u64, kernel: ScanKernel) -> Index {
    Index::new(&IndexOptions { expected_entries, kernel, ..IndexOptions::default() }).unwrap()
}

type Model = HashMap<u64, (u64, u16)>;

/// Inserts `keys` keys in order; every so often looks at, moves, marks or removes an earlier one.
fn history(index: &Index, keys: &Keys, count: u64) -> Model {
    let mut model = Model::with_capacity(count as usize);
    let mut random = Random(count);
    for i in 0..count {
        let h = keys.hash(i);
        let known = index.probe(h);
        assert!(known.iter().all(|candidate| candidate.units() != i + 1));
        assert!(matches!(index.insert_new(h, at(i + 1), 0, &known).unwrap(), Insert::Done));
        model.insert(i, (i + 1, 0));
        let other = random.next() % (i + 1);
        let h = keys.hash(other);
        let Some(&(units, subtree)) = model.get(&other) else {
            continue;
        };
        match random.next() % 16 {
            0 => {
                assert!(index.lock(h).remove(h, at(units)), "{other}");
                model.remove(&other);
            }
            1 => {
                // Distinct from all locations of insertions.
                let moved = units ^ 1 << 37;
                assert!(index.lock(h).replace(h, at(units), at(moved), None).unwrap(), "{other}");
                model.insert(other, (moved, subtree));
            }
            2 => {
                let subtree = random.next() as u16;
                assert!(index.lock(h).set_subtree_index(h, at(units), subtree).unwrap());
                model.insert(other, (units, subtree));
            }
            _ => {
                assert!(index.probe(h).contains(at(units)), "{other}");
                assert_eq!(index.subtree_index(h, at(units)), Some(subtree), "{other}");
            }
        }
    }
    model
}

fn compare(index: &Index, keys: &Keys, model: &Model) {
    assert_eq!(index.len(), model.len() as u64);
    let mut dump = HashMap::with_capacity(model.len());
    index.for_each(&mut |location, subtree| {
        assert_eq!(dump.insert(location.units(), subtree), None);
    });
    assert_eq!(dump.len(), model.len());
    for (&i, &(units, subtree)) in model {
        assert_eq!(dump.get(&units), Some(&subtree), "key {i}");
        assert!(index.probe(keys.hash(i)).contains(at(units)), "key {i}");
    }
}

#[test]
fn two_million_keys_without_a_hint() {
    // All shards: pages grow through their rebuilds. Every 16th shard: they split too.
    for (step, depth) in [(1, 0), (16, 3)] {
        let (index, keys) = (index(0, ScanKernel::Auto), Keys::new(step));
        let model = history(&index, &keys, 2_200_000);
        compare(&index, &keys, &model);
        let stats = index.stats();
        eprintln!("{stats:?}");
        assert_eq!(stats.stash_entries, 0);
        assert!(stats.rebuilds > 7_000 / step && stats.split_depth_max >= depth, "{stats:?}");
        assert!(stats.split_depth_max <= depth + 2, "{stats:?}");
    }
}

#[test]
fn three_times_the_hint() {
    let (index, keys) = (index(1_000_000, ScanKernel::Auto), Keys::new(1));
    let model = history(&index, &keys, 3_000_000);
    compare(&index, &keys, &model);
    let stats = index.stats();
    eprintln!("{stats:?}");
    assert!(stats.splits > 4096 && stats.rebuilds == 0 && stats.stash_entries == 0, "{stats:?}");
    // Everything can leave again.
    for (&i, &(units, _)) in &model {
        let h = keys.hash(i);
        assert!(index.lock(h).remove(h, at(units)));
    }
    assert!(index.is_empty());
    assert!(model.keys().all(|&i| index.probe(keys.hash(i)).is_empty()));
}

#[test]
fn every_kernel_gives_the_same_answers() {
    let run = |kernel| {
        let options = IndexOptions { kernel, ..IndexOptions::default() };
        let index = match Index::new(&options) {
            Ok(index) => index,
            Err(error) => {
                eprintln!("not tested here: {error}");
                return None;
            }
        };
        let keys = Keys::new(64);
        let model = history(&index, &keys, 200_000);
        compare(&index, &keys, &model);
        let mut answers = Vec::new();
        index.for_each(&mut |location, subtree| answers.push((location.units(), subtree)));
        // Absent keys too: the same false matches, if any.
        let probe = |i| index.probe(keys.hash(i)).iter().map(Location::units).collect::<Vec<_>>();
        let absent: Vec<_> = (200_000..400_000).map(probe).collect();
        Some((answers, absent, index.stats()))
    };
    let scalar = run(ScanKernel::Scalar);
    assert!(scalar.is_some());
    for kernel in [ScanKernel::Avx2, ScanKernel::Avx512] {
        let other = run(kernel);
        assert!(other.is_none() || other == scalar, "{kernel:?}");
    }
}

#[test]
fn keys_of_equal_hash_bits_are_all_kept() {
    let index = index(0, ScanKernel::Auto);
    let keys = Keys::new(4096);
    for i in 0..20_000 {
        let h = keys.hash(i);
        index.insert_new(h, at(i + 1), 0, &index.probe(h)).unwrap();
    }
    // Tag and bucket bits of key 5; the base page bits differ and do not matter here.
    let equal = |i| KeyHash { hi: i << 40, lo: keys.hash(5).lo };
    let mut known = index.probe(equal(0));
    for i in 0..500 {
        // As a map does it: every candidate was refuted, so insert beside them.
        let done = index.insert_new(equal(i), at(1_000_000 + i), i as u16, &known).unwrap();
        assert!(matches!(done, Insert::Done));
        known = index.probe(equal(i));
        assert_eq!(known.len() as u64, i + 2);
    }
    assert!(index.stats().stash_entries >= 484, "{:?}", index.stats());
    assert!((0..20_000).all(|i| index.probe(keys.hash(i)).contains(at(i + 1))));
    assert!((0..500).all(|i| index.probe(equal(i)).contains(at(1_000_000 + i))));
    assert!(
        (0..500).all(|i| { index.subtree_index(equal(i), at(1_000_000 + i)) == Some(i as u16) })
    );
}

const THREADS: u64 = 4;

/// A location that says whose key it is, and who put it there.
fn owned(key: u64, thread: u64) -> Location {
    at(key * THREADS + thread + 1)
}

fn key_of(location: Location) -> u64 {
    (location.units() - 1) / THREADS
}

/// The candidate that is confirmed to be this key, as a record would confirm it.
fn confirmed(candidates: &Candidates, key: u64) -> Option<Location> {
    candidates.iter().find(|&candidate| key_of(candidate) == key)
}

/// What four threads share while pages are rebuilt and split under them.
struct Arena<'a> {
    index: &'a Index,
    keys: Keys,
    /// Insertions less removals of each shared key.
    presence: Vec<AtomicI64>,
    inserted: AtomicU64,
}

const STABLE: std::ops::Range<u64> = 0..20_000;
const SHARED: std::ops::Range<u64> = 20_000..24_000;
const OWN: u64 = 60_000;

impl Arena<'_> {
    /// A key that nobody removes is found at any moment.
    fn read_stable(&self, random: &mut Random) {
        let key = random.next() % STABLE.end;
        let h = self.keys.hash(key);
        let found = self.index.probe(h);
        assert_eq!(confirmed(&found, key), Some(owned(key, 0)), "lost for a moment");
        assert_eq!(self.index.subtree_index(h, owned(key, 0)), Some(key as u16));
    }

    /// Insert if absent, as a map does it.
    fn insert_shared(&self, key: u64, thread: u64) {
        let h = self.keys.hash(key);
        let mut known = self.index.probe(h);
        loop {
            if confirmed(&known, key).is_some() {
                return;
            }
            match self.index.insert_new(h, owned(key, thread), 0, &known).unwrap() {
                Insert::Done => break,
                Insert::Changed(current) => known = current,
            }
        }
        let before = self.presence[(key - SHARED.start) as usize].fetch_add(1, Relaxed);
        // A remover may count its removal before we count our insertion, never two of a kind.
        assert!((-(THREADS as i64)..THREADS as i64).contains(&before));
        self.inserted.fetch_add(1, Relaxed);
    }

    fn remove_shared(&self, key: u64) {
        let h = self.keys.hash(key);
        let mut guard = self.index.lock(h);
        if let Some(location) = confirmed(&guard.candidates(h), key) {
            assert!(guard.remove(h, location));
            self.presence[(key - SHARED.start) as usize].fetch_sub(1, Relaxed);
        }
    }

    /// One thread's part: its own keys in order, the shared and stable ones in between.
    fn run(&self, thread: u64) {
        let mut random = Random(thread + 1);
        let own = |i: u64| SHARED.end + i * THREADS + thread;
        for i in 0..OWN {
            let (key, location) = (own(i), owned(own(i), thread));
            let h = self.keys.hash(key);
            let known = self.index.probe(h);
            assert_eq!(confirmed(&known, key), None, "claimed before it was inserted");
            let mut done = self.index.insert_new(h, location, 0, &known).unwrap();
            while let Insert::Changed(current) = done {
                assert_eq!(confirmed(&current, key), None);
                done = self.index.insert_new(h, location, 0, &current).unwrap();
            }
            let found = self.index.probe(h);
            assert_eq!(confirmed(&found, key), Some(location));
            self.read_stable(&mut random);
            let shared = SHARED.start + random.next() % (SHARED.end - SHARED.start);
            if random.next() & 1 == 0 {
                self.insert_shared(shared, thread);
            } else {
                self.remove_shared(shared);
            }
            // Every third own key goes again, some time later.
            if i >= 1_000 && i % 3 == 0 {
                let (key, location) = (own(i - 1_000), owned(own(i - 1_000), thread));
                let h = self.keys.hash(key);
                assert!(self.index.lock(h).remove(h, location));
                assert_eq!(confirmed(&self.index.probe(h), key), None, "found after removal");
            }
        }
    }
}

#[test]
fn four_threads_on_pages_that_split() {
    let index = index(0, ScanKernel::Auto);
    let arena = Arena {
        index: &index,
        keys: Keys::new(256),
        presence: SHARED.map(|_| AtomicI64::new(0)).collect(),
        inserted: AtomicU64::new(0),
    };
    for key in STABLE {
        let h = arena.keys.hash(key);
        index.lock(h).insert(h, owned(key, 0), key as u16).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let arena = &arena;
            scope.spawn(move || arena.run(thread));
        }
    });
    let stats = index.stats();
    eprintln!("{stats:?}");
    assert!(stats.splits > 50 && stats.split_depth_max >= 3, "{stats:?}");
    let mut present = 0;
    for (key, presence) in SHARED.zip(&arena.presence) {
        let found = index.probe(arena.keys.hash(key));
        let here = found.iter().filter(|&candidate| key_of(candidate) == key).count() as i64;
        assert_eq!(here, presence.load(Relaxed), "key {key}");
        assert!(here <= 1, "key {key} was inserted twice");
        present += here as u64;
    }
    assert!(arena.inserted.load(Relaxed) > 4_000);
    let removed = (1_000..OWN).filter(|i| i % 3 == 0).count() as u64;
    assert_eq!(index.len(), STABLE.end + present + THREADS * (OWN - removed));
}

#[test]
fn bytes_per_key_with_a_hint() {
    // What is mapped for a hint, whatever its size.
    for expected in [1_000_000u64, 2_000_000, 4_000_000, 10_000_000, 33_333_333, 100_000_000] {
        let bytes = index(expected, ScanKernel::Auto).memory_bytes() as f64 / expected as f64;
        eprintln!("hint {expected}: {bytes:.2} bytes per key");
        // Headers and directory are a constant third of a megabyte.
        assert!(bytes <= if expected < 4_000_000 { 9.9 } else { 9.6 }, "{expected}: {bytes}");
    }
    // And what it is when the keys are in: few shards get more than they have room for.
    for (expected, limit) in [(1_000_000, 10.2), (4_000_000, 9.6)] {
        let (index, keys) = (index(expected, ScanKernel::Auto), Keys::new(1));
        for i in 0..expected {
            let h = keys.hash(i);
            index.lock(h).insert(h, at(i + 1), 0).unwrap();
        }
        let bytes = index.memory_bytes() as f64 / expected as f64;
        eprintln!("{expected} keys: {bytes:.2} bytes per key, {:?}", index.stats());
        assert!(bytes <= limit, "{expected}: {bytes}");
        let h = keys.hash(0);
        let foreign = (expected..2 * expected).filter(|&i| !index.probe(keys.hash(i)).is_empty());
        let foreign = foreign.count();
        eprintln!("{foreign} false matches in {expected} absent probes");
        // Some seven occupied slots and one in 2^24 each: four in ten million.
        assert!((foreign as u64) < 3 + expected / 500_000, "{foreign}");
        assert!(index.probe(h).contains(at(1)));
    }
}

/// Every eighth shard with a million to two million keys is as 8 to 16 million are in all: an
/// octave of sizes, over which the staggered pages average out.
#[test]
fn bytes_per_key_grown() {
    let (index, keys) = (index(0, ScanKernel::Auto), Keys::new(8));
    let (mut sum, mut samples, mut worst) = (0.0, 0, 0.0f64);
    for i in 0..2_000_000 {
        let h = keys.hash(i);
        index.lock(h).insert(h, at(i + 1), 0).unwrap();
        if i >= 1_000_000 && i % 62_500 == 0 {
            let bytes = index.memory_bytes() as f64 / i as f64;
            eprintln!("{} keys: {bytes:.2} bytes per key", i * 8);
            sum += bytes;
            samples += 1;
            worst = worst.max(bytes);
        }
    }
    let mean = sum / f64::from(samples);
    eprintln!("mean {mean:.2}, worst {worst:.2}");
    assert!(mean <= 13.0 && worst <= 14.0, "{mean} {worst}");
}

#[test]
fn a_small_index_takes_little_memory() {
    let (index, keys) = (index(0, ScanKernel::Auto), Keys::new(1));
    for i in 0..500 {
        let h = keys.hash(i);
        index.lock(h).insert(h, at(i + 1), 1).unwrap();
    }
    assert!(index.memory_bytes() < 3 << 20, "{}", index.memory_bytes());
}
