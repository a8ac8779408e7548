//! The engine against a plain map: random histories of all operations, single and in batches, that
//! may wait or not, over one to three directories, with a tail so small that most records are on
//! disk and segments so small that they come and go; and every fallback on the same history.
//!
//! A failure prints seed and step; the history follows from the seed (keys are hashed with a secret
//! that differs from run to run, so the places of records do not).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and say what they did"
)]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use blocktier::diskmap::{Batch, DiskMap, Inserted, ItemState, Key, Wait};
use blocktier::runtime::Runtime;
use blocktier::settings::RuntimeSettings;
use blocktier::{Error, Result};

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

/// Bytes of a record's header and the unit its length is rounded up to (docs/format.md).
const HEADER_BYTES: usize = 12;
const UNIT_BYTES: usize = 16;

trait TestKey: Key + Hash {
    fn numbered(number: u64) -> Self;
}

impl TestKey for [u8; 32] {
    fn numbered(number: u64) -> Self {
        key(number)
    }
}

impl TestKey for [u8; 36] {
    /// Outpoints: few transactions, many outputs, so that keys differ in their last bytes only.
    fn numbered(number: u64) -> Self {
        let mut outpoint = [0; 36];
        outpoint[..32].copy_from_slice(&key(number % 8));
        outpoint[32..].copy_from_slice(&((number / 8) as u32).to_le_bytes());
        outpoint
    }
}

/// A map, what must be in it, and the history's source.
struct Run<'a, K: TestKey> {
    map: &'a DiskMap<K>,
    model: HashMap<K, (Vec<u8>, u16)>,
    rng: Rng,
    universe: u64,
    /// Calls that returned WouldBlock and were repeated.
    blocked: u64,
    live_bytes_max: u64,
    batch_items: u64,
}

impl<'a, K: TestKey> Run<'a, K> {
    fn new(map: &'a DiskMap<K>, seed: u64, universe: u64) -> Self {
        let rng = Rng::new(seed);
        Self {
            map,
            model: HashMap::new(),
            rng,
            universe,
            blocked: 0,
            live_bytes_max: 0,
            batch_items: 0,
        }
    }

    fn random_key(&mut self) -> K {
        K::numbered(self.rng.below(self.universe))
    }

    /// Mostly some inputs, sometimes nothing, a record of about half a block, several blocks.
    fn random_value(&mut self) -> Vec<u8> {
        let length = match self.rng.below(100) {
            0..=9 => 0,
            10..=69 => 30 + self.rng.below(120),
            70..=91 => self.rng.below(1500),
            92..=95 => 8192 - HEADER_BYTES as u64 - 40 - 32 + self.rng.below(64),
            96..=98 => 8192 + self.rng.below(12 << 10),
            _ => self.rng.below(self.map.value_bytes_max() as u64 + 1),
        };
        value(self.rng.next(), length as usize)
    }

    fn random_wait(&mut self) -> Wait {
        if self.rng.below(4) == 0 { Wait::Never } else { Wait::Allowed }
    }

