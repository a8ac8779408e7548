//! Settings and strategies of compaction that change while a map is open.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "common/maps.rs"]
mod maps;
#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blocktier::Error;
use blocktier::diskmap::Wait;
use blocktier::diskmap::compaction::{Choice, CompactionStrategy, Offer, Thresholds};
use blocktier::runtime::Runtime;
use blocktier::settings::{CompactionSettings, RuntimeSettings};
use blocktier::txmap::DiskTxMap;
use tempfile::TempDir;

use maps::{small_settings, temp_dirs};
use records::{key, value};
use rng::Rng;

const RECORDS: u64 = 3000;

struct Setup {
    // In the order in which they go.
    map: DiskTxMap,
    runtime: Runtime,
    _dirs: Vec<TempDir>,
}

/// A map with segments of which three in `of` records are dead, without compaction.
fn open(of: u64) -> Setup {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let settings = small_settings(&dirs, "txMapCompaction = off\n");
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    fill(&map, of);
    Setup { map, runtime, _dirs: dirs }
}

fn fill(map: &DiskTxMap, of: u64) {
    for number in 0..RECORDS {
        map.set(&key(number), &value(number, 300), 0, Wait::Allowed).unwrap();
    }
    map.flush().unwrap();
    for number in (0..RECORDS).filter(|number| number % of < 3) {
        assert!(map.delete(&key(number), Wait::Allowed).unwrap());
    }
}

fn check(map: &DiskTxMap, of: u64) {
    for number in 0..RECORDS {
        let found = map.get(&key(number), Wait::Allowed, |bytes, _| bytes.to_vec()).unwrap();
        let expected = (number % of >= 3).then(|| value(number, 300));
        assert!(found == expected, "record {number}");
    }
}

fn merges(map: &DiskTxMap) -> u64 {
    map.stats().compactions
}

fn change(map: &DiskTxMap, text: &str) -> blocktier::Result<()> {
    map.change_compaction(text)
}

#[test]
fn every_setting_can_be_changed_and_a_wrong_one_changes_nothing() {
    let setup = open(6);
    let map = &setup.map;
    let all = CompactionSettings {
        enabled: false,
        size_ratio_percent: 7,
        min_width: 5,
        max_width: 50,
        space_percent: 900,
        target_bytes: 1 << 20,
        rate_bytes: 1 << 21,
        slowdown_bytes: 1 << 22,
        stop_bytes: 1 << 23,
        max_delay_ms: 3,
    };
    map.set_compaction(&all).unwrap();
    assert_eq!(map.compaction_settings(), all);
    let wrong = CompactionSettings { min_width: 51, space_percent: 1, ..all };
    assert!(matches!(map.set_compaction(&wrong), Err(Error::Setting { .. })));
    assert!(matches!(change(map, "txMapCompactionRate = 1"), Err(Error::Setting { .. })));
    assert_eq!(map.compaction_settings(), all);
    let old = map.rotate().unwrap();
    assert!(matches!(old.set_compaction(&all), Err(Error::Frozen(_))));
    assert!(matches!(change(&old, "txMapCompaction = on"), Err(Error::Frozen(_))));
    assert!(matches!(old.set_backpressure(Thresholds::OFF), Err(Error::Frozen(_))));
    assert!(matches!(old.set_compaction_strategy(None), Err(Error::Frozen(_))));
    assert_eq!(map.compaction_settings(), all);
}

#[test]
fn thresholds_are_settings_with_their_bounds() {
    let setup = open(6);
    let map = &setup.map;
    let before = map.compaction_settings();
    let (slowdown, stop, max_delay) = (Some(0), Some(7), Duration::from_micros(1001));
    map.set_backpressure(Thresholds { slowdown, stop, max_delay }).unwrap();
    let set = CompactionSettings { slowdown_bytes: 1, stop_bytes: 7, max_delay_ms: 2, ..before };
    assert_eq!(map.compaction_settings(), set);
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    for (slowdown, stop, max_delay, key) in [
        (Some(8), Some(7), minute, "Slowdown"),
        (None, Some(u64::MAX), minute, "Stop"),
        (None, None, hour, "MaxDelay"),
    ] {
        let error = map.set_backpressure(Thresholds { slowdown, stop, max_delay }).unwrap_err();
        let Error::Setting { key: named, .. } = &error else { panic!("{error}") };
        assert_eq!(*named, format!("txMapCompaction{key}"), "{error}");
        assert_eq!(map.compaction_settings(), set);
    }
    // Whatever they are, other settings can be changed after them, and they after others.
    change(map, "txMapCompactionSpace = 900\ntxMapCompactionMaxDelay = 3ms").unwrap();
    let changed = CompactionSettings { space_percent: 900, max_delay_ms: 3, ..set };
    assert_eq!(map.compaction_settings(), changed);
    map.set_backpressure(Thresholds::OFF).unwrap();
    let off = CompactionSettings { space_percent: 900, max_delay_ms: 0, ..before };
    assert_eq!(map.compaction_settings(), off);
}

