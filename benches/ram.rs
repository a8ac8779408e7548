//! The map with everything in RAM, beside concurrent maps that are nothing else: crossbeam's
//! skip list and dashmap (row A18 of docs/benchmarks.md).
//!
//! `cargo bench --bench ram [-- [N]]`, 5,000,000 keys of 32 bytes by default, values of no bytes.
//!
//! - fillrandom: every key is inserted if it is absent, in random order.
//! - readrandom: every key is looked up, in another random order.
//! - readwrite: half of the calls look up a key that is there, half insert a new one.
//!
//! Ours goes one by one, as the others do, and in batches of 256. Its tail holds all records, and
//! every lookup compares the whole key. Keys are made outside the clock. Ours and dashmap have
//! touched their memory in a round before the one that counts; a skip list has nothing to keep.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to hand on")]

use std::time::Instant;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::{RuntimeSettings, TxMapSettings};
use blocktier::txmap::DiskTxMap;
use crossbeam_skiplist::SkipSet;
use dashmap::DashMap;

type Key = [u8; 32];

const BATCH: usize = 256;

/// A set of keys under test. Both calls answer how many of the keys were new, or there.
trait Store: Sync {
    fn insert(&self, keys: &[Key]) -> usize;
    fn contain(&self, keys: &[Key]) -> usize;
    fn clear(&self);
}

struct Singles<'a>(&'a DiskTxMap);

impl Store for Singles<'_> {
    fn insert(&self, keys: &[Key]) -> usize {
        let new = |key: &&Key| {
            let outcome = self.0.set_if_not_exists(key, b"", 0, Wait::Allowed, |_, _| ());
            outcome.unwrap() == Inserted::New
        };
        keys.iter().filter(new).count()
    }

    fn contain(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| self.0.exists(key, Wait::Allowed).unwrap()).count()
    }

    fn clear(&self) {
        self.0.clear().unwrap();
    }
}

struct Batches<'a>(&'a DiskTxMap);

impl Store for Batches<'_> {
    fn insert(&self, keys: &[Key]) -> usize {
        let offsets = [0; BATCH + 1];
        let insert = |keys: &[Key]| {
            let batch = Batch::new(keys, b"", &offsets[..=keys.len()], None).unwrap();
            let mut states = [ItemState::Pending; BATCH];
            let states = &mut states[..keys.len()];
            self.0.set_if_not_exists_batch(&batch, Wait::Allowed, states).unwrap();
            states.iter().filter(|state| **state == ItemState::Done).count()
        };
        keys.chunks(BATCH).map(insert).sum()
    }

    fn contain(&self, keys: &[Key]) -> usize {
        let mut found = 0;
        for keys in keys.chunks(BATCH) {
            let count = |_, _: &[u8], _| {
                found += 1;
                Ok(())
            };
            self.0.get_batch(keys, false, Wait::Allowed, count).unwrap();
        }
        found
    }

    fn clear(&self) {
        self.0.clear().unwrap();
    }
}

impl Store for DashMap<Key, ()> {
    fn insert(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| Self::insert(self, **key, ()).is_none()).count()
    }

    fn contain(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| self.contains_key(*key)).count()
    }

    fn clear(&self) {
        Self::clear(self);
    }
}

impl Store for SkipSet<Key> {
    fn insert(&self, keys: &[Key]) -> usize {
        let before = self.len();
        keys.iter().for_each(|key| drop(Self::insert(self, *key)));
        self.len() - before
    }

    fn contain(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| Self::contains(self, *key)).count()
    }

    fn clear(&self) {
        Self::clear(self);
    }
}

struct Row {
    store: &'static str,
    case: &'static str,
    threads: usize,
    rate: f64,
}

fn main() {
    let number = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let count: usize = number.unwrap_or(5_000_000);
    let scratch = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let mut rows = Vec::new();
    for threads in [1, 2] {
        let map = open(&runtime, scratch.path(), count);
        rows.extend(measure("blocktier, one by one", &Singles(&map), count, threads));
        map.clear().unwrap();
        rows.extend(measure("blocktier, batches", &Batches(&map), count, threads));
        assert_eq!(map.stats().file_reads, 0, "everything was in RAM");
        drop(map);
        let dash = DashMap::with_capacity(count * 3 / 2);
        rows.extend(measure("dashmap", &dash, count, threads));
        drop(dash);
        rows.extend(measure("crossbeam-skiplist", &SkipSet::new(), count, threads));
    }
    report(&rows, count);
}