    /// Calls `op`; what must not wait and would have to is called again and may wait.
    fn retry<R>(&mut self, wait: Wait, op: impl Fn(&DiskMap<K>, Wait) -> Result<R>) -> R {
        match op(self.map, wait) {
            Err(Error::WouldBlock(_)) if wait == Wait::Never => {
                assert_eq!(self.map.len(), self.model.len() as u64, "a blocked call did something");
                self.blocked += 1;
                op(self.map, Wait::Allowed).unwrap()
            }
            outcome => outcome.unwrap(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(1000) {
            0..250 => self.set_if_not_exists(),
            250..370 => self.set(),
            370..480 => self.get(),
            480..560 => self.exists(),
            560..680 => self.delete(),
            680..740 => self.update_subtree_index(),
            740..800 => self.insert_batch(),
            800..840 => self.set_batch(),
            840..900 => self.get_batch(),
            900..940 => self.delete_batch(),
            940..970 => self.update_subtree_index_batch(),
            970..990 => assert_eq!(self.map.len(), self.model.len() as u64),
            990..999 => self.map.flush().unwrap(),
            _ => {
                self.map.clear().unwrap();
                self.model.clear();
            }
        }
    }

    fn set_if_not_exists(&mut self) {
        let (key, value, wait) = (self.random_key(), self.random_value(), self.random_wait());
        let index = self.rng.below(3) as u16;
        let outcome = self.retry(wait, |map, wait| {
            map.set_if_not_exists(&key, &value, index, wait, |old, index| (old.to_vec(), index))
        });
        match outcome {
            Inserted::New => assert!(self.model.insert(key, (value, index)).is_none()),
            Inserted::Present(there) => assert_same(Some(&there), self.model.get(&key)),
        }
    }

    fn set(&mut self) {
        let (key, value, wait) = (self.random_key(), self.random_value(), self.random_wait());
        let index = self.rng.below(3) as u16;
        let replaced = self.retry(wait, |map, wait| map.set(&key, &value, index, wait));
        assert_eq!(replaced, self.model.insert(key, (value, index)).is_some());
    }

    fn get(&mut self) {
        let (key, wait) = (self.random_key(), self.random_wait());
        let found = self
            .retry(wait, |map, wait| map.get(&key, wait, |value, index| (value.to_vec(), index)));
        assert_same(found.as_ref(), self.model.get(&key));
    }

    fn exists(&mut self) {
        let (key, wait) = (self.random_key(), self.random_wait());
        let found = self.retry(wait, |map, wait| map.exists(&key, wait));
        assert_eq!(found, self.model.contains_key(&key));
    }

    fn delete(&mut self) {
        let (key, wait) = (self.random_key(), self.random_wait());
        let removed = self.retry(wait, |map, wait| map.delete(&key, wait));
        assert_eq!(removed, self.model.remove(&key).is_some());
    }

    fn update_subtree_index(&mut self) {
        let (key, wait) = (self.random_key(), self.random_wait());
        let index = self.rng.next() as u16;
        let found = self.retry(wait, |map, wait| map.update_subtree_index(&key, index, wait));
        let entry = self.model.get_mut(&key).map(|entry| entry.1 = index);
        assert_eq!(found, entry.is_some());
    }

    /// Keys of a batch; with `repeats` a key may come more than once.
    fn random_keys(&mut self, repeats: bool) -> Vec<K> {
        let many = self.rng.below(10) == 0;
        let count = 1 + self.rng.below(if many { 600 } else { 30 });
        let mut keys: Vec<K> = (0..count).map(|_| self.random_key()).collect();
        if !repeats {
            let mut seen = std::collections::HashSet::new();
            keys.retain(|key| seen.insert(*key));
        }
        self.batch_items += keys.len() as u64;
        keys
    }

    /// Runs a batch; what is still pending after a call that must not wait is called again.
    fn run_batch(
        &mut self,
        count: usize,
        op: impl Fn(&DiskMap<K>, Wait, &mut [ItemState]) -> Result<()>,
    ) -> Vec<ItemState> {
        let mut states = vec![ItemState::Pending; count];
        let wait = self.random_wait();
        match op(self.map, wait, &mut states) {
            Err(Error::WouldBlock(_)) if wait == Wait::Never => {
                assert!(states.contains(&ItemState::Pending), "nothing was left to wait for");
                self.blocked += 1;
                op(self.map, Wait::Allowed, &mut states).unwrap();
            }
            outcome => outcome.unwrap(),
        }
        assert!(!states.contains(&ItemState::Pending));
        states
    }

    fn random_values(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.random_value()).collect()
    }

    fn insert_batch(&mut self) {
        let keys = self.random_keys(true);
        let values = self.random_values(keys.len());
        let indexes: Vec<u16> = keys.iter().map(|_| self.rng.below(3) as u16).collect();
        let (arena, offsets) = flat(&values);
        let batch = Batch::new(&keys, &arena, &offsets, Some(&indexes)).unwrap();
        let states = self
            .run_batch(keys.len(), |map, wait, to| map.set_if_not_exists_batch(&batch, wait, to));
        // Which one of the items of an absent key is inserted is not said, but it is one.
        for (i, key) in keys.iter().enumerate() {
            if states[i] == ItemState::Done {
                let new = (values[i].clone(), indexes[i]);
                assert!(self.model.insert(*key, new).is_none(), "inserted, but it was there");
            }
        }
        for key in &keys {
            assert!(self.model.contains_key(key), "neither inserted nor there");
        }
    }

    fn set_batch(&mut self) {
        let keys = self.random_keys(false);
        let values = self.random_values(keys.len());
        let (arena, offsets) = flat(&values);
        let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
        let states = self.run_batch(keys.len(), |map, wait, to| map.set_batch(&batch, wait, to));
        for ((key, value), state) in keys.iter().zip(values).zip(states) {
            let replaced = self.model.insert(*key, (value, 0)).is_some();
            assert_eq!(state, if replaced { ItemState::Other } else { ItemState::Done });
        }
    }

    fn delete_batch(&mut self) {
        let keys = self.random_keys(false);
        let states = self.run_batch(keys.len(), |map, wait, to| map.delete_batch(&keys, wait, to));
        for (key, state) in keys.iter().zip(states) {
            let removed = self.model.remove(key).is_some();
            assert_eq!(state, if removed { ItemState::Done } else { ItemState::Other });
        }
    }

    fn update_subtree_index_batch(&mut self) {
        let keys = self.random_keys(true);
        let index = self.rng.below(40_000) as u16;
        let states = self.run_batch(keys.len(), |map, wait, to| {
            map.update_subtree_index_batch(&keys, index, wait, to)
        });
        for (key, state) in keys.iter().zip(states) {
            let found = self.model.get_mut(key).map(|entry| entry.1 = index).is_some();
            assert_eq!(state, if found { ItemState::Done } else { ItemState::Other });
        }
    }

    fn get_batch(&mut self) {
        let keys = self.random_keys(true);
        let (want_values, wait) = (self.rng.below(3) > 0, self.random_wait());
        self.check_batch(&keys, want_values, wait);
    }

    fn check_batch(&mut self, keys: &[K], want_values: bool, wait: Wait) {
        let mut found: Vec<Option<(Vec<u8>, u16)>> = vec![None; keys.len()];
        let mut visit = |position: usize, value: &[u8], index| {
            assert!(found[position].is_none(), "visited twice");
            found[position] = Some((value.to_vec(), index));
            Ok(())
        };
        let blocked = self.map.get_batch(keys, want_values, wait, &mut visit).unwrap();
        assert!(wait == Wait::Never || blocked.is_empty());
        if !blocked.is_empty() {
            self.blocked += 1;
            let rest: Vec<K> = blocked.iter().map(|position| keys[*position]).collect();
            let visit_rest =
                |position: usize, value: &[u8], index| visit(blocked[position], value, index);
            let again = self.map.get_batch(&rest, want_values, Wait::Allowed, visit_rest).unwrap();
            assert!(again.is_empty());
        }
        for (key, found) in keys.iter().zip(found) {
            let expected = self.model.get(key);
            if want_values {
                assert_same(found.as_ref(), expected);
            } else {
                let empty = expected.map(|(_, index)| (Vec::new(), *index));
                assert_same(found.as_ref(), empty.as_ref());
            }
        }
    }

    /// Everything, by itself and in batches, and the figures that follow from the content.
    fn check_all(&mut self) {
        let keys: Vec<K> = (0..self.universe).map(K::numbered).collect();
        for batch in keys.chunks(1500) {
            self.check_batch(batch, true, Wait::Allowed);
            self.check_batch(batch, false, Wait::Never);
        }
        for key in keys.iter().step_by(3) {
            let found =
                self.map.get(key, Wait::Allowed, |value, index| (value.to_vec(), index)).unwrap();
            assert_same(found.as_ref(), self.model.get(key));
        }
        self.check_figures();
    }

    fn check_figures(&mut self) {
        let mut stats = self.map.stats();
        assert_eq!(stats.entries, self.model.len() as u64);
        assert_eq!(stats.failed, 0);
        let live: usize = self
            .model
            .values()
            .map(|(value, _)| (HEADER_BYTES + K::BYTES + value.len()).next_multiple_of(UNIT_BYTES))
            .sum();
        // A record that compaction moves just now counts twice.
        let deadline = Instant::now() + Duration::from_secs(20);
        while stats.live_bytes != live as u64 && Instant::now() < deadline {
            std::thread::yield_now();
            stats = self.map.stats();
        }
        assert_eq!(stats.live_bytes, live as u64, "live bytes are counted exactly");
        self.live_bytes_max = self.live_bytes_max.max(stats.live_bytes);
    }
}

/// As `assert_eq!`, without kilobytes of bytes in the message.
#[track_caller]
fn assert_same(found: Option<&(Vec<u8>, u16)>, expected: Option<&(Vec<u8>, u16)>) {
    let shown = |entry: Option<&(Vec<u8>, u16)>| entry.map(|(value, index)| (value.len(), *index));
    assert!(found == expected, "(length, index) {:?}, not {:?}", shown(found), shown(expected));
}

fn flat(values: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
    let mut offsets = vec![0];
    offsets.extend(values.iter().scan(0, |end, value| {
        *end += value.len() as u64;
        Some(*end)
    }));
    (values.concat(), offsets)
}

/// Says where a history failed.
struct Place {
    seed: u64,
    step: u64,
    settings: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}, step {}, settings {:?}", self.seed, self.step, self.settings);
        }
    }
}