#[test]
fn changes_by_several_threads_do_not_undo_each_other() {
    let setup = open(6);
    let map = &setup.map;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for width in 2..2000 {
                change(map, &format!("txMapCompactionMinWidth = {width}")).unwrap();
                assert_eq!(map.compaction_settings().min_width, width);
            }
        });
        scope.spawn(|| {
            for percent in 2..2000 {
                change(map, &format!("txMapCompactionSpace = {percent}")).unwrap();
                assert_eq!(map.compaction_settings().space_percent, percent);
            }
        });
        for stop in 2..2000 {
            map.set_backpressure(Thresholds { stop: Some(stop), ..Thresholds::OFF }).unwrap();
            assert_eq!(map.compaction_settings().stop_bytes, stop);
        }
    });
    let now = map.compaction_settings();
    assert_eq!((now.min_width, now.space_percent, now.stop_bytes), (1999, 1999, 1999));
}

#[test]
fn what_is_changed_counts_from_the_next_choice_on() {
    // Half dead: neither too much space, nor as many segments as the width.
    let setup = open(6);
    let map = &setup.map;
    change(map, "txMapCompactionMinWidth = 60000").unwrap();
    map.compact().unwrap();
    assert_eq!(merges(map), 0);
    change(map, "txMapCompactionMinWidth = 2\ntxMapCompactionMaxWidth = 3").unwrap();
    map.compact().unwrap();
    let narrow = merges(map);
    check(map, 6);
    let setup = open(6);
    change(&setup.map, "txMapCompactionMinWidth = 2").unwrap();
    setup.map.compact().unwrap();
    let wide = merges(&setup.map);
    assert!(narrow > 2 * wide, "three segments at a time: {narrow} merges; all of them: {wide}");

    let setup = open(6);
    let map = &setup.map;
    change(map, "txMapCompactionMinWidth = 60000").unwrap();
    assert_eq!(map.stats().pending_compaction_bytes, 0, "switched off");
    // Without being called, as soon as it is switched on.
    change(map, "txMapCompaction = on\ntxMapCompactionSpace = 20").unwrap();
    while map.stats().dead_bytes * 4 > map.stats().live_bytes {
        std::thread::yield_now();
    }
    check(map, 6);
    change(map, "txMapCompaction = off").unwrap();
    let before = merges(map);
    for number in (0..RECORDS).filter(|number| number % 6 >= 3) {
        assert!(map.delete(&key(number), Wait::Allowed).unwrap());
    }
    assert_eq!((merges(map), map.stats().pending_compaction_bytes), (before, 0));
}

type Chooses = fn(&Offer<'_>) -> Vec<usize>;

/// Chooses what it was made to choose, and counts.
#[derive(Debug)]
struct Stubborn {
    chooses: Chooses,
    asked: AtomicU64,
}

impl CompactionStrategy for Stubborn {
    fn name(&self) -> &'static str {
        "Stubborn"
    }

    fn wants_space(&self, _: u64, _: u64) -> bool {
        true
    }

    fn choose(&self, offer: &Offer<'_>) -> Choice {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Choice::Space((self.chooses)(offer))
    }

    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64 {
        offer.sizes.len() as u64
    }
}

fn stubborn(map: &DiskTxMap, chooses: Chooses) -> Arc<Stubborn> {
    let strategy = Arc::new(Stubborn { chooses, asked: AtomicU64::new(0) });
    map.set_compaction_strategy(Some(Arc::clone(&strategy) as _)).unwrap();
    strategy
}

#[test]
fn an_embedders_strategy_chooses() {
    let setup = open(30);
    let map = &setup.map;
    map.compact().unwrap();
    assert_eq!(merges(map), 0, "a tenth of each segment is dead: the settings find nothing");
    // One at a time, those with the most live bytes first, until each has been merged.
    let strategy = stubborn(map, |offer| {
        (0..offer.sizes.len()).max_by_key(|run| offer.sizes[*run]).into_iter().collect()
    });
    let before = map.stats();
    map.compact().unwrap();
    let after = map.stats();
    assert!(after.compactions > 10, "{after:?}");
    assert!(strategy.asked.load(Ordering::Relaxed) > after.compactions);
    assert!(after.dead_bytes < before.dead_bytes / 2, "{before:?} {after:?}");
    check(map, 30);
    // Back to what the settings say.
    map.set_compaction_strategy(None).unwrap();
    let merged = merges(map);
    map.compact().unwrap();
    assert_eq!(merges(map), merged);
}

