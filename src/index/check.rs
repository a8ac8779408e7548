//! The invariants of an index, checked slot by slot, and the tests that need to look inside.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::home::{Home, other_bucket};
use super::slot::{SECONDARY, is_secondary, tag};
use super::*;
use crate::memory::MemoryReserve;

/// Checks what readers rely on: every slot can be reached, and every array belongs to its slots.
fn check(index: &Index) {
    let mut pages = 0;
    for shard in 0..SHARDS {
        let header = &index.headers[shard];
        assert_eq!(header.version_under_lock() & 1, 0, "shard {shard} left in a write");
        let mut entries = index.stash(shard).len() as u64;
        index.directory.for_each_leaf(&index.arena, shard, |leaf| {
            pages += 1;
            let page = index.view(header, &leaf);
            for (spot, word) in page.occupied() {
                entries += 1;
                let home = if is_secondary(word) {
                    let home = other_bucket(tag(word), spot.bucket, page.buckets.len());
                    assert!(page.buckets[home].is_overflowed(), "unreachable {spot:?}");
                    home
                } else {
                    spot.bucket
                };
                if let Some(bits) = page.bucket_bits(spot) {
                    assert_eq!((usize::from(bits) * page.buckets.len()) >> 16, home, "{spot:?}");
                }
                let seen = index.directory.leaf(
                    &index.arena,
                    shard,
                    Home { tag: tag(word), bucket_bits: 0, base_bits: leaf.base_bits(index) },
                );
                assert_eq!(seen.page, leaf.page, "the directory leads elsewhere");
            }
        });
        assert_eq!(entries, header.entries(), "shard {shard}");
    }
    assert_eq!(pages, index.stats().pages);
}

impl directory::Leaf {
    /// Base bits that lead to this leaf's root and entry.
    fn base_bits(&self, index: &Index) -> u32 {
        let (page, pages) = (self.root() as u64, u64::from(index.directory.base_pages()));
        // The middle of the entry's part of the base page's part.
        let entry = self.entry();
        let depth = index.directory.hash_depth(self.root());
        let fraction = ((2 * entry as u64 + 1) << 31) >> depth;
        (((page % pages) << 32 | fraction) / pages + 1) as u32
    }
}

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

/// The hash of key `i`, in one of the first `shards` shards: few shards go deep with few keys.
pub(super) fn hash(i: u64, shards: u64) -> KeyHash {
    let mut random = Random(i);
    let (hi, lo) = (random.next(), random.next());
    let shard = ((hi & 0xffff_ffff) * shards) >> 32;
    KeyHash { hi, lo: shard << 52 | lo >> 12 }
}

pub(super) fn at(units: u64) -> Location {
    Location::new(units).unwrap()
}

pub(super) fn options(expected_entries: u64, kernel: ScanKernel) -> IndexOptions {
    IndexOptions { expected_entries, kernel, ..IndexOptions::default() }
}

/// A random history against a map: inserts, removals, moves, subtree indexes; half of the way
/// mostly growing, then mostly shrinking.
fn history(index: &Index, shards: u64, keys: u64, steps: u64) -> HashMap<u64, (Location, u16)> {
    let mut model: HashMap<u64, (Location, u16)> = HashMap::new();
    let mut random = Random(shards * 31 + keys);
    for step in 0..steps {
        let i = random.next() % keys;
        let h = hash(i, shards);
        let inserts = if step < steps / 2 { 7 } else { 3 };
        // Locations are unique, so that a foreign match shows.
        let (location, subtree) = (at(step + 1), (random.next() % 5 * 1_000) as u16);
        match (random.next() % 10, model.get(&i).copied()) {
            (action, None) if action < inserts => {
                let known = index.probe(h);
                let done = index.insert_new(h, location, subtree, &known).unwrap();
                assert!(matches!(done, Insert::Done));
                model.insert(i, (location, subtree));
            }
            (action, Some((old, subtree))) if action < inserts => {
                assert!(index.probe(h).contains(old));
                assert_eq!(index.subtree_index(h, old), Some(subtree));
                if action == 0 {
                    let subtree = subtree.wrapping_add(1);
                    assert!(index.lock(h).replace(h, old, location, Some(subtree)).unwrap());
                    assert!(!index.lock(h).replace(h, old, location, None).unwrap());
                    model.insert(i, (location, subtree));
                }
            }
            (action, Some((old, _))) if action < 8 => {
                assert!(index.lock(h).set_subtree_index(h, old, subtree).unwrap());
                model.insert(i, (old, subtree));
            }
            (_, Some((old, _))) => {
                assert!(index.lock(h).remove(h, old));
                assert!(!index.lock(h).remove(h, old));
                model.remove(&i);
            }
            (_, None) => {
                // Whatever matches belongs to another key.
                let mine = index.probe(h).iter().filter(|l| l.units() > step).count();
                assert_eq!(mine, 0);
                assert_eq!(index.subtree_index(h, location), None);
                assert!(!index.lock(h).set_subtree_index(h, location, 1).unwrap());
            }
        }
    }
    model
}

