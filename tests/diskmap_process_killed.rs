//! A process with a process map is killed; the next one finds everything that was acknowledged,
//! and of what was under way all or nothing.
//!
//! In most rounds the kill is aimed at a phase: one of the process's threads stops somewhere in it,
//! while the others go on (`common/victims.rs`). In the others it comes after so many steps.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking and speak to the test that started them"
)]

#[path = "common/records.rs"]
mod records;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/victims.rs"]
mod victims;
#[path = "common/watched.rs"]
mod watched;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Barrier;

use blocktier::diskmap::{Batch, Inserted, ItemState, Wait};
use blocktier::txmap::DiskTxMap;

use records::{key, value};
use rng::Rng;
use victims::{End, Round, Victims};
use watched::{Aim, Phase, WatchedStorage};

const TEST: &str = "what_was_acknowledged_survives_kill_9";
/// Threads that write, each to keys of its own, and all of them to the contested ones.
const THREADS: u64 = 3;
const OWN: u64 = 100;
/// After so many steps each thread waits for the others, and the map is cleared.
const CLEAR_EVERY: u64 = 300;
/// Where contested keys begin; each round has new ones.
const CONTESTED: u64 = 1 << 20;

/// What one step of a thread does.
#[derive(Debug)]
enum Step {
    Set(u64, Vec<u8>),
    Delete(u64),
    /// Keys of its own with values that follow from a number; those that are there stay.
    Batch(Vec<u64>, u64),
    /// A key that others try to insert, too.
    Contest(u64, Vec<u8>),
    Sync,
    Compact,
    Clear,
}

fn step(seed: u64, thread: u64, number: u64) -> Step {
    if number % CLEAR_EVERY == CLEAR_EVERY - 1 {
        return Step::Clear;
    }
    let mut rng = Rng::new((seed << 8 | thread) << 32 | number);
    let own = thread * OWN + rng.below(OWN);
    let length = match rng.below(25) {
        0 => 9000 + rng.below(20_000),
        _ => rng.below(300),
    };
    let bytes = |rng: &mut Rng, length: u64| value(rng.next(), length as usize);
    match rng.below(200) {
        0..60 => Step::Set(own, bytes(&mut rng, length)),
        60..90 => Step::Delete(own),
        90..110 => {
            Step::Batch((0..40).map(|_| thread * OWN + rng.below(OWN)).collect(), rng.next())
        }
        // All threads go through the same keys at about the same time.
        110..190 => {
            let contested = CONTESTED + (seed << 24) + number / 2;
            Step::Contest(contested, bytes(&mut rng, 8 + length))
        }
        190..199 => Step::Compact,
        _ => Step::Sync,
    }
}

/// The value of a batch's item.
fn item(number: u64, salt: u64) -> Vec<u8> {
    value(number ^ salt, 60)
}

fn batch(map: &DiskTxMap, numbers: &[u64], salt: u64) {
    let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
    let arena: Vec<u8> = numbers.iter().flat_map(|number| item(*number, salt)).collect();
    let offsets: Vec<u64> = (0..=numbers.len() as u64).map(|i| i * 60).collect();
    let batch = Batch::new(&keys, &arena, &offsets, None).unwrap();
    let mut states = vec![ItemState::Pending; numbers.len()];
    map.set_if_not_exists_batch(&batch, Wait::Allowed, &mut states).unwrap();
}

/// What the threads of a process share.
struct Work {
    storage: WatchedStorage,
    map: DiskTxMap,
    seed: u64,
    barrier: Barrier,
}

fn work_on(work: &Work, thread: u64) {
    let Work { storage, map, seed, barrier } = work;
    for number in 0.. {
        let mut said = String::new();
        match step(*seed, thread, number) {
            Step::Set(own, value) => drop(map.set(&key(own), &value, 0, Wait::Allowed).unwrap()),
            Step::Delete(own) => drop(map.delete(&key(own), Wait::Allowed).unwrap()),
            Step::Batch(numbers, salt) => batch(map, &numbers, salt),
            Step::Contest(contested, bytes) => {
                let done =
                    map.set_if_not_exists(&key(contested), &bytes, 0, Wait::Allowed, |there, _| {
                        crc32c::crc32c(there)
                    });
                let crc = match done.unwrap() {
                    Inserted::New => crc32c::crc32c(&bytes),
                    Inserted::Present(crc) => crc,
                };
                said = format!(" {contested} {crc}");
            }
            Step::Sync => storage.during(Phase::Sync, || map.sync(Wait::Allowed).unwrap()),
            // One at a time.
            Step::Compact if thread == 0 => storage.during_merges(|| map.compact().unwrap()),
            Step::Compact => {}
            Step::Clear => {
                barrier.wait();
                if thread == 0 {
                    storage.during(Phase::Clear, || map.clear().unwrap());
                    std::io::stdout().write_all(b"cleared\n").unwrap();
                }
                barrier.wait();
            }
        }
        // One write, so that lines of several threads do not mix.
        let line = format!("done {thread} {number}{said}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// Works until it is killed, and says what is done.
fn work(settings: &str, seed: u64) -> ! {
    let (storage, map) = victims::open_watched(settings);
    let work = Work { storage, map, seed, barrier: Barrier::new(THREADS as usize) };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work_on(work, thread));
        }
    });
    unreachable!("the test kills this process")
}

/// What a child said before it died.
#[derive(Debug, Default)]
struct Said {
    /// For each thread, how many steps it had done.
    done: [u64; THREADS as usize],
    /// Of contested keys since the last clear, the checksum of the value that somebody was told.
    told: HashMap<u64, u32>,
    cleared: bool,
    lines: u64,
}