/// Runs a history and checks that it was what it is meant to be.
fn history<K: TestKey>(seed: u64, directories: usize, steps: u64, runtime: &str, more: &str) {
    let mut place = Place { seed, step: 0, settings: format!("{runtime}\n{more}") };
    let dirs = temp_dirs(directories);
    let runtime = Runtime::open(&RuntimeSettings::parse(runtime).unwrap()).unwrap();
    let map = DiskMap::<K>::open(&runtime, &small_settings(&dirs, more)).unwrap();
    let mut run = Run::new(&map, seed, 3000);
    for step in 0..steps {
        place.step = step;
        run.step();
        if step % 500 == 499 {
            run.check_figures();
        }
    }
    run.check_all();
    let stats = map.stats();
    assert!(run.live_bytes_max > 4 * stats.tail_bytes, "little was on disk");
    assert!(stats.file_reads > steps / 20 && run.blocked > steps / 100, "little was read back");
    map.flush().unwrap();
    // Counted since the last clear, which starts the incarnations of a lane anew.
    let (files, incarnations) = settled_files(&map);
    assert!(files <= map.stats().segments, "segments without live records are unlinked");
    assert!(incarnations > 0);
    map.clear().unwrap();
    run.model.clear();
    run.check_all();
    run.insert_batch();
    run.check_all();
}