/// Everything that the model has, and nothing else.
pub(super) fn compare(index: &Index, shards: u64, model: &HashMap<u64, (Location, u16)>) {
    check(index);
    assert_eq!(index.len(), model.len() as u64);
    let mut all = HashMap::new();
    index.for_each(&mut |location, subtree| {
        assert_eq!(all.insert(location, subtree), None, "{location:?} twice");
    });
    assert_eq!(all.len(), model.len());
    for (&i, &(location, subtree)) in model {
        let h = hash(i, shards);
        assert_eq!(all.get(&location), Some(&subtree), "key {i}");
        let known = index.probe(h);
        assert!(known.contains(location), "key {i}");
        assert_eq!(index.subtree_index_if_known(h, location, &known), Some(subtree));
        let mut guard = index.lock(h);
        assert!(guard.candidates(h).contains(location), "key {i}");
        assert_eq!(guard.subtree_index(h, location), Some(subtree));
        assert!(!guard.remove(h, at(1 << 37)));
    }
}

#[test]
fn a_growing_index_is_a_map() {
    for (shards, keys) in [(1, 40), (3, 3_000), (2, 60_000), (4096, 60_000)] {
        let index = Index::new(&options(0, ScanKernel::Auto)).unwrap();
        let model = history(&index, shards, keys, keys * 6);
        compare(&index, shards, &model);
        let stats = index.stats();
        assert_eq!(stats.stash_entries, 0);
        assert_eq!(stats.splits > 10, keys / shards > 20_000, "{stats:?}");
        assert_eq!(stats.rebuilds >= 3 * shards, keys / shards > 900 && shards < 4096, "{stats:?}");
    }
}

#[test]
fn a_presized_index_is_a_map() {
    // The hint is for 4096 shards: 40,000 keys are 14 times too many for two of them.
    let index = Index::new(&options(6_000_000, ScanKernel::Auto)).unwrap();
    let model = history(&index, 2, 60_000, 360_000);
    compare(&index, 2, &model);
    assert!(index.stats().split_depth_max >= 3, "{:?}", index.stats());
}

#[test]
fn kernels_make_the_same_index() {
    let dump = |kernel| {
        let index = Index::new(&options(0, kernel)).ok()?;
        let model = history(&index, 2, 20_000, 100_000);
        compare(&index, 2, &model);
        let mut words = Vec::new();
        index.for_each(&mut |location, subtree| words.push((location, subtree)));
        Some((words, index.stats()))
    };
    let scalar = dump(ScanKernel::Scalar).expect("the scalar kernel is always there");
    for kernel in [ScanKernel::Avx512, ScanKernel::Avx2, ScanKernel::Auto] {
        match dump(kernel) {
            // Not only the same entries: every one in the same slot.
            Some(other) => assert_eq!(other, scalar, "{kernel:?}"),
            None => eprintln!("not tested here: this processor has no {kernel:?}"),
        }
    }
}

/// Keys that nothing tells apart: their page takes two buckets full, the stash the rest.
#[test]
fn equal_hashes_are_kept_in_the_stash() {
    for hint in [0, 3_000_000] {
        let index = Index::new(&options(hint, ScanKernel::Auto)).unwrap();
        let others = if hint == 0 { 5_000 } else { 1_000 };
        for i in 0..others {
            let known = index.probe(hash(i, 1));
            index.insert_new(hash(i, 1), at(1_000_000 + i), 3, &known).unwrap();
        }
        let h = hash(7, 1);
        let count = 3_000;
        for i in 1..=count {
            index.lock(h).insert(h, at(i), (i % 3) as u16).unwrap();
        }
        check(&index);
        let stats = index.stats();
        assert!(stats.stash_entries > count - 17 && stats.stash_entries < count, "{stats:?}");
        let found = index.probe(h);
        assert_eq!(found.len() as u64, count + 1);
        assert!((1..=count).all(|i| found.contains(at(i))));
        assert!(
            (1..=count)
                .step_by(50)
                .all(|i| { index.subtree_index(h, at(i)) == Some((i % 3) as u16) })
        );
        assert!((0..others).all(|i| index.probe(hash(i, 1)).contains(at(1_000_000 + i))));
        assert!(index.lock(h).replace(h, at(count), at(count + 1), None).unwrap());
        assert!(index.lock(h).set_subtree_index(h, at(count + 1), 9).unwrap());
        assert_eq!(index.subtree_index(h, at(count + 1)), Some(9));
        // What leaves the page makes room for what is in the stash.
        for i in (1..count).chain([count + 1]) {
            assert!(index.lock(h).remove(h, at(i)), "{i}");
        }
        check(&index);
        assert_eq!(index.stats().stash_entries, 0);
        assert_eq!(index.probe(h).len(), 1);
        assert_eq!(index.len(), others);
    }
}