impl Said {
    /// What a line adds; how many steps are done.
    fn hear(&mut self, line: &str) -> u64 {
        if line == "cleared" {
            self.told.clear();
            self.cleared = true;
        }
        let Some(words) = line.strip_prefix("done ") else { return self.lines };
        let words: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        self.done[words[0] as usize] = words[1] + 1;
        if let [_, _, contested, crc] = words[..] {
            let told = self.told.insert(contested, crc as u32);
            assert!(told.is_none_or(|told| told == crc as u32), "two values of {contested}");
        }
        self.lines += 1;
        self.lines
    }

    /// Whether all threads were where the map is cleared.
    fn is_at_clear(&self) -> bool {
        self.done.iter().all(|done| done % CLEAR_EVERY == CLEAR_EVERY - 1)
    }
}

/// Where to stop in a phase: anywhere in it, after some work or much.
fn aim(phase: Phase, rng: &mut Rng) -> Aim {
    let most = match phase {
        Phase::Write => (60, 1),
        Phase::Seal => (12, 1),
        Phase::Rename => (5, 1),
        Phase::Merge => (3, 12),
        Phase::Clear => (2, 12),
        Phase::Sync => (4, 14),
        Phase::Recovery => (1, 40),
    };
    victims::somewhere(phase, most, rng)
}

/// Applies a step of a thread to what its keys are.
fn apply(model: &mut HashMap<u64, Vec<u8>>, thread: u64, step: Step) {
    match step {
        Step::Clear => model.retain(|number, _| number / OWN != thread),
        Step::Set(own, value) => drop(model.insert(own, value)),
        Step::Delete(own) => drop(model.remove(&own)),
        Step::Batch(numbers, salt) => {
            for number in numbers {
                model.entry(number).or_insert_with(|| item(number, salt));
            }
        }
        Step::Contest(..) | Step::Sync | Step::Compact => {}
    }
}

fn check_round(
    map: &DiskTxMap,
    seed: u64,
    said: &Said,
    model: &mut HashMap<u64, Vec<u8>>,
    contested: &mut HashMap<u64, u32>,
) {
    if said.cleared || (said.is_at_clear() && map.is_empty()) {
        contested.clear();
    }
    // A clear that was under way may be done and not yet said so.
    let told = if said.is_at_clear() && map.is_empty() { &HashMap::new() } else { &said.told };
    let get = |number| map.get(&key(number), Wait::Allowed, |value, _| value.to_vec()).unwrap();
    for thread in 0..THREADS {
        let done = said.done[thread as usize];
        (0..done).for_each(|number| apply(model, thread, step(seed, thread, number)));
        // The next one may have been under way, or done and not yet said so.
        let mut later = model.clone();
        apply(&mut later, thread, step(seed, thread, done));
        for number in thread * OWN..(thread + 1) * OWN {
            let now = get(number);
            let is_later = now.as_ref() == later.get(&number);
            assert!(now.as_ref() == model.get(&number) || is_later, "seed {seed}, key {number}");
            match now {
                Some(value) => drop(model.insert(number, value)),
                None => drop(model.remove(&number)),
            }
        }
        if let Step::Contest(key, _) = step(seed, thread, done) {
            // Somebody may have inserted it whom nobody heard.
            let now = get(key).map(|value| crc32c::crc32c(&value));
            assert!(told.get(&key).is_none_or(|told| now == Some(*told)));
            contested.extend(now.map(|crc| (key, crc)));
        }
    }
    contested.extend(told);
    for (number, crc) in contested.iter() {
        let now = get(*number).map(|value| crc32c::crc32c(&value));
        assert_eq!(now, Some(*crc), "seed {seed}, contested key {number}");
    }
    assert_eq!(map.len(), (model.len() + contested.len()) as u64, "seed {seed}");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let Some((settings, seed)) = victims::orders() {
        work(&settings, seed);
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths: Vec<_> = dirs.iter().map(|dir| dir.path().display().to_string()).collect();
    let sizes = "txMapTail = 256K\ntxMapBlock = 16K\ntxMapSegment = 64K\ntxMapFlushAge = 100ms";
    let process = "txMapName = pool\ntxMapDurability = process";
    let mut victims = Victims::new(TEST);
    let (mut model, mut contested) = (HashMap::new(), HashMap::new());
    let (rounds, mut blocks) = (victims::rounds(), 0);
    for number in 0..rounds {
        // In every fourth round the background merges too, unwatched.
        let compaction = if number % 4 == 1 { "on" } else { "off" };
        victims.settings = format!(
            "txMapDirs = {}\n{sizes}\n{process}\ntxMapCompaction = {compaction}\n\
             txMapCompactionMinWidth = 2\ntxMapCompactionSpace = 30",
            paths.join("|")
        );
        let mut rng = Rng::new(number);
        let round = Round::new(number, &mut rng, aim);
        let mut said = Said::default();
        victims.kill(number, round.end, |line| said.hear(line));
        for _ in 0..round.recoveries {
            victims.kill(number, End::At(aim(Phase::Recovery, &mut rng)), |_| 0);
        }
        let map = victims::open(&victims.settings);
        let recovery = map.recovery().unwrap();
        println!("round {number}: {:?}, {recovery:?}", said.done);
        assert!(!recovery.ring_lost);
        assert_eq!(recovery.torn_bytes + recovery.segments_ignored, 0);
        blocks += recovery.ring_blocks;
        check_round(&map, number, &said, &mut model, &mut contested);
    }
    assert!(blocks >= rounds / 2, "only {blocks} blocks came from rings");
    victims.report(rounds);
}