#[test]
fn a_strategy_that_is_wrong_merges_nothing_and_harms_nothing() {
    let wrong: [(Chooses, &str); 2] =
        [(|offer| vec![offer.sizes.len()], "chose run"), (|_| vec![0, 0], "chose run 0 twice")];
    for (chooses, reason) in wrong {
        let setup = open(6);
        let (map, runtime) = (&setup.map, &setup.runtime);
        stubborn(map, chooses);
        let error = map.compact().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        let told = std::iter::from_fn(|| runtime.events().pop());
        assert!(told.filter(|event| event.text.contains("Stubborn chose")).count() == 1);
        assert_eq!((merges(map), map.stats().failed), (0, 0));
        check(map, 6);
    }
    let setup = open(6);
    let (map, runtime) = (&setup.map, &setup.runtime);
    stubborn(map, |_| panic!("on purpose"));
    map.compact().unwrap();
    let told = std::iter::from_fn(|| runtime.events().pop());
    assert!(told.filter(|event| event.text.contains("strategy panicked")).count() == 1);
    assert_eq!((merges(map), map.stats().failed), (0, 0));
    map.set_compaction_strategy(None).unwrap();
    change(map, "txMapCompactionMinWidth = 2").unwrap();
    map.compact().unwrap();
    assert!(merges(map) > 0);
    check(map, 6);
}

#[test]
fn a_strategy_given_at_open_is_asked_from_the_beginning() {
    let dirs = temp_dirs(1);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    // Whatever is dead is merged, if the settings are asked.
    let settings = small_settings(&dirs, "txMapCompactionSpace = 0\n");
    let strategy = Arc::new(Stubborn { chooses: |_| Vec::new(), asked: AtomicU64::new(0) });
    let own = Arc::clone(&strategy) as _;
    let map = DiskTxMap::open_with_strategy(&runtime, &settings, own).unwrap();
    fill(&map, 6);
    map.compact().unwrap();
    assert_eq!(merges(&map), 0);
    assert!(strategy.asked.load(Ordering::Relaxed) > 0);
    assert!(map.stats().pending_compaction_bytes < 1000, "a number of segments");
    // Changed settings do not bring their own strategy back.
    change(&map, "txMapCompactionMinWidth = 2").unwrap();
    map.compact().unwrap();
    assert_eq!(merges(&map), 0);
    map.set_compaction_strategy(None).unwrap();
    map.compact().unwrap();
    assert!(merges(&map) > 0);
    check(&map, 6);
    drop(map);
    assert_eq!(Arc::strong_count(&strategy), 1, "nothing keeps it");
}

/// Answers with what is hardest to live with, and panics where it is told to.
#[derive(Debug, Default)]
struct Worst {
    asked: AtomicU64,
    panics: bool,
}

impl Worst {
    fn panic(&self) {
        assert!(!self.panics, "on purpose");
    }
}

impl Drop for Worst {
    fn drop(&mut self) {
        self.panic();
    }
}

impl CompactionStrategy for Worst {
    fn name(&self) -> &'static str {
        self.panic();
        "Worst"
    }

    fn wants_space(&self, _: u64, _: u64) -> bool {
        self.panic();
        true
    }

    fn choose(&self, offer: &Offer<'_>) -> Choice {
        self.panic();
        // A test that has merged nothing by then has failed.
        if offer.sizes.is_empty() || self.asked.fetch_add(1, Ordering::Relaxed) > 10_000 {
            return Choice::Space(Vec::new());
        }
        Choice::Space(vec![offer.sizes.len() - 1])
    }

    fn pending_compaction_bytes(&self, _: &Offer<'_>) -> u64 {
        self.panic();
        u64::MAX
    }

    fn target_bytes(&self) -> u64 {
        self.panic();
        0
    }
}

#[test]
fn the_worst_answers_end_and_fit() {
    let dirs = temp_dirs(2);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let settings = small_settings(&dirs, "txMapCompactionRate = 64K\n");
    let map = DiskTxMap::open(&runtime, &settings).unwrap();
    fill(&map, 6);
    let strategy = Arc::new(Worst::default());
    map.set_compaction_strategy(Some(Arc::clone(&strategy) as _)).unwrap();
    // Of both directories.
    assert_eq!(map.stats().pending_compaction_bytes, u64::MAX);
    let before = map.stats();
    map.compact().unwrap();
    let after = map.stats();
    assert!(strategy.asked.load(Ordering::Relaxed) < 10_000);
    assert!(after.dead_bytes < before.dead_bytes / 4, "{before:?} {after:?}");
    check(&map, 6);
}