/// Tags that agree in all low bits: no split can part them; directories must not explode.
#[test]
fn keys_on_one_side_of_every_split_do_not_split() {
    let index = Index::new(&options(0, ScanKernel::Auto)).unwrap();
    let mut random = Random(3);
    let keys: Vec<KeyHash> = (0..4_000)
        .map(|i| KeyHash { hi: 0, lo: (random.next() & 0xffff) << 12 | (i % 4) << 50 })
        .collect();
    for (i, &h) in keys.iter().enumerate() {
        index.lock(h).insert(h, at(i as u64 + 1), 0).unwrap();
    }
    check(&index);
    let stats = index.stats();
    assert!(stats.stash_entries > 1_000 && stats.splits == 0, "{stats:?}");
    for (i, &h) in keys.iter().enumerate() {
        assert!(index.probe(h).contains(at(i as u64 + 1)));
    }
}

/// The entries of a stash return to their page when it grows.
#[test]
fn a_rebuild_empties_the_stash() {
    let index = Index::new(&options(0, ScanKernel::Auto)).unwrap();
    // Differ in bucket bits that eight buckets do not tell apart, and more do.
    let crowd: Vec<KeyHash> = (0..40).map(|i| KeyHash { hi: 0, lo: (i << 8) << 12 }).collect();
    for (i, &h) in crowd.iter().enumerate() {
        index.lock(h).insert(h, at(i as u64 + 1), i as u16).unwrap();
    }
    assert!(index.stats().stash_entries > 0);
    for i in 0..300 {
        let h = hash(i, 1);
        index.lock(h).insert(h, at(1_000 + i), 0).unwrap();
    }
    check(&index);
    assert!(index.stats().rebuilds > 0);
    assert_eq!(index.stats().stash_entries, 0);
    for (i, &h) in crowd.iter().enumerate() {
        assert!(index.probe(h).contains(at(i as u64 + 1)));
        assert_eq!(index.subtree_index(h, at(i as u64 + 1)), Some(i as u16));
    }
}

/// An account that refuses when told to.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub closed: AtomicBool,
    taken: AtomicU64,
}

impl MemoryReserve for Gate {
    fn reserve(&self, what: &'static str, bytes: u64) -> Result<()> {
        if self.closed.load(Acquire) {
            return Err(Error::OutOfMemory { what, bytes, available: 0 });
        }
        self.taken.fetch_add(bytes, Relaxed);
        Ok(())
    }
    fn release(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Relaxed);
    }
}

#[test]
fn a_refusal_changes_nothing_and_passes() {
    let gate = Arc::new(Gate::default());
    let reserve: Arc<dyn MemoryReserve> = gate.clone();
    let index =
        Index::new(&IndexOptions { reserve: Some(reserve), ..IndexOptions::default() }).unwrap();
    let (shards, mut refusals, mut closed_until) = (2, 0, 0);
    let mut model = HashMap::new();
    for i in 0..60_000u64 {
        // Every now and then the account closes for a while, at the start too.
        gate.closed.store(i % 10_000 < 4_000, Release);
        let h = hash(i, shards);
        let subtree = if i % 7 == 0 { 5 } else { 0 };
        match index.insert_new(h, at(i + 1), subtree, &index.probe(h)) {
            Ok(_) => {
                model.insert(i, (at(i + 1), subtree));
            }
            Err(error) => {
                assert!(matches!(error, Error::OutOfMemory { what: "index", .. }), "{error}");
                assert!(!index.probe(h).contains(at(i + 1)));
                refusals += 1;
                closed_until = i;
            }
        }
    }
    assert!(refusals > 1_000 && closed_until < 55_000, "{refusals}");
    compare(&index, shards, &model);
    assert_eq!(gate.taken.load(Relaxed), index.memory_bytes());
    drop(index);
    assert_eq!(gate.taken.load(Relaxed), 0);
}