/// A map whose tail holds twice the records: those of a round and of the one before it.
fn open(runtime: &Runtime, dir: &std::path::Path, count: usize) -> DiskTxMap {
    let tail_mib = ((count * 48 * 3) >> 20) + 64;
    let text = format!(
        "txMapDirs = {}\ntxMapTail = {tail_mib}M\ntxMapExpectedEntries = {}\ntxMapPrefault = on\n\
         txMapFlushBytes = {}M",
        dir.display(),
        count * 3 / 2,
        tail_mib / 2
    );
    DiskTxMap::open(runtime, &TxMapSettings::parse(&text).unwrap()).unwrap()
}

fn measure(name: &'static str, store: &impl Store, count: usize, threads: usize) -> Vec<Row> {
    let row = |case, rate| Row { store: name, case, threads, rate };
    let mut keys = keys(0, count);
    if name != "crossbeam-skiplist" {
        store.insert(&self::keys(2 * count as u64, count));
        store.clear();
    }
    let fill = timed(&keys, threads, |keys| store.insert(keys), count);
    shuffle(&mut keys);
    let read = timed(&keys, threads, |keys| store.contain(keys), count);
    let new = self::keys(count as u64, count / 2);
    let pairs: Vec<(&[Key], &[Key])> =
        keys[..count / 2].chunks(BATCH).zip(new.chunks(BATCH)).collect();
    let both = timed(
        &pairs,
        threads,
        |pairs| pairs.iter().map(|(old, new)| store.contain(old) + store.insert(new)).sum(),
        new.len() * 2,
    );
    vec![row("fillrandom", fill), row("readrandom", read), row("readwrite", both)]
}

/// Millions of operations per second of `act` over shares of `items`; every operation must succeed.
fn timed<T: Sync>(
    items: &[T],
    threads: usize,
    act: impl Fn(&[T]) -> usize + Sync,
    operations: usize,
) -> f64 {
    let began = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let shares = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = shares.map(|share| scope.spawn(|| act(share))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let seconds = began.elapsed().as_secs_f64();
    // A skip list counts what all threads have added since.
    assert!(done >= operations, "{done} of {operations} operations had their effect");
    operations as f64 / seconds / 1e6
}

fn report(rows: &[Row], count: usize) {
    println!("{count} keys, values of no bytes, everything in RAM; M/s");
    println!(
        "{:<22} {:<11} {:>7} {:>7} {:>12} {:>9}",
        "store", "case", "threads", "M/s", "× skiplist", "× dashmap"
    );
    let mut json = Vec::new();
    for row in rows {
        let of = |name: &str| {
            let same = |other: &&Row| {
                other.store == name && other.case == row.case && other.threads == row.threads
            };
            rows.iter().find(same).map_or(f64::NAN, |other| other.rate)
        };
        let (skiplist, dashmap) = (of("crossbeam-skiplist"), of("dashmap"));
        println!(
            "{:<22} {:<11} {:>7} {:>7.2} {:>12.2} {:>9.2}",
            row.store,
            row.case,
            row.threads,
            row.rate,
            row.rate / skiplist,
            row.rate / dashmap
        );
        for (name, baseline) in [("crossbeam-skiplist", skiplist), ("dashmap", dashmap)] {
            if row.store.starts_with("blocktier") {
                json.push(serde_json::json!({
                    "id": "A18", "case": format!("{}: {}", row.store, row.case), "n": count,
                    "threads": row.threads, "measured": row.rate, "unit": "M/s",
                    "baseline": baseline, "baseline_name": name, "limit": null,
                    "limit_name": null, "rss_bytes": null,
                }));
            }
        }
    }
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("ram.json"), serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `count` keys, number `from` and those after it.
fn keys(from: u64, count: usize) -> Vec<Key> {
    let mut keys = vec![[0; 32]; count];
    for (number, key) in (from..).zip(&mut keys) {
        for (word, bytes) in (1..).zip(key.chunks_mut(8)) {
            let seed = number * 4 + word;
            bytes.copy_from_slice(&mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
        }
    }
    keys
}

fn shuffle(keys: &mut [Key]) {
    for i in (1..keys.len()).rev() {
        let other = mix((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) as usize % (i + 1);
        keys.swap(i, other);
    }
}