#[test]
fn panics_of_a_strategy_are_its_own() {
    let setup = open(6);
    let (map, runtime) = (&setup.map, &setup.runtime);
    change(map, "txMapCompaction = on\ntxMapCompactionMinWidth = 60000").unwrap();
    let worst = Worst { panics: true, asked: AtomicU64::new(0) };
    map.set_compaction_strategy(Some(Arc::new(worst))).unwrap();
    map.set_backpressure(Thresholds { stop: Some(1), ..Thresholds::OFF }).unwrap();
    // Writers, the background and `compact` ask it.
    map.set(&key(RECORDS), b"written", 0, Wait::Never).unwrap();
    map.compact().unwrap();
    assert_eq!(map.stats().pending_compaction_bytes, 0);
    // Its drop panics, here or in the background.
    map.set_compaction_strategy(None).unwrap();
    map.compact().unwrap();
    let told = std::iter::from_fn(|| runtime.events().pop());
    assert_eq!(told.filter(|event| event.text.contains("strategy panicked")).count(), 1);
    map.failure().unwrap();
    check(map, 6);
}

/// Chooses at random: some, in any order; what is not there; the same twice; nothing; and panics.
#[derive(Debug)]
struct Chaos {
    rng: Mutex<Rng>,
    wrong: AtomicU64,
}

impl CompactionStrategy for Chaos {
    fn name(&self) -> &'static str {
        "Chaos"
    }

    fn wants_space(&self, _: u64, _: u64) -> bool {
        self.rng.lock().unwrap().below(2) == 0
    }

    fn choose(&self, offer: &Offer<'_>) -> Choice {
        let mut rng = self.rng.lock().unwrap();
        let runs = offer.sizes.len();
        let mut chosen: Vec<usize> = (0..runs).filter(|_| rng.below(3) == 0).collect();
        let first = rng.below(chosen.len().max(1) as u64);
        chosen.rotate_left(first as usize);
        let what = rng.below(8);
        drop(rng);
        assert!(what != 2, "on purpose");
        match what {
            0 => chosen.push(runs),
            1 if !chosen.is_empty() => chosen.push(chosen[0]),
            3 => return Choice::Nothing,
            4 | 5 => return Choice::Similar(chosen),
            _ => return Choice::Space(chosen),
        }
        self.wrong.fetch_add(1, Ordering::Relaxed);
        Choice::Space(chosen)
    }

    fn pending_compaction_bytes(&self, offer: &Offer<'_>) -> u64 {
        offer.sizes.len() as u64
    }

    fn target_bytes(&self) -> u64 {
        self.rng.lock().unwrap().below(100_000)
    }
}

#[test]
fn a_strategy_that_chooses_at_random_loses_nothing() {
    let dirs = temp_dirs(2);
    let runtime = Runtime::open(&RuntimeSettings::default()).unwrap();
    let strategy = Arc::new(Chaos { rng: Mutex::new(Rng::new(7)), wrong: AtomicU64::new(0) });
    let (settings, own) = (small_settings(&dirs, ""), Arc::clone(&strategy) as _);
    let map = DiskTxMap::open_with_strategy(&runtime, &settings, own).unwrap();
    let (mut model, mut rng) = (HashMap::new(), Rng::new(8));
    for step in 0..20_000u64 {
        let number = rng.below(1000);
        match rng.below(4) {
            0 => {
                let removed = map.delete(&key(number), Wait::Allowed).unwrap();
                assert_eq!(removed, model.remove(&number).is_some());
            }
            _ => {
                let bytes = value(step, 100 + number as usize % 300);
                let replaced = map.set(&key(number), &bytes, 0, Wait::Allowed).unwrap();
                assert_eq!(replaced, model.insert(number, bytes).is_some());
            }
        }
        if step % 100 == 0 {
            match map.compact() {
                Ok(()) => {}
                Err(Error::InvalidArgument(reason)) => assert!(reason.contains("Chaos chose")),
                Err(error) => panic!("{error}"),
            }
        }
    }
    for number in 0..1000 {
        let found = map.get(&key(number), Wait::Allowed, |bytes, _| bytes.to_vec()).unwrap();
        assert!(found.as_ref() == model.get(&number), "record {number}");
    }
    assert_eq!((map.len(), map.stats().damaged_segments), (model.len() as u64, 0));
    assert!(merges(&map) > 10 && strategy.wrong.load(Ordering::Relaxed) > 10);
    map.failure().unwrap();
}