#[test]
fn a_hint_beyond_the_account_is_refused() {
    let gate = Arc::new(Gate { closed: true.into(), ..Gate::default() });
    for expected_entries in [0, 10_000_000] {
        let reserve: Option<Arc<dyn MemoryReserve>> = Some(gate.clone());
        let made =
            Index::new(&IndexOptions { expected_entries, reserve, ..options(0, ScanKernel::Auto) });
        assert!(matches!(made, Err(Error::OutOfMemory { .. })));
    }
    for expected_entries in [1 << 50, u64::MAX] {
        let made = Index::new(&options(expected_entries, ScanKernel::Auto));
        assert!(matches!(made, Err(Error::OutOfMemory { .. })), "{expected_entries}");
    }
}

#[test]
fn insert_new_refuses_when_something_else_matches_now() {
    let index = Index::new(&IndexOptions::default()).unwrap();
    let h = hash(1, 4096);
    let known = index.probe(h);
    assert!(index.unchanged(h, &known));
    assert!(matches!(index.insert_new(h, at(1), 0, &known).unwrap(), Insert::Done));
    assert!(!index.unchanged(h, &known));
    let Insert::Changed(current) = index.insert_new(h, at(2), 0, &known).unwrap() else {
        panic!("inserted twice");
    };
    assert_eq!(current.iter().collect::<Vec<_>>(), [at(1)]);
    // The result of the failed call is good for the next one.
    assert!(matches!(index.insert_new(h, at(2), 0, &current).unwrap(), Insert::Done));
    assert_eq!(index.probe(h).len(), 2);
    // Other keys of the shard may come and go without changing what is known of this one.
    let other = KeyHash { hi: 0, lo: h.lo ^ 0xfff << 28 };
    let known = index.probe(h);
    index.lock(other).insert(other, at(3), 0).unwrap();
    assert!(index.unchanged(h, &known));
    let before = index.probe(h);
    assert_eq!(index.subtree_index_if_known(h, at(1), &before), Some(0));
    assert!(index.lock(h).remove(h, at(1)));
    assert_eq!(index.subtree_index_if_known(h, at(1), &before), None, "it is not there any more");
    assert!(!index.unchanged(h, &known));
    assert!(!index.unchanged(h, &Candidates::none()));
    assert!(index.lock(h).remove(h, at(2)));
    assert!(index.unchanged(h, &Candidates::none()));
}

/// A kernel that lets a writer in between the looks at the two buckets of a probe.
#[derive(Copy, Clone)]
struct Interrupted<'a> {
    left: &'a std::cell::Cell<u32>,
    change: &'a dyn Fn(),
}

impl bucket::Kernel for Interrupted<'_> {
    fn scan(self, bucket: &bucket::Bucket, want: u64) -> bucket::Scan {
        let scan = bucket::Scalar.scan(bucket, want);
        match self.left.get() {
            0 => {}
            1 => {
                self.left.set(0);
                (self.change)();
            }
            left => self.left.set(left - 1),
        }
        scan
    }
}

/// A key that moves home while a reader is between its buckets is seen all the same.
#[test]
fn a_reader_that_was_overtaken_looks_again() {
    use bucket::Operation;
    let index = Index::new(&options(6_000_000, ScanKernel::Auto)).unwrap();
    for i in 0..200 {
        index.lock(hash(i, 1)).insert(hash(i, 1), at(i + 1), 0).unwrap();
    }
    let mut away = 0;
    for i in 0..200 {
        let h = hash(i, 1);
        let page = |guard: &ShardGuard<'_>| {
            index.view(guard.header, &index.directory.leaf(&index.arena, 0, Home::of(h)))
        };
        {
            // As a kick does it: to its other bucket, if that has room.
            let guard = index.lock(h);
            let page = page(&guard);
            let spot = page.find(Home::of(h), at(i + 1)).unwrap();
            let bucket = other_bucket(Home::of(h).tag, spot.bucket, page.buckets.len());
            if let (true, Some(slot)) =
                (bucket != spot.bucket, page.buckets[bucket].words().position(slot::is_empty))
            {
                let _section = guard.header.begin_write();
                page.shift(spot, page::Spot { bucket, slot });
                away += 1;
            }
        }
        let before = index.headers[0].version_before_read();
        // As a split does it: home again.
        let change = || {
            let guard = index.lock(h);
            let _section = guard.header.begin_write();
            page(&guard).settle();
        };
        let left = std::cell::Cell::new(1);
        let found = Probe { index: &index, h }.run(Interrupted { left: &left, change: &change });
        assert!(found.contains(at(i + 1)), "key {i} was lost for a moment");
        assert_ne!(found.version(), before, "the state before the change is over");
    }
    assert!(away > 150, "{away}");
    check(&index);
}