/// Waits until no file is left of a segment that was given up. Files now, and the highest
/// incarnation.
fn settled_files<K: Key>(map: &DiskMap<K>) -> (u64, u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (mut files, mut highest) = (0, 0);
        for dir in map.directories() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let Some(name) = name.strip_suffix(".seg") else { continue };
                files += 1;
                let incarnation = name.rsplit('-').next().unwrap().parse::<u64>().unwrap();
                highest = highest.max(incarnation);
            }
        }
        if files <= map.stats().segments || Instant::now() > deadline {
            return (files, highest);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn random_histories_agree_with_a_plain_map() {
    for (seed, directories) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)] {
        history::<[u8; 32]>(seed, directories, 4000, "", "");
    }
}

#[test]
fn random_histories_of_longer_keys_agree_too() {
    history::<[u8; 36]>(6, 2, 4000, "", "");
}

#[test]
fn more_directories_larger_blocks_and_flushes_by_age_agree() {
    history::<[u8; 32]>(7, 4, 3000, "", "txMapTail = 320K\n");
    history::<[u8; 32]>(8, 1, 3000, "", "txMapBlock = 32K\ntxMapSegment = 128K\n");
    history::<[u8; 32]>(9, 2, 3000, "", "txMapFlushAge = 100ms\n");
    history::<[u8; 32]>(10, 2, 3000, "", "txMapFlushBytes = 16K\n");
}

#[test]
fn every_fallback_gives_the_same_answers() {
    for settings in [
        "directIo = off",
        "ioUring = off",
        "scanKernel = scalar",
        "hugePages = off",
        "readRingDepth = 1",
        "directIo = off\nioUring = off\nscanKernel = scalar\nhugePages = off",
    ] {
        history::<[u8; 32]>(11, 2, 2000, settings, "");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_kernel_of_the_processor_gives_the_same_answers() {
    for (name, there) in [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("avx512", std::is_x86_feature_detected!("avx512f")),
    ] {
        let settings = format!("scanKernel = {name}");
        if there {
            history::<[u8; 32]>(11, 2, 2000, &settings, "");
            continue;
        }
        println!("this processor has no {name}: only that it is refused by name is tested");
        let dirs = temp_dirs(1);
        let runtime = Runtime::open(&RuntimeSettings::parse(&settings).unwrap()).unwrap();
        let error = DiskMap::<[u8; 32]>::open(&runtime, &small_settings(&dirs, "")).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert_eq!(std::fs::read_dir(dirs[0].path()).unwrap().count(), 0);
    }
}

/// Inserts `count` keys by batches, deletes every seventh, and reads everything back.
fn grow(count: u64, more: &str) -> blocktier::diskmap::MapStats {
    let dirs = temp_dirs(2);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let settings = small_settings(&dirs, more);
    let map = DiskMap::<[u8; 32]>::open(&runtime, &settings).unwrap();
    let keys: Vec<[u8; 32]> = (0..count).map(key).collect();
    for (number, chunk) in keys.chunks(2000).enumerate() {
        let arena: Vec<u8> = chunk.iter().flat_map(|key| key[..8].iter().copied()).collect();
        let offsets: Vec<u64> = (0..=chunk.len() as u64).map(|i| i * 8).collect();
        let indexes = vec![number as u16; chunk.len()];
        let batch = Batch::new(chunk, &arena, &offsets, Some(&indexes)).unwrap();
        let mut states = vec![ItemState::Pending; chunk.len()];
        map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
        assert!(states.iter().all(|state| *state == ItemState::Done));
    }
    assert_eq!(map.len(), count);
    let removed: Vec<[u8; 32]> = keys.iter().copied().step_by(7).take(20_000).collect();
    let mut states = vec![ItemState::Pending; removed.len()];
    map.delete_batch(&removed, Wait::Allowed, &mut states).unwrap();
    assert!(states.iter().all(|state| *state == ItemState::Done));
    let mut found = 0;
    for (number, chunk) in keys.chunks(2000).enumerate() {
        let blocked = map.get_batch(chunk, true, Wait::Allowed, |position, value, index| {
            assert_eq!((value, index), (&chunk[position][..8], number as u16));
            found += 1;
            Ok(())
        });
        assert!(blocked.unwrap().is_empty());
    }
    assert_eq!(found, count - removed.len() as u64);
    for key in removed.iter().step_by(50) {
        assert!(!map.exists(key, Wait::Allowed).unwrap());
    }
    map.stats()
}

#[test]
fn index_without_a_hint_grows_through_rebuilds() {
    let small = grow(30_000, "").index_bytes;
    let large = grow(300_000, "").index_bytes;
    assert!(large > 2 * small, "{small} bytes, then {large}: nothing was rebuilt");
}

#[test]
fn index_that_was_hinted_too_small_splits() {
    let more = "txMapExpectedEntries = 900000\ntxMapSegment = 16M\ntxMapTail = 4M\n";
    let stats = grow(1_250_000, more);
    assert!(stats.splits > 0, "no page was split");
}

#[test]
fn values_of_every_boundary_length_come_back() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskMap::<[u8; 32]>::open(&runtime, &small_settings(&dirs, "")).unwrap();
    let limit = map.value_bytes_max();
    // A segment less its header and a record's header and key.
    assert_eq!(limit, (64 << 10) - 4096 - HEADER_BYTES - 32);
    let mut lengths: Vec<usize> = (0..70).collect();
    for boundary in [512, 4096, 8192, 12 << 10, 16 << 10, 32 << 10, 48 << 10, limit] {
        lengths.extend((boundary - 50..=boundary + 20).filter(|length| *length <= limit));
    }
    for (number, length) in lengths.iter().enumerate() {
        let value = value(number as u64, *length);
        let new = map.set_if_not_exists(&key(number as u64), &value, 7, Wait::Allowed, |_, _| ());
        assert_eq!(new.unwrap(), Inserted::New);
        if number % 40 == 0 {
            map.flush().unwrap();
        }
    }
    for flushed in [false, true] {
        for (number, length) in lengths.iter().enumerate() {
            let expected = value(number as u64, *length);
            let same = map.get(&key(number as u64), Wait::Allowed, |value, _| value == expected);
            assert_eq!(same.unwrap(), Some(true), "length {length}, flushed {flushed}");
        }
        map.flush().unwrap();
    }
    let too_long = vec![1; limit + 1];
    let absent = key(u64::MAX);
    let error = map.set(&absent, &too_long, 0, Wait::Allowed).unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error}");
    let error = map.set_if_not_exists(&absent, &too_long, 0, Wait::Never, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("raise txMapSegment"), "{error}");
    assert!(!map.exists(&absent, Wait::Allowed).unwrap());
    assert_eq!(map.len(), lengths.len() as u64);
}