/// Each way to change a shard ends what readers know of it.
#[test]
fn every_change_moves_the_version() {
    let index = Index::new(&options(0, ScanKernel::Auto)).unwrap();
    let header = &index.headers[0];
    let version = std::cell::Cell::new(header.version_before_read());
    let moved = |what: &str| {
        let now = header.version_before_read();
        assert_ne!(version.replace(now), now, "{what}");
    };
    let h = hash(0, 1);
    index.lock(h).insert(h, at(1), 0).unwrap();
    moved("insert");
    assert!(index.lock(h).replace(h, at(1), at(2), None).unwrap());
    moved("replace");
    assert!(index.lock(h).set_subtree_index(h, at(2), 5).unwrap());
    moved("set subtree index");
    assert!(index.lock(h).remove(h, at(2)));
    moved("remove");
    for i in 0..2_000 {
        index.lock(hash(i, 1)).insert(hash(i, 1), at(i + 1), 0).unwrap();
        let mut guard = index.lock(h);
        let leaf = index.directory.leaf(&index.arena, 0, Home::of(h));
        let before = index.stats();
        moved("insert");
        // Rebuilds or splits as soon as that is of use; nothing else happens to the shard here.
        let grew = guard.make_room(&leaf).unwrap();
        let after = index.stats();
        assert_eq!(grew, before.rebuilds + before.splits < after.rebuilds + after.splits);
        if grew {
            moved("rebuild or split");
        }
    }
    assert!(index.stats().rebuilds == 3 && index.stats().splits >= 1, "{:?}", index.stats());
    // Reading, and not finding, change nothing.
    let now = header.version_before_read();
    assert!(!index.lock(h).remove(h, at(77)));
    assert!(!index.lock(h).replace(h, at(77), at(78), None).unwrap());
    assert!(index.lock(h).candidates(h).contains(at(1)));
    assert!(header.is_still(now));
}

/// Subtree indexes cost nothing until one is set, and then only where.
#[test]
fn subtree_indexes_take_memory_when_set() {
    let index = Index::new(&IndexOptions::default()).unwrap();
    for i in 0..20_000 {
        let h = hash(i, 2);
        index.lock(h).insert(h, at(i + 1), 0).unwrap();
        assert!(index.lock(h).set_subtree_index(h, at(i + 1), 0).unwrap());
    }
    assert_eq!(index.subtree_index_bytes(), 0);
    let h = hash(5, 2);
    assert!(index.lock(h).set_subtree_index(h, at(6), 77).unwrap());
    let one = index.subtree_index_bytes();
    assert!((1..=256 * 16).contains(&one), "{one}");
    assert_eq!(index.subtree_index(h, at(6)), Some(77));
    assert_eq!(index.subtree_index(hash(6, 2), at(7)), Some(0));
}

/// The overflow bit is what makes most absent probes read one line.
#[test]
fn at_full_load_most_buckets_have_not_overflowed() {
    let index = Index::new(&options(1_200_000, ScanKernel::Auto)).unwrap();
    for i in 0..1_200_000 {
        let h = hash(i, 4096);
        index.lock(h).insert(h, at(i + 1), 0).unwrap();
    }
    let (mut buckets, mut overflowed, mut secondary) = (0, 0, 0);
    for shard in 0..SHARDS {
        index.directory.for_each_leaf(&index.arena, shard, |leaf| {
            let page = index.view(&index.headers[shard], &leaf);
            buckets += page.buckets.len();
            overflowed += page.buckets.iter().filter(|bucket| bucket.is_overflowed()).count();
            secondary += page.occupied().filter(|&(_, word)| word & SECONDARY != 0).count();
        });
    }
    let share = f64::from(overflowed as u32) / f64::from(buckets as u32);
    assert!((0.15..0.45).contains(&share), "{share}");
    assert!(secondary < 1_200_000 / 4, "{secondary}");
}