#[test]
fn segments_retire_and_their_slots_are_used_again() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskMap::<[u8; 32]>::open(&runtime, &small_settings(&dirs, "")).unwrap();
    let (total, window) = (40_000, 3000);
    for number in 0..total {
        let value = value(number, 84);
        map.set_if_not_exists(&key(number), &value, 0, Wait::Allowed, |_, _| ()).unwrap();
        if let Some(old) = number.checked_sub(window) {
            assert!(map.delete(&key(old), Wait::Allowed).unwrap());
        }
    }
    assert_eq!(map.len(), window);
    // 480 records of 128 bytes to a segment, so 3000 live ones span eight at most.
    let segments = map.stats().segments;
    assert!(segments <= 9, "{segments} segments are in use");
    map.flush().unwrap();
    let (files, incarnations) = settled_files(&map);
    assert!(files <= segments, "{files} files of {segments} segments");
    assert!(incarnations > 70, "only {incarnations} segments were made in all");
    for number in total - window..total {
        let expected = value(number, 84);
        let same = map.get(&key(number), Wait::Allowed, |value, _| value == expected).unwrap();
        assert_eq!(same, Some(true));
    }
}

#[test]
fn batches_whose_parts_do_not_fit_are_refused() {
    let keys = [key(1), key(2)];
    let refused = |arena: &[u8], offsets: &[u64], indexes: Option<&[u16]>| {
        Batch::new(&keys, arena, offsets, indexes).unwrap_err().to_string()
    };
    assert!(refused(&[0; 8], &[0, 8], None).contains("need 3 offsets"));
    assert!(refused(&[0; 8], &[0, 8, 4], None).contains("offset 2 is smaller"));
    assert!(refused(&[0; 8], &[0, 4, 9], None).contains("behind the arena's end"));
    assert!(refused(&[0; 8], &[0, 4, 8], Some(&[1])).contains("as many subtree indexes"));
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let map = DiskMap::<[u8; 32]>::open(&runtime, &small_settings(&dirs, "")).unwrap();
    let batch = Batch::new(&keys, &[0; 8], &[0, 4, 8], None).unwrap();
    let mut states = [ItemState::Pending; 3];
    let error = map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    assert!(map.is_empty());
}
